//! A ring that does not go on: who is blamed, what is written down, and how it begins anew.

use super::Line;
use super::item::Owner;
use crate::Error;
use crate::on_chip::hang::{Cause, Hang};
use crate::platform::{LogLevel, Os};
use crate::sync::{FenceError, Primitives};

impl<O: Os, S: Primitives> Line<O, S> {
    /// Whether the first piece on the ring has been that for too long.
    pub(super) fn is_hung(&mut self) -> bool {
        let now = self.adapter.os().now_ns();
        match self.first_unjudged() {
            Some(first) if first == self.first.0 => {
                now.saturating_sub(self.first.1) >= self.deadline_ns
            }
            other => {
                self.first = (other.unwrap_or(0), now);
                false
            }
        }
    }

    /// Writes down what the ring was doing, and starts it anew. Of a process, the job and
    /// those of it behind have ended; others' had not begun, and will be done. What is the
    /// manager's own is begun once more.
    ///
    /// # Errors
    /// [`Error::Lost`] if that does not end either; those of register accesses.
    pub(super) fn recover(&mut self, sync: &S) -> Result<(), Error> {
        let seen = self.adapter.ring0.look()?;
        self.write_down(sync, 0, seen, Cause::Deadline);
        let Some(item) = self.items.front_mut() else {
            return Ok(());
        };
        let again = item.owner == Owner::Manager;
        if again && core::mem::replace(&mut item.redone, true) {
            return Err(Error::Lost);
        }
        let owner = item.owner;
        self.adapter.ring0.restart_engine(!again)?;
        self.begin_again();
        let own = self.items.iter_mut().filter(|item| item.owner == owner);
        for (n, item) in own.enumerate().filter(|_| !again) {
            item.failed.get_or_insert(match n {
                0 => FenceError::TimedOut,
                _ => FenceError::Canceled,
            });
        }
        Ok(())
    }

    /// Which item a restart of the ring was for: behind it everything was cut off. Jobs
    /// before it that were not judged yet may count as failed, too.
    pub(super) fn at_fault(&self) -> Option<usize> {
        let timeline = &self.adapter.ring0.timeline;
        let failed = |fence: u64| timeline.verdict(fence) == Some(Err(Error::Io));
        self.items.iter().rposition(|item| {
            let pieces = item.pieces.map(|(first, last)| first..=last);
            pieces.into_iter().flatten().any(failed)
        })
    }

    /// Writes down that an item hangs, and what the ring was doing: its read and write
    /// pointer, and what was busy.
    pub(super) fn write_down(
        &mut self,
        sync: &S,
        at: usize,
        [head, tail, busy]: [u32; 3],
        cause: Cause,
    ) {
        let Some(item) = self.items.get(at) else {
            return;
        };
        let hang = Hang {
            number: self.hangs() + 1,
            cause,
            space: item.space,
            process_id: item.owner.process_id(),
            job: sync.identity(&item.fence).1,
            put: item.next,
            blits: item.blits.len(),
            fences: item.pieces.unwrap_or_default(),
            pointers: (head, tail),
            busy,
            behind: self.items.len() - 1 - at,
            deadline_ns: self.deadline_ns,
        };
        self.hang = Some(hang);
        self.adapter
            .os()
            .log(LogLevel::Error, format_args!("GPU: {hang}"));
    }

    /// How often the ring was started anew because a job did not end.
    fn hangs(&self) -> u64 {
        self.hang.as_ref().map_or(0, |hang| hang.number)
    }

    /// What it was doing the last time.
    pub(in crate::on_chip) const fn hang(&self) -> Option<Hang> {
        self.hang
    }
}
