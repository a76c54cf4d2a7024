//! The memory manager on a small GPU whose copy engine works only while somebody
//! waits: contents compared, everything counted.

use super::processes::Process;
use super::ram::{Block, System, count_down};
use crate::Error;
use crate::arena::Id;
use crate::bo::Kind;
use crate::bo::page_vector::{BackingStore, PageVector, Ram};
use crate::bo::pool::{Lists, SmallLock};
use crate::evict::{Context, FenceOf, Info, Mm, Page, ReservationOf, Side, World};
use crate::placement::{BuddyOptions, Extent, Flags, Place, SegmentId, Window};
use crate::platform::{Caching, Patience};
use crate::sync::portable::{Portable, Single};
use crate::sync::{Caller, Deadline, FenceContext, Primitives, Usage};
use crate::vm::Spaces;
use proptest::prelude::*;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU64;
use std::rc::Rc;

pub(super) type Sync = Portable<Single>;

pub(super) struct Cellar<T>(pub(super) RefCell<T>);

impl<T> SmallLock<T> for Cellar<T> {
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }
}

pub(super) struct Shelf {
    system: Rc<System>,
    stored: RefCell<HashMap<NonZeroU64, u64>>,
    next: Cell<u64>,
    room: Cell<u32>,
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

pub(super) struct Memory {
    pub(super) system: Rc<System>,
    pub(super) pool: Cellar<Lists<Block>>,
    shelf: Shelf,
}

impl Ram for Memory {
    type Block = Block;
    type Source = System;
    type Pool = Cellar<Lists<Block>>;
    type Store = Shelf;

    fn source(&self) -> &System {
        &self.system
    }

    fn pool(&self) -> &Cellar<Lists<Block>> {
        &self.pool
    }

