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

/// How often a comparison changes between its sides.
const ROUNDS: usize = 200;
/// How long a side works at a time, at least, if nothing disturbs it.
const TURN: Duration = Duration::from_micros(200);

/// The speed of `work` in percent of that of `best`, which does the same by other
/// means. They work in turns, so that what disturbs one disturbs the other: the
/// median over the rounds.
pub fn percent(mut best: impl FnMut(), mut work: impl FnMut()) -> f64 {
    let once = |side: &mut dyn FnMut()| {
        let start = Instant::now();
        side();
        start.elapsed()
    };
    let fastest = (0..ROUNDS).map(|_| once(&mut best)).min().unwrap();
    let times = TURN.as_nanos().div_ceil(fastest.as_nanos());
    let turn = |side: &mut dyn FnMut()| (0..times).map(|_| once(side)).min().unwrap();
    let mut ratios: Vec<f64> = (0..ROUNDS)
        .map(|_| turn(&mut best).div_duration_f64(turn(&mut work)))
        .collect();
    ratios.sort_by(f64::total_cmp);
    ratios[ROUNDS / 2] * 100.0
}
