//! First contents: a fresh BO in local memory is cleared by the GPU before anybody
//! sees it.

use crate::Error;
use crate::adapter::Adapter;
use crate::bo::{BoId, Clearing, Contents};
use crate::engine::submit;
use crate::placement::segments::Bus;
use crate::platform::Os;

/// How many fills that clear a fresh BO may have an error of their own. One that
/// a reset cut off does not count: what caused the reset may be others' work.
const CLEARINGS: u32 = 4;

impl<O: Os> Adapter<O> {
    /// The fence of the ring to wait for while a BO's first contents are not known
    /// to be in place (its KERNEL fence). Once it is over [`Self::fault`] finds out
    /// whether they are.
    pub fn ready_fence(&self, bo: BoId) -> Option<u64> {
        let Contents::Clearing(clearing) = self.user_bo(bo).ok()?.contents else {
            return None;
        };
        let Some(last) = clearing.last else {
            return Some(self.next_on_ring());
        };
        match self.ring0.timeline.verdict(last) {
            None => Some(last),
            Some(Ok(())) if clearing.error.is_none() => None,
            // It is to be cleared again, once the ring has room.
            Some(_) => Some(self.next_on_ring()),
        }
    }

    /// Clears a fresh local BO, after so many fills that failed. RAM pages come zeroed.
    pub(super) fn clear(&mut self, id: BoId, failed: u32) -> Result<(), Error> {
        let bo = self.memory.bos.get(id)?;
        if !bo.is_on(Bus::Io) {
            return Ok(());
        }
        let bytes = bo.booked_bytes();
        let at = self.memory.va(id)?;
        let fence = self.submit([id], |out| submit::fill(out, at, bytes, 0))?;
        self.memory.bos.get_mut(id)?.contents = Contents::Clearing(Clearing {
            last: Some(fence),
            error: None,
            failed,
        });
        Ok(())
    }

    /// Makes sure that a BO's first contents are in place, before anybody reads,
    /// maps or writes it: what is there before them is another client's, and a
    /// second clearing must not wipe what its user has written.
    ///
    /// # Errors
    /// [`Error::Busy`]: the BO is being cleared, perhaps once more; wait for
    /// [`Self::ready_fence`]. [`Error::Io`] when that has failed too often.
    pub(super) fn make_ready(&mut self, id: BoId) -> Result<(), Error> {
        let failed = match self.learn_contents(id)? {
            Contents::InPlace => return Ok(()),
            Contents::Unusable => return Err(Error::Io),
            Contents::Clearing(Clearing { error, failed, .. }) => {
                failed + u32::from(error == Some(Error::Io))
            }
        };
        if failed >= CLEARINGS {
            self.memory.bos.get_mut(id)?.contents = Contents::Unusable;
            return Err(Error::Io);
        }
        if self.ring0.timeline.has_trouble() {
            self.attend().map_err(|_| Error::Lost)?;
        }
        self.clear(id, failed)?;
        Err(Error::Busy)
    }

    /// A BO's contents; [`Contents::Clearing`] if that has failed.
    ///
    /// # Errors
    /// [`Error::Busy`] while nobody can know; those of [`Self::judge`] that say
    /// nothing of a fence.
    fn learn_contents(&mut self, id: BoId) -> Result<Contents, Error> {
        if let Contents::Clearing(Clearing { last: None, .. }) = self.memory.bos.get(id)?.contents {
            self.advance();
        }
        let last = match self.memory.bos.get(id)?.contents {
            Contents::Clearing(clearing) => clearing.last,
            known => return Ok(known),
        };
        let verdict = match last {
            Some(fence) => self.ring0.learn(fence)?,
            None if self.ring0.timeline.is_lost() => return Err(Error::Lost),
            None => return Err(Error::Busy),
        };
        // Now all fills before it are known, too.
        self.judge_pieces();
        let bo = self.memory.bos.get_mut(id)?;
        if let Contents::Clearing(clearing) = &mut bo.contents {
            clearing.note(verdict);
            if clearing.error.is_none() {
                bo.contents = Contents::InPlace;
            }
        }
        Ok(bo.contents)
    }
}
