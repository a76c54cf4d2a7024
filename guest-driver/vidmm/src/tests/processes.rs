//! Address spaces of GPU processes on the machine of `mm`: buffers that are mapped,
//! evicted and come back; jobs that go in by their addresses, at any time later.

use super::mm::{Cellar, Gpu, Machine, SIZES, Work, anywhere, ctx, info, manager, with, word};
use super::tables::{self, ZONE, page};
use crate::Error;
use crate::arena::Id;
use crate::evict::{Context, GpuPage, Info, Mm, Page, Used, World};
use crate::placement::SegmentId;
use crate::platform::{Caching, Patience};
use crate::sync::{Caller, Primitives, Usage};
use crate::vm::{INVALID, Mapping, SpaceId, SpaceMemory, Spaces, TableMemory};
use e3k_regs::{GpuVa, PAGE_SIZE, VramOffset};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

/// The GPU as one process sees it, and the tables that are left for all.
#[derive(Clone)]
pub(super) struct Process(Rc<tables::Gpu>, Rc<Cell<u32>>);

impl TableMemory for Process {
    fn alloc(&self) -> Result<VramOffset, Error> {
        let left = self.1.get().checked_sub(1).ok_or(Error::NoSpace)?;
        let table = self.0.alloc()?;
        self.1.set(left);
        Ok(table)
    }

    fn free(&self, table: VramOffset) {
        self.0.free(table);
        self.1.set(self.1.get() + 1);
    }

    fn store(&self, table: VramOffset, first: usize, entries: &[u32]) {
        self.0.store(table, first, entries);
    }

    fn barrier(&self) {
        self.0.barrier();
    }

    fn l2_entry(&self, table: VramOffset) -> u32 {
        self.0.l2_entry(table)
    }

    fn set_l1(&self, index: u64, table: Option<VramOffset>) -> Result<(), Error> {
        self.0.set_l1(index, table)
    }

    fn invalidate(&self, addresses: Range<u64>) -> Result<(), Error> {
        self.0.invalidate(addresses)
    }
}

/// What an entry names: the segment, or RAM, in two bits, and the page.
const KIND_SHIFT: u32 = 28;

impl SpaceMemory for Process {
    type Flags = ();

    fn entry(&self, page: GpuPage, (): ()) -> u32 {
        let (kind, page) = match page {
            GpuPage::Local(SegmentId::LocalVisible, page) => (1, page),
            GpuPage::Local(_, page) => (2, page),
            GpuPage::Ram(_, at) => (3, at.page()),
        };
        kind << KIND_SHIFT | u32::try_from(page).unwrap()
    }
}

impl Process {
    /// The word that an address leads to, or `None` where it leads nowhere.
    fn place(&self, at: u64) -> Option<(u32, u64)> {
        let entry = self.0.walk(at);
        let page = u64::from(entry & ((1 << KIND_SHIFT) - 1));
        (entry != INVALID).then_some((entry >> KIND_SHIFT, page))
    }

    /// A job's access: what was there; `word` is there afterwards.
    fn swap(&self, gpu: &Gpu, at: u64, word: u64) -> u64 {
        let local = match self.place(at).expect("a page fault of a job") {
            (1, page) => (SegmentId::LocalVisible, page),
            (2, page) => (SegmentId::LocalInvisible, page),
            (_, page) => {
                let before = gpu.system.words.borrow().insert(page, word);
                return before.expect("a page that is free");
            }
        };
        let before = gpu.read(local);
        gpu.write(local, word);
        before
    }
}

struct Test {
    mm: Mm<Machine>,
    /// Tables that are left.
    tables: Rc<Cell<u32>>,
    processes: Vec<Known>,
    bos: Vec<Bo>,
}

struct Known {
    space: SpaceId,
    gpu: Process,
    /// Page of the address space (by number), buffer, page in it.
    pages: BTreeMap<u64, (Id, u64)>,
}

/// What is known of a buffer that somebody has a handle of, or that is mapped.
struct Bo {
    id: Id,
    /// Whose reservation it shares.
    owner: Option<SpaceId>,
    handle: bool,
    /// What is to be read, once all jobs have ended.
    words: Vec<u64>,
}

impl Test {
    fn new(sizes: [u64; 4]) -> Self {
        let mm = manager(sizes);
        let spaces = Spaces::new(|value| Cellar(RefCell::new(value)));
        assert!(mm.world().spaces.set(spaces).is_ok());
        Self {
            mm,
            tables: Rc::new(Cell::new(1000)),
            processes: Vec::new(),
            bos: Vec::new(),
        }
    }

    fn spaces(&self) -> &Spaces<Machine, Process> {
        self.mm.world().spaces.get().unwrap()
    }

