//! Two processes, one address, two contents: address spaces of the memory manager, in
//! page tables that the model walks, in one process of the host's.
//!
//! Run it with `cargo run -p presil-tests --example processes`.

use presil_device::{Chip, Config};
use presil_tests::manager::Managed;
use std::error::Error;
use std::fmt::Write;
use vidmm::placement::{Flags, Place};
use vidmm::{Blit, Options, SegmentId};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// Pages of a buffer: 4 MiB.
const PAGES: u64 = 1024;

fn main() -> Result<(), Box<dyn Error>> {
    print!("{}", story()?);
    Ok(())
}

fn story() -> Result<String, Box<dyn Error>> {
    let mut told = String::new();
    let config = Config::new(Chip::Arise10c0, 256 * MIB, 64 * MIB, true)?;
    let options = Options {
        snoop_bytes: 64 * MIB,
        unsnoop_bytes: 64 * MIB,
        ..Options::default()
    };
    let gpu = Managed::new(&config, options)?;
    let world = gpu.mm.world();
    writeln!(told, "before:\n{}", gpu.picture())?;

    let mut processes = Vec::new();
    for name in ["first", "second"] {
        let process = world.start_process(&gpu.mm)?;
        let place = Place::anywhere(SegmentId::LocalVisible, Flags::NONE);
        let buffer = gpu.create(PAGES, &[place])?;
        let at = world.private_zone();
        world.map(
            &gpu.mm,
            process,
            at,
            PAGES * PAGE,
            (buffer, 0),
            &Managed::ctx(),
        )?;
        writeln!(told, "{name}: {PAGES} pages at {at}")?;
        processes.push((process, at, buffer));
    }
    for (number, (process, at, _)) in (1..).zip(&processes) {
        let fill = Blit::Fill {
            at: *at,
            bytes: PAGES * PAGE,
            pattern: number,
        };
        gpu.job(*process, &[fill])?;
    }
    for (number, (_, at, buffer)) in (1..).zip(&processes) {
        let words = gpu.words(*buffer)?;
        assert!(words.iter().all(|word| *word == number));
        writeln!(
            told,
            "process {number} wrote {number} to {at}, and finds it there"
        )?;
    }

    // What is not mapped is out of reach: the job ends in an error, and nothing else does.
    let (process, at, _) = processes[0];
    let astray = Blit::Fill {
        at: at.add(64 * MIB),
        bytes: PAGE,
        pattern: 3,
    };
    let fence = gpu.job(process, &[astray])?;
    writeln!(told, "a job that goes astray: {:?}", gpu.wait(&fence))?;
    writeln!(told, "\nafter:\n{}", gpu.picture())?;
    Ok(told)
}

#[test]
fn docs_vidmm_shows_what_it_prints() {
    presil_tests::check_page("processes", &story().expect("two contents"));
}
