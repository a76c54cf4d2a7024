//! The budget of [`crate::Gpu::step`], and the turns of the rings.

/// The price of a packet.
pub(crate) const PACKET_COST: u64 = 256;
/// The price of a table walk in [`crate::Gpu::step`]'s budget.
const WALK_COST: u64 = 512;
/// How long a ring works before the next one has its turn, in the same measure.
pub(crate) const TURN: u64 = 16 << 10;

/// What a ring may spend.
pub(crate) struct Allowance {
    /// Of the step.
    left: u64,
    /// Of its turn, which passes only while another ring waits for its end.
    turn: u64,
    alone: bool,
    /// Table walks that are paid for.
    walks: u64,
}

impl Allowance {
    /// For a ring that is `alone` if no other has work; `walks` have been counted so far.
    pub(crate) fn new(left: u64, turn: u64, alone: bool, walks: u64) -> Self {
        Self {
            left,
            turn,
            alone,
            walks,
        }
    }

    /// What is left of the step.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// What is left of the turn.
    pub(crate) fn turn(&self) -> u64 {
        self.turn
    }

    /// Pays for work, and for the walks since the last time; `walks` have been counted
    /// so far.
    pub(crate) fn spend(&mut self, price: u64, walks: u64) {
        let before = std::mem::replace(&mut self.walks, walks);
        let price = price + (walks - before) * WALK_COST;
        self.left = self.left.saturating_sub(price);
        if !self.alone {
            self.turn = self.turn.saturating_sub(price);
        }
    }

    /// How many pieces of work of this price the ring can begin, at least one.
    pub(crate) fn pieces(&self, price: u64) -> u64 {
        let room = if self.alone {
            self.left
        } else {
            self.left.min(self.turn)
        };
        room.div_ceil(price).max(1)
    }

    /// Whether the same ring would be next.
    pub(crate) fn goes_on(&self) -> bool {
        self.turn > 0 && self.left > 0
    }
}
