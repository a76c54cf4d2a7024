//! A host with one thread: waiting is asking the machine to go on.

use super::{Host, Monitor};
use crate::sync::Deadline;
use crate::{Patience, Wake};
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::{Cell, RefCell};

/// What happens while the only thread waits: the machine goes on by one step.
/// Gets the time, gives the time of its next step, `None` if nothing will happen
/// any more.
type Poll = Box<dyn FnMut(u64) -> Option<u64>>;

struct World {
    now_ns: Cell<u64>,
    signal: Cell<bool>,
    poll: RefCell<Poll>,
}

/// One thread, time that passes only while it waits, and a machine that goes on only
/// then. A wait ends when what it is for has happened, at its deadline, or when
/// nothing will happen any more: then the time is the deadline's. To wait for a lock
/// that nobody will let go any more is [`Wake::TimedOut`], too.
///
/// ```
/// use std::{cell::RefCell, rc::Rc};
/// use vidmm::{Error, Patience};
/// use vidmm::sync::portable::{Portable, Single};
/// use vidmm::sync::{Deadline, FenceContext, Primitives};
/// let host = Single::new();
/// let sync = Rc::new(Portable::new(host.clone()));
/// let ring = Rc::new(RefCell::new(FenceContext::new(&*sync)));
/// let memory = ring.borrow_mut().prepare(&sync)?;
/// let fence = ring.borrow_mut().arm(&sync, memory);
/// // The machine ends it at 5 ms, and looks every millisecond.
/// let machine = (Rc::clone(&sync), Rc::clone(&ring));
/// host.on_poll(move |now| {
///     if now >= 5_000_000 {
///         machine.1.borrow_mut().end_through(&machine.0, 1);
///     }
///     Some(now + 1_000_000)
/// });
/// let wait = |ns| sync.wait_fence(&fence, Patience::Patient, Deadline(ns));
/// assert_eq!(wait(2_000_000), Err(Error::TimedOut));
/// assert_eq!(wait(9_000_000), Ok(()));
/// assert_eq!(host.now_ns(), 5_000_000);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Single(Rc<World>);

impl Single {
    /// A machine on which nothing happens, at the time 0.
    pub fn new() -> Self {
        Self(Rc::new(World {
            now_ns: Cell::new(0),
            signal: Cell::new(false),
            poll: RefCell::new(Box::new(|_| None)),
        }))
    }

    /// What happens while the thread waits. It gets the time and gives that of its
    /// next step, or `None` for ever after. It signals; it does not wait.
    pub fn on_poll(&self, poll: impl FnMut(u64) -> Option<u64> + 'static) {
        *self.0.poll.borrow_mut() = Box::new(poll);
    }

    /// The time, in nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.0.now_ns.get()
    }

    /// Whether the thread has a signal to handle, which ends its waits.
    pub fn set_signal(&self, pending: bool) {
        self.0.signal.set(pending);
    }
}

impl Default for Single {
    fn default() -> Self {
        Self::new()
    }
}

impl Host for Single {
    type Monitor<T: 'static> = SingleMonitor<T>;

    fn monitor<T: 'static>(&self, value: T) -> SingleMonitor<T> {
        SingleMonitor {
            value: RefCell::new(value),
            world: self.clone(),
        }
    }
}

/// A value that one thread has, and looks at again whenever the machine went on.
pub struct SingleMonitor<T> {
    value: RefCell<T>,
    world: Single,
}

impl<T> Monitor<T> for SingleMonitor<T> {
    fn with<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut self.value.borrow_mut())
    }

    fn wake(&self) {}

    fn wait<R>(
        &self,
        patience: Patience,
        deadline: Deadline,
        mut look: impl FnMut(&mut T) -> Option<R>,
    ) -> Result<R, Wake> {
        let world = &*self.world.0;
        loop {
            if let Some(found) = self.with(&mut look) {
                return Ok(found);
            }
            if world.signal.get() && patience == Patience::UntilSignal {
                return Err(Wake::Interrupted);
            }
            let now = world.now_ns.get();
            if now >= deadline.0 {
                return Err(Wake::TimedOut);
            }
            let next = (world.poll.borrow_mut())(now);
            if let Some(found) = self.with(&mut look) {
                return Ok(found);
            }
            world.now_ns.set(match next {
                // Time goes on with every step, so that every wait ends.
                Some(next) => next.max(now + 1).min(deadline.0),
                // A lock whose holder cannot go on, since there is one thread.
                None if deadline == Deadline::NEVER => return Err(Wake::TimedOut),
                None => deadline.0,
            });
        }
    }
}
