//! Brings the GPU up in one process and shows its memory before and after two
//! clients use it: no virtual machine, no root.
//!
//! Run it with `cargo run -p presil-tests --example bring_up`.

use presil_device::{Chip, Config};
use presil_tests::Machine;
use std::error::Error;
use std::fmt::Write;
use vidmm::{Adapter, CreateFlags, CreateRequest, InitReport, Options};

const MIB: u64 = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    print!("{}", story()?);
    Ok(())
}

fn story() -> Result<String, Box<dyn Error>> {
    let mut told = String::new();
    // 256 MiB of VRAM, the first half of it in the CPU's window.
    let config = Config::new(Chip::Arise10c0, 256 * MIB, 128 * MIB, true)?;
    let machine = Machine::new(&config)?;
    let mut report = InitReport::default();
    // The machine has 32 MiB of RAM; its page tables are in VRAM.
    let options = Options {
        snoop_bytes: 64 * MIB,
        unsnoop_bytes: 64 * MIB,
        ..Options::default()
    };
    let mut adapter = Adapter::init(machine.clone(), options, &mut report)?;
    machine.connect(&adapter.timeline());

    for zone in report.zones.iter().flatten() {
        writeln!(
            told,
            "{:<12} {:#014x} to {:#014x}",
            zone.name,
            zone.start.0,
            zone.start.0 + zone.bytes
        )?;
    }
    let before = picture(&adapter);
    writeln!(told, "\nafter vidmm_init:\n{before}")?;

    let clients = [adapter.open_client()?, adapter.open_client()?];
    let mut buffers = Vec::new();
    for (client, mebibytes) in [(0, 12), (1, 36), (0, 20)] {
        let request = CreateRequest {
            bytes: mebibytes * MIB,
            flags: CreateFlags::GPU_MOSTLY.0,
            windows: &[],
        };
        buffers.push(adapter.create_for(&clients[client], &request)?);
    }
    writeln!(
        told,
        "with three buffers of two clients:\n{}",
        picture(&adapter)
    )?;

    for buffer in buffers {
        adapter.destroy(buffer)?;
    }
    // Their clearing is queued; the rest goes on the ring as what is there is done.
    while adapter.has_queued() {
        machine.run();
        adapter.advance();
    }
    machine.run();
    adapter.advance();
    assert_eq!(picture(&adapter), before, "everything is back");
    writeln!(told, "and without them:\n{before}")?;
    Ok(told)
}

fn picture(adapter: &Adapter<Machine>) -> String {
    let mut picture = String::new();
    // Writing to a string cannot fail.
    let _ = adapter.write_picture(&mut picture);
    picture
}

#[test]
fn docs_vidmm_shows_what_it_prints() {
    presil_tests::check_page("bring_up", &story().expect("the bring-up"));
}