    fn start(&mut self) -> usize {
        let gpu = Process(Rc::default(), Rc::clone(&self.tables));
        let reserved = Some(page(58)..page(60));
        let space = self.spaces().create(&self.mm, ZONE, reserved, gpu.clone());
        self.processes.push(Known {
            space: space.unwrap(),
            gpu,
            pages: BTreeMap::new(),
        });
        self.processes.len() - 1
    }

    /// A buffer of a process, or of nobody in particular.
    fn create(&mut self, owner: Option<usize>, pages: u64, segment: SegmentId) -> Option<usize> {
        let owner = owner.map(|owner| self.processes[owner].space);
        let info = Info {
            caching: if segment == SegmentId::PcieSnoop {
                Caching::Cached
            } else {
                Caching::WriteCombined
            },
            ..info(pages)
        };
        let mut caller = Caller::enter(self.mm.world().sync());
        let mut set = caller.transaction(Patience::Patient).unwrap();
        let created = set.run(|set| {
            let places = [anywhere(segment)];
            match owner {
                Some(space) => {
                    self.spaces()
                        .create_private(&self.mm, set, space, &info, &places, &mut ctx())
                }
                None => self.mm.create(set, &info, None, &places, &mut ctx()),
            }
        });
        drop(set);
        self.bos.push(Bo {
            id: created.ok()?,
            owner,
            handle: true,
            words: vec![0; usize::try_from(pages).unwrap()],
        });
        Some(self.bos.len() - 1)
    }

    fn map(
        &mut self,
        process: usize,
        at: u64,
        bo: usize,
        first: u64,
        pages: u64,
    ) -> Result<(), Error> {
        let id = self.bos[bo].id;
        let known = &self.processes[process];
        let mut caller = Caller::enter(self.mm.world().sync());
        let new = Mapping {
            at: GpuVa(page(40 + at)),
            bytes: pages * PAGE_SIZE,
            object: Some((id, first * PAGE_SIZE)),
            flags: (),
        };
        self.spaces()
            .map(&self.mm, &mut caller, known.space, new, &ctx())?;
        let pages = (0..pages).map(|n| (at + n, (id, first + n)));
        self.processes[process].pages.extend(pages);
        Ok(())
    }

    fn unmap(&mut self, process: usize, at: u64, pages: u64) -> Result<(), Error> {
        let space = self.processes[process].space;
        let mut caller = Caller::enter(self.mm.world().sync());
        let (from, bytes) = (GpuVa(page(40 + at)), pages * PAGE_SIZE);
        self.spaces()
            .unmap(&self.mm, &mut caller, space, from, bytes, &ctx())?;
        let gone = at..at + pages;
        self.processes[process]
            .pages
            .retain(|at, _| !gone.contains(at));
        self.forget_unused();
        Ok(())
    }

    /// Buffers without a handle and without a mapping are gone.
    fn forget_unused(&mut self) {
        let mapped = |id| {
            let mut all = self.processes.iter().flat_map(|known| known.pages.values());
            all.any(|(bo, _)| *bo == id)
        };
        self.bos.retain(|bo| bo.handle || mapped(bo.id));
    }

    /// A job that reads and writes the first page of each of its process's mappings by
    /// its address, and one more, when its turn comes.
    fn job(&mut self, process: usize, salt: u64) -> Result<(), Error> {
        self.job_in(process, salt, &mut ctx())
    }

    fn job_in(&mut self, process: usize, salt: u64, ctx: &mut Context) -> Result<(), Error> {
        let Self {
            mm, processes, bos, ..
        } = self;
        let known = &processes[process];
        let mut caller = Caller::enter(mm.world().sync());
        let mut set = caller.transaction(Patience::Patient)?;
        let spaces = mm.world().spaces.get().unwrap();
        set.run(|set| {
            spaces.prepare(mm, set, known.space, ctx, |set, bo, ctx| {
                let pcie = mm.info(bo)?.pcie();
                let places = [
                    anywhere(SegmentId::LocalVisible),
                    anywhere(SegmentId::LocalInvisible),
                    anywhere(pcie),
                ];
                mm.validate(set, bo, &places, ctx)
            })
        })?;
        let mut accesses = Vec::new();
        for (n, (at, (id, offset))) in (0..).zip(&known.pages) {
            let bo = bos.iter_mut().find(|bo| bo.id == *id).unwrap();
            let word = &mut bo.words[usize::try_from(*offset).unwrap()];
            let new = salt << 8 | n;
            accesses.push((page(40 + at), *word, new));
            *word = new;
        }
        let gpu = known.gpu.clone();
        let run = move |machine: &Gpu| {
            for (at, expected, new) in accesses {
                assert_eq!(gpu.swap(machine, at, new), expected, "at {at:#x}");
            }
        };
        let run: Box<dyn FnOnce(&Gpu)> = Box::new(run);
        let fence = mm.world().submit(Work::Run(run))?;
        let used = Used {
            buffers: &spaces.externals(known.space)?,
            groups: &[spaces.group(known.space)?],
        };
        mm.submit(set, &fence, |_| Usage::Bookkeep, used)
    }

