//! The model and the naive one side by side, on the same inputs.

use super::queues::{Queue, RINGS};
use super::{Choices, Fault, Naive, RingError, Touch, UnmetWait, Why};
use crate::rig::{BUFFERS_AT, Rig, SURFACES_AT, TTBR, VRAM_BYTES};
use crate::tables::{LOCAL, plus, snooped, unsnooped, vram};
use presil_device::{
    Chip, Config, CspError, CspErrorKind, FaultRecord, Progress, Snoop, Target, Width,
};
use std::collections::BTreeSet;

/// Process ids with tables of their own.
pub(crate) const PROCESSES: u32 = 4;
/// Pages of each kind that have an L3 entry programs edit.
pub(crate) const PAGES: u64 = 4;
/// Tables lie from here on, in VRAM and on the bus; nothing else does.
pub(crate) const TABLES: std::ops::Range<u64> = 8 << 20..16 << 20;

/// Words whose value counts, besides the L1 bank: all of the blocks that are
/// compared, and plain storage.
const WORDS: [u32; 48] = [
    0x8220, 0x8224, 0x8230, 0x8234, 0x8834, 0x88A0, 0x88A8, 0x8934, 0x89C4, 0x89F8, 0x34014,
    0x34018, 0x34714, 0x34718, 0x1000, 0x1004, 0x8504, 0x8508, 0x8524, 0x8548, 0x854C, 0x8574,
    0x8578, 0x85B4, 0x8850, 0x8AA0, 0xD370, 0xD374, 0x4900C, 0x49004, 0x49014, 0x49018, 0x4901C,
    0x49020, 0x49024, 0x49028, 0x49038, 0x4903C, 0x49040, 0x49044, 0x49048, 0x4904C, 0x49050,
    0x49054, 0x49058, 0x4905C, 0x49060, 0x49068,
];

/// The same of the command processor, as ranges.
const BLOCKS: [std::ops::RangeInclusive<u32>; 4] = [
    0x30000..=0x30088,
    0x300A4..=0x300B8,
    0x303B8..=0x303E4,
    0x30600..=0x30630,
];

/// Both GPUs in equal machines.
pub(crate) struct Pair {
    pub(crate) rig: Rig,
    pub(crate) naive: Naive,
    pub(crate) choices: Choices,
    pub(super) queues: Vec<Queue>,
    /// Tables and entries that programs edit.
    pub(crate) l2_tables: Vec<Target>,
    pub(crate) l3_tables: Vec<Target>,
    pub(crate) l3_entries: Vec<Target>,
}

/// Records that the model keeps of its faults.
const HISTORY: usize = 1024;

impl Pair {
    /// VA mode; every process has the buffers, four pages of VRAM and four of
    /// the machine's memory, process 0 the rings. Half of the tables lie in VRAM,
    /// half in the machine's memory, the last in snooped pages.
    pub(crate) fn new(choices: Choices) -> Self {
        let mut config = Config::new(Chip::Arise10c0, VRAM_BYTES, VRAM_BYTES, true).unwrap();
        config.mmu = choices.mmu;
        config.on_wait = choices.on_wait;
        config.vsync = choices.vsync;
        for (code, bytes) in super::draw::FORMATS {
            config.surface_formats.add(code, bytes).unwrap();
        }
        let mut rig = Rig::with_config(&config);
        rig.enter_va_mode();
        for at in RINGS[1..].iter().flat_map(|(_, at, bytes)| {
            let end = at + u64::from(*bytes);
            (*at..end).step_by(4096)
        }) {
            rig.map(0, at, vram(at));
        }
        let mut l3_entries = vec![];
        for n in 0..PAGES {
            rig.page(snooped(n * 4096));
        }
        for process in 0..PROCESSES {
            rig.tables_in_ram = match process {
                0 | 1 => None,
                2 => Some(Snoop::Unsnooped),
                _ => Some(Snoop::Snooped),
            };
            for n in 0..PAGES {
                let turned = n ^ u64::from(process);
                rig.map(process, BUFFERS_AT + n * 4096, vram(BUFFERS_AT + n * 4096));
                rig.map(
                    process,
                    SURFACES_AT + n * 4096,
                    vram(SURFACES_AT + turned * 4096),
                );
                let bus = if process % 2 == 0 { snooped } else { unsnooped };
                rig.map(process, VRAM_BYTES + n * 4096, bus(turned * 4096));
                l3_entries.push(rig.l3_entry_at(process, SURFACES_AT + n * 4096));
                l3_entries.push(rig.l3_entry_at(process, VRAM_BYTES + n * 4096));
            }
        }
        rig.enable_interrupts();
        let mut pair = Self {
            rig,
            naive: Naive::new(VRAM_BYTES, choices),
            choices,
            queues: vec![],
            l2_tables: vec![],
            l3_tables: vec![],
            l3_entries,
        };
        pair.copy_to_naive();
        pair.start_rings();
        for (buffer, n) in super::program::library().into_iter().zip(0..) {
            pair.poke(vram(BUFFERS_AT + 0x3000 + n * 0x100), &buffer);
        }
        pair
    }

