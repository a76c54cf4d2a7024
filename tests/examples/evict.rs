//! Fills local memory, evicts from it, and reads everything back: the memory manager on
//! the model, in one process.
//!
//! Run it with `cargo run -p presil-tests --example evict`.

use presil_device::{Chip, Config};
use presil_tests::manager::Managed;
use std::error::Error;
use std::fmt::Write;
use vidmm::placement::{Flags, Place};
use vidmm::{Blit, Options, SegmentId};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// Pages of a buffer: 8 MiB.
const PAGES: u64 = 2048;

fn main() -> Result<(), Box<dyn Error>> {
    print!("{}", story()?);
    Ok(())
}

fn story() -> Result<String, Box<dyn Error>> {
    let mut told = String::new();
    // 256 MiB of VRAM, the first 64 MiB of it in the CPU's window.
    let config = Config::new(Chip::Arise10c0, 256 * MIB, 64 * MIB, true)?;
    let options = Options {
        snoop_bytes: 64 * MIB,
        unsnoop_bytes: 64 * MIB,
        ..Options::default()
    };
    let gpu = Managed::new(&config, options)?;
    let world = gpu.mm.world();
    writeln!(told, "after vidmm_init:\n{}", gpu.picture())?;

    // A process fills both segments, each buffer with a number of its own.
    let process = world.start_process(&gpu.mm)?;
    let places = [SegmentId::LocalVisible, SegmentId::LocalInvisible]
        .map(|segment| Place::anywhere(segment, Flags::NONE));
    let mut buffers = Vec::new();
    while buffers.len() < 29 {
        let buffer = gpu.create(PAGES, &places)?;
        let number = u32::try_from(buffers.len())?;
        let at = world.private_zone().add(u64::from(number) * PAGES * PAGE);
        world.map(
            &gpu.mm,
            process,
            at,
            PAGES * PAGE,
            (buffer, 0),
            &Managed::ctx(),
        )?;
        let fill = Blit::Fill {
            at,
            bytes: PAGES * PAGE,
            pattern: number,
        };
        gpu.job(process, &[fill])?;
        buffers.push(buffer);
    }
    gpu.run();
    writeln!(told, "29 buffers of 8 MiB:\n{}", gpu.picture())?;

    // Two more, in the CPU's window: the two that were used least recently leave, one for
    // what is left of invisible memory, the other for RAM.
    let before = gpu.bytes_copied();
    for _ in 0..2 {
        gpu.create(PAGES, &places[..1])?;
    }
    gpu.run();
    let moved = (gpu.bytes_copied() - before) / MIB;
    writeln!(
        told,
        "two more; the GPU has copied {moved} MiB:\n{}",
        gpu.picture()
    )?;

    for (number, buffer) in (0..).zip(buffers) {
        let words = gpu.words(buffer)?;
        assert!(words.iter().all(|word| *word == number), "buffer {number}");
    }
    writeln!(told, "and every page holds what was written to it.")?;
    Ok(told)
}

#[test]
fn docs_vidmm_shows_what_it_prints() {
    presil_tests::check_page("evict", &story().expect("filled, evicted, read back"));
}
