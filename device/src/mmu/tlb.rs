//! The shared TLB (DTLB). A line holds 16 PTEs, 64 KiB of address space
//! (hardware reference 5), and stays until it is invalidated or replaced: a
//! driver that forgets to invalidate sees the old translation.

use super::Invalidation;
use crate::index;
use e3k_regs::GpuVa;
use e3k_regs::pte::L3Entry;

/// PTEs in a line (hardware reference 5).
pub(super) const LINE_ENTRIES: usize = 16;
const LINE_SHIFT: u32 = 16;
const SETS: usize = 64;
const WAYS: usize = 4;

/// The PTEs of 64 KiB of address space, raw.
pub(super) type Line = [u32; LINE_ENTRIES];

#[derive(Clone, Copy)]
struct Slot {
    /// `(process id, va >> 16)`; `None` when empty.
    tag: Option<(u8, u64)>,
    line: Line,
}

const EMPTY: Slot = Slot {
    tag: None,
    line: [0; LINE_ENTRIES],
};

#[derive(Clone)]
struct Set {
    slots: [Slot; WAYS],
    /// The slot that the next line replaces.
    next: usize,
}

const EMPTY_SET: Set = Set {
    slots: [EMPTY; WAYS],
    next: 0,
};

pub(super) struct Tlb {
    sets: Vec<Set>,
}

impl Tlb {
    pub(super) fn new() -> Self {
        Self {
            sets: vec![EMPTY_SET; SETS],
        }
    }

    /// As after power-on.
    pub(super) fn clear(&mut self) {
        self.sets.fill(EMPTY_SET);
    }

    pub(super) fn lookup(&self, process_id: u8, va: GpuVa) -> Option<L3Entry> {
        let tag = tag(process_id, va);
        let slot = self.sets[set_of(tag)]
            .slots
            .iter()
            .find(|slot| slot.tag == Some(tag))?;
        Some(entry_of(&slot.line, va))
    }

    /// Puts a line in the place of an older line of the same tag, or else of
    /// the oldest of its set.
    pub(super) fn insert(&mut self, process_id: u8, va: GpuVa, line: Line) {
        let tag = tag(process_id, va);
        let set = &mut self.sets[set_of(tag)];
        let same = set.slots.iter().position(|slot| slot.tag == Some(tag));
        let way = same.unwrap_or_else(|| {
            let way = set.next;
            set.next = (way + 1) % WAYS;
            way
        });
        set.slots[way] = Slot {
            tag: Some(tag),
            line,
        };
    }

    /// Drops the lines that agree in every compared bit. The low four bits of
    /// a page number lie inside a line and are not compared.
    pub(super) fn invalidate(&mut self, what: Invalidation) {
        let line_mask = what.page_mask >> 4;
        let line = what.page >> 4 & line_mask;
        for slot in self.sets.iter_mut().flat_map(|set| &mut set.slots) {
            slot.tag = slot.tag.filter(|(process_id, number)| {
                number & line_mask != line
                    || (process_id ^ what.process_id) & what.process_mask != 0
            });
        }
    }
}

/// The entry of `va` in its line.
pub(super) fn entry_of(line: &Line, va: GpuVa) -> L3Entry {
    L3Entry::from_bits(line[index(va.page()) % LINE_ENTRIES])
}

fn tag(process_id: u8, va: GpuVa) -> (u8, u64) {
    (process_id, va.0 >> LINE_SHIFT)
}

fn set_of((process_id, number): (u8, u64)) -> usize {
    (index(number) ^ usize::from(process_id)) % SETS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn line(value: u32) -> Line {
        [value; LINE_ENTRIES]
    }

    #[test]
    fn a_line_stays_until_its_range_is_invalidated() {
        let mut tlb = Tlb::new();
        tlb.insert(3, GpuVa(0x1_0000), line(0x11));
        let other = Invalidation {
            page: 0x20,
            page_mask: !0,
            process_id: 3,
            process_mask: 0xf,
        };
        tlb.invalidate(other);
        assert!(tlb.lookup(3, GpuVa(0x1_f000)).is_some());
        tlb.invalidate(Invalidation {
            page: 0x10,
            ..other
        });
        assert!(tlb.lookup(3, GpuVa(0x1_f000)).is_none());
    }

    #[test]
    fn mask_zero_drops_everything() {
        let mut tlb = Tlb::new();
        for n in 0..64 {
            tlb.insert(n % 16, GpuVa(u64::from(n) << 20), line(1));
        }
        tlb.invalidate(Invalidation {
            page: 9,
            page_mask: 0,
            process_id: 1,
            process_mask: 0,
        });
        assert!((0..64).all(|n| tlb.lookup(n % 16, GpuVa(u64::from(n) << 20)).is_none()));
    }

    proptest! {
        /// Whatever is inserted and dropped, a hit is always the last line put
        /// there and never one that was invalidated since (misses are free).
        #[test]
        fn hits_agree_with_a_map(ops in prop::collection::vec(
            (any::<bool>(), 0_u8..4, 0_u64..64, 0_u64..64, any::<u32>()), 1..300))
        {
            let mut tlb = Tlb::new();
            let mut reference = HashMap::new();
            for (insert, process_id, number, mask, value) in ops {
                if insert {
                    tlb.insert(process_id, GpuVa(number << LINE_SHIFT), line(value));
                    reference.insert((process_id, number), value);
                } else {
                    tlb.invalidate(Invalidation {
                        page: number << 4, page_mask: mask << 4, process_id, process_mask: 1,
                    });
                    reference.retain(|(p, n), _| {
                        n & mask != number & mask || (p ^ process_id) & 1 != 0
                    });
                }
                for p in 0..4 {
                    for n in 0..64 {
                        if let Some(hit) = tlb.lookup(p, GpuVa(n << LINE_SHIFT)) {
                            prop_assert_eq!(reference.get(&(p, n)), Some(&hit.into_bits()));
                        }
                    }
                }
            }
        }
    }
}
