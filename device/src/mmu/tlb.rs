//! The shared TLB (DTLB). A line holds 16 PTEs, 64 KiB of address space
//! (hardware reference 5), and stays until it is invalidated or replaced: a
//! driver that forgets to invalidate sees the old translation.

#![expect(
    clippy::inline_always,
    reason = "a hit takes as long as its calls; see docs/performance.md"
)]

use super::access::Invalidation;
use crate::config::DtlbShape;
use crate::index::index;
use crate::saved::mxu as saved;
use crate::saved::{Damage, ensure, sparse};
use e3k_regs::GpuVa;
use e3k_regs::pte::L3Entry;

/// PTEs in a line (hardware reference 5).
pub(super) const LINE_ENTRIES: usize = 16;
const LINE_SHIFT: u32 = 16;
/// Bits of a line's number in a tag, below the process id.
const NUMBER_BITS: u32 = 24;
const NUMBER_MASK: u64 = (1 << NUMBER_BITS) - 1;

/// The PTEs of 64 KiB of address space, as entries of 4 KiB pages.
pub(super) type Line = [u32; LINE_ENTRIES];

/// The tag of no line.
const EMPTY: u32 = u32::MAX;

/// The place of a line that is not there.
const NOWHERE: usize = usize::MAX;

/// Where a line is, or would go.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    tag: u32,
    set: usize,
    /// Its place, or [`NOWHERE`].
    pub(super) line: usize,
}

pub(super) struct Dtlb {
    /// The ways of set 0, then those of set 1, ...: process id and `va >> 16`.
    tags: Box<[u32]>,
    lines: Box<[Line]>,
    /// For each set the way that the next line replaces.
    next: Box<[u32]>,
    ways: usize,
}

impl Dtlb {
    pub(super) fn new(shape: DtlbShape) -> Self {
        let [sets, ways] = [shape.sets(), shape.ways()].map(|n| index(n.into()));
        Self {
            tags: vec![EMPTY; sets * ways].into(),
            lines: vec![[0; LINE_ENTRIES]; sets * ways].into(),
            next: vec![0; sets].into(),
            ways,
        }
    }

    pub(super) fn save(&self) -> saved::Dtlb {
        let Self {
            tags,
            lines,
            next,
            ways,
        } = self;
        let all = tags.iter().zip(lines).zip((0..*ways).cycle());
        let held = all.filter(|((tag, _), _)| **tag != EMPTY);
        saved::Dtlb {
            lines: held
                .map(|((tag, entries), way)| saved::DtlbLine {
                    process_id: (tag >> NUMBER_BITS).to_le_bytes()[0],
                    va: GpuVa((u64::from(*tag) & NUMBER_MASK) << LINE_SHIFT),
                    way,
                    entries: *entries,
                })
                .collect(),
            next: sparse::save(next),
        }
    }

    /// # Errors
    /// A TLB of this shape has no such set or way.
    pub(super) fn restore(shape: DtlbShape, saved: saved::Dtlb) -> Result<Self, Damage> {
        let mut tlb = Self::new(shape);
        let ways = tlb.ways;
        sparse::restore(&mut tlb.next, saved.next, "shared TLB's set")?;
        let ways_are = |way: usize| {
            ensure(way < ways, || {
                format!("way {way} of the shared TLB, expected one below {ways}")
            })
        };
        for next in &tlb.next {
            ways_are(index((*next).into()))?;
        }
        for line in saved.lines {
            ways_are(line.way)?;
            let spot = tlb.find(line.process_id, line.va);
            let line_at = spot.set * ways + line.way;
            let spot = Spot {
                line: line_at,
                ..spot
            };
            tlb.insert(spot, &line.entries);
        }
        Ok(tlb)
    }

    /// As after power-on.
    pub(super) fn clear(&mut self) {
        self.tags.fill(EMPTY);
        self.next.fill(0);
    }

    /// Where the line around `va` is, or belongs.
    #[inline(always)]
    pub(super) fn find(&self, process_id: u8, va: GpuVa) -> Spot {
        let spot = self.spot(process_id, va, NOWHERE);
        let first = spot.set * self.ways;
        let mut ways = first..first + self.ways;
        let line = ways.find(|line| self.tags.get(*line) == Some(&spot.tag));
        let line = line.unwrap_or(NOWHERE);
        Spot { line, ..spot }
    }