    fn store(&self) -> &Shelf {
        &self.shelf
    }
}

/// A page as the GPU names it.
pub(super) type At = (SegmentId, u64);

pub(super) type Job = dyn FnOnce(&Gpu, &System);

pub(super) enum Work {
    Copy(Vec<At>, Vec<At>),
    Fill(Vec<At>, u64),
    /// Of a process: what it does when its turn comes.
    Run(Box<Job>),
}

/// What the GPU sees.
#[derive(Default)]
pub(super) struct Gpu {
    /// One word of each page; garbage where nobody wrote.
    local: RefCell<HashMap<At, u64>>,
    /// Frames of RAM.
    gart: RefCell<HashMap<At, u64>>,
    queue: RefCell<VecDeque<(u64, Work)>>,
    copied: Cell<u64>,
}

impl Gpu {
    pub(super) fn read(&self, system: &System, at: At) -> u64 {
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

    pub(super) fn write(&self, system: &System, at: At, word: u64) {
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

    fn step(&self, system: &System) -> Option<u64> {
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

pub(super) struct Machine {
    sync: Rc<Sync>,
    pub(super) ram: Memory,
    pub(super) gpu: Rc<Gpu>,
    ring: Rc<RefCell<FenceContext<Sync>>>,
    copies_until_failure: Cell<u32>,
    pub(super) spaces: OnceCell<Spaces<Machine, Process>>,
}

impl Machine {
    fn new() -> Self {
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
            spaces: OnceCell::new(),
        }
    }

    pub(super) fn submit(&self, work: Work) -> Result<FenceOf<Self>, Error> {
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
    pub(super) fn work(&self, steps: usize) {
        for _ in 0..steps {
            let Some(sequence) = self.gpu.step(&self.ram.system) else {
                return;
            };
            self.ring.borrow_mut().end_through(&self.sync, sequence);
        }
    }
}

fn pages<B>(side: &Side<'_, B>) -> Vec<At> {
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
        Deadline(ns)
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

    fn unmap_user(&self, _: Id) {}

    fn is_mapped(&self, bo: Id) -> bool {
        self.spaces.get().is_some_and(|spaces| spaces.is_mapped(bo))
    }

    fn unmap_gpu(&self, bo: Id) -> Result<(), Error> {
        self.spaces.get().map_or(Ok(()), |spaces| spaces.leave(bo))
    }
}

pub(super) const SIZES: [u64; 4] = [32, 32, 48, 48];

pub(super) fn manager(sizes: [u64; 4]) -> Mm<Machine> {
    Mm::new(Machine::new(), sizes, BuddyOptions::default()).unwrap()
}

pub(super) fn ctx() -> Context {
    Context::until(Deadline(u64::MAX - 1), Patience::Patient)
}

pub(super) fn info(pages: u64) -> Info {
    Info {
        kind: Kind::Device,
        pages,
        align: 1,
        caching: Caching::WriteCombined,
        priority: 0,
    }
}

pub(super) fn anywhere(segment: SegmentId) -> Place {
    Place::anywhere(segment, Flags::NONE)
}

fn create(mm: &Mm<Machine>, info: &Info, places: &[Place]) -> Result<Id, Error> {
    let mut caller = Caller::enter(mm.world().sync());
    let mut set = caller.transaction(Patience::Patient)?;
    set.run(|set| mm.create(set, info, None, places, &mut ctx()))
}

/// With the buffer's reservation held.
pub(super) fn with<R>(
    mm: &Mm<Machine>,
    id: Id,
    mut f: impl FnMut(&mut crate::sync::LockSet<'_, Sync>) -> Result<R, Error>,
) -> Result<R, Error> {
    let reservation = mm.reservation(id)?;
    let mut caller = Caller::enter(mm.world().sync());
    let mut set = caller.transaction(Patience::Patient)?;
    set.run(|set| {
        set.lock(&reservation, 1)?;
        f(set)
    })
}

/// One word of a page, where it is now; the CPU goes in by a fault where it can.
pub(super) fn word(mm: &Mm<Machine>, id: Id, page: u64) -> Result<u64, Error> {
    let machine = mm.world();
    let mut caller = Caller::enter(machine.sync());
    let system = &machine.ram.system;
    mm.fault(&mut caller, id, page, &ctx(), |page| match page {
        Page::Ram(block, page) => system.words.borrow()[&(block.page + page as u64)],
        Page::Local(segment, page) => machine.gpu.read(system, (segment, page)),
    })
}

fn first_page(mm: &Mm<Machine>, id: Id) -> u64 {
    mm.extents(id).unwrap()[0].first
}

#[test]
fn the_worked_example_with_eviction() {
    const K: u64 = 1024;
    let windows = [(64 * K, 68 * K), (88 * K, 92 * K), (100 * K, 104 * K)];
    let places = windows.map(|(first, last)| Place {
        window: Window::new(first, last),
        ..anywhere(SegmentId::LocalVisible)
    });
    for (pinned, expected) in [(0, Some(64 * K)), (4, Some(88 * K)), (12, None)] {
        let mm = manager([128 * K, 16 * K, 16 * K, 16 * K]);
        let mut bos = Vec::new();
        for n in 0..12 {
            let bo = create(&mm, &info(K), &places).unwrap();
            let window = windows[n / 4];
            assert_eq!(
                first_page(&mm, bo),
                window.0 + (n as u64 % 4) * K,
                "number {n}"
            );
            bos.push(bo);
        }
        for bo in &bos[..pinned] {
            with(&mm, *bo, |set| mm.pin(set, *bo)).unwrap();
        }
        let last = create(&mm, &info(K), &places);
        assert_eq!(
            last.map(|bo| first_page(&mm, bo)).ok(),
            expected,
            "{pinned} pinned"
        );
        if expected.is_some() {
            assert_eq!(mm.segment(bos[pinned]), Ok(Some(SegmentId::LocalInvisible)));
        } else {
            assert_eq!(last, Err(Error::NoMemory));
        }
    }
}

#[test]
fn contents_go_down_to_swap_and_come_back_up() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(8), &[anywhere(SegmentId::LocalVisible)]).unwrap();
    assert_eq!(word(&mm, bo, 7), Ok(0), "R-7.8");
    let machine = mm.world();
    for page in 0..8 {
        let at = (SegmentId::LocalVisible, first_page(&mm, bo) + page);
        machine.gpu.write(&machine.ram.system, at, 100 + page);
    }
    for to in [
        SegmentId::LocalInvisible,
        SegmentId::PcieUnsnoop,
        SegmentId::LocalVisible,
        SegmentId::System,
    ] {
        let mut context = ctx();
        with(&mm, bo, |set| {
            mm.validate(set, bo, &[anywhere(to)], &mut context)
        })
        .unwrap();
        assert_eq!(mm.segment(bo), Ok(Some(to)));
        let hops = if to == SegmentId::System { 2 } else { 1 };
        assert_eq!(context.moved_pages, 8 * hops, "R-12.1, R-8.8");
    }
    assert_eq!(with(&mm, bo, |set| mm.swap_out(set, bo, &mut ctx())), Ok(8));
    assert_eq!(machine.ram.shelf.stored.borrow().len(), 8);
    assert_eq!(
        with(&mm, bo, |set| mm.swap_out(set, bo, &mut ctx())),
        Err(Error::Busy)
    );
    with(&mm, bo, |set| {
        mm.validate(set, bo, &[anywhere(SegmentId::LocalVisible)], &mut ctx())
    })
    .unwrap();
    for page in 0..8 {
        assert_eq!(word(&mm, bo, page), Ok(100 + page));
    }
    mm.release(bo).unwrap();
    machine.work(100);
    assert_eq!(mm.fini().err(), None);
}

#[test]
fn validate_with_nothing_to_do_changes_nothing_r_11_3() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(4), &[anywhere(SegmentId::LocalVisible)]).unwrap();
    mm.world().work(10);
    let mut context = ctx();
    let places = [
        Place::anywhere(SegmentId::LocalInvisible, Flags::FALLBACK),
        anywhere(SegmentId::LocalVisible),
    ];
    with(&mm, bo, |set| mm.validate(set, bo, &places, &mut context)).unwrap();
    assert_eq!(
        (context.moved_pages, mm.world().gpu.queue.borrow().len()),
        (0, 0)
    );
}

#[test]
fn a_pinned_buffer_stays_and_says_so_r_8_5_d_27() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(4), &[anywhere(SegmentId::LocalVisible)]).unwrap();
    with(&mm, bo, |set| mm.pin(set, bo)).unwrap();
    let fall_back = [
        anywhere(SegmentId::LocalInvisible),
        Place::anywhere(SegmentId::LocalVisible, Flags::FALLBACK),
    ];
    let validate = |places: &[Place]| with(&mm, bo, |set| mm.validate(set, bo, places, &mut ctx()));
    assert_eq!(validate(&fall_back), Ok(()));
    assert_eq!(validate(&fall_back[..1]), Err(Error::Invalid));
    with(&mm, bo, |set| mm.unpin(set, bo)).unwrap();
    assert_eq!(
        with(&mm, bo, |set| mm.unpin(set, bo)),
        Err(Error::Invalid),
        "R-8.4"
    );
    assert_eq!(validate(&fall_back[..1]), Ok(()));
}

