//! Budgets: what a client is promised and allowed of each memory type (D-20).

use crate::arena::Id;
use crate::placement::SegmentId;

/// Names the account of a client. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnerId(pub(super) Id);

/// What a client is promised and allowed of one memory type, in bytes.
///
/// ```
/// use vidmm::evict::Budget;
/// // A compositor: 16 MiB are its own, and it never has more than 64.
/// let budget = Budget { min: 16 << 20, limit: 64 << 20, ..Budget::OPEN };
/// assert!(budget.min <= budget.limit && budget.low == 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Nobody else evicts it below this.
    pub min: u64,
    /// Others evict it below this only where nothing else can leave.
    pub low: u64,
    /// It books no more than this itself. What others push there for lack of room
    /// elsewhere counts, but is not refused where there is no other exit.
    pub limit: u64,
}

impl Budget {
    /// Nothing promised, everything allowed.
    pub const OPEN: Self = Self {
        min: 0,
        low: 0,
        limit: u64::MAX,
    };
}

/// What a client has of one memory type.
///
/// ```
/// use vidmm::evict::{Balance, Budget};
/// let balance = Balance {
///     booked: 12 << 20,
///     dying: 4 << 20,
///     evicted: 0,
///     passing: 2 << 20,
///     promoted: 0,
///     budget: Budget { min: 8 << 20, ..Budget::OPEN },
/// };
/// assert!(balance.live() < balance.budget.min, "nobody else evicts it");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Bytes that are booked: of its buffers, of what their moves have left behind
    /// until the GPU has copied it, of those that are gone while the GPU uses them.
    pub booked: u64,
    /// The part of it that comes back without its doing, when the GPU is done.
    pub dying: u64,
    /// Bytes of it that had to leave so far, for whomever.
    pub evicted: u64,
    /// Bytes of `booked` where something is on its way to, or stops on its way elsewhere:
    /// they protect nobody, since they may be given back at once.
    pub passing: u64,
    /// Bytes that were brought back to it so far, when there was room (D-3).
    pub promoted: u64,
    /// What it may.
    pub budget: Budget,
}

impl Balance {
    /// Bytes that its buffers use.
    pub const fn live(&self) -> u64 {
        let others = self.dying.saturating_add(self.passing);
        self.booked.saturating_sub(others)
    }

    /// What others leave to it if they can.
    pub(super) const fn protected(&self) -> u64 {
        if self.budget.low > self.budget.min {
            self.budget.low
        } else {
            self.budget.min
        }
    }
}

/// Who may go for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prey {
    /// Those of the client itself, whose limit is in the way.
    Own,
    /// Who has more than its `low`.
    BeyondLow,
    /// Who has more than its `min`.
    BeyondMin,
    /// Everybody: the memory type is to be empty.
    Everybody,
}

/// On which terms something is booked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Terms {
    /// The client asks for it.
    Asked,
    /// The buffer has to leave. SYSTEM takes it in any case.
    Pushed,
    /// A stop on the way to a place that is booked already.
    Passing,
}

impl Terms {
    pub(super) const fn limited(self, segment: SegmentId) -> bool {
        match self {
            Self::Asked => true,
            Self::Pushed => !matches!(segment, SegmentId::System),
            Self::Passing => false,
        }
    }
}
