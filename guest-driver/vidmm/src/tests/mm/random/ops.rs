//! Operations on budgets and groups, promotion, faults.

use super::super::super::ram::Block;
use super::super::machine::{Site, Spot};
use super::{Known, TYPES, Test, info, places, soon, with};
use crate::Error;
use crate::arena::Id;
use crate::bo::pool::SmallLock;
use crate::evict::{Budget, Context, Page, Run, Used, World};
use crate::placement::SegmentId;
use crate::platform::Patience;
use crate::sync::{Caller, Primitives};

impl Test {
    pub(super) fn budget(&self, owner: usize, segment: usize, pages: [u64; 3]) {
        let [min, low, limit] = pages.map(|pages| pages * 4096);
        let budget = Budget { min, low, limit };
        let _ = self
            .mm
            .set_budget(self.owners[owner], TYPES[segment], budget);
    }

    pub(super) fn member(&mut self, pages: u64, n: usize) {
        if self.bos.len() == self.most {
            return;
        }
        let info = info(pages);
        let mut caller = Caller::enter(self.mm.world().sync());
        let mut set = caller.transaction(Patience::Patient).unwrap();
        let places = places(n, info.pcie());
        let made = set.run(|set| {
            let shared = Some(&self.shared);
            let id = self
                .mm
                .create(set, &info, shared, &places, &mut soon(&self.mm))?;
            self.mm.join(set, id, Some(self.group)).unwrap();
            Ok(id)
        });
        drop(set);
        if let Ok(id) = made {
            self.admit(id, &info);
        }
    }

    pub(super) fn join(&self, n: usize, joins: bool) {
        let Some(at) = self.pick(n) else { return };
        let id = self.bos[at].id;
        let group = joins.then_some(self.group);
        let sync = self.mm.world().sync();
        let shares = sync.same(&self.mm.reservation(id).unwrap(), &self.shared);
        let joined = with(&self.mm, id, |set| self.mm.join(set, id, group));
        assert_eq!(joined.is_ok(), shares || !joins);
    }

    pub(super) fn unreserve(&self, n: usize, group: bool) {
        let Some(at) = self.pick(n) else { return };
        let id = self.bos[at].id;
        let reservation = self.mm.reservation(id).unwrap();
        let mut caller = Caller::enter(self.mm.world().sync());
        let mut set = caller.transaction(Patience::Patient).unwrap();
        set.lock_all([&reservation], 1).unwrap();
        let (buffers, groups) = ([id], [self.group]);
        let used = Used {
            buffers: &buffers,
            groups: if group { &groups } else { &[] },
        };
        self.mm.unreserve(set, used);
    }

    pub(super) fn promote(&self) {
        let machine = self.mm.world();
        let before = machine.gpu.ended.get();
        let mut caller = Caller::enter(machine.sync());
        let promoted = self.mm.promote(&mut caller, &mut soon(&self.mm));
        let refused = matches!(
            promoted,
            Err(Error::Lost | Error::NoMemory | Error::Io | Error::Fault)
        );
        assert!(promoted.is_ok() || refused, "{promoted:?}");
        assert_eq!(machine.gpu.ended.get(), before, "nobody waited");
    }

    /// A pin does not place.
    pub(super) fn pin(&mut self, at: usize, id: Id) {
        let placed = self.mm.segment(id).unwrap().is_some();
        let pinned = with(&self.mm, id, |set| self.mm.pin(set, id));
        assert_eq!(pinned.is_ok(), placed);
        self.bos[at].pins += u32::from(placed);
    }

    pub(super) fn unpin(&mut self, at: usize, id: Id) {
        let unpinned = with(&self.mm, id, |set| self.mm.unpin(set, id));
        assert_eq!(unpinned.is_ok(), self.bos[at].pins > 0);
        self.bos[at].pins = self.bos[at].pins.saturating_sub(1);
    }

    /// What was in it is gone, and nothing else.
    pub(super) fn purge(&mut self, at: usize, id: Id) {
        let before = self.mm.segment(id).unwrap();
        let mut context = soon(&self.mm);
        let purged = with(&self.mm, id, |set| {
            self.mm.validate(set, id, &[], &mut context)
        });
        assert_eq!((context.moved_pages, context.evicted), (0, 0));
        let known = &mut self.bos[at];
        if known.pins > 0 {
            assert_eq!(purged, Err(Error::Invalid));
            assert_eq!(self.mm.segment(id), Ok(before));
            return;
        }
        purged.unwrap();
        assert_eq!(self.mm.segment(id), Ok(None));
        known.words.fill((!known.kernel).then_some(0));
    }

