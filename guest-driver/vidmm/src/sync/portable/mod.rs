//! [`Primitives`] in plain Rust, over a lock with a place to wait at ([`Monitor`]):
//! for the threads of a host, for programs that try every order of steps, and for a
//! single thread ([`Single`]). Bookkeeping memory is not fallible here as it is in
//! the kernel.
//!
//! Monitors nest in one order: a reservation's, then a fence's. Nothing sleeps with
//! one held.

mod fences;
mod single;
mod ticket;

pub use single::Single;

use super::fence::FenceResult;
use super::primitives::{Deadline, Primitives};
use super::reservation::Usage;
use crate::{Error, Patience, Wake};
use alloc::sync::Arc;
use fences::FenceSet;
use ticket::{Answer, Request, TicketLock, Turn};

/// A value behind a lock, and those who wait for it to change.
pub trait Monitor<T> {
    /// Has the value alone for a moment.
    fn with<R>(&self, change: impl FnOnce(&mut T) -> R) -> R;

    /// Has everybody who waits look again. Called after the change.
    fn wake(&self);

    /// Sleeps until `look` says something. It is asked at once, and after each
    /// [`Self::wake`]; between being asked and sleeping, no wake is missed.
    ///
    /// # Errors
    /// [`Wake::TimedOut`], [`Wake::Interrupted`]. The last look was before that.
    fn wait<R>(
        &self,
        patience: Patience,
        deadline: Deadline,
        look: impl FnMut(&mut T) -> Option<R>,
    ) -> Result<R, Wake>;
}

/// Where monitors come from.
pub trait Host: Sized + 'static {
    /// Its kind of monitor.
    type Monitor<T: 'static>: Monitor<T>;

    /// A monitor around a value.
    fn monitor<T: 'static>(&self, value: T) -> Self::Monitor<T>;
}

/// Fences, reservations and tickets of a host.
///
/// ```
/// use vidmm::sync::{Primitives, Usage, portable::{Portable, Single}};
/// let sync = Portable::new(Single::new());
/// let bo = sync.new_reservation()?;
/// assert!(sync.is_idle(&bo, Usage::Bookkeep));
/// # Ok::<(), vidmm::Error>(())
/// ```
pub struct Portable<H: Host> {
    host: H,
    /// The newest number of a context, a ticket, or a lock without one.
    newest: H::Monitor<u64>,
}

/// A fence: 16 bytes of identity, and how it ended behind a monitor.
///
/// # Invariants
/// An end that is there stays (R-9.4).
pub struct Fence<H: Host> {
    context: u64,
    sequence: u64,
    end: H::Monitor<Option<FenceResult>>,
}

impl<H: Host> Fence<H> {
    fn result(&self) -> Option<FenceResult> {
        self.end.with(|end| *end)
    }
}

/// Memory for a [`Fence`].
pub struct Unarmed<H: Host>(Arc<Fence<H>>);

/// A lock and fences in classes.
pub struct Reservation<H: Host>(H::Monitor<State<H>>);

struct State<H: Host> {
    lock: TicketLock,
    fences: FenceSet<H>,
}

/// A transaction's place among all.
///
/// # Invariants
/// `held` counts the reservations that are locked with it.
#[derive(Debug)]
pub struct Ticket {
    number: u64,
    held: u32,
}

impl<H: Host> Portable<H> {
    /// Of this host.
    pub fn new(host: H) -> Self {
        let newest = host.monitor(0);
        Self { host, newest }
    }

    /// The host.
    pub const fn host(&self) -> &H {
        &self.host
    }

    fn number(&self) -> u64 {
        self.newest.with(|newest| {
            *newest += 1;
            *newest
        })
    }
}

impl<H: Host> Primitives for Portable<H> {
    type Unarmed = Unarmed<H>;
    type Fence = Arc<Fence<H>>;
    type Reservation = Arc<Reservation<H>>;
    type Ticket = Ticket;

    fn new_context(&self) -> u64 {
        self.number()
    }

    fn allocate_fence(&self) -> Result<Unarmed<H>, Error> {
        Ok(Unarmed(Arc::new(Fence {
            context: 0,
            sequence: 0,
            end: self.host.monitor(None),
        })))
    }

    fn arm(&self, fence: Unarmed<H>, context: u64, sequence: u64) -> Arc<Fence<H>> {
        let mut fence = fence.0;
        // Nobody else has it yet.
        if let Some(fence) = Arc::get_mut(&mut fence) {
            (fence.context, fence.sequence) = (context, sequence);
        }
        fence
    }

    fn identity(&self, fence: &Arc<Fence<H>>) -> (u64, u64) {
        (fence.context, fence.sequence)
    }

    fn signal(&self, fence: &Arc<Fence<H>>, result: FenceResult) {
        // INVARIANT: only the first one counts.
        fence.end.with(|end| *end = end.or(Some(result)));
        fence.end.wake();
    }

    fn result(&self, fence: &Arc<Fence<H>>) -> Option<FenceResult> {
        fence.result()
    }

