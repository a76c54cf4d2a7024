//! A small GPU whose copy engine works only while somebody waits.

use super::super::processes::Process;
use super::super::ram::{Block, System, count_down};
use crate::Error;
use crate::arena::Id;
use crate::bo::page_vector::{BackingStore, PageVector, Ram};
use crate::bo::pool::{Lists, SmallLock};
use crate::evict::{FenceOf, ReservationOf, Side, World};
use crate::placement::{Extent, SegmentId};
use crate::sync::portable::{Portable, Single};
use crate::sync::{Deadline, FenceContext};
use crate::vm::Spaces;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::num::NonZeroU64;
use std::rc::Rc;

pub(in crate::tests) type Sync = Portable<Single>;

pub(in crate::tests) struct Cellar<T>(pub(in crate::tests) RefCell<T>);

thread_local! {
    static HELD: Cell<u32> = const { Cell::new(0) };
}

impl<T> SmallLock<T> for Cellar<T> {
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        HELD.set(HELD.get() + 1);
        let result = f(&mut self.0.borrow_mut());
        HELD.set(HELD.get() - 1);
        result
    }
}

/// Nobody asks the machine for anything while he holds one of the small locks.
fn holds_no_lock() {
    assert_eq!(HELD.get(), 0, "asked under a lock");
}

pub(in crate::tests) struct Shelf {
    pub(in crate::tests) system: Rc<System>,
    pub(in crate::tests) stored: RefCell<HashMap<NonZeroU64, u64>>,
    pub(in crate::tests) next: Cell<u64>,
    pub(in crate::tests) room: Cell<u32>,
}

impl BackingStore<Block> for Shelf {
    fn put(&self, block: &Block, page: usize) -> Result<NonZeroU64, Error> {
        if !count_down(&self.room) {
            return Err(Error::NoSpace);
        }
        self.next.set(self.next.get() + 1);
        let handle = NonZeroU64::new(self.next.get()).unwrap();
        let word = self.system.words.borrow()[&(block.page + page as u64)];
        self.stored.borrow_mut().insert(handle, word);
        Ok(handle)
    }

    fn get(&self, handle: NonZeroU64, block: &mut Block, page: usize) -> Result<(), Error> {
        let word = self.stored.borrow()[&handle];
        let page = block.page + page as u64;
        self.system.words.borrow_mut().insert(page, word);
        Ok(())
    }

    fn drop(&self, handle: NonZeroU64) {
        assert!(self.stored.borrow_mut().remove(&handle).is_some());
    }
}

pub(in crate::tests) struct Memory {
    pub(in crate::tests) system: Rc<System>,
    pub(in crate::tests) pool: Cellar<Lists<Block>>,
    pub(in crate::tests) shelf: Shelf,
}

impl Ram for Memory {
    type Block = Block;
    type Source = System;
    type Pool = Cellar<Lists<Block>>;
    type Store = Shelf;

    fn source(&self) -> &System {
        holds_no_lock();
        &self.system
    }

    fn pool(&self) -> &Cellar<Lists<Block>> {
        &self.pool
    }

    fn store(&self) -> &Shelf {
        holds_no_lock();
        &self.shelf
    }
}

/// A page as the GPU names it.
pub(in crate::tests) type At = (SegmentId, u64);

pub(in crate::tests) type Job = dyn FnOnce(&Gpu, &System);

pub(in crate::tests) enum Work {
    Copy(Vec<At>, Vec<At>),
    Fill(Vec<At>, u64),
    /// Of a process: what it does when its turn comes.
    Run(Box<Job>),
}

/// What the GPU sees.
#[derive(Default)]
pub(in crate::tests) struct Gpu {
    /// One word of each page; garbage where nobody wrote.
    pub(in crate::tests) local: RefCell<HashMap<At, u64>>,
    /// Frames of RAM.
    pub(in crate::tests) gart: RefCell<HashMap<At, u64>>,
    pub(in crate::tests) queue: RefCell<VecDeque<(u64, Work)>>,
    pub(in crate::tests) copied: Cell<u64>,
}

impl Gpu {
    pub(in crate::tests) fn read(&self, system: &System, at: At) -> u64 {
        if at.0.uses_tt() {
            let frame = self
                .gart
                .borrow()
                .get(&at)
                .copied()
                .expect("a page fault of the GPU");
            return *system
                .words
                .borrow()
                .get(&frame)
                .expect("a page that is free");
        }
        let garbage = 0xBAD_0000 + at.1;
        self.local.borrow().get(&at).copied().unwrap_or(garbage)
    }

    pub(in crate::tests) fn write(&self, system: &System, at: At, word: u64) {
        if at.0.uses_tt() {
            let frame = self
                .gart
                .borrow()
                .get(&at)
                .copied()
                .expect("a page fault of the GPU");
            system.words.borrow_mut().insert(frame, word);
        } else {
            self.local.borrow_mut().insert(at, word);
        }
    }

    pub(in crate::tests) fn step(&self, system: &System) -> Option<u64> {
        let (sequence, work) = self.queue.borrow_mut().pop_front()?;
        match work {
            Work::Copy(from, to) => {
                let words: Vec<_> = from.iter().map(|at| self.read(system, *at)).collect();
                self.copied.set(self.copied.get() + words.len() as u64);
                for (at, word) in to.into_iter().zip(words) {
                    self.write(system, at, word);
                }
            }
            Work::Fill(to, value) => {
                for at in to {
                    self.write(system, at, value);
                }
            }
            Work::Run(run) => run(self, system),
        }
        Some(sequence)
    }
}