#[test]
fn a_buffer_that_the_gpu_uses_is_freed_when_it_is_idle_r_17_1() {
    let mm = manager(SIZES);
    let bo = create(&mm, &info(32), &[anywhere(SegmentId::LocalVisible)]).unwrap();
    mm.release(bo).unwrap();
    mm.reap();
    assert_eq!(
        (mm.dying(), mm.usage(SegmentId::LocalVisible)),
        (1, 32 * 4096)
    );
    // Its clearing has not ended; who needs the room waits for it and takes it.
    let other = create(&mm, &info(32), &[anywhere(SegmentId::LocalVisible)]).unwrap();
    assert_eq!((mm.dying(), mm.len()), (0, 1));
    assert_eq!(word(&mm, other, 31), Ok(0));
    mm.release(other).unwrap();
    assert_eq!(
        (mm.len(), mm.usage(SegmentId::LocalVisible)),
        (0, 0),
        "R-17.4"
    );
}

#[test]
fn who_may_not_wait_is_told_busy_and_not_out_of_memory() {
    let mm = manager(SIZES);
    let first = create(&mm, &info(32), &[anywhere(SegmentId::LocalVisible)]).unwrap();
    mm.release(first).unwrap();
    let mut caller = Caller::enter(mm.world().sync());
    let mut set = caller.transaction(Patience::Patient).unwrap();
    let mut context = Context {
        no_wait: true,
        ..ctx()
    };
    let places = [anywhere(SegmentId::LocalVisible)];
    let created = set.run(|set| mm.create(set, &info(1), None, &places, &mut context));
    assert_eq!(created, Err(Error::Busy));
}

