//! Keeps what a client or guest can repeat from filling the log.

use std::collections::HashMap;
use std::io::Write;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines of one kind (of one place in the source) in a [`WINDOW`].
const LINES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);

/// Passes so many lines of each kind, and says how many it has left out before
/// the next that it passes. Debug and trace are for somebody who wants all.
#[derive(Default)]
pub(crate) struct FloodGate {
    kinds: Mutex<HashMap<Identifier, Kind>>,
}

struct Kind {
    since: Instant,
    lines: u32,
    left_out: u64,
}

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Pass { left_out: u64 },
    LeaveOut,
}

impl Kind {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            lines: 0,
            left_out: 0,
        }
    }

    fn judge(&mut self, now: Instant) -> Verdict {
        if now.saturating_duration_since(self.since) >= WINDOW {
            self.since = now;
            self.lines = 0;
        }
        if self.lines == LINES {
            self.left_out += 1;
            return Verdict::LeaveOut;
        }
        self.lines += 1;
        Verdict::Pass {
            left_out: std::mem::take(&mut self.left_out),
        }
    }
}

impl<S: Subscriber> Layer<S> for FloodGate {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        if *event.metadata().level() > Level::INFO {
            return true;
        }
        let now = Instant::now();
        let verdict = {
            let mut kinds = self.kinds.lock();
            let kind = kinds.entry(event.metadata().callsite());
            kind.or_insert_with(|| Kind::new(now)).judge(now)
        };
        match verdict {
            Verdict::Pass { left_out: 0 } => true,
            Verdict::Pass { left_out } => {
                // Standard error may be closed.
                let _ = writeln!(
                    std::io::stderr(),
                    "presil: {left_out} more lines like the next were left out"
                );
                true
            }
            Verdict::LeaveOut => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted_and_what_follows_it_is_told() {
        let start = Instant::now();
        let mut kind = Kind::new(start);
        for _ in 0..LINES {
            assert_eq!(kind.judge(start), Verdict::Pass { left_out: 0 });
        }
        for _ in 0..1000 {
            assert_eq!(kind.judge(start + WINDOW / 2), Verdict::LeaveOut);
        }
        assert_eq!(kind.judge(start + WINDOW), Verdict::Pass { left_out: 1000 });
        assert_eq!(kind.judge(start + WINDOW), Verdict::Pass { left_out: 0 });
    }
}
