//! A small GPU with two rings, and the RAM beside it.

use super::super::processes::Process;
use super::super::ram::{Block, Countdown, Shared, System};
use super::frail::Frail;
use crate::Error;
use crate::arena::Id;
use crate::bo::page_vector::{BackingStore, PageVector, Ram};
use crate::bo::pool::{Lists, SmallLock};
use crate::evict::{FenceOf, ReservationOf, Side, World};
use crate::placement::{Extent, SegmentId};
use crate::sync::portable::{Host, Single};
use crate::sync::{Caller, Deadline, FenceContext, FenceError, FenceResult, Primitives, Usage};
use crate::vm::Spaces;
use presil_allocator::spared;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;

/// What threads, locks and waits are made of.
pub(in crate::tests) trait Threads: Sized + 'static {
    type Host: Host;
    type Lock<T>: SmallLock<T>;
    /// Address spaces of processes.
    type Spaces: Default;
    /// What a process does when its turn comes.
    type Run;

    /// What somebody else does while a copy or a clear is being asked for.
    type Meanwhile: Default;

    fn lock<T>(value: T) -> Self::Lock<T>;

    fn now_ns(host: &Self::Host) -> u64;

    /// # Panics
    /// When the caller holds one of the locks, where that can be known.
    fn holds_no_lock() {}

    fn run(run: Self::Run, gpu: &Gpu<Self>);

    fn meanwhile(_: &Self::Meanwhile) {}

    fn is_mapped(_: &Self::Spaces, _: Id) -> bool {
        false
    }

    fn unmap_gpu(_: &Self::Spaces, _: Id) -> Result<(), Error> {
        Ok(())
    }
}

/// One thread. The machine works only while it waits.
pub(in crate::tests) struct Alone;

thread_local! {
    static HELD: Cell<u32> = const { Cell::new(0) };
}

/// Panics when it is locked twice.
pub(in crate::tests) struct Cellar<T>(pub(in crate::tests) RefCell<T>);

impl<T> SmallLock<T> for Cellar<T> {
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        HELD.set(HELD.get() + 1);
        let result = f(&mut self.0.borrow_mut());
        HELD.set(HELD.get() - 1);
        result
    }

    fn into_inner(self) -> T {
        self.0.into_inner()
    }
}

impl Threads for Alone {
    type Host = Single;
    type Lock<T> = Cellar<T>;
    type Spaces = OnceCell<Spaces<Machine<Self>, Process>>;
    type Run = Box<dyn FnOnce(&Gpu<Self>)>;
    type Meanwhile = RefCell<Option<Box<dyn FnOnce()>>>;

    fn lock<T>(value: T) -> Cellar<T> {
        Cellar(RefCell::new(value))
    }

    fn now_ns(host: &Single) -> u64 {
        host.now_ns()
    }

    fn holds_no_lock() {
        assert_eq!(HELD.get(), 0, "asked under a lock");
    }

    fn run(run: Self::Run, gpu: &Gpu<Self>) {
        run(gpu);
    }

    fn meanwhile(meanwhile: &Self::Meanwhile) {
        let done = meanwhile.borrow_mut().take();
        if let Some(done) = done {
            done();
        }
    }

    fn is_mapped(spaces: &Self::Spaces, id: Id) -> bool {
        spaces.get().is_some_and(|spaces| spaces.is_mapped(id))
    }

    fn unmap_gpu(spaces: &Self::Spaces, id: Id) -> Result<(), Error> {
        spaces.get().map_or(Ok(()), |spaces| spaces.leave(id))
    }
}

pub(in crate::tests) type Sync<K = Alone> = Frail<<K as Threads>::Host>;
type Reservation<K> = <Sync<K> as Primitives>::Reservation;
type Fence<K> = <Sync<K> as Primitives>::Fence;

/// Contents in the store, one word of each page.
pub(in crate::tests) struct Shelf {
    system: Arc<System>,
    pub(in crate::tests) stored: Shared<HashMap<NonZeroU64, u64>>,
    next: Shared<u64>,
    pub(in crate::tests) puts_until_failure: Countdown,
    /// A page with this word cannot be written.
    pub(in crate::tests) bad: Shared<Option<u64>>,
    pub(in crate::tests) gets_until_failure: Countdown,
}

