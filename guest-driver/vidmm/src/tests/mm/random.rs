//! Random operations beside a copy engine of two rings, contents compared, everything
//! counted.
//!
//! `PRESIL_OPERATIONS` is how many a long run does, 3,000 without it; a million take
//! about an hour. `PRESIL_SEED` makes it another one.

use super::machine::{At, BAD_ENDS, Machine, Site, Spot, Work};
use super::{
    SIZES, anywhere, at_once, create_in, info, manager_with, pages, soon, touch, whole, with, word,
};
use crate::Error;
use crate::arena::Id;
use crate::bo::Kind;
use crate::bo::page_vector::Has;
use crate::bo::pool::{Key, MAX_ORDER, SmallLock};
use crate::evict::check::Seen;
use crate::evict::lru::GroupId;
use crate::evict::{Balance, FenceOf, Info, Mm, Options, OwnerId, Promotion, ReservationOf, Used};
use crate::placement::{Extent, Flags, Place, SegmentId};
use crate::platform::{Caching, Patience};
use crate::sync::{Caller, Deadline, FenceResult, Primitives, Usage};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::{BTreeMap, HashSet};

#[derive(Clone, Debug)]
enum Op {
    Create(u64, usize, bool, bool, usize, usize),
    Budget(usize, usize, [u64; 3]),
    Validate(usize, usize),
    /// A member of the group.
    Member(u64, usize),
    Join(usize, bool),
    Unreserve(usize, bool),
    Promote,
    Around(usize, u64),
    MapWhole(usize),
    Kernel(usize, u64, u64),
    Gpu(usize, u64, u32, usize),
    Cpu(usize, u64, u32),
    Touch(usize, u64),
    Pin(usize),
    Unpin(usize),
    Swap(usize),
    Purge(usize),
    Shrink(usize, bool),
    Hibernate,
    Limit(usize),
    Release(usize),
    Reap,
    Work(usize),
    Fails(usize, u32),
    NoRam(bool),
    NoWait(usize, usize),
    Lost,
    EvictAll(usize),
}

/// Sizes of buffers up to `most` pages.
fn op(most: u64) -> impl Strategy<Value = Op> {
    let n = any::<usize>;
    prop_oneof![
        6 => (1..=most, 0..6_usize, any::<bool>(), any::<bool>(), 0..4_usize, 0..3_usize)
            .prop_map(|(pages, places, wc, kernel, priority, owner)| Op::Create(pages, places, wc, kernel, priority, owner)),
        1 => (0..2_usize, 0..5_usize, prop::array::uniform3(0..40_u64))
            .prop_map(|(owner, segment, pages)| Op::Budget(owner, segment, pages)),
        6 => (n(), 0..6_usize).prop_map(|(bo, places)| Op::Validate(bo, places)),
        2 => (1..=most, 0..6_usize).prop_map(|(pages, places)| Op::Member(pages, places)),
        1 => (n(), any::<bool>()).prop_map(|(bo, joins)| Op::Join(bo, joins)),
        2 => (n(), any::<bool>()).prop_map(|(bo, group)| Op::Unreserve(bo, group)),
        2 => Just(Op::Promote),
        2 => (n(), any::<u64>()).prop_map(|(bo, page)| Op::Around(bo, page)),
        5 => (n(), any::<u64>(), any::<u32>(), 0..12_usize)
            .prop_map(|(bo, page, word, end)| Op::Gpu(bo, page, word, end)),
        5 => (n(), any::<u64>(), any::<u32>()).prop_map(|(bo, page, word)| Op::Cpu(bo, page, word)),
        2 => (n(), any::<u64>()).prop_map(|(bo, page)| Op::Touch(bo, page)),
        1 => n().prop_map(Op::Pin),
        1 => n().prop_map(Op::Unpin),
        2 => n().prop_map(Op::Swap),
        1 => n().prop_map(Op::Purge),
        1 => (0..30_usize, any::<bool>()).prop_map(|(pages, no_wait)| Op::Shrink(pages, no_wait)),
        1 => Just(Op::Hibernate),
        1 => prop::option::of(20..60_usize)
            .prop_map(move |pages| Op::Limit(pages.map_or(usize::MAX, |it| it * usize::try_from(most).unwrap() / 12))),
        1 => n().prop_map(Op::MapWhole),
        1 => (n(), 0..most, 0..=most).prop_map(|(bo, first, pages)| Op::Kernel(bo, first, pages)),
        3 => n().prop_map(Op::Release),
        1 => Just(Op::Reap),
        3 => (0..4_usize).prop_map(Op::Work),
        2 => (n(), 0..3_u32).prop_map(|(site, calls)| Op::Fails(site, calls)),
        1 => any::<bool>().prop_map(Op::NoRam),
        2 => (n(), 0..6_usize).prop_map(|(bo, places)| Op::NoWait(bo, places)),
        1 => Just(Op::Lost),
        1 => (0..4_usize).prop_map(Op::EvictAll),
    ]
}