    /// Puts the rig's memory and registers into the naive GPU, and notes the tables.
    fn copy_to_naive(&mut self) {
        for (at, bytes) in self.rig.vram_pages() {
            self.naive.vram.at(at).unwrap().copy_from_slice(&bytes);
        }
        for (at, bytes) in self.rig.ram.dump() {
            self.naive.ram.add_page(at);
            self.naive.ram.at(at).unwrap().copy_from_slice(&bytes);
        }
        for word in words() {
            let value = self.rig.reg(word);
            self.naive.write(word, 4, value.into());
        }
        for process in 0..PROCESSES {
            let l2 = table(self.rig.reg(TTBR + process * 1024));
            self.l2_tables.push(l2);
            for va in [SURFACES_AT, VRAM_BYTES] {
                let l3 = self.rig.load(plus(l2, (va >> 22) * 4));
                self.l3_tables.push(table(l3));
            }
        }
        self.rig.ram.take_touches();
    }

    pub(crate) fn set(&mut self, offset: u32, value: u32) {
        self.write(offset, Width::B4, value.into());
    }

    pub(crate) fn write(&mut self, offset: u32, width: Width, value: u64) {
        self.rig.gpu.write(offset, width, value);
        self.naive.write(offset, width.bytes(), value);
    }

    /// Writes memory as the CPU does.
    pub(crate) fn poke(&mut self, at: Target, dwords: &[u32]) {
        self.rig.put_dwords(at, dwords);
        match at {
            Target::Vram(at) => self.naive.vram.poke(at.0, dwords),
            Target::System(at, _) => self.naive.ram.poke(at.0, dwords),
        }
    }

    /// Runs both until they are idle; the model in slices of `budget`. `false`
    /// when the naive one cannot follow: the comparison is over.
    pub(crate) fn run(&mut self, budget: u32) -> bool {
        self.naive.run();
        if !self.naive.undescribed {
            // The naive one has given up long before.
            let idle = (0..100_000).any(|_| self.rig.gpu.step(budget) == Progress::Idle);
            assert!(idle, "the model is still busy where the naive one is done");
        }
        !self.naive.undescribed
    }

    /// Everything that can be seen, of the model and of the naive one.
    pub(crate) fn states(&mut self) -> [State; 2] {
        [self.model_state(), self.naive_state()]
    }

    fn model_state(&mut self) -> State {
        let touches = self.rig.ram.take_touches();
        State {
            registers: words().map(|word| (word, self.rig.reg(word))).collect(),
            vram: self.rig.vram_pages(),
            ram: self.rig.ram.dump(),
            raised: self.rig.line.raised(),
            pending: self.rig.gpu.interrupt_pending(),
            has_work: self.rig.gpu.has_work(),
            faults: self.rig.gpu.faults().map(fault).collect(),
            errors: self.rig.gpu.ring_errors().map(error).collect(),
            waits: self
                .rig
                .gpu
                .unmet_waits()
                .map(|wait| {
                    (
                        wait.ring.into(),
                        wait.offset,
                        wait.slot.into(),
                        wait.value.into(),
                        wait.equal,
                        wait.counter.into(),
                    )
                })
                .collect(),
            touches: touches
                .into_iter()
                .filter(|touch| !TABLES.contains(&touch.at))
                .map(|touch| {
                    let access = touch.access;
                    (
                        touch.at / 4096,
                        touch.write,
                        access.client as u32,
                        access.snoop == Snoop::Snooped,
                        access.non_secure,
                    )
                })
                .collect(),
        }
    }