    fn destroy(&mut self, process: usize) {
        let known = self.processes.swap_remove(process);
        let mut caller = Caller::enter(self.mm.world().sync());
        let destroyed = self
            .spaces()
            .destroy(&self.mm, &mut caller, known.space, &ctx());
        assert_eq!(destroyed, Ok(()));
        assert!(
            known.gpu.0.tables.borrow().is_empty(),
            "all tables are back"
        );
        self.forget_unused();
    }

    /// What is mapped is what was asked for, and every entry that leads anywhere leads
    /// to where the buffer is now, or was when a job that may still run was submitted.
    fn check(&self) {
        self.mm.check();
        for known in &self.processes {
            let mapped = self.spaces().look(known.space, |space, _| {
                let all = space.iter().flat_map(|mapping| {
                    let (object, first) = mapping.object.unwrap();
                    let pages = mapping.bytes / PAGE_SIZE;
                    let at = mapping.at.0;
                    (0..pages).map(move |n| (at + n * PAGE_SIZE, (object, first / PAGE_SIZE + n)))
                });
                all.collect::<BTreeMap<_, _>>()
            });
            let expected = known
                .pages
                .iter()
                .map(|(at, page_of)| (page(40 + at), *page_of));
            assert_eq!(mapped.unwrap(), expected.collect(), "the per-page model");
            for at in 0..40 {
                let Some(place) = known.gpu.place(page(40 + at)) else {
                    continue;
                };
                let page_of = known.pages.get(&at).copied();
                let (id, offset) = page_of.expect("an entry of nothing that is mapped");
                assert_eq!(Some(place), self.place(id, offset), "invariant 10");
            }
        }
        let spaces = self.spaces();
        for bo in &self.bos {
            let mut all = self.processes.iter().flat_map(|known| known.pages.values());
            let mapped = all.any(|(id, _)| *id == bo.id);
            assert_eq!(spaces.is_mapped(bo.id), mapped);
        }
    }

    /// Where a page of a buffer is, as an entry names it.
    fn place(&self, id: Id, offset: u64) -> Option<(u32, u64)> {
        let found = with(&self.mm, id, |set| {
            self.mm.with_place(set, id, |side| {
                let page = side.and_then(|side| side.gpu_pages(offset).next());
                page.map(|page| match page {
                    GpuPage::Local(SegmentId::LocalVisible, page) => (1, page),
                    GpuPage::Local(_, page) => (2, page),
                    GpuPage::Ram(_, at) => (3, at.page()),
                })
            })
        });
        found.unwrap()
    }

    /// Every word of every buffer is what was written last.
    fn check_contents(&self) {
        let machine = self.mm.world();
        machine.work(usize::MAX);
        for bo in &self.bos {
            for (page, expected) in (0..).zip(&bo.words) {
                let found = match word(&self.mm, bo.id, page) {
                    Err(Error::Fault) => {
                        let extents = self.mm.extents(bo.id).unwrap();
                        let mut pages = extents.iter().flat_map(|e| e.first..e.end);
                        let at = pages.nth(usize::try_from(page).unwrap()).unwrap();
                        let at = (SegmentId::LocalInvisible, at);
                        machine.gpu.read(at)
                    }
                    other => other.unwrap(),
                };
                assert_eq!(found, *expected, "{:?} page {page}", bo.id);
            }
        }
    }

    fn end(mut self) {
        self.check_contents();
        while !self.processes.is_empty() {
            self.destroy(0);
        }
        assert!(self.spaces().is_empty());
        for bo in self.bos {
            assert!(bo.handle);
            self.mm.release(bo.id).unwrap();
        }
        let machine = self.mm.world();
        machine.work(usize::MAX);
        self.mm.reap();
        crate::bo::pool::close(&*machine.ram.system, &machine.ram.pool);
        assert_eq!(machine.ram.system.pages_out(), 0);
        assert_eq!(self.mm.fini(), Ok(()));
    }
}

#[test]
fn two_processes_one_address_two_contents() {
    let mut test = Test::new(SIZES);
    let processes = [test.start(), test.start()];
    for process in processes {
        let bo = test
            .create(Some(process), 4, SegmentId::LocalVisible)
            .unwrap();
        test.map(process, 8, bo, 0, 4).unwrap();
    }
    for salt in 1..4 {
        for process in processes {
            test.job(process, salt << 4 | process as u64).unwrap();
        }
        test.check();
    }
    test.check_contents();
    let [a, b] = [0, 1].map(|n| test.bos[n].words[0]);
    assert_eq!((a, b), (0x30 << 8, 0x31 << 8));
    test.end();
}

