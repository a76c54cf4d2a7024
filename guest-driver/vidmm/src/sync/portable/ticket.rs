//! The lock of a reservation, wait-die: who may wait for whom. It never sleeps by
//! itself: who is queued looks whether it is its turn when it is woken.

use alloc::vec::Vec;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Smaller is older. A lock without a ticket has one of its own.
    pub(super) number: u64,
    /// Whether it is a transaction's.
    pub(super) ticketed: bool,
    /// Whether that transaction holds a reservation.
    pub(super) holds: bool,
}

/// What it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Taken,
    Already,
    Deadlock,
    /// Its turn will come. `others`: who waited must look at their turn.
    Queued {
        others: bool,
    },
}

/// How waiting ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Taken,
    Deadlock,
}

/// A lock that is handed to the oldest who waits.
///
/// # Invariants
/// Without a holder nobody waits. `waiting` is sorted, the oldest first. Whoever
/// waits with reservations held is older than the holder, if that has a ticket, and
/// than all who wait with one. So who has something that others want waits for
/// younger ones only, and no circle of waits can close.
#[derive(Debug)]
pub(super) struct TicketLock {
    holder: Option<Request>,
    waiting: Vec<Request>,
}

impl TicketLock {
    pub(super) const fn new() -> Self {
        Self {
            holder: None,
            waiting: Vec::new(),
        }
    }

    /// Takes it if it is free.
    pub(super) fn try_take(&mut self, request: Request) -> bool {
        if self.holder.is_some() {
            return false;
        }
        self.holder = Some(request);
        true
    }

    /// Takes it, or comes to wait for it, or must not wait.
    pub(super) fn ask(&mut self, request: Request) -> Answer {
        let Some(holder) = self.holder else {
            self.holder = Some(request);
            return Answer::Taken;
        };
        let others = || self.waiting.iter().chain([&holder]);
        if request.ticketed && holder.ticketed && holder.number == request.number {
            return Answer::Already;
        }
        // Who has no ticket holds nothing else, and is waited for by anybody.
        let older = |other: &Request| other.ticketed && other.number < request.number;
        if request.holds && others().any(older) {
            return Answer::Deadlock;
        }
        let before = self.waiting.len();
        if request.ticketed {
            // INVARIANT: younger ones that hold something go.
            let goes = |other: &Request| other.holds && other.number > request.number;
            self.waiting.retain(|other| !goes(other));
        }
        let gone = self.waiting.len() < before;
        let older = self
            .waiting
            .partition_point(|other| other.number < request.number);
        self.waiting.insert(older, request);
        Answer::Queued { others: gone }
    }

    /// How waiting has ended for who was queued, `None` if it has not.
    pub(super) fn turn(&self, number: u64) -> Option<Turn> {
        if self
            .holder
            .as_ref()
            .is_some_and(|holder| holder.number == number)
        {
            return Some(Turn::Taken);
        }
        let waits = self.waiting.iter().any(|other| other.number == number);
        (!waits).then_some(Turn::Deadlock)
    }

    /// Waits no longer. If waiting had ended before, says how.
    pub(super) fn leave(&mut self, number: u64) -> Option<Turn> {
        let turn = self.turn(number);
        self.waiting.retain(|other| other.number != number);
        turn
    }

    /// Hands it to the oldest who waits; says whether there was one.
    pub(super) fn release(&mut self) -> bool {
        // INVARIANT: it is free only when nobody waits.
        self.holder = (!self.waiting.is_empty()).then(|| self.waiting.remove(0));
        self.holder.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn plain(number: u64) -> Request {
        Request {
            number,
            ticketed: false,
            holds: false,
        }
    }

    const fn first(number: u64) -> Request {
        Request {
            number,
            ticketed: true,
            holds: false,
        }
    }

    const fn more(number: u64) -> Request {
        Request {
            holds: true,
            ..first(number)
        }
    }

    const QUEUED: Answer = Answer::Queued { others: false };

    /// Each case of: who holds, who waits already, who asks, what it gets.
    #[test]
    fn who_may_wait_for_whom() {
        type Case = (
            &'static str,
            Option<Request>,
            Option<Request>,
            Request,
            Answer,
        );
        let cases: [Case; 13] = [
            ("free", None, None, more(5), Answer::Taken),
            (
                "held by itself",
                Some(first(5)),
                None,
                more(5),
                Answer::Already,
            ),
            (
                "younger, holding nothing",
                Some(first(3)),
                None,
                first(5),
                QUEUED,
            ),
            (
                "younger, holding",
                Some(first(3)),
                None,
                more(5),
                Answer::Deadlock,
            ),
            ("older, holding", Some(first(7)), None, more(5), QUEUED),
            (
                "an older one waits",
                Some(first(7)),
                Some(first(4)),
                more(5),
                Answer::Deadlock,
            ),
            (
                "a younger one waits",
                Some(first(7)),
                Some(first(6)),
                more(5),
                QUEUED,
            ),
            (
                "a younger one that holds something waits",
                Some(first(7)),
                Some(more(6)),
                more(5),
                Answer::Queued { others: true },
            ),
            (
                "it goes even for one that holds nothing",
                Some(first(7)),
                Some(more(6)),
                first(5),
                Answer::Queued { others: true },
            ),
            (
                "held without a ticket",
                Some(plain(3)),
                None,
                more(5),
                QUEUED,
            ),
            (
                "one without a ticket waits",
                Some(first(7)),
                Some(plain(4)),
                more(5),
                QUEUED,
            ),
            (
                "it has no ticket",
                Some(first(7)),
                Some(more(6)),
                plain(8),
                QUEUED,
            ),
            (
                "it has no ticket but an old number",
                Some(first(7)),
                Some(more(6)),
                plain(5),
                QUEUED,
            ),
        ];
        for (what, holder, waiting, asks, answer) in cases {
            let mut lock = TicketLock {
                holder,
                waiting: waiting.iter().copied().collect(),
            };
            assert_eq!(lock.ask(asks), answer, "{what}");
            let gone = answer == Answer::Queued { others: true };
            let other = waiting.as_ref().map(|other| lock.turn(other.number));
            let expected = waiting.as_ref().map(|_| gone.then_some(Turn::Deadlock));
            assert_eq!(other, expected, "{what}");
        }
    }

    #[test]
    fn it_is_handed_to_the_oldest_and_to_nobody_else() {
        let mut lock = TicketLock::new();
        assert!(lock.try_take(first(1)));
        for number in [9, 4, 6] {
            assert_eq!(lock.ask(first(number)), QUEUED);
        }
        assert_eq!(lock.leave(6), None);
        assert!(lock.release());
        assert!(!lock.try_take(first(2)), "the oldest has it");
        assert_eq!(lock.turn(4), Some(Turn::Taken));
        assert_eq!(lock.turn(9), None);
        assert_eq!(
            lock.leave(4),
            Some(Turn::Taken),
            "it came too late to leave"
        );
        assert!(lock.release());
        assert_eq!(lock.turn(9), Some(Turn::Taken));
        assert!(!lock.release());
        assert!(lock.try_take(first(2)));
    }
}
