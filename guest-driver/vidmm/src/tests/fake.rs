//! A machine that only remembers: registers hold what is written, nothing
//! runs. The test plays the GPU.

use crate::bo::Backing;
use crate::platform::{Interrupts, LogLevel, Platform, Registers, VramWindow};
use crate::{
    Adapter, Caching, Error, InitReport, Options, Patience, RegisterOp, SegmentId, SystemInfo, Wake,
};
use e3k_regs::fields::RingWord;
use e3k_regs::{BusAddr, PAGE_SIZE, Reg, VramOffset};
use presil_allocator::spared;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

pub(super) const VRAM_BYTES: u64 = 256 << 20;
pub(super) const VISIBLE_BYTES: u64 = 16 << 20;
/// What the CPU's physical address of VRAM offset 0 is.
pub(super) const WINDOW_AT: u64 = 0xE000_0000;
/// The snooped and the unsnooped segment, small so that tests can look at every entry.
pub(super) const OPTIONS: Options = Options {
    snoop_bytes: 8 << 20,
    unsnoop_bytes: 8 << 20,
    client_percent: 50,
    idle_timeout_ns: 1_000,
};

/// Shared state; clones are the same machine.
#[derive(Clone)]
pub(super) struct Fake(Rc<State>);

pub(super) struct State {
    vram: RefCell<Vec<u32>>,
    registers: RefCell<BTreeMap<u32, u32>>,
    pages: RefCell<BTreeMap<u64, u64>>,
    next_page: Cell<u64>,
    fallible_calls: Cell<u64>,
    pub(super) fail_at: Cell<Option<u64>>,
    pub(super) fail_from: Cell<bool>,
    pub(super) page_bytes: Cell<u64>,
    pub(super) ram_bytes: Cell<u64>,
    pub(super) vram_told: Cell<Option<u64>>,
    pub(super) window_works: Cell<bool>,
    /// Registers that swallow writes.
    pub(super) stuck: RefCell<BTreeSet<u32>>,
    pub(super) now_ns: Cell<u64>,
    pub(super) on_wait: RefCell<Option<Box<dyn FnMut()>>>,
    /// What [`Interrupts::deliver`] does.
    pub(super) on_deliver: RefCell<Option<Box<dyn FnMut()>>>,
    /// What happens just before the engine is reset.
    pub(super) on_engine_reset: RefCell<Option<Box<dyn FnMut()>>>,
    pub(super) interrupted: Cell<bool>,
    /// Register writes that no read has pushed to the device yet.
    posted: Cell<u64>,
    /// The device may reach memory.
    pub(super) dma: Cell<bool>,
    /// Register writes before it first could.
    pub(super) writes_before_dma: Cell<usize>,
    /// How often VRAM is still not ready when asked.
    pub(super) slow_ready: Cell<u32>,
    /// Dwords written through the window.
    pub(super) stored: Cell<u64>,
    /// Some of them the GPU may not see yet: no barrier has followed.
    unordered: Cell<bool>,
    /// There are processes: what a fresh table of theirs leads to, nobody uses until the TLBs
    /// were told, so that its L1 register may be written before.
    pub(super) has_processes: Cell<bool>,
    pub(super) log: RefCell<Vec<String>>,
    /// Every register write, in order.
    pub(super) writes: RefCell<Vec<(u32, u32)>>,
}

/// Frames `first..first + count`, each at bus address `bus()` of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pages {
    first: u64,
    count: u64,
}

fn bus(frame: u64) -> u64 {
    // Neighbours in a vector are not neighbours on the bus.
    (frame * 7919 % 0xFFFF1 + 1) * PAGE_SIZE
}

impl std::ops::Deref for Fake {
    type Target = State;
    fn deref(&self) -> &State {
        &self.0
    }
}

