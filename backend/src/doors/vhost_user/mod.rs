//! The vhost-user door: the GPU as a virtio device of QEMU's
//! `vhost-user-test-device-pci`. What the guest sees is docs/virtio-binding.md.
//!
//! One thread serves one client: messages and kicks in turns, so that they take
//! effect one after the other. One more asks for the VRAM window.
//!
//! Rules of QEMU 11.1 that this door keeps, since breaking one ends the VM:
//! exactly `PROTOCOL_FEATURES`, a map only between `DRIVER_OK` and reset and
//! from its own thread, no wait in a configuration handler but for the GPU's
//! lock (a slice of work at most), no signal without a used buffer.

#[cfg(any(test, fuzzing))]
pub mod any_queue;
mod buffers;
mod channel;
mod config_space;
mod connection;
mod counters;
mod events;
mod handler;
#[cfg(test)]
mod hostile_chains;
#[cfg(test)]
mod hostile_mailbox;
mod requests;
mod vring;
mod window;
mod wire;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use parking_lot::Mutex;
use presil_device::NoMemory;
use vm_memory::{GuestAddressSpace, GuestMemoryMmap};

use self::buffers::Buffers;
use self::channel::Channel;
use self::config_space::{Live, Words};
use self::events::EventQueue;
use self::requests::RECORD_BYTES;
use self::vring::{QueueBroken, Table, Vring};
use self::window::{TableNews, Window};
use crate::doors::system_memory::GuestRam;
use crate::service::life::Presence;
use crate::shared_gpu::{Session, SharedGpu};
use crate::thread;

pub(crate) use self::config_space::CONFIG_BYTES;
pub use self::connection::{ConnectionError, serve, serve_client};
pub use self::counters::DoorCounters;
pub use self::handler::Refused;

/// The virtio device id (PCI 1af4:1066): QEMU knows its name, Linux has no driver for it.
pub(crate) const VIRTIO_ID: u32 = 38;
/// Queues: requests and events.
pub(crate) const QUEUES: usize = 2;
/// Entries of a queue.
pub(crate) const QUEUE_SIZE: u16 = 1024;

/// The vhost-user bit that allows protocol features. With it queues are enabled
/// by messages of their own.
const RINGS_ARE_ENABLED_BY_MESSAGE: u64 = 1 << 30;
/// With `VIRTIO_F_VERSION_1`.
const FEATURES: u64 = 1 << 32 | RINGS_ARE_ENABLED_BY_MESSAGE;

/// Messages are answered that have no reply of their own, if their sender wants it.
const REPLY_ACK: u64 = 1 << 3;
/// QEMU 11.1 crashes or hangs with some others, and needs all of these: `MQ`,
/// `REPLY_ACK`, `BACKEND_REQ`, `CONFIG`, `BACKEND_SEND_FD`, `SHMEM`.
const PROTOCOL_FEATURES: u64 = 1 << 0 | REPLY_ACK | 1 << 5 | 1 << 9 | 1 << 10 | 1 << 22;

const REQUEST_QUEUE: usize = 0;
const EVENT_QUEUE: usize = 1;
/// Most requests that are answered before the client's messages are looked at.
const SHARE: usize = 8;

/// The door of one connection.
pub struct Door {
    gpu: Arc<SharedGpu>,
    presence: Arc<Presence>,
    counters: Arc<DoorCounters>,
    memory: vring::Memory,
    window: Arc<Window>,
    events: Arc<EventQueue>,
    /// The guest has spoilt the request queue; until the next reset. Changes
    /// only in a [`Session`].
    requests_broken: AtomicBool,
    /// What the driver has written into its configuration space.
    words: Mutex<Words>,
    config_write_logged: AtomicBool,
}

impl Door {
    /// A door to `gpu`, and the guest memory behind it.
    pub fn new(
        gpu: Arc<SharedGpu>,
        presence: Arc<Presence>,
        counters: Arc<DoorCounters>,
        memory: vring::Memory,
    ) -> Self {
        let events = Arc::new(EventQueue::new(memory.clone(), Arc::clone(&counters)));
        gpu.set_interrupt_port(Some(Box::new(Arc::clone(&events))));
        gpu.enter().hold_engine(true);
        let window = Arc::new(Window::new(gpu.vram(), Arc::clone(&counters)));
        Self {
            gpu,
            presence,
            counters,
            memory,
            window,
            events,
            requests_broken: AtomicBool::new(false),
            words: Mutex::default(),
            config_write_logged: AtomicBool::new(false),
        }
    }

