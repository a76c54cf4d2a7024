//! A GPU in a machine, with a ring to submit to.

use crate::machine::{Line, Ram};
use crate::tables::{plus, vram};
use e3k_regs::packet::Writer;
use presil_device::{
    Chip, Config, CspErrorKind, Defects, Gpu, GpuVa, MmuOptions, Progress, RestoreError, Target,
    VramOffset, Width,
};
use rustix::fs::{SeekFrom, seek};

// Typed from hardware reference 4.2, 4.6, 6, 7.1, 9.1, 9.2 and 10.1.
pub(crate) const BIU_RAW: u32 = 0x8504;
pub(crate) const BIU_ENABLE: u32 = 0x8508;
pub(crate) const ENGINE_RESET: u32 = 0x8524;
pub(crate) const ADVANCED_RAW: u32 = 0x8548;
pub(crate) const ADVANCED_ENABLE: u32 = 0x854C;
pub(crate) const BIU_SHADOW: u32 = 0x8574;
pub(crate) const ADVANCED_SHADOW: u32 = 0x8578;
pub(crate) const GATE: u32 = 0x8AA0;
pub(crate) const TOP_BUSY: u32 = 0x30000;
pub(crate) const RING_ADDRESS: u32 = 0x3001C;
pub(crate) const RING_SIZE: u32 = 0x30020;
pub(crate) const HEAD: u32 = 0x30024;
pub(crate) const TAIL: u32 = 0x30028;
pub(crate) const MMU_MODE: u32 = 0x49004;
pub(crate) const TTBR: u32 = 0x50000;

pub(crate) const KICKOFF: u32 = 1 << 31;
pub(crate) const PAGE_FAULT: u32 = 1 << 5;
pub(crate) const MASTER_ABORT: u32 = 1 << 10;
pub(crate) const CSP_TIMEOUT: u32 = 1 << 16;
pub(crate) const FENCE: u32 = 1 << 27;

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const VRAM_BYTES: u64 = 256 * MIB;
/// Where [`Rig::new`] puts its ring, in VRAM and in GPU address space.
pub(crate) const RING_AT: u64 = MIB;
pub(crate) const RING_BYTES: u32 = 0x1_0000;
/// Room in VRAM for called buffers.
pub(crate) const BUFFERS_AT: u64 = 2 * MIB;
/// Tables grow from here, in VRAM and on the bus.
const TABLES_AT: u64 = 8 * MIB;
/// Room in VRAM for surfaces.
pub(crate) const SURFACES_AT: u64 = 16 * MIB;

/// Two pages of VRAM.
pub(crate) const PAGE_A: Target = Target::Vram(VramOffset(SURFACES_AT));
pub(crate) const PAGE_B: Target = Target::Vram(VramOffset(SURFACES_AT + MIB));

/// More steps than any work in these tests takes.
const PATIENCE: usize = 1_000_000;

