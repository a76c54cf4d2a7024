//! The page pool on a scripted system.

use super::ram::{Block, Call, Known, Locked, System};
use crate::Error;
use crate::bo::pool::{self, Effort, Key, Lists, MAX_ORDER, Request, SmallLock, Vector};
use crate::platform::Caching;
use e3k_regs::{BusAddr, PAGE_SIZE};
use proptest::prelude::*;
use std::cell::RefCell;

fn lists(limit: usize) -> Locked {
    Locked(RefCell::new(Lists::new(limit, false)))
}

const WC: Request = Request {
    pages: 1,
    caching: Caching::WriteCombined,
    low: false,
    zero: true,
    mapped: true,
    beneficial_order: 4,
};

fn orders(vector: &Vector<Block>) -> Vec<u32> {
    vector.blocks().map(|(_, order)| order).collect()
}

fn blocks(lists: &Locked, order: u32) -> usize {
    let key = Key {
        caching: WC.caching,
        low: false,
        order,
    };
    lists.0.borrow().blocks(key)
}

#[test]
fn orders_begin_at_the_largest_that_fits_and_never_rise_r_14_2_r_14_3() {
    let (system, pool) = (System::new(), lists(0));
    // 2^10 + 2^10 + 2^3 + 2^1 + 2^0
    let vector = pool::fill(&system, &pool, &Request { pages: 2059, ..WC }).unwrap();
    assert_eq!(orders(&vector), [10, 10, 3, 1, 0]);
    pool::give_back(&system, &pool, vector);
    // A system without large blocks: each order is asked once more than it has.
    system.largest.set(1);
    system.calls.take();
    let vector = pool::fill(&system, &pool, &Request { pages: 9, ..WC }).unwrap();
    assert_eq!(orders(&vector), [1, 1, 1, 1, 0]);
    let failed: Vec<_> = system
        .calls
        .take()
        .into_iter()
        .filter(|c| matches!(c, Call::Failed(_)))
        .collect();
    assert_eq!(failed, [Call::Failed(3), Call::Failed(2)]);
    pool::give_back(&system, &pool, vector);
    assert_eq!(system.pages_out(), 0);
}

#[test]
fn slots_of_a_block_follow_each_other_on_the_bus_r_14_8() {
    let (system, pool) = (System::new(), lists(0));
    let vector = pool::fill(&system, &pool, &Request { pages: 13, ..WC }).unwrap();
    let mut expected = Vec::new();
    for (block, order) in vector.blocks() {
        expected.extend((0..1 << order).map(|page| BusAddr::from_page(block.page + page)));
    }
    let found: Vec<_> = (0..13).map(|slot| vector.bus_addr(slot).unwrap()).collect();
    assert_eq!(found, expected);
    let (block, page) = vector.slot(9).unwrap();
    assert_eq!(
        vector.bus_addr(9),
        Some(BusAddr(block.page * PAGE_SIZE).add(page as u64 * PAGE_SIZE))
    );
    assert!(
        vector.bus_addr(13).is_none()
            && vector.slot(13).is_none()
            && vector.slot(usize::MAX).is_none()
    );
    pool::give_back(&system, &pool, vector);
}

#[test]
fn the_system_is_asked_where_the_pool_has_blocks_of_another_order_or_mode_r_14_9() {
    let (system, pool) = (System::new(), lists(1 << 20));
    let vector = pool::fill(&system, &pool, &Request { pages: 8, ..WC }).unwrap();
    pool::give_back(&system, &pool, vector);
    assert_eq!((blocks(&pool, 3), pool.0.borrow().pages()), (1, 8));
    let others = [
        Request { pages: 4, ..WC },
        Request {
            pages: 8,
            low: true,
            ..WC
        },
        Request {
            pages: 8,
            caching: Caching::Cached,
            ..WC
        },
    ];
    for request in others {
        let before = system.pages_out();
        let vector = pool::fill(&system, &pool, &request).unwrap();
        assert_eq!(system.pages_out() - before, request.pages, "{request:?}");
        assert_eq!(blocks(&pool, 3), 1, "{request:?}");
        drop_all(&system, vector);
    }
    let before = system.pages_out();
    let vector = pool::fill(&system, &pool, &Request { pages: 8, ..WC }).unwrap();
    assert_eq!(
        (system.pages_out() - before, blocks(&pool, 3)),
        (0, 0),
        "its own kind is taken"
    );
    drop_all(&system, vector);
}

/// Past the pool, straight to the system.
fn drop_all(system: &System, vector: Vector<Block>) {
    let closed = lists(0);
    closed.with(Lists::close);
    pool::give_back(system, &closed, vector);
}

#[test]
fn only_order_0_and_the_beneficial_one_may_reclaim_r_14_5() {
    let (system, pool) = (System::new(), lists(0));
    system.largest.set(0);
    let vector = pool::fill(&system, &pool, &Request { pages: 64, ..WC }).unwrap();
    for call in system.calls.take() {
        if let Call::Take(order, effort) = call {
            let expected = if [0, 4].contains(&order) {
                Effort::Reclaim
            } else {
                Effort::Light
            };
            assert_eq!(effort, expected, "order {order}");
        }
    }
    drop_all(&system, vector);
}

