//! What the fuzz targets do with their bytes. Nothing may panic, and every
//! run must end. The corpora are replayed by a test of the device crate.

use presil_device::{
    BusAddr, BusError, Chip, Config, DmaAccess, Gpu, NoInterrupts, SystemMemory, VramOffset, Width,
};
use std::sync::{Arc, Mutex};

/// Steps after which an input has had its turn: rings may be endless.
const STEPS: usize = 64;
const BUDGET: u32 = 1 << 14;
/// The first registers of ring 0, and of a video ring and the post-processor's.
const RING_0: u32 = 0x3001C;
const OTHER_RINGS: [u32; 2] = [0x30600, 0x30620];
const RING_AT: u64 = 1 << 20;
const RING_BYTES: usize = 1 << 16;

/// The machine's memory: 16 pages.
#[derive(Clone)]
struct Ram(Arc<Mutex<Vec<u8>>>);

impl Ram {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(vec![0; 16 * 4096])))
    }

    fn with<T>(
        &self,
        at: BusAddr,
        len: usize,
        f: impl FnOnce(&mut [u8]) -> T,
    ) -> Result<T, BusError> {
        let start = usize::try_from(at.0).map_err(|_| BusError)?;
        let mut bytes = self.0.lock().map_err(|_| BusError)?;
        let end = start.checked_add(len).ok_or(BusError)?;
        bytes.get_mut(start..end).map(f).ok_or(BusError)
    }
}

impl SystemMemory for Ram {
    fn read(&self, at: BusAddr, buf: &mut [u8], _: DmaAccess) -> Result<(), BusError> {
        self.with(at, buf.len(), |bytes| buf.copy_from_slice(bytes))
    }

    fn write(&self, at: BusAddr, buf: &[u8], _: DmaAccess) -> Result<(), BusError> {
        self.with(at, buf.len(), |bytes| bytes.copy_from_slice(buf))
    }

    fn load_u32(&self, at: BusAddr, _: DmaAccess) -> Result<u32, BusError> {
        let mut word = [0; 4];
        self.with(at, 4, |bytes| word.copy_from_slice(bytes))?;
        Ok(u32::from_le_bytes(word))
    }

    fn store_u64(&self, at: BusAddr, value: u64, _: DmaAccess) -> Result<(), BusError> {
        self.with(at, 8, |bytes| bytes.copy_from_slice(&value.to_le_bytes()))
    }
}

/// Saved states: the bytes are one without its checksum. What comes of it runs.
pub fn states(data: &[u8]) {
    let state = [data, &crc32fast::hash(data).to_le_bytes()].concat();
    let Ok(mut gpu) = Gpu::restore(Box::new(NoInterrupts), &mut &*state) else {
        return;
    };
    gpu.set_memory(Box::new(Ram::new()));
    run(&mut gpu);
    gpu.reset();
    submit(&mut gpu, &[0; 64]);
    run(&mut gpu);
}

/// A GPU of 256 MiB in a small machine, its ring set up by the reference (10.1).
fn gpu() -> (Gpu, Ram) {
    let mut config =
        Config::new(Chip::Arise10c0, 256 << 20, 256 << 20, true).expect("a legal size");
    for (code, bytes) in [(90, 1), (91, 2), (92, 8), (93, 16)] {
        config.surface_formats.add(code, bytes).expect("a format");
    }
    let mut gpu = Gpu::new(&config, Box::new(NoInterrupts)).expect("VRAM");
    let ram = Ram::new();
    gpu.set_memory(Box::new(ram.clone()));
    start(&mut gpu, RING_0);
    (gpu, ram)
}

/// Lets a ring begin, by its first register.
fn start(gpu: &mut Gpu, ring: u32) {
    set(gpu, ring, (RING_AT >> 12) as u32);
    set(gpu, ring + 4, RING_BYTES as u32);
    set(gpu, ring, (RING_AT >> 12) as u32 | 1 << 31);
}

fn set(gpu: &mut Gpu, offset: u32, value: u32) {
    gpu.write(offset, Width::B4, value.into());
}

fn run(gpu: &mut Gpu) {
    for _ in 0..STEPS {
        gpu.step(BUDGET);
    }
}

/// Register traffic: records of an operation, a width, an offset and a value.
pub fn registers(data: &[u8]) {
    let (mut gpu, _) = gpu();
    for record in data.as_chunks::<14>().0 {
        let [op, width, o0, o1, o2, o3, value @ ..] = *record;
        let offset = u32::from_le_bytes([o0, o1, o2, o3]) % (BAR0_BYTES + 16);
        let width = Width::from_bytes(1 << (width % 4)).unwrap_or(Width::B4);
        match op % 8 {
            0 | 1 => drop(gpu.read(offset, width)),
            2..=5 => gpu.write(offset, width, u64::from_le_bytes(value)),
            6 => drop(gpu.step(BUDGET)),
            _ if value[0] == 0 => gpu.reset(),
            _ => drop(gpu.latch_interrupts()),
        }
    }
    run(&mut gpu);
}

const BAR0_BYTES: u32 = 1 << 20;

/// Ring memory: the bytes are packets in one ring of each kind.
pub fn ring(data: &[u8]) {
    let (mut gpu, _) = gpu();
    submit(&mut gpu, data);
    let tail = gpu.read(RING_0 + 12, Width::B4) as u32;
    for ring in OTHER_RINGS {
        start(&mut gpu, ring);
        set(&mut gpu, ring + 12, tail);
    }
    run(&mut gpu);
}

/// Page tables: the bytes are L1 registers and the first pages of both
/// memories, which tables may lie in; a ring then uses them.
pub fn tables(data: &[u8]) {
    let (mut gpu, ram) = gpu();
    let (registers, rest) = data.split_at(data.len().min(16));
    for (value, process) in registers.as_chunks().0.iter().zip(0..) {
        set(
            &mut gpu,
            0x50000 + process * 0x400,
            u32::from_le_bytes(*value),
        );
    }
    let (local, bus) = rest.split_at(rest.len() / 2);
    let local = &local[..local.len().min(16 * 4096)];
    let _inside = gpu.vram().write(VramOffset(0), local);
    if let Ok(mut bytes) = ram.0.lock() {
        let len = bus.len().min(bytes.len());
        bytes[..len].copy_from_slice(&bus[..len]);
    }
    // Fences as every process in turn; from PA mode, where the ring needs no table.
    for va_mode in [0, 1] {
        let mut packets: Vec<u32> = vec![];
        for at in 0..16_u32 {
            packets.extend([0x8000_0064, at << 12 | at << 22, 0, at, at]);
            packets.extend([0x8000_0064, at << 12, 1, at, at]);
        }
        let bytes: Vec<u8> = packets
            .iter()
            .flat_map(|dword| dword.to_le_bytes())
            .collect();
        set(&mut gpu, 0x49004, va_mode);
        submit(&mut gpu, &bytes);
        run(&mut gpu);
    }
    for process in 0..4 {
        for page in 0..64 {
            gpu.walk(process, presil_device::GpuVa(page << 12 | page << 22));
        }
    }
}

fn submit(gpu: &mut Gpu, packets: &[u8]) {
    let len = packets.len().min(RING_BYTES - 4) & !3;
    let _inside = gpu.vram().write(VramOffset(RING_AT), &packets[..len]);
    set(gpu, RING_0 + 8, 0);
    set(gpu, RING_0 + 12, len as u32);
}
