//! `vidmm_init`: the five steps, then interrupts, fences and ring 0.

pub(crate) mod report;

use crate::Error;
use crate::bo::Backing;
use crate::bo::gart::{Gart, bus_addr};
use crate::bo::memory::{Memory, MmMgr};
use crate::chip::pagetable::{PageTables, PtLayout};
use crate::chip::{ChipOps, E3k};
use crate::engine::ring::{RING_BYTES, Ring};
use crate::engine::ring0::Ring0;
use crate::init::report::{
    ChipReport, EntrySample, InitReport, InitStep, L1Value, LevelReport, PteCounts,
    SubmissionReport, VmaReport,
};
use crate::placement::segments::{SegmentId, Segments};
use crate::platform::{Caching, LogLevel, Os, RegisterOp, SystemInfo};
use crate::sync::timeline::Timeline;
use crate::zones::VmInfo;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use e3k_regs::pte::{ENTRY_BYTES, L1_SPAN, L2_SPAN};
use e3k_regs::{GpuVa, PAGE_SIZE, VramOffset};

/// How often a chip is asked whether its VRAM works yet.
const READY_READS: u32 = 1000;
/// The segment of the shared zones' page tables.
const SHARE_PT_SEGMENT: SegmentId = SegmentId::LocalVisible;

/// What may be chosen when the driver starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of the snooped PCIe segment; whole pages.
    pub snoop_bytes: u64,
    /// Bytes of the unsnooped PCIe segment; whole pages.
    pub unsnoop_bytes: u64,
    /// How much of each segment one client may book, in percent.
    pub client_percent: u8,
    /// How long [`Adapter::fini`](crate::Adapter::fini) waits for the ring to drain.
    pub idle_timeout_ns: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            snoop_bytes: 2 << 30,
            unsnoop_bytes: 2 << 30,
            client_percent: 50,
            idle_timeout_ns: 5_000_000_000,
        }
    }
}

/// Which step failed, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitError {
    /// The step.
    pub step: InitStep,
    /// Why.
    pub error: Error,
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vidmm_init step {}: {}", self.step, self.error)
    }
}

impl core::error::Error for InitError {}

impl InitStep {
    fn failed(self) -> impl FnOnce(Error) -> InitError {
        move |error| InitError { step: self, error }
    }
}

/// What `vidmm_init` leaves.
pub(crate) struct BroughtUp<O: Os> {
    pub(crate) memory: Memory<O>,
    pub(crate) gart: Gart,
    pub(crate) ring0: Ring0<O>,
}

/// Brings the GPU's memory up. `report` is filled step by step, also when a
/// step fails; then everything done is undone in reverse order.
pub(crate) fn init<O: Os>(
    os: O,
    options: Options,
    report: &mut InitReport,
) -> Result<BroughtUp<O>, InitError> {
    *report = InitReport::default();
    let system = system_memory(&os).map_err(InitStep::SystemMemory.failed())?;
    report.system = Some(system);

    let chip: &'static dyn ChipOps = &E3k;
    let identity = chip_functions(&os, chip).map_err(InitStep::ChipFunctions.failed())?;
    report.chip = Some(identity);
    quiet(&os, chip).map_err(InitStep::ChipFunctions.failed())?;

    let vm_info = VmInfo::plan(identity.vram_bytes, identity.visible_bytes, &options)
        .inspect_err(|_| os.set_dma(false))
        .map_err(InitStep::Zones.failed())?;
    report.zones = Some(vm_info.zones());

    let segments = Segments::new(&vm_info)
        .inspect_err(|_| os.set_dma(false))
        .map_err(InitStep::Segments.failed())?;
    report.segments = Some(segments.infos());

    let mm_mgr = MmMgr {
        sysinfo: system,
        chip,
        vm_info,
        segments,
    };
    let mut memory = Memory::new(Arc::new(os), mm_mgr, options.client_percent);
    match bring_up(&mut memory, report) {
        Ok((gart, ring0)) => Ok(BroughtUp {
            memory,
            gart,
            ring0,
        }),
        Err(error) => {
            // No engine has been given work, so the GPU is idle.
            memory.unwind(true);
            Err(error)
        }
    }
}

