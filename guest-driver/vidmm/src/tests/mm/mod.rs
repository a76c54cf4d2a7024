//! The memory manager on a small GPU whose copy engine works only while somebody
//! waits: contents compared, everything counted.

mod ends;
mod machine;
mod moves;
mod random;
mod rules;

pub(super) use machine::{Cellar, Gpu, Machine, Sync, Work};

use crate::Error;
use crate::arena::Id;
use crate::bo::Kind;
use crate::evict::{Context, Info, Mm, Options, Page, World};
use crate::placement::{Flags, Place, SegmentId};
use crate::platform::{Caching, Patience};
use crate::sync::{Caller, Deadline};

pub(super) const SIZES: [u64; 4] = [32, 32, 48, 48];

pub(super) fn manager(sizes: [u64; 4]) -> Mm<Machine> {
    manager_with(sizes, Options::default())
}

pub(super) fn manager_with(sizes: [u64; 4], options: Options) -> Mm<Machine> {
    Mm::new(Machine::new(), sizes, options).unwrap()
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
        owner: None,
    }
}

pub(super) fn anywhere(segment: SegmentId) -> Place {
    Place::anywhere(segment, Flags::NONE)
}

pub(super) fn create(mm: &Mm<Machine>, info: &Info, places: &[Place]) -> Result<Id, Error> {
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

pub(super) fn first_page(mm: &Mm<Machine>, id: Id) -> u64 {
    mm.extents(id).unwrap()[0].first
}
