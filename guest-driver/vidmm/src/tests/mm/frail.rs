//! Locks and fences whose memory can be refused, as in the kernel.

use crate::sync::portable::{Host, Portable};
use crate::sync::{Deadline, FenceResult, Primitives, Usage};
use crate::{Error, Patience};
use presil_allocator::{refuses, spared};

/// [`Portable`], whose bookkeeping memory fails where the kernel's may.
pub(in crate::tests) struct Frail<H: Host>(Portable<H>);

type Of<H> = Portable<H>;

impl<H: Host> Frail<H> {
    pub(in crate::tests) fn new(host: H) -> Self {
        Self(Portable::new(host))
    }

    pub(in crate::tests) const fn host(&self) -> &H {
        self.0.host()
    }
}

/// Memory that [`Portable`] takes for granted.
fn frail<R>(take: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    if refuses() {
        return Err(Error::NoMemory);
    }
    spared(take)
}

impl<H: Host> Primitives for Frail<H> {
    type Unarmed = <Of<H> as Primitives>::Unarmed;
    type Fence = <Of<H> as Primitives>::Fence;
    type Reservation = <Of<H> as Primitives>::Reservation;
    type Ticket = <Of<H> as Primitives>::Ticket;

    fn new_context(&self) -> u64 {
        self.0.new_context()
    }

    fn allocate_fence(&self) -> Result<Self::Unarmed, Error> {
        frail(|| self.0.allocate_fence())
    }

    fn arm(&self, fence: Self::Unarmed, context: u64, sequence: u64) -> Self::Fence {
        self.0.arm(fence, context, sequence)
    }

    fn identity(&self, fence: &Self::Fence) -> (u64, u64) {
        self.0.identity(fence)
    }

    fn signal(&self, fence: &Self::Fence, result: FenceResult) {
        self.0.signal(fence, result);
    }

    fn result(&self, fence: &Self::Fence) -> Option<FenceResult> {
        self.0.result(fence)
    }

    fn wait_fence(
        &self,
        fence: &Self::Fence,
        patience: Patience,
        deadline: Deadline,
    ) -> Result<(), Error> {
        spared(|| self.0.wait_fence(fence, patience, deadline))
    }

    fn pause(&self, patience: Patience, until: Deadline) -> Result<(), Error> {
        self.0.pause(patience, until)
    }

    fn new_reservation(&self) -> Result<Self::Reservation, Error> {
        frail(|| self.0.new_reservation())
    }

    fn same(&self, one: &Self::Reservation, other: &Self::Reservation) -> bool {
        self.0.same(one, other)
    }

    fn draw(&self) -> Result<Self::Ticket, Error> {
        frail(|| self.0.draw())
    }

    fn lock(
        &self,
        reservation: &Self::Reservation,
        ticket: Option<&mut Self::Ticket>,
        patience: Patience,
        deadline: Deadline,
    ) -> Result<(), Error> {
        spared(|| self.0.lock(reservation, ticket, patience, deadline))
    }

    fn try_lock(&self, reservation: &Self::Reservation, ticket: Option<&mut Self::Ticket>) -> bool {
        self.0.try_lock(reservation, ticket)
    }

    fn unlock(&self, reservation: &Self::Reservation, ticket: Option<&mut Self::Ticket>) {
        self.0.unlock(reservation, ticket);
    }

    fn reserve_slots(&self, reservation: &Self::Reservation, count: usize) -> Result<(), Error> {
        self.0.reserve_slots(reservation, count)
    }

    fn add_fence(&self, reservation: &Self::Reservation, fence: &Self::Fence, usage: Usage) {
        self.0.add_fence(reservation, fence, usage);
    }

    fn is_idle(&self, reservation: &Self::Reservation, usage: Usage) -> bool {
        self.0.is_idle(reservation, usage)
    }

    fn unfinished(&self, reservation: &Self::Reservation, usage: Usage) -> Option<Self::Fence> {
        self.0.unfinished(reservation, usage)
    }

    fn wait_idle(
        &self,
        reservation: &Self::Reservation,
        usage: Usage,
        patience: Patience,
        deadline: Deadline,
    ) -> Result<(), Error> {
        spared(|| self.0.wait_idle(reservation, usage, patience, deadline))
    }

    fn copy_fences(&self, to: &Self::Reservation, from: &Self::Reservation) -> Result<(), Error> {
        self.0.copy_fences(to, from)
    }
}