#[test]
fn pages_come_from_where_the_device_reaches_them_r_4_4() {
    let (system, pool) = (System::new(), lists(1 << 20));
    for low in [false, true] {
        let request = Request {
            pages: 5,
            low,
            ..WC
        };
        let vector = pool::fill(&system, &pool, &request).unwrap();
        let mut blocks = vector.blocks();
        assert!(blocks.all(|(block, _)| system.known(block).low == low));
        drop(blocks);
        // What waits is of no use to who needs the other kind.
        pool::give_back(&system, &pool, vector);
    }
    pool::close(&system, &pool);
}

#[test]
fn a_pool_that_is_closed_keeps_nothing_any_more_r_14_10() {
    let (system, pool) = (System::new(), lists(1 << 20));
    let [early, late] = [(); 2].map(|()| pool::fill(&system, &pool, &WC).unwrap());
    pool::give_back(&system, &pool, early);
    assert_eq!(system.pages_out(), 2);
    pool::close(&system, &pool);
    assert_eq!(system.pages_out(), 1);
    pool::give_back(&system, &pool, late);
    assert_eq!((system.pages_out(), pool.0.borrow().pages()), (0, 0));
}

#[test]
fn the_mode_is_changed_for_all_fresh_blocks_at_once_and_not_for_cached_ones_r_14_4() {
    let (system, pool) = (System::new(), lists(1 << 20));
    let vector = pool::fill(&system, &pool, &Request { pages: 7, ..WC }).unwrap();
    assert!(system.calls.take().contains(&Call::Switch(3)));
    pool::give_back(&system, &pool, vector);
    // One block of the three comes from the pool now.
    let taken = pool.with(|lists| {
        lists.take(Key {
            caching: WC.caching,
            low: false,
            order: 1,
        })
    });
    pool::give_back(
        &system,
        &pool,
        pool::fill(&system, &pool, &Request { pages: 7, ..WC }).unwrap(),
    );
    assert!(system.calls.take().contains(&Call::Switch(1)));
    let cached = Request {
        pages: 7,
        caching: Caching::Cached,
        ..WC
    };
    drop_all(&system, pool::fill(&system, &pool, &cached).unwrap());
    assert!(
        !system
            .calls
            .take()
            .iter()
            .any(|call| matches!(call, Call::Switch(_)))
    );
    assert!(taken.is_some());
}

#[test]
fn ordinary_cached_pages_are_never_kept_coherent_ones_are_r_14_1() {
    let system = System::new();
    for keeps_cached in [false, true] {
        let pool = Locked(RefCell::new(Lists::new(1 << 20, keeps_cached)));
        let cached = Request {
            pages: 5,
            caching: Caching::Cached,
            ..WC
        };
        let vector = pool::fill(&system, &pool, &cached).unwrap();
        pool::give_back(&system, &pool, vector);
        assert_eq!(pool.0.borrow().pages(), if keeps_cached { 5 } else { 0 });
        pool::close(&system, &pool);
        assert_eq!(system.pages_out(), 0);
    }
}

#[test]
fn a_pool_above_its_limit_shrinks_list_by_list_r_14_6_r_14_7() {
    let (system, pool) = (System::new(), lists(6));
    let vector = pool::fill(&system, &pool, &Request { pages: 7, ..WC }).unwrap();
    pool::give_back(&system, &pool, vector);
    assert_eq!(
        pool.0.borrow().pages(),
        6,
        "the front of the ring gave its one page"
    );
    let freed = pool::shrink(&system, &pool, 1);
    assert_eq!(
        (freed, pool.0.borrow().pages()),
        (2, 4),
        "then the next list"
    );
    assert_eq!(pool::shrink(&system, &pool, 100), 4, "as many as there are");
    assert_eq!(pool::shrink(&system, &pool, 1), 0);
    assert_eq!(system.pages_out(), 0);
}

#[test]
fn a_fill_that_fails_gives_everything_back_in_the_mode_it_has() {
    for stage in 0..3 {
        let (system, pool) = (System::new(), lists(1 << 20));
        match stage {
            0 => system.budget.set(6),
            1 => system.switches_until_failure.set(0),
            _ => system.maps_until_failure.set(2),
        }
        let error = pool::fill(&system, &pool, &Request { pages: 7, ..WC }).err();
        let expected = if stage == 2 {
            Error::Fault
        } else {
            Error::NoMemory
        };
        assert_eq!(error, Some(expected));
        let kept = if stage == 2 { 7 } else { 0 };
        assert_eq!(
            (system.pages_out(), pool.0.borrow().pages()),
            (kept, kept),
            "stage {stage}"
        );
        assert!(
            system
                .out
                .borrow()
                .values()
                .all(|known| known.bus.is_none())
        );
        pool::close(&system, &pool);
        assert_eq!(system.pages_out(), 0);
    }
}