/// Everything that touches memory and registers.
fn bring_up<O: Os>(
    memory: &mut Memory<O>,
    report: &mut InitReport,
) -> Result<(Gart, Ring0<O>), InitError> {
    let (gart, vma) = reserved_vma(memory).map_err(InitStep::ReservedVma.failed())?;
    report.reserved_vma = Some(vma);
    let (ring, timeline, submission) =
        submission(memory, &gart).map_err(InitStep::Submission.failed())?;
    report.submission = Some(submission);
    let os = Arc::clone(&memory.os);
    let ring0 = Ring0::new(os, memory.mm_mgr.chip, ring, timeline);
    Ok((gart, ring0))
}

/// Step 1.
fn system_memory<O: Os>(os: &O) -> Result<SystemInfo, Error> {
    let info = os.system_info();
    if info.page_bytes != PAGE_SIZE {
        os.log(
            LogLevel::Error,
            format_args!(
                "vidmm: CPU pages are {} bytes, expected {PAGE_SIZE}",
                info.page_bytes
            ),
        );
        return Err(Error::Invalid);
    }
    Ok(info)
}

/// Step 2: the functions are `chip`'s; with them, ask the chip about itself.
fn chip_functions<O: Os>(os: &O, chip: &dyn ChipOps) -> Result<ChipReport, Error> {
    let mut identity = chip.identity();
    os.access(&mut identity)?;
    for _ in 0..READY_READS {
        if chip.vram_bytes(&identity) != Err(Error::Io) {
            break;
        }
        os.access(&mut identity)?;
    }
    let said = chip.vram_bytes(&identity).inspect_err(|error| {
        let [ready, channels] = identity.map(|op| op.value);
        os.log(
            LogLevel::Error,
            format_args!("vidmm: VRAM: {error}: ready {ready:#x}, channels {channels:#x}"),
        );
    })?;
    let told = os.vram_bytes();
    if let (Some(said), Some(told)) = (said, told)
        && said != told
    {
        os.log(
            LogLevel::Error,
            format_args!("vidmm: the chip says {said} bytes of VRAM, the bus {told}"),
        );
        return Err(Error::Invalid);
    }
    Ok(ChipReport {
        name: chip.name(),
        process_ids: chip.process_ids(),
        l1_registers: chip.l1_registers(),
        vram_bytes: said.or(told).ok_or(Error::Invalid)?,
        visible_bytes: os.visible_bytes(),
    })
}

/// Stops what a system that crashed, or firmware, may have left running, before
/// the GPU may reach memory.
fn quiet<O: Os>(os: &O, chip: &dyn ChipOps) -> Result<(), Error> {
    os.access(&mut chip.disable_interrupts())?;
    os.access(&mut chip.reset_all_engines())?;
    os.access(&mut chip.invalidate_all())?;
    os.set_dma(true);
    Ok(())
}

/// Step 5: tables in VRAM, filled by the CPU; then the L1 registers, and from
/// here on the GPU translates.
fn reserved_vma<O: Os>(memory: &mut Memory<O>) -> Result<(Gart, VmaReport), Error> {
    let vm = memory.mm_mgr.vm_info;
    let chip = memory.mm_mgr.chip;
    let layout = PtLayout::for_bytes(vm.shared_bytes());
    let table_bytes = layout.l2_bytes() + layout.l3_bytes();

    let table_bo = memory
        .book_kernel(SHARE_PT_SEGMENT, table_bytes)
        .inspect_err(|error| {
            let segment = memory.mm_mgr.segments.get(SHARE_PT_SEGMENT).info();
            memory.os.log(
                LogLevel::Error,
                format_args!(
                    "vidmm: {table_bytes} bytes of page tables in {} of {} bytes: {error}",
                    segment.name, segment.bytes
                ),
            );
        })?;
    let tables = PageTables::at(vram_of(memory.va(table_bo)?), layout);
    let dummy_bo = memory.kernel_page()?;
    let dummy_page = {
        let pages = memory.populate(dummy_bo, Caching::Cached)?;
        bus_addr(&*memory.os, &pages, 0)?
    };
    let dummy_pte = chip.system_pte(dummy_page, true);

    tables.fill(&*memory.os, chip, &vm, dummy_pte);
    memory.os.write_barrier();
    let samples = check_window(&*memory.os, chip, &tables, &vm, dummy_pte)?;

    let (l1, mmu_mode) = start_translation(memory, &tables)?;
    let report = VmaReport {
        bytes: vm.shared_bytes(),
        share_pt_segment: SHARE_PT_SEGMENT.name(),
        table_bytes,
        levels: level_reports(&*memory.os, &tables),
        ptes: pte_counts(&vm),
        samples,
        dummy_page,
        l1,
        mmu_mode,
    };
    Ok((Gart { tables, dummy_pte }, report))
}

