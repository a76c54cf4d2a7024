//! The order in which memory is given up, beside a naive copy of it.

use crate::Error;
use crate::evict::lru::{Cursor, EntryId, Facts, GroupId, Home, Lru, PRIORITIES};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

const TYPES: usize = 3;

fn plain(mem_type: usize, priority: usize) -> Facts {
    Facts {
        mem_type,
        priority,
        pinned: false,
        swapped: false,
        group: None,
    }
}

/// Everything a walk sees, in its order.
fn all(lru: &mut Lru<u32, TYPES>, mem_type: usize) -> Vec<u32> {
    let cursor = lru.walk(mem_type).unwrap();
    let seen = std::iter::from_fn(|| lru.next(cursor).map(|(_, value)| value)).collect();
    lru.end(cursor);
    seen
}

#[test]
fn a_new_resource_comes_to_the_tail_or_is_out_of_sight_r_6_1() {
    let mut lru: Lru<u32, TYPES> = Lru::new();
    lru.insert(0, plain(0, 1)).unwrap();
    lru.insert(1, plain(0, 1)).unwrap();
    assert_eq!(all(&mut lru, 0), [0, 1]);
    let pinned = Facts {
        pinned: true,
        ..plain(0, 1)
    };
    lru.insert(2, pinned).unwrap();
    assert_eq!((all(&mut lru, 0), lru.unevictable()), (vec![0, 1], 1));
}

#[test]
fn where_an_entry_belongs_depends_on_five_facts_alone_r_10_3() {
    let mut lru: Lru<u32, TYPES> = Lru::new();
    let group = lru.new_group().unwrap();
    for bits in 0..8 {
        let facts = Facts {
            pinned: bits & 1 != 0,
            swapped: bits & 2 != 0,
            group: (bits & 4 != 0).then_some(group),
            ..plain(2, 3)
        };
        let expected = match bits {
            0 => Home::List(2, 3),
            4 => Home::Group(group, 2, 3),
            _ => Home::Unevictable,
        };
        assert_eq!(facts.home(), expected, "{facts:?}");
    }
}

#[test]
fn a_walk_sees_priority_0_first_and_never_what_is_pinned_or_swapped() {
    let mut lru: Lru<u32, TYPES> = Lru::new();
    for (value, priority) in [(0, 3), (1, 1), (2, 0), (3, 1), (4, 0)] {
        lru.insert(value, plain(0, priority)).unwrap();
    }
    let pinned = lru.insert(
        5,
        Facts {
            pinned: true,
            ..plain(0, 0)
        },
    );
    lru.insert(
        6,
        Facts {
            swapped: true,
            ..plain(0, 0)
        },
    )
    .unwrap();
    assert_eq!(all(&mut lru, 0), [2, 4, 1, 3, 0]);
    assert_eq!((lru.first(0), lru.unevictable()), (Some(2), 2));
    // The last unpin leads to the tail.
    lru.relink(pinned.unwrap(), plain(0, 0)).unwrap();
    assert_eq!(all(&mut lru, 0), [2, 4, 5, 1, 3, 0]);
    assert!(all(&mut lru, 1).is_empty());
}

#[test]
fn a_group_takes_one_position_and_moves_as_a_whole_r_10_10_r_10_11() {
    let mut lru: Lru<u32, TYPES> = Lru::new();
    let group = lru.new_group().unwrap();
    let member = Facts {
        group: Some(group),
        ..plain(1, 0)
    };
    let first = lru.insert(0, member).unwrap();
    lru.insert(1, plain(1, 0)).unwrap();
    lru.insert(2, member).unwrap();
    assert_eq!(
        all(&mut lru, 1),
        [0, 2, 1],
        "the position is the first member's"
    );
    lru.touch(first).unwrap();
    assert_eq!(
        all(&mut lru, 1),
        [2, 0, 1],
        "a member moves in its sub-list only"
    );
    lru.touch_group(group).unwrap();
    assert_eq!(all(&mut lru, 1), [1, 2, 0], "all move, their order stays");
    assert_eq!(lru.lengths(1), Some([3, 0, 0, 0]));
    assert_eq!(lru.destroy_group(group), Err(Error::Busy), "R-10.13");
}

