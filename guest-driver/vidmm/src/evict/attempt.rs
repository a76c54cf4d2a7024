//! How one operation treats those who are in its way and busy (D-1, D-17).

use super::cause::Step;
use super::mm::{Context, Mm};
use super::world::{FenceOf, ReservationOf, World};
use crate::Error;
use crate::arena::Id;
use crate::bo::pool::SmallLock;
use crate::sync::{Caller, Deadline, LockSet, Locked, Primitives, Usage};
use alloc::vec::Vec;

/// An operation's attempt to make room. It waits for the GPU where it meets somebody
/// whom the GPU uses, or it passes by and keeps in mind for whom to wait in the end,
/// when it has no victim's lock any more.
#[expect(
    clippy::struct_excessive_bools,
    reason = "what it saw, each for itself"
)]
pub(super) struct Attempt<'c, W: World> {
    pub(super) ctx: &'c mut Context,
    waits: bool,
    /// The earliest of the fences it has passed by.
    passed: Option<FenceOf<W>>,
    /// It has waited for a lock: what it saw before that may be different now.
    pub(super) saw_change: bool,
    /// Somebody was locked by others when it looked last.
    pub(super) locked_out: bool,
    /// The first of those who have pages of RAM that are needed and are locked.
    giver: Option<ReservationOf<W>>,
    /// Somebody has pages that are needed and that nobody has room to store.
    pub(super) stuck: bool,
    /// What its set holds, if it has asked: nobody else's lock, so not to be waited for.
    held: Option<Vec<ReservationOf<W>>>,
    /// When it began to wait.
    began: Option<u64>,
}

/// How long it waits at first before it looks again whether anything else has changed.
const FIRST_LOOK_NS: u64 = 1_000_000;

