//! The PCI function.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use e3k_regs::Reg;
use e3k_regs::fields::RingWord;
use rustix::process::Signal;
use serde_json::json;

use crate::support::gpu;
use crate::support::qtest::Machine;
use crate::support::server::Server;

/// Where MSIs are sent: a word of RAM, which QEMU's bus takes like any other.
const MSI_AT: u64 = 0x5_0000;
const FENCE_AT: u64 = 0x10_0000;

/// Bits of the command register: memory, bus master.
const ENABLED: u64 = 6;
const INTX_DISABLED: u64 = 1 << 10;

fn attach(args: &[&str]) -> (Server, Machine) {
    let server = Server::start_pci(args);
    let machine = Machine::start(&server, |options| options);
    (server, machine)
}

fn read(machine: &mut Machine, offset: u32) -> u64 {
    machine.load(machine.bars[0] + u64::from(offset), 4)
}

fn write(machine: &mut Machine, offset: u32, value: u32) {
    machine.store(machine.bars[0] + u64::from(offset), 4, value.into());
}

fn enable_msi(machine: &mut Machine) {
    machine.set_config(1, 0, 0x4C, MSI_AT);
    machine.set_config(1, 0, 0x54, 0x4321);
    machine.set_config(1, 0, 0x48, 1 << 16);
    machine.store(MSI_AT, 4, 0);
}

/// Tables in VRAM and ring 0, with fence interrupts.
fn start_gpu(machine: &mut Machine) {
    for (at, bytes) in gpu::tables() {
        machine.write(machine.bars[1] + at, &bytes);
    }
    for (offset, value) in gpu::set_up() {
        write(machine, offset, value);
    }
}

type Reset = fn(&mut Machine);

/// A fence to RAM with an interrupt.
fn submit_fence(machine: &mut Machine, value: u64) {
    let tail = read(machine, RingWord::Tail.offset(0));
    let raw = gpu::packets(|writer| gpu::fence(writer, FENCE_AT, value, true));
    machine.write(machine.bars[1] + gpu::RING_AT + tail, &raw);
    let end = tail + raw.len() as u64;
    write(
        machine,
        RingWord::Tail.offset(0),
        u32::try_from(end).unwrap(),
    );
}

/// The fence is in RAM, and its MSI behind it.
fn await_fence(machine: &mut Machine, value: u64) {
    machine.until("the MSI", |machine| {
        (machine.load(MSI_AT, 4) == 0x4321).then_some(())
    });
    assert_eq!(machine.load(FENCE_AT, 8), value);
    machine.store(MSI_AT, 4, 0);
    write(machine, Reg::BiuShadow.offset(), 0);
}

/// Everything a driver needs works.
fn assert_alive(machine: &mut Machine, value: u64) {
    enable_msi(machine);
    start_gpu(machine);
    for value in [value, value + 1] {
        submit_fence(machine, value);
        await_fence(machine, value);
    }
}

fn door_count(server: &Server, name: &str) -> u64 {
    let counters = server.query(&["counters"]);
    counters["door"][name].as_u64().expect(name)
}