fn level_reports<O: Os>(os: &O, tables: &PageTables) -> [LevelReport; 2] {
    let layout = &tables.layout;
    let level = |level, entries, count, bytes, gpu_phys| LevelReport {
        level,
        entries,
        tables: count,
        bytes,
        gpu_phys,
        cpu_address: os.cpu_address(gpu_phys),
    };
    let (l2, l3) = (layout.l2_tables, layout.l3_tables);
    [
        level(2, l3, l2, layout.l2_bytes(), tables.l2),
        level(3, layout.ptes, l3, layout.l3_bytes(), tables.l3),
    ]
}

fn pte_counts(vm: &VmInfo) -> PteCounts {
    let local = vm.vram_bytes / PAGE_SIZE;
    PteCounts {
        local,
        invalid: vm.local.bytes / PAGE_SIZE - local,
        dummy: vm.pcie.bytes / PAGE_SIZE,
    }
}

/// In zone 0 a GPU address is the offset in VRAM.
const fn vram_of(va: GpuVa) -> VramOffset {
    VramOffset(va.0)
}

/// Reads some entries back: a VRAM window that is not there reads zeros.
fn check_window<O: Os>(
    os: &O,
    chip: &dyn ChipOps,
    tables: &PageTables,
    vm: &VmInfo,
    dummy_pte: u32,
) -> Result<[EntrySample; 4], Error> {
    let entry = |level, va, gpu_phys, value, leads_to| EntrySample {
        level,
        va,
        gpu_phys,
        value,
        leads_to,
    };
    let l3 = |va, value, leads_to| entry(3, va, tables.l3_entry(va), value, leads_to);
    let last_span = GpuVa(vm.shared_bytes() - L2_SPAN);
    let last_l2 = tables.l2.add(last_span.0 / L2_SPAN * ENTRY_BYTES);
    let last_l3 = tables.l3.add(tables.layout.l3_bytes() - PAGE_SIZE);
    let (first_l2, last_l2_value) = (chip.l2_entry(tables.l3), chip.l2_entry(last_l3));
    let expected = [
        entry(2, GpuVa(0), tables.l2, first_l2, "the first L3 table"),
        entry(2, last_span, last_l2, last_l2_value, "the last L3 table"),
        l3(GpuVa(0), chip.local_pte(VramOffset(0)), "page 0 of VRAM"),
        l3(vm.pcie.start, dummy_pte, "the dummy page"),
    ];
    for EntrySample {
        gpu_phys, value, ..
    } in expected
    {
        let found = os.load_u32(gpu_phys);
        if found != value {
            os.log(
                LogLevel::Error,
                format_args!(
                    "vidmm: VRAM window at {gpu_phys}: wrote {value:#x}, reads {found:#x}"
                ),
            );
            return Err(Error::Io);
        }
    }
    Ok(expected)
}