impl Fake {
    pub(super) fn new() -> Self {
        Self(Rc::new(State {
            vram: RefCell::new(vec![0x5A5A_5A5A; (VISIBLE_BYTES / 4) as usize]),
            registers: RefCell::new(BTreeMap::from([(Reg::MemReady.offset(), 0xDEAD_BEAF)])),
            pages: RefCell::default(),
            next_page: Cell::new(100),
            fallible_calls: Cell::new(0),
            fail_at: Cell::new(None),
            fail_from: Cell::new(false),
            page_bytes: Cell::new(PAGE_SIZE),
            ram_bytes: Cell::new(1 << 30),
            vram_told: Cell::new(Some(VRAM_BYTES)),
            window_works: Cell::new(true),
            stuck: RefCell::default(),
            now_ns: Cell::new(0),
            on_wait: RefCell::default(),
            on_deliver: RefCell::default(),
            on_engine_reset: RefCell::default(),
            interrupted: Cell::new(false),
            posted: Cell::new(0),
            dma: Cell::new(false),
            writes_before_dma: Cell::new(0),
            slow_ready: Cell::new(0),
            stored: Cell::new(0),
            unordered: Cell::new(false),
            has_processes: Cell::new(false),
            log: RefCell::default(),
            writes: RefCell::default(),
        }))
    }

    pub(super) fn start(&self) -> Adapter<Self> {
        Adapter::init(self.clone(), OPTIONS, &mut InitReport::default()).unwrap()
    }

    /// Lets the `n`-th fallible call from now on fail, counting from 1.
    pub(super) fn fail_call(&self, n: u64) {
        self.fallible_calls.set(0);
        self.fail_at.set(Some(n));
    }

    /// True if the call that was to fail has come.
    pub(super) fn has_failed(&self) -> bool {
        self.fail_at
            .get()
            .is_some_and(|n| self.fallible_calls.get() >= n)
    }

    fn may_fail(&self) -> bool {
        let calls = self.fallible_calls.get() + 1;
        self.fallible_calls.set(calls);
        let at = self.fail_at.get();
        at == Some(calls) || (self.fail_from.get() && at.is_some_and(|at| calls > at))
    }

    /// Registers that do not hold 0.
    pub(super) fn registers(&self) -> BTreeMap<u32, u32> {
        let all = self.registers.borrow();
        all.iter()
            .filter(|(_, v)| **v != 0)
            .map(|(o, v)| (*o, *v))
            .collect()
    }

    pub(super) fn set_register(&self, offset: u32, value: u32) {
        self.registers.borrow_mut().insert(offset, value);
    }

    /// The GPU writes a word of VRAM.
    pub(super) fn store(&self, at: VramOffset, value: u32) {
        self.vram.borrow_mut()[(at.0 / 4) as usize] = value;
    }

    /// RAM pages that were handed out and not given back.
    pub(super) fn live_pages(&self) -> u64 {
        self.pages.borrow().values().sum()
    }

    /// The GPU has read the ring up to its tail and `fence` is done; no interrupt yet.
    pub(super) fn finish(&self, adapter: &Adapter<Self>, fence: u64) {
        let tail = self.registers.borrow()[&RingWord::Tail.offset(0)];
        self.set_register(RingWord::Head.offset(0), tail);
        write_fence(fence_frame(adapter), fence);
    }

    /// The same, with the interrupt.
    pub(super) fn complete(&self, adapter: &Adapter<Self>, fence: u64) {
        self.finish(adapter, fence);
        adapter.timeline().interrupt(fence, 0, 1 << 27);
    }