pub(in crate::tests) struct Machine {
    pub(in crate::tests) sync: Rc<Sync>,
    pub(in crate::tests) ram: Memory,
    pub(in crate::tests) gpu: Rc<Gpu>,
    pub(in crate::tests) ring: Rc<RefCell<FenceContext<Sync>>>,
    pub(in crate::tests) copies_until_failure: Cell<u32>,
    pub(in crate::tests) lost: Rc<Cell<bool>>,
    /// What somebody else does while a copy or a clear is being asked for.
    pub(in crate::tests) meanwhile: RefCell<Option<Box<dyn FnOnce()>>>,
    /// Buffers of which the CPU has pages mapped.
    pub(in crate::tests) mapped: RefCell<BTreeSet<Id>>,
    pub(in crate::tests) spaces: OnceCell<Spaces<Machine, Process>>,
}

impl Machine {
    pub(in crate::tests) fn new() -> Self {
        let host = Single::new();
        let sync = Rc::new(Portable::new(host.clone()));
        let system = Rc::new(System::new());
        let gpu = Rc::new(Gpu::default());
        let ring = Rc::new(RefCell::new(FenceContext::new(&*sync)));
        let machine = (
            Rc::clone(&gpu),
            Rc::clone(&system),
            Rc::clone(&ring),
            Rc::clone(&sync),
        );
        host.on_poll(move |now| {
            holds_no_lock();
            let (gpu, system, ring, sync) = &machine;
            let sequence = gpu.step(system)?;
            ring.borrow_mut().end_through(sync, sequence);
            Some(now + 1000)
        });
        Self {
            sync,
            ram: Memory {
                pool: Cellar(RefCell::new(Lists::new(16, false))),
                shelf: Shelf {
                    system: Rc::clone(&system),
                    stored: RefCell::default(),
                    next: Cell::new(0),
                    room: Cell::new(u32::MAX),
                },
                system,
            },
            gpu,
            ring,
            copies_until_failure: Cell::new(u32::MAX),
            lost: Rc::default(),
            meanwhile: RefCell::default(),
            mapped: RefCell::default(),
            spaces: OnceCell::new(),
        }
    }

    pub(in crate::tests) fn submit(&self, work: Work) -> Result<FenceOf<Self>, Error> {
        holds_no_lock();
        let meanwhile = self.meanwhile.borrow_mut().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        if !count_down(&self.copies_until_failure) {
            return Err(Error::Lost);
        }
        let mut ring = self.ring.borrow_mut();
        let memory = ring.prepare(&self.sync)?;
        let fence = ring.arm(&self.sync, memory);
        self.gpu.queue.borrow_mut().push_back((ring.issued(), work));
        Ok(fence)
    }

    /// The GPU does some work.
    pub(in crate::tests) fn work(&self, steps: usize) {
        for _ in 0..steps {
            let Some(sequence) = self.gpu.step(&self.ram.system) else {
                return;
            };
            self.ring.borrow_mut().end_through(&self.sync, sequence);
        }
    }
}

pub(in crate::tests) fn pages<B>(side: &Side<'_, B>) -> Vec<At> {
    let pages = side
        .extents
        .iter()
        .flat_map(|extent| extent.first..extent.end);
    pages.map(|page| (side.segment, page)).collect()
}

impl World for Machine {
    type Sync = Sync;
    type Ram = Memory;
    type Lock<T> = Cellar<T>;

    fn sync(&self) -> &Sync {
        &self.sync
    }

    fn ram(&self) -> &Memory {
        &self.ram
    }

    fn lock<T>(&self, value: T) -> Cellar<T> {
        Cellar(RefCell::new(value))
    }

    fn after(&self, ns: u64) -> Deadline {
        Deadline(self.sync.host().now_ns().saturating_add(ns))
    }

    fn is_lost(&self) -> bool {
        self.lost.get()
    }

    fn hop(&self, from: SegmentId, to: SegmentId) -> Option<SegmentId> {
        let over = |from: SegmentId, to| from == SegmentId::System && !SegmentId::uses_tt(to);
        (over(from, to) || over(to, from)).then_some(SegmentId::PcieSnoop)
    }

    fn copy(
        &self,
        _: &ReservationOf<Self>,
        from: &Side<'_, Block>,
        to: &Side<'_, Block>,
    ) -> Result<FenceOf<Self>, Error> {
        let (from, to) = (pages(from), pages(to));
        assert_eq!(from.len(), to.len());
        self.submit(Work::Copy(from, to))
    }

    fn clear(&self, to: &Side<'_, Block>) -> Result<FenceOf<Self>, Error> {
        self.submit(Work::Fill(pages(to), 0))
    }

    fn bind(
        &self,
        segment: SegmentId,
        extents: &[Extent],
        vector: &PageVector<Block>,
    ) -> Result<(), Error> {
        let slots = extents.iter().flat_map(|extent| extent.first..extent.end);
        for (index, slot) in slots.enumerate() {
            let frame = vector.bus_addr(index).unwrap().page();
            let before = self.gpu.gart.borrow_mut().insert((segment, slot), frame);
            assert_eq!(before, None, "a slot of somebody else");
        }
        Ok(())
    }

    fn unbind(&self, segment: SegmentId, extents: &[Extent]) {
        for slot in extents.iter().flat_map(|extent| extent.first..extent.end) {
            assert!(
                self.gpu
                    .gart
                    .borrow_mut()
                    .remove(&(segment, slot))
                    .is_some()
            );
        }
    }

    fn unmap_user(&self, id: Id) {
        holds_no_lock();
        self.mapped.borrow_mut().remove(&id);
    }

    fn is_mapped(&self, bo: Id) -> bool {
        self.spaces.get().is_some_and(|spaces| spaces.is_mapped(bo))
    }

    fn unmap_gpu(&self, bo: Id) -> Result<(), Error> {
        self.spaces.get().map_or(Ok(()), |spaces| spaces.leave(bo))
    }
}
