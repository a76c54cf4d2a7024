//! What the driver runs on: its platform traits, implemented on a [`Gpu`] and
//! a [`Ram`]. Time passes only when nothing else can happen. Any thread may call it.

use crate::checked;
use crate::cpu::WriteBuffer;
use crate::ram::Ram;
use e3k_regs::Reg;
use e3k_regs::fields::RingWord;
use presil_device::checker::Reports;
use presil_device::{
    BusAddr, Config, Gpu, InterruptSink, NoMemory, Progress, Vram, VramOffset, Width,
};
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, ThreadId};
use vidmm::{
    Caching, Error, Interrupts, LogLevel, Patience, Platform, RegisterOp, Registers, SystemInfo,
    Timeline, VramWindow, Wake,
};

/// The CPU's physical address of VRAM's first byte.
pub const WINDOW_AT: u64 = 0x20_0000_0000;
const STEP: u32 = 65536;

/// The machine; clones are the same machine.
#[derive(Clone)]
pub struct Machine(Arc<State>);

struct State {
    gpu: Mutex<Gpu>,
    reports: Reports,
    /// Rules of the driver checker that this test breaks.
    expected: Mutex<Vec<u32>>,
    vram: Arc<Vram>,
    ram: Ram,
    /// Stores to the window that no barrier has followed, the user's too.
    window: Mutex<WriteBuffer>,
    /// Whose they are, of the driver's threads.
    unordered: Mutex<HashSet<ThreadId>>,
    line: Arc<AtomicBool>,
    /// Held while the handler runs: once at a time.
    timeline: Mutex<Option<Weak<Timeline<Machine>>>>,
    now_ns: AtomicU64,
    log: Mutex<Vec<String>>,
    deaf: AtomicBool,
    dma: AtomicBool,
    mute: AtomicBool,
    outside: Mutex<fn(bool)>,
    fallible_calls: AtomicU64,
    /// 0: none.
    fail_call: AtomicU64,
    unplugged: AtomicBool,
    frozen: Mutex<Option<Frozen>>,
    hangs_at_faults: AtomicBool,
    /// Registers written and what with, if they are to be written down.
    written: Mutex<Option<Vec<(u32, u32)>>>,
}

impl Drop for State {
    fn drop(&mut self) {
        let gpu = self.gpu.get_mut().unwrap_or_else(PoisonError::into_inner);
        checked::end(gpu, &self.reports, &lock(&self.expected));
    }
}

/// A failed test tells why once, not in every thread.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a GPU does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frozen {
    /// Until its engine is reset.
    UntilReset,
    /// For ever.
    ForGood,
}

/// Whether a write of this register has the GPU read what the CPU stored: page tables, or
/// a ring. (L1 registers do not: what a fresh table leads to, nobody uses until the TLBs
/// were told.)
fn is_looked_behind(register: u32) -> bool {
    let ring = [RingWord::Address, RingWord::Tail].map(|word| word.offset(0));
    register == Reg::PtInvTrig.offset() || ring.contains(&register)
}

/// The interrupt line: wakes somebody, does nothing else.
pub(crate) struct Line(pub(crate) Arc<AtomicBool>);