/// Each improvement on or off.
fn options() -> impl Strategy<Value = Options> {
    any::<[bool; 6]>().prop_map(improved)
}

fn improved([wait_last, plan, cpu_use, grow_prefault, promotes, lazy]: [bool; 6]) -> Options {
    Options {
        wait_last,
        plan,
        cpu_use,
        grow_prefault,
        eager_pages: !lazy,
        promotion: promotes.then_some(Promotion {
            spare_percent: 0,
            rest_ns: 2000,
            ..Promotion::default()
        }),
        ..Options::default()
    }
}

pub(super) struct Known {
    pub(super) id: Id,
    /// The upper half of every word that is ever written to it.
    tag: u64,
    kernel: bool,
    /// What a page must show; anything of its own where nobody can say.
    pub(super) words: Vec<Option<u64>>,
    pins: u32,
}

impl Known {
    fn word(&self, low: u32) -> u64 {
        self.tag << 32 | u64::from(low)
    }

    /// A word that was found is what was written last, and never another's.
    pub(super) fn check(&self, page: usize, found: u64) {
        match self.words[page] {
            Some(expected) => assert_eq!(found, expected, "{:?} page {page}", self.id),
            None => assert!(
                self.kernel || found == 0 || found >> 32 == self.tag,
                "{:?} page {page} shows {found:#x}",
                self.id
            ),
        }
    }
}

/// A job that writes a word, until it has ended.
struct Written {
    fence: FenceOf<Machine>,
    tag: u64,
    page: usize,
    word: u64,
}

mod ops;

pub(super) struct Test {
    pub(super) mm: Mm<Machine>,
    pub(super) bos: Vec<Known>,
    most: usize,
    tags: u64,
    writes: Vec<Written>,
    /// Pages of RAM that may exist.
    limit: usize,
    owners: [OwnerId; 2],
    group: GroupId,
    shared: ReservationOf<Machine>,
}

