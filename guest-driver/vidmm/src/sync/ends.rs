//! Fences that did not end well. Interrupt handlers write, anybody reads, and
//! nobody takes a lock or allocates.

use crate::Error;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Ranges that are remembered one by one.
const SLOTS: usize = 64;
/// As a slot's first fence: it has none.
const EMPTY: u64 = u64::MAX;

/// How fences can end that do not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The GPU had an error while it worked for them.
    Failed,
    /// A reset cut them off.
    Canceled,
}

/// A range of fences, both ends included. The last one is stored as
/// `last * 2 + (end is Canceled)`.
struct Slot {
    first: AtomicU64,
    last: AtomicU64,
}

/// Ranges of fences, the newest [`SLOTS`] exactly. What is older is forgotten in
/// favour of one number: up to it, no fence is called good.
///
/// # Invariants
/// What no slot has any more is not above `floor`, at any moment that a reader can see.
pub(crate) struct Ends {
    floor: AtomicU64,
    next: AtomicUsize,
    slots: [Slot; SLOTS],
}

impl Ends {
    pub(crate) const fn new() -> Self {
        Self {
            floor: AtomicU64::new(0),
            next: AtomicUsize::new(0),
            slots: [const {
                Slot {
                    first: AtomicU64::new(EMPTY),
                    last: AtomicU64::new(0),
                }
            }; SLOTS],
        }
    }

    /// Remembers `first..=last`, if there is such a range. A range that touches
    /// the newest one becomes part of it.
    pub(crate) fn record(&self, end: End, first: u64, last: u64) {
        if first > last {
            return;
        }
        let packed = last << 1 | u64::from(end == End::Canceled);
        let newest = self.next.load(Ordering::Acquire).wrapping_sub(1);
        if self.slots[newest % SLOTS].extend(first, packed) {
            return;
        }
        let index = self.next.fetch_add(1, Ordering::AcqRel);
        let slot = &self.slots[index % SLOTS];
        if slot.first.load(Ordering::Acquire) != EMPTY {
            let forgotten = slot.last.load(Ordering::Acquire) >> 1;
            // INVARIANT: the floor rises before the slot is emptied.
            self.floor.fetch_max(forgotten, Ordering::AcqRel);
        }
        // In this order a reader never takes the end of one range for another's.
        slot.first.store(EMPTY, Ordering::Release);
        slot.last.store(packed, Ordering::Release);
        slot.first.store(first, Ordering::Release);
    }

    /// How a fence ended, once everything that it can have suffered is recorded.
    /// A job that had an error and was cut off by a reset afterwards is one that
    /// had an error: nothing is recorded of a fence that is judged already, so
    /// that the error always came first.
    ///
    /// # Errors
    /// [`Error::Canceled`]; [`Error::Io`]: the GPU had an error, or nobody
    /// remembers that it had none.
    pub(crate) fn of(&self, fence: u64) -> Result<(), Error> {
        let mut canceled = false;
        for end in self.slots.iter().filter_map(|slot| slot.end_of(fence)) {
            match end {
                End::Failed => return Err(Error::Io),
                End::Canceled => canceled = true,
            }
        }
        if canceled {
            return Err(Error::Canceled);
        }
        // The floor last: it rises before a slot is emptied.
        if fence != 0 && fence <= self.floor.load(Ordering::Acquire) {
            return Err(Error::Io);
        }
        Ok(())
    }
}

impl Slot {
    /// Makes the range reach to `packed`, if a range that begins at `first` and
    /// ends like this one touches it.
    fn extend(&self, first: u64, packed: u64) -> bool {
        let last = self.last.load(Ordering::Acquire);
        let own = self.first.load(Ordering::Acquire);
        let touches = own != EMPTY && own <= first && first <= (last >> 1) + 1;
        if !touches || last & 1 != packed & 1 {
            return false;
        }
        let order = (Ordering::AcqRel, Ordering::Acquire);
        packed <= last
            || self
                .last
                .compare_exchange(last, packed, order.0, order.1)
                .is_ok()
    }

    /// How `fence` ended, if this range has it.
    fn end_of(&self, fence: u64) -> Option<End> {
        loop {
            let last = self.last.load(Ordering::Acquire);
            let first = self.first.load(Ordering::Acquire);
            if last != self.last.load(Ordering::Acquire) {
                // It is being written, which takes two stores.
                continue;
            }
            let canceled = last & 1 == 1;
            let end = if canceled { End::Canceled } else { End::Failed };
            return (first <= fence && fence <= last >> 1).then_some(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_forgotten_is_not_called_good() {
        let ends = Ends::new();
        for n in 1..=100 {
            ends.record(End::Canceled, n * 10, n * 10 + 2);
        }
        let exact = 100 - SLOTS as u64;
        assert_eq!(ends.of(0), Ok(()), "fence 0 is always done");
        assert_eq!(ends.of(5), Err(Error::Io), "nobody knows any more");
        assert_eq!(ends.of(exact * 10 + 1), Err(Error::Io));
        assert_eq!(ends.of(exact * 10 + 3), Ok(()));
        assert_eq!(ends.of(exact * 10 + 11), Err(Error::Canceled));
        assert_eq!(ends.of(1003), Ok(()));
    }

    proptest! {
        #[test]
        fn agrees_with_a_list_of_results(ranges in prop::collection::vec(
            (any::<bool>(), 1u64..12, 0u64..4, 0u64..6), 0..SLOTS,
        )) {
            let ends = Ends::new();
            let mut list = vec![Ok(()); 1000];
            let mut at = 1;
            for (canceled, gap, back, len) in ranges {
                let end = if canceled { End::Canceled } else { End::Failed };
                let first = (at + gap).saturating_sub(back * 3).max(1);
                at = first + len;
                ends.record(end, first, at);
                let range = (first - 1)..at;
                for (_, result) in (1..).zip(list.iter_mut().skip(1)).filter(|(n, _)| range.contains(&(n - 1))) {
                    if *result != Err(Error::Io) {
                        *result = Err(if canceled { Error::Canceled } else { Error::Io });
                    }
                }
            }
            for (fence, wanted) in (0..).zip(list) {
                prop_assert_eq!(ends.of(fence), wanted, "fence {}", fence);
            }
        }
    }
}