/// a buffer that is evicted is out of reach at once, for every process
/// that maps it, and back before the next job.
#[test]
fn a_buffer_that_left_is_out_of_reach_until_the_next_job_r_19_7_r_19_8() {
    let mut test = Test::new(SIZES);
    let processes = [test.start(), test.start()];
    let bo = test.create(None, 8, SegmentId::LocalVisible).unwrap();
    let id = test.bos[bo].id;
    for process in processes {
        test.map(process, 24, bo, 0, 8).unwrap();
        test.job(process, 1 + process as u64).unwrap();
    }
    // Both jobs are still on their way: whoever makes it leave waits for them.
    let places = [anywhere(SegmentId::PcieUnsnoop)];
    let moved = |no_wait| {
        with(&test.mm, id, |set| {
            let mut context = Context { no_wait, ..ctx() };
            test.mm.validate(set, id, &places, &mut context)
        })
    };
    assert_eq!(moved(true), Err(Error::Busy));
    assert_eq!(moved(false), Ok(()));
    for process in processes {
        assert_eq!(test.processes[process].gpu.place(page(64)), None);
    }
    test.check();
    test.job(0, 9).unwrap();
    test.check();
    assert!(test.processes[0].gpu.place(page(64)).is_some());
    assert_eq!(
        test.processes[1].gpu.place(page(64)),
        None,
        "not asked for yet"
    );
    test.end();
}

/// So it is with memory that is thrown away, and the next job finds zeros.
#[test]
fn no_address_space_leads_to_memory_that_was_thrown_away_r_19_7() {
    let mut test = Test::new(SIZES);
    let process = test.start();
    let bo = test.create(None, 8, SegmentId::LocalVisible).unwrap();
    let id = test.bos[bo].id;
    test.map(process, 24, bo, 0, 8).unwrap();
    test.job(process, 1).unwrap();
    let purged = |no_wait| {
        with(&test.mm, id, |set| {
            let mut context = Context { no_wait, ..ctx() };
            test.mm.validate(set, id, &[], &mut context)
        })
    };
    assert_eq!(purged(true), Err(Error::Busy), "its job may use it");
    assert!(test.processes[process].gpu.place(page(64)).is_some());
    assert_eq!(purged(false), Ok(()));
    assert_eq!(test.processes[process].gpu.place(page(64)), None);
    test.check();
}

/// Until the contents are in place, what is there is somebody else's: no job that is on its
/// way finds it.
#[test]
fn a_buffer_that_is_being_cleared_is_out_of_reach_of_jobs_on_their_way() {
    let mut test = Test::new(SIZES);
    let process = test.start();
    let first = test.create(None, 4, SegmentId::LocalVisible).unwrap();
    test.map(process, 0, first, 0, 4).unwrap();
    test.job(process, 1).unwrap();
    let second = test.create(None, 4, SegmentId::LocalVisible).unwrap();
    test.map(process, 8, second, 0, 4).unwrap();
    assert_eq!(test.processes[process].gpu.place(page(48)), None);
    // Its next job waits for the clearing with the one before on its way.
    test.job(process, 2).unwrap();
    assert!(test.processes[process].gpu.place(page(48)).is_some());
    assert_eq!(test.mm.world().gpu.queued(), 1, "only the second job");
    test.check_contents();
    test.end();
}

/// A mapping keeps its buffer, and the last one lets it go.
#[test]
fn a_mapping_keeps_its_buffer_r_2_3() {
    let mut test = Test::new(SIZES);
    let process = test.start();
    let bo = test.create(None, 4, SegmentId::LocalVisible).unwrap();
    test.map(process, 0, bo, 0, 4).unwrap();
    test.map(process, 8, bo, 2, 2).unwrap();
    let id = test.bos[bo].id;
    test.mm.release(id).unwrap();
    test.bos[bo].handle = false;
    test.job(process, 5).unwrap();
    test.mm.world().work(usize::MAX);
    test.unmap(process, 0, 4).unwrap();
    assert!(test.mm.info(id).is_ok());
    test.check();
    test.unmap(process, 8, 2).unwrap();
    assert_eq!(test.mm.info(id), Err(Error::NotFound));
    test.end();
}

