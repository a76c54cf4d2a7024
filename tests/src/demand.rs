//! What fits: a naive reference that says when there is no memory for something, of pages
//! and pins alone. One thread asks, and may wait, so that whoever is not pinned leaves.

use vidmm::{BoId, SegmentId};

/// A buffer, as the reference knows it.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    /// Which one.
    pub bo: BoId,
    /// How large.
    pub pages: u64,
    /// Where.
    pub at: Option<SegmentId>,
    /// It stays there.
    pub pinned: bool,
}

/// What there is, and who has it.
#[derive(Debug)]
pub struct Demand {
    /// Pages of each memory type that are not the driver's own.
    pub room: [u64; SegmentId::COUNT],
    /// Pages of RAM that buffers may have.
    pub ram: u64,
    /// The PCIe type of all of them.
    pub pcie: SegmentId,
    /// All buffers.
    pub items: Vec<Item>,
}

impl Demand {
    /// What stays while somebody works on the buffers of a `set`, `but` one.
    fn staying<'a>(&'a self, set: &'a [BoId], but: BoId) -> impl Iterator<Item = &'a Item> {
        let stays = move |it: &&Item| it.bo != but && (it.pinned || set.contains(&it.bo));
        self.items.iter().filter(stays)
    }

    fn room(&self, segment: SegmentId, set: &[BoId], but: BoId) -> u64 {
        let there = self.staying(set, but).filter(|it| it.at == Some(segment));
        let taken: u64 = there.map(|it| it.pages).sum();
        self.room[segment as usize].saturating_sub(taken)
    }

    fn ram(&self, set: &[BoId], but: BoId) -> u64 {
        let there = self.staying(set, but);
        let taken = there.filter(|it| it.at.is_some_and(SegmentId::uses_tt));
        self.ram.saturating_sub(taken.map(|it| it.pages).sum())
    }

    /// Whether contents can come to RAM: there is room for the GPU to reach them, and there
    /// are pages.
    fn comes_to_ram(&self, item: &Item, set: &[BoId]) -> bool {
        let room = self.room(self.pcie, set, item.bo);
        item.pages <= room.min(self.ram(set, item.bo))
    }

    /// Whether a buffer finds a place in a memory type, whoever has to leave for it.
    pub fn fits(&self, item: &Item, to: SegmentId, set: &[BoId]) -> bool {
        let is_local = |at: Option<SegmentId>| at.is_some_and(|at| !at.uses_tt());
        if to == SegmentId::System {
            return !is_local(item.at) || self.comes_to_ram(item, set);
        }
        if to.uses_tt() {
            let room = item.pages <= self.room(to, set, item.bo);
            return room && (!is_local(item.at) || self.comes_to_ram(item, set));
        }
        // Whoever cannot leave is in the way.
        let stays = |it: &&Item| {
            let moves = !it.pinned && !set.contains(&it.bo) && it.bo != item.bo;
            moves && it.at == Some(to) && !self.comes_to_ram(it, set)
        };
        let stuck: u64 = self.items.iter().filter(stays).map(|it| it.pages).sum();
        let room = self.room(to, set, item.bo).saturating_sub(stuck);
        let stops = item.at.is_some_and(SegmentId::uses_tt);
        item.pages <= room && (!stops || self.comes_to_ram(item, set))
    }

    /// Whether all of a `set` can be where the GPU works on them, one of these places each.
    /// Those that are there already stay.
    pub fn fit_together(&self, set: &[BoId], places: &[SegmentId]) -> bool {
        let mut all = self.items.iter().filter(|it| set.contains(&it.bo));
        all.all(|it| {
            let has_pages = |to: SegmentId| !to.uses_tt() || it.pages <= self.ram(set, it.bo);
            match it.at.filter(|at| places.contains(at)) {
                Some(at) => has_pages(at),
                None => places
                    .iter()
                    .any(|to| self.fits(it, *to, set) && has_pages(*to)),
            }
        })
    }

    /// Whether the CPU can reach a page of a buffer.
    pub fn is_reachable(&self, item: &Item) -> bool {
        let set = [item.bo];
        match item.at {
            Some(SegmentId::LocalVisible) => true,
            Some(SegmentId::LocalInvisible) => {
                let near = [SegmentId::LocalVisible, self.pcie];
                !item.pinned && near.iter().any(|to| self.fits(item, *to, &set))
            }
            Some(_) => item.pages <= self.ram(&set, item.bo),
            None => false,
        }
    }

    /// Whether all of local memory can go to RAM at once.
    pub fn can_sleep(&self) -> bool {
        let local = self.items.iter();
        let local = local.filter(|it| it.at.is_some_and(|at| !at.uses_tt()));
        let each = |it: &Item| it.pages <= self.room(self.pcie, &[], it.bo);
        let pages: u64 = local.clone().map(|it| it.pages).sum();
        let taken = self.items.iter().filter(|it| it.pinned);
        let taken = taken.filter(|it| it.at.is_some_and(SegmentId::uses_tt));
        let taken: u64 = taken.map(|it| it.pages).sum();
        local.clone().all(each) && pages + taken <= self.ram
    }
}