const TYPES: [SegmentId; SegmentId::COUNT] = SegmentId::TYPES;

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
    pub(super) fn new(sizes: [u64; 4], options: Options, most: usize) -> Self {
        let mm = manager_with(sizes, options);
        // Copies and jobs are on both rings, in turn.
        mm.world().ring.set(None);
        let owners = [(); 2].map(|()| mm.open_account().unwrap());
        let shared = mm.world().sync.new_reservation().unwrap();
        let group = mm.new_group(&shared).unwrap();
        Self {
            owners,
            group,
            shared,
            mm,
            bos: Vec::new(),
            most,
            tags: 0,
            writes: Vec::new(),
            limit: usize::MAX,
        }
    }

    fn pick(&self, n: usize) -> Option<usize> {
        n.checked_rem(self.bos.len())
    }

    fn validate(&self, at: usize, n: usize, no_wait: bool) -> Result<(), Error> {
        let id = self.bos[at].id;
        let places = places(n, self.mm.info(id)?.pcie());
        let mut context = if no_wait { at_once() } else { soon(&self.mm) };
        with(&self.mm, id, |set| {
            self.mm.validate(set, id, &places, &mut context)
        })
    }

    fn balances(&self) -> [[Balance; SegmentId::COUNT]; 2] {
        let of = |owner| TYPES.map(|segment| self.mm.balance(owner, segment).unwrap());
        self.owners.map(of)
    }

    /// For whom an operation is.
    fn actor(&self, op: &Op) -> Option<OwnerId> {
        let n = match *op {
            Op::Create(.., owner) => return self.owners.get(owner).copied(),
            Op::Budget(owner, ..) => return Some(self.owners[owner]),
            Op::Validate(n, _)
            | Op::NoWait(n, _)
            | Op::Gpu(n, ..)
            | Op::Cpu(n, ..)
            | Op::Pin(n)
            | Op::Unpin(n)
            | Op::Swap(n)
            | Op::Purge(n)
            | Op::MapWhole(n)
            | Op::Kernel(n, ..)
            | Op::Touch(n, _)
            | Op::Release(n)
            | Op::Join(n, _)
            | Op::Unreserve(n, _)
            | Op::Around(n, _) => n,
            Op::Member(..)
            | Op::Promote
            | Op::Reap
            | Op::Work(_)
            | Op::Fails(..)
            | Op::NoRam(_)
            | Op::Lost
            | Op::Shrink(..)
            | Op::Hibernate
            | Op::Limit(_)
            | Op::EvictAll(_) => {
                return None;
            }
        };
        let id = self.bos[self.pick(n)?].id;
        self.mm.info(id).unwrap().owner
    }

    /// Nobody loses by another's operation what was promised to him, and nobody has
    /// more of local memory than he may (D-20).
    fn step(&mut self, op: &Op) -> Option<usize> {
        let (actor, before) = (self.actor(op), self.balances());
        let touched = self.run(op);
        let after = self.balances();
        for (n, owner) in self.owners.iter().enumerate() {
            for (before, after) in before[n].iter().zip(&after[n]) {
                let kept = before.live().min(after.budget.min);
                assert!(
                    // Who empties a type empties all of it.
                    // Who comes back to where he wants to be loses nothing.
                    actor == Some(*owner)
                        || after.live() >= kept
                        || matches!(op, Op::EvictAll(_) | Op::Promote | Op::Hibernate),
                    "{before:?} {after:?}"
                );
            }
            for (before, after) in before[n].iter().zip(&after[n]).take(2) {
                assert!(after.booked <= before.booked.max(after.budget.limit));
            }
        }
        touched
    }

    /// Which buffer was touched, if one was.
    fn run(&mut self, op: &Op) -> Option<usize> {
        let machine = self.mm.world();
        let bo = match *op {
            Op::Validate(n, _)
            | Op::Gpu(n, ..)
            | Op::Cpu(n, ..)
            | Op::Touch(n, _)
            | Op::Pin(n)
            | Op::Unpin(n)
            | Op::Swap(n)
            | Op::Purge(n)
            | Op::MapWhole(n)
            | Op::Kernel(n, ..)
            | Op::Release(n)
            | Op::Join(n, _)
            | Op::Unreserve(n, _)
            | Op::Around(n, _)
            | Op::NoWait(n, _) => Some(self.pick(n)?),
            _ => None,
        };
        let at = bo.unwrap_or(0);
        let id = bo.map(|at| self.bos[at].id);
        match (op.clone(), id) {
            (Op::Create(pages, n, wc, kernel, priority, owner), _) => {
                let owner = self.owners.get(owner).copied();
                self.create(pages, n, wc, kernel, priority, owner);
            }
            (Op::Budget(owner, segment, pages), _) => self.budget(owner, segment, pages),
            (Op::Member(pages, n), _) => self.member(pages, n),
            (Op::Join(n, joins), _) => self.join(n, joins),
            (Op::Promote, _) => self.promote(),
            (Op::Around(n, page), _) => self.around(n, page),
            (Op::Kernel(_, first, pages), Some(_)) => self.kernel(at, first, pages),
            (Op::MapWhole(_), Some(id)) => self.map_whole(at, id),
            (Op::Purge(_), Some(id)) => self.purge(at, id),
            (Op::Unreserve(n, group), _) => self.unreserve(n, group),
            (Op::Validate(_, places), _) => {
                let result = self.validate(at, places, false);
                let pinned = self.bos[at].pins > 0;
                assert!(
                    result != Err(Error::Busy) || self.refuses(),
                    "who may wait is not told busy"
                );
                assert!(result != Err(Error::Invalid) || pinned);
            }
            (Op::NoWait(_, places), _) => {
                let before = machine.gpu.ended.get();
                let _ = self.validate(at, places, true);
                assert_eq!(machine.gpu.ended.get(), before, "nobody waited");
            }
            (Op::Gpu(_, page, low, end), Some(id)) => {
                let ends = BAD_ENDS.get(end).map_or(Ok(()), |error| Err(*error));
                let page = page % self.mm.info(id).unwrap().pages;
                let pcie = self.mm.info(id).unwrap().pcie();
                let places = [
                    anywhere(SegmentId::LocalVisible),
                    anywhere(SegmentId::LocalInvisible),
                    anywhere(pcie),
                ];
                self.gpu_writes(at, id, page, low, &places, ends);
            }
            (Op::Cpu(_, page, low), Some(id)) => self.cpu_writes(at, id, page, low),
            (Op::Touch(_, page), Some(id)) => {
                let page = page % self.mm.info(id).unwrap().pages;
                _ = touch(&self.mm, id, page, &mut at_once());
            }
            (Op::Pin(_), Some(id)) => self.pin(at, id),
            (Op::Unpin(_), Some(id)) => self.unpin(at, id),
            (Op::Swap(_), Some(id)) => {
                let _ = with(&self.mm, id, |set| {
                    self.mm.swap_out(set, id, &mut soon(&self.mm))
                });
            }
            (Op::Release(_), Some(id)) => {
                self.bos.swap_remove(at);
                self.mm.release(id).unwrap();
                return None;
            }
            (Op::Reap, _) => self.mm.reap(),
            (Op::Shrink(pages, no_wait), _) => self.shrink(pages, no_wait),
            (Op::Hibernate, _) => self.hibernate(),
            (Op::Limit(pages), _) => {
                self.limit = pages;
                self.mm.limit_ram(pages);
            }
            (Op::Work(steps), _) => machine.work(steps),
            (Op::Fails(site, calls), _) => {
                Site::ALL[site % Site::ALL.len()].of(machine).set(calls);
            }
            (Op::NoRam(true), _) => machine.ram.system.budget.set(20),
            (Op::NoRam(false), _) => machine.mend(),
            (Op::Lost, _) => machine.gpu.lose(),
            (Op::EvictAll(n), _) => self.evict_all(SegmentId::ALL[n]),
            (_, None) => {}
        }
        bo
    }

    fn evict_all(&self, segment: SegmentId) {
        let mut caller = Caller::enter(&*self.mm.world().sync);
        let mut context = soon(&self.mm);
        if self
            .mm
            .evict_all(&mut caller, segment, &mut context)
            .is_err()
        {
            return;
        }
        let left = self.mm.seen().into_iter();
        let pinned =
            left.filter(|it| it.segment == segment && self.mm.is_pinned(it.id) == Ok(true));
        let pages = pinned.flat_map(|it| it.extents).map(Extent::pages);
        assert_eq!(self.mm.usage(segment), pages.sum::<u64>() * 4096);
    }

    fn create(
        &mut self,
        pages: u64,
        n: usize,
        wc: bool,
        kernel: bool,
        priority: usize,
        owner: Option<OwnerId>,
    ) {
        if self.bos.len() == self.most {
            return;
        }
        let info = Info {
            kind: if kernel { Kind::Kernel } else { Kind::Device },
            caching: if wc {
                Caching::WriteCombined
            } else {
                Caching::Cached
            },
            priority,
            owner,
            ..info(pages)
        };
        self.create_at(&info, &places(n, info.pcie()));
    }

    pub(super) fn create_at(&mut self, info: &Info, places: &[Place]) {
        if let Ok(id) = create_in(&self.mm, info, places, &mut soon(&self.mm)) {
            self.admit(id, info);
        }
    }

    fn admit(&mut self, id: Id, info: &Info) {
        self.tags += 1;
        let kernel = info.kind == Kind::Kernel;
        self.bos.push(Known {
            id,
            tag: self.tags,
            kernel,
            words: vec![(!kernel).then_some(0); usize::try_from(info.pages).unwrap()],
            pins: 0,
        });
    }

    /// A job: validate, make resident, submit, fence.
    pub(super) fn gpu_writes(
        &mut self,
        at: usize,
        id: Id,
        page: u64,
        low: u32,
        places: &[Place],
        ends: FenceResult,
    ) {
        let mm = &self.mm;
        let machine = mm.world();
        let page = usize::try_from(page).unwrap();
        let word = self.bos[at].word(low);
        let reservation = mm.reservation(id).unwrap();
        let mut caller = Caller::enter(&*machine.sync);
        let mut set = caller.transaction(Patience::Patient).unwrap();
        let ready = set.run(|set| {
            set.lock(&reservation, 1)?;
            mm.validate(set, id, places, &mut soon(mm))?;
            mm.make_resident(set, id, &mut soon(mm))?;
            set.lock(&reservation, 1)?;
            Ok(())
        });
        if ready.is_err() {
            return;
        }
        let to = whole(mm, id).unwrap()[page];
        let fence = machine.submit_after(&reservation, Work::Fill(vec![to], word), ends);
        if let Ok(fence) = fence {
            let buffers = [id];
            let used = Used {
                buffers: &buffers,
                groups: &[],
            };
            mm.submit(set, &fence, |_| Usage::Write, used).unwrap();
            self.bos[at].words[page] = Some(word);
            self.writes.push(Written {
                fence,
                tag: self.bos[at].tag,
                page,
                word,
            });
        }
    }

    /// The CPU waits for the GPU, then writes where the page is.
    fn cpu_writes(&mut self, at: usize, id: Id, page: u64, low: u32) {
        let mm = &self.mm;
        let machine = mm.world();
        let page = page % mm.info(id).unwrap().pages;
        let word = self.bos[at].word(low);
        let reservation = mm.reservation(id).unwrap();
        let deadline = Deadline(u64::MAX - 1);
        let sync = &machine.sync;
        sync.wait_idle(&reservation, Usage::Bookkeep, Patience::Patient, deadline)
            .unwrap();
        match touch(mm, id, page, &mut soon(mm)) {
            Ok(spot) => {
                machine.gpu.poke(spot, word);
                self.bos[at].words[usize::try_from(page).unwrap()] = Some(word);
            }
            Err(Error::NoMemory | Error::Lost) => {}
            Err(Error::Fault) => {
                let at = mm.segment(id).unwrap();
                let unseen = at.is_none() || at == Some(SegmentId::LocalInvisible);
                let refused = [Site::Map, Site::Bind].map(|site| site.of(machine).refused());
                assert!(unseen || refused != [0, 0]);
            }
            Err(error) => {
                let site = match error {
                    Error::Busy => return assert!(self.refuses(), "{error}"),
                    Error::Io => Site::Get,
                    error => panic!("{error}"),
                };
                assert!(site.of(machine).refused() > 0, "{error}");
            }
        }
    }

    /// What jobs wrote that did not end well, nobody can say.
    pub(super) fn judge(&mut self) {
        let sync = &self.mm.world().sync;
        let (bos, writes) = (&mut self.bos, &mut self.writes);
        writes.retain(|write| match sync.result(&write.fence) {
            None => true,
            Some(Ok(())) => false,
            Some(Err(_)) => {
                let known = bos.iter_mut().find(|known| known.tag == write.tag);
                let word = known.map(|known| &mut known.words[write.page]);
                if let Some(word) = word.filter(|word| **word == Some(write.word)) {
                    *word = None;
                }
                false
            }
        });
    }

    /// The books of the manager and of the machine agree.
    pub(super) fn check(&self) {
        self.mm.check();
        self.check_file();
        let machine = self.mm.world();
        let seen = self.mm.seen();
        let waiting = machine.ram.pool.with(|pool| {
            let kinds = [Caching::Cached, Caching::WriteCombined].into_iter();
            let keys = kinds.flat_map(|caching| {
                (0..=MAX_ORDER).map(move |order| Key {
                    caching,
                    low: false,
                    order,
                })
            });
            let sum: usize = keys.map(|key| pool.blocks(key) << key.order).sum();
            assert_eq!(sum, pool.pages(), "invariant 7");
            sum
        });
        let held = self.mm.held_pages();
        assert_eq!(
            held + waiting,
            machine.ram.system.pages_out(),
            "invariant 6"
        );
        assert_eq!(self.mm.report().ram.pooled, waiting as u64);
        let bound = seen.iter().filter(|seen| seen.has == Has::BoundPages);
        let entries: BTreeMap<_, _> = bound
            .flat_map(|seen| {
                pages(seen.segment, &seen.extents)
                    .into_iter()
                    .zip(seen.frames.clone())
            })
            .map(|((segment, page), frame)| ((segment as u8, page), frame))
            .collect();
        let gart = machine.gpu.gart.borrow();
        let found: BTreeMap<_, _> = gart
            .iter()
            .map(|(at, frame)| ((at.0 as u8, at.1), *frame))
            .collect();
        assert_eq!(found, entries, "invariant 8");
        for (id, spots) in machine.gpu.mapped.borrow().iter() {
            let seen = seen.iter().find(|seen| seen.id == *id);
            let current: HashSet<_> = seen.map(spots_of).unwrap_or_default();
            assert!(
                spots.iter().all(|spot| current.contains(spot)),
                "invariant 9"
            );
        }
        for seen in &seen {
            assert!(
                machine.sync.try_lock(&seen.reservation, None),
                "invariant 13"
            );
            machine.sync.unlock(&seen.reservation, None);
        }
    }

    /// What one buffer holds, if nobody works on it and its contents are not lost, without
    /// touching it.
    fn check_quiet(&self, at: usize) {
        let (machine, known) = (self.mm.world(), &self.bos[at]);
        let reservation = self.mm.reservation(known.id).unwrap();
        let lost = self.mm.is_lost(known.id);
        if lost || !machine.sync.is_idle(&reservation, Usage::Bookkeep) {
            return;
        }
        let seen = self.mm.seen().into_iter().find(|seen| seen.id == known.id);
        let Some(seen) = seen.filter(|seen| !seen.segment.uses_tt() || !seen.frames.is_empty())
        else {
            return;
        };
        for (page, spot) in list(&seen).into_iter().enumerate() {
            known.check(page, machine.gpu.peek(spot));
        }
    }

    /// Every word of every buffer, as its owner sees it.
    pub(super) fn check_contents(&mut self) {
        let machine = self.mm.world();
        machine.mend();
        machine.work(usize::MAX);
        self.mm.limit_ram(usize::MAX);
        self.judge();
        for known in &self.bos {
            // What was thrown away has no contents.
            if self.mm.segment(known.id) == Ok(None) {
                continue;
            }
            for page in 0..known.words.len() {
                let found = match word(&self.mm, known.id, page as u64) {
                    Err(Error::Fault) => {
                        let at: At = whole(&self.mm, known.id).unwrap()[page];
                        assert_eq!(at.0, SegmentId::LocalInvisible);
                        self.mm.world().gpu.read(at)
                    }
                    Err(Error::Lost) => break,
                    other => other.unwrap(),
                };
                known.check(page, found);
            }
        }
        self.mm.limit_ram(self.limit);
    }

    /// All is given back, and nothing is left.
    pub(super) fn end(mut self) {
        self.check_contents();
        let Self {
            mm,
            bos,
            owners,
            group,
            ..
        } = self;
        for owner in owners {
            mm.close_account(owner).unwrap();
        }
        for known in bos {
            mm.release(known.id).unwrap();
        }
        mm.destroy_group(group).unwrap();
        mm.world().work(usize::MAX);
        mm.reap();
        let machine = mm.world();
        let stored = machine.ram.shelf.stored.borrow().len();
        crate::bo::pool::close(&*machine.ram.system, &machine.ram.pool);
        assert_eq!((machine.ram.system.pages_out(), stored), (0, 0));
        assert!(machine.gpu.gart.borrow().is_empty() && machine.gpu.mapped.borrow().is_empty());
        assert_eq!(mm.fini(), Ok(()));
    }
}