/// A GPU of 256 MiB VRAM, all visible, in PA mode, its ring in VRAM and running.
pub(crate) struct Rig {
    pub(crate) gpu: Gpu,
    pub(crate) ram: Ram,
    pub(crate) line: Line,
    /// New tables go to the machine's memory, with this attribute.
    pub(crate) tables_in_ram: Option<presil_device::Snoop>,
    tables: u64,
    tail: u32,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with_defects(Defects::default())
    }

    pub(crate) fn with_defects(defects: Defects) -> Self {
        let mut config = Config::new(Chip::Arise10c0, VRAM_BYTES, VRAM_BYTES, true).unwrap();
        config.defects = defects;
        Self::with_config(&config)
    }

    pub(crate) fn with_mmu(mmu: MmuOptions) -> Self {
        let mut config = Config::new(Chip::Arise10c0, VRAM_BYTES, VRAM_BYTES, true).unwrap();
        config.mmu = mmu;
        Self::with_config(&config)
    }

    pub(crate) fn with_config(config: &Config) -> Self {
        let (ram, line) = (Ram::default(), Line::default());
        let mut gpu = Gpu::new(config, Box::new(line.clone())).unwrap();
        gpu.set_memory(Box::new(ram.clone()));
        let mut rig = Self {
            gpu,
            ram,
            line,
            tables_in_ram: None,
            tables: TABLES_AT,
            tail: 0,
        };
        rig.start_ring();
        rig
    }

    /// A second machine with the same memory, and in it the GPU of a saved state.
    pub(crate) fn restored(&self, state: &[u8]) -> Result<Self, RestoreError> {
        let (ram, line) = (self.ram.duplicate(), Line::default());
        let mut gpu = Gpu::restore(Box::new(line.clone()), &mut &*state)?;
        gpu.set_memory(Box::new(ram.clone()));
        Ok(Self {
            gpu,
            ram,
            line,
            ..*self
        })
    }

    /// VA mode, with the ring mapped at its old address for process id 0.
    pub(crate) fn in_va_mode() -> Self {
        let mut rig = Self::new();
        rig.enter_va_mode();
        rig
    }

    pub(crate) fn enter_va_mode(&mut self) {
        for page in 0..u64::from(RING_BYTES) / 4096 {
            let at = RING_AT + page * 4096;
            self.map(0, at, vram(at));
        }
        self.set(MMU_MODE, 1);
    }

    /// Programs the ring registers (hardware reference 10.1, "Set-up").
    pub(crate) fn start_ring(&mut self) {
        let page = u32::try_from(RING_AT >> 12).unwrap();
        self.set(RING_ADDRESS, page);
        self.set(RING_SIZE, RING_BYTES);
        self.set(HEAD, 0);
        self.set(TAIL, 0);
        self.set(RING_ADDRESS, page | KICKOFF);
        self.tail = 0;
    }

    /// The driver's recovery (hardware reference 9.1): engines reset, ring set up anew.
    pub(crate) fn recover(&mut self) {
        self.set(ENGINE_RESET, 0x1FC);
        self.set(ENGINE_RESET, 0);
        self.start_ring();
    }

    pub(crate) fn reg(&mut self, offset: u32) -> u32 {
        u32::try_from(self.gpu.read(offset, Width::B4)).unwrap()
    }

    pub(crate) fn set(&mut self, offset: u32, value: u32) {
        self.gpu.write(offset, Width::B4, value.into());
    }

    /// Every interrupt source on, the gate open.
    pub(crate) fn enable_interrupts(&mut self) {
        self.set(BIU_ENABLE, u32::MAX);
        self.set(ADVANCED_ENABLE, u32::MAX);
        self.gpu.write(GATE, Width::B1, 1);
    }

    /// Writes packets to the ring and moves Tail past them, by the wrap rule
    /// of hardware reference 10.1.
    pub(crate) fn queue(&mut self, build: impl FnOnce(&mut Writer<'_>)) {
        let dwords = packets(build);
        let bytes = u32::try_from(dwords.len() * 4).unwrap();
        if self.tail + bytes >= RING_BYTES {
            let rest = (RING_BYTES - self.tail) as usize;
            self.put(vram(RING_AT + u64::from(self.tail)), &vec![0; rest]);
            self.tail = 0;
        }
        self.put_dwords(vram(RING_AT + u64::from(self.tail)), &dwords);
        self.tail += bytes;
        self.set(TAIL, self.tail);
    }

    /// Queues and runs to the end.
    pub(crate) fn submit(&mut self, build: impl FnOnce(&mut Writer<'_>)) {
        self.queue(build);
        self.run();
    }

    /// Steps until the GPU is idle; fails if it never is.
    pub(crate) fn run(&mut self) {
        for _ in 0..PATIENCE {
            if self.gpu.step(1 << 16) == Progress::Idle {
                assert!(!self.gpu.has_work());
                return;
            }
        }
        panic!("still busy after {PATIENCE} steps");
    }

    /// Writes packets to memory; returns how many dwords.
    pub(crate) fn buffer(&mut self, at: Target, build: impl FnOnce(&mut Writer<'_>)) -> u16 {
        let dwords = packets(build);
        self.put_dwords(at, &dwords);
        u16::try_from(dwords.len()).unwrap()
    }

    /// Kinds of the ring errors so far.
    pub(crate) fn errors(&self) -> Vec<CspErrorKind> {
        self.gpu
            .ring_errors()
            .map(|error| error.kind.clone())
            .collect()
    }

    /// Fails unless nothing has gone wrong so far.
    pub(crate) fn assert_clean(&self) {
        assert_eq!(self.errors(), []);
        assert_eq!(self.gpu.faults().collect::<Vec<_>>(), Vec::<&_>::new());
    }

    pub(crate) fn put(&self, at: Target, data: &[u8]) {
        match at {
            Target::Vram(at) => self.gpu.vram().write(at, data).unwrap(),
            Target::System(at, _) => self.ram.poke(at.0, data),
        }
    }

    pub(crate) fn put_dwords(&self, at: Target, dwords: &[u32]) {
        let bytes: Vec<u8> = dwords
            .iter()
            .flat_map(|dword| dword.to_le_bytes())
            .collect();
        self.put(at, &bytes);
    }

    /// The pages of VRAM that are not all zeros.
    pub(crate) fn vram_pages(&self) -> Vec<(u64, Vec<u8>)> {
        let file = self.gpu.vram().file();
        let mut pages = vec![];
        let mut end = 0;
        while let Ok(start) = seek(file, SeekFrom::Data(end)) {
            end = seek(file, SeekFrom::Hole(start)).unwrap();
            pages.extend(
                (start..end)
                    .step_by(4096)
                    .map(|at| (at, self.get(vram(at), 4096))),
            );
        }
        pages.retain(|(_, bytes)| bytes.iter().any(|byte| *byte != 0));
        pages
    }

    pub(crate) fn get(&self, at: Target, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        match at {
            Target::Vram(at) => self.gpu.vram().read(at, &mut data).unwrap(),
            Target::System(at, _) => self.ram.peek(at.0, &mut data),
        }
        data
    }

    pub(crate) fn store(&self, at: Target, value: u32) {
        self.put_dwords(at, &[value]);
    }

    pub(crate) fn load(&self, at: Target) -> u32 {
        u32::from_le_bytes(self.get(at, 4).try_into().unwrap())
    }

    pub(crate) fn load_u64(&self, at: Target) -> u64 {
        u64::from_le_bytes(self.get(at, 8).try_into().unwrap())
    }

    /// A zeroed page for a table, where [`Self::tables_in_ram`] says.
    pub(crate) fn new_table(&mut self) -> Target {
        let at = self.tables;
        self.tables += 4096;
        match self.tables_in_ram {
            Some(snoop) => {
                self.ram.add_page(at);
                Target::System(presil_device::BusAddr(at), snoop)
            }
            None => vram(at),
        }
    }

    /// A zeroed page of the machine's memory as a target.
    pub(crate) fn page(&self, target: Target) -> Target {
        if let Target::System(at, _) = target {
            self.ram.add_page(at.0);
        }
        target
    }
}

/// Packets as dwords.
pub(crate) fn packets(build: impl FnOnce(&mut Writer<'_>)) -> Vec<u32> {
    let mut dwords = vec![0; RING_BYTES as usize / 4];
    let mut writer = Writer::new(&mut dwords);
    build(&mut writer);
    let len = writer.len();
    assert!(len < dwords.len(), "{len} dwords do not fit in a ring");
    dwords.truncate(len);
    dwords
}

/// Writes `value` at `va` (a multiple of 256) as process `process_id`.
pub(crate) fn write_as(rig: &mut Rig, process_id: u8, va: u64, value: u32) {
    rig.submit(|w| {
        w.indicator(3, process_id);
        fill(w, va, 1, 1, value);
        w.indicator(0, 0);
    });
}

/// Appends dwords that the writer has no packet for.
pub(crate) fn push_all(w: &mut Writer<'_>, dwords: &[u32]) {
    for dword in dwords {
        w.push(*dword);
    }
}

/// Copies `width` x `height` pixels of 4 bytes (hardware reference 10.12).
pub(crate) fn copy(w: &mut Writer<'_>, from: u64, to: u64, width: u16, height: u16) {
    w.surface(0, GpuVa(to), width, height);
    w.surface(1, GpuVa(from), width, height);
    w.blit(width, height);
}

/// Fills `width` x `height` pixels of 4 bytes (hardware reference 10.13).
pub(crate) fn fill(w: &mut Writer<'_>, to: u64, width: u16, height: u16, pattern: u32) {
    w.surface(0, GpuVa(to), width, height);
    w.clear(width, height, pattern);
}

/// Bytes that differ from place to place and from seed to seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    (0..(len as u64).div_ceil(8))
        .flat_map(|word| presil_device::Vram::pattern(seed, word * 8).to_le_bytes())
        .take(len)
        .collect()
}

/// A page apart from others of the same kind.
pub(crate) fn nth_page(base: Target, n: u64) -> Target {
    plus(base, n * 4096)
}