    /// The device is stopped: after this nothing of the guest's memory is
    /// touched, and the engine rests. The first queue that stops does it all.
    fn stop(&self) {
        // The lock is what a running request or engine slice is waited for with.
        let mut session = self.gpu.enter();
        session.hold_engine(true);
        self.events.close();
        if self.window.stop() {
            // A lost GPU touches nothing either.
            let _ = session.run(|gpu| gpu.set_memory(Box::new(NoMemory)));
            tracing::debug!("device stopped");
        }
    }

    /// The device is started, or guest memory has changed under it.
    fn take_memory(&self) {
        let table = self.memory.memory().into_inner();
        let mut session = self.gpu.enter();
        let news = self.window.take_table(&table);
        if news == TableNews::Idle {
            return;
        }
        if news == TableNews::Started {
            self.events.reset();
            self.requests_broken.store(false, Ordering::Relaxed);
            *self.words.lock() = Words::default();
            self.config_write_logged.store(false, Ordering::Relaxed);
        }
        // A lost GPU needs nothing of this.
        let _ = session.run(|gpu| {
            if news == TableNews::Started {
                gpu.reset();
            }
            let memory = GuestRam::new(table, gpu.vram());
            gpu.set_memory(Box::new(memory));
        });
        session.hold_engine(false);
        tracing::debug!("guest memory: {news:?}");
    }

    /// Waits for whoever uses a queue now; nobody does while the result lives. A
    /// queue that is stopped meanwhile is not touched any more.
    fn wait_for_queues(&self) -> Session<'_> {
        self.gpu.enter()
    }

    /// The connection is over: whoever still waits for its client stops that.
    fn retire(&self) {
        self.stop();
        self.window.retire();
    }

    /// Whether the last start came without guest memory.
    fn is_without_memory(&self) -> bool {
        self.window.is_without_memory()
    }

    /// Serves a share of what queue `index` holds. Says whether there may be more.
    fn serve_queue(&self, index: usize, vring: &Vring) -> bool {
        let served = thread::contain("serving a queue", || match index {
            REQUEST_QUEUE => (0..SHARE).all(|_| self.serve_request(vring)),
            EVENT_QUEUE => {
                self.take_event_buffers(vring);
                false
            }
            _ => false,
        });
        served.unwrap_or(false)
    }

    /// Serves one request, if there is one and the driver is there.
    fn serve_request(&self, vring: &Vring) -> bool {
        let mut session = self.gpu.enter();
        let broken = self.requests_broken.load(Ordering::Relaxed);
        if broken || !self.window.is_live() || !vring.is_running() {
            return false;
        }
        self.answer_next(vring, &mut session)
            .unwrap_or_else(|error| {
                tracing::warn!("request queue stopped until the next reset: {error}");
                self.requests_broken.store(true, Ordering::Relaxed);
                false
            })
    }

    fn answer_next(&self, vring: &Vring, session: &mut Session<'_>) -> Result<bool, QueueBroken> {
        let table: Table = self.memory.memory();
        let Some(chain) = vring.pop(&table)? else {
            return Ok(false);
        };
        let head = chain.head_index();
        let buffers = Buffers::of(chain)?;
        let served = requests::serve(&buffers, &table, |operation| {
            session.run(|gpu| operation.run(gpu))
        });
        self.counters.requests.add(1);
        self.counters.operations.add(u64::from(served.operations));
        vring.push_used(&table, head, served.bytes)?;
        vring.signal()?;
        Ok(true)
    }

    fn config_space(&self) -> [u8; CONFIG_BYTES] {
        let live = Live {
            ready: self.window.ready(),
            lost: self.gpu.is_lost(),
            words: *self.words.lock(),
        };
        config_space::blob(self.gpu.config(), live)
    }

    /// Runs what lies in the driver's mailbox, before the driver goes on.
    fn answer_doorbell(&self, words: Words) {
        let mut session = self.gpu.enter();
        if !self.window.is_live() {
            return;
        }
        let table: Table = self.memory.memory();
        let buffers = Buffers::adjacent(words.mailbox, words.operations() * RECORD_BYTES);
        let served = requests::serve(&buffers, &table, |operation| {
            session.run(|gpu| operation.run(gpu))
        });
        self.counters.doorbells.add(1);
        self.counters.operations.add(u64::from(served.operations));
        if served.bytes == 0 {
            self.log_config_write("announces no operation, or a mailbox outside guest memory");
        }
    }

    /// Once until the next reset.
    fn log_config_write(&self, what: &str) {
        if !self.config_write_logged.swap(true, Ordering::Relaxed) {
            tracing::warn!("a write of the guest to its configuration space {what}");
        }
    }

    fn take_event_buffers(&self, vring: &Vring) {
        // The end of the session sends what waits.
        let _session = self.gpu.enter();
        if self.window.is_live() && vring.is_running() {
            self.events.open(vring);
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.retire();
        self.gpu.set_interrupt_port(None);
    }
}