#[test]
fn members_that_are_pinned_keep_their_group_alive_and_come_back_to_it_r_10_12() {
    let mut lru: Lru<u32, TYPES> = Lru::new();
    let group = lru.new_group().unwrap();
    let member = Facts {
        group: Some(group),
        ..plain(0, 0)
    };
    let id = lru.insert(7, member).unwrap();
    lru.relink(
        id,
        Facts {
            pinned: true,
            ..member
        },
    )
    .unwrap();
    assert_eq!((all(&mut lru, 0), lru.unevictable()), (vec![], 1));
    assert_eq!(lru.destroy_group(group), Err(Error::Busy));
    lru.insert(8, plain(0, 0)).unwrap();
    lru.relink(id, member).unwrap();
    assert_eq!(
        all(&mut lru, 0),
        [8, 7],
        "an empty group begins at the tail again (R-10.14)"
    );
    lru.remove(id).unwrap();
    assert_eq!(lru.destroy_group(group), Ok(()));
    assert_eq!(lru.touch_group(group), Err(Error::NotFound));
    assert_eq!(lru.insert(9, member).err(), Some(Error::NotFound));
}

#[test]
fn touching_a_group_of_a_hundred_thousand_takes_the_steps_of_one_of_ten() {
    // Counted by what moves: the members' own stamps stay.
    let mut lru: Lru<u32, TYPES> = Lru::new();
    let group = lru.new_group().unwrap();
    let member = Facts {
        group: Some(group),
        ..plain(0, 0)
    };
    let ids: Vec<_> = (0..100_000)
        .map(|n| lru.insert(n, member).unwrap())
        .collect();
    let before = lru.stamps();
    lru.touch_group(group).unwrap();
    assert_eq!(lru.stamps() - before, 1);
    assert_eq!(lru.first(0), Some(0));
    assert!(lru.entry(ids[99_999]).is_ok());
}

#[test]
fn a_walk_whose_every_entry_is_touched_again_ends_r_10_6() {
    let mut lru: Lru<u32, TYPES> = Lru::new();
    for value in 0..10 {
        lru.insert(value, plain(0, 0)).unwrap();
    }
    let cursor = lru.walk(0).unwrap();
    let mut seen = Vec::new();
    while let Some((id, value)) = lru.next(cursor) {
        lru.touch(id).unwrap();
        lru.insert(100 + value, plain(0, 0)).unwrap();
        seen.push(value);
    }
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
}

#[test]
fn what_comes_during_a_walk_is_not_part_of_it_r_10_4() {
    let mut lru: Lru<u32, TYPES> = Lru::new();
    let group = Some(lru.new_group().unwrap());
    lru.insert(
        0,
        Facts {
            group,
            ..plain(0, 0)
        },
    )
    .unwrap();
    for late in [
        Facts {
            group,
            ..plain(0, 0)
        },
        plain(0, 0),
        plain(0, 1),
    ] {
        let cursor = lru.walk(0).unwrap();
        let id = lru.insert(1, late).unwrap();
        assert_eq!(lru.next(cursor).map(|(_, value)| value), Some(0));
        assert_eq!(lru.next(cursor), None, "{late:?}");
        lru.end(cursor);
        lru.remove(id).unwrap();
    }
}

#[test]
fn a_walk_that_was_ended_sees_nothing_and_ending_it_again_is_harmless_r_10_5() {
    let mut lru: Lru<u32, TYPES> = Lru::new();
    lru.insert(1, plain(0, 0)).unwrap();
    let cursor = lru.walk(0).unwrap();
    lru.end(cursor);
    let other = lru.walk(0).unwrap();
    lru.end(cursor);
    assert_eq!(lru.next(cursor), None);
    assert_eq!(lru.next(other).map(|(_, value)| value), Some(1));
}

