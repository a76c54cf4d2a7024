//! What each client has booked, and how much it may: so that no client books
//! a segment away from all others.

use crate::Error;
use crate::placement::segments::{Segment, SegmentId};
use alloc::vec::Vec;
use e3k_regs::PAGE_SIZE;

/// Names a client. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClientId(u64);

impl ClientId {
    /// In a picture of a segment; the letters come again after 25 clients (`z` is
    /// for what is going).
    pub(crate) fn letter(self) -> char {
        let n = u8::try_from((self.0.max(1) - 1) % 25).unwrap_or(0);
        char::from(b'a' + n)
    }
}

/// What a client has booked in a segment, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Booking {
    /// Booked, zombies included: their memory is nobody else's yet.
    pub booked: u64,
    /// The part of it that is zombies, which comes back without its doing.
    pub dying: u64,
    /// The most that may be booked.
    pub limit: u64,
}

#[derive(Debug)]
struct Account {
    id: ClientId,
    /// Its client is there; BOs may outlive it.
    open: bool,
    booked: [u64; 4],
    dying: [u64; 4],
}

impl Account {
    fn is_over(&self) -> bool {
        !self.open && self.booked == [0; 4]
    }
}

/// The accounts of all clients, those that still have BOs included.
///
/// # Invariants
/// - `list` ascends by id, and `newest` is not less than any of them.
/// - In each segment what of an account is `dying` is `booked`, too.
/// - An account without a client has something booked.
#[derive(Debug)]
pub(crate) struct Accounts {
    /// Of each segment, for each client.
    percent: u8,
    newest: u64,
    /// By id.
    list: Vec<Account>,
}

impl Accounts {
    pub(crate) const fn new(percent: u8) -> Self {
        Self {
            percent,
            newest: 0,
            list: Vec::new(),
        }
    }

    /// A new client's account.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(crate) fn open(&mut self) -> Result<ClientId, Error> {
        self.list.try_reserve(1)?;
        self.newest += 1;
        let id = ClientId(self.newest);
        // INVARIANT: the largest id comes last.
        self.list.push(Account {
            id,
            open: true,
            booked: [0; 4],
            dying: [0; 4],
        });
        Ok(id)
    }

    /// The client books nothing more. What its BOs hold stays booked.
    pub(crate) fn close(&mut self, id: ClientId) {
        if let Some(index) = self.index(id) {
            self.list[index].open = false;
            self.drop_if_over(index);
        }
    }

    /// What a client has booked in a segment.
    pub(crate) fn booking(&self, id: ClientId, segment: &Segment) -> Booking {
        let account = self.index(id).map(|index| &self.list[index]);
        let of = |sums: [u64; 4]| sums[segment.id as usize];
        let pages = segment.manager.pages() * u64::from(self.percent) / 100;
        Booking {
            booked: account.map_or(0, |account| of(account.booked)),
            dying: account.map_or(0, |account| of(account.dying)),
            limit: pages * PAGE_SIZE,
        }
    }

    /// Whether a client may book `bytes` more in a segment.
    ///
    /// # Errors
    /// [`Error::Busy`] when it may once its zombies are gone, otherwise [`Error::Limit`].
    pub(crate) fn admit(&self, id: ClientId, segment: &Segment, bytes: u64) -> Result<(), Error> {
        let Booking {
            booked,
            dying,
            limit,
        } = self.booking(id, segment);
        let beyond = |booked: u64| booked.saturating_add(bytes) > limit;
        match (beyond(booked), beyond(booked - dying)) {
            (false, _) => Ok(()),
            (true, false) => Err(Error::Busy),
            (true, true) => Err(Error::Limit {
                segment: segment.id,
                limit,
                booked,
            }),
        }
    }

    /// A BO of the client's has been placed.
    pub(crate) fn book(&mut self, id: ClientId, segment: SegmentId, bytes: u64) {
        if let Some(index) = self.index(id) {
            self.list[index].booked[segment as usize] += bytes;
        }
    }

    /// A BO of the client's has become a zombie.
    pub(crate) fn dies(&mut self, id: ClientId, segment: SegmentId, bytes: u64) {
        if let Some(index) = self.index(id) {
            self.list[index].dying[segment as usize] += bytes;
        }
    }

    /// A BO's memory is free. `zombie`: [`Self::dies`] was called for it.
    pub(crate) fn free(&mut self, id: ClientId, segment: SegmentId, bytes: u64, zombie: bool) {
        if let Some(index) = self.index(id) {
            self.list[index].booked[segment as usize] -= bytes;
            self.list[index].dying[segment as usize] -= if zombie { bytes } else { 0 };
            self.drop_if_over(index);
        }
    }

    fn index(&self, id: ClientId) -> Option<usize> {
        self.list
            .binary_search_by_key(&id, |account| account.id)
            .ok()
    }

    /// INVARIANT: called whenever a client goes or something of an account is free.
    fn drop_if_over(&mut self, index: usize) {
        if self.list[index].is_over() {
            self.list.remove(index);
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) const fn len(&self) -> usize {
        self.list.len()
    }
}
