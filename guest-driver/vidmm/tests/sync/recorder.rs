//! Primitives that write down what is asked of them, and refuse memory when told to.

use std::cell::{Cell, RefCell};
use vidmm::sync::portable::{Portable, Single};
use vidmm::sync::{Deadline, FenceResult, Primitives, Usage};
use vidmm::{Error, Patience};

/// The single-threaded host underneath.
pub(crate) type Inner = Portable<Single>;
type Reservation = <Inner as Primitives>::Reservation;
type Fence = <Inner as Primitives>::Fence;
type Ticket = <Inner as Primitives>::Ticket;

/// What was done, with the index of the reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Draw,
    Lock(usize),
    TryLock(usize),
    Unlock(usize),
    Add(usize, Usage),
}

pub(crate) struct Recorder {
    pub(crate) inner: Inner,
    known: RefCell<Vec<Reservation>>,
    calls: RefCell<Vec<Call>>,
    /// Calls for memory until one is refused.
    pub(crate) memory: Cell<Option<u32>>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self {
            inner: Portable::new(Single::new()),
            known: RefCell::default(),
            calls: RefCell::default(),
            memory: Cell::new(None),
        }
    }

    /// What was done since it was asked last.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.take()
    }

    fn index(&self, reservation: &Reservation) -> usize {
        let known = self.known.borrow();
        let found = known.iter().position(|it| self.inner.same(it, reservation));
        found.expect("one of this recorder")
    }

    fn done(&self, call: Call) {
        self.calls.borrow_mut().push(call);
    }

    fn memory(&self) -> Result<(), Error> {
        match self.memory.get() {
            Some(0) => Err(Error::NoMemory),
            Some(left) => {
                self.memory.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Primitives for Recorder {
    type Unarmed = <Inner as Primitives>::Unarmed;
    type Fence = Fence;
    type Reservation = Reservation;
    type Ticket = Ticket;

    fn new_context(&self) -> u64 {
        self.inner.new_context()
    }

    fn allocate_fence(&self) -> Result<Self::Unarmed, Error> {
        self.memory()?;
        self.inner.allocate_fence()
    }

    fn arm(&self, fence: Self::Unarmed, context: u64, sequence: u64) -> Fence {
        self.inner.arm(fence, context, sequence)
    }

    fn identity(&self, fence: &Fence) -> (u64, u64) {
        self.inner.identity(fence)
    }

    fn signal(&self, fence: &Fence, result: FenceResult) {
        self.inner.signal(fence, result);
    }

    fn result(&self, fence: &Fence) -> Option<FenceResult> {
        self.inner.result(fence)
    }

    fn wait_fence(&self, fence: &Fence, patience: Patience, end: Deadline) -> Result<(), Error> {
        self.inner.wait_fence(fence, patience, end)
    }

    fn pause(&self, patience: Patience, until: Deadline) -> Result<(), Error> {
        self.inner.pause(patience, until)
    }

    fn new_reservation(&self) -> Result<Reservation, Error> {
        self.memory()?;
        let reservation = self.inner.new_reservation()?;
        self.known.borrow_mut().push(reservation.clone());
        Ok(reservation)
    }

    fn same(&self, one: &Reservation, other: &Reservation) -> bool {
        self.inner.same(one, other)
    }

    fn draw(&self) -> Result<Ticket, Error> {
        self.memory()?;
        self.done(Call::Draw);
        self.inner.draw()
    }

    fn lock(
        &self,
        reservation: &Reservation,
        ticket: Option<&mut Ticket>,
        patience: Patience,
        deadline: Deadline,
    ) -> Result<(), Error> {
        self.inner.lock(reservation, ticket, patience, deadline)?;
        self.done(Call::Lock(self.index(reservation)));
        Ok(())
    }

    fn try_lock(&self, reservation: &Reservation, ticket: Option<&mut Ticket>) -> bool {
        let taken = self.inner.try_lock(reservation, ticket);
        if taken {
            self.done(Call::TryLock(self.index(reservation)));
        }
        taken
    }

    fn unlock(&self, reservation: &Reservation, ticket: Option<&mut Ticket>) {
        self.done(Call::Unlock(self.index(reservation)));
        self.inner.unlock(reservation, ticket);
    }

    fn reserve_slots(&self, reservation: &Reservation, count: usize) -> Result<(), Error> {
        self.memory()?;
        self.inner.reserve_slots(reservation, count)
    }

    fn add_fence(&self, reservation: &Reservation, fence: &Fence, usage: Usage) {
        self.done(Call::Add(self.index(reservation), usage));
        self.inner.add_fence(reservation, fence, usage);
    }

    fn is_idle(&self, reservation: &Reservation, usage: Usage) -> bool {
        self.inner.is_idle(reservation, usage)
    }

    fn unfinished(&self, reservation: &Reservation, usage: Usage) -> Option<Fence> {
        self.inner.unfinished(reservation, usage)
    }

    fn wait_idle(
        &self,
        reservation: &Reservation,
        usage: Usage,
        patience: Patience,
        deadline: Deadline,
    ) -> Result<(), Error> {
        self.inner.wait_idle(reservation, usage, patience, deadline)
    }

    fn copy_fences(&self, to: &Reservation, from: &Reservation) -> Result<(), Error> {
        self.memory()?;
        self.inner.copy_fences(to, from)
    }
}
