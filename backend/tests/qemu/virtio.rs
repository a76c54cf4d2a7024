//! The virtio device.

use crate::support::gpu::operation;
use crate::support::qtest::Machine;
use crate::support::qtest_virtio::EVENT;
use crate::support::server::Server;
use e3k_regs::GpuVa;
use e3k_regs::Reg;
use e3k_regs::fields::{AdvancedInterrupts, RingAddress, RingWord};
use e3k_regs::packet::Writer;

const FENCE_AT: u64 = 0x10_0000;

fn attach(args: &[&str]) -> (Server, Machine) {
    let server = Server::start(args);
    let mut machine = Machine::start(&server, |options| options);
    let ids = machine.config(1, 0, 0);
    assert_eq!(ids, 0x1066_1AF4, "the virtio device of id 38");
    (server, machine)
}

fn read(machine: &mut Machine, offset: u32) -> u64 {
    let (value, status) = machine.access(operation(1, 4, offset, 0));
    assert_eq!(status, 0, "status of reading {offset:#x}");
    value
}

fn write(machine: &mut Machine, width: u8, offset: u32, value: u32) {
    assert_eq!(
        machine.access(operation(2, width, offset, value.into())),
        (0, 0)
    );
}

/// Puts a fence with interrupt at byte `at` of ring 0, in VRAM, and rings the
/// doorbell. Translation is off.
fn fence(machine: &mut Machine, at: u32, value: u64) {
    let mut dwords = [0; 5];
    Writer::new(&mut dwords).fence(GpuVa(FENCE_AT), value, true);
    let raw: Vec<u8> = dwords
        .iter()
        .flat_map(|dword| dword.to_le_bytes())
        .collect();
    machine.write(machine.window() + u64::from(at), &raw);
    write(machine, 4, RingWord::Tail.offset(0), at + 20);
}

fn start_ring(machine: &mut Machine) {
    let fence = AdvancedInterrupts::new().with_fence(true).into_bits();
    write(machine, 4, Reg::AdvancedEnable.offset(), fence);
    write(machine, 1, Reg::AdapterControl.offset(), 1);
    write(machine, 4, RingWord::Size.offset(0), 0x4_0000);
    let kickoff = RingAddress::new().with_kickoff(true).into_bits();
    write(machine, 4, RingWord::Address.offset(0), kickoff);
}

#[test]
#[ignore = "needs PRESIL_QEMU"]
fn registers_and_the_window_work_through_every_reset() {
    let (mut server, mut machine) = attach(&[]);
    for epoch in 1..=20 {
        assert_eq!(machine.bring_up(), epoch);
        assert_eq!(read(&mut machine, Reg::MemReady.offset()), 0xDEAD_BEAF);
        assert_eq!(
            read(&mut machine, RingWord::Size.offset(0)),
            0,
            "reset registers"
        );
        let at = machine.window() + 0x1000;
        assert_eq!(machine.load(at, 8), epoch - 1, "VRAM survives");
        machine.store(at, 8, epoch);
        assert_eq!(
            server.query(&["vram", "0x1000", "1"])["hex"],
            format!("{epoch:02x}")
        );
        start_ring(&mut machine);
        machine.reset();
        assert_eq!(machine.ready(), 0);
    }
    drop(machine);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
#[ignore = "needs PRESIL_QEMU"]
fn an_access_by_the_doorbell_is_done_when_its_write_is_and_resets_and_pauses_do_not_matter() {
    let (_server, mut machine) = attach(&[]);
    let at = RingWord::Size.offset(0);
    for epoch in 1..=3 {
        assert_eq!(machine.bring_up(), epoch);
        machine.set_mailbox();
        assert_eq!(machine.ring(1, operation(1, 4, at, 0)), (0, 0));
        for sequence in (2..200).step_by(2) {
            let value = sequence << 4;
            let write = operation(2, 4, at, value);
            assert_eq!(machine.ring(sequence, write), (0, 0));
            let read = operation(1, 4, at, 0);
            assert_eq!(machine.ring(sequence + 1, read), (value, 0));
        }
        machine.monitor("stop");
        machine.monitor("cont");
        let read = operation(1, 4, Reg::MemReady.offset(), 0);
        assert_eq!(machine.ring(200, read), (0xDEAD_BEAF, 0));
        machine.reset();
    }
}

#[test]
#[ignore = "needs PRESIL_QEMU"]
fn a_system_reset_keeps_vram_and_nothing_else() {
    let (_server, mut machine) = attach(&[]);
    machine.bring_up();
    start_ring(&mut machine);
    machine.store(machine.window(), 8, 0x1234);
    machine.system_reset();
    assert_eq!(machine.bring_up(), 2);
    assert_eq!(machine.load(machine.window(), 8), 0x1234);
    assert_eq!(read(&mut machine, RingWord::Size.offset(0)), 0);
}

#[test]
#[ignore = "needs PRESIL_QEMU"]
fn events_interrupt_the_guest_also_across_pauses() {
    let (_server, mut machine) = attach(&[]);
    machine.bring_up();
    start_ring(&mut machine);
    for number in 1..=10 {
        machine.offer(1, &[(EVENT, 16, true)]);
        let tail = read(&mut machine, RingWord::Tail.offset(0));
        machine.interrupt_status();
        fence(&mut machine, u32::try_from(tail).unwrap(), number);
        machine.await_used(1);
        assert_eq!(machine.load(EVENT + 8, 8), number);
        assert_eq!(machine.load(machine.window() + FENCE_AT, 8), number);
        machine.monitor("stop");
        machine.monitor("cont");
        assert_eq!(machine.await_ready(), 1, "a pause is not a reset");
    }
}

#[test]
#[ignore = "needs PRESIL_QEMU"]
fn guest_ram_that_is_not_shared_is_refused() {
    let mut server = Server::start(&[]);
    let mut machine = Machine::start(&server, |options| options.replace("share=on", "share=off"));
    machine.start_driver();
    server.await_log("guest RAM is not shared with this process");
    assert_eq!(machine.ready(), 0);
    drop(machine);
    assert_eq!(server.wait().code(), Some(1));
}

#[test]
#[ignore = "needs PRESIL_QEMU"]
fn whatever_a_reset_during_the_map_does_to_qemu_the_server_ends_well() {
    let (mut server, mut machine) = attach(&[]);
    for _ in 0..100 {
        // QEMU 11.1 crashes of this now and then, and the guest with it.
        if !machine.start_driver() || !machine.try_reset() {
            break;
        }
    }
    drop(machine);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
#[ignore = "needs PRESIL_QEMU"]
fn a_guest_that_ends_its_own_vm_does_not_end_a_kept_server() {
    // Queues outside RAM: the door hangs up, QEMU aborts.
    let (mut server, mut machine) = attach(&["--keep"]);
    machine.start_driver_at(0x8000_0000);
    server.await_log("waiting for QEMU");
    drop(machine);
    std::fs::remove_file(server.dir.path().join("qtest")).unwrap();
    std::fs::remove_file(server.dir.path().join("qmp")).unwrap();
    let mut machine = Machine::start(&server, |options| options);
    assert_eq!(machine.bring_up(), 1);
}
