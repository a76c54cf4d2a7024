//! A piece of work in line, and whose it is.

use crate::on_chip::blit::Blit;
use crate::sync::{FenceError, Primitives};
use crate::vm::SpaceId;
use alloc::vec::Vec;

/// So many blits go on the ring behind one fence.
const PIECE: usize = 64;
/// A piece has no more bytes, but for one blit: it ends long before a hang is assumed.
const PIECE_BYTES: u64 = 256 << 20;
/// Whose work it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The manager's: it is done again after whatever cut it off.
    Manager,
    /// Of this process id.
    Process(u8),
}

impl Owner {
    pub(super) const fn process_id(self) -> u8 {
        match self {
            Self::Manager => 0,
            Self::Process(id) => id,
        }
    }
}

pub(super) struct Item<S: Primitives> {
    pub(super) owner: Owner,
    pub(super) blits: Vec<Blit>,
    /// What it counts for in its process's share, with what was moved for it.
    pub(super) cost: u64,
    /// How many of them are on the ring, or were.
    pub(super) next: usize,
    /// The ring's fences behind them: the first that is not judged, and the last.
    pub(super) pieces: Option<(u64, u64)>,
    /// Nothing more of it goes on the ring; it ends so when what is there is over.
    pub(super) failed: Option<FenceError>,
    pub(super) fence: S::Fence,
    /// Whose job it is.
    pub(super) space: Option<SpaceId>,
    /// In whose share it counts: its process's, or, of the manager's, of whom it is done for.
    pub(super) charged: Option<SpaceId>,
    /// It did not end, and was begun once more.
    pub(super) redone: bool,
}

impl<S: Primitives> Item<S> {
    /// What goes on the ring next, behind one fence.
    pub(super) fn piece(&self) -> &[Blit] {
        let left = self.blits.get(self.next..).unwrap_or_default();
        let mut bytes = 0;
        let fits = |blit: &&Blit| {
            let first = bytes == 0;
            bytes += blit.bytes();
            first || bytes <= PIECE_BYTES
        };
        let count = left.iter().take(PIECE).take_while(fits).count();
        left.get(..count).unwrap_or_default()
    }

    /// Whether nothing more of it is to be put on the ring.
    pub(super) fn is_on_ring(&self) -> bool {
        self.failed.is_some() || self.next == self.blits.len()
    }
}
