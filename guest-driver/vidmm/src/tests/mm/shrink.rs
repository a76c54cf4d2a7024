//! What the system is given when it is short of pages, and what it is told.

use super::{SIZES, anywhere, at_once, create, create_in, ctx, info, job, manager, validate};
use crate::Error;
use crate::arena::Id;
use crate::evict::{Budget, Info, Mm};
use crate::placement::SegmentId;

type Machine = super::Machine;

const PCIE: SegmentId = SegmentId::PcieUnsnoop;
const SYSTEM: SegmentId = SegmentId::System;

/// A buffer with a word in a page, that nobody works on.
fn filled(mm: &Mm<Machine>, pages: u64, page: usize, word: u64) -> Id {
    let bo = create(mm, &info(pages), &[anywhere(PCIE)]).unwrap();
    job(mm, bo, page, word, Ok(())).unwrap();
    mm.world().work(usize::MAX);
    bo
}

/// So many pages wait in the pool.
fn pool(mm: &Mm<Machine>, pages: u64) {
    mm.release(filled(mm, pages, 0, 70)).unwrap();
}

#[test]
fn the_system_gets_as_much_as_it_asks_for_from_the_pool_and_buffers_together_r_13_10() {
    let mm = manager(SIZES);
    pool(&mm, 4);
    filled(&mm, 8, 3, 71);
    assert_eq!(mm.shrink(6, &mut at_once()), Ok(6));
    assert_eq!((mm.held_pages(), mm.report().ram.swapped), (6, 2));
    mm.check();
}

#[test]
fn the_system_is_told_an_error_only_where_it_got_nothing_r_13_10() {
    for pooled in [0, 4] {
        let mm = manager(SIZES);
        if pooled > 0 {
            pool(&mm, pooled);
        }
        // The first page that is to be stored cannot be.
        filled(&mm, 8, 7, 71);
        mm.world().ram.shelf.bad.set(Some(71));
        let told = mm.shrink(6, &mut at_once());
        let expected = if pooled > 0 { Ok(4) } else { Err(Error::Io) };
        assert_eq!(told, expected);
        mm.check();
    }
}

/// Where nobody takes anything from it, it is parked, whatever was promised there.
#[test]
fn what_is_parked_is_stored_whatever_its_client_was_promised_there() {
    let mm = manager(SIZES);
    let owner = mm.open_account().unwrap();
    let budget = Budget {
        min: 8 * 4096,
        ..Budget::OPEN
    };
    mm.set_budget(owner, SYSTEM, budget).unwrap();
    let info = Info {
        owner: Some(owner),
        ..info(8)
    };
    let bo = create_in(&mm, &info, &[anywhere(PCIE)], &mut ctx()).unwrap();
    job(&mm, bo, 3, 71, Ok(())).unwrap();
    mm.world().work(usize::MAX);
    validate(&mm, bo, SYSTEM).unwrap();
    assert_eq!(mm.shrink(8, &mut at_once()), Ok(8));
    mm.check();
}
