//! The GPU as a whole: the blocks, and what a function reset does to them.

use crate::biu::{Biu, InterruptSink};
use crate::broken::Broken;
use crate::config::Config;
use crate::counters::Counters;
use crate::csp::{Board, Csp, CspError, FenceRecord, Progress, RingStatus, UnmetWait};
use crate::display;
use crate::latched::Latched;
use crate::memory::{SystemMemory, Vram};
use crate::mmu::{FaultRecord, Mxu, Place, Request, TlbEntry, Walk};
use crate::power::Power;
use crate::storage::Storage;
use crate::watch::{Event, Off, On, Onlooker, Watch, Watcher};
use e3k_regs::fields::{EngineReset, FaultClient};
use e3k_regs::{BusAddr, GpuVa};
use std::io;
use std::sync::Arc;

/// One GPU, powered on.
pub struct Gpu {
    pub(crate) storage: Storage,
    pub(crate) biu: Biu,
    pub(crate) mxu: Mxu,
    pub(crate) csp: Csp,
    pub(crate) power: Power,
    /// Not saved.
    pub(crate) watch: Option<Watcher>,
}

impl Gpu {
    /// Powers a GPU on. It reaches no system memory until [`Self::set_memory`].
    ///
    /// # Errors
    /// VRAM could not be made: no memory, or no address space for it.
    pub fn new(config: &Config, interrupts: Box<dyn InterruptSink>) -> io::Result<Self> {
        let mut gpu = Self {
            storage: Storage::new(),
            biu: Biu::new(interrupts),
            mxu: Mxu::new(config.clone(), config.vram_seed)?,
            csp: Csp::new(),
            power: Power::default(),
            watch: None,
        };
        gpu.set_watch(None);
        Ok(gpu)
    }

    /// Replaces the machine's memory. When this returns, the old one is not
    /// used any more.
    pub fn set_memory(&mut self, memory: Box<dyn SystemMemory>) {
        self.mxu.memory.system = memory;
    }

    /// Tells whoever watches that the function leaves D0: [`Self::step`] is not called until
    /// it is back, and that is a reset. The GPU itself does nothing.
    pub fn sleeps(&mut self) {
        let watch = self.watch.as_ref().map(On);
        watch.saw(&Event::Sleeps, &self.mxu.look());
    }

    /// Tells whoever watches that the bus addresses `first..=last` are about to be unmapped
    /// for DMA. Call it before the memory of [`Self::set_memory`] stops to answer there;
    /// the GPU itself does nothing.
    pub fn dma_unmaps(&mut self, first: BusAddr, last: BusAddr) {
        let watch = self.watch.as_ref().map(On);
        watch.saw(&Event::DmaUnmaps { first, last }, &self.mxu.look());
    }

    /// From now on tells `watch` of everything that happens, and asks it; `None`: nobody.
    /// The defects of the configuration stay. A saved state has neither.
    pub fn set_watch(&mut self, watch: Option<Box<dyn Watch>>) {
        let Config { defects, .. } = self.config();
        let watch = if defects.is_empty() {
            watch
        } else {
            Some(Box::new(Broken::new(defects.iter()).beside(watch)) as Box<dyn Watch>)
        };
        self.watch = watch.map(Watcher::new);
    }

    /// Lets the engines work until about `budget` is spent: every four bytes copied and
    /// every eight filled cost 1, each packet, piece and table walk has its price. 64 Ki are some
    /// 20 to 50 µs of a host's time, whatever the work is. At least one piece is
    /// done, so repeated calls with any budget come to an end of any finite work.
    pub fn step(&mut self, budget: u32) -> Progress {
        let watcher = self.watch.take();
        let progress = match &watcher {
            None => self.step_with(Off, budget),
            Some(watcher) => self.step_with(On(watcher), budget),
        };
        self.watch = watcher;
        progress
    }

    fn step_with<W: Onlooker>(&mut self, watch: W, budget: u32) -> Progress {
        let Self {
            storage,
            biu,
            mxu,
            csp,
            ..
        } = self;
        let mut board = Board {
            mxu,
            biu,
            storage,
            watch,
        };
        let progress = csp.step(&mut board, budget);
        self.settle(watch, false);
        progress
    }

    /// Whether [`Self::step`] would do anything.
    pub fn has_work(&self) -> bool {
        self.csp.has_work()
    }

    /// Function reset (FLR, virtio reset): registers, rings, TLB and interrupts
    /// as after power-on. VRAM, fault history and counters stay.
    pub fn reset(&mut self) {
        let Self {
            storage,
            biu,
            mxu,
            csp,
            power,
            watch,
        } = self;
        mxu.counters.resets += 1;
        let watch = watch.as_ref().map(On);
        watch.saw(&Event::Reset, &mxu.look());
        storage.reset();
        biu.reset();
        mxu.reset(watch);
        csp.reset();
        *power = Power::default();
    }

    /// Tells the GPU the time, in nanoseconds since any fixed moment. It has no
    /// clock of its own; an earlier time than the last is ignored. A frame that
    /// has ended since the last call signals its vertical blank.
    pub fn set_clock(&mut self, now: u64) {
        let frame = display::frame(self.csp.clock());
        self.csp.set_clock(now);
        if display::frame(self.csp.clock()) != frame && self.config().vsync {
            let watcher = self.watch.take();
            let watch = watcher.as_ref().map(On);
            if self.biu.vsync() || self.biu.is_late(watch) {
                self.settle(watch, true);
            }
            self.watch = watcher;
        }
    }