#[test]
fn a_range_that_was_booked_in_vain_still_has_to_be_waited_for() {
    let mm = manager(SIZES);
    let machine = mm.world();
    let old = create(&mm, &info(32), &[anywhere(SegmentId::LocalVisible)]).unwrap();
    machine.work(usize::MAX);
    machine
        .gpu
        .write(&machine.ram.system, (SegmentId::LocalVisible, 9), 77);
    let out = [anywhere(SegmentId::LocalInvisible)];
    with(&mm, old, |set| mm.validate(set, old, &out, &mut ctx())).unwrap();
    let kernel = Info {
        kind: Kind::Kernel,
        ..info(32)
    };
    let places = [anywhere(SegmentId::LocalVisible)];
    let mut context = Context {
        no_wait: true,
        ..ctx()
    };
    let mut caller = Caller::enter(machine.sync());
    let mut set = caller.transaction(Patience::Patient).unwrap();
    let created = set.run(|set| mm.create(set, &kernel, None, &places, &mut context));
    assert_eq!(created, Err(Error::Busy), "the copy has not ended");
    drop(set);
    let new = create(&mm, &kernel, &places).unwrap();
    let idle = machine
        .sync
        .is_idle(&mm.reservation(new).unwrap(), Usage::Kernel);
    assert!(!idle, "nor has it now");
    // The fault waits for the copy, so that this does not come before it.
    assert!(word(&mm, new, 9).is_ok());
    machine
        .gpu
        .write(&machine.ram.system, (SegmentId::LocalVisible, 9), 0);
    machine.work(usize::MAX);
    assert_eq!(
        machine
            .gpu
            .read(&machine.ram.system, (SegmentId::LocalInvisible, 9)),
        77
    );
}

#[test]
fn local_memory_is_emptied_before_a_sleep_and_its_contents_come_back_r_5_12() {
    let mm = manager(SIZES);
    let local = [SegmentId::LocalVisible, SegmentId::LocalInvisible];
    let mut bos: Vec<_> = (0..6)
        .map(|n| create(&mm, &info(8), &[anywhere(local[n % 2])]).unwrap())
        .collect();
    let machine = mm.world();
    for (n, bo) in (0..).zip(&bos) {
        let at = (mm.segment(*bo).unwrap().unwrap(), first_page(&mm, *bo) + 3);
        machine.work(usize::MAX);
        machine.gpu.write(&machine.ram.system, at, 70 + n);
    }
    // Gone, and still in use: it does not keep the memory.
    mm.release(bos.pop().unwrap()).unwrap();
    with(&mm, bos[0], |set| mm.pin(set, bos[0])).unwrap();
    let mut caller = Caller::enter(machine.sync());
    // What leaves visible memory may go to the invisible part: that one comes last.
    for segment in local {
        mm.evict_all(&mut caller, segment, &mut ctx()).unwrap();
    }
    assert!(
        machine.gpu.queue.borrow().is_empty(),
        "all copies were waited for"
    );
    let left = local.map(|segment| mm.usage(segment));
    assert_eq!(left, [8 * 4096, 0], "what is pinned stays");
    machine
        .gpu
        .local
        .borrow_mut()
        .retain(|at, _| at.0 == SegmentId::LocalVisible);
    for (n, bo) in (0..).zip(&bos) {
        assert_eq!(word(&mm, *bo, 3), Ok(70 + n));
    }
    let system = mm.evict_all(&mut caller, SegmentId::System, &mut ctx());
    assert_eq!(system, Err(Error::Invalid));
}