impl<'c, W: World + 'static> Attempt<'c, W> {
    /// It waits where it meets somebody, if it may at all.
    pub(super) const fn patient(ctx: &'c mut Context) -> Self {
        let mut attempt = Self::passing_by(ctx);
        attempt.waits = !attempt.ctx.no_wait;
        attempt
    }

    /// It passes by.
    pub(super) const fn passing_by(ctx: &'c mut Context) -> Self {
        Self {
            waits: false,
            ctx,
            passed: None,
            saw_change: false,
            locked_out: false,
            giver: None,
            stuck: false,
            held: None,
            began: None,
        }
    }

    /// Tries until it is not busy any more (D-1): what is now will not be for ever. Who has
    /// pages and is locked is waited for with the set's ticket, between two attempts: of two
    /// who hold each other's pages, the younger one backs off.
    ///
    /// # Errors
    /// [`Error::Busy`] at the operation's deadline, or at once if it may not wait or where
    /// pages are needed that cannot be stored; [`Error::NoMemory`] where there is no room;
    /// [`Error::Deadlock`] to be handed up to [`LockSet::run`]; others of `attempt`.
    pub(super) fn persist<'s, R>(
        &mut self,
        mm: &Mm<W>,
        set: &mut LockSet<'s, W::Sync>,
        mut attempt: impl FnMut(&mut LockSet<'s, W::Sync>, &mut Self) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let deadline = self.ctx.deadline;
        loop {
            self.ctx.cause = None;
            match attempt(set, self) {
                Err(Error::Busy) if self.learn(set)? => {}
                Err(Error::Busy) => self.wait(mm, |giver, until| {
                    set.until(until);
                    let waited = set.victim(giver, true).map(drop);
                    set.until(deadline);
                    waited
                })?,
                Err(Error::NoSpace) => return Err(Error::NoMemory),
                Ok(done) => {
                    self.ctx.cause = None;
                    return Ok(done);
                }
                other => return other,
            }
        }
    }

    /// As [`Self::persist`], by who holds nothing.
    ///
    /// # Errors
    /// As there, but [`Error::Deadlock`].
    pub(super) fn persist_alone<R>(
        &mut self,
        mm: &Mm<W>,
        caller: &mut Caller<'_, W::Sync>,
        mut attempt: impl FnMut(&mut Self) -> Result<R, Error>,
    ) -> Result<R, Error> {
        loop {
            match attempt(self) {
                Err(Error::Busy) => self.wait_alone(mm, caller)?,
                other => return other,
            }
        }
    }

    /// As [`Self::wait`], by who holds nothing.
    ///
    /// # Errors
    /// As there.
    pub(super) fn wait_alone(
        &mut self,
        mm: &Mm<W>,
        caller: &mut Caller<'_, W::Sync>,
    ) -> Result<(), Error> {
        let patience = self.ctx.patience;
        self.wait(mm, |giver, until| {
            caller.lock_until(giver, patience, until).map(drop)
        })
    }

    /// Does something in which nobody is waited for where he is met, but later.
    pub(super) fn pass_all<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        let waits = core::mem::replace(&mut self.waits, false);
        let done = work(self);
        self.waits = waits;
        done
    }

    /// Notes at which step with which buffer an error came, unless there was one before.
    pub(super) fn blame(&mut self, bo: Id, step: Step, error: Error) -> Error {
        self.ctx.blame(bo, step);
        error
    }

    /// Somebody has pages that are needed, and others have him locked.
    pub(super) fn meet_giver(&mut self, reservation: &ReservationOf<W>) {
        self.giver.get_or_insert_with(|| reservation.clone());
    }

    /// After pages were found locked: looks what the set holds itself, once. Whether that
    /// is news.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    fn learn(&mut self, set: &LockSet<'_, W::Sync>) -> Result<bool, Error> {
        if self.giver.is_none() || self.held.is_some() {
            return Ok(false);
        }
        let mut held = Vec::new();
        held.try_reserve(set.iter().count())?;
        held.extend(set.iter().map(|it| it.reservation().clone()));
        self.held = Some(held);
        self.giver = None;
        Ok(true)
    }

    /// Whether its own set is known to hold it.
    pub(super) fn holds(&self, sync: &W::Sync, reservation: &ReservationOf<W>) -> bool {
        let mut held = self.held.iter().flatten();
        held.any(|it| sync.same(it, reservation))
    }

    /// Whether the operation's time is over.
    pub(super) fn is_over(&self, mm: &Mm<W>) -> bool {
        mm.world.after(0) >= self.ctx.deadline
    }

    /// Whether who is busy is waited for later, so that nobody else need leave for it.
    pub(super) const fn waits_later(&self) -> bool {
        let passed = self.passed.is_some() || self.giver.is_some();
        (passed || !self.waits) && !self.ctx.no_wait
    }

    /// Whether it has passed by somebody whom the GPU uses. Who is locked is forgotten: it
    /// is not waited for.
    pub(super) fn has_passed(&mut self) -> bool {
        self.giver = None;
        self.passed.is_some()
    }

    /// Makes sure that a buffer that is held is idle.
    ///
    /// # Errors
    /// [`Error::Busy`] if it is not, and this does not wait or not that long.
    pub(super) fn idle(
        &mut self,
        mm: &Mm<W>,
        held: &Locked<'_, W::Sync>,
        usage: Usage,
    ) -> Result<(), Error> {
        if self.waits || held.is_idle(usage) {
            return mm.idle(held, usage, self.ctx);
        }
        self.pass_by(mm.world.sync(), held.reservation(), usage);
        Err(Error::Busy)
    }

    pub(super) fn pass_by(&mut self, sync: &W::Sync, reservation: &ReservationOf<W>, usage: Usage) {
        let Some(fence) = sync.unfinished(reservation, usage) else {
            self.saw_change = true;
            return;
        };
        // Of two queues of work, nobody knows which one ends first: it is for those
        // that were used least recently.
        let earlier = self.passed.as_ref().is_none_or(|passed| {
            let (new, kept) = (sync.identity(&fence), sync.identity(passed));
            new.0 == kept.0 && new.1 < kept.1
        });
        if earlier {
            self.passed = Some(fence);
        }
    }

    /// After an attempt that ended busy: has `lock` wait for who has pages and is locked, or
    /// waits for the earliest fence of those it has passed by, but not long. Another attempt
    /// may go better then, and for another reason: the lock or the fence may be one of
    /// somebody who hangs.
    ///
    /// # Errors
    /// [`Error::Busy`] at the operation's deadline, or at once if it may not wait or where
    /// pages are needed that cannot be stored; [`Error::Interrupted`], [`Error::Lost`];
    /// those of `lock`.
    pub(super) fn wait(
        &mut self,
        mm: &Mm<W>,
        lock: impl FnOnce(&ReservationOf<W>, Deadline) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.ctx.no_wait {
            return Err(Error::Busy);
        }
        let until = self.next_look(mm)?;
        let saw_change = core::mem::take(&mut self.saw_change);
        let stuck = core::mem::take(&mut self.stuck);
        let (sync, patience) = (mm.world.sync(), self.ctx.patience);
        let waited = match (self.giver.take(), self.passed.take()) {
            (Some(giver), _) => match lock(&giver, until) {
                Err(Error::Busy) => Err(Error::TimedOut),
                other => other,
            },
            (None, Some(fence)) => sync.wait_fence(&fence, patience, until),
            (None, None) if stuck => return Err(Error::Busy),
            (None, None) if saw_change => Ok(()),
            (None, None) => sync.pause(patience, until),
        };
        let since = self.began.unwrap_or_default();
        mm.waited(since);
        match waited {
            Err(Error::TimedOut) if self.is_over(mm) => Err(Error::Busy),
            Err(Error::TimedOut) => mm.alive(),
            other => other.and_then(|()| mm.alive()),
        }
    }

    /// When to look again: after a quarter of the time that it has waited so far. So it
    /// is late by little, and looks seldom where nothing happens.
    ///
    /// # Errors
    /// [`Error::Busy`] if the operation's deadline has passed.
    pub(super) fn next_look(&mut self, mm: &Mm<W>) -> Result<Deadline, Error> {
        if self.is_over(mm) {
            return Err(Error::Busy);
        }
        let now = mm.world.after(0).0;
        let waited = now.saturating_sub(*self.began.get_or_insert(now));
        let look = mm.world.after((waited / 4).max(FIRST_LOOK_NS));
        Ok(look.min(self.ctx.deadline))
    }
}

