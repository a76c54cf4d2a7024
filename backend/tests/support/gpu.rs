//! What a driver does with the GPU: register accesses, tables, ring 0.

use e3k_regs::fields::{AdvancedInterrupts, BiuInterrupts, MmuMode, RingAddress, RingWord};
use e3k_regs::packet::Writer;
use e3k_regs::pte::{L2Entry, L3Entry, Ttbr};
use e3k_regs::{GpuVa, Reg};

use super::guest::{DATA, readable, writable};
use super::qemu::{Map, Qemu};

const RESULTS: u64 = DATA + 0x8_0000;

/// Layout of VRAM in these tests.
pub const RING_AT: u64 = 0;
const L2_AT: u64 = 0x4_0000;
const L3_AT: u64 = 0x4_1000;
pub const RING_BYTES: u32 = 0x4_0000;
/// GPU address of guest-physical address 0: the second L2 entry.
pub const RAM_VA: u64 = 1 << 22;

/// An operation of a request.
pub fn operation(op: u8, width: u8, offset: u32, value: u64) -> [u8; 16] {
    let mut raw = [0; 16];
    raw[0] = op;
    raw[1] = width;
    raw[4..8].copy_from_slice(&offset.to_le_bytes());
    raw[8..].copy_from_slice(&value.to_le_bytes());
    raw
}

/// Sends a request; (value, status) of each result.
pub fn request(qemu: &mut Qemu, operations: &[[u8; 16]]) -> Vec<(u64, u32)> {
    let bytes = u32::try_from(16 * operations.len()).unwrap();
    qemu.guest.write(DATA, &operations.concat());
    let used = qemu.exchange(0, &[readable(DATA, bytes), writable(RESULTS, bytes)]);
    let raw = qemu.guest.read(RESULTS, used as usize);
    raw.chunks_exact(16)
        .map(|r| {
            let value = u64::from_le_bytes(r[..8].try_into().unwrap());
            (value, u32::from_le_bytes(r[8..12].try_into().unwrap()))
        })
        .collect()
}

pub fn read(qemu: &mut Qemu, offset: u32) -> u32 {
    let results = request(qemu, &[operation(1, 4, offset, 0)]);
    assert_eq!(results.len(), 1);
    assert_eq!(results[0].1, 0, "status of reading {offset:#x}");
    u32::try_from(results[0].0).unwrap()
}

pub fn write(qemu: &mut Qemu, offset: u32, value: u32) {
    let results = request(qemu, &[operation(2, 4, offset, value.into())]);
    assert_eq!(results, [(0, 0)], "writing {offset:#x}");
}

/// Page tables at their places in VRAM: 4 MiB of VRAM at 0 and 4 MiB of guest
/// RAM at [`RAM_VA`].
pub fn tables() -> Vec<(u64, Vec<u8>)> {
    let l2 = L2Entry::new().with_valid(true).with_segment(true);
    let tables = [l2.with_page(page(L3_AT)), l2.with_page(page(L3_AT) + 1)];
    let l2 = tables
        .iter()
        .flat_map(|entry| entry.into_bits().to_le_bytes());
    let l3 = |segment| {
        let entries = (0..1024).flat_map(move |number| {
            let entry = L3Entry::new().with_valid(true).with_snoop(true);
            let entry = entry.with_segment(segment).with_page(number);
            entry.into_bits().to_le_bytes()
        });
        entries.collect()
    };
    vec![
        (L2_AT, l2.collect()),
        (L3_AT, l3(true)),
        (L3_AT + 0x1000, l3(false)),
    ]
}

/// GPU address of a page where no memory answers, once [`unanswered`] is in VRAM.
pub const UNANSWERED_VA: GpuVa = GpuVa(RAM_VA + 1023 * 0x1000);

/// Where in VRAM the table entry of [`UNANSWERED_VA`] is, and what it is to be.
pub fn unanswered() -> (u64, [u8; 4]) {
    let entry = L3Entry::new().with_valid(true).with_snoop(true);
    let entry = entry.with_page(page(0xF_0000_0000));
    (L3_AT + 0x1000 + 1023 * 4, entry.into_bits().to_le_bytes())
}

/// Enables the sources that a driver wants of errors; call after [`set_up`].
pub fn error_sources() -> (u32, u32) {
    let errors = BiuInterrupts::new()
        .with_page_fault(true)
        .with_master_abort(true);
    (Reg::BiuEnable.offset(), errors.into_bits())
}

