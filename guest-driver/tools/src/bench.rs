//! `presilctl bench`: what the way to the GPU costs.

use crate::checks::{Context, SNOOPED, UNSNOOPED, VISIBLE};
use crate::debugfs;
use crate::device::Device;
use crate::error::Result;
use crate::messages::say;
use serde_json::{Value, json};
use std::hint::black_box;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// More than a CPU's own caches hold.
const BYTES: u64 = 32 * MIB;
const WORDS: usize = (BYTES / 8) as usize;
const PASSES: usize = 9;

/// Measures, prints the figures and says them to the host.
pub(crate) fn run(device: Device) -> Result<()> {
    let mut figures = debugfs::file(&device, "bench")?;
    for (name, figure) in figures.as_object().into_iter().flatten() {
        println!("{name:<18} {figure}");
    }
    let mut rows = Vec::new();
    let context = Context::new(device, None)?;
    for kind in [VISIBLE, SNOOPED, UNSNOOPED] {
        let buffer = kind.create(&context, BYTES)?;
        rows.push(bandwidth(kind.name, buffer.map()?.words()));
    }
    rows.push(bandwidth("a process's memory", &mut vec![0; WORDS]));
    for row in &rows {
        println!("{row}");
    }
    figures["bandwidth"] = rows.into();
    say("bench", &figures);
    Ok(())
}

/// What the CPU does with a memory, in MiB of it per second.
fn bandwidth(name: &str, words: &mut [u64]) -> Value {
    let mut own = vec![1_u64; words.len()];
    // The first touch of each page, which is not what is measured.
    words.fill(0);
    let write = rate(|| black_box(&mut *words).fill(black_box(2)));
    let read = rate(|| {
        let sum = black_box(&*words)
            .iter()
            .fold(0_u64, |sum, word| sum.wrapping_add(*word));
        black_box(sum);
    });
    let copy_in = rate(|| black_box(&mut *words).copy_from_slice(black_box(&own)));
    let copy_out = rate(|| black_box(&mut own).copy_from_slice(black_box(words)));
    json!({
        "memory": name, "write_mib_s": write, "read_mib_s": read,
        "copy_in_mib_s": copy_in, "copy_out_mib_s": copy_out,
    })
}

/// The median pass.
fn rate(mut pass: impl FnMut()) -> u64 {
    let mut times = [Duration::ZERO; PASSES];
    for time in &mut times {
        let start = Instant::now();
        pass();
        *time = start.elapsed();
    }
    times.sort_unstable();
    let micros = u64::try_from(times[PASSES / 2].as_micros()).unwrap_or(u64::MAX);
    BYTES / MIB * 1_000_000 / micros.max(1)
}