#[test]
fn pages_from_the_pool_are_not_cleared_again_and_fresh_ones_only_where_asked_r_7_8() {
    let (system, pool) = (System::new(), lists(1 << 20));
    let bare = Request {
        pages: 8,
        zero: false,
        ..WC
    };
    let vector = pool::fill(&system, &pool, &bare).unwrap();
    assert_eq!(system.cleared.get(), 0, "contents will be copied in");
    pool::give_back(&system, &pool, vector);
    assert_eq!(
        system.cleared.get(),
        8,
        "what waits shows nothing of its last user"
    );
    let vector = pool::fill(&system, &pool, &Request { pages: 8, ..WC }).unwrap();
    assert_eq!(system.cleared.get(), 8);
    assert!(vector.blocks().all(|(block, _)| system.known(block).clear));
    drop_all(&system, vector);
}

#[derive(Clone, Debug)]
enum Op {
    Fill {
        pages: usize,
        wc: bool,
        low: bool,
        zero: bool,
        mapped: bool,
    },
    GiveBack(usize),
    Write(usize),
    Shrink(usize),
    Limit(usize),
    Largest(u32),
    Budget(u64),
    FailSwitch(u32),
    FailMap(u32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (1..3000_usize, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(pages, wc, low, zero, mapped)| Op::Fill { pages, wc, low, zero, mapped }),
        4 => any::<usize>().prop_map(Op::GiveBack),
        2 => any::<usize>().prop_map(Op::Write),
        1 => (0..3000_usize).prop_map(Op::Shrink),
        1 => (0..6000_usize).prop_map(Op::Limit),
        1 => (0..=MAX_ORDER).prop_map(Op::Largest),
        1 => (0..5000_u64).prop_map(Op::Budget),
        1 => (0..3_u32).prop_map(Op::FailSwitch),
        1 => (0..9_u32).prop_map(Op::FailMap),
    ]
}

proptest! {
    #[test]
    fn no_page_is_lost_shared_dirty_or_in_another_mode(ops in prop::collection::vec(op(), 1..60)) {
        let (system, pool) = (System::new(), lists(4000));
        let mut vectors = Vec::new();
        for op in ops {
            match op {
                Op::Fill { pages, wc, low, zero, mapped } => {
                    let caching = if wc { Caching::WriteCombined } else { Caching::Cached };
                    let request = Request { pages, caching, low, zero, mapped, beneficial_order: 9 };
                    if let Ok(vector) = pool::fill(&system, &pool, &request) {
                        prop_assert_eq!(vector.pages(), pages);
                        if zero {
                            prop_assert!(vector.blocks().all(|(block, _)| system.known(block).clear));
                        }
                        let mapped_slots = (0..pages).filter(|&slot| vector.bus_addr(slot).is_some());
                        prop_assert_eq!(mapped_slots.count(), if mapped { pages } else { 0 });
                        vectors.push((vector, low));
                    }
                    // What was to fail has failed.
                    system.switches_until_failure.set(u32::MAX);
                    system.maps_until_failure.set(u32::MAX);
                }
                Op::GiveBack(n) => {
                    if let Some(at) = n.checked_rem(vectors.len()) {
                        let (vector, _) = vectors.swap_remove(at);
                        pool::give_back(&system, &pool, vector);
                        prop_assert!(!pool.0.borrow().over_limit());
                    }
                }
                Op::Write(n) => {
                    if let Some(at) = n.checked_rem(vectors.len()) {
                        for (block, _) in vectors[at].0.blocks() {
                            system.change(block, |known| known.clear = false);
                        }
                    }
                }
                Op::Shrink(pages) => {
                    let waiting = pool.0.borrow().pages();
                    let freed = pool::shrink(&system, &pool, pages);
                    prop_assert!(freed >= pages.min(waiting));
                    prop_assert_eq!(pool.0.borrow().pages(), waiting - freed);
                }
                Op::Limit(pages) => pool.0.borrow_mut().set_limit(pages),
                Op::Largest(order) => system.largest.set(order),
                Op::Budget(pages) => system.budget.set(pages),
                Op::FailSwitch(n) => system.switches_until_failure.set(n),
                Op::FailMap(n) => system.maps_until_failure.set(n),
            }
            // Each page is in a vector or waits, and nowhere else.
            let mut held = 0;
            for (vector, low) in &vectors {
                for (block, order) in vector.blocks() {
                    let known = system.known(block);
                    prop_assert_eq!((known.order, known.low, known.caching), (order, *low, vector.caching()));
                    held += 1 << order;
                }
            }
            prop_assert_eq!(held + pool.0.borrow().pages(), system.pages_out());
        }
        // What waits is clear, in its list's mode, and counted as its list says.
        let waiting = pool.0.borrow().pages();
        let mut seen = 0;
        while let Some((key, block)) = pool.with(Lists::shrink) {
            let known = system.known(&block);
            let expected = Known { order: key.order, low: key.low, caching: key.caching, clear: true, bus: None };
            prop_assert_eq!(known, expected);
            seen += key.pages();
        }
        prop_assert_eq!(seen, waiting);
    }
}