    fn naive_state(&mut self) -> State {
        let naive = &mut self.naive;
        let mut vram = naive.vram.dump();
        vram.retain(|(_, bytes)| bytes.iter().any(|byte| *byte != 0));
        let read = |word| u32::try_from(naive.read(word, 4)).unwrap();
        State {
            registers: words().map(|word| (word, read(word))).collect(),
            vram,
            ram: naive.ram.dump(),
            raised: naive.raised,
            pending: naive.pending(),
            has_work: naive.works(),
            faults: naive.faults[naive.faults.len().saturating_sub(HISTORY)..].to_vec(),
            errors: naive.errors.clone(),
            waits: naive.waits.clone(),
            touches: std::mem::take(&mut naive.touches),
        }
    }
}

/// Everything that can be seen from outside.
#[derive(Debug, PartialEq)]
pub(crate) struct State {
    registers: Vec<(u32, u32)>,
    vram: Vec<(u64, Vec<u8>)>,
    ram: Vec<(u64, Vec<u8>)>,
    raised: usize,
    pending: bool,
    has_work: bool,
    faults: Vec<Fault>,
    errors: Vec<RingError>,
    waits: Vec<UnmetWait>,
    touches: BTreeSet<Touch>,
}

impl State {
    /// What is not the same in `naive`, in words; empty when nothing is.
    pub(crate) fn differences(&self, naive: &Self) -> Vec<String> {
        let mut found = vec![];
        for ((word, model), (_, naive)) in self.registers.iter().zip(&naive.registers) {
            if model != naive {
                found.push(format!("register {word:#x}: {model:#x}, naive {naive:#x}"));
            }
        }
        let mut note = |what: &str, model: &dyn std::fmt::Debug, naive: &dyn std::fmt::Debug| {
            let [model, naive] = [format!("{model:x?}"), format!("{naive:x?}")];
            if model != naive {
                found.push(format!("{what}: {model}, naive {naive}"));
            }
        };
        note("interrupts", &self.raised, &naive.raised);
        note("pending", &self.pending, &naive.pending);
        note("has_work", &self.has_work, &naive.has_work);
        note("ring errors", &self.errors, &naive.errors);
        note("waits", &self.waits, &naive.waits);
        let len = self.faults.len().max(naive.faults.len());
        if let Some(at) = (0..len).find(|n| self.faults.get(*n) != naive.faults.get(*n)) {
            note("faults", &self.faults.len(), &naive.faults.len());
            note("a fault", &self.faults.get(at), &naive.faults.get(at));
        }
        note("touched on the bus", &self.touches, &naive.touches);
        for (what, model, naive) in [
            ("VRAM", &self.vram, &naive.vram),
            ("RAM", &self.ram, &naive.ram),
        ] {
            let pages: Vec<_> = model
                .iter()
                .chain(naive)
                .filter(|page| !(model.contains(page) && naive.contains(page)))
                .map(|(at, _)| format!("{at:#x}"))
                .collect();
            if !pages.is_empty() {
                found.push(format!("{what} pages {pages:?}"));
            }
        }
        found
    }
}

fn words() -> impl Iterator<Item = u32> {
    let banks = (0..PROCESSES * 256).map(|index| TTBR + index * 4);
    let blocks = BLOCKS.into_iter().flat_map(|block| block.step_by(4));
    WORDS.into_iter().chain(blocks).chain(banks)
}

/// Where an entry of L1 or L2 leads.
fn table(entry: u32) -> Target {
    let at = u64::from(entry >> 4 & 0xff_ffff) << 12;
    match entry & (LOCAL | crate::tables::SNOOP) {
        0 => unsnooped(at),
        LOCAL => vram(at),
        _ => snooped(at),
    }
}

fn fault(record: &FaultRecord) -> Fault {
    Fault {
        client: record.client as u32,
        write: record.write,
        process: record.process_id,
        va: record.va.0,
        cause: record.cause,
        level: record.level.into(),
        ring: record.ring.into(),
        ring_offset: record.ring_offset,
    }
}

fn error(error: &CspError) -> RingError {
    RingError {
        ring: error.ring.into(),
        offset: error.offset,
        in_buffer: error.in_buffer,
        header: error.dword,
        why: match error.kind {
            CspErrorKind::BadRing { .. } => Why::BadRing,
            CspErrorKind::FetchFault => Why::FetchFault,
            CspErrorKind::UnknownOpcode => Why::UnknownOpcode,
            CspErrorKind::Truncated { needed, available } => Why::Truncated { needed, available },
            CspErrorKind::Malformed { .. } => Why::Malformed,
            CspErrorKind::Disabled => Why::Disabled,
            CspErrorKind::Unsupported { .. } => Why::Unsupported,
            CspErrorKind::UnmetWait { .. } => Why::UnmetWait,
        },
    }
}
