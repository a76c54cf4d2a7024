//! A virtqueue as this door uses it.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, MutexGuard};

use parking_lot::Mutex;
use rustix::io::Errno;

use vhost_user_backend::{VringMutex, VringState, VringStateGuard, VringStateMutGuard, VringT};
use virtio_queue::{DescriptorChain, Error as QueueError, QueueOwnedT, QueueT};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};

use crate::lent::{self, LentEvent};
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

/// [`VringMutex`] with descriptors that nobody waits for, and a kick that may be
/// empty: when QEMU stops and starts a queue at once, the queue thread can hold
/// an event of the old descriptor and read the new one, and the crate's thread
/// would end of that.
#[derive(Clone)]
pub struct Vring {
    queue: VringMutex<Memory>,
    /// Not in `queue`: the crate writes to it as to any file.
    call: Arc<Mutex<Option<LentEvent>>>,
}

impl Vring {
    /// Whether QEMU has the queue started and enabled.
    pub(super) fn is_running(&self) -> bool {
        let state = self.get_ref();
        state.get_queue().ready() && state.is_enabled()
    }

    /// The next chain that the guest made available.
    pub(super) fn pop(&self, table: &Table) -> Result<Option<Chain>, QueueBroken> {
        let mut state = self.get_mut();
        let queue = state.get_queue_mut();
        let mut available = queue.iter(table.clone()).map_err(QueueBroken::Available)?;
        Ok(available.next())
    }

    /// Gives chain `head` back with `bytes` bytes written to it.
    pub(super) fn push_used(&self, head: u16, bytes: usize) -> Result<(), QueueBroken> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.add_used(head, bytes).map_err(QueueBroken::Used)
    }

    /// Tells the guest to look at the used ring.
    pub(super) fn signal(&self) -> Result<(), QueueBroken> {
        let call = self.call.lock();
        let told = call.as_ref().map_or(Ok(()), LentEvent::signal);
        told.map_err(QueueBroken::Call)
    }
}

/// `file`, if it may be an eventfd.
fn event(file: Option<File>, what: &str) -> Option<File> {
    let event = file.filter(|file| lent::is_event(file));
    if event.is_none() {
        tracing::debug!("no eventfd for the {what}: it is not used");
    }
    event
}

impl<'a> VringStateGuard<'a, Memory> for Vring {
    type G = MutexGuard<'a, VringState<Memory>>;
}

impl<'a> VringStateMutGuard<'a, Memory> for Vring {
    type G = MutexGuard<'a, VringState<Memory>>;
}

impl VringT<Memory> for Vring {
    fn new(memory: Memory, max_queue_size: u16) -> Result<Self, QueueError> {
        Ok(Self {
            queue: VringMutex::new(memory, max_queue_size)?,
            call: Arc::default(),
        })
    }

    fn read_kick(&self) -> io::Result<bool> {
        let state = self.get_ref();
        let Some(kick) = state.get_kick() else {
            return Ok(false);
        };
        // SAFETY: the guard keeps `kick` in place, and that is open.
        let kick = unsafe { BorrowedFd::borrow_raw(kick.as_raw_fd()) };
        Ok(lent::take(kick)? && state.is_enabled())
    }