/// a job uses all buffers of its process's own, so that those leave last, in the
/// order in which they came; and who outlives the process keeps its place among them.
#[test]
fn buffers_of_a_processs_own_were_used_when_it_had_a_job_last_r_10_11() {
    let mut test = Test::new(SIZES);
    let process = test.start();
    let visible = SegmentId::LocalVisible;
    // All of it, the process's buffers first.
    let owns = [(); 3].map(|()| test.create(Some(process), 8, visible).unwrap());
    let other = test.create(None, 8, visible).unwrap();
    test.job(process, 1).unwrap();
    let ids = owns.map(|bo| test.bos[bo].id);
    let here = |test: &Test| ids.map(|id| test.mm.segment(id) == Ok(Some(visible)));
    test.create(None, 8, visible).unwrap();
    let gone = test.mm.segment(test.bos[other].id);
    assert_ne!(gone, Ok(Some(visible)), "older than the job");
    assert_eq!(here(&test), [true; 3]);
    let space = test.processes[process].space;
    let group = test.spaces().group(space).unwrap();
    test.destroy(process);
    assert_eq!(test.mm.destroy_group(group), Err(Error::Busy));
    for left in [[false, true, true], [false, false, true]] {
        test.create(None, 8, visible).unwrap();
        assert_eq!(here(&test), left);
    }
    test.check();
    for id in ids {
        test.mm.release(id).unwrap();
    }
    test.bos.retain(|bo| !ids.contains(&bo.id));
    assert_eq!(
        test.mm.destroy_group(group),
        Err(Error::NotFound),
        "it went with the last"
    );
    test.end();
}

/// What shares the reservation of one process is of no use to another: its jobs would wait
/// for each other's locks, and it would outlive what it was made for.
#[test]
fn a_buffer_that_is_private_to_one_process_is_refused_in_another_r_19_2() {
    let mut test = Test::new(SIZES);
    let [owner, other] = [test.start(), test.start()];
    let private = test
        .create(Some(owner), 4, SegmentId::LocalVisible)
        .unwrap();
    let shared = test.create(None, 4, SegmentId::LocalVisible).unwrap();
    assert_eq!(test.map(other, 0, private, 0, 4), Err(Error::Invalid));
    assert!(!test.spaces().is_mapped(test.bos[private].id));
    test.check();
    for process in [owner, other] {
        test.map(process, 8, shared, 0, 4).unwrap();
    }
    test.map(owner, 0, private, 0, 4).unwrap();
    test.job(owner, 1).unwrap();
    assert_eq!(test.map(other, 0, private, 0, 4), Err(Error::Invalid));
    // Nor is it anybody's when its process is gone.
    test.destroy(owner);
    let other = 0;
    assert_eq!(test.map(other, 0, private, 0, 4), Err(Error::Invalid));
    test.check();
    test.end();
}

/// Four processes with a buffer each, mapped at `page(48)`, and as many tables as
/// three of them need.
fn four_with_tables_for_three() -> (Test, [usize; 4]) {
    let mut test = Test::new(SIZES);
    // An L2 and an L3 table each.
    test.tables.set(6);
    let all = [(); 4].map(|()| {
        let process = test.start();
        let bo = test.create(None, 4, SegmentId::LocalVisible).unwrap();
        test.mm.world().work(usize::MAX);
        // The fourth finds none, and its entries lead nowhere yet.
        test.map(process, 8, bo, 0, 4).unwrap();
        process
    });
    (test, all)
}

/// When other processes have all tables, a job takes those of the one that has used its
/// own least recently, of those without a job on its way; these get them back with
/// their next one. Nobody is told that there are too few.
#[test]
fn tables_go_from_who_does_not_use_them_to_who_needs_them_r_19_13() {
    let (mut test, all) = four_with_tables_for_three();
    for process in 0..3 {
        test.job(process, 1).unwrap();
    }
    let reaches = |test: &Test| all.map(|n| test.processes[n].gpu.place(page(48)).is_some());
    assert_eq!(reaches(&test), [true, true, true, false]);
    assert_eq!(test.tables.get(), 0);
    let mut at_once = Context {
        no_wait: true,
        ..ctx()
    };
    let refused = test.job_in(3, 7, &mut at_once);
    assert_eq!(
        refused,
        Err(Error::Busy),
        "all others have a job on its way"
    );
    // Who may wait does so, for the one that has used its own least recently.
    test.job(3, 8).unwrap();
    assert_eq!(reaches(&test), [false, true, true, true]);
    test.check();
    test.job(1, 9).unwrap();
    test.mm.world().work(usize::MAX);
    let mut at_once = Context {
        no_wait: true,
        ..ctx()
    };
    test.job_in(0, 10, &mut at_once).unwrap();
    assert_eq!(reaches(&test), [true, true, false, true]);
    test.check_contents();
    test.job(2, 11).unwrap();
    test.check();
    test.end();
}

