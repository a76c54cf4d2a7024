//! Accounts: what each client has booked, and what others may take of it (D-20).

use super::budget::{Balance, Budget, OwnerId, Prey, Terms};
use super::object::Mark;
use super::world::World;
use crate::Error;
use crate::arena::{Arena, Id};
use crate::placement::{Flags, Resource, SegmentId};
use core::ops::Deref;

/// How a range is charged beside being booked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stay {
    /// Its buffer is not there yet, or only stops there.
    Passing,
    Settled,
    /// Its buffer is gone, the GPU still uses it.
    Dying,
}

/// A booked range, and the charge for it. Whoever has it, in a buffer, on its way, in
/// a ghost or a zombie, has the charge: there is no way to get rid of one alone.
///
/// # Invariants
/// [`Accounts::charge`] makes it and [`Accounts::refund`] is its end, so that accounts
/// are the sums of those that exist.
pub(super) struct Room<W: World> {
    resource: Resource<Mark<W>>,
    owner: Option<OwnerId>,
    state: Stay,
    /// The buffer that it is booked for and that is not there yet.
    arriving: Option<Id>,
}

impl<W: World> Room<W> {
    /// The buffer is there now; which it was.
    pub(super) const fn arrived(&mut self) -> Option<Id> {
        self.arriving.take()
    }

    /// On whose account it is; none: the driver's.
    pub(super) const fn owner(&self) -> Option<OwnerId> {
        self.owner
    }
}

impl<W: World> Deref for Room<W> {
    type Target = Resource<Mark<W>>;

    fn deref(&self) -> &Self::Target {
        &self.resource
    }
}

struct Account {
    /// Its client is there; buffers may outlive it.
    open: bool,
    /// Buffers that are for it, those without a place included.
    buffers: usize,
    balances: [Balance; SegmentId::COUNT],
}

impl Account {
    fn is_over(&self) -> bool {
        !self.open && self.buffers == 0 && self.balances.iter().all(|it| it.booked == 0)
    }
}

/// All accounts.
///
/// # Invariants
/// The promises of a memory type (`min`) are together no more than its capacity. What is
/// `booked`, with `kernel`, is the sum of all [`Room`]s.
pub(super) struct Accounts {
    list: Arena<Account>,
    /// The driver's own, by memory type.
    kernel: [u64; SegmentId::COUNT],
}

impl Accounts {
    pub(super) const fn new() -> Self {
        Self {
            list: Arena::new(),
            kernel: [0; SegmentId::COUNT],
        }
    }

