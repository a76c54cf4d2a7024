//! The vhost-user door: the GPU as a virtio device of QEMU's
//! `vhost-user-test-device-pci`. What the guest sees is docs/virtio-binding.md.
//!
//! Rules of QEMU 11.1 that this door keeps, since breaking one ends the VM:
//! exactly `PROTOCOL_FEATURES`, a map only between `DRIVER_OK` and reset and
//! from its own thread, no wait in a configuration handler but for the GPU's
//! lock (a slice of work at most), no signal without a used buffer.

#[cfg(any(test, fuzzing))]
pub mod any_queue;
mod buffers;
mod config_space;
mod connection;
mod counters;
mod events;
#[cfg(test)]
mod hostile_chains;
#[cfg(test)]
mod hostile_mailbox;
mod requests;
mod stuck_thread;
mod vring;
mod window;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use presil_device::NoMemory;
use vhost::vhost_user::Backend;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserShMemConfig};
use vhost_user_backend::VhostUserBackend;
use vm_memory::{GuestAddressSpace, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};
use vmm_sys_util::epoll::EventSet;

use self::buffers::Buffers;
use self::config_space::{Live, Words};
use self::events::EventQueue;
use self::requests::RECORD_BYTES;
use self::vring::{QueueBroken, Table};
use self::window::{TableNews, Window};
use crate::lent::{MAX_ADDRESS_SPACE, fault_of};
use crate::life::Presence;
use crate::shared_gpu::{Session, SharedGpu};
use crate::system_memory::GuestRam;
use crate::thread;

pub(crate) use self::config_space::CONFIG_BYTES;
pub use self::connection::{ConnectionError, serve};
pub use self::counters::DoorCounters;
pub use self::vring::Vring;

/// The virtio device id (PCI 1af4:1066): QEMU knows its name, Linux has no driver for it.
pub(crate) const VIRTIO_ID: u32 = 38;
/// Queues: requests and events.
pub(crate) const QUEUES: usize = 2;
/// Entries of a queue.
pub(crate) const QUEUE_SIZE: usize = 1024;

/// `VIRTIO_F_VERSION_1` and the vhost-user bit that allows protocol features.
const FEATURES: u64 = 1 << 32 | 1 << 30;

/// QEMU 11.1 crashes or hangs with some others, and needs all of these.
const PROTOCOL_FEATURES: VhostUserProtocolFeatures = VhostUserProtocolFeatures::MQ
    .union(VhostUserProtocolFeatures::REPLY_ACK)
    .union(VhostUserProtocolFeatures::BACKEND_REQ)
    .union(VhostUserProtocolFeatures::CONFIG)
    .union(VhostUserProtocolFeatures::BACKEND_SEND_FD)
    .union(VhostUserProtocolFeatures::SHMEM);

/// Most regions of guest memory, as in one message; each has a mapping and a
/// descriptor. The crate counts none: a client may add them one by one, by a
/// protocol feature that was not offered.
const MAX_REGIONS: usize = 32;

const REQUEST_QUEUE: u16 = 0;
const EVENT_QUEUE: u16 = 1;
/// What is no queue, but the end of the thread that serves them. The crate
/// keeps the number behind the last queue for itself.
const END: u16 = 3;

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
    /// A door to `gpu`, and the guest memory that the vhost crates fill for it.
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
    fn take_memory(&self, memory: &vring::Memory) {
        let table = memory.memory().into_inner();
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
            gpu.set_memory(Box::new(GuestRam::new(table)));
        });
        session.hold_engine(false);
        tracing::debug!("guest memory: {news:?}");
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

    fn serve_requests(&self, vring: &Vring) {
        while self.serve_request(vring) {}
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
        vring.push_used(head, served.bytes)?;
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

/// What is wrong with guest memory that the crate has mapped already.
fn check_table(table: &GuestMemoryMmap) -> io::Result<()> {
    let refused = |why: String| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    let regions = table.num_regions();
    if regions > MAX_REGIONS {
        return refused(format!(
            "guest memory in {regions} regions: at most {MAX_REGIONS} for one client"
        ));
    }
    let mut taken = 0_u64;
    for region in table.iter() {
        taken = taken.saturating_add(region.len());
        if let Some(place) = region.file_offset()
            && let Some(fault) = fault_of(place.file(), place.start(), region.len())?
        {
            return refused(fault.to_owned());
        }
    }
    if taken > MAX_ADDRESS_SPACE {
        return refused(format!(
            "guest memory of {taken} bytes: at most {MAX_ADDRESS_SPACE} for one client"
        ));
    }
    Ok(())
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop();
        self.gpu.set_interrupt_port(None);
    }
}

