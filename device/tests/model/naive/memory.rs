//! Bytes with holes.

use std::collections::BTreeMap;

const PAGE: u64 = 4096;

/// Pages by number. Local memory answers everywhere below its end and starts
/// as zeros; the machine's memory answers where a page has been put.
#[derive(Default)]
pub(crate) struct Memory {
    pages: BTreeMap<u64, Vec<u8>>,
    local_bytes: u64,
}

impl Memory {
    pub(crate) fn local(bytes: u64) -> Self {
        Self {
            pages: BTreeMap::new(),
            local_bytes: bytes,
        }
    }

    pub(crate) fn add_page(&mut self, at: u64) {
        self.pages.insert(at / PAGE, vec![0; 4096]);
    }

    /// The bytes from `at` to the end of its page; `None` where nobody answers.
    pub(crate) fn at(&mut self, at: u64) -> Option<&mut [u8]> {
        if at < self.local_bytes {
            self.pages.entry(at / PAGE).or_insert_with(|| vec![0; 4096]);
        }
        let page = self.pages.get_mut(&(at / PAGE))?;
        Some(&mut page[usize::try_from(at % PAGE).unwrap()..])
    }

    pub(crate) fn load(&mut self, at: u64) -> Option<u32> {
        let bytes = self.at(at)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    }

    /// Writes as the CPU does.
    pub(crate) fn poke(&mut self, at: u64, dwords: &[u32]) {
        for (dword, at) in dwords.iter().zip((at..).step_by(4)) {
            if let Some(bytes) = self.at(at) {
                bytes[..4].copy_from_slice(&dword.to_le_bytes());
            }
        }
    }

    /// All contents, in order of address.
    pub(crate) fn dump(&self) -> Vec<(u64, Vec<u8>)> {
        self.pages
            .iter()
            .map(|(page, bytes)| (page * PAGE, bytes.clone()))
            .collect()
    }
}