    /// A new account, which may book so many bytes of each memory type.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub(super) fn open(&mut self, limits: [u64; SegmentId::COUNT]) -> Result<OwnerId, Error> {
        let balances = limits.map(|limit| Balance {
            booked: 0,
            dying: 0,
            passing: 0,
            evicted: 0,
            promoted: 0,
            budget: Budget {
                limit,
                ..Budget::OPEN
            },
        });
        let account = self.list.insert_with(|| {
            Ok(Account {
                open: true,
                buffers: 0,
                balances,
            })
        })?;
        Ok(OwnerId(account))
    }

    /// Nothing is promised to it any more, and nothing new is for it.
    pub(super) fn close(&mut self, owner: OwnerId) -> Result<(), Error> {
        let account = self.list.get_mut(owner.0)?;
        account.open = false;
        for balance in &mut account.balances {
            (balance.budget.min, balance.budget.low) = (0, 0);
        }
        self.drop_if_over(owner);
        Ok(())
    }

    pub(super) fn balance(&self, owner: OwnerId, segment: SegmentId) -> Result<Balance, Error> {
        Ok(self.list.get(owner.0)?.balances[segment as usize])
    }

    /// Bytes of a memory type that are the driver's own.
    pub(super) const fn kernel(&self, segment: SegmentId) -> u64 {
        self.kernel[segment as usize]
    }

    /// What all clients have of a memory type.
    pub(super) fn clients(&self, segment: SegmentId) -> impl Iterator<Item = (OwnerId, Balance)> {
        let balance = move |(id, it): (Id, &Account)| (OwnerId(id), it.balances[segment as usize]);
        self.list.iter().map(balance)
    }

    /// # Errors
    /// [`Error::Limit`] if the memory type has not that much to promise.
    pub(super) fn set_budget(
        &mut self,
        owner: OwnerId,
        segment: SegmentId,
        budget: Budget,
        capacity: u64,
    ) -> Result<(), Error> {
        if budget.min > budget.limit || !self.list.get(owner.0)?.open {
            return Err(Error::Invalid);
        }
        let others = self.clients(segment).filter(|(id, _)| *id != owner);
        let promised = others.fold(0_u64, |sum, (_, it)| sum.saturating_add(it.budget.min));
        // INVARIANT: all promises together can be kept.
        if promised.saturating_add(budget.min) > capacity {
            return Err(Error::Limit {
                segment,
                limit: capacity,
                booked: promised,
            });
        }
        self.list.get_mut(owner.0)?.balances[segment as usize].budget = budget;
        Ok(())
    }

    /// A buffer for a client has come to be.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a client that is gone.
    pub(super) fn enroll(&mut self, owner: Option<OwnerId>) -> Result<(), Error> {
        let Some(owner) = owner else { return Ok(()) };
        let account = self.list.get_mut(owner.0)?;
        if !account.open {
            return Err(Error::NotFound);
        }
        account.buffers += 1;
        Ok(())
    }

    /// It is gone.
    pub(super) fn strike(&mut self, owner: Option<OwnerId>) {
        let Some(owner) = owner else { return };
        if let Ok(account) = self.list.get_mut(owner.0) {
            account.buffers -= 1;
        }
        self.drop_if_over(owner);
    }

    /// Whether a client may book so many bytes more.
    ///
    /// # Errors
    /// [`Error::Limit`].
    pub(super) fn admit(
        &self,
        owner: Option<OwnerId>,
        segment: SegmentId,
        bytes: u64,
        terms: Terms,
    ) -> Result<(), Error> {
        let Some(owner) = owner.filter(|_| terms.limited(segment)) else {
            return Ok(());
        };
        let Balance { booked, budget, .. } = self.balance(owner, segment)?;
        if booked.saturating_add(bytes) > budget.limit {
            return Err(Error::Limit {
                segment,
                limit: budget.limit,
                booked,
            });
        }
        Ok(())
    }

    /// Whether so many bytes more are still what a client was promised.
    pub(super) fn is_protected(
        &self,
        owner: Option<OwnerId>,
        segment: SegmentId,
        bytes: u64,
    ) -> bool {
        let balance = owner.and_then(|owner| self.balance(owner, segment).ok());
        balance.is_some_and(|it| {
            let uses = it.booked.saturating_sub(it.dying);
            uses.saturating_add(bytes) <= it.protected()
        })
    }

    /// Whether somebody in a memory type goes later than others (`low`).
    pub(super) fn spares(&self, segment: SegmentId) -> bool {
        self.clients(segment)
            .any(|(_, it)| it.budget.low > it.budget.min)
    }

    /// Whether something of an account may be taken from it for `hunter`.
    pub(super) fn may_lose<W: World>(
        &self,
        room: &Room<W>,
        hunter: Option<OwnerId>,
        prey: Prey,
    ) -> bool {
        let own = room.owner.is_some() && room.owner == hunter;
        let balance = room
            .owner
            .and_then(|owner| self.balance(owner, room.segment()).ok());
        let Some(balance) = balance else {
            return prey != Prey::Own;
        };
        // What only stops there, or is gone, is not counted as live.
        let counted = room.state == Stay::Settled;
        let left = balance
            .live()
            .saturating_sub(if counted { room.bytes() } else { 0 });
        match prey {
            Prey::Own => own,
            Prey::BeyondLow => own || left >= balance.protected(),
            Prey::BeyondMin => own || left >= balance.budget.min,
            Prey::Everybody => true,
        }
    }

    /// Notes that bytes of a client had to leave a memory type.
    pub(super) fn evicted(&mut self, owner: Option<OwnerId>, segment: SegmentId, bytes: u64) {
        if let Some(balance) = self.balance_mut(owner, segment) {
            balance.evicted += bytes;
        }
    }

    /// Notes that bytes of a client were brought back to a memory type.
    pub(super) fn promoted(&mut self, owner: Option<OwnerId>, segment: SegmentId, bytes: u64) {
        if let Some(balance) = self.balance_mut(owner, segment) {
            balance.promoted += bytes;
        }
    }

    fn balance_mut(&mut self, owner: Option<OwnerId>, segment: SegmentId) -> Option<&mut Balance> {
        let account = self.list.get_mut(owner?.0).ok()?;
        Some(&mut account.balances[segment as usize])
    }

    /// Charges for a range.
    ///
    /// INVARIANT: what is booked grows by what the new [`Room`] is.
    pub(super) fn charge<W: World>(
        &mut self,
        resource: Resource<Mark<W>>,
        owner: Option<OwnerId>,
        buffer: Id,
    ) -> Room<W> {
        *self.booked(owner, resource.segment()) += resource.bytes();
        if let Some(balance) = self.balance_mut(owner, resource.segment()) {
            balance.passing += resource.bytes();
        }
        Room {
            resource,
            owner,
            state: Stay::Passing,
            arriving: Some(buffer),
        }
    }

    /// The buffer is there, to stay unless that is a stop.
    pub(super) fn settle<W: World>(&mut self, room: &mut Room<W>) {
        if !room.flags().has(Flags::TEMPORARY) {
            self.leave(room);
            room.state = Stay::Settled;
        }
    }

    /// Its buffer stays where it only stopped.
    pub(super) fn stay<W: World>(&mut self, room: &mut Room<W>) {
        if room.flags().has(Flags::TEMPORARY) {
            room.resource.flags = room.flags().without(Flags::TEMPORARY);
            self.settle(room);
        }
    }

    /// Whether a stop, which no limit is asked for, has brought a client beyond its own.
    pub(super) fn is_beyond_limit<W: World>(&self, room: &Room<W>) -> bool {
        let balance = room
            .owner
            .and_then(|owner| self.balance(owner, room.segment()).ok());
        let stops = room.flags().has(Flags::TEMPORARY);
        balance.is_some_and(|it| stops && it.booked > it.budget.limit)
    }

    /// Nobody uses the range any more but the GPU.
    pub(super) fn bury<W: World>(&mut self, room: &mut Room<W>) {
        self.leave(room);
        if let Some(balance) = self.balance_mut(room.owner, room.segment()) {
            balance.dying += room.bytes();
        }
        room.state = Stay::Dying;
    }

    /// Takes the charge back: the range alone is left.
    ///
    /// INVARIANT: what is booked shrinks by what the [`Room`] was.
    pub(super) fn refund<W: World>(&mut self, room: Room<W>) -> Resource<Mark<W>> {
        self.leave(&room);
        let Room {
            resource, owner, ..
        } = room;
        *self.booked(owner, resource.segment()) -= resource.bytes();
        if let Some(owner) = owner {
            self.drop_if_over(owner);
        }
        resource
    }

    /// It is no longer counted as what it was beside booked.
    fn leave<W: World>(&mut self, room: &Room<W>) {
        if let Some(balance) = self.balance_mut(room.owner, room.segment()) {
            match room.state {
                Stay::Passing => balance.passing -= room.bytes(),
                Stay::Settled => {}
                Stay::Dying => balance.dying -= room.bytes(),
            }
        }
    }

    fn booked(&mut self, owner: Option<OwnerId>, segment: SegmentId) -> &mut u64 {
        let account = owner.and_then(|owner| self.list.get_mut(owner.0).ok());
        match account {
            Some(account) => &mut account.balances[segment as usize].booked,
            None => &mut self.kernel[segment as usize],
        }
    }

    fn drop_if_over(&mut self, owner: OwnerId) {
        if self.list.get(owner.0).is_ok_and(Account::is_over) {
            self.list.remove(owner.0);
        }
    }
}