    /// Where it belongs, if it is known where it is.
    #[inline(always)]
    pub(super) fn spot(&self, process_id: u8, va: GpuVa, line: usize) -> Spot {
        let number = va.0 >> LINE_SHIFT;
        let tag = compose(process_id, number);
        let set = (index(number) ^ usize::from(process_id)) & self.next.len().wrapping_sub(1);
        Spot { tag, set, line }
    }

    /// The entry of `va`, if its line is there.
    #[inline(always)]
    pub(super) fn entry(&self, spot: Spot, va: GpuVa) -> Option<L3Entry> {
        Some(entry_of(self.lines.get(spot.line)?, va))
    }

    /// The entries from that of `va` to the end of its line, if that is there.
    #[inline]
    pub(super) fn entries(&self, spot: Spot, va: GpuVa) -> Option<&[u32]> {
        self.lines
            .get(spot.line)?
            .get(index(va.page()) % LINE_ENTRIES..)
    }

    /// Puts a line in the place of an older line of the same tag, or else of
    /// the oldest of its set. `spot` is where it was found to belong, and
    /// nothing has changed since.
    pub(super) fn insert(&mut self, spot: Spot, line: &Line) {
        let mut place = spot.line;
        if place == NOWHERE {
            let Some(next) = self.next.get_mut(spot.set) else {
                return; // there is no shared TLB
            };
            let oldest = index((*next).into());
            let newer = if oldest + 1 == self.ways {
                0
            } else {
                *next + 1
            };
            *next = newer;
            place = spot.set * self.ways + oldest;
        }
        self.tags[place] = spot.tag;
        self.lines[place] = *line;
    }

    /// Every valid entry: process id, page number, entry.
    pub(super) fn held(&self) -> impl Iterator<Item = (u8, u64, L3Entry)> {
        let lines = self.tags.iter().zip(&self.lines);
        lines
            .filter(|(tag, _)| **tag != EMPTY)
            .flat_map(|(tag, line)| {
                let process_id = (tag >> NUMBER_BITS).to_le_bytes()[0];
                let first = (u64::from(*tag) & NUMBER_MASK) * LINE_ENTRIES as u64;
                let entries = line.iter().map(|raw| L3Entry::from_bits(*raw));
                (first..)
                    .zip(entries)
                    .map(move |(page, entry)| (process_id, page, entry))
            })
            .filter(|(_, _, entry)| entry.valid())
    }

    /// Drops the lines that agree in every compared bit. The low four bits of
    /// a page number lie inside a line and are not compared.
    pub(super) fn invalidate(&mut self, what: Invalidation) {
        let mask = compose(what.process_mask, what.page_mask >> 4);
        let wanted = compose(what.process_id, what.page >> 4);
        for tag in &mut self.tags {
            if (*tag ^ wanted) & mask == 0 {
                *tag = EMPTY;
            }
        }
    }
}

/// The entry of `va` in its line.
pub(super) fn entry_of(line: &Line, va: GpuVa) -> L3Entry {
    L3Entry::from_bits(line[index(va.page()) % LINE_ENTRIES])
}

