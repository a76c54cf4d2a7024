//! Times of one run that are compared with each other.

use criterion::BenchmarkGroup;
use criterion::measurement::WallTime;
use std::time::{Duration, Instant};

/// Benchmarks `work`; returns the time of its fastest sample.
pub fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut work: impl FnMut(),
) -> Duration {
    let mut best = Duration::MAX;
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|times| {
            let start = Instant::now();
            for _ in 0..times {
                work();
            }
            let elapsed = start.elapsed();
            best = best.min(elapsed / u32::try_from(times).unwrap());
            elapsed
        });
    });
    best
}
