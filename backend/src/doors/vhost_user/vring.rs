//! A virtqueue as this door uses it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use rustix::io::Errno;
use virtio_queue::{DescriptorChain, Error as QueueError, Queue, QueueOwnedT, QueueT};
use vm_memory::{GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};

use super::QUEUE_SIZE;
use crate::doors::lent::LentEvent;
use crate::sigbus;

/// Guest memory; QEMU replaces the table behind it now and then.
pub(super) type Memory = GuestMemoryAtomic<GuestMemoryMmap>;
/// One table of guest memory, held for the time of an access.
pub(super) type Table = <Memory as GuestAddressSpace>::T;
/// A chain of descriptors that the guest made available.
pub(super) type Chain = DescriptorChain<Table>;

/// The queue's rings make no sense; it cannot be served any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueueBroken {
    /// The available ring cannot be read or its index leaps.
    #[error("its available ring is unusable ({0})")]
    Available(QueueError),
    /// The used ring cannot be written.
    #[error("its used ring is unusable ({0})")]
    Used(QueueError),
    /// The chain loops or leaves its table.
    #[error("the descriptor chain at {head} loops, leaves the table or promises more than 4 GiB")]
    Chain {
        /// The descriptor it begins with.
        head: u16,
    },
    /// The guest cannot be told that something was used.
    #[error("its call descriptor does not take a signal ({0})")]
    Call(Errno),
}

/// Guest-physical addresses of a queue's rings.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingsAt {
    pub(super) descriptors: GuestAddress,
    pub(super) available: GuestAddress,
    pub(super) used: GuestAddress,
}

/// One queue. A clone is the same queue.
#[derive(Clone)]
pub(super) struct Vring(Arc<Mutex<State>>);

struct State {
    queue: Queue,
    enabled: bool,
    call: Option<LentEvent>,
}

impl Vring {
    /// A queue that is stopped and of [`QUEUE_SIZE`] entries.
    pub(super) fn new() -> Result<Self, QueueError> {
        let state = State {
            queue: Queue::new(QUEUE_SIZE)?,
            enabled: false,
            call: None,
        };
        Ok(Self(Arc::new(Mutex::new(state))))
    }

    /// Whether QEMU has the queue started and enabled.
    pub(super) fn is_running(&self) -> bool {
        let state = self.0.lock();
        state.queue.ready() && state.enabled
    }

    /// The next chain that the guest made available.
    pub(super) fn pop(&self, table: &Table) -> Result<Option<Chain>, QueueBroken> {
        let mut state = self.0.lock();
        let available = state.queue.iter(table.clone());
        Ok(available.map_err(QueueBroken::Available)?.next())
    }

    /// Gives chain `head` back with `bytes` bytes written to it.
    pub(super) fn push_used(
        &self,
        table: &Table,
        head: u16,
        bytes: usize,
    ) -> Result<(), QueueBroken> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let queue = &mut self.0.lock().queue;
        queue
            .add_used(&**table, head, bytes)
            .map_err(QueueBroken::Used)
    }

    /// Tells the guest to look at the used ring.
    pub(super) fn signal(&self) -> Result<(), QueueBroken> {
        let state = self.0.lock();
        let told = state.call.as_ref().map_or(Ok(()), LentEvent::signal);
        told.map_err(QueueBroken::Call)
    }

    /// Whom to tell of what was used.
    pub(super) fn set_call(&self, call: Option<LentEvent>) {
        self.0.lock().call = call;
    }

    /// Starts or stops the queue.
    pub(super) fn set_ready(&self, ready: bool) {
        self.0.lock().queue.set_ready(ready);
    }

    /// Whether a queue that is started is served.
    pub(super) fn set_enabled(&self, enabled: bool) {
        self.0.lock().enabled = enabled;
    }

    /// # Errors
    /// A queue cannot have so many entries.
    pub(super) fn set_size(&self, entries: u32) -> Result<(), QueueError> {
        let size = u16::try_from(entries).map_err(|_| QueueError::InvalidSize)?;
        self.0.lock().queue.try_set_size(size)
    }

    /// The place of the next entry of the available ring.
    pub(super) fn base(&self) -> u16 {
        self.0.lock().queue.next_avail()
    }

    /// The same, set.
    pub(super) fn set_base(&self, base: u16) {
        self.0.lock().queue.set_next_avail(base);
    }

    /// Where the rings are. The used ring tells how much was used, since only the
    /// other side of that is told by [`Self::set_base`].
    ///
    /// # Errors
    /// They cannot be there.
    pub(super) fn set_rings(&self, table: &Table, at: RingsAt) -> Result<(), QueueError> {
        let queue = &mut self.0.lock().queue;
        queue.try_set_desc_table_address(at.descriptors)?;
        queue.try_set_avail_ring_address(at.available)?;
        queue.try_set_used_ring_address(at.used)?;
        // No session of the GPU is there.
        let _scope = sigbus::Scope::enter();
        let used = queue.used_idx(&**table, Ordering::Acquire)?;
        queue.set_next_used(used.0);
        Ok(())
    }
}