#[test]
fn garbage_is_refused_and_changes_nothing() {
    let mut lru: Lru<u32, TYPES> = Lru::new();
    let id = lru.insert(1, plain(0, 0)).unwrap();
    for facts in [plain(TYPES, 0), plain(0, PRIORITIES), plain(usize::MAX, 9)] {
        assert_eq!(lru.insert(2, facts).err(), Some(Error::Invalid));
        assert_eq!(lru.relink(id, facts), Err(Error::Invalid));
    }
    assert!(lru.walk(TYPES).is_err() && lru.first(TYPES).is_none());
    assert_eq!(lru.remove(id), Ok(1));
    assert_eq!(lru.remove(id), Err(Error::NotFound));
    assert_eq!(lru.touch(id), Err(Error::NotFound));
    let next = lru.insert(3, plain(0, 0)).unwrap();
    assert_ne!(next, id, "an id never comes back");
}

/// The same as plain lists: an item is an entry, or a group with its members.
#[derive(Clone, Debug)]
enum Item {
    Entry(u32),
    Group(usize, Vec<u32>),
}

#[derive(Debug, Default)]
struct Naive {
    lists: HashMap<(usize, usize), Vec<Item>>,
    facts: HashMap<u32, (Facts, Option<usize>)>,
}

impl Naive {
    fn take(&mut self, value: u32) {
        for items in self.lists.values_mut() {
            items.retain_mut(|item| match item {
                Item::Entry(entry) => *entry != value,
                Item::Group(_, members) => {
                    members.retain(|&member| member != value);
                    !members.is_empty()
                }
            });
        }
    }

    /// To the tail of where it belongs.
    fn put(&mut self, value: u32, facts: Facts, group: Option<usize>) {
        self.take(value);
        self.facts.insert(value, (facts, group));
        if facts.pinned || facts.swapped {
            return;
        }
        let items = self
            .lists
            .entry((facts.mem_type, facts.priority))
            .or_default();
        let Some(group) = group else {
            items.push(Item::Entry(value));
            return;
        };
        for item in &mut *items {
            if let Item::Group(number, members) = item
                && *number == group
            {
                members.push(value);
                return;
            }
        }
        items.push(Item::Group(group, vec![value]));
    }

    fn touch_group(&mut self, group: usize) {
        for items in self.lists.values_mut() {
            let at = items
                .iter()
                .position(|i| matches!(i, Item::Group(n, _) if *n == group));
            if let Some(at) = at {
                let item = items.remove(at);
                items.push(item);
            }
        }
    }

    fn order(&self, mem_type: usize) -> Vec<u32> {
        let lists = (0..PRIORITIES).filter_map(|p| self.lists.get(&(mem_type, p)));
        let values = lists.flatten().flat_map(|item| match item {
            Item::Entry(value) => vec![*value],
            Item::Group(_, members) => members.clone(),
        });
        values.collect()
    }
}

