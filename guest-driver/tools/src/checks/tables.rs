//! What the driver wrote against what the model reads: L1 registers and PTEs.

use super::{Check, Context, Kind, SNOOPED, UNSNOOPED, VISIBLE};
use crate::debugfs;
use crate::device::{Buffer, PAGE};
use crate::error::{Result, ensure};
use crate::frames;
use crate::noise::noise;
use crate::pages::{Pinned, Scattered};
use e3k_regs::pte::L3Entry;
use presil_uapi as uapi;
use serde_json::Value;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "L1 registers of every process id",
        run: l1_registers,
    },
    Check {
        name: "VRAM is mapped one to one",
        run: local_pte,
    },
    Check {
        name: "first touch binds snooped RAM",
        run: |c| first_touch(c, SNOOPED),
    },
    Check {
        name: "first touch binds unsnooped RAM",
        run: |c| first_touch(c, UNSNOOPED),
    },
    Check {
        name: "GPU and CPU find the same scattered pages",
        run: each_page,
    },
    Check {
        name: "no TLB holds a page that was given back",
        run: forgotten,
    },
    Check {
        name: "unsnooped RAM is write-combined, snooped RAM is not",
        run: caching,
    },
    Check {
        name: "RAM pages that are used again begin as zeros",
        run: zeroed,
    },
];

const PROCESS_IDS: usize = 16;

/// The model holds what the driver wrote, in every process id's bank.
fn l1_registers(context: &Context) -> Result<String> {
    let model = context.model()?;
    let vma = debugfs::reserved_vma(&context.device)?;
    let rows = vma["l1"].as_array().map_or(&[][..], Vec::as_slice);
    let mut seen = [false; PROCESS_IDS];
    for row in rows {
        let register = debugfs::word(row, "register_addr")?;
        let written = debugfs::word(row, "written_value")?;
        let held = model.register(register)?;
        ensure!(
            held == written && written & 1 == 1,
            "register {register:#x}: the driver wrote {written:#x}, the model holds {held:#x}"
        );
        let id = usize::try_from(debugfs::number(row, "process_id")?).ok();
        if let Some(seen) = id.and_then(|id| seen.get_mut(id)) {
            *seen = true;
        }
    }
    ensure!(
        seen == [true; PROCESS_IDS],
        "some process id has no L1 register: {seen:?}"
    );
    Ok(format!(
        "{} registers, {PROCESS_IDS} process ids",
        rows.len()
    ))
}

fn local_pte(context: &Context) -> Result<String> {
    let model = context.model()?;
    let buffer = VISIBLE.create(context, PAGE)?;
    let at = buffer.describe()?;
    let entry = L3Entry::from_bits(model.pte(at.gpu_va)?);
    ensure!(
        entry.valid() && entry.segment() && u64::from(entry.page()) == at.start_page,
        "VRAM page {} has the PTE {entry:?}",
        at.start_page
    );
    Ok(format!(
        "page {} at {:#x}: PTE {:#010x}",
        at.start_page,
        at.gpu_va,
        entry.into_bits()
    ))
}

/// Before the first touch the dummy page's PTE, after it the bound page's,
/// after the end the dummy page's again; always as the model reads it.
fn first_touch(context: &Context, kind: Kind) -> Result<String> {
    let model = context.model()?;
    let dummy = dummy_page(&debugfs::reserved_vma(&context.device)?)?;
    let buffer = kind.create(context, 16 * PAGE)?;

    let before = buffer.describe()?;
    let unbound = model.pte(before.gpu_va)?;
    ensure!(
        before.state & uapi::STATE_BOUND == 0,
        "bound before the first touch"
    );
    ensure!(
        unbound == before.first_pte,
        "the CPU reads {:#x}, the model {unbound:#x}",
        before.first_pte
    );
    ensure!(
        page_of(unbound) == Some(dummy),
        "PTE {unbound:#x} is not that of the dummy page {dummy:#x}"
    );

    let mapping = buffer.map()?;
    ensure!(mapping.touch()? == 0, "RAM pages do not begin as zeros");
    let after = buffer.describe()?;
    let bound = model.pte(after.gpu_va)?;
    ensure!(
        after.state & uapi::STATE_BOUND != 0,
        "not bound after the first touch"
    );
    ensure!(
        bound == after.first_pte,
        "the CPU reads {:#x}, the model {bound:#x}",
        after.first_pte
    );
    ensure!(
        page_of(bound).is_some_and(|page| page != dummy),
        "PTE {bound:#x} is that of no page, or of the dummy page {dummy:#x}"
    );
    let snoops = L3Entry::from_bits(bound).snoop();
    ensure!(
        snoops == (kind.segment == SNOOPED.segment),
        "PTE {bound:#x} has the wrong snoop bit"
    );

    drop((mapping, buffer));
    let freed = model.pte(after.gpu_va)?;
    ensure!(
        freed == unbound,
        "PTE {freed:#x} after the end, expected {unbound:#x}"
    );
    Ok(format!(
        "PTE {unbound:#010x} (dummy), {bound:#010x} (bound), {freed:#010x} (freed)"
    ))
}

