//! The invariants, looked at by tests.

use super::nodes::{Content, List, NONE};
use super::{GroupId, Home, Lru, PRIORITIES};

impl<T: Copy, const TYPES: usize> Lru<T, TYPES> {
    /// Stamps given so far: moves to a tail.
    pub(crate) const fn stamps(&self) -> u64 {
        self.stamp
    }

    /// Its invariants.
    pub(crate) fn check(&self) {
        let mut cursors = alloc::vec![0; self.nodes.len()];
        for walk in self.walks.iter().filter(|walk| walk.alive) {
            for at in [walk.outer, walk.inner]
                .into_iter()
                .filter(|&at| at != NONE)
            {
                cursors[at as usize] += 1;
            }
        }
        for (node, &count) in self.nodes.iter().zip(&cursors) {
            assert_eq!(node.cursors, count);
        }
        let mut entries = self.check_list(&self.unevictable, Home::Unevictable);
        for (mem_type, lists) in self.lists.iter().enumerate() {
            for (priority, list) in lists.iter().enumerate() {
                entries += self.check_list(list, Home::List(mem_type, priority));
            }
        }
        for (slot, group) in self
            .groups
            .iter()
            .enumerate()
            .filter(|(_, group)| group.alive)
        {
            let slot = u32::try_from(slot).unwrap();
            let id = GroupId {
                slot,
                generation: group.generation,
            };
            for (mem_type, lists) in group.members.iter().enumerate() {
                for (priority, list) in lists.iter().enumerate() {
                    entries += self.check_list(list, Home::Group(id, mem_type, priority));
                }
            }
        }
        let used = self
            .nodes
            .iter()
            .filter(|node| matches!(node.content, Content::Entry(..)));
        assert_eq!(entries, used.count(), "an entry is on one list");
    }

    fn check_list(&self, list: &List, home: Home) -> usize {
        let (mut at, mut previous, mut stamp) = (list.head, NONE, None);
        let (mut length, mut entries) = (0, 0);
        while at != NONE {
            let node = &self.nodes[at as usize];
            assert_eq!(node.previous, previous);
            assert!(Some(node.stamp) > stamp, "stamps grow");
            match node.content {
                Content::Entry(_, facts) => {
                    assert_eq!(facts.home(), home);
                    entries += 1;
                }
                Content::Position { group, list } => {
                    let (mem_type, priority) = (list / PRIORITIES, list % PRIORITIES);
                    assert_eq!(home, Home::List(mem_type, priority));
                    assert!(self.groups[group as usize].members[mem_type][priority].length > 0);
                }
                Content::Free => panic!("a free node on a list"),
            }
            (previous, stamp) = (at, Some(node.stamp));
            (length, at) = (length + 1, node.next);
        }
        assert_eq!((list.tail, list.length), (previous, length));
        entries
    }
}
