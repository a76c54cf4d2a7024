//! What the TLBs hold, beside what the tables say.

use presil_device::{FaultClient, GpuVa, TlbEntry};
use serde::Serialize;

use crate::shared_gpu::{Lost, SharedGpu};

/// Pages in one answer. Each costs a walk while nobody else has the GPU.
const MOST_PAGES: usize = 512;

/// The answer to `tlb`.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    /// Valid pages of 4 KiB that match, in all TLBs.
    pages: usize,
    /// Those of them that are not in `held`: the answer has an end.
    left_out: usize,
    /// Pages that the tables do not say any more.
    stale: usize,
    held: Vec<Held>,
}

/// Pages that follow each other in the address space and in memory.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Held {
    /// `dtlb`, or the `utlb` of a client.
    unit: &'static str,
    client: Option<&'static str>,
    process_id: u8,
    va: u64,
    pages: u64,
    /// The first page's L3 entry.
    entry: u32,
    target: String,
    stale: bool,
    /// Where the tables lead now, if somewhere else; `nothing valid` if nowhere.
    tables: Option<String>,
}

/// What the TLBs hold of this process id and page, or of all.
pub(crate) fn look(
    gpu: &SharedGpu,
    process_id: Option<u8>,
    va: Option<GpuVa>,
) -> Result<Answer, Lost> {
    let (mut entries, left_out) = gpu.enter().run(|gpu| {
        let mut held = gpu.tlb(process_id, va);
        let entries: Vec<_> = held.by_ref().take(MOST_PAGES).collect();
        (entries, held.count())
    })?;
    entries.sort_by_key(|held| (held.client.map(|c| c as u32), held.process_id, held.va));
    let runs = entries.chunk_by(TlbEntry::goes_on_in);
    Ok(Answer {
        pages: entries.len() + left_out,
        left_out,
        stale: entries.iter().filter(|held| held.is_stale()).count(),
        held: runs.filter_map(Held::of).collect(),
    })
}

/// What stale entries there are of one page, as sentences.
pub(crate) fn stale(entries: &[TlbEntry]) -> Vec<String> {
    let stale = entries.iter().filter(|held| held.is_stale());
    stale.map(ToString::to_string).collect()
}

impl Held {
    fn of(run: &[TlbEntry]) -> Option<Self> {
        let first = run.first()?;
        let stale = first.is_stale();
        let tables = || match first.tables {
            Some((_, target)) => target.to_string(),
            None => "nothing valid".to_owned(),
        };
        Some(Self {
            unit: if first.client.is_some() {
                "utlb"
            } else {
                "dtlb"
            },
            client: first.client.map(FaultClient::name),
            process_id: first.process_id,
            va: first.va,
            pages: run.len() as u64,
            entry: first.entry,
            target: first.target.to_string(),
            stale,
            tables: stale.then(tables),
        })
    }
}
