//! Many threads at once: faults, submissions, creations and ends in any order.

use super::{Check, Context, Kind, SNOOPED, UNSNOOPED, VISIBLE};
use crate::device::Device;
use crate::error::{Error, Result, ensure};
use crate::noise::noise;
use std::thread;

pub(super) const CHECKS: &[Check] = &[Check {
    name: "many threads at once",
    run: threads,
}];

const THREADS: u64 = 6;
const ROUNDS: u64 = 12;
const BYTES: u64 = 96 * 1024 + 4;

fn threads(context: &Context) -> Result<String> {
    let device = &context.device;
    thread::scope(|scope| {
        let running: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || rounds(device, thread)))
            .collect();
        running.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(Error::Wrong("a thread panicked".into())))
        })
    })?;
    Ok(format!("{THREADS} threads, {ROUNDS} copies each"))
}

fn rounds(device: &Device, thread: u64) -> Result<()> {
    let mut kinds = [VISIBLE, SNOOPED, UNSNOOPED, VISIBLE];
    for round in 0..ROUNDS {
        kinds.rotate_left(1);
        let [from, to, ..] = kinds;
        one(device, thread * ROUNDS + round, from, to)?;
    }
    Ok(())
}

fn one(device: &Device, seed: u64, from: Kind, to: Kind) -> Result<()> {
    let source = device.create(from.flags, BYTES, &[])?;
    let dst = device.create(to.flags, BYTES, &[])?;
    let data = noise(seed, usize::try_from(BYTES).unwrap_or(usize::MAX));
    source.map()?.write(&data)?;
    dst.copy_from(0, &source, 0, BYTES)?;
    ensure!(
        dst.map()?.read()? == data,
        "{} to {}: other data",
        from.name,
        to.name
    );
    Ok(())
}