#[derive(Clone, Debug)]
enum Op {
    Insert(usize, usize, bool, Option<usize>),
    Remove(usize),
    Relink(usize, usize, usize, bool, bool, Option<usize>),
    Touch(usize),
    TouchSome(Vec<usize>),
    /// Of a type, from one on so many.
    TouchRun(usize, usize),
    TouchGroup(usize),
    NewGroup,
    DestroyGroup(usize),
    Walk(usize),
    Step(usize),
    EndWalk(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let group = || proptest::option::of(0..6_usize);
    prop_oneof![
        4 => (0..TYPES, 0..PRIORITIES, prop::bool::weighted(0.1), group())
            .prop_map(|(t, p, pinned, g)| Op::Insert(t, p, pinned, g)),
        1 => any::<usize>().prop_map(Op::Remove),
        2 => (any::<usize>(), 0..TYPES, 0..PRIORITIES, prop::bool::weighted(0.2), prop::bool::weighted(0.2), group())
            .prop_map(|(n, t, p, pinned, swapped, g)| Op::Relink(n, t, p, pinned, swapped, g)),
        2 => any::<usize>().prop_map(Op::Touch),
        2 => prop::collection::vec(any::<usize>(), 0..4).prop_map(Op::TouchSome),
        1 => (any::<usize>(), 0..6_usize).prop_map(|(n, many)| Op::TouchRun(n, many)),
        2 => (0..6_usize).prop_map(Op::TouchGroup),
        1 => Just(Op::NewGroup),
        1 => (0..6_usize).prop_map(Op::DestroyGroup),
        1 => (0..TYPES).prop_map(Op::Walk),
        6 => any::<usize>().prop_map(Op::Step),
        1 => any::<usize>().prop_map(Op::EndWalk),
    ]
}

/// A walk on its way, and what it must see.
struct Watched {
    cursor: Cursor,
    mem_type: usize,
    expected: Vec<u32>,
    /// What came to a tail, left or changed since the walk began.
    moved: HashSet<u32>,
    seen: Vec<u32>,
}

impl Watched {
    /// At the end: everything that stayed where it was, once, in order, and
    /// nothing that is not of the walk.
    fn judge(&self) {
        let stayed = |value: &&u32| !self.moved.contains(value);
        let expected: Vec<_> = self.expected.iter().filter(stayed).collect();
        let seen: Vec<_> = self.seen.iter().filter(stayed).collect();
        assert_eq!(seen, expected);
    }
}

#[derive(Default)]
struct World {
    lru: Lru<u32, TYPES>,
    naive: Naive,
    ids: Vec<(u32, EntryId)>,
    groups: Vec<(usize, GroupId)>,
    walks: Vec<Watched>,
    next_value: u32,
    next_group: usize,
}

/// One of `len` things, by any number.
fn pick(n: usize, len: usize) -> Option<usize> {
    n.checked_rem(len)
}

impl World {
    fn moved(&mut self, value: u32) {
        for walk in &mut self.walks {
            walk.moved.insert(value);
        }
    }

    fn group(&self, n: Option<usize>) -> Option<(usize, GroupId)> {
        n.and_then(|n| self.groups.get(n).copied())
    }

    fn put(&mut self, value: u32, mut facts: Facts, group: Option<(usize, GroupId)>) {
        facts.group = group.map(|(_, id)| id);
        let known = self.ids.iter().find(|(v, _)| *v == value).copied();
        match known {
            Some((_, id)) => self.lru.relink(id, facts).unwrap(),
            None => self
                .ids
                .push((value, self.lru.insert(value, facts).unwrap())),
        }
        self.naive
            .put(value, facts, group.map(|(number, _)| number));
        self.moved(value);
    }

    /// All of them, in this order, as one after the other.
    fn touch(&mut self, all: &[usize]) {
        let touched: Vec<_> = all.iter().map(|at| self.ids[*at]).collect();
        self.lru.touch_all(touched.iter().map(|(_, id)| *id));
        for (value, _) in touched {
            let (facts, group) = self.naive.facts[&value];
            self.naive.put(value, facts, group);
            self.moved(value);
        }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::TouchSome(ref some) => {
                let all = some.iter().filter_map(|n| pick(*n, self.ids.len()));
                self.touch(&all.collect::<Vec<_>>());
            }
            // In the order in which they are on a list.
            Op::TouchRun(n, many) => {
                let order = self.naive.order(n % TYPES);
                let Some(first) = pick(n, order.len()) else {
                    return;
                };
                let run = order.iter().skip(first).take(many);
                let at = |value: &u32| self.ids.iter().position(|(v, _)| v == value).unwrap();
                self.touch(&run.map(at).collect::<Vec<_>>());
            }
            Op::Insert(t, p, pinned, group) => {
                let value = self.next_value;
                self.next_value += 1;
                self.put(
                    value,
                    Facts {
                        pinned,
                        ..plain(t, p)
                    },
                    self.group(group),
                );
            }
            Op::Remove(n) => {
                let Some(at) = pick(n, self.ids.len()) else {
                    return;
                };
                let (value, id) = self.ids.swap_remove(at);
                assert_eq!(self.lru.remove(id), Ok(value));
                self.naive.take(value);
                self.naive.facts.remove(&value);
                self.moved(value);
            }
            Op::Relink(n, t, p, pinned, swapped, group) => {
                let Some(at) = pick(n, self.ids.len()) else {
                    return;
                };
                let facts = Facts {
                    pinned,
                    swapped,
                    ..plain(t, p)
                };
                self.put(self.ids[at].0, facts, self.group(group));
            }
            Op::Touch(n) => {
                let Some(at) = pick(n, self.ids.len()) else {
                    return;
                };
                let (value, id) = self.ids[at];
                self.lru.touch(id).unwrap();
                let (facts, group) = self.naive.facts[&value];
                self.naive.put(value, facts, group);
                self.moved(value);
            }
            _ => self.run_on_groups(op),
        }
    }

