//! What the memory manager has of a machine: RAM that it takes page by page, a store for
//! what is swapped out, and locks and a clock for one thread or for many.

use crate::machine::Machine;
use crate::program::Program;
use crate::ram::Ram;
use crate::threads::machine::Threads;
use presil_device::BusAddr;
use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use vidmm::bo::page_vector::BackingStore;
use vidmm::bo::pool::{Effort, Linked, Lists, PageSource, SmallLock};
use vidmm::sync::Deadline;
use vidmm::sync::portable::{Portable, Single};
use vidmm::{BoId, Caching, Error, Host};

const PAGE: usize = 4096;

/// How the manager here is locked: there is one thread.
pub struct OneLock<T>(RefCell<T>);

impl<T> SmallLock<T> for OneLock<T> {
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }

    fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

/// A page frame.
#[derive(Debug)]
pub struct Frame {
    pub(crate) at: u64,
    next: Option<Box<Self>>,
}

impl Linked for Frame {
    fn set_next(&mut self, next: Option<Self>) {
        self.next = next.map(Box::new);
    }

    fn take_next(&mut self) -> Option<Self> {
        self.next.take().map(|next| *next)
    }
}

/// RAM as it comes: single frames, in no order, with what somebody left in them.
pub struct Frames(Ram);

impl PageSource for Frames {
    type Block = Frame;

    fn take(&self, order: u32, low: bool, _: Effort) -> Option<Frame> {
        let limit = if low { 1 << 32 } else { u64::MAX };
        let frames = (order == 0).then(|| self.0.take(1, limit));
        let at = *frames??.first()?;
        Some(Frame { at, next: None })
    }

    fn give(&self, block: Frame, _: u32) {
        self.0.free(vec![block.at]);
    }

    fn split(&self, block: Frame, _: u32) -> (Frame, Frame) {
        // There is no block of two.
        let other = Frame {
            at: block.at,
            next: None,
        };
        (block, other)
    }

    fn clear(&self, block: &mut Frame, _: u32) {
        self.0.cpu_write(block.at, &[0; PAGE]);
    }

    fn set_caching(
        &self,
        blocks: &mut dyn Iterator<Item = (&mut Frame, u32)>,
        caching: Caching,
    ) -> Result<(), Error> {
        for (block, _) in blocks {
            self.0.set_caching(block.at, caching);
        }
        Ok(())
    }

    fn write_barrier(&self) {
        self.0.barrier();
    }

    fn restore_caching(&self, block: &mut Frame, _: u32) {
        self.0.set_caching(block.at, Caching::Cached);
    }

    fn map(&self, block: &Frame, _: u32) -> Result<BusAddr, Error> {
        Ok(BusAddr(block.at))
    }

    fn unmap(&self, _: &Frame, _: BusAddr, _: u32) {}
}

/// Where contents go that are swapped out.
pub struct Store {
    ram: Ram,
    pages: Mutex<(u64, HashMap<NonZeroU64, Vec<u8>>)>,
}

impl Store {
    fn with<R>(&self, use_it: impl FnOnce(&mut u64, &mut HashMap<NonZeroU64, Vec<u8>>) -> R) -> R {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, pages) = &mut *pages;
        use_it(last, pages)
    }
}

impl BackingStore<Frame> for Store {
    fn put(&self, block: &Frame, _: usize) -> Result<NonZeroU64, Error> {
        let mut page = vec![0; PAGE];
        self.ram.cpu_read(block.at, &mut page);
        self.with(|last, pages| {
            *last += 1;
            let handle = NonZeroU64::new(*last).ok_or(Error::NoSpace)?;
            pages.insert(handle, page);
            Ok(handle)
        })
    }

    fn get(&self, handle: NonZeroU64, block: &mut Frame, _: usize) -> Result<(), Error> {
        self.with(|_, pages| {
            let page = pages.get(&handle).ok_or(Error::Io)?;
            self.ram.cpu_write(block.at, page);
            Ok(())
        })
    }

    fn drop(&self, handle: NonZeroU64) {
        self.with(|_, pages| pages.remove(&handle));
    }
}

/// RAM, the pool behind a lock, and the store.
pub struct Memory<L> {
    frames: Frames,
    pool: L,
    store: Store,
}

impl<L> Memory<L> {
    fn new(machine: &Machine, lock: impl FnOnce(Lists<Frame>) -> L) -> Self {
        let ram = machine.ram().clone();
        Self {
            frames: Frames(ram.clone()),
            pool: lock(Lists::new(64, false)),
            store: Store {
                ram,
                pages: Mutex::default(),
            },
        }
    }
}

impl<L: SmallLock<Lists<Frame>>> vidmm::bo::page_vector::Ram for Memory<L> {
    type Block = Frame;
    type Source = Frames;
    type Pool = L;
    type Store = Store;

    fn source(&self) -> &Frames {
        &self.frames
    }

    fn pool(&self) -> &L {
        &self.pool
    }

    fn store(&self) -> &Store {
        &self.store
    }
}

/// The host of a manager.
pub struct OneThread {
    sync: Portable<Single>,
    pub(crate) clock: Single,
    pub(crate) memory: Memory<OneLock<Lists<Frame>>>,
    pub(crate) program: Program,
}

impl OneThread {
    /// With all of a machine's RAM, and a clock of its own.
    pub fn new(machine: &Machine) -> Self {
        let clock = Single::new();
        Self {
            sync: Portable::new(clock.clone()),
            clock,
            memory: Memory::new(machine, |pool| OneLock(RefCell::new(pool))),
            program: Program::new(machine.clone()),
        }
    }
}

impl Host for OneThread {
    type Sync = Portable<Single>;
    type Ram = Memory<OneLock<Lists<Frame>>>;
    type Lock<T> = OneLock<T>;

    fn sync(&self) -> &Portable<Single> {
        &self.sync
    }

    fn ram(&self) -> &Self::Ram {
        &self.memory
    }

    fn lock<T>(&self, value: T) -> OneLock<T> {
        OneLock(RefCell::new(value))
    }

    fn after(&self, ns: u64) -> Deadline {
        Deadline(self.clock.now_ns().saturating_add(ns))
    }

    fn unmap_user(&self, bo: BoId) {
        self.program.unmap(bo);
    }
}

/// A lock of threads.
pub struct ManyLock<T>(Mutex<T>);

impl<T> SmallLock<T> for ManyLock<T> {
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The host of a manager that threads use. Its time is what somebody says.
pub struct ManyThreads {
    sync: Portable<Threads>,
    memory: Memory<ManyLock<Lists<Frame>>>,
}

impl ManyThreads {
    /// With all of a machine's RAM.
    pub(crate) fn new(machine: &Machine) -> Self {
        Self {
            sync: Portable::new(Threads::new()),
            memory: Memory::new(machine, |pool| ManyLock(Mutex::new(pool))),
        }
    }
}

impl Host for ManyThreads {
    type Sync = Portable<Threads>;
    type Ram = Memory<ManyLock<Lists<Frame>>>;
    type Lock<T> = ManyLock<T>;

    fn sync(&self) -> &Portable<Threads> {
        &self.sync
    }

    fn ram(&self) -> &Self::Ram {
        &self.memory
    }

    fn lock<T>(&self, value: T) -> ManyLock<T> {
        ManyLock(Mutex::new(value))
    }

    fn after(&self, ns: u64) -> Deadline {
        Deadline(self.sync.host().now_ns().saturating_add(ns))
    }

    /// Nobody keeps a mapping: who looks at a page does so while it is found.
    fn unmap_user(&self, _: BoId) {}
}
