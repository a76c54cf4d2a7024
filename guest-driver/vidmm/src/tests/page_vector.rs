//! Page vectors through all their states, contents compared.

use super::ram::{Block, Countdown, Locked, System};
use crate::Error;
use crate::bo::page_vector::{BackingStore, Has, PageVector, Ram, Shape};
use crate::bo::pool::Lists;
use crate::platform::Caching;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::num::NonZeroU64;

/// A store with room for `room` more pages.
struct Shelf<'a> {
    system: &'a System,
    stored: RefCell<HashMap<NonZeroU64, u64>>,
    next: Cell<u64>,
    room: Countdown,
    gets_until_failure: Countdown,
}

impl BackingStore<Block> for Shelf<'_> {
    fn put(&self, block: &Block, page: usize) -> Result<NonZeroU64, Error> {
        if !self.room.goes_on() {
            return Err(Error::NoSpace);
        }
        let word = self.system.words.borrow()[&(block.page + page as u64)];
        self.next.set(self.next.get() + 1);
        let handle = NonZeroU64::new(self.next.get()).unwrap();
        self.stored.borrow_mut().insert(handle, word);
        Ok(handle)
    }

    fn get(&self, handle: NonZeroU64, block: &mut Block, page: usize) -> Result<(), Error> {
        if !self.gets_until_failure.goes_on() {
            return Err(Error::Io);
        }
        let word = self.stored.borrow()[&handle];
        let page = block.page + page as u64;
        self.system.words.borrow().insert(page, word);
        Ok(())
    }

    fn drop(&self, handle: NonZeroU64) {
        assert!(
            self.stored.borrow_mut().remove(&handle).is_some(),
            "dropped once"
        );
    }
}

struct World<'a> {
    system: &'a System,
    pool: Locked,
    shelf: Shelf<'a>,
}

impl<'a> World<'a> {
    fn new(system: &'a System) -> Self {
        Self {
            system,
            pool: Locked(RefCell::new(Lists::new(100, false))),
            shelf: Shelf {
                system,
                stored: RefCell::default(),
                next: Cell::new(0),
                room: Countdown::new(),
                gets_until_failure: Countdown::new(),
            },
        }
    }

    fn write(&self, vector: &PageVector<Block>, slot: usize, word: u64) {
        let (block, page) = vector.slot(slot).unwrap();
        self.system
            .words
            .borrow()
            .insert(block.page + page as u64, word);
    }

    fn read(&self, vector: &PageVector<Block>, slot: usize) -> u64 {
        let (block, page) = vector.slot(slot).unwrap();
        self.system.words.borrow()[&(block.page + page as u64)]
    }

    fn stored(&self) -> usize {
        self.shelf.stored.borrow().len()
    }
}

impl<'a> Ram for World<'a> {
    type Block = Block;
    type Source = System;
    type Pool = Locked;
    type Store = Shelf<'a>;

    fn source(&self) -> &System {
        self.system
    }

    fn pool(&self) -> &Locked {
        &self.pool
    }

    fn store(&self) -> &Shelf<'a> {
        &self.shelf
    }
}

fn shape(pages: usize, caching: Caching) -> Shape {
    Shape {
        pages,
        caching,
        low: false,
        mapped: true,
        beneficial_order: 9,
    }
}

fn filled(world: &World, pages: usize) -> PageVector<Block> {
    let mut vector = PageVector::new(shape(pages, Caching::WriteCombined), true);
    vector.populate(world).unwrap();
    for slot in 0..pages {
        assert_eq!(world.read(&vector, slot), 0, "R-7.8");
        world.write(&vector, slot, 7 * slot as u64 + 1);
    }
    vector
}

fn check_contents(world: &World, vector: &PageVector<Block>) {
    for slot in 0..vector.shape().pages {
        assert_eq!(world.read(vector, slot), 7 * slot as u64 + 1, "slot {slot}");
        assert!(vector.bus_addr(slot).is_some(), "slot {slot} is mapped");
    }
}

#[test]
fn populate_and_unpopulate_again_change_nothing_r_7_4() {
    let system = System::new();
    let world = World::new(&system);
    let mut vector = filled(&world, 5);
    vector.populate(&world).unwrap();
    check_contents(&world, &vector);
    vector.unpopulate(&world).unwrap();
    vector.unpopulate(&world).unwrap();
    assert_eq!((vector.has(), vector.held()), (Has::Nothing, 0));
}