/// Where the CPU would find the pages of a buffer, in order.
fn list(seen: &Seen<Machine>) -> Vec<Spot> {
    if seen.segment.uses_tt() {
        seen.frames.iter().map(|frame| Spot::Ram(*frame)).collect()
    } else {
        let pages = pages(seen.segment, &seen.extents);
        pages.into_iter().map(Spot::Local).collect()
    }
}

fn spots_of(seen: &Seen<Machine>) -> HashSet<Spot> {
    list(seen).into_iter().collect()
}

fn run(options: Options, ops: &[Op]) {
    let mut test = Test::new(SIZES, options, 64);
    for (n, op) in ops.iter().enumerate() {
        let touched = test.step(op);
        test.judge();
        test.check();
        if let Some(at) = touched {
            test.check_quiet(at);
        }
        if n % 16 == 15 {
            test.check_contents();
        }
    }
    test.end();
}

proptest! {
    #[test]
    fn contents_and_books_survive_whatever_is_done(
        options in options(),
        ops in prop::collection::vec(op(12), 1..120),
    ) {
        run(options, &ops);
    }
}

/// Some of the improvements, another choice for each number.
fn improvements(number: u64) -> Options {
    improved([0, 1, 2, 3, 4, 5].map(|bit| number >> bit & 1 == 0))
}