/// Of those who have a job on their way the one that hangs is first, and not waited for
/// while others may have tables to give.
#[test]
fn tables_come_from_another_while_the_first_process_that_has_some_hangs_r_19_13() {
    let (mut test, all) = four_with_tables_for_three();
    let hang = |test: &Test, hung| test.mm.world().gpu.hung.set(hung);
    hang(&test, [true, false]);
    for (process, ring) in [(0, 0), (1, 1), (2, 0)] {
        test.mm.world().ring.set(Some(ring));
        test.job(process, 1).unwrap();
    }
    test.mm.world().ring.set(Some(1));
    test.job(3, 2).unwrap();
    let reaches = all.map(|n| test.processes[n].gpu.place(page(48)).is_some());
    assert_eq!(reaches, [true, false, true, true]);
    let now = test.mm.world().sync.host().now_ns();
    assert!(now < 20_000_000, "it looked soon: {now}");
    // Where all of them hang, that is said in the end.
    hang(&test, [true; 2]);
    let until = test.mm.world().after(50_000_000);
    let mut context = Context::until(until, Patience::Patient);
    assert_eq!(test.job_in(1, 3, &mut context), Err(Error::Busy));
    assert!(
        test.mm.world().after(0) >= until,
        "not before its time was over"
    );
    hang(&test, [false; 2]);
    test.end();
}

#[test]
fn a_job_that_needs_more_tables_than_there_are_is_refused_and_its_process_goes_on() {
    let mut test = Test::new(SIZES);
    test.tables.set(2);
    let process = test.start();
    let bo = test.create(None, 4, SegmentId::LocalVisible).unwrap();
    test.mm.world().work(usize::MAX);
    // Behind two L3 tables.
    test.map(process, 8, bo, 0, 2).unwrap();
    test.map(process, 24, bo, 2, 2).unwrap();
    assert_eq!(test.job(process, 1), Err(Error::NoMemory));
    test.check();
    test.unmap(process, 8, 2).unwrap();
    test.job(process, 2).unwrap();
    test.end();
}

#[test]
fn an_address_space_goes_when_its_last_job_has_ended_r_19_9() {
    let mut test = Test::new(SIZES);
    let process = test.start();
    let bo = test
        .create(Some(process), 4, SegmentId::LocalVisible)
        .unwrap();
    test.map(process, 8, bo, 0, 4).unwrap();
    test.job(process, 5).unwrap();
    assert_ne!(test.mm.world().gpu.queued(), 0);
    test.destroy(process);
    assert_eq!(test.mm.world().gpu.queued(), 0, "it was waited for");
    assert!(test.spaces().is_empty());
    test.end();
}

/// While the TLBs may still know the way, the memory stays whose it is.
#[test]
fn an_unmapping_that_the_gpu_was_not_told_of_keeps_the_buffer() {
    let mut test = Test::new(SIZES);
    let process = test.start();
    let bo = test.create(None, 4, SegmentId::LocalVisible).unwrap();
    test.mm.world().work(usize::MAX);
    test.map(process, 0, bo, 0, 4).unwrap();
    let id = test.bos[bo].id;
    test.processes[process].gpu.0.deaf.set(true);
    assert_eq!(test.unmap(process, 0, 4), Err(Error::Lost));
    test.mm.release(id).unwrap();
    assert!(test.mm.info(id).is_ok());
    let moved = with(&test.mm, id, |set| {
        let places = [anywhere(SegmentId::LocalInvisible)];
        test.mm.validate(set, id, &places, &mut ctx())
    });
    assert_eq!(moved, Err(Error::Lost), "nor can it move");
    test.processes[process].gpu.0.deaf.set(false);
    test.unmap(process, 0, 4).unwrap();
    assert_eq!(test.mm.info(id), Err(Error::NotFound));
    test.processes[process].pages.clear();
    test.bos.clear();
    test.end();
}

#[test]
fn what_cannot_be_mapped_changes_nothing_r_19_1() {
    let mut test = Test::new(SIZES);
    let process = test.start();
    let bo = test.create(None, 4, SegmentId::LocalVisible).unwrap();
    test.mm.world().work(usize::MAX);
    assert_eq!(
        test.map(process, 0, bo, 2, 3),
        Err(Error::Invalid),
        "beyond its end"
    );
    assert_eq!(
        test.map(process, 17, bo, 0, 4),
        Err(Error::Invalid),
        "reserved"
    );
    let gpu = Rc::clone(&test.processes[process].gpu.0);
    for allowed in 0..2 {
        gpu.allocs_until_failure.set(Some(allowed));
        assert_eq!(test.map(process, 0, bo, 0, 4), Err(Error::NoMemory));
        assert!(gpu.tables.borrow().is_empty());
        test.check();
    }
    gpu.allocs_until_failure.set(None);
    test.map(process, 0, bo, 0, 4).unwrap();
    test.end();
}