/// What a client's messages do.
impl Door {
    /// QEMU's first question: somebody who speaks vhost-user is here.
    fn greet(&self) {
        self.presence.attach();
    }

    /// QEMU says so when the guest sets `DRIVER_OK`.
    fn begin(&self) {
        thread::contain("starting the device", || {
            self.stop();
            self.window.start();
        });
    }

    /// Bytes of the VRAM window.
    fn window_bytes(&self) -> u64 {
        self.gpu.config().visible_bytes
    }

    fn config(&self, offset: u32, bytes: u32) -> Vec<u8> {
        self.counters.config_reads.add(1);
        config_space::slice(&self.config_space(), offset, bytes)
    }

    fn set_config(&self, offset: u32, bytes: &[u8]) {
        self.counters.config_writes.add(1);
        let (before, now) = {
            let mut words = self.words.lock();
            let before = *words;
            *words = before.written(offset, bytes);
            (before, *words)
        };
        if now.doorbell != before.doorbell {
            thread::contain("answering a doorbell", || self.answer_doorbell(now));
        }
        if config_space::spoils(&self.config_space(), offset, bytes) {
            self.log_config_write("was to what is read-only, and changes nothing");
        }
    }

    fn set_memory(&self, table: GuestMemoryMmap) {
        self.replace_memory(table);
        thread::contain("taking a memory table", || self.take_memory());
    }

    /// The device is stopped and will not be started with this memory again.
    fn forget_memory(&self) {
        self.replace_memory(GuestMemoryMmap::new());
        *self.words.lock() = Words::default();
    }

    fn replace_memory(&self, table: GuestMemoryMmap) {
        let place = self.memory.lock();
        place.unwrap_or_else(PoisonError::into_inner).replace(table);
    }

    fn set_channel(&self, channel: Channel) {
        self.window.set_channel(Some(channel));
    }
}

#[cfg(test)]
mod tests {
    use presil_device::{Chip, Config};
    use vm_memory::GuestAddress;

    use super::*;

    /// A door whose driver has started, and which maps no window.
    pub(super) fn started_door() -> (Arc<SharedGpu>, Door) {
        let config = Config::new(Chip::Arise10c0, 1 << 30, 512 << 20, true).unwrap();
        let gpu = SharedGpu::start(config).unwrap();
        let ram = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
        let memory = vring::Memory::new(ram);
        let door = Door::new(Arc::clone(&gpu), Arc::default(), Arc::default(), memory);
        door.begin();
        door.take_memory();
        (gpu, door)
    }

    #[test]
    fn a_lost_gpu_is_told_in_the_configuration_space_and_the_door_lives_on() {
        let (gpu, door) = started_door();
        assert_eq!(door.config(0x28, 4), [0; 4]);
        assert!(gpu.enter().run(|_| panic!("on purpose")).is_err());
        assert_eq!(door.config(0x28, 4), [1, 0, 0, 0]);
        door.stop();
        door.begin();
        door.take_memory();
        assert!(door.window.is_live());
    }

    #[test]
    fn a_queue_that_is_stopped_or_unknown_is_not_served() {
        let (_gpu, door) = started_door();
        let vring = Vring::new().unwrap();
        for queue in [REQUEST_QUEUE, EVENT_QUEUE, 7] {
            assert!(!door.serve_queue(queue, &vring));
        }
        assert_eq!(door.counters.requests.get(), 0);
    }
}