    /// Whether jobs or room in the store were refused: who waits for what others give up
    /// may be told busy then.
    pub(super) fn refuses(&self) -> bool {
        let machine = self.mm.world();
        [Site::Job, Site::Put]
            .iter()
            .any(|site| site.of(machine).refused() > 0)
    }

    /// As many pages come back to the system as it says.
    pub(super) fn shrink(&self, pages: usize, no_wait: bool) {
        let machine = self.mm.world();
        let (ended, out) = (machine.gpu.ended.get(), machine.ram.system.pages_out());
        let mut context = Context {
            no_wait,
            ..soon(&self.mm)
        };
        let shrunk = self.mm.shrink(pages, &mut context);
        // What dies may wait in the pool.
        let pooled = machine.ram.pool.with(|pool| pool.pages());
        let given = out - machine.ram.system.pages_out();
        match shrunk {
            Ok(found) => assert!(given + pooled >= found, "{given} of {found}"),
            Err(error) => assert_eq!(error, Error::Lost),
        }
        assert!(!no_wait || machine.gpu.ended.get() == ended, "it waited");
    }

    /// Only what is pinned keeps pages or a place elsewhere.
    pub(super) fn hibernate(&self) {
        let machine = self.mm.world();
        let mut caller = Caller::enter(machine.sync());
        if self.mm.hibernate(&mut caller, &mut soon(&self.mm)).is_err() {
            return;
        }
        for seen in self.mm.seen() {
            let pinned = self.mm.is_pinned(seen.id) == Ok(true);
            let parked = seen.segment == SegmentId::System;
            assert!(pinned || (parked && seen.frames.is_empty()));
        }
    }

    pub(super) fn map_whole(&self, at: usize, id: Id) {
        let machine = self.mm.world();
        let known = &self.bos[at];
        let mut caller = Caller::enter(machine.sync());
        let _ = self
            .mm
            .map_whole(&mut caller, id, &mut soon(&self.mm), |run| {
                self.look(known, &run);
                true
            });
    }

    /// The kernel sees all that it asks for, or is told why not.
    pub(super) fn kernel(&self, at: usize, first: u64, pages: u64) {
        let known = &self.bos[at];
        let (mm, id) = (&self.mm, known.id);
        let asked = first..first + pages;
        let mut seen = 0;
        let mapped = with(mm, id, |set| {
            seen = 0;
            mm.map_kernel(set, id, asked.clone(), &mut soon(mm), |run| {
                self.look(known, &run);
                seen += run.pages;
                Ok(())
            })
        });
        let inside = pages > 0 && asked.end <= mm.info(id).unwrap().pages;
        assert_eq!(mapped == Err(Error::Invalid), !inside);
        assert!(mapped.is_err() || seen == pages);
    }

    /// Names in the device's file lead to the buffers that have them, and to no others.
    pub(super) fn check_file(&self) {
        for known in &self.bos {
            let pages = self.mm.info(known.id).unwrap().pages;
            let Ok(first) = self.mm.file_page(known.id) else {
                assert!(known.kernel);
                continue;
            };
            let last = self.mm.at_file_page(first + pages - 1, 1);
            assert_eq!(last, Ok((known.id, pages - 1)));
            assert_eq!(self.mm.at_file_page(first + pages, 1), Err(Error::Invalid));
        }
    }

    /// What jobs have yet to write is not there.
    fn look(&self, known: &Known, run: &Run<'_, Block>) {
        let machine = self.mm.world();
        if machine.gpu.queued() > 0 || !self.writes.is_empty() {
            return;
        }
        for n in 0..run.pages {
            let spot = match run.at {
                Page::Ram(block, page) => Spot::Ram(block.page + page as u64 + n),
                Page::Local(segment, page) => Spot::Local((segment, page + n)),
            };
            let page = usize::try_from(run.page + n).unwrap();
            known.check(page, machine.gpu.peek(spot));
        }
    }

    pub(super) fn around(&self, n: usize, page: u64) {
        let Some(at) = self.pick(n) else { return };
        let machine = self.mm.world();
        let known = &self.bos[at];
        let page = page % self.mm.info(known.id).unwrap().pages;
        let mut caller = Caller::enter(machine.sync());
        let _ = self
            .mm
            .fault_around(&mut caller, known.id, page, &mut soon(&self.mm), |run| {
                self.look(known, &run);
                true
            });
    }
}