fn compose(process_id: u8, number: u64) -> u32 {
    u32::from(process_id) << NUMBER_BITS | (number & NUMBER_MASK) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn insert(tlb: &mut Dtlb, process_id: u8, va: GpuVa, value: u32) {
        tlb.insert(tlb.find(process_id, va), &[value; LINE_ENTRIES]);
    }

    fn lookup(tlb: &Dtlb, process_id: u8, va: GpuVa) -> Option<L3Entry> {
        tlb.entry(tlb.find(process_id, va), va)
    }

    #[test]
    fn masks_drop_the_lines_that_the_programming_page_says() {
        const PAGE: &str = include_str!("../../../docs/programming.md");
        let number = |word: &str| u32::from_str_radix(&word[2..].replace('_', ""), 16).unwrap();
        for (address, mask, first, last) in [
            ("0x2001_2340", "0xFFFF_FFF0", 0x1234_0000, 0x1234_FFFF),
            ("0x2001_2300", "0xFFFF_FF00", 0x1230_0000, 0x123F_FFFF),
            ("0x2000_0000", "0xF000_0000", 0, u64::from(u32::MAX)),
        ] {
            assert!(PAGE.contains(&format!("| {address} | {mask} |")));
            let (address, mask) = (number(address), number(mask));
            let mut tlb = Dtlb::new(DtlbShape::new(64, 4).unwrap());
            let others = [(3, GpuVa(first)), (2, GpuVa(last + 1))];
            let dropped = [(2, GpuVa(first)), (2, GpuVa(last))];
            for (process_id, va) in others.into_iter().chain(dropped) {
                insert(&mut tlb, process_id, va, 1);
            }
            tlb.invalidate(Invalidation {
                page: (address & 0xfff_ffff).into(),
                page_mask: (mask & 0xfff_ffff).into(),
                process_id: (address >> 28).to_le_bytes()[0],
                process_mask: (mask >> 28).to_le_bytes()[0],
            });
            for (process_id, va) in dropped {
                assert_eq!(lookup(&tlb, process_id, va), None, "{va}");
            }
            let stays = mask & 0xfff_ffff != 0;
            assert!(lookup(&tlb, 3, GpuVa(first)).is_some());
            assert_eq!(lookup(&tlb, 2, GpuVa(last + 1)).is_some(), stays);
        }
    }

    #[test]
    fn a_line_stays_until_its_range_is_invalidated() {
        let mut tlb = Dtlb::new(DtlbShape::default());
        insert(&mut tlb, 3, GpuVa(0x1_0000), 0x11);
        let other = Invalidation {
            page: 0x20,
            page_mask: !0,
            process_id: 3,
            process_mask: 0xf,
        };
        tlb.invalidate(other);
        assert!(lookup(&tlb, 3, GpuVa(0x1_f000)).is_some());
        tlb.invalidate(Invalidation {
            page: 0x10,
            ..other
        });
        assert!(lookup(&tlb, 3, GpuVa(0x1_f000)).is_none());
    }

    #[test]
    fn mask_zero_drops_everything() {
        let mut tlb = Dtlb::new(DtlbShape::default());
        for n in 0..64_u8 {
            insert(&mut tlb, n % 16, GpuVa(u64::from(n) << 20), 1);
        }
        tlb.invalidate(Invalidation {
            page: 9,
            page_mask: 0,
            process_id: 1,
            process_mask: 0,
        });
        assert!((0..64).all(|n| lookup(&tlb, n % 16, GpuVa(u64::from(n) << 20)).is_none()));
    }

    #[test]
    fn a_set_replaces_its_lines_in_order() {
        let mut tlb = Dtlb::new(DtlbShape::new(1, 2).unwrap());
        for n in 0..3 {
            insert(&mut tlb, 0, GpuVa(n << LINE_SHIFT), 1);
        }
        let held = [0, 1, 2].map(|n| lookup(&tlb, 0, GpuVa(n << LINE_SHIFT)).is_some());
        assert_eq!(held, [false, true, true]);
    }

    #[test]
    fn without_a_dtlb_nothing_is_kept() {
        let mut tlb = Dtlb::new(DtlbShape::OFF);
        insert(&mut tlb, 0, GpuVa(0), 1);
        assert!(lookup(&tlb, 0, GpuVa(0)).is_none());
    }

    proptest! {
        /// Whatever is inserted and dropped, a hit is always the last line put
        /// there and never one that was invalidated since (misses are free).
        #[test]
        fn hits_agree_with_a_map(ops in prop::collection::vec(
            (any::<bool>(), 0_u8..4, 0_u64..64, 0_u64..64, any::<u32>()), 1..300))
        {
            let mut tlb = Dtlb::new(DtlbShape::default());
            let mut reference = HashMap::new();
            for (add, process_id, number, mask, value) in ops {
                if add {
                    insert(&mut tlb, process_id, GpuVa(number << LINE_SHIFT), value);
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
                        if let Some(hit) = lookup(&tlb, p, GpuVa(n << LINE_SHIFT)) {
                            prop_assert_eq!(reference.get(&(p, n)), Some(&hit.into_bits()));
                        }
                    }
                }
            }
        }
    }
}