impl BackingStore<Block> for Shelf {
    fn put(&self, block: &Block, page: usize) -> Result<NonZeroU64, Error> {
        if !self.puts_until_failure.goes_on() {
            return Err(Error::NoSpace);
        }
        let word = self.system.words.borrow()[&(block.page + page as u64)];
        if self.bad.get() == Some(word) {
            return Err(Error::Io);
        }
        let next = self.next.get() + 1;
        self.next.set(next);
        let handle = NonZeroU64::new(next).unwrap();
        spared(|| self.stored.borrow().insert(handle, word));
        Ok(handle)
    }

    fn get(&self, handle: NonZeroU64, block: &mut Block, page: usize) -> Result<(), Error> {
        if !self.gets_until_failure.goes_on() {
            return Err(Error::Io);
        }
        let word = self.stored.borrow()[&handle];
        let page = block.page + page as u64;
        spared(|| self.system.words.borrow().insert(page, word));
        Ok(())
    }

    fn drop(&self, handle: NonZeroU64) {
        assert!(self.stored.borrow().remove(&handle).is_some());
    }
}

pub(in crate::tests) struct Memory<K: Threads> {
    pub(in crate::tests) system: Arc<System>,
    pub(in crate::tests) pool: K::Lock<Lists<Block>>,
    pub(in crate::tests) shelf: Shelf,
    /// What somebody else does while the store is asked.
    pub(in crate::tests) at_store: K::Meanwhile,
}

impl<K: Threads> Ram for Memory<K> {
    type Block = Block;
    type Source = System;
    type Pool = K::Lock<Lists<Block>>;
    type Store = Shelf;

    fn source(&self) -> &System {
        K::holds_no_lock();
        &self.system
    }

    fn pool(&self) -> &K::Lock<Lists<Block>> {
        &self.pool
    }

    fn store(&self) -> &Shelf {
        K::holds_no_lock();
        K::meanwhile(&self.at_store);
        &self.shelf
    }
}

/// A page as the GPU names it.
pub(in crate::tests) type At = (SegmentId, u64);

/// A page as the CPU finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::tests) enum Spot {
    Local(At),
    Ram(u64),
}

pub(in crate::tests) enum Work<K: Threads = Alone> {
    Copy(Vec<At>, Vec<At>),
    Fill(Vec<At>, u64),
    Run(K::Run),
}

struct Job<K: Threads> {
    sequence: u64,
    /// What has to end before.
    after: Reservation<K>,
    work: Work<K>,
    ends: FenceResult,
}

/// Work that ends in order, behind what it has to wait for on the other ring.
pub(in crate::tests) struct Ring<K: Threads> {
    fences: FenceContext<Sync<K>>,
    queue: VecDeque<Job<K>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tests) enum Fate {
    /// It does nothing more.
    Late,
    /// It is lost, with all that is queued.
    Lost,
}

/// What the GPU sees and does.
pub(in crate::tests) struct Gpu<K: Threads = Alone> {
    sync: Arc<Sync<K>>,
    pub(in crate::tests) system: Arc<System>,
    /// One word of each page; garbage where nobody wrote.
    pub(in crate::tests) local: Shared<HashMap<At, u64>>,
    /// Frames of RAM.
    pub(in crate::tests) gart: Shared<HashMap<At, u64>>,
    /// Pages that the CPU has mapped, by buffer.
    pub(in crate::tests) mapped: Shared<BTreeMap<Id, Vec<Spot>>>,
    rings: [K::Lock<Ring<K>>; 2],
    /// The ring that works next, if it can.
    turn: Shared<usize>,
    /// Rings that do not go on.
    pub(in crate::tests) hung: Shared<[bool; 2]>,
    /// What becomes of the GPU after so many jobs.
    pub(in crate::tests) fate: Shared<Option<(u32, Fate)>>,
    /// It is gone for good.
    lost: Shared<bool>,
    pub(in crate::tests) copied: Shared<u64>,
    /// Jobs that ended.
    pub(in crate::tests) ended: Shared<u64>,
}

impl<K: Threads> Gpu<K> {
    pub(in crate::tests) fn read(&self, at: At) -> u64 {
        if at.0.uses_tt() {
            let words = self.system.words.borrow();
            return *words.get(&self.frame(at)).expect("a page that is free");
        }
        let garbage = 0xBAD_0000 + at.1;
        self.local.borrow().get(&at).copied().unwrap_or(garbage)
    }

    pub(in crate::tests) fn write(&self, at: At, word: u64) {
        if at.0.uses_tt() {
            let frame = self.frame(at);
            self.system.words.borrow().insert(frame, word);
        } else {
            self.local.borrow().insert(at, word);
        }
    }