#[test]
#[ignore = "needs PRESIL_QEMU"]
fn the_chips_function_is_there_with_its_bars_and_capabilities() {
    let (mut server, mut machine) = attach(&["--chip", "2030", "--visible", "256M"]);
    assert_eq!(machine.config(1, 0, 0), 0x3D07_6766);
    assert_eq!(machine.config(1, 0, 8), 0x0380_0000);
    assert_eq!(machine.config(1, 0, 0x2C), 0x3D07_6766);
    assert_eq!(machine.config(1, 0, 0x30), 0, "no ROM");
    let mut at = machine.config(1, 0, 0x34);
    let mut found = vec![];
    while at != 0 {
        let header = machine.config(1, 0, at);
        found.push((at, header & 0xFF));
        at = header >> 8 & 0xFF;
    }
    assert_eq!(found, [(0x40, 1), (0x48, 5), (0x60, 0x10)]);
    assert_eq!(machine.config(1, 0, 0x70) >> 16, 0x103, "x16 at 8 GT/s");
    for (bar, mask) in [(0, 0xFFF0_0000), (4, 0xF000_000C), (8, 0xFFFF_FFFF)] {
        let old = machine.config(1, 0, 0x10 + bar);
        machine.set_config(1, 0, 0x10 + bar, 0xFFFF_FFFF);
        assert_eq!(machine.config(1, 0, 0x10 + bar), mask);
        machine.set_config(1, 0, 0x10 + bar, old);
    }
    assert_eq!(read(&mut machine, Reg::MemReady.offset()), 0xDEAD_BEAF);
    drop(machine);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
#[ignore = "needs PRESIL_QEMU"]
fn registers_are_of_every_width_and_the_window_needs_no_message() {
    let (server, mut machine) = attach(&[]);
    let plain = machine.bars[0] + 0x7_0000;
    machine.store(plain, 8, 0x1122_3344_5566_7788);
    assert_eq!(machine.load(plain, 8), 0x1122_3344_5566_7788);
    assert_eq!(machine.load(plain + 4, 4), 0x1122_3344);
    assert_eq!(machine.load(plain + 2, 2), 0x5566);
    assert_eq!(machine.load(plain + 7, 1), 0x11);
    let end = (512 << 20) - 8;
    machine.store(machine.bars[1] + end, 8, 0xABCD);
    assert_eq!(server.query(&["vram", "0x1ffffff8", "2"])["hex"], "cdab");
    assert_eq!(door_count(&server, "window_accesses"), 0);
}

#[test]
#[ignore = "needs PRESIL_QEMU"]
fn fences_reach_ram_and_interrupt_by_msi() {
    let (server, mut machine) = attach(&[]);
    assert_alive(&mut machine, 1);
    assert_eq!(door_count(&server, "msi"), 2);
    assert_eq!(door_count(&server, "refused"), 0);
}

#[test]
#[ignore = "needs PRESIL_QEMU"]
fn every_reset_keeps_vram_and_the_gpu_comes_up_again() {
    let (server, mut machine) = attach(&[]);
    let bridge_reset: Reset = |machine| {
        let port = machine.port();
        let control = machine.config(0, port, 0x3C);
        machine.set_config(0, port, 0x3C, control | 1 << 22);
        machine.set_config(0, port, 0x3C, control);
    };
    let resets: [(&str, Reset); 4] = [
        ("FLR", |machine| {
            let control = machine.config(1, 0, 0x68);
            machine.set_config(1, 0, 0x68, control | 1 << 15);
        }),
        ("D3 to D0", |machine| {
            machine.set_config(1, 0, 0x44, 3);
            machine.set_config(1, 0, 0x44, 0);
        }),
        ("bus reset", bridge_reset),
        ("reboot", Machine::system_reset),
    ];
    for ((name, reset), number) in resets.into_iter().zip(1..) {
        assert_alive(&mut machine, 100 * number);
        machine.store(machine.bars[1] + 0x20_0000, 8, number);
        reset(&mut machine);
        machine.enumerate();
        assert_eq!(read(&mut machine, Reg::MmuMode.offset()), 0, "{name}");
        assert_eq!(read(&mut machine, RingWord::Size.offset(0)), 0, "{name}");
        let kept = machine.load(machine.bars[1] + 0x20_0000, 8);
        assert_eq!(kept, number, "{name}: VRAM is kept");
    }
    assert_alive(&mut machine, 1000);
    assert_eq!(door_count(&server, "function_resets"), 1);
    assert_eq!(door_count(&server, "power_ups"), 1);
    assert!(door_count(&server, "device_resets") >= 2);
}

#[test]
#[ignore = "needs PRESIL_QEMU"]
fn bars_may_move_and_memory_be_split_again() {
    let (_server, mut machine) = attach(&[]);
    assert_alive(&mut machine, 1);
    machine.store(machine.bars[1] + 0x20_0000, 8, 0x77);
    for place in [0x11_0000_0000, 0x12_0000_0000, machine.bars[1]] {
        machine.set_config(1, 0, 4, 0);
        assert_ne!(
            machine.load(machine.bars[1] + 0x20_0000, 8),
            0x77,
            "no memory enable"
        );
        machine.set_config(1, 0, 0x14, place & 0xFFFF_FFFF);
        machine.set_config(1, 0, 0x18, place >> 32);
        machine.set_config(1, 0, 4, ENABLED);
        machine.bars[1] = place;
        assert_eq!(machine.load(place + 0x20_0000, 8), 0x77);
        // RAM in other pieces: the firmware's shadow of the first megabyte.
        let shadow = machine.config(0, 0, 0x90);
        machine.set_config(0, 0, 0x90, shadow ^ 0x3030_3030);
        submit_fence(&mut machine, place);
        await_fence(&mut machine, place);
    }
}

#[test]
#[ignore = "needs PRESIL_QEMU"]
fn with_intx_the_window_is_served_by_messages() {
    let (server, mut machine) = attach(&[]);
    start_gpu(&mut machine);
    submit_fence(&mut machine, 5);
    machine.until("the INTx", |_| {
        (door_count(&server, "intx") > 0).then_some(())
    });
    assert_eq!(machine.load(FENCE_AT, 8), 5);
    let before = door_count(&server, "window_accesses");
    machine.store(machine.bars[1] + 0x20_0000, 8, 0x1234_5678);
    assert_eq!(machine.load(machine.bars[1] + 0x20_0000, 8), 0x1234_5678);
    assert!(door_count(&server, "window_accesses") > before);
    // The line stays up until the source is taken, and then stays down.
    assert!(door_count(&server, "intx") > 1, "each access ends one");
    write(&mut machine, Reg::BiuShadow.offset(), 0);
    let settled = door_count(&server, "intx");
    read(&mut machine, Reg::MemReady.offset());
    assert_eq!(door_count(&server, "intx"), settled);
    // MSI gives the window back.
    machine.set_config(1, 0, 4, ENABLED | INTX_DISABLED);
    enable_msi(&mut machine);
    submit_fence(&mut machine, 50);
    await_fence(&mut machine, 50);
    let before = door_count(&server, "window_accesses");
    machine.store(machine.bars[1] + 0x20_0000, 8, 9);
    assert_eq!(door_count(&server, "window_accesses"), before);
}

#[test]
#[ignore = "needs PRESIL_QEMU"]
fn guest_ram_that_is_not_shared_is_told() {
    let mut server = Server::start_pci(&[]);
    let mut machine = Machine::start(&server, |options| options.replace("share=on", "share=off"));
    start_gpu(&mut machine);
    submit_fence(&mut machine, 1);
    server.await_log("its RAM is not shared");
    assert_eq!(read(&mut machine, Reg::MemReady.offset()), 0xDEAD_BEAF);
    drop(machine);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
#[ignore = "needs PRESIL_QEMU"]
fn a_kept_server_gives_the_next_qemu_a_new_gpu() {
    let (mut server, mut machine) = attach(&["--keep"]);
    assert_alive(&mut machine, 1);
    machine.store(machine.bars[1], 8, 0x77);
    drop(machine);
    server.await_log("waiting for QEMU");
    std::fs::remove_file(server.dir.path().join("qtest")).unwrap();
    std::fs::remove_file(server.dir.path().join("qmp")).unwrap();
    let mut machine = Machine::start(&server, |options| options);
    assert_eq!(machine.load(machine.bars[1], 8), 0);
    assert_alive(&mut machine, 1);
}

/// QEMU tells this door nothing of a pause; the server's process can be held.
#[test]
#[ignore = "needs PRESIL_QEMU"]
fn a_paused_machine_does_not_pause_the_gpu() {
    let (server, mut machine) = attach(&[]);
    assert_alive(&mut machine, 1);
    machine.monitor("stop");
    submit_fence(&mut machine, 3);
    await_fence(&mut machine, 3);
    server.signal(Signal::STOP);
    assert_eq!(machine.monitor("query-status")["running"], false);
    server.signal(Signal::CONT);
    machine.monitor("cont");
    submit_fence(&mut machine, 4);
    await_fence(&mut machine, 4);
}

/// QEMU saves nothing of the function and resets it before it loads: no BAR, no
/// bus master, and no ring of the time before the state was saved.
fn assert_gone(machine: &mut Machine, server: &Server) {
    assert_eq!(machine.config(1, 0, 4) & 0xFFFF, 0, "the command register");
    assert_eq!(machine.config(1, 0, 0x10), 0, "BAR0");
    assert_ne!(read(machine, Reg::MemReady.offset()), 0xDEAD_BEAF);
    for register in [Reg::MmuMode.offset(), RingWord::Size.offset(0)] {
        let register = format!("{register:#x}");
        assert_eq!(server.query(&["reg", &register])["value"], 0);
    }
}

#[test]
#[ignore = "needs PRESIL_QEMU"]
fn a_migrated_guest_finds_a_function_that_was_reset() {
    let (mut server, mut source) = attach(&["--keep"]);
    let bars = source.bars;
    assert_alive(&mut source, 1);
    source.monitor_with("migrate", &json!({ "uri": "file:state" }));
    source.until("the end of the migration", |machine| {
        (machine.monitor("query-migrate")["status"] == "completed").then_some(())
    });
    drop(source);
    server.await_log("waiting for QEMU");
    for socket in ["qtest", "qmp"] {
        std::fs::remove_file(server.dir.path().join(socket)).unwrap();
    }
    let mut target = Machine::power_on(&server, |options| {
        format!("{} -incoming file:state", options.trim_end())
    });
    target.until("the guest", |machine| {
        (machine.monitor("query-status")["running"] == true).then_some(())
    });
    target.bars = bars;
    assert_eq!(target.load(FENCE_AT, 8), 2, "its memory came along");
    assert_gone(&mut target, &server);
    target.enumerate();
    assert_alive(&mut target, 10);
}

#[test]
#[ignore = "needs PRESIL_QEMU"]
fn after_a_snapshot_was_loaded_the_function_was_reset() {
    let (server, mut machine) = attach(&[]);
    let file = json!({ "driver": "file", "node-name": "file", "filename": "disk" });
    std::fs::write(server.dir.path().join("disk"), []).unwrap();
    machine.monitor_with("blockdev-add", &file);
    let disk = json!({ "driver": "qcow2", "file": "file", "size": 1 << 20 });
    machine.job("blockdev-create", json!({ "options": disk }));
    let disk = json!({ "driver": "qcow2", "node-name": "disk", "file": "file" });
    machine.monitor_with("blockdev-add", &disk);
    let snapshot = json!({ "tag": "then", "vmstate": "disk", "devices": ["disk"] });
    assert_alive(&mut machine, 1);
    machine.job("snapshot-save", snapshot.clone());
    submit_fence(&mut machine, 3);
    await_fence(&mut machine, 3);
    machine.job("snapshot-load", snapshot);
    assert_eq!(machine.load(FENCE_AT, 8), 2, "its memory is as it was");
    assert_gone(&mut machine, &server);
    machine.enumerate();
    assert_alive(&mut machine, 10);
}