#[test]
fn there_is_a_slot_for_each_page_and_none_beyond_r_7_1() {
    let system = System::new();
    let world = World::new(&system);
    let mut vector = filled(&world, 7);
    assert_eq!(vector.held(), 7);
    assert!((0..7).all(|slot| vector.slot(slot).is_some()) && vector.slot(7).is_none());
    vector.unpopulate(&world).unwrap();
}

#[test]
fn pages_exist_or_not_and_without_memory_nothing_changes_r_7_2() {
    let system = System::new();
    let world = World::new(&system);
    let mut vector = PageVector::new(shape(5, Caching::Cached), true);
    system.budget.set(4);
    assert_eq!(vector.populate(&world), Err(Error::NoMemory));
    assert_eq!((vector.has(), system.pages_out()), (Has::Nothing, 0));
    system.budget.set(5);
    vector.populate(&world).unwrap();
    assert_eq!(vector.has(), Has::Pages);
    vector.bound().unwrap();
    vector.populate(&world).unwrap();
    assert_eq!((vector.has(), system.pages_out()), (Has::BoundPages, 5));
    vector.unbound();
    vector.unpopulate(&world).unwrap();
}

#[test]
fn pages_are_zeros_unless_contents_come_at_once_r_7_3() {
    let system = System::new();
    let world = World::new(&system);
    for (zero, cleared) in [(false, 0), (true, 5)] {
        let mut vector = PageVector::new(shape(5, Caching::Cached), zero);
        vector.populate(&world).unwrap();
        assert_eq!(system.cleared.get(), cleared);
        vector.unpopulate(&world).unwrap();
    }
}

#[test]
fn bound_pages_are_neither_freed_nor_stored_r_7_7() {
    let system = System::new();
    let world = World::new(&system);
    let mut vector = filled(&world, 5);
    vector.bound().unwrap();
    assert_eq!(vector.unpopulate(&world), Err(Error::Busy));
    assert_eq!(vector.purge(&world), Err(Error::Busy));
    assert_eq!(vector.swap_out(&world), Err(Error::Busy));
    assert_eq!(vector.back_up(&world, 1), Err(Error::Busy));
    assert_eq!(vector.has(), Has::BoundPages);
    vector.unbound();
    check_contents(&world, &vector);
    vector.unpopulate(&world).unwrap();
    assert_eq!(vector.bound(), Err(Error::Invalid), "R-16.1");
}

#[test]
fn contents_come_back_from_swap_and_the_store_is_empty_then() {
    let system = System::new();
    let world = World::new(&system);
    let mut vector = filled(&world, 300);
    assert_eq!(vector.swap_out(&world), Ok(300));
    assert_eq!(
        (vector.has(), vector.held(), world.stored()),
        (Has::Swapped, 0, 300)
    );
    assert_eq!(vector.swap_out(&world), Err(Error::Busy), "already");
    vector.populate(&world).unwrap();
    check_contents(&world, &vector);
    assert_eq!(world.stored(), 0);
}

#[test]
fn a_swap_out_that_finds_no_room_leaves_everything_as_it_was() {
    let system = System::new();
    let world = World::new(&system);
    let mut vector = filled(&world, 9);
    world.shelf.room.set(8);
    assert_eq!(vector.swap_out(&world), Err(Error::Busy), "R-13.7");
    check_contents(&world, &vector);
    assert_eq!((vector.has(), world.stored()), (Has::Pages, 0));
    // Nor does what the GPU does not reach lack a mapping.
    let unmapped = Shape {
        mapped: false,
        ..shape(1, Caching::WriteCombined)
    };
    let mut vector = PageVector::new(unmapped, true);
    vector.populate(&world).unwrap();
    world.shelf.room.set(0);
    assert_eq!(vector.back_up(&world, 1), Err(Error::Busy));
    assert_eq!((vector.has(), world.stored()), (Has::Pages, 0));
}

#[test]
fn a_swap_in_that_fails_leaves_the_contents_in_the_store() {
    let system = System::new();
    let world = World::new(&system);
    let mut vector = filled(&world, 9);
    vector.swap_out(&world).unwrap();
    let waiting = world.pool.0.borrow().pages();
    world.shelf.gets_until_failure.set(8);
    assert_eq!(vector.populate(&world), Err(Error::Io));
    assert_eq!((vector.has(), world.stored()), (Has::Swapped, 9));
    assert_eq!(world.pool.0.borrow().pages(), waiting, "no page is lost");
    world.shelf.gets_until_failure.set(u32::MAX);
    vector.populate(&world).unwrap();
    check_contents(&world, &vector);
}

