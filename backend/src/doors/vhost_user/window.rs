//! The driver's `DRIVER_OK`, and the VRAM window that is mapped while it stands.
//!
//! QEMU takes `SHMEM_MAP` only between the guest's `DRIVER_OK` and its reset,
//! and it answers on the thread that may be waiting for us: so the map is sent
//! by a thread of its own, which nobody waits for. The map of a `DRIVER_OK` is
//! an epoch; the answer to a map counts only while its epoch lasts.
//!
//! QEMU shows a reset and a pause of the whole VM in the same way, but a reset
//! takes the window away and a pause does not: the memory table that comes
//! with the next start tells them apart.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use presil_device::Vram;
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use super::channel::Channel;
use super::counters::DoorCounters;
use crate::doors::system_memory::FileKey;
use crate::thread;

/// How long QEMU may take from its first message of a start to the memory
/// table, which is the next but few.
const TABLE_TIME: Duration = Duration::from_secs(1);

/// The window of one connection.
pub(super) struct Window {
    vram: Arc<Vram>,
    counters: Arc<DoorCounters>,
    state: Mutex<State>,
    changed: Condvar,
    /// The epoch whose window is mapped, or 0; read without a lock.
    ready: AtomicU32,
    /// The last start came without a memory table.
    without_memory: AtomicBool,
}

#[derive(Default)]
struct State {
    channel: Option<Arc<Channel>>,
    phase: Phase,
    /// The current epoch, or the last.
    epoch: u32,
    /// The memory table names VRAM: QEMU has the window mapped.
    shown: bool,
    /// A thread is on its way to map; it looks again before it ends.
    mapping: bool,
    /// That thread, or the one before.
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// No driver, or a paused VM.
    #[default]
    Stopped,
    /// `DRIVER_OK` is set, guest memory is not known yet.
    Starting,
    /// The driver is served.
    Live,
}

/// What a memory table means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TableNews {
    /// No driver is there to use it.
    Idle,
    /// A driver has started; the GPU function was reset before.
    Started,
    /// The VM runs on after a pause.
    Resumed,
    /// Memory has changed under a running driver.
    Changed,
}

impl Window {
    pub(super) fn new(vram: Arc<Vram>, counters: Arc<DoorCounters>) -> Self {
        Self {
            vram,
            counters,
            state: Mutex::default(),
            changed: Condvar::new(),
            ready: AtomicU32::new(0),
            without_memory: AtomicBool::new(false),
        }
    }

    /// The channel on which QEMU takes requests. Nobody waits at the one before.
    pub(super) fn set_channel(&self, channel: Option<Channel>) {
        let before = std::mem::replace(&mut self.state.lock().channel, channel.map(Arc::new));
        if let Some(before) = before {
            before.close();
        }
    }

    /// What the guest reads as READY. Never waits.
    pub(super) fn ready(&self) -> u32 {
        self.ready.load(Ordering::Acquire)
    }

    /// Whether the driver is served.
    pub(super) fn is_live(&self) -> bool {
        self.state.lock().phase == Phase::Live
    }

    /// Whether QEMU had no guest memory to share at the last start.
    pub(super) fn is_without_memory(&self) -> bool {
        self.without_memory.load(Ordering::Acquire)
    }

    /// The device is started; its memory table follows.
    pub(super) fn start(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.phase = Phase::Starting;
        self.ready.store(0, Ordering::Release);
        self.without_memory.store(false, Ordering::Release);
        self.ensure_thread(&mut state);
    }

    /// A memory table has arrived.
    pub(super) fn take_table(self: &Arc<Self>, table: &GuestMemoryMmap) -> TableNews {
        let mut state = self.state.lock();
        state.shown = self.is_shown_in(table);
        match state.phase {
            Phase::Stopped => return TableNews::Idle,
            Phase::Live => return TableNews::Changed,
            Phase::Starting => state.phase = Phase::Live,
        }
        self.without_memory.store(false, Ordering::Release);
        self.ensure_thread(&mut state);
        if state.shown && state.epoch != 0 {
            self.ready.store(state.epoch, Ordering::Release);
            TableNews::Resumed
        } else {
            state.epoch = state.epoch.checked_add(1).unwrap_or(1);
            TableNews::Started
        }
    }

    /// The device is stopped, by a reset or a pause. Says whether it had run.
    pub(super) fn stop(&self) -> bool {
        let mut state = self.state.lock();
        self.ready.store(0, Ordering::Release);
        self.changed.notify_all();
        std::mem::replace(&mut state.phase, Phase::Stopped) != Phase::Stopped
    }

    /// The connection is over, and the device stopped. Waits for the thread that maps.
    pub(super) fn retire(&self) {
        self.set_channel(None);
        let thread = self.state.lock().thread.take();
        // Its top has told of a panic.
        let _ = thread.map(JoinHandle::join);
    }

    /// Whether `table` contains the window: the beginning of VRAM's own file.
    fn is_shown_in(&self, table: &GuestMemoryMmap) -> bool {
        let Ok(vram) = FileKey::of(self.vram.file()) else {
            return false;
        };
        table.iter().any(|region| {
            region.len() == self.vram.visible_bytes()
                && region.file_offset().is_some_and(|backing| {
                    backing.start() == 0 && FileKey::of(backing.file()).is_ok_and(|it| it == vram)
                })
        })
    }

    fn ensure_thread(self: &Arc<Self>, state: &mut State) {
        self.changed.notify_all();
        if state.mapping {
            return;
        }
        let window = Arc::clone(self);
        match thread::spawn("window", move || window.map_epochs()) {
            Ok(thread) => {
                state.mapping = true;
                state.thread = Some(thread);
            }
            Err(error) => tracing::error!("cannot start the thread that maps VRAM: {error}"),
        }
    }

    /// Maps each epoch once, until there is none to map.
    fn map_epochs(&self) {
        let mut asked = 0;
        loop {
            let mut state = self.state.lock();
            self.await_memory(&mut state);
            let epoch = state.epoch;
            let due = state.phase == Phase::Live && self.ready() != epoch && asked != epoch;
            let Some(channel) = state.channel.clone().filter(|_| due) else {
                state.mapping = false;
                return;
            };
            drop(state);
            let answer = channel.map(self.vram.visible_bytes(), self.vram.file());
            asked = epoch;
            self.settle(epoch, &answer);
        }
    }

    /// Waits for the memory table of a start.
    fn await_memory(&self, state: &mut MutexGuard<'_, State>) {
        let starting = |state: &mut State| state.phase == Phase::Starting;
        let waited = self.changed.wait_while_for(state, starting, TABLE_TIME);
        if waited.timed_out() && state.phase == Phase::Starting {
            self.without_memory.store(true, Ordering::Release);
            tracing::error!("{}", crate::doors::system_memory::MEMORY_NOT_SHARED);
        }
    }

    fn settle(&self, epoch: u32, answer: &io::Result<()>) {
        let state = self.state.lock();
        if state.phase != Phase::Live || state.epoch != epoch {
            tracing::info!("the guest was reset while its VRAM window was being mapped");
            return;
        }
        match answer {
            // QEMU refuses a second map while the first stands.
            Err(error) if !state.shown => tracing::error!(
                "QEMU did not map the VRAM window ({error}); the guest driver will find no VRAM. \
                 QEMU 11.1 or newer is needed, with the options of --print-qemu-args"
            ),
            _ => {
                self.ready.store(epoch, Ordering::Release);
                self.counters.maps.add(1);
                tracing::info!("VRAM window mapped (epoch {epoch})");
            }
        }
    }
}