    fn run_on_groups(&mut self, op: &Op) {
        match *op {
            Op::TouchGroup(n) => {
                let Some((number, id)) = self.group(Some(n)) else {
                    return;
                };
                self.lru.touch_group(id).unwrap();
                self.naive.touch_group(number);
                let facts = self.naive.facts.iter();
                let members = facts.filter(|(_, (_, group))| *group == Some(number));
                for value in members.map(|(&value, _)| value).collect::<Vec<_>>() {
                    self.moved(value);
                }
            }
            Op::NewGroup => {
                let id = self.lru.new_group().unwrap();
                self.groups.push((self.next_group, id));
                self.next_group += 1;
            }
            Op::DestroyGroup(n) => {
                let Some((number, id)) = self.group(Some(n)) else {
                    return;
                };
                let used = self
                    .naive
                    .facts
                    .values()
                    .any(|(_, group)| *group == Some(number));
                let expected = if used { Err(Error::Busy) } else { Ok(()) };
                assert_eq!(self.lru.destroy_group(id), expected);
                if !used {
                    self.groups.remove(n);
                }
            }
            _ => self.run_walks(op),
        }
    }

    fn run_walks(&mut self, op: &Op) {
        match *op {
            Op::Walk(mem_type) => self.walks.push(Watched {
                cursor: self.lru.walk(mem_type).unwrap(),
                mem_type,
                expected: self.naive.order(mem_type),
                moved: HashSet::new(),
                seen: Vec::new(),
            }),
            Op::Step(n) => {
                let Some(at) = pick(n, self.walks.len()) else {
                    return;
                };
                let walk = &mut self.walks[at];
                let Some((id, value)) = self.lru.next(walk.cursor) else {
                    walk.judge();
                    let cursor = self.walks.swap_remove(at).cursor;
                    self.lru.end(cursor);
                    return;
                };
                assert!(self.ids.contains(&(value, id)));
                assert_eq!(self.naive.facts[&value].0.mem_type, walk.mem_type);
                assert!(
                    self.naive.order(walk.mem_type).contains(&value),
                    "evictable"
                );
                assert!(!walk.seen.contains(&value), "an entry is seen once");
                assert!(
                    walk.expected.contains(&value),
                    "what came later is not part"
                );
                walk.seen.push(value);
            }
            Op::EndWalk(n) => {
                let Some(at) = pick(n, self.walks.len()) else {
                    return;
                };
                let cursor = self.walks.swap_remove(at).cursor;
                self.lru.end(cursor);
            }
            _ => unreachable!(),
        }
    }

    fn check(&mut self) {
        self.lru.check();
        let mut listed = 0;
        for mem_type in 0..TYPES {
            let order = self.naive.order(mem_type);
            assert_eq!(self.lru.first(mem_type), order.first().copied());
            let lengths = self.lru.lengths(mem_type).unwrap();
            assert_eq!(lengths.iter().sum::<usize>(), order.len());
            listed += order.len();
            assert_eq!(all(&mut self.lru, mem_type), order);
        }
        assert_eq!(listed + self.lru.unevictable(), self.ids.len());
    }
}

proptest! {
    #[test]
    fn lists_groups_and_walks_agree_with_plain_lists_r_10_1_r_10_4(ops in prop::collection::vec(op(), 1..200)) {
        let mut world = World::default();
        for op in ops {
            world.run(&op);
            world.check();
        }
        // Every walk ends, and has seen what it had to.
        for mut walk in std::mem::take(&mut world.walks) {
            while let Some((_, value)) = world.lru.next(walk.cursor) {
                assert!(!walk.seen.contains(&value));
                walk.seen.push(value);
            }
            walk.judge();
            world.lru.end(walk.cursor);
        }
        world.check();
    }
}
