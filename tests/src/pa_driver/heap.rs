//! Free ranges of a segment.

use std::collections::BTreeMap;

/// Free ranges: first address to length. Neighbours are merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heap(BTreeMap<u64, u64>);

impl Heap {
    pub(crate) fn new(start: u64, bytes: u64) -> Self {
        Self((bytes > 0).then_some((start, bytes)).into_iter().collect())
    }

    /// Takes the lowest range that fits.
    pub(crate) fn take(&mut self, bytes: u64, align: u64) -> Option<u64> {
        let (hole, at) = self.0.iter().find_map(|(start, len)| {
            let at = start.next_multiple_of(align);
            (at + bytes <= start + len).then_some((*start, at))
        })?;
        self.cut(hole, at, bytes);
        Some(at)
    }

    /// Takes the highest range that fits.
    pub(crate) fn take_top(&mut self, bytes: u64, align: u64) -> Option<u64> {
        let (hole, at) = self.0.iter().rev().find_map(|(start, len)| {
            let at = (start + len).checked_sub(bytes)? / align * align;
            (at >= *start).then_some((*start, at))
        })?;
        self.cut(hole, at, bytes);
        Some(at)
    }

    fn cut(&mut self, hole: u64, at: u64, bytes: u64) {
        let end = hole + self.0.remove(&hole).unwrap_or(0);
        for (start, stop) in [(hole, at), (at + bytes, end)] {
            if stop > start {
                self.0.insert(start, stop - start);
            }
        }
    }

    /// Gives a range back.
    pub(crate) fn give(&mut self, at: u64, bytes: u64) {
        let (mut at, mut bytes) = (at, bytes);
        if let Some(len) = self.0.remove(&(at + bytes)) {
            bytes += len;
        }
        let below = self
            .0
            .range(..at)
            .next_back()
            .map(|(start, len)| (*start, *len));
        if let Some((start, len)) = below.filter(|(start, len)| start + len == at) {
            (at, bytes) = (start, bytes + len);
        }
        self.0.insert(at, bytes);
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        self.0.values().sum()
    }
}