#[derive(Clone, Debug)]
enum Op {
    Start,
    /// For a process or for nobody, pages, where.
    Create(Option<usize>, u64, usize),
    /// Process, where, buffer, page in it, pages.
    Map(usize, u64, usize, u64, u64),
    Unmap(usize, u64, u64),
    Job(usize, u64),
    Move(usize, usize),
    Cpu(usize, u64, u64),
    Release(usize),
    Destroy(usize),
    Work(usize),
    /// Tables of a process that can still be had.
    Tables(usize, Option<u32>),
    /// Tables that come, or go where there are as many, for all.
    Pool(bool),
}

fn op() -> impl Strategy<Value = Op> {
    let n = any::<usize>;
    prop_oneof![
        1 => Just(Op::Start),
        4 => (any::<Option<usize>>(), 1..9_u64, 0..4_usize)
            .prop_map(|(owner, pages, segment)| Op::Create(owner, pages, segment)),
        8 => (n(), 0..40_u64, n(), any::<u64>(), 1..9_u64)
            .prop_map(|(process, at, bo, first, pages)| Op::Map(process, at, bo, first, pages)),
        3 => (n(), 0..40_u64, 1..9_u64).prop_map(|(process, at, pages)| Op::Unmap(process, at, pages)),
        8 => (n(), 0..1_u64 << 20).prop_map(|(process, salt)| Op::Job(process, salt)),
        4 => (n(), 0..5_usize).prop_map(|(bo, segment)| Op::Move(bo, segment)),
        3 => (n(), any::<u64>(), any::<u64>()).prop_map(|(bo, page, word)| Op::Cpu(bo, page, word)),
        2 => n().prop_map(Op::Release),
        1 => n().prop_map(Op::Destroy),
        3 => (0..4_usize).prop_map(Op::Work),
        1 => (n(), prop::option::of(0..3_u32)).prop_map(|(process, left)| Op::Tables(process, left)),
        2 => any::<bool>().prop_map(Op::Pool),
    ]
}

impl Test {
    fn process(&self, n: usize) -> Option<usize> {
        n.checked_rem(self.processes.len())
    }

    fn bo(&self, n: usize) -> Option<usize> {
        n.checked_rem(self.bos.len())
    }

    fn run(&mut self, op: &Op) -> Option<()> {
        match *op {
            Op::Start if self.processes.len() < 3 => drop(self.start()),
            Op::Start => {}
            Op::Create(owner, pages, segment) => {
                let owner = owner.and_then(|n| self.process(n));
                self.create(owner, pages, SegmentId::ALL[segment]);
            }
            Op::Map(process, at, bo, first, pages) => {
                let (process, bo) = (self.process(process)?, self.bo(bo)?);
                let owner = self.bos[bo].owner;
                let others = owner.is_some_and(|owner| owner != self.processes[process].space);
                let first = first % self.bos[bo].words.len() as u64;
                let rest = self.bos[bo].words.len() as u64 - first;
                let pages = pages.min(rest).min(40 - at);
                let mut there = self.processes[process].pages.range(at..at + pages);
                if there.next().is_some() {
                    // Jobs do not see mappings change under them.
                    self.mm.world().work(usize::MAX);
                }
                let mapped = self.map(process, at, bo, first, pages);
                let reserved = at < 20 && at + pages > 18;
                match mapped {
                    Ok(()) => assert!(!reserved && !others),
                    Err(Error::Invalid) => assert!(reserved || others),
                    Err(error) => assert_eq!(error, Error::NoMemory),
                }
                self.forget_unused();
            }
            Op::Unmap(process, at, pages) => {
                let process = self.process(process)?;
                self.mm.world().work(usize::MAX);
                // It needs no tables.
                let unmapped = self.unmap(process, at, pages.min(40 - at));
                assert!(matches!(unmapped, Ok(()) | Err(Error::Invalid)));
            }
            Op::Job(process, salt) => {
                let process = self.process(process)?;
                if let Err(error) = self.job(process, salt) {
                    assert_eq!(error, Error::NoMemory, "what fits is never busy");
                }
            }
            Op::Move(bo, segment) => {
                let id = self.bos[self.bo(bo)?].id;
                let pcie = self.mm.info(id).unwrap().pcie();
                let to = match segment {
                    0 => SegmentId::LocalVisible,
                    1 => SegmentId::LocalInvisible,
                    2 | 3 => pcie,
                    _ => SegmentId::System,
                };
                let moved = with(&self.mm, id, |set| {
                    self.mm.validate(set, id, &[anywhere(to)], &mut ctx())
                });
                assert!(matches!(moved, Ok(()) | Err(Error::NoMemory)), "{moved:?}");
            }
            Op::Cpu(bo, page, word) => {
                let bo = self.bo(bo)?;
                let id = self.bos[bo].id;
                let page = page % self.bos[bo].words.len() as u64;
                let machine = self.mm.world();
                machine.work(usize::MAX);
                let mut caller = Caller::enter(machine.sync());
                let system = &machine.ram.system;
                let written = self
                    .mm
                    .fault(&mut caller, id, page, &mut ctx(), |at| match at {
                        Page::Ram(block, page) => {
                            let mut words = system.words.borrow();
                            words.insert(block.page + page as u64, word);
                        }
                        Page::Local(segment, page) => machine.gpu.write((segment, page), word),
                    });
                if written.is_ok() {
                    self.bos[bo].words[usize::try_from(page).unwrap()] = word;
                }
            }
            Op::Release(bo) => {
                let bo = self.bo(bo)?;
                if std::mem::replace(&mut self.bos[bo].handle, false) {
                    self.mm.release(self.bos[bo].id).unwrap();
                    self.forget_unused();
                }
            }
            Op::Destroy(process) => self.destroy(self.process(process)?),
            Op::Work(steps) => self.mm.world().work(steps),
            Op::Tables(process, left) => {
                let gpu = &self.processes[self.process(process)?].gpu;
                gpu.0.allocs_until_failure.set(left);
            }
            Op::Pool(grows) => {
                let left = self.tables.get();
                self.tables.set(if grows {
                    left + 1
                } else {
                    left.saturating_sub(1)
                });
            }
        }
        Some(())
    }
}