    fn frame(&self, at: At) -> u64 {
        let frame = self.gart.borrow().get(&at).copied();
        frame.expect("a page fault of the GPU")
    }

    pub(in crate::tests) fn peek(&self, spot: Spot) -> u64 {
        match spot {
            Spot::Local(at) => self.read(at),
            Spot::Ram(frame) => self.system.words.borrow()[&frame],
        }
    }

    pub(in crate::tests) fn poke(&self, spot: Spot, word: u64) {
        match spot {
            Spot::Local(at) => self.write(at, word),
            Spot::Ram(frame) => _ = self.system.words.borrow().insert(frame, word),
        }
    }

    fn run(&self, work: Work<K>) {
        match work {
            Work::Copy(from, to) => {
                let words: Vec<_> = from.iter().map(|at| self.read(*at)).collect();
                *self.copied.borrow() += words.len() as u64;
                for (at, word) in to.iter().zip(words) {
                    self.write(*at, word);
                }
            }
            Work::Fill(to, value) => {
                for at in to {
                    self.write(at, value);
                }
            }
            Work::Run(run) => K::run(run, self),
        }
    }

    /// One job of a ring, if there is one that need not wait any more.
    fn step_of(&self, ring: usize) -> bool {
        if self.hung.borrow()[ring] {
            return false;
        }
        self.rings[ring].with(|ring| {
            let ready = |job: &mut Job<K>| self.sync.is_idle(&job.after, Usage::Bookkeep);
            let Some(job) = ring.queue.pop_front_if(ready) else {
                return false;
            };
            match job.ends {
                Ok(()) => {
                    self.run(job.work);
                    ring.fences.end_through(&self.sync, job.sequence);
                }
                Err(error) => ring.fences.end_failed(&self.sync, job.sequence, error),
            }
            *self.ended.borrow() += 1;
            true
        })
    }

    /// One job of either ring, in turn. Whether anything happened.
    pub(in crate::tests) fn step(&self) -> bool {
        match self.fate.get() {
            Some((0, Fate::Late)) => return false,
            Some((0, Fate::Lost)) => {
                self.fate.set(None);
                self.lose();
                return true;
            }
            Some((jobs, fate)) => self.fate.set(Some((jobs - 1, fate))),
            None => {}
        }
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_mul(5).wrapping_add(3));
        let first = (turn >> 7) % 2;
        spared(|| self.step_of(first) || self.step_of(1 - first))
    }

    /// Jobs that have not ended.
    pub(in crate::tests) fn queued(&self) -> usize {
        let rings = self.rings.iter();
        rings.map(|ring| ring.with(|ring| ring.queue.len())).sum()
    }

    /// The GPU is lost for good.
    pub(in crate::tests) fn go(&self) {
        self.lost.set(true);
        for ring in &self.rings {
            ring.with(|ring| ring.fences.end_lost(&self.sync));
        }
    }

    /// The GPU is lost, with all that is queued, and works again.
    pub(in crate::tests) fn lose(&self) {
        for ring in &self.rings {
            ring.with(|ring| ring.fences.end_lost(&self.sync));
        }
        for ring in &self.rings {
            ring.with(|ring| {
                ring.queue.clear();
                ring.fences.revive();
            });
        }
    }
}

pub(in crate::tests) struct Machine<K: Threads = Alone> {
    pub(in crate::tests) sync: Arc<Sync<K>>,
    pub(in crate::tests) ram: Memory<K>,
    pub(in crate::tests) gpu: Arc<Gpu<K>>,
    /// The ring that takes the next job: this one always, or each in turn.
    pub(in crate::tests) ring: Shared<Option<usize>>,
    next_ring: Shared<usize>,
    pub(in crate::tests) jobs_until_failure: Countdown,
    pub(in crate::tests) binds_until_failure: Countdown,
    pub(in crate::tests) spaces: K::Spaces,
    pub(in crate::tests) meanwhile: K::Meanwhile,
    /// What somebody else does while mappings of the CPU are removed.
    pub(in crate::tests) at_unmap: K::Meanwhile,
}

impl Machine<Alone> {
    pub(in crate::tests) fn new() -> Self {
        let host = Single::new();
        let machine = Self::on(host.clone());
        let gpu = Arc::clone(&machine.gpu);
        host.on_poll(move |now| {
            Alone::holds_no_lock();
            gpu.step().then_some(now + 1000)
        });
        machine
    }
}

