//! GPUs that come and go while QEMU runs, and a QEMU that finds its GPU taken.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use serde_json::{Value, json};

use crate::support::qtest::{Machine, qemu_that_ends};
use crate::support::server::{Server, presil};

/// Of the VRAM window.
const WINDOW: u64 = 512 << 20;

fn printed(server: &Server, hotplug: bool) -> String {
    let printed = presil()
        .args(["serve", server.door])
        .arg(server.socket())
        .args(["--print-qemu-args", "--guest-ram", "64M"])
        .args(hotplug.then_some("--hotplug"))
        .output()
        .unwrap();
    String::from_utf8(printed.stdout).unwrap().trim().to_owned()
}

/// `device_add` of the function that the printed options have.
fn add_function(machine: &mut Machine, server: &Server) {
    let options = printed(server, false);
    let (_, device) = options.rsplit_once(' ').unwrap();
    let mut device: Value = serde_json::from_str(device.trim_matches('\'')).unwrap();
    device["id"] = json!("gpu");
    machine.monitor_with("device_add", &device);
}

/// What is behind the root port: the bridge as `query-pci` tells of it.
fn bridge(machine: &mut Machine) -> Option<Value> {
    let buses = machine.monitor("query-pci");
    let devices = buses[0]["devices"].as_array()?;
    let bridge = devices.iter().find_map(|it| it.get("pci_bridge"))?;
    Some(bridge.clone())
}

fn function_is_there(machine: &mut Machine) -> bool {
    let bridge = bridge(machine).unwrap();
    bridge["devices"][0]["id"]["vendor"] == 0x6766
}

#[test]
#[ignore = "needs PRESIL_QEMU"]
fn firmware_gives_a_port_for_hotplug_room_for_the_window_of_a_gpu_that_comes_later() {
    let server = Server::start_pci(&[]);
    let ports = printed(&server, true);
    // Firmware runs on a processor: the first of two accelerators is taken.
    let mut machine = Machine::power_on(&server, |_| format!("{ports} -accel tcg"));
    let (base, limit) = machine.until("firmware's windows", |machine| {
        let range = bridge(machine)?["bus"]["prefetchable_range"].clone();
        let (base, limit) = (range["base"].as_u64()?, range["limit"].as_u64()?);
        (base != 0 && base < limit && limit - base >= WINDOW).then_some((base, limit))
    });
    let place = base.next_multiple_of(WINDOW);
    assert!(place + WINDOW - 1 <= limit, "{base:#x} to {limit:#x}");
    add_function(&mut machine, &server);
    assert!(function_is_there(&mut machine));
}

#[test]
#[ignore = "needs PRESIL_QEMU"]
fn qemu_survives_device_del_and_takes_the_function_again() {
    let mut server = Server::start_pci(&["--keep"]);
    let mut machine = Machine::power_on(&server, |_| printed(&server, true));
    for _ in 0..3 {
        add_function(&mut machine, &server);
        machine.enumerate();
        let ready = machine.bars[0] + u64::from(e3k_regs::Reg::MemReady.offset());
        assert_eq!(machine.load(ready, 4), 0xDEAD_BEAF);
        machine.monitor_with("device_del", &json!({ "id": "gpu" }));
        machine.eject();
        server.await_log("waiting for QEMU");
        assert!(!function_is_there(&mut machine));
    }
}

#[test]
#[ignore = "needs PRESIL_QEMU"]
fn a_second_qemu_gives_the_function_up_and_the_first_keeps_it() {
    let server = Server::start_pci(&[]);
    let mut first = Machine::start(&server, |options| options);
    let second = server.dir.path().join("second");
    std::fs::create_dir(&second).unwrap();
    let options = printed(&server, false);
    let said = qemu_that_ends(&options, &second);
    assert!(said.contains("timed out waiting for reply"), "{said}");
    let ready = first.bars[0] + u64::from(e3k_regs::Reg::MemReady.offset());
    assert_eq!(first.load(ready, 4), 0xDEAD_BEAF);
}

#[test]
#[ignore = "needs PRESIL_QEMU"]
fn qemu_takes_the_virtio_device_again_on_the_same_chardev() {
    let server = Server::start(&[]);
    let options = printed(&server, false);
    let (rest, device) = options.rsplit_once(" -device ").unwrap();
    let mut machine = Machine::power_on(&server, |_| rest.to_owned());
    let mut properties = device.split(',');
    let mut arguments = json!({ "driver": properties.next().unwrap(), "id": "gpu" });
    for property in properties {
        let (name, value) = property.split_once('=').unwrap();
        let number = value.parse::<u64>().map(Value::from);
        arguments[name] = number.unwrap_or_else(|_| value.into());
    }
    for epoch in 1..=3 {
        machine.monitor_with("device_add", &arguments);
        machine.enumerate();
        assert_eq!(machine.bring_up(), epoch);
        let at = machine.window() + 0x1000;
        assert_eq!(machine.load(at, 8), epoch - 1, "VRAM stays");
        machine.store(at, 8, epoch);
        // With a window that is mapped QEMU would not survive what follows.
        machine.reset();
        machine.monitor_with("device_del", &json!({ "id": "gpu" }));
        machine.eject();
        machine.until("the end of who had the chardev", |machine| {
            let chardevs = machine.monitor("query-chardev");
            let ours = chardevs
                .as_array()?
                .iter()
                .find(|it| it["label"] == "presil-gpu")?;
            (ours["frontend-open"] == false).then_some(())
        });
    }
    let counters = server.query(&["counters"]);
    assert_eq!(counters["door"]["maps"], 3);
}