#[derive(Clone, Debug)]
enum Op {
    Create(u64, usize, bool, bool, usize),
    Validate(usize, usize),
    Gpu(usize, u64, u64),
    Cpu(usize, u64, u64),
    Pin(usize),
    Unpin(usize),
    Swap(usize),
    Release(usize),
    Reap,
    Work(usize),
    CopyFails(u32),
    NoRam(bool),
    NoWait(usize, usize),
}

fn op() -> impl Strategy<Value = Op> {
    let n = any::<usize>;
    prop_oneof![
        6 => (1..13_u64, 0..6_usize, any::<bool>(), any::<bool>(), 0..4_usize)
            .prop_map(|(pages, places, wc, kernel, priority)| Op::Create(pages, places, wc, kernel, priority)),
        6 => (n(), 0..6_usize).prop_map(|(bo, places)| Op::Validate(bo, places)),
        5 => (n(), any::<u64>(), any::<u64>()).prop_map(|(bo, page, word)| Op::Gpu(bo, page, word)),
        5 => (n(), any::<u64>(), any::<u64>()).prop_map(|(bo, page, word)| Op::Cpu(bo, page, word)),
        1 => n().prop_map(Op::Pin),
        1 => n().prop_map(Op::Unpin),
        2 => n().prop_map(Op::Swap),
        3 => n().prop_map(Op::Release),
        1 => Just(Op::Reap),
        3 => (0..4_usize).prop_map(Op::Work),
        1 => (0..3_u32).prop_map(Op::CopyFails),
        1 => any::<bool>().prop_map(Op::NoRam),
        2 => (n(), 0..6_usize).prop_map(|(bo, places)| Op::NoWait(bo, places)),
    ]
}

struct Known {
    id: Id,
    words: Vec<Option<u64>>,
    pins: u32,
}

struct Test {
    mm: Mm<Machine>,
    bos: Vec<Known>,
}

fn places(n: usize, pcie: SegmentId) -> Vec<Place> {
    let (visible, invisible) = (SegmentId::LocalVisible, SegmentId::LocalInvisible);
    match n {
        0 => vec![anywhere(visible)],
        1 => vec![
            anywhere(invisible),
            Place::anywhere(visible, Flags::FALLBACK),
        ],
        2 => vec![Place::anywhere(invisible, Flags::DESIRED), anywhere(pcie)],
        3 => vec![anywhere(pcie)],
        4 => vec![Place::anywhere(
            visible,
            Flags::CONTIGUOUS.with(Flags::TOPDOWN),
        )],
        _ => vec![anywhere(SegmentId::System)],
    }
}

impl Test {
    fn pick(&self, n: usize) -> Option<usize> {
        n.checked_rem(self.bos.len())
    }

    fn validate(&self, at: usize, n: usize, no_wait: bool) -> Result<(), Error> {
        let id = self.bos[at].id;
        let places = places(n, self.mm.info(id)?.pcie());
        let mut context = Context { no_wait, ..ctx() };
        with(&self.mm, id, |set| {
            self.mm.validate(set, id, &places, &mut context)
        })
    }