    fn wait_fence(
        &self,
        fence: &Arc<Fence<H>>,
        patience: Patience,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let ended = fence.end.wait(patience, deadline, |end| *end);
        ended.map(drop).map_err(error)
    }

    fn pause(&self, patience: Patience, until: Deadline) -> Result<(), Error> {
        let woken = self.newest.wait(patience, until, |_| None);
        woken.map_err(error)
    }

    fn new_reservation(&self) -> Result<Arc<Reservation<H>>, Error> {
        Ok(Arc::new(Reservation(self.host.monitor(State {
            lock: TicketLock::new(),
            fences: FenceSet::new(),
        }))))
    }

    fn same(&self, one: &Arc<Reservation<H>>, other: &Arc<Reservation<H>>) -> bool {
        Arc::ptr_eq(one, other)
    }

    fn draw(&self) -> Result<Ticket, Error> {
        Ok(Ticket {
            number: self.number(),
            held: 0,
        })
    }

    fn lock(
        &self,
        reservation: &Arc<Reservation<H>>,
        ticket: Option<&mut Ticket>,
        patience: Patience,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let monitor = &reservation.0;
        let request = self.request(ticket.as_deref());
        match monitor.with(|state| state.lock.ask(request)) {
            Answer::Taken => {}
            Answer::Already => return Err(Error::Already),
            Answer::Deadlock => return Err(Error::Deadlock),
            Answer::Queued { others } => {
                if others {
                    monitor.wake();
                }
                let look = |state: &mut State<H>| state.lock.turn(request.number);
                let turn = monitor.wait(patience, deadline, look);
                match turn {
                    Ok(Turn::Taken) => {}
                    Ok(Turn::Deadlock) => return Err(Error::Deadlock),
                    // It may have been handed over after the last look.
                    Err(wake) => monitor.with(|state| match state.lock.leave(request.number) {
                        Some(Turn::Taken) => Ok(()),
                        Some(Turn::Deadlock) => Err(Error::Deadlock),
                        None => Err(error(wake)),
                    })?,
                }
            }
        }
        count(ticket, 1);
        Ok(())
    }

    fn try_lock(&self, reservation: &Arc<Reservation<H>>, ticket: Option<&mut Ticket>) -> bool {
        let request = self.request(ticket.as_deref());
        let taken = reservation.0.with(|state| state.lock.try_take(request));
        if taken {
            count(ticket, 1);
        }
        taken
    }

    fn unlock(&self, reservation: &Arc<Reservation<H>>, ticket: Option<&mut Ticket>) {
        count(ticket, -1);
        let handed_over = reservation.0.with(|state| state.lock.release());
        if handed_over {
            reservation.0.wake();
        }
    }

    fn reserve_slots(&self, reservation: &Arc<Reservation<H>>, count: usize) -> Result<(), Error> {
        reservation.0.with(|state| state.fences.reserve(count))
    }

    fn add_fence(&self, reservation: &Arc<Reservation<H>>, fence: &Arc<Fence<H>>, usage: Usage) {
        reservation.0.with(|state| state.fences.add(fence, usage));
    }

    fn is_idle(&self, reservation: &Arc<Reservation<H>>, usage: Usage) -> bool {
        self.unfinished(reservation, usage).is_none()
    }

    fn unfinished(&self, reservation: &Arc<Reservation<H>>, usage: Usage) -> Option<Arc<Fence<H>>> {
        reservation.0.with(|state| state.fences.unfinished(usage))
    }

    fn wait_idle(
        &self,
        reservation: &Arc<Reservation<H>>,
        usage: Usage,
        patience: Patience,
        deadline: Deadline,
    ) -> Result<(), Error> {
        while let Some(fence) = self.unfinished(reservation, usage) {
            self.wait_fence(&fence, patience, deadline)?;
        }
        Ok(())
    }

    fn copy_fences(
        &self,
        to: &Arc<Reservation<H>>,
        from: &Arc<Reservation<H>>,
    ) -> Result<(), Error> {
        let copy = from.0.with(|state| state.fences.copy())?;
        to.0.with(|state| state.fences = copy);
        Ok(())
    }
}

impl<H: Host> Portable<H> {
    fn request(&self, ticket: Option<&Ticket>) -> Request {
        match ticket {
            Some(ticket) => Request {
                number: ticket.number,
                ticketed: true,
                holds: ticket.held > 0,
            },
            None => Request {
                number: self.number(),
                ticketed: false,
                holds: false,
            },
        }
    }
}

/// INVARIANT: once for each reservation that is locked, and once for each unlocked.
fn count(ticket: Option<&mut Ticket>, by: i32) {
    if let Some(ticket) = ticket {
        ticket.held = ticket.held.saturating_add_signed(by);
    }
}

const fn error(wake: Wake) -> Error {
    match wake {
        Wake::Interrupted => Error::Interrupted,
        Wake::TimedOut | Wake::Ready => Error::TimedOut,
    }
}