fn number(name: &str, without: u64) -> u64 {
    let said = std::env::var(name);
    said.map_or(without, |said| said.parse().expect("a number"))
}

/// Worlds of up to 64 buffers and 64 MiB, each for 10,000 operations: the books after
/// each operation, the contents of the buffer that it was about, those of all after
/// each thousand.
#[test]
fn a_long_run_of_operations_in_worlds_of_many_sizes() {
    let seed = number("PRESIL_SEED", 1);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut draw = |most| {
        let drawn = op(most).new_tree(&mut runner);
        drawn.expect("an operation").current()
    };
    let all = number("PRESIL_OPERATIONS", 3_000);
    let mut world = None;
    for n in 0..all {
        // Pages of the segments: up to 16,384, which are 64 MiB.
        let shift = n / 10_000 % 7;
        let most = 12_u64 << shift;
        if n % 10_000 == 0 {
            world.take().into_iter().for_each(Test::end);
        }
        let sizes = [48, 48, 64, 96].map(|pages| pages << shift);
        let test = world.get_or_insert_with(|| Test::new(sizes, improvements(n / 10_000), 64));
        let op = draw(most);
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let touched = test.step(&op);
            test.judge();
            test.check();
            if let Some(at) = touched {
                test.check_quiet(at);
            }
            if n % 1_000 == 999 {
                test.check_contents();
            }
        }));
        if let Err(panic) = done {
            eprintln!("operation {n} of seed {seed}: {op:?}");
            std::panic::resume_unwind(panic);
        }
    }
    world.into_iter().for_each(Test::end);
}