    /// Asserts the invariants of the memory manager that a call must leave true.
    pub(super) fn check(&self, adapter: &Adapter<Self>) {
        let memory = &adapter.memory;
        let mut pages = 0;
        let mut bound = BTreeMap::new();
        for id in SegmentId::ALL {
            let segment = memory.mm_mgr.segments.get(id);
            let here = || {
                memory
                    .bos
                    .iter()
                    .filter(|(_, bo)| bo.resource.is_some_and(|r| r.segment == id))
            };
            let usage: u64 = here().map(|(_, bo)| bo.booked_bytes()).sum();
            let pinned: u64 = here()
                .filter(|(_, bo)| bo.pins > 0)
                .map(|(_, bo)| bo.booked_bytes())
                .sum();
            assert_eq!(segment.usage, usage, "usage of {}", id.name());
            assert_eq!(segment.manager.booked_pages() * PAGE_SIZE, usage);
            assert_eq!(segment.pinned, pinned, "pinned of {}", id.name());
        }
        for (id, bo) in memory.bos.iter() {
            pages += bo.backing.pages().map_or(0, |p| p.count);
            if let Backing::Bound(p) = &bo.backing {
                let snoop = bo.resource.unwrap().segment == SegmentId::PcieSnoop;
                let first = memory.va(id).unwrap().page();
                for n in 0..bo.pages {
                    let pte = memory
                        .mm_mgr
                        .chip
                        .system_pte(BusAddr(bus(p.first + n)), snoop);
                    bound.insert(first + n, pte);
                }
            }
        }
        assert_eq!(self.live_pages(), pages, "every page has an owner");
        let start = memory.mm_mgr.vm_info.pcie.start.page();
        for page in start..start + (OPTIONS.snoop_bytes + OPTIONS.unsnoop_bytes) / PAGE_SIZE {
            let at = adapter
                .gart
                .tables
                .l3_entry(e3k_regs::GpuVa::from_page(page));
            let want = bound.get(&page).copied().unwrap_or(adapter.gart.dummy_pte);
            assert_eq!(self.load_u32(at), want, "PTE of page {page:#x}");
        }
    }
}

thread_local! {
    static FENCES: RefCell<BTreeMap<u64, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// The GPU writes a fence to the memory at this frame.
pub(super) fn write_fence(frame: u64, fence: u64) {
    FENCES.with(|f| f.borrow_mut().insert(frame, fence));
}

/// The frame whose beginning is fence memory.
pub(super) fn fence_frame(adapter: &Adapter<Fake>) -> u64 {
    let fence = |bo: &crate::bo::Bo<Pages>| {
        bo.resource
            .is_some_and(|r| r.segment == SegmentId::PcieSnoop)
            && bo.pins > 0
    };
    let (id, _) = adapter.memory.bos.iter().find(|(_, bo)| fence(bo)).unwrap();
    adapter
        .memory
        .bos
        .get(id)
        .unwrap()
        .backing
        .pages()
        .unwrap()
        .first
}

impl Platform for Fake {
    type Pages = Pages;

    fn system_info(&self) -> SystemInfo {
        SystemInfo {
            total_bytes: self.ram_bytes.get(),
            free_bytes: 1 << 29,
            page_bytes: self.page_bytes.get(),
        }
    }

    fn alloc_pages(&self, count: usize, _: Caching) -> Result<Pages, Error> {
        if self.may_fail() {
            return Err(Error::NoMemory);
        }
        let first = self.next_page.get();
        let count = count as u64;
        self.next_page.set(first + count);
        spared(|| self.pages.borrow_mut().insert(first, count));
        FENCES.with(|f| f.borrow_mut().remove(&first));
        Ok(Pages { first, count })
    }

    fn free_pages(&self, pages: Pages) {
        assert_eq!(self.posted.get(), 0, "the device does not know yet");
        assert_eq!(
            self.pages.borrow_mut().remove(&pages.first),
            Some(pages.count)
        );
    }

    fn bus_addr(&self, pages: &Pages, index: usize) -> Option<BusAddr> {
        let inside = (index as u64) < pages.count && !self.may_fail();
        inside.then(|| BusAddr(bus(pages.first + index as u64)))
    }

    fn frame(&self, pages: &Pages, index: usize) -> Option<u64> {
        let inside = (index as u64) < pages.count && !self.may_fail();
        inside.then(|| bus(pages.first + index as u64) / PAGE_SIZE)
    }

    fn load_u64(&self, pages: &Pages, offset: usize) -> u64 {
        assert_eq!(offset, 0);
        FENCES.with(|f| f.borrow().get(&pages.first).copied().unwrap_or(0))
    }

    fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }

    fn log(&self, _: LogLevel, line: fmt::Arguments<'_>) {
        spared(|| self.log.borrow_mut().push(line.to_string()));
    }
}