/// What tells of an access that no memory answered.
pub fn bus_error_bit() -> u32 {
    BiuInterrupts::new().with_master_abort(true).into_bits()
}

/// A job with a bus error if it is `bad`, its fence, and some more work, so that
/// the fence can be seen while the GPU is still at it.
pub fn job(writer: &mut Writer<'_>, bad: bool, at: u64, value: u64) {
    if bad {
        writer.surface(0, UNANSWERED_VA, 16, 1);
        writer.clear(16, 1, 1);
    }
    fence(writer, at, value, true);
    writer.surface(0, GpuVa(0x10_0000), 16384, 4);
    writer.clear(16384, 4, 0x1234_5678);
}

/// Registers of VA mode with [`tables`], fence interrupts, and ring 0 at the
/// beginning of VRAM.
pub fn set_up() -> [(u32, u32); 8] {
    let l1 = Ttbr::new().with_valid(true).with_segment(true);
    let mode = MmuMode::new().with_va_mode(true).with_video_size(3);
    let fence = AdvancedInterrupts::new().with_fence(true);
    let kickoff = RingAddress::new().with_kickoff(true);
    [
        (Reg::Ttbr.offset(), l1.with_page(page(L2_AT)).into_bits()),
        (Reg::MmuMode.offset(), mode.into_bits()),
        (Reg::AdvancedEnable.offset(), fence.into_bits()),
        (Reg::AdapterControl.offset(), 1),
        (RingWord::Size.offset(0), RING_BYTES),
        (RingWord::Head.offset(0), 0),
        (RingWord::Tail.offset(0), 0),
        (RingWord::Address.offset(0), kickoff.into_bits()),
    ]
}

fn page(at: u64) -> u32 {
    u32::try_from(at >> 12).unwrap()
}

/// Both.
pub fn bring_up(qemu: &mut Qemu, vram: &Map) {
    for (at, bytes) in tables() {
        vram.write(at, &bytes);
    }
    for (offset, value) in set_up() {
        write(qemu, offset, value);
    }
}

/// What `build` writes.
pub fn packets(build: impl Fn(&mut Writer<'_>)) -> Vec<u8> {
    let mut buffer = vec![0; (RING_BYTES / 4) as usize];
    let mut writer = Writer::new(&mut buffer);
    build(&mut writer);
    let dwords = writer.len();
    let bytes = buffer[..dwords]
        .iter()
        .flat_map(|dword| dword.to_le_bytes());
    bytes.collect()
}

/// Appends to ring 0 what `build` writes, and rings the doorbell.
pub fn submit(qemu: &mut Qemu, vram: &Map, build: impl Fn(&mut Writer<'_>)) {
    let tail = read(qemu, RingWord::Tail.offset(0));
    let raw = packets(build);
    vram.write(RING_AT + u64::from(tail), &raw);
    let end = tail + u32::try_from(raw.len()).unwrap();
    assert!(end < RING_BYTES, "these tests do not wrap");
    write(qemu, RingWord::Tail.offset(0), end);
}

/// A fence to guest-physical address `at`.
pub fn fence(writer: &mut Writer<'_>, at: u64, value: u64, interrupt: bool) {
    writer.fence(GpuVa(RAM_VA + at), value, interrupt);
}

/// Submits one fence with an interrupt.
pub fn submit_fence(qemu: &mut Qemu, vram: &Map, at: u64, value: u64) {
    submit(qemu, vram, |writer| fence(writer, at, value, true));
}

/// The event in the buffer at `at`: (0x8574, 0x8578, sequence).
pub fn event(qemu: &Qemu, at: u64) -> (u32, u32, u64) {
    let raw = qemu.guest.read(at, 16);
    let word = |at: usize| u32::from_le_bytes(raw[at..at + 4].try_into().unwrap());
    (
        word(0),
        word(4),
        u64::from_le_bytes(raw[8..].try_into().unwrap()),
    )
}

/// Value of the last fence of [`submit_long_work`].
pub const LONG_WORK_ENDS: u64 = 1000;

/// Submits fills of VRAM, 64 KiB each, a counting fence at `at` after each,
/// and an interrupt after the last: tens of milliseconds of work.
pub fn submit_long_work(qemu: &mut Qemu, vram: &Map, at: u64) {
    submit(qemu, vram, |writer| {
        for value in 1..=LONG_WORK_ENDS {
            writer.surface(0, GpuVa(0x10_0000), 16384, 1);
            writer.clear(16384, 1, 0x1234_5678);
            fence(writer, at, value, value == LONG_WORK_ENDS);
        }
    });
}