/// Page by page: the GPU fills one that the model's PTEs say is apart from its
/// neighbours, and the CPU finds the value there and nowhere else.
fn each_page(context: &Context) -> Result<String> {
    const PAGES: u32 = 16;
    let model = context.model()?;
    let _scattered = Scattered::new(&context.device)?;
    let buffer = SNOOPED.create(context, u64::from(PAGES) * PAGE)?;
    let mapping = buffer.map()?;
    mapping.touch()?;
    let at = buffer.describe()?.gpu_va;
    let mut pages = Vec::new();
    for number in 0..PAGES {
        let offset = u64::from(number) * PAGE;
        pages.push(page_of(model.pte(at + offset)?));
        buffer.fill(offset, PAGE, number + 1)?;
    }
    let data = mapping.read()?;
    let words = data
        .chunks_exact(4)
        .zip((1..=PAGES).flat_map(|page| [page; 1024]));
    for (index, (word, expected)) in words.enumerate() {
        ensure!(
            word == expected.to_le_bytes(),
            "word {index} is {word:x?}, expected {expected}"
        );
    }
    let apart = |pair: &&[Option<u64>]| pair[1] != pair[0].map(|page| page + 1);
    let pieces = 1 + pages.windows(2).filter(apart).count();
    ensure!(
        pieces > 2,
        "{PAGES} pages lie in {pieces} pieces: they are not scattered"
    );
    Ok(format!("{PAGES} pages in {pieces} pieces of RAM"))
}

/// Pages that one buffer gave back, full of data, are the next one's: as zeros, to
/// the GPU and to the CPU. With `init_on_alloc=0` no kernel does that by itself.
fn zeroed(context: &Context) -> Result<String> {
    const BYTES: u64 = 16 * PAGE;
    let model = context.model()?;
    let pages = |buffer: &Buffer| -> Result<Vec<u64>> {
        let at = buffer.describe()?.gpu_va;
        let ptes = (0..BYTES / PAGE).map(|page| model.pte(at + page * PAGE));
        let found: Result<Vec<_>> = ptes.map(|pte| pte.map(page_of)).collect();
        Ok(found?.into_iter().flatten().collect())
    };
    // Each CPU hands out first what it was given back last.
    let _here = Pinned::new()?;
    let bytes = usize::try_from(BYTES).unwrap_or(usize::MAX);
    let mut again = 0;
    for kind in [SNOOPED, UNSNOOPED] {
        let old = kind.create(context, BYTES)?;
        old.map()?.write(&noise(11, bytes))?;
        let given_back = pages(&old)?;
        drop(old);
        let new = kind.create(context, BYTES)?;
        let seen = VISIBLE.create(context, BYTES)?;
        seen.copy_from(0, &new, 0, BYTES)?;
        for (who, data) in [("GPU", seen.map()?.read()?), ("CPU", new.map()?.read()?)] {
            let dirty = data.iter().filter(|byte| **byte != 0).count();
            ensure!(
                dirty == 0,
                "the {who} finds {dirty} bytes in fresh {} that are not 0",
                kind.name
            );
        }
        let used_again = pages(&new)?;
        again += used_again
            .iter()
            .filter(|page| given_back.contains(page))
            .count();
    }
    ensure!(again > 0, "no page was used again: that shows nothing");
    Ok(format!(
        "{again} of {} pages held other data before",
        2 * BYTES / PAGE
    ))
}

/// A freed page is somebody else's, and a TLB that still leads to it lets the GPU write there.
fn forgotten(context: &Context) -> Result<String> {
    const PAGES: u64 = 16;
    let model = context.model()?;
    let mut held = 0;
    for kind in [SNOOPED, UNSNOOPED] {
        let buffer = kind.create(context, PAGES * PAGE)?;
        buffer.fill(0, PAGES * PAGE, 0x600D_600D)?;
        let at = buffer.describe()?.gpu_va;
        let pages: Vec<_> = (0..PAGES).map(|page| at + page * PAGE).collect();
        let ptes: Result<Vec<_>> = pages.iter().map(|at| model.pte(*at)).collect();
        let ptes = ptes?;
        for at in &pages {
            held += model.cached(*at)?.len();
        }
        drop(buffer);
        for (at, pte) in pages.iter().zip(ptes) {
            for (tlb, entry) in model.cached(*at)? {
                ensure!(
                    entry != u64::from(pte),
                    "the {tlb} TLB still holds PTE {pte:#010x} of {at:#x}, {} that was given back",
                    kind.name
                );
            }
        }
    }
    Ok(format!("{held} entries before the end, none after it"))
}

/// The kernel says of each frame how it is mapped.
fn caching(context: &Context) -> Result<String> {
    const PAGES: u64 = 8;
    for (kind, expected) in [(SNOOPED, 0), (UNSNOOPED, PAGES)] {
        let before = frames::write_combined()?;
        let buffer = kind.create(context, PAGES * PAGE)?;
        buffer.map()?.touch()?;
        let more = frames::write_combined()?.checked_sub(before);
        ensure!(
            more == Some(expected),
            "{more:?} frames more are write-combined with {PAGES} pages of {}, expected {expected}",
            kind.name
        );
    }
    Ok(format!("{PAGES} pages of each"))
}

fn dummy_page(vma: &Value) -> Result<u64> {
    debugfs::number(vma, "dummy_page_addr").map(|address| address / PAGE)
}

/// The system page that a PTE names.
fn page_of(pte: u32) -> Option<u64> {
    let entry = L3Entry::from_bits(pte);
    (entry.valid() && !entry.segment()).then(|| u64::from(entry.page()))
}