impl VhostUserBackend for Door {
    type Bitmap = ();
    type Vring = Vring;

    fn num_queues(&self) -> usize {
        QUEUES
    }

    fn max_queue_size(&self) -> usize {
        QUEUE_SIZE
    }

    /// QEMU's first question: somebody who speaks vhost-user is here.
    fn features(&self) -> u64 {
        self.presence.attach();
        FEATURES
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        PROTOCOL_FEATURES
    }

    /// QEMU sends this when the guest sets `DRIVER_OK`.
    fn acked_features(&self, _: u64) {
        thread::contain("starting the device", || {
            self.stop();
            self.window.start();
        });
    }

    fn set_event_idx(&self, _: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        self.counters.config_reads.add(1);
        config_space::slice(&self.config_space(), offset, size)
    }

    fn set_config(&self, offset: u32, bytes: &[u8]) -> io::Result<()> {
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
        Ok(())
    }

    fn update_memory(&self, memory: vring::Memory) -> io::Result<()> {
        if let Err(error) = check_table(&memory.memory()) {
            // The table is in place already.
            if let Ok(place) = memory.lock() {
                place.replace(GuestMemoryMmap::new());
            }
            return Err(error);
        }
        thread::contain("taking a memory table", || self.take_memory(&memory));
        Ok(())
    }

    fn set_backend_req_fd(&self, channel: Backend) {
        self.window.set_channel(channel);
    }

    fn get_shmem_config(&self) -> io::Result<VhostUserShMemConfig> {
        Ok(VhostUserShMemConfig::new(
            1,
            &[self.gpu.config().visible_bytes],
        ))
    }

    fn queues_per_thread(&self) -> Vec<u64> {
        vec![(1 << QUEUES) - 1]
    }

    /// A reset or a pause, as QEMU shows them.
    fn stop_vring(&self, _: u32) -> io::Result<()> {
        thread::contain("stopping the device", || self.stop());
        Ok(())
    }

    fn handle_event(&self, queue: u16, _: EventSet, vrings: &[Vring], _: usize) -> io::Result<()> {
        if queue == END {
            return Err(io::Error::other("the connection is over"));
        }
        self.counters.kicks.add(1);
        let Some(vring) = vrings.get(usize::from(queue)) else {
            return Ok(());
        };
        thread::contain("serving a queue", || match queue {
            REQUEST_QUEUE => self.serve_requests(vring),
            EVENT_QUEUE => self.take_event_buffers(vring),
            _ => {}
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use presil_device::{Chip, Config};
    use vhost_user_backend::VringT;
    use vm_memory::GuestAddress;

    use super::*;

    /// A door whose driver has started, and which maps no window.
    pub(super) fn started_door() -> (Arc<SharedGpu>, Door) {
        let config = Config::new(Chip::Arise10c0, 1 << 30, 512 << 20, true).unwrap();
        let gpu = SharedGpu::start(config).unwrap();
        let ram = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
        let memory = vring::Memory::new(ram);
        let door = Door::new(
            Arc::clone(&gpu),
            Arc::default(),
            Arc::default(),
            memory.clone(),
        );
        door.acked_features(FEATURES);
        door.update_memory(memory).unwrap();
        (gpu, door)
    }

    #[test]
    fn a_lost_gpu_is_told_in_the_configuration_space_and_the_door_lives_on() {
        let (gpu, door) = started_door();
        assert_eq!(door.get_config(0x28, 4), [0; 4]);
        assert!(gpu.enter().run(|_| panic!("on purpose")).is_err());
        assert_eq!(door.get_config(0x28, 4), [1, 0, 0, 0]);
        door.stop_vring(0).unwrap();
        door.acked_features(FEATURES);
        door.update_memory(door.memory.clone()).unwrap();
        assert!(door.window.is_live());
    }

    #[test]
    fn a_kick_of_a_queue_that_is_stopped_or_unknown_is_ignored() {
        let (_gpu, door) = started_door();
        let vring = Vring::new(door.memory.clone(), 16).unwrap();
        for queue in [REQUEST_QUEUE, EVENT_QUEUE, 7] {
            let vrings = [vring.clone(), vring.clone()];
            door.handle_event(queue, EventSet::IN, &vrings, 0).unwrap();
        }
        assert_eq!(door.counters.kicks.get(), 3);
        assert_eq!(door.counters.requests.get(), 0);
    }
}