impl Registers for Fake {
    fn access(&self, ops: &mut [RegisterOp]) -> Result<(), Error> {
        if self.may_fail() {
            return Err(Error::Io);
        }
        let resets = |op: &RegisterOp| op.write && op.offset == Reg::EngineReset.offset();
        if ops.iter().any(|op| resets(op) && op.value != 0)
            && let Some(callback) = &mut *self.on_engine_reset.borrow_mut()
        {
            callback();
        }
        let mut registers = self.registers.borrow_mut();
        for op in ops {
            self.posted
                .set(if op.write { self.posted.get() + 1 } else { 0 });
            if !op.write {
                op.value = registers.get(&op.offset).copied().unwrap_or(0);
                let slow = self.slow_ready.get();
                if op.offset == Reg::MemReady.offset() && slow > 0 {
                    self.slow_ready.set(slow - 1);
                    op.value = 0;
                }
                continue;
            }
            let triggers = [
                Reg::PtInvTrig.offset(),
                RingWord::Address.offset(0),
                RingWord::Tail.offset(0),
            ];
            let looks = !self.has_processes.get() || triggers.contains(&op.offset);
            assert!(
                !looks || !self.unordered.get(),
                "register {:#x} is written before what was stored in VRAM is visible",
                op.offset
            );
            let kickoff = op.offset == RingWord::Address.offset(0) && op.value != 0;
            assert!(!kickoff || self.dma.get(), "a ring runs without DMA");
            spared(|| self.writes.borrow_mut().push((op.offset, op.value)));
            let trigger = [Reg::PtInvTrig.offset(), Reg::BiuShadow.offset()].contains(&op.offset);
            if !trigger && !self.stuck.borrow().contains(&op.offset) {
                spared(|| registers.insert(op.offset, op.value));
            }
        }
        Ok(())
    }

    fn set_dma(&self, on: bool) {
        let known = self.posted.get() == 0 || self.has_failed();
        assert!(known, "the device does not know yet");
        self.dma.set(on);
        if on {
            self.writes_before_dma.set(self.writes.borrow().len());
        }
    }
}

impl VramWindow for Fake {
    fn vram_bytes(&self) -> Option<u64> {
        self.vram_told.get()
    }

    fn visible_bytes(&self) -> u64 {
        VISIBLE_BYTES
    }

    fn cpu_address(&self, at: VramOffset) -> u64 {
        WINDOW_AT + at.0
    }

    fn load_u32(&self, at: VramOffset) -> u32 {
        if self.window_works.get() {
            self.vram.borrow()[(at.0 / 4) as usize]
        } else {
            0
        }
    }

    fn store_u32(&self, at: VramOffset, values: &[u32]) {
        let first = (at.0 / 4) as usize;
        self.stored.set(self.stored.get() + values.len() as u64);
        self.vram.borrow_mut()[first..first + values.len()].copy_from_slice(values);
        self.unordered.set(true);
    }

    fn write_barrier(&self) {
        self.unordered.set(false);
    }
}

impl Interrupts for Fake {
    fn wait(&self, patience: Patience, timeout_ns: u64, ready: &mut dyn FnMut() -> bool) -> Wake {
        if self.interrupted.get() && patience == Patience::UntilSignal {
            return Wake::Interrupted;
        }
        let callback = self.on_wait.borrow_mut().take();
        if let Some(mut callback) = callback {
            callback();
        }
        if ready() {
            return Wake::Ready;
        }
        self.now_ns.set(self.now_ns.get() + timeout_ns);
        Wake::TimedOut
    }

    fn deliver(&self) -> bool {
        if let Some(deliver) = &mut *self.on_deliver.borrow_mut() {
            deliver();
        }
        true
    }
}
