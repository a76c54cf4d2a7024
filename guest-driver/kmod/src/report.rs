//! What debugfs shows of `vidmm_init` and of the fences, as JSON. Names ending
//! in `bytes` are sizes; `addr`, `va`, `value` and the like mark addresses and bits.

use core::fmt::{self, Write};
use e3k_regs::Reg;
use e3k_regs::register::L1_PER_PROCESS;
use vidmm::{
    Bus, EntrySample, InitReport, L1Value, LevelReport, SegmentInfo, TimelineCounters, VmaReport,
    Zone,
};

/// An array with one object for each step that was completed.
pub(crate) fn init(w: &mut impl Write, report: &InitReport) -> fmt::Result {
    w.write_str("[")?;
    if let Some(system) = report.system {
        write!(
            w,
            r#"{{"step":1,"title":"query system memory","total_bytes":{},"free_bytes":{},"page_bytes":{}}}"#,
            system.total_bytes, system.free_bytes, system.page_bytes
        )?;
    }
    if let Some(chip) = report.chip {
        write!(
            w,
            r#",{{"step":2,"title":"install the chip functions","chip":"{}","process_ids":{},"l1_registers":{},"vram_bytes":{},"visible_bytes":{}}}"#,
            chip.name, chip.process_ids, chip.l1_registers, chip.vram_bytes, chip.visible_bytes
        )?;
    }
    if let Some(zones) = &report.zones {
        w.write_str(r#",{"step":3,"title":"three zones of GPU virtual addresses","zones":"#)?;
        array(w, zones, zone)?;
        w.write_str("}")?;
    }
    if let Some(segments) = &report.segments {
        w.write_str(r#",{"step":4,"title":"four segments, each with its manager","segments":"#)?;
        array(w, segments, segment)?;
        w.write_str("}")?;
    }
    if let Some(vma) = &report.reserved_vma {
        reserved_vma(w, vma)?;
    }
    if let Some(submission) = report.submission {
        write!(
            w,
            r#",{{"step":6,"title":"after vidmm_init: ring 0 and its fences","ring_va":{},"ring_bytes":{},"fence_va":{},"fence_page_addr":{}}}"#,
            submission.ring.0, submission.ring_bytes, submission.fence.0, submission.fence_page.0
        )?;
    }
    w.write_str("]\n")
}

/// The fences' counters.
pub(crate) fn counters(w: &mut impl Write, counters: TimelineCounters) -> fmt::Result {
    write!(
        w,
        r#"{{"submitted":{},"completed":{},"interrupts":{},"fallbacks":{},"page_faults":{},"bus_errors":{},"hangs":{}}}"#,
        counters.submitted,
        counters.completed,
        counters.interrupts,
        counters.fallbacks,
        counters.page_faults,
        counters.bus_errors,
        counters.hangs
    )
}

fn array<W: Write, T>(
    w: &mut W,
    items: &[T],
    write_item: impl Fn(&mut W, &T) -> fmt::Result,
) -> fmt::Result {
    w.write_str("[")?;
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            w.write_str(",")?;
        }
        write_item(w, item)?;
    }
    w.write_str("]")
}

fn zone(w: &mut impl Write, zone: &Zone) -> fmt::Result {
    write!(
        w,
        r#"{{"name":"{}","start":{},"end":{},"bytes":{},"shared":{}}}"#,
        zone.name,
        zone.start.0,
        zone.start.0 + zone.bytes,
        zone.bytes,
        zone.shared
    )
}

fn segment(w: &mut impl Write, segment: &SegmentInfo) -> fmt::Result {
    write!(
        w,
        r#"{{"name":"{}","start":{},"end":{},"bytes":{},"bus":"{}"}}"#,
        segment.name,
        segment.start.0,
        segment.start.0 + segment.bytes,
        segment.bytes,
        match segment.id.bus() {
            Bus::Io => "IOMEM",
            Bus::Sys => "MEM",
        }
    )
}

fn reserved_vma(w: &mut impl Write, vma: &VmaReport) -> fmt::Result {
    write!(
        w,
        r#",{{"step":5,"title":"the reserved VMA and its page tables","bytes":{},"share_pt_segment":"{}","table_bytes":{},"levels":"#,
        vma.bytes, vma.share_pt_segment, vma.table_bytes
    )?;
    array(w, &vma.levels, level)?;
    write!(
        w,
        r#","l3_entries":{{"local":{},"invalid":{},"dummy":{}}},"dummy_page_addr":{},"mmu_mode_value":{},"sample_entries":"#,
        vma.ptes.local, vma.ptes.invalid, vma.ptes.dummy, vma.dummy_page.0, vma.mmu_mode
    )?;
    array(w, &vma.samples, sample)?;
    w.write_str(r#","l1":"#)?;
    array(w, &vma.l1, l1)?;
    w.write_str("}")
}

fn level(w: &mut impl Write, level: &LevelReport) -> fmt::Result {
    write!(
        w,
        r#"{{"level":{},"entries":{},"tables":{},"bytes":{},"gpu_phys":{},"cpu_addr":{}}}"#,
        level.level, level.entries, level.tables, level.bytes, level.gpu_phys.0, level.cpu_address
    )
}

fn sample(w: &mut impl Write, entry: &EntrySample) -> fmt::Result {
    write!(
        w,
        r#"{{"level":{},"va":{},"gpu_phys":{},"value":{},"leads_to":"{}"}}"#,
        entry.level, entry.va.0, entry.gpu_phys.0, entry.value, entry.leads_to
    )
}

fn l1(w: &mut impl Write, l1: &L1Value) -> fmt::Result {
    write!(
        w,
        r#"{{"process_id":{},"index":{},"register_addr":{},"written_value":{},"read_back_value":{}}}"#,
        l1.process_id,
        l1.index,
        Reg::Ttbr.at(l1.process_id * L1_PER_PROCESS + l1.index),
        l1.written,
        l1.read_back
    )
}