impl<W: World + 'static> Mm<W> {
    /// Nothing is done on a GPU that is lost.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub(super) fn alive(&self) -> Result<(), Error> {
        if self.world.is_lost() {
            return Err(Error::Lost);
        }
        Ok(())
    }

    /// Waits for a fence, however it ends, until the operation's deadline.
    ///
    /// # Errors
    /// [`Error::Busy`] if that passes; [`Error::Interrupted`], [`Error::Lost`].
    pub(crate) fn wait(&self, fence: &FenceOf<W>, ctx: &Context) -> Result<(), Error> {
        let sync = self.world.sync();
        self.in_time(|| sync.wait_fence(fence, ctx.patience, ctx.deadline))
    }

    /// Waits until a buffer that is held is idle, if that is allowed.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub(crate) fn idle(
        &self,
        held: &Locked<'_, W::Sync>,
        usage: Usage,
        ctx: &Context,
    ) -> Result<(), Error> {
        if held.is_idle(usage) {
            return Ok(());
        }
        if ctx.no_wait {
            return Err(Error::Busy);
        }
        self.in_time(|| held.wait_idle(usage, ctx.patience, ctx.deadline))
    }

    /// Somebody has waited since then.
    fn waited(&self, since: u64) {
        let took = self.world.after(0).0.saturating_sub(since);
        self.state.with(|state| {
            let longest = &mut state.counters.longest_wait_ns;
            *longest = took.max(*longest);
        });
    }

    fn in_time(&self, wait: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let began = self.world.after(0).0;
        let waited = wait();
        self.waited(began);
        match waited {
            Err(Error::TimedOut) => Err(Error::Busy),
            // A fence that a lost GPU has left ends, too.
            other => other.and_then(|()| self.alive()),
        }
    }
}
