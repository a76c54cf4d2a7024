//! The memory manager on a small GPU whose rings work only while somebody waits, or
//! beside threads: contents compared, everything counted.

mod causes;
mod contended;
mod ends;
mod faults;
mod frail;
mod givers;
mod leftovers;
mod machine;
mod mapping;
mod moves;
mod purge;
mod random;
mod rules;
mod shrink;
mod swap;
mod threads;

pub(super) use machine::{Cellar, Gpu, Machine, Sync, Work};

use crate::Error;
use crate::arena::Id;
use crate::bo::Kind;
use crate::evict::{Context, FenceOf, Info, Mm, Options, Page, World};
use crate::placement::{Flags, Place, SegmentId};
use crate::platform::{Caching, Patience};
use crate::sync::{Caller, Deadline, FenceResult, LockSet, Usage};
use machine::{At, Spot, Threads, pages};
use presil_allocator::{Allocator, spared};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

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

/// Until a second has passed.
fn soon(mm: &Mm<Machine>) -> Context {
    Context::until(mm.world().after(1_000_000_000), Patience::Patient)
}

/// Nothing is waited for.
fn at_once() -> Context {
    Context {
        no_wait: true,
        ..ctx()
    }
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

fn kernel(pages: u64) -> Info {
    Info {
        kind: Kind::Kernel,
        ..info(pages)
    }
}

pub(super) fn anywhere(segment: SegmentId) -> Place {
    Place::anywhere(segment, Flags::NONE)
}

pub(super) fn create<K: Threads>(
    mm: &Mm<Machine<K>>,
    info: &Info,
    places: &[Place],
) -> Result<Id, Error> {
    create_in(mm, info, places, &mut ctx())
}

fn create_in<K: Threads>(
    mm: &Mm<Machine<K>>,
    info: &Info,
    places: &[Place],
    ctx: &mut Context,
) -> Result<Id, Error> {
    let mut caller = Caller::enter(mm.world().sync());
    let mut set = caller.transaction(Patience::Patient)?;
    set.run(|set| mm.create(set, info, None, places, ctx))
}

/// With the buffer's reservation held.
pub(super) fn with<K: Threads, R>(
    mm: &Mm<Machine<K>>,
    id: Id,
    mut f: impl FnMut(&mut LockSet<'_, Sync<K>>) -> Result<R, Error>,
) -> Result<R, Error> {
    let reservation = mm.reservation(id)?;
    let mut caller = Caller::enter(mm.world().sync());
    let mut set = caller.transaction(Patience::Patient)?;
    set.run(|set| {
        set.lock(&reservation, 1)?;
        f(set)
    })
}

fn validate_in<K: Threads>(
    mm: &Mm<Machine<K>>,
    id: Id,
    to: SegmentId,
    ctx: &mut Context,
) -> Result<(), Error> {
    with(mm, id, |set| mm.validate(set, id, &[anywhere(to)], ctx))
}

fn validate<K: Threads>(mm: &Mm<Machine<K>>, id: Id, to: SegmentId) -> Result<Context, Error> {
    let mut context = ctx();
    validate_in(mm, id, to, &mut context)?;
    Ok(context)
}

/// A page, where the CPU finds it by a fault; it stays mapped.
fn touch<K: Threads>(
    mm: &Mm<Machine<K>>,
    id: Id,
    page: u64,
    ctx: &mut Context,
) -> Result<Spot, Error> {
    let gpu = &mm.world().gpu;
    let mut caller = Caller::enter(mm.world().sync());
    mm.fault(&mut caller, id, page, ctx, |page| {
        let spot = match page {
            Page::Ram(block, page) => Spot::Ram(block.page + page as u64),
            Page::Local(segment, page) => Spot::Local((segment, page)),
        };
        spared(|| gpu.mapped.borrow().entry(id).or_default().push(spot));
        spot
    })
}

/// One word of a page, as the CPU sees it.
pub(super) fn word<K: Threads>(mm: &Mm<Machine<K>>, id: Id, page: u64) -> Result<u64, Error> {
    let spot = touch(mm, id, page, &mut ctx())?;
    Ok(mm.world().gpu.peek(spot))
}

/// The pages of a buffer, as the GPU names them.
fn whole<K: Threads>(mm: &Mm<Machine<K>>, id: Id) -> Result<Vec<At>, Error> {
    let segment = mm.segment(id)?.ok_or(Error::NotFound)?;
    spared(|| Ok(pages(segment, &mm.extents(id)?)))
}

pub(super) fn first_page<K: Threads>(mm: &Mm<Machine<K>>, id: Id) -> u64 {
    mm.extents(id).unwrap()[0].first
}

/// Writes a word to a page by a job: behind all that the buffer waits for.
pub(super) fn job<K: Threads>(
    mm: &Mm<Machine<K>>,
    id: Id,
    page: usize,
    word: u64,
    ends: FenceResult,
) -> Result<FenceOf<Machine<K>>, Error> {
    let reservation = mm.reservation(id)?;
    let mut caller = Caller::enter(mm.world().sync());
    let mut set = caller.transaction(Patience::Patient)?;
    let at = set.run(|set| {
        set.lock(&reservation, 1)?;
        mm.make_resident(set, id, &mut ctx())?;
        Ok(whole(mm, id)?[page])
    })?;
    let fence =
        mm.world()
            .submit_after(&reservation, Work::Fill(spared(|| vec![at]), word), ends)?;
    set.commit(&fence, |_| Usage::Write)?;
    Ok(fence)
}