impl<K: Threads> Machine<K> {
    pub(in crate::tests) fn on(host: K::Host) -> Self {
        let sync = Arc::new(Frail::new(host));
        let system = Arc::new(System::new());
        let rings = [(); 2].map(|()| {
            K::lock(Ring {
                fences: FenceContext::new(&*sync),
                queue: VecDeque::new(),
            })
        });
        let gpu = Arc::new(Gpu {
            sync: Arc::clone(&sync),
            system: Arc::clone(&system),
            local: Shared::default(),
            gart: Shared::default(),
            mapped: Shared::default(),
            rings,
            turn: Shared::new(0),
            hung: Shared::new([false; 2]),
            fate: Shared::new(None),
            lost: Shared::new(false),
            copied: Shared::new(0),
            ended: Shared::new(0),
        });
        Self {
            sync,
            ram: Memory {
                pool: K::lock(Lists::new(16, false)),
                shelf: Shelf {
                    system: Arc::clone(&system),
                    stored: Shared::default(),
                    next: Shared::new(0),
                    puts_until_failure: Countdown::new(),
                    bad: Shared::new(None),
                    gets_until_failure: Countdown::new(),
                },
                system,
                at_store: K::Meanwhile::default(),
            },
            gpu,
            ring: Shared::new(Some(0)),
            next_ring: Shared::new(0),
            jobs_until_failure: Countdown::new(),
            binds_until_failure: Countdown::new(),
            spaces: K::Spaces::default(),
            meanwhile: K::Meanwhile::default(),
            at_unmap: K::Meanwhile::default(),
        }
    }

    /// Puts a job on a ring, behind what that ring has.
    pub(in crate::tests) fn submit(&self, work: Work<K>) -> Result<Fence<K>, Error> {
        let nothing = spared(|| self.sync.new_reservation())?;
        self.submit_after(&nothing, work, Ok(()))
    }

    /// Puts a job on a ring, behind all that the reservation has. `ends` is how.
    pub(in crate::tests) fn submit_after(
        &self,
        reservation: &Reservation<K>,
        work: Work<K>,
        ends: FenceResult,
    ) -> Result<Fence<K>, Error> {
        K::meanwhile(&self.meanwhile);
        if !self.jobs_until_failure.goes_on() {
            return Err(Error::Busy);
        }
        let after = spared(|| {
            let after = self.sync.new_reservation()?;
            let mut caller = Caller::enter(&*self.sync);
            caller
                .lock(&after, crate::Patience::Patient)?
                .take_fences_of(reservation)?;
            Ok::<_, Error>(after)
        })?;
        let next = self.next_ring.get();
        self.next_ring.set(next + 1);
        let ring = self.ring.get().unwrap_or(next % 2);
        self.gpu.rings[ring].with(|ring| {
            let memory = ring.fences.prepare(&self.sync)?;
            let fence = ring.fences.arm(&self.sync, memory);
            let sequence = ring.fences.issued();
            spared(|| {
                ring.queue.push_back(Job {
                    sequence,
                    after,
                    work,
                    ends,
                });
            });
            Ok(fence)
        })
    }

    /// The GPU does some work.
    pub(in crate::tests) fn work(&self, steps: usize) {
        let mut steps = 0..steps;
        while steps.next().is_some() && self.gpu.step() {}
    }

    /// Nothing is refused any more.
    pub(in crate::tests) fn mend(&self) {
        self.ram.system.budget.set(u64::MAX);
        self.gpu.fate.set(None);
        for site in Site::ALL {
            site.of(self).set(u32::MAX);
        }
    }
}

/// What can be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tests) enum Site {
    /// Pages of the system.
    Pages,
    /// Another caching mode.
    Caching,
    /// A mapping for the GPU.
    Map,
    /// An entry of the GART.
    Bind,
    /// A copy or a clear.
    Job,
    /// Room in the store.
    Put,
    /// Contents of the store.
    Get,
}

impl Site {
    pub(in crate::tests) const ALL: [Self; 7] = [
        Self::Pages,
        Self::Caching,
        Self::Map,
        Self::Bind,
        Self::Job,
        Self::Put,
        Self::Get,
    ];

    pub(in crate::tests) fn of<K: Threads>(self, machine: &Machine<K>) -> &Countdown {
        let (system, store) = (&machine.ram.system, &machine.ram.shelf);
        match self {
            Self::Pages => &system.takes_until_failure,
            Self::Caching => &system.switches_until_failure,
            Self::Map => &system.maps_until_failure,
            Self::Bind => &machine.binds_until_failure,
            Self::Job => &machine.jobs_until_failure,
            Self::Put => &store.puts_until_failure,
            Self::Get => &store.gets_until_failure,
        }
    }
}

