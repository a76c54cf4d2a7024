//! What one client has given the GPU and the GPU has not done yet: bounded, so
//! that the ring stays short for everybody else.

use crate::Error;
use crate::bo::accounts::ClientId;
use alloc::collections::VecDeque;

/// Bytes that a client's unfinished jobs write, together. One larger job is
/// let in by itself.
pub const CLIENT_BYTES: u64 = 64 << 20;
/// Unfinished jobs of a client.
pub const CLIENT_JOBS: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Job {
    fence: u64,
    bytes: u64,
}

/// One client of an adapter, from [`Adapter::open_client`](crate::Adapter::open_client)
/// to [`Adapter::close_client`](crate::Adapter::close_client).
#[derive(Debug)]
pub struct Client {
    pub(crate) id: ClientId,
    /// Unfinished jobs, oldest first.
    jobs: VecDeque<Job>,
}

impl Client {
    pub(crate) const fn new(id: ClientId) -> Self {
        Self {
            id,
            jobs: VecDeque::new(),
        }
    }

    /// Makes sure that the client may submit a job of `bytes` once `completed`
    /// is done, and that [`Self::charge`] has room for it.
    ///
    /// # Errors
    /// [`Error::Busy`] beyond the client's bound: wait for a fence and try
    /// again. [`Error::NoMemory`].
    pub(crate) fn admit(&mut self, completed: u64, bytes: u64) -> Result<(), Error> {
        while self.jobs.front().is_some_and(|job| job.fence <= completed) {
            self.jobs.pop_front();
        }
        let outstanding: u64 = self.jobs.iter().map(|job| job.bytes).sum();
        let too_much = outstanding.saturating_add(bytes) > CLIENT_BYTES;
        if !self.jobs.is_empty() && (too_much || self.jobs.len() >= CLIENT_JOBS) {
            return Err(Error::Busy);
        }
        self.jobs.try_reserve(1)?;
        Ok(())
    }

    /// Books a job that was submitted.
    pub(crate) fn charge(&mut self, fence: u64, bytes: u64) {
        self.jobs.push_back(Job { fence, bytes });
    }
}