    fn run(&mut self, op: &Op) {
        let machine = self.mm.world();
        match *op {
            Op::Create(pages, n, wc, kernel, priority) => {
                let info = Info {
                    kind: if kernel { Kind::Kernel } else { Kind::Device },
                    caching: if wc {
                        Caching::WriteCombined
                    } else {
                        Caching::Cached
                    },
                    priority,
                    ..info(pages)
                };
                if let Ok(id) = create(&self.mm, &info, &places(n, info.pcie())) {
                    let words = vec![(!kernel).then_some(0); usize::try_from(pages).unwrap()];
                    self.bos.push(Known { id, words, pins: 0 });
                }
            }
            Op::Validate(n, places) => {
                let Some(at) = self.pick(n) else { return };
                let result = self.validate(at, places, false);
                let pinned = self.bos[at].pins > 0;
                assert!(result != Err(Error::Busy), "who may wait is not told busy");
                assert!(result != Err(Error::Invalid) || pinned);
            }
            Op::NoWait(n, places) => {
                let Some(at) = self.pick(n) else { return };
                let before = self.mm.world().ring.borrow().ended();
                let _ = self.validate(at, places, true);
                assert_eq!(
                    self.mm.world().ring.borrow().ended(),
                    before,
                    "nobody waited"
                );
            }
            Op::Gpu(n, page, word) => self.gpu_writes(n, page, word),
            Op::Cpu(n, page, word) => self.cpu_writes(n, page, word),
            Op::Pin(n) => {
                let Some(at) = self.pick(n) else { return };
                let id = self.bos[at].id;
                with(&self.mm, id, |set| self.mm.pin(set, id)).unwrap();
                self.bos[at].pins += 1;
            }
            Op::Unpin(n) => {
                let Some(at) = self.pick(n) else { return };
                let id = self.bos[at].id;
                let unpinned = with(&self.mm, id, |set| self.mm.unpin(set, id));
                assert_eq!(unpinned.is_ok(), self.bos[at].pins > 0);
                self.bos[at].pins = self.bos[at].pins.saturating_sub(1);
            }
            Op::Swap(n) => {
                let Some(at) = self.pick(n) else { return };
                let id = self.bos[at].id;
                let _ = with(&self.mm, id, |set| self.mm.swap_out(set, id, &mut ctx()));
            }
            Op::Release(n) => {
                let Some(at) = self.pick(n) else { return };
                let known = self.bos.swap_remove(at);
                self.mm.release(known.id).unwrap();
            }
            Op::Reap => self.mm.reap(),
            Op::Work(steps) => machine.work(steps),
            Op::CopyFails(n) => machine.copies_until_failure.set(n),
            Op::NoRam(no) => machine
                .ram
                .system
                .budget
                .set(if no { 20 } else { u64::MAX }),
        }
    }

    /// A job: validate, make resident, submit, fence.
    fn gpu_writes(&mut self, n: usize, page: u64, word: u64) {
        let Some(at) = self.pick(n) else { return };
        let (mm, id) = (&self.mm, self.bos[at].id);
        let machine = mm.world();
        let page = page % mm.info(id).unwrap().pages;
        let reservation = mm.reservation(id).unwrap();
        let mut caller = Caller::enter(machine.sync());
        let mut set = caller.transaction(Patience::Patient).unwrap();
        let pcie = mm.info(id).unwrap().pcie();
        let places = [
            anywhere(SegmentId::LocalVisible),
            anywhere(SegmentId::LocalInvisible),
            anywhere(pcie),
        ];
        let ready = set.run(|set| {
            set.lock(&reservation, 1)?;
            mm.validate(set, id, &places, &mut ctx())?;
            mm.make_resident(set, id)?;
            set.lock(&reservation, 1)?;
            Ok(())
        });
        if ready.is_err() {
            return;
        }
        let slot = mm
            .extents(id)
            .unwrap()
            .iter()
            .flat_map(|e| e.first..e.end)
            .nth(usize::try_from(page).unwrap());
        let to = (mm.segment(id).unwrap().unwrap(), slot.unwrap());
        if let Ok(fence) = machine.submit(Work::Fill(vec![to], word)) {
            set.commit(&fence, |_| Usage::Write).unwrap();
            self.bos[at].words[usize::try_from(page).unwrap()] = Some(word);
        }
    }