proptest! {
    /// No process ever reaches what it has not mapped, whatever is mapped, moved and
    /// evicted; every job finds behind its addresses what was written last.
    #[test]
    fn addresses_lead_to_what_is_mapped_there(ops in prop::collection::vec(op(), 1..150)) {
        let mut test = Test::new(SIZES);
        test.tables.set(4);
        for (n, op) in ops.iter().enumerate() {
            test.run(op);
            test.check();
            if n % 16 == 0 {
                test.check_contents();
            }
        }
        test.end();
    }
}

type Call<'a> = &'a dyn Fn(&mut Caller<'_, super::mm::Sync>, &Context) -> Result<(), Error>;

/// Of the buffer or of the space, a lock that somebody has has the caller's deadline (D-17).
#[test]
fn to_map_and_to_unmap_waits_for_locks_until_the_deadline() {
    let mut test = Test::new(SIZES);
    let process = test.start();
    let other = test.create(None, 4, SegmentId::LocalVisible).unwrap();
    let own = test
        .create(Some(process), 4, SegmentId::LocalVisible)
        .unwrap();
    test.map(process, 0, other, 0, 4).unwrap();
    test.mm.world().work(usize::MAX);
    let space = test.processes[process].space;
    let (from, bytes) = (GpuVa(page(40)), 4 * PAGE_SIZE);
    let mapping = |object| Mapping {
        at: GpuVa(page(48)),
        bytes,
        object,
        flags: (),
    };
    let [other, own] = [other, own].map(|bo| test.bos[bo].id);
    let (mm, spaces) = (&test.mm, test.spaces());
    let sync = mm.world().sync();
    let map = |object| {
        move |caller: &mut Caller<'_, _>, ctx: &Context| {
            spaces.map(mm, caller, space, mapping(object), ctx)
        }
    };
    let unmap = |caller: &mut Caller<'_, _>, ctx: &Context| {
        spaces.unmap(mm, caller, space, from, bytes, ctx)
    };
    let calls: [(Id, Call<'_>); 5] = [
        (other, &map(Some((other, 0)))),
        (own, &map(Some((other, 0)))),
        (own, &map(Some((own, 0)))),
        (own, &map(None)),
        (own, &unmap),
    ];
    for (n, (held, call)) in calls.into_iter().enumerate() {
        let held = mm.reservation(held).unwrap();
        assert!(sync.try_lock(&held, None));
        let deadline = mm.world().after(1_000_000);
        let until = Context::until(deadline, Patience::Patient);
        let mut caller = Caller::enter(sync);
        assert_eq!(call(&mut caller, &until), Err(Error::Busy), "{n}");
        assert_eq!(mm.world().after(0), deadline, "{n}");
        sync.unlock(&held, None);
        assert_eq!(call(&mut caller, &ctx()), Ok(()), "{n}");
    }
    assert!(mm.release(other).is_ok());
    assert_eq!(mm.hold(other), Err(Error::NotFound), "nothing maps it");
}
