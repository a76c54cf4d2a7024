//! What was seen and said of the GPU's errors: a log line now and then, and which
//! faults it repeats for ever.

use crate::chip::Fault;
use crate::platform::{LogLevel, Os};
use core::fmt;
use e3k_regs::GpuVa;

/// A log line at most so often.
const LOG_EVERY_NS: u64 = 5_000_000_000;
/// So often a fault comes while no fence is done. Then it is taken for one that
/// the GPU repeats for ever.
const SAME_FAULTS: u64 = 16;

/// What was seen and said so far.
#[derive(Debug, Default)]
pub(crate) struct TroubleLog {
    quiet_until_ns: u64,
    left_out: u64,
    repeats: Repeats,
}

/// Faults while no fence is done. The GPU may repeat one, or several in turn:
/// each is held against a mark, which moves to a later fault at growing
/// distances, so that a circle of any length is found without remembering it.
#[derive(Debug, Default)]
struct Repeats {
    /// The newest fence that was done.
    completed: u64,
    /// Where, in whose address space.
    mark: Option<(GpuVa, u8)>,
    /// How often it was seen again.
    again: u64,
    /// Faults until the mark moves, and how many that were when it moved last.
    left: u64,
    distance: u64,
}

impl Repeats {
    /// Counts a fault. True if it is one of those that the GPU repeats.
    fn count(&mut self, fault: &Fault, completed: u64) -> bool {
        if self.completed != completed {
            *self = Self {
                completed,
                ..Self::default()
            };
        }
        let this = Some((fault.va, fault.process_id));
        self.again += u64::from(self.mark == this);
        if self.left == 0 {
            self.distance = (self.distance * 2).max(SAME_FAULTS);
            (self.mark, self.again, self.left) = (this, 1, self.distance);
        }
        self.left -= 1;
        self.again >= SAME_FAULTS
    }
}

impl TroubleLog {
    /// Counts a fault that came when `completed` was the newest fence done. True if the
    /// GPU repeats it.
    pub(crate) fn is_repeated(&mut self, fault: &Fault, completed: u64) -> bool {
        self.repeats.count(fault, completed)
    }

    /// The ring begins anew: its faults are new ones.
    pub(crate) fn begin_again(&mut self) {
        self.repeats = Repeats::default();
    }

    /// One line, unless there was one shortly before.
    pub(crate) fn say(&mut self, os: &impl Os, what: fmt::Arguments<'_>) {
        let now = os.now_ns();
        if now < self.quiet_until_ns {
            self.left_out += 1;
            return;
        }
        let left_out = core::mem::take(&mut self.left_out);
        self.quiet_until_ns = now.saturating_add(LOG_EVERY_NS);
        if left_out == 0 {
            os.log(LogLevel::Error, format_args!("GPU: {what}"));
        } else {
            let more = format_args!("GPU: {what} ({left_out} lines before this left out)");
            os.log(LogLevel::Error, more);
        }
    }
}
