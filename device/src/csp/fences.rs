//! The last fences that were written to memory: for whoever asks where they went.

use crate::memory::Target;
use serde::{Serialize, Serializer};
use std::collections::VecDeque;

/// Fences that are kept; older ones are dropped.
const KEPT: usize = 64;

/// One external fence as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FenceRecord {
    /// The ring.
    pub ring: u8,
    /// Byte offset in the ring of the packet; of the call, when it is in a buffer.
    pub ring_offset: u32,
    /// Whether it was in a called buffer.
    pub in_buffer: bool,
    /// Whose tables translated it.
    pub process_id: u8,
    /// GPU address.
    pub va: u64,
    /// Where that led.
    #[serde(serialize_with = "text")]
    pub target: Target,
    /// What is in memory since then; of an OR-ing fence with the bits from before.
    pub value: u64,
    /// Bytes of it, 4 or 8.
    pub bytes: u8,
    /// Whether it asked for an interrupt of the CPU.
    pub interrupt: bool,
    /// The GPU's clock, nanoseconds.
    pub time: u64,
}

fn text<S: Serializer>(target: &Target, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(target)
}

/// The last [`KEPT`] of them. All memory is taken at the beginning: fences are
/// frequent. Nothing behaves differently for them, so they are not saved.
pub(super) struct Fences(VecDeque<FenceRecord>);

impl Default for Fences {
    fn default() -> Self {
        Self(VecDeque::with_capacity(KEPT))
    }
}

impl Fences {
    pub(super) fn record(&mut self, record: FenceRecord) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(record);
    }

    /// Oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &FenceRecord> {
        self.0.iter()
    }
}
