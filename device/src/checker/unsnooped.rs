//! An access of the GPU to memory whose lines are followed, past the CPU's caches.

use crate::checker::cache_lines::LINE_BYTES;
use crate::checker::report::Place;
use crate::mmu::access::Access;
use e3k_regs::fields::FaultClient;
use e3k_regs::{BusAddr, GpuVa, PAGE_SHIFT};

/// Who accesses.
#[derive(Clone, Copy)]
pub(crate) struct Who {
    pub(crate) client: FaultClient,
    pub(crate) process_id: u8,
    pub(crate) va: GpuVa,
    /// Of a walk, the level of the entry that it reads.
    pub(crate) level: Option<u8>,
}

impl Who {
    pub(crate) fn of(access: &Access) -> Self {
        Self {
            client: access.client,
            process_id: access.process_id,
            va: access.va,
            level: None,
        }
    }

    pub(crate) fn words(&self) -> String {
        let Self {
            client,
            process_id,
            va,
            level,
        } = self;
        let client = client.name();
        match level {
            None => format!("{client} at {va} of process id {process_id}"),
            Some(level) => format!(
                "the walk for {client} at {va} of process id {process_id}, entry of level {level},"
            ),
        }
    }
}

/// It, and what it meets.
pub(crate) struct Unsnooped {
    pub(crate) who: Who,
    pub(crate) at: BusAddr,
    pub(crate) bytes: u64,
    pub(crate) write: bool,
    /// The first line that has dirty bytes, and which: of a read those that are read, of a
    /// write all.
    pub(crate) dirty: Option<(BusAddr, u64)>,
    /// How many lines have.
    pub(crate) dirty_lines: u64,
    /// The first page that the CPU uses both write-back and write-combined.
    pub(crate) mixed: Option<BusAddr>,
    /// Whether the CPU's loads are followed.
    pub(crate) loads: bool,
}

impl Unsnooped {
    /// It, in words.
    pub(crate) fn words(&self) -> String {
        let how = if self.write { "writes" } else { "reads" };
        let Self { who, at, bytes, .. } = self;
        format!("{} {how} {bytes} bytes at {at} unsnooped", who.words())
    }

    /// What the CPU has stored of it, in words.
    pub(crate) fn stored(&self) -> Option<(BusAddr, String)> {
        let (line, bytes) = self.dirty?;
        let stored = of_line(line, bytes);
        let more = match self.dirty_lines {
            1 => String::new(),
            lines => format!("; dirty lines in all: {lines}"),
        };
        let words = format!("the CPU has stored {stored}, and not flushed it{more}");
        Some((line, words))
    }

    /// Where something is found in a page.
    pub(crate) fn place(&self, at: BusAddr) -> Place {
        let client = self.who.client.name().replace(' ', "-");
        let by = if self.who.level.is_some() {
            "walk"
        } else {
            "access"
        };
        vec![
            ("client", client),
            ("by", by.into()),
            ("bus", format!("{:#x}", at.page() << PAGE_SHIFT)),
        ]
    }
}

/// Bytes of a line, in words: "bytes 8 to 15 of the line at 0x1000".
fn of_line(line: BusAddr, bytes: u64) -> String {
    let first = u64::from(bytes.trailing_zeros());
    let last = LINE_BYTES - 1 - u64::from(bytes.leading_zeros());
    if bytes == u64::MAX {
        return format!("the line at {line}");
    }
    let count = u64::from(bytes.count_ones());
    let all = if count == last + 1 - first {
        String::new()
    } else {
        format!("{count} of ")
    };
    format!("{all}bytes {first} to {last} of the line at {line}")
}
