//! Random operations beside a copy engine, contents compared, pages counted.

use super::machine::{Machine, Work};
use super::{SIZES, anywhere, create, ctx, info, manager_with, with, word};
use crate::Error;
use crate::arena::Id;
use crate::bo::Kind;
use crate::bo::pool::SmallLock;
use crate::evict::lru::GroupId;
use crate::evict::{
    Balance, Context, Info, Mm, Options, OwnerId, Page, Promotion, ReservationOf, Used, World,
};
use crate::placement::{Flags, Place, SegmentId};
use crate::platform::{Caching, Patience};
use crate::sync::{Caller, Deadline, Primitives, Usage};
use proptest::prelude::*;

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
        6 => (1..13_u64, 0..6_usize, any::<bool>(), any::<bool>(), 0..4_usize, 0..3_usize)
            .prop_map(|(pages, places, wc, kernel, priority, owner)| Op::Create(pages, places, wc, kernel, priority, owner)),
        1 => (0..2_usize, 0..5_usize, prop::array::uniform3(0..40_u64))
            .prop_map(|(owner, segment, pages)| Op::Budget(owner, segment, pages)),
        6 => (n(), 0..6_usize).prop_map(|(bo, places)| Op::Validate(bo, places)),
        2 => (1..13_u64, 0..6_usize).prop_map(|(pages, places)| Op::Member(pages, places)),
        1 => (n(), any::<bool>()).prop_map(|(bo, joins)| Op::Join(bo, joins)),
        2 => (n(), any::<bool>()).prop_map(|(bo, group)| Op::Unreserve(bo, group)),
        2 => Just(Op::Promote),
        2 => (n(), any::<u64>()).prop_map(|(bo, page)| Op::Around(bo, page)),
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

/// Each improvement on or off.
fn options() -> impl Strategy<Value = Options> {
    any::<[bool; 5]>().prop_map(
        |[wait_last, plan, cpu_use, grow_prefault, promotes]| Options {
            wait_last,
            plan,
            cpu_use,
            grow_prefault,
            promotion: promotes.then_some(Promotion {
                spare_percent: 0,
                rest_ns: 2000,
                ..Promotion::default()
            }),
            ..Options::default()
        },
    )
}

struct Known {
    id: Id,
    words: Vec<Option<u64>>,
    pins: u32,
}

mod ops;

struct Test {
    mm: Mm<Machine>,
    bos: Vec<Known>,
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
            | Op::Release(n)
            | Op::Join(n, _)
            | Op::Unreserve(n, _)
            | Op::Around(n, _) => n,
            Op::Member(..)
            | Op::Promote
            | Op::Reap
            | Op::Work(_)
            | Op::CopyFails(_)
            | Op::NoRam(_) => {
                return None;
            }
        };
        let id = self.bos[self.pick(n)?].id;
        self.mm.info(id).unwrap().owner
    }

    /// Nobody loses by another's operation what was promised to him, and nobody has
    /// more of local memory than he may (D-20).
    fn step(&mut self, op: &Op) {
        let (actor, before) = (self.actor(op), self.balances());
        self.run(op);
        let after = self.balances();
        for (n, owner) in self.owners.iter().enumerate() {
            for (before, after) in before[n].iter().zip(&after[n]) {
                let kept = before.live().min(after.budget.min);
                assert!(
                    // Who comes back to where he wants to be loses nothing.
                    actor == Some(*owner) || after.live() >= kept || matches!(op, Op::Promote),
                    "{before:?} {after:?}"
                );
            }
            for (before, after) in before[n].iter().zip(&after[n]).take(2) {
                assert!(after.booked <= before.booked.max(after.budget.limit));
            }
        }
    }

    fn run(&mut self, op: &Op) {
        let machine = self.mm.world();
        match *op {
            Op::Create(pages, n, wc, kernel, priority, owner) => {
                let info = Info {
                    kind: if kernel { Kind::Kernel } else { Kind::Device },
                    caching: if wc {
                        Caching::WriteCombined
                    } else {
                        Caching::Cached
                    },
                    priority,
                    owner: self.owners.get(owner).copied(),
                    ..info(pages)
                };
                if let Ok(id) = create(&self.mm, &info, &places(n, info.pcie())) {
                    let words = vec![(!kernel).then_some(0); usize::try_from(pages).unwrap()];
                    self.bos.push(Known { id, words, pins: 0 });
                }
            }
            Op::Budget(owner, segment, pages) => self.budget(owner, segment, pages),
            Op::Member(pages, n) => self.member(pages, n),
            Op::Join(n, joins) => self.join(n, joins),
            Op::Promote => self.promote(),
            Op::Around(n, page) => self.around(n, page),
            Op::Unreserve(n, group) => self.unreserve(n, group),
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
            let buffers = [id];
            let used = Used {
                buffers: &buffers,
                groups: &[],
            };
            mm.submit(set, &fence, |_| Usage::Write, used).unwrap();
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
                    matches!(error, Error::NoMemory | Error::Lost)
                        || (error == Error::Fault && invisible),
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
        assert_eq!(self.mm.report().ram.pooled, waiting as u64);
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

fn run(options: Options, ops: &[Op]) {
    let mm = manager_with(SIZES, options);
    let owners = [(); 2].map(|()| mm.open_account().unwrap());
    let shared = mm.world().sync.new_reservation().unwrap();
    let group = mm.new_group(&shared).unwrap();
    let mut test = Test {
        mm,
        bos: Vec::new(),
        owners,
        group,
        shared,
    };
    for (n, op) in ops.iter().enumerate() {
        test.step(op);
        test.check();
        if n % 16 == 0 {
            test.check_contents();
        }
    }
    test.check_contents();
    let Test {
        mm,
        bos,
        owners,
        group,
        ..
    } = test;
    for owner in owners {
        mm.close_account(owner).unwrap();
    }
    for known in bos {
        mm.release(known.id).unwrap();
    }
    mm.destroy_group(group).unwrap();
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
    fn contents_and_books_survive_whatever_is_done(
        options in options(),
        ops in prop::collection::vec(op(), 1..120),
    ) {
        run(options, &ops);
    }
}