#[test]
fn each_page_is_free_as_soon_as_it_is_stored_r_13_5() {
    let system = System::new();
    let world = World::new(&system);
    // One block of 8 pages, which has to be split.
    let mut vector = filled(&world, 8);
    let before = system.pages_out();
    assert_eq!(vector.back_up(&world, 3), Ok(3));
    assert_eq!(
        (vector.has(), vector.held(), world.stored()),
        (Has::BackedUp, 5, 3)
    );
    assert_eq!(
        before - system.pages_out(),
        3,
        "to the system, not to the pool"
    );
    assert_eq!(
        vector.slot(0).map(|(_, page)| page),
        None,
        "not populated: R-13.6"
    );
    assert_eq!(vector.back_up(&world, 100), Ok(5));
    assert_eq!(
        vector.back_up(&world, 1),
        Err(Error::Busy),
        "nothing is left"
    );
    vector.populate(&world).unwrap();
    check_contents(&world, &vector);
    assert_eq!(world.stored(), 0);
}

#[test]
fn a_backup_keeps_what_it_achieved_and_a_restore_goes_on_where_it_stopped_r_13_8() {
    let system = System::new();
    let world = World::new(&system);
    let mut vector = filled(&world, 1300);
    world.shelf.room.set(1100);
    assert_eq!(vector.back_up(&world, 1300), Ok(1100));
    assert_eq!(vector.back_up(&world, 1), Err(Error::Busy), "R-13.7");
    world.shelf.gets_until_failure.set(1030);
    assert_eq!(vector.populate(&world), Err(Error::Io));
    // The first block of 1,024 pages is back, the second is not.
    assert_eq!((vector.held(), world.stored()), (1300 - 76, 76));
    world.shelf.gets_until_failure.set(76);
    vector.populate(&world).unwrap();
    check_contents(&world, &vector);
}

#[test]
fn a_block_that_was_split_for_nothing_is_mapped_again() {
    let system = System::new();
    let world = World::new(&system);
    let mut vector = filled(&world, 8);
    world.shelf.room.set(0);
    assert_eq!(vector.back_up(&world, 1), Err(Error::Busy));
    system.maps_until_failure.set(2);
    assert_eq!(vector.populate(&world), Err(Error::Fault));
    system.maps_until_failure.set(u32::MAX);
    vector.populate(&world).unwrap();
    check_contents(&world, &vector);
}

#[test]
fn a_vector_that_dies_in_any_state_leaves_nothing_behind_r_7_6() {
    for state in 0..5 {
        let system = System::new();
        let world = World::new(&system);
        let mut vector = filled(&world, 20);
        match state {
            0 => {}
            1 => assert_eq!(vector.swap_out(&world), Ok(20)),
            2 => assert_eq!(vector.back_up(&world, 7), Ok(7)),
            3 => {
                vector.back_up(&world, 20).unwrap();
                world.shelf.gets_until_failure.set(17);
                assert!(vector.populate(&world).is_err(), "half restored");
            }
            _ => {
                world.shelf.room.set(3);
                assert!(vector.swap_out(&world).is_err());
            }
        }
        vector.unpopulate(&world).unwrap();
        crate::bo::pool::close(&system, &world.pool);
        assert_eq!(
            (system.pages_out(), world.stored()),
            (0, 0),
            "state {state}"
        );
    }
}

#[test]
fn a_vector_that_was_to_be_written_as_a_whole_is_zeros_once_it_was_purged_r_7_8() {
    let system = System::new();
    let world = World::new(&system);
    // Somebody has left something in the pages of the pool.
    let mut before = filled(&world, 6);
    before.unpopulate(&world).unwrap();
    let mut vector = PageVector::new(shape(6, Caching::WriteCombined), false);
    assert_eq!(vector.purge(&world), Ok(0));
    vector.populate(&world).unwrap();
    assert!((0..6).all(|slot| world.read(&vector, slot) == 0));
    vector.unpopulate(&world).unwrap();
}

#[test]
fn what_was_purged_comes_back_as_zeros_r_7_8() {
    let system = System::new();
    let world = World::new(&system);
    let mut vector = filled(&world, 6);
    vector.swap_out(&world).unwrap();
    assert_eq!(vector.purge(&world), Ok(0));
    assert_eq!(world.stored(), 0);
    vector.populate(&world).unwrap();
    assert!((0..6).all(|slot| world.read(&vector, slot) == 0));
    assert_eq!(vector.purge(&world), Ok(6));
}