    /// When the next vertical blank is that somebody waits for, by the clock
    /// of [`Self::set_clock`].
    pub fn next_vsync(&self) -> Option<u64> {
        let watch = self.watch.as_ref().map(On);
        let wanted = self.config().vsync && (self.biu.wants_vsync() || self.biu.is_late(watch));
        wanted.then(|| display::frame_end(self.csp.clock()))
    }

    /// Whether the interrupt line is up.
    pub fn interrupt_pending(&self) -> bool {
        self.biu.line()
    }

    /// Latches and clears the pending sources, as a write to 0x8574 does.
    pub fn latch_interrupts(&mut self) -> Latched {
        let latched = self.biu.latch(self.watch.as_ref().map(On));
        let watch = self.watch.as_ref().map(On);
        watch.saw(&Event::Latched(latched), &self.mxu.look());
        self.settle_watched();
        latched
    }

    /// Whether the machine lets the GPU use its memory.
    pub fn bus_master(&self) -> bool {
        self.mxu.memory.system.bus_master()
    }

    /// Local memory. It may be used while the GPU works.
    pub fn vram(&self) -> &Arc<Vram> {
        &self.mxu.memory.vram
    }

    /// What it was made from.
    pub fn config(&self) -> &Config {
        self.mxu.config()
    }

    /// What has happened since power-on.
    pub fn counters(&self) -> Counters {
        self.mxu.counters
    }

    /// The last 1024 faults, oldest first.
    pub fn faults(&self) -> impl Iterator<Item = &FaultRecord> {
        self.mxu.faults.history()
    }

    /// The last 1024 ring errors, oldest first.
    pub fn ring_errors(&self) -> impl Iterator<Item = &CspError> {
        self.csp.errors()
    }

    /// The last 1024 Waits that were passed without being satisfied, oldest first.
    pub fn unmet_waits(&self) -> impl Iterator<Item = &UnmetWait> {
        self.csp.unmet_waits()
    }

    /// All ten rings as they stand, ring 0 first.
    pub fn rings(&self) -> impl Iterator<Item = RingStatus> {
        self.csp.rings()
    }

    /// The last 64 fences that were written to memory, oldest first. A saved state
    /// does not have them.
    pub fn fences(&self) -> impl Iterator<Item = &FenceRecord> {
        self.csp.fences()
    }

    /// The valid entries in the TLBs of a process id and of an address's page, or of
    /// all, and what the tables say of each now; nothing is counted and nothing
    /// faults. Every one costs a walk of the tables.
    pub fn tlb(&self, process_id: Option<u8>, at: Option<GpuVa>) -> impl Iterator<Item = TlbEntry> {
        self.mxu.held(process_id, at)
    }

    /// What the tables in memory say about an address now, and what the TLBs hold
    /// of it, without any effect on these, the counters or the fault registers.
    pub fn walk(&self, process_id: u8, at: GpuVa) -> Walk {
        self.mxu.inspect(process_id, at)
    }

    /// Translates as a client's access does, with every effect on the TLBs, the
    /// counters and the fault registers. Returns the VRAM offset or the bus address;
    /// `None` for a fault. Nothing is accessed there.
    pub fn translate(&mut self, client: FaultClient, process_id: u8, at: GpuVa) -> Option<u64> {
        let request = Request {
            client,
            process_id,
            write: false,
        };
        if self.watch.is_some() {
            return self.translate_watched(request, at);
        }
        let place = self.mxu.translate(Off, request, at);
        place.ok().map(Place::address)
    }

    #[cold]
    #[inline(never)]
    fn translate_watched(&mut self, request: Request, at: GpuVa) -> Option<u64> {
        let watch = self.watch.as_ref().map(On);
        let place = self.mxu.translate(watch, request, at);
        place.ok().map(Place::address)
    }

    /// 0x8524: units with a one stop at once and lose their state; they run
    /// again after a zero and new set-up.
    pub(crate) fn engine_reset<W: Onlooker>(&mut self, watch: W, units: EngineReset) {
        self.csp.hold_in_reset(watch, units);
        if units.all() {
            self.mxu.flush(watch);
        }
    }

    fn settle_watched(&mut self) {
        let watcher = self.watch.take();
        self.settle(watcher.as_ref().map(On), false);
        self.watch = watcher;
    }

    /// Turns what the blocks have signalled into interrupts.
    pub(crate) fn settle<W: Onlooker>(&mut self, watch: W, frame_ends: bool) {
        if !self.mxu.fault_pending() {
            self.csp.faults_acknowledged();
        }
        let faults = &mut self.mxu.faults;
        if std::mem::take(&mut faults.translation) {
            self.biu.page_fault();
        }
        if std::mem::take(&mut faults.bus) {
            self.biu.master_abort();
        }
        if self.biu.settle(watch, frame_ends) {
            self.mxu.counters.interrupts += 1;
            watch.saw(&Event::Interrupt, &self.mxu.look());
        }
    }
}