    fn get_ref(&self) -> MutexGuard<'_, VringState<Memory>> {
        self.queue.get_ref()
    }

    fn get_mut(&self) -> MutexGuard<'_, VringState<Memory>> {
        self.queue.get_mut()
    }

    fn add_used(&self, head: u16, bytes: u32) -> Result<(), QueueError> {
        let _scope = sigbus::Scope::enter();
        self.queue.add_used(head, bytes)
    }

    fn signal_used_queue(&self) -> io::Result<()> {
        self.signal().map_err(io::Error::other)
    }

    fn enable_notification(&self) -> Result<bool, QueueError> {
        let _scope = sigbus::Scope::enter();
        self.queue.enable_notification()
    }

    fn disable_notification(&self) -> Result<(), QueueError> {
        let _scope = sigbus::Scope::enter();
        self.queue.disable_notification()
    }

    fn needs_notification(&self) -> Result<bool, QueueError> {
        let _scope = sigbus::Scope::enter();
        self.queue.needs_notification()
    }

    fn set_enabled(&self, enabled: bool) {
        self.queue.set_enabled(enabled);
    }

    fn set_queue_info(&self, table: u64, available: u64, used: u64) -> Result<(), QueueError> {
        self.queue.set_queue_info(table, available, used)
    }

    fn queue_next_avail(&self) -> u16 {
        self.queue.queue_next_avail()
    }

    fn set_queue_next_avail(&self, index: u16) {
        self.queue.set_queue_next_avail(index);
    }

    fn set_queue_next_used(&self, index: u16) {
        self.queue.set_queue_next_used(index);
    }

    fn queue_used_idx(&self) -> Result<u16, QueueError> {
        // The crate asks while it takes a message: no session of the GPU is there.
        let _scope = sigbus::Scope::enter();
        self.queue.queue_used_idx()
    }

    fn set_queue_size(&self, size: u16) {
        self.queue.set_queue_size(size);
    }

    fn set_queue_event_idx(&self, enabled: bool) {
        self.queue.set_queue_event_idx(enabled);
    }

    fn set_queue_ready(&self, ready: bool) {
        self.queue.set_queue_ready(ready);
    }

    fn set_kick(&self, file: Option<File>) {
        self.queue.set_kick(event(file, "kick"));
    }

    fn set_call(&self, file: Option<File>) {
        let event = file.map(|file| LentEvent::new(file.into()));
        *self.call.lock() = event.and_then(Result::ok);
    }

    fn set_err(&self, _: Option<File>) {
        // Nothing is ever told by it.
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{FromRawFd, IntoRawFd};

    use vmm_sys_util::eventfd::EventFd;

    use super::*;

    #[test]
    fn a_kick_that_the_client_makes_wait_is_not_waited_for() {
        let vring = Vring::new(Memory::new(GuestMemoryMmap::new()), 16).unwrap();
        let kick = EventFd::new(0).unwrap();
        // SAFETY: `into_raw_fd` gives the descriptor away to this File alone.
        let file = unsafe { File::from_raw_fd(kick.try_clone().unwrap().into_raw_fd()) };
        let lent = rustix::fs::fcntl_getfl(&file).unwrap();
        assert!(!lent.contains(rustix::fs::OFlags::NONBLOCK));
        vring.set_kick(Some(file));
        vring.set_enabled(true);
        assert!(!vring.read_kick().unwrap());
    }

    #[test]
    fn descriptors_of_other_kinds_are_not_used() {
        let vring = Vring::new(Memory::new(GuestMemoryMmap::new()), 16).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        for lent in [File::open("/").unwrap(), file.try_clone().unwrap()] {
            vring.set_call(Some(lent.try_clone().unwrap()));
            vring.set_kick(Some(lent));
            vring.signal().unwrap();
            assert!(!vring.read_kick().unwrap());
        }
        assert_eq!(std::io::Read::read(&mut file, &mut [0]).unwrap(), 0);
        assert_eq!(file.metadata().unwrap().len(), 0);
    }

    #[test]
    fn a_kick_that_was_taken_already_is_neither_waited_for_nor_an_error() {
        let vring = Vring::new(Memory::new(GuestMemoryMmap::new()), 16).unwrap();
        let kick = EventFd::new(0).unwrap();
        // SAFETY: `into_raw_fd` gives the descriptor away to this File alone.
        let file = unsafe { File::from_raw_fd(kick.try_clone().unwrap().into_raw_fd()) };
        vring.set_kick(Some(file));
        vring.set_enabled(true);
        assert!(!vring.read_kick().unwrap());
        kick.write(1).unwrap();
        assert!(vring.read_kick().unwrap());
    }
}