impl InterruptSink for Line {
    fn raise(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The driver has called the machine, until this is dropped.
struct Outside(fn(bool));

impl Drop for Outside {
    fn drop(&mut self) {
        (self.0)(false);
    }
}

/// Frames by bus address, which is their physical address.
#[derive(Debug)]
pub struct Pages(Vec<u64>);

impl Machine {
    /// A machine with this GPU in it.
    ///
    /// # Errors
    /// No memory for VRAM.
    pub fn new(config: &Config) -> io::Result<Self> {
        let line = Arc::new(AtomicBool::new(false));
        let mut gpu = Gpu::new(config, Box::new(Line(Arc::clone(&line))))?;
        let ram = Ram::new();
        gpu.set_memory(Box::new(ram.clone()));
        let reports = checked::watch(&mut gpu, &ram);
        Ok(Self(Arc::new(State {
            vram: Arc::clone(gpu.vram()),
            gpu: Mutex::new(gpu),
            reports,
            expected: Mutex::default(),
            ram,
            window: Mutex::new(WriteBuffer::new()),
            unordered: Mutex::default(),
            line,
            timeline: Mutex::default(),
            now_ns: AtomicU64::new(0),
            log: Mutex::default(),
            deaf: AtomicBool::new(false),
            dma: AtomicBool::new(false),
            mute: AtomicBool::new(false),
            outside: Mutex::new(|_| {}),
            fallible_calls: AtomicU64::new(0),
            fail_call: AtomicU64::new(0),
            unplugged: AtomicBool::new(false),
            frozen: Mutex::default(),
            hangs_at_faults: AtomicBool::new(false),
            written: Mutex::default(),
        })))
    }

    /// The RAM.
    pub fn ram(&self) -> &Ram {
        &self.0.ram
    }

    /// Local memory, all of it, as only a test can see it.
    pub fn vram(&self) -> &Vram {
        &self.0.vram
    }

    /// Looks at the GPU from outside.
    pub fn gpu<T>(&self, look: impl FnOnce(&mut Gpu) -> T) -> T {
        look(&mut lock(&self.0.gpu))
    }

    /// The test breaks a rule of the driver checker on purpose.
    pub fn expect_reports_of(&self, rule: u32) {
        lock(&self.0.expected).push(rule);
    }

    /// The rules of the driver checker that have found something so far, in order.
    pub fn reported(&self) -> Vec<u32> {
        let found = self.0.reports.list().into_iter();
        let mut rules: Vec<_> = found.map(|report| report.rule.0).collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    /// Where interrupts go from now on.
    pub fn connect(&self, timeline: &Arc<Timeline<Self>>) {
        *lock(&self.0.timeline) = Some(Arc::downgrade(timeline));
    }

    /// Whether the driver lets the GPU use the bus.
    pub fn has_dma(&self) -> bool {
        self.0.dma.load(Ordering::SeqCst)
    }

    /// While true, interrupts are latched and thrown away.
    pub fn set_deaf(&self, deaf: bool) {
        self.0.deaf.store(deaf, Ordering::SeqCst);
    }

    /// While false, the GPU reaches no RAM.
    pub fn set_bus_master(&self, on: bool) {
        self.expect_reports_of(50007); // a fence cannot be written
        self.gpu(|gpu| {
            if on {
                gpu.set_memory(Box::new(self.0.ram.clone()));
            } else {
                gpu.set_memory(Box::new(NoMemory));
            }
        });
    }

    /// While true, interrupts are lost on their way, and what they would tell stays
    /// in the GPU: as with MSIs of a function that is no bus master.
    pub fn set_mute(&self, mute: bool) {
        self.0.mute.store(mute, Ordering::SeqCst);
    }

    /// Hears true whenever the driver calls the machine, false when it returns: what
    /// happens in between is not the driver's.
    pub fn set_outside(&self, hears: fn(bool)) {
        *lock(&self.0.outside) = hears;
    }

    /// Lets the `n`-th fallible platform call from now on fail, counting from 1.
    pub fn fail_call(&self, n: Option<u64>) {
        self.0.fallible_calls.store(0, Ordering::SeqCst);
        let n = n.unwrap_or(0);
        self.0.fail_call.store(n, Ordering::SeqCst);
    }

    /// Lets the GPU do nothing but answer: no step is on its way when this returns.
    pub fn freeze(&self, how: Frozen) {
        let _between_steps = lock(&self.0.gpu);
        *lock(&self.0.frozen) = Some(how);
    }

    /// From now on a job that goes astray stops the GPU, until its engine is reset.
    pub fn hang_at_faults(&self) {
        self.0.hangs_at_faults.store(true, Ordering::SeqCst);
    }

    /// From now on it is written down which registers are written.
    pub fn write_down(&self) {
        *lock(&self.0.written) = Some(Vec::new());
    }

    /// Offset and value of each register that was written since.
    pub fn written(&self) -> Vec<(u32, u32)> {
        lock(&self.0.written).clone().unwrap_or_default()
    }

    /// It is so late, at least.
    pub fn set_now(&self, now_ns: u64) {
        self.0.now_ns.fetch_max(now_ns, Ordering::SeqCst);
    }

    /// Lets every fallible platform call fail from now on.
    pub fn unplug(&self) {
        self.0.unplugged.store(true, Ordering::SeqCst);
    }

    /// True if the call that was to fail has come.
    pub fn has_failed(&self) -> bool {
        let calls = self.0.fallible_calls.load(Ordering::SeqCst);
        let fails = self.0.fail_call.load(Ordering::SeqCst);
        fails > 0 && calls >= fails
    }

    /// Every log line so far.
    pub fn log_lines(&self) -> Vec<String> {
        lock(&self.0.log).clone()
    }

    /// Nanoseconds that somebody slept in vain.
    pub fn slept_ns(&self) -> u64 {
        self.0.now_ns.load(Ordering::SeqCst)
    }

    /// The machine restarts: the function is reset, RAM has no owners. VRAM and
    /// RAM contents stay.
    pub fn reboot(&self) {
        self.write_barrier();
        self.gpu(Gpu::reset);
        self.0.line.store(false, Ordering::Release);
        *lock(&self.0.timeline) = None;
        self.0.ram.reboot();
    }

    /// The GPU works until it has nothing to do; interrupts are delivered.
    pub fn run(&self) {
        while self.step() {}
    }

    fn is_frozen(&self) -> bool {
        lock(&self.0.frozen).is_some()
    }

    /// It goes on if it was frozen.
    pub fn thaw(&self) {
        *lock(&self.0.frozen) = None;
    }

    /// Whether it would do something.
    pub fn can_work(&self) -> bool {
        !self.is_frozen() && self.gpu(|gpu| gpu.has_work())
    }

    /// One slice of work and its interrupt. False if nothing happened.
    pub fn step(&self) -> bool {
        let mut gpu = lock(&self.0.gpu);
        let progress = !self.is_frozen() && {
            let had_work = gpu.has_work();
            let faults = gpu.counters().faults;
            let progress = gpu.step(STEP) == Progress::Pending || had_work;
            if self.0.hangs_at_faults.load(Ordering::SeqCst) && gpu.counters().faults > faults {
                // Nobody is told of the fault.
                self.0.line.store(false, Ordering::Release);
                *lock(&self.0.frozen) = Some(Frozen::UntilReset);
            }
            progress
        };
        drop(gpu);
        self.take_interrupt() || progress
    }

    /// The interrupt handler, if the door calls it.
    pub fn take_interrupt(&self) -> bool {
        let timeline = lock(&self.0.timeline);
        if !self.0.line.swap(false, Ordering::AcqRel) || self.0.mute.load(Ordering::SeqCst) {
            return false;
        }
        self.latch(timeline.as_ref());
        true
    }

    /// The CPU reads at a physical address, inside one page, of RAM or of the window.
    pub fn cpu_read(&self, at: u64, buf: &mut [u8]) {
        if let Some(at) = at.checked_sub(WINDOW_AT) {
            _ = self.0.vram.read(VramOffset(at), buf);
            lock(&self.0.window).load(at, buf);
        } else {
            self.0.ram.cpu_read(at, buf);
        }
    }

    /// The CPU writes at a physical address, inside one page, of RAM or of the window.
    pub fn cpu_write(&self, at: u64, data: &[u8]) {
        if let Some(at) = at.checked_sub(WINDOW_AT) {
            self.store(VramOffset(at), data);
        } else {
            self.0.ram.cpu_write(at, data);
        }
    }

    /// A store of another CPU arrives in memory.
    pub(crate) fn write_memory(&self, at: u64, data: &[u8]) {
        match at.checked_sub(WINDOW_AT) {
            Some(at) => _ = self.0.vram.write(VramOffset(at), data),
            None => self.0.ram.arrive(at, data),
        }
    }

    fn store(&self, at: VramOffset, data: &[u8]) {
        let vram = &self.0.vram;
        let memory = |at, data: &[u8]| _ = vram.write(VramOffset(at), data);
        lock(&self.0.window).store(at.0, data, memory);
    }

    fn latch(&self, timeline: Option<&Weak<Timeline<Self>>>) {
        let timeline = timeline.and_then(Weak::upgrade);
        let before = timeline.as_ref().map_or(0, |timeline| timeline.in_memory());
        let latched = lock(&self.0.gpu).latch_interrupts();
        if let Some(timeline) = timeline.filter(|_| !self.0.deaf.load(Ordering::SeqCst)) {
            timeline.interrupt(before, latched.biu, latched.advanced);
        }
    }

    fn outside(&self) -> Outside {
        let hears = *lock(&self.0.outside);
        hears(true);
        Outside(hears)
    }

    fn may_fail(&self) -> bool {
        let calls = self.0.fallible_calls.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.fail_call.load(Ordering::SeqCst) == calls || self.0.unplugged.load(Ordering::SeqCst)
    }
}

impl Platform for Machine {
    type Pages = Pages;

    fn system_info(&self) -> SystemInfo {
        SystemInfo {
            total_bytes: 32 << 20,
            free_bytes: 32 << 20,
            page_bytes: 4096,
        }
    }

    fn alloc_pages(&self, count: usize, caching: Caching) -> Result<Pages, Error> {
        if self.may_fail() {
            return Err(Error::NoMemory);
        }
        let frames = self.0.ram.alloc(count, caching);
        frames.map(Pages).ok_or(Error::NoMemory)
    }

    fn free_pages(&self, pages: Pages) {
        for at in &pages.0 {
            lock(&self.0.gpu).dma_unmaps(BusAddr(*at), BusAddr(at + 0xfff));
            self.0.ram.set_caching(*at, Caching::Cached);
        }
        self.0.ram.free(pages.0);
    }

    fn bus_addr(&self, pages: &Pages, index: usize) -> Option<BusAddr> {
        pages
            .0
            .get(index)
            .filter(|_| !self.may_fail())
            .map(|at| BusAddr(*at))
    }

    fn frame(&self, pages: &Pages, index: usize) -> Option<u64> {
        pages
            .0
            .get(index)
            .filter(|_| !self.may_fail())
            .map(|at| at >> 12)
    }

    fn load_u64(&self, pages: &Pages, offset: usize) -> u64 {
        let mut word = [0; 8];
        if let Some(at) = pages.0.get(offset / 4096) {
            self.0.ram.cpu_read(at + (offset % 4096) as u64, &mut word);
        }
        u64::from_le_bytes(word)
    }

    fn now_ns(&self) -> u64 {
        self.0.now_ns.load(Ordering::SeqCst)
    }

    fn log(&self, level: LogLevel, line: fmt::Arguments<'_>) {
        lock(&self.0.log).push(format!("{level:?}: {line}"));
    }
}

impl Registers for Machine {
    fn access(&self, ops: &mut [RegisterOp]) -> Result<(), Error> {
        let _outside = self.outside();
        if self.may_fail() {
            return Err(Error::Io);
        }
        let mut gpu = lock(&self.0.gpu);
        for op in ops {
            let width = Width::from_bytes(op.bytes).ok_or(Error::Invalid)?;
            if op.write {
                if let Some(written) = &mut *lock(&self.0.written) {
                    written.push((op.offset, op.value));
                }
                if lock(&self.0.unordered).contains(&thread::current().id())
                    && is_looked_behind(op.offset)
                {
                    self.0.ram.complain(format!(
                        "register {:#x} is written while stores to the window are on their \
                         way: a barrier first",
                        op.offset
                    ));
                }
                let thaws = op.offset == Reg::EngineReset.offset();
                if thaws && *lock(&self.0.frozen) == Some(Frozen::UntilReset) {
                    *lock(&self.0.frozen) = None;
                }
                gpu.write(op.offset, width, op.value.into());
            } else {
                let value = gpu.read(op.offset, width);
                op.value = u32::try_from(value).map_err(|_| Error::Io)?;
            }
        }
        Ok(())
    }

    fn set_dma(&self, on: bool) {
        self.0.dma.store(on, Ordering::SeqCst);
    }
}

impl VramWindow for Machine {
    fn vram_bytes(&self) -> Option<u64> {
        Some(self.0.vram.bytes())
    }

    fn visible_bytes(&self) -> u64 {
        self.0.vram.visible_bytes()
    }

    fn cpu_address(&self, at: VramOffset) -> u64 {
        WINDOW_AT + at.0
    }

    fn load_u32(&self, at: VramOffset) -> u32 {
        let mut word = [0; 4];
        if at.0 < self.visible_bytes() {
            self.cpu_read(WINDOW_AT + at.0, &mut word);
        }
        u32::from_le_bytes(word)
    }

    fn store_u32(&self, at: VramOffset, values: &[u32]) {
        let _outside = self.outside();
        let room = self.visible_bytes().saturating_sub(at.0) / 4;
        let values = &values[..values.len().min(usize::try_from(room).unwrap_or(0))];
        let words: Vec<[u8; 4]> = values.iter().map(|word| word.to_le_bytes()).collect();
        self.store(at, words.as_flattened());
        lock(&self.0.unordered).insert(thread::current().id());
    }

    fn write_barrier(&self) {
        let vram = &self.0.vram;
        let memory = |at, data: &[u8]| _ = vram.write(VramOffset(at), data);
        lock(&self.0.window).drain(memory);
        self.0.ram.barrier();
        lock(&self.0.unordered).remove(&thread::current().id());
    }
}

impl Interrupts for Machine {
    fn wait(&self, _: Patience, timeout_ns: u64, ready: &mut dyn FnMut() -> bool) -> Wake {
        let _outside = self.outside();
        while !ready() {
            if !self.step() {
                self.0.now_ns.fetch_add(timeout_ns, Ordering::SeqCst);
                return Wake::TimedOut;
            }
        }
        Wake::Ready
    }

    fn deliver(&self) -> bool {
        let _outside = self.outside();
        // Behind a handler that runs.
        let timeline = lock(&self.0.timeline);
        self.0.line.store(false, Ordering::Release);
        if self.gpu(|gpu| gpu.interrupt_pending()) {
            self.latch(timeline.as_ref());
        }
        true
    }
}
