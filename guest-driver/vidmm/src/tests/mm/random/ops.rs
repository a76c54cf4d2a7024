//! Operations on budgets and groups.

use super::{Known, TYPES, Test, ctx, info, places, with};
use crate::evict::{Budget, Used, World};
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
        let info = info(pages);
        let mut caller = Caller::enter(self.mm.world().sync());
        let mut set = caller.transaction(Patience::Patient).unwrap();
        let places = places(n, info.pcie());
        let made = set.run(|set| {
            let shared = Some(&self.shared);
            let id = self.mm.create(set, &info, shared, &places, &mut ctx())?;
            self.mm.join(set, id, Some(self.group)).unwrap();
            Ok(id)
        });
        if let Ok(id) = made {
            let words = vec![Some(0); usize::try_from(pages).unwrap()];
            self.bos.push(Known { id, words, pins: 0 });
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
}
