//! The entries that a walk meets, decoded: each field by the name that hardware
//! reference 4.2 to 4.5 has for it.

use e3k_regs::PAGE_SHIFT;
use e3k_regs::pte::{L2Entry, L3Entry, L3Entry64K, Ttbr};
use presil_device::Walk;
use serde::Serialize;

/// Bytes of a page whose L3 entry has the other format.
const LARGE_PAGE: u64 = 1 << 16;

/// One entry.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Entry {
    /// Its level, or the TLB that holds it.
    level: String,
    value: u32,
    valid: bool,
    /// Where what it leads to lies: `VRAM`, or `system` memory over PCIe.
    segment: &'static str,
    snoop: bool,
    /// Non-secure.
    ns: bool,
    /// The address of the next table, or of the page, in its segment.
    addr: u64,
    /// Bytes of the page; `None` of an entry that leads to a table.
    page_bytes: Option<u64>,
    /// Bit 31 of an L2 entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    large_page: Option<bool>,
}

/// All entries of a walk, from the L1 register down, then those in the TLBs.
pub(crate) fn of(walk: &Walk) -> Vec<Entry> {
    let l1 = Ttbr::from_bits(walk.l1);
    let mut entries = vec![Entry {
        level: "L1".to_owned(),
        value: walk.l1,
        valid: l1.valid(),
        segment: segment(l1.segment()),
        snoop: l1.snoop(),
        ns: l1.ns(),
        addr: u64::from(l1.page()) << PAGE_SHIFT,
        page_bytes: None,
        large_page: None,
    }];
    entries.extend(walk.l2.map(|value| {
        let l2 = L2Entry::from_bits(value);
        Entry {
            level: "L2".to_owned(),
            value,
            valid: l2.valid(),
            segment: segment(l2.segment()),
            snoop: l2.snoop(),
            ns: l2.ns(),
            addr: u64::from(l2.page()) << PAGE_SHIFT,
            page_bytes: walk.page_bytes.filter(|_| walk.l3.is_none()),
            large_page: Some(l2.large_page()),
        }
    }));
    let l3 = walk.l3.map(|value| match walk.page_bytes {
        Some(LARGE_PAGE) => Entry {
            addr: u64::from(L3Entry64K::from_bits(value).page()) << 16,
            page_bytes: Some(LARGE_PAGE),
            ..page("L3".to_owned(), value)
        },
        _ => page("L3".to_owned(), value),
    });
    entries.extend(l3);
    entries.extend(walk.dtlb.map(|value| page("DTLB".to_owned(), value)));
    let held = walk.utlb.iter();
    entries.extend(held.map(|(client, value)| page(format!("UTLB of {client}"), *value)));
    entries
}

/// An L3 entry of a page of 4 KiB, as which the TLBs hold larger ones, too.
fn page(level: String, value: u32) -> Entry {
    let entry = L3Entry::from_bits(value);
    Entry {
        level,
        value,
        valid: entry.valid(),
        segment: segment(entry.segment()),
        snoop: entry.snoop(),
        ns: entry.ns(),
        addr: u64::from(entry.page()) << PAGE_SHIFT,
        page_bytes: Some(1 << PAGE_SHIFT),
        large_page: None,
    }
}

fn segment(local: bool) -> &'static str {
    if local { "VRAM" } else { "system" }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn walk(l2: Option<u32>, l3: Option<u32>, page_bytes: Option<u64>) -> Walk {
        Walk {
            l1: 0x109,
            l2,
            l3,
            page_bytes,
            target: None,
            dtlb: Some(0x0001_2347),
            utlb: BTreeMap::from([("ring fetch", 0x0000_1008)]),
        }
    }

    #[test]
    fn every_field_is_told_of_every_level_and_of_what_the_tlbs_hold() {
        let told = of(&walk(Some(0x119), Some(0x2345_6007), Some(4096)));
        let short = |entry: &Entry| {
            let flags = [entry.valid, entry.segment == "VRAM", entry.snoop, entry.ns];
            (entry.level.clone(), flags.map(u8::from), entry.addr)
        };
        let told: Vec<_> = told.iter().map(short).collect();
        let expected = [
            ("L1", [1, 1, 0, 0], 0x1_0000),
            ("L2", [1, 1, 0, 0], 0x1_1000),
            ("L3", [1, 0, 1, 1], 0x23_4560_0000),
            ("DTLB", [1, 0, 1, 1], 0x123_4000),
            ("UTLB of ring fetch", [0, 1, 0, 0], 0x10_0000),
        ];
        assert_eq!(told, expected.map(|(l, f, a)| (l.to_owned(), f, a)));
    }

    #[test]
    fn pages_have_the_size_that_the_tables_give_them() {
        let large = of(&walk(Some(0x119), Some(0x0001_2305), Some(LARGE_PAGE)));
        assert_eq!(
            (large[1].page_bytes, large[2].page_bytes),
            (None, Some(LARGE_PAGE))
        );
        assert_eq!(large[2].addr, 0x123_0000);
        let whole = of(&walk(Some(0x8000_4009), None, Some(1 << 22)));
        assert_eq!(
            (whole[1].page_bytes, whole[1].large_page),
            (Some(1 << 22), Some(true))
        );
        assert_eq!(of(&walk(None, None, None)).len(), 3);
    }
}