/// Writes the shared zones' L1 registers into every process id's bank, switches
/// translation on, flushes the TLBs, and reads all of it back.
fn start_translation<O: Os>(
    memory: &mut Memory<O>,
    tables: &PageTables,
) -> Result<(Vec<L1Value>, u32), Error> {
    let os = &*memory.os;
    let chip = memory.mm_mgr.chip;
    let vm = &memory.mm_mgr.vm_info;
    let registers = u32::try_from(vm.shared_bytes() / L1_SPAN).map_err(|_| Error::Invalid)?;
    let mut writes = Vec::new();
    writes.try_reserve_exact(registers as usize * chip.process_ids() as usize + 1)?;
    for process_id in 0..chip.process_ids() {
        for index in 0..registers {
            writes.push(chip.l1(process_id, index, tables.l2_table(u64::from(index))));
        }
    }
    memory.registers.write(os, &mut writes)?;
    let mut mode = [chip.enable_translation(vm.vram_bytes)];
    memory.registers.write(os, &mut mode)?;
    os.access(&mut chip.invalidate_all())?;

    writes.extend_from_slice(&mode);
    let found = read_back(os, &writes)?;
    let mut l1 = Vec::new();
    l1.try_reserve_exact(writes.len())?;
    let ids = (0..chip.process_ids()).flat_map(|id| (0..registers).map(move |index| (id, index)));
    l1.extend(
        ids.zip(writes.iter().zip(&found))
            .map(|((process_id, index), (written, found))| L1Value {
                process_id,
                index,
                written: written.value,
                read_back: found.value,
            }),
    );
    Ok((l1, found.last().map_or(0, |op| op.value)))
}

/// Reads the registers of `writes`.
///
/// # Errors
/// [`Error::Io`] if one does not hold what was written.
fn read_back<O: Os>(os: &O, writes: &[RegisterOp]) -> Result<Vec<RegisterOp>, Error> {
    let mut found = Vec::new();
    found.try_reserve_exact(writes.len())?;
    found.extend(writes.iter().map(|op| op.to_read()));
    os.access(&mut found)?;
    for (written, found) in writes.iter().zip(&found) {
        if written.value != found.value {
            os.log(
                LogLevel::Error,
                format_args!(
                    "vidmm: register {:#x}: wrote {:#x}, reads {:#x}",
                    written.offset, written.value, found.value
                ),
            );
            return Err(Error::Io);
        }
    }
    Ok(found)
}

/// After step 5: fence memory, interrupts, ring 0.
fn submission<O: Os>(
    memory: &mut Memory<O>,
    gart: &Gart,
) -> Result<(Ring, Arc<Timeline<O>>, SubmissionReport), Error> {
    let chip = memory.mm_mgr.chip;
    // Behind the ring, a page for the echoes of its fences.
    let ring_bytes = u64::from(RING_BYTES);
    let ring_bo = memory.book_kernel(SegmentId::LocalVisible, ring_bytes + PAGE_SIZE)?;
    let ring_va = memory.va(ring_bo)?;
    let echo_va = ring_va.add(ring_bytes);
    let fence_bo = memory.book_kernel(SegmentId::PcieSnoop, PAGE_SIZE)?;
    let fence_va = memory.va(fence_bo)?;
    let pages = memory.populate(fence_bo, Caching::Cached)?;
    gart.bind(&*memory.os, chip, fence_va, &pages, 1, true)?;
    memory.bos.get_mut(fence_bo)?.backing = Backing::Bound(Arc::clone(&pages));
    let fence_page = bus_addr(&*memory.os, &pages, 0)?;

    let os = &*memory.os;
    os.store_u32(vram_of(echo_va), &[0, 0]);
    os.write_barrier();
    let mut gate = [chip.interrupt_gate()];
    os.access(&mut gate)?;
    let mut enable = chip.enable_interrupts(gate[0]);
    memory.registers.write(os, &mut enable)?;
    read_back(os, &enable[..2])?;
    memory
        .registers
        .write(os, &mut chip.start_ring(ring_va, RING_BYTES))?;

    let ring = Ring::new(vram_of(ring_va), ring_va, fence_va, echo_va)?;
    let os = Arc::clone(&memory.os);
    let timeline = Arc::new(Timeline::new(os, chip, pages, vram_of(echo_va)));
    let report = SubmissionReport {
        ring: ring_va,
        ring_bytes: RING_BYTES,
        fence: fence_va,
        fence_page,
    };
    Ok((ring, timeline, report))
}