#[test]
fn somebody_elses_pages_are_left_alone_r_7_5() {
    let system = System::new();
    let world = World::new(&system);
    for mappable in [false, true] {
        let mut vector = PageVector::external(shape(4, Caching::Cached), mappable);
        vector.populate(&world).unwrap();
        assert_eq!(vector.swap_out(&world), Err(Error::Busy));
        assert_eq!(vector.back_up(&world, 4), Err(Error::Busy));
        assert_eq!(vector.purge(&world), Ok(0));
        assert_eq!((vector.has(), vector.held()), (Has::External, 0));
        assert_eq!(vector.lacks(), 0, "nobody makes some for it");
        assert_eq!(vector.may_fault(), mappable);
    }
    assert_eq!(system.pages_out(), 0);
}

#[derive(Clone, Debug)]
enum Op {
    Populate,
    Unpopulate,
    Bind,
    Unbind,
    Write(usize, u64),
    SwapOut,
    BackUp(usize),
    Purge,
    Room(u32),
    Gets(u32),
    Maps(u32),
    Budget(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Populate),
        1 => Just(Op::Unpopulate),
        1 => Just(Op::Bind),
        2 => Just(Op::Unbind),
        6 => (any::<usize>(), any::<u64>()).prop_map(|(slot, word)| Op::Write(slot, word)),
        2 => Just(Op::SwapOut),
        3 => (1..80_usize).prop_map(Op::BackUp),
        1 => Just(Op::Purge),
        2 => (0..150_u32).prop_map(Op::Room),
        2 => (0..150_u32).prop_map(Op::Gets),
        1 => (0..9_u32).prop_map(Op::Maps),
        1 => (0..200_u64).prop_map(Op::Budget),
    ]
}

proptest! {
    #[test]
    fn contents_survive_whatever_is_done_and_whatever_fails(
        pages in 1..100_usize,
        cached in any::<bool>(),
        mapped in any::<bool>(),
        ops in prop::collection::vec(op(), 1..80),
    ) {
        let system = System::new();
        let world = World::new(&system);
        let caching = if cached { Caching::Cached } else { Caching::WriteCombined };
        let mut vector = PageVector::new(Shape { mapped, ..shape(pages, caching) }, true);
        let mut contents = vec![0; pages];
        for op in ops {
            match op {
                Op::Populate => {
                    let populated = vector.populate(&world);
                    if populated.is_ok() {
                        for (slot, word) in contents.iter().enumerate() {
                            prop_assert_eq!(world.read(&vector, slot), *word);
                            prop_assert_eq!(vector.bus_addr(slot).is_some(), mapped);
                        }
                    }
                    // What was to fail has failed.
                    world.shelf.gets_until_failure.set(u32::MAX);
                    system.maps_until_failure.set(u32::MAX);
                    system.budget.set(u64::MAX);
                }
                Op::Unpopulate | Op::Purge => {
                    // Contents are no longer wanted, but for a bound vector's.
                    let had = vector.has();
                    let gone = match op {
                        Op::Purge => vector.purge(&world).map(drop),
                        _ => vector.unpopulate(&world),
                    };
                    if gone.is_ok() {
                        contents.fill(0);
                    } else {
                        prop_assert_eq!(had, Has::BoundPages);
                    }
                }
                Op::Bind => drop(vector.bound()),
                Op::Unbind => vector.unbound(),
                Op::Write(slot, word) => {
                    if matches!(vector.has(), Has::Pages | Has::BoundPages) {
                        world.write(&vector, slot % pages, word);
                        contents[slot % pages] = word;
                    }
                }
                Op::SwapOut => {
                    let held = vector.held();
                    if let Ok(freed) = vector.swap_out(&world) {
                        prop_assert_eq!((freed, world.stored()), (held, held));
                    }
                    world.shelf.room.set(u32::MAX);
                }
                Op::BackUp(wanted) => {
                    let (held, out) = (vector.held(), system.pages_out());
                    if let Ok(freed) = vector.back_up(&world, wanted) {
                        prop_assert!(freed <= wanted);
                        prop_assert_eq!(held - vector.held(), freed);
                        prop_assert_eq!(out - system.pages_out(), freed);
                    }
                    world.shelf.room.set(u32::MAX);
                }
                Op::Room(n) => world.shelf.room.set(n),
                Op::Gets(n) => world.shelf.gets_until_failure.set(n),
                Op::Maps(n) => system.maps_until_failure.set(n),
                Op::Budget(n) => system.budget.set(n),
            }
            // Each page and each stored one is accounted for.
            prop_assert_eq!(vector.held() + world.pool.0.borrow().pages(), system.pages_out());
            let both = vector.held() + world.stored();
            prop_assert!(both == pages || both == 0);
        }
        vector.unbound();
        vector.unpopulate(&world).unwrap();
        crate::bo::pool::close(&system, &world.pool);
        prop_assert_eq!((system.pages_out(), world.stored()), (0, 0));
    }
}