/// The pages of some extents, in order.
pub(in crate::tests) fn pages(segment: SegmentId, extents: &[Extent]) -> Vec<At> {
    let pages = extents.iter().flat_map(|extent| extent.first..extent.end);
    pages.map(|page| (segment, page)).collect()
}

impl<K: Threads> Machine<K> {
    /// The pages of a side, which the CPU has not mapped.
    fn side(&self, side: &Side<'_, Block>) -> Vec<At> {
        let pages = pages(side.segment, side.extents);
        let mapped = self.gpu.mapped.borrow();
        for (index, at) in pages.iter().enumerate() {
            let frame = side
                .pages
                .map(|pages| pages.bus_addr(index).unwrap().page());
            let spot = frame.map_or(Spot::Local(*at), Spot::Ram);
            assert!(
                !mapped.values().flatten().any(|there| *there == spot),
                "{spot:?}"
            );
        }
        pages
    }
}

impl<K: Threads> World for Machine<K> {
    type Sync = Sync<K>;
    type Ram = Memory<K>;
    type Lock<T> = K::Lock<T>;

    fn sync(&self) -> &Sync<K> {
        &self.sync
    }

    fn ram(&self) -> &Memory<K> {
        &self.ram
    }

    fn lock<T>(&self, value: T) -> K::Lock<T> {
        K::lock(value)
    }

    fn after(&self, ns: u64) -> Deadline {
        Deadline(K::now_ns(self.sync.host()).saturating_add(ns))
    }

    fn is_lost(&self) -> bool {
        self.gpu.lost.get()
    }

    fn hop(&self, from: SegmentId, to: SegmentId) -> Option<SegmentId> {
        let over = |from: SegmentId, to| from == SegmentId::System && !SegmentId::uses_tt(to);
        (over(from, to) || over(to, from)).then_some(SegmentId::PcieSnoop)
    }

    fn copy(
        &self,
        reservation: &ReservationOf<Self>,
        from: &Side<'_, Block>,
        to: &Side<'_, Block>,
    ) -> Result<FenceOf<Self>, Error> {
        K::holds_no_lock();
        let (from, to) = spared(|| (self.side(from), self.side(to)));
        assert_eq!(from.len(), to.len());
        self.submit_after(reservation, Work::Copy(from, to), Ok(()))
    }

    fn clear(
        &self,
        reservation: &ReservationOf<Self>,
        to: &Side<'_, Block>,
    ) -> Result<FenceOf<Self>, Error> {
        K::holds_no_lock();
        let to = spared(|| self.side(to));
        self.submit_after(reservation, Work::Fill(to, 0), Ok(()))
    }

    fn bind(
        &self,
        segment: SegmentId,
        extents: &[Extent],
        vector: &PageVector<Block>,
    ) -> Result<(), Error> {
        K::holds_no_lock();
        if !self.binds_until_failure.goes_on() {
            return Err(Error::Fault);
        }
        spared(|| {
            for (index, slot) in pages(segment, extents).into_iter().enumerate() {
                let frame = vector.bus_addr(index).unwrap().page();
                let before = self.gpu.gart.borrow().insert(slot, frame);
                assert_eq!(before, None, "a slot of somebody else");
            }
        });
        Ok(())
    }

    fn unbind(&self, segment: SegmentId, extents: &[Extent]) {
        K::holds_no_lock();
        spared(|| {
            for slot in pages(segment, extents) {
                assert!(self.gpu.gart.borrow().remove(&slot).is_some());
            }
        });
    }

    fn unmap_user(&self, id: Id) {
        K::holds_no_lock();
        K::meanwhile(&self.at_unmap);
        self.gpu.mapped.borrow().remove(&id);
    }

    fn is_mapped(&self, id: Id) -> bool {
        K::is_mapped(&self.spaces, id)
    }

    fn unmap_gpu(&self, id: Id) -> Result<(), Error> {
        K::holds_no_lock();
        K::unmap_gpu(&self.spaces, id)
    }
}

/// How a job of an application may end beside well.
pub(in crate::tests) const BAD_ENDS: [FenceError; 3] = [
    FenceError::Failed,
    FenceError::Canceled,
    FenceError::TimedOut,
];