    /// The CPU waits for the GPU, then writes where the page is.
    fn cpu_writes(&mut self, n: usize, page: u64, word: u64) {
        let Some(at) = self.pick(n) else { return };
        let (mm, id) = (&self.mm, self.bos[at].id);
        let machine = mm.world();
        let page = page % mm.info(id).unwrap().pages;
        let reservation = mm.reservation(id).unwrap();
        let idle = machine.sync.wait_idle(
            &reservation,
            Usage::Bookkeep,
            Patience::Patient,
            Deadline(u64::MAX - 1),
        );
        idle.unwrap();
        let mut caller = Caller::enter(machine.sync());
        let system = &machine.ram.system;
        let written = mm.fault(&mut caller, id, page, &ctx(), |page| match page {
            Page::Ram(block, page) => {
                let mut words = system.words.borrow_mut();
                words.insert(block.page + page as u64, word);
            }
            Page::Local(segment, page) => machine.gpu.write(system, (segment, page), word),
        });
        match written {
            Ok(()) => {}
            Err(error) => {
                let invisible = mm.segment(id) == Ok(Some(SegmentId::LocalInvisible));
                assert!(
                    error == Error::NoMemory || (error == Error::Fault && invisible),
                    "{error}"
                );
                return;
            }
        }
        self.bos[at].words[usize::try_from(page).unwrap()] = Some(word);
    }

    /// Everything is counted, and nothing lies where something else does.
    fn check(&self) {
        self.mm.check();
        let system = &self.mm.world().ram.system;
        let waiting = self.mm.world().ram.pool.with(|pool| pool.pages());
        assert_eq!(self.mm.held_pages() + waiting, system.pages_out());
    }

    /// Every word of every buffer is what was written last.
    fn check_contents(&self) {
        let machine = self.mm.world();
        machine.copies_until_failure.set(u32::MAX);
        machine.ram.system.budget.set(u64::MAX);
        machine.work(usize::MAX);
        for known in &self.bos {
            for (page, expected) in (0_u64..).zip(&known.words) {
                let found = match word(&self.mm, known.id, page) {
                    Err(Error::Fault) => {
                        let slot = self
                            .mm
                            .extents(known.id)
                            .unwrap()
                            .iter()
                            .flat_map(|e| e.first..e.end)
                            .nth(usize::try_from(page).unwrap());
                        machine.gpu.read(
                            &machine.ram.system,
                            (SegmentId::LocalInvisible, slot.unwrap()),
                        )
                    }
                    other => other.unwrap(),
                };
                if let Some(expected) = expected {
                    assert_eq!(found, *expected, "{:?} page {page}", known.id);
                }
            }
        }
    }
}

fn run(ops: &[Op]) {
    let mut test = Test {
        mm: manager(SIZES),
        bos: Vec::new(),
    };
    for (n, op) in ops.iter().enumerate() {
        test.run(op);
        test.check();
        if n % 16 == 0 {
            test.check_contents();
        }
    }
    test.check_contents();
    let Test { mm, bos } = test;
    for known in bos {
        mm.release(known.id).unwrap();
    }
    mm.world().work(usize::MAX);
    mm.reap();
    let shelf = mm.world().ram.shelf.stored.borrow().len();
    crate::bo::pool::close(&*mm.world().ram.system, &mm.world().ram.pool);
    assert_eq!((mm.world().ram.system.pages_out(), shelf), (0, 0));
    assert!(mm.world().gpu.gart.borrow().is_empty());
    assert_eq!(mm.fini(), Ok(()));
}

proptest! {
    #[test]
    fn contents_and_books_survive_whatever_is_done(ops in prop::collection::vec(op(), 1..120)) {
        run(&ops);
    }
}
