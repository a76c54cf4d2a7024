//! Queue 1: interrupts (docs/virtio-binding.md 5).

use std::sync::Arc;

use parking_lot::Mutex;
use presil_device::Gpu;
use vm_memory::GuestAddressSpace;

use super::QUEUE_SIZE;
use super::buffers::Buffers;
use super::counters::DoorCounters;
use super::vring::{Memory, QueueBroken, Vring};
use crate::shared_gpu::{InterruptPort, Way};

/// Bytes of an event.
const EVENT_BYTES: usize = 16;

/// The queue of events between the GPU and one guest driver.
pub(super) struct EventQueue {
    memory: Memory,
    counters: Arc<DoorCounters>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The queue, while the driver may be sent events.
    vring: Option<Vring>,
    /// Of the last event.
    sequence: u64,
    /// The guest has spoilt the queue.
    broken: bool,
}

impl EventQueue {
    pub(super) fn new(memory: Memory, counters: Arc<DoorCounters>) -> Self {
        Self {
            memory,
            counters,
            state: Mutex::default(),
        }
    }

    /// The driver has posted buffers on `vring`.
    pub(super) fn open(&self, vring: &Vring) {
        self.state.lock().vring.get_or_insert_with(|| vring.clone());
    }

    /// Nothing is sent until [`Self::open`].
    pub(super) fn close(&self) {
        self.state.lock().vring = None;
    }

    /// A new driver: its events count from 1.
    pub(super) fn reset(&self) {
        *self.state.lock() = State::default();
    }
}

impl State {
    /// Sends events as long as sources wait and buffers are there.
    fn deliver(
        &mut self,
        gpu: &mut Gpu,
        memory: &Memory,
        counters: &DoorCounters,
    ) -> Result<(), QueueBroken> {
        let running = self
            .vring
            .clone()
            .filter(|vring| !self.broken && vring.is_running());
        let Some(vring) = running else {
            return Ok(());
        };
        let table = memory.memory();
        let mut used = false;
        for _ in 0..QUEUE_SIZE {
            if !gpu.interrupt_pending() {
                break;
            }
            let Some(chain) = vring.pop(&table)? else {
                break;
            };
            let head = chain.head_index();
            let buffers = Buffers::of(chain)?;
            let mut bytes = 0;
            if buffers.readable_bytes() == 0 && buffers.can_take(&table, EVENT_BYTES) {
                bytes = buffers.write(&table, &self.next_event(gpu));
                counters.events.add(1);
            }
            vring.push_used(&table, head, bytes)?;
            used = true;
        }
        if used { vring.signal() } else { Ok(()) }
    }

    fn next_event(&mut self, gpu: &mut Gpu) -> [u8; EVENT_BYTES] {
        let latched = gpu.latch_interrupts();
        self.sequence += 1;
        let mut event = [0; EVENT_BYTES];
        let (status, sequence) = event.split_at_mut(8);
        let (biu, advanced) = status.split_at_mut(4);
        biu.copy_from_slice(&latched.biu.to_le_bytes());
        advanced.copy_from_slice(&latched.advanced.to_le_bytes());
        sequence.copy_from_slice(&self.sequence.to_le_bytes());
        event
    }
}

impl InterruptPort for Arc<EventQueue> {
    fn deliver(&mut self, gpu: &mut Gpu) {
        let mut state = self.state.lock();
        if let Err(error) = state.deliver(gpu, &self.memory, &self.counters) {
            tracing::warn!("event queue stopped until the next reset: {error}");
            state.broken = true;
        }
    }
    fn way(&self, gpu: &Gpu) -> Way {
        let state = self.state.lock();
        let closed = match &state.vring {
            _ if state.broken => Some("the guest has spoilt the event queue; the log says how"),
            Some(vring) if !vring.is_running() => Some("the event queue is not enabled"),
            // It would have been sent already.
            Some(_) if gpu.interrupt_pending() => {
                Some("the driver has posted no buffer on the event queue")
            }
            Some(_) => None,
            None => Some("the driver has posted no buffer on the event queue yet"),
        };
        Way {
            kind: "the event queue",
            closed,
        }
    }
}
