//! Random programs: register traffic, memory contents, packets and steps, from
//! plain nonsense to packets whose every field is chosen.

use crate::rig::{
    BUFFERS_AT, ENGINE_RESET, KICKOFF, MIB, MMU_MODE, RING_ADDRESS, RING_AT, Rig, SURFACES_AT,
    TTBR, VRAM_BYTES, push_all,
};
use crate::tables::{snooped, vram};
use presil_device::{GpuVa, MmuOptions, VramOffset, Width};
use proptest::prelude::*;

/// Tables that every program starts with, and may overwrite.
const TABLES_AT: u64 = 8 * MIB;

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Read(u32, Width),
    Write(u32, Width, u64),
    /// Dwords into VRAM, as the CPU writes them.
    Poke(u64, Vec<u32>),
    /// Packets at the ring's tail.
    Queue(Vec<u32>),
    /// Packets in a buffer, called from the ring.
    Call(Vec<u32>),
    Step(u32),
    Latch,
    Recover,
    Reset,
}

/// A GPU whose process ids 0 to 3 have a few pages of every kind.
pub(crate) fn rig() -> Rig {
    rig_with(MmuOptions::default())
}

/// The same with other choices about the MMU.
pub(crate) fn rig_with(mmu: MmuOptions) -> Rig {
    let mut rig = Rig::with_mmu(mmu);
    rig.enter_va_mode();
    rig.enable_interrupts();
    for process_id in 0..4 {
        for n in 0..4 {
            let at = BUFFERS_AT + n * 4096;
            rig.map(process_id, at, vram(at));
            rig.map(
                process_id,
                SURFACES_AT + n * 4096,
                vram(SURFACES_AT + (n ^ u64::from(process_id)) * 4096),
            );
            rig.page(snooped(n * 4096));
            rig.map(process_id, VRAM_BYTES + n * 4096, snooped(n * 4096));
        }
        rig.map(process_id, VRAM_BYTES + 4 * 4096, snooped(0x7777_7000));
    }
    rig
}

impl Op {
    pub(crate) fn run(&self, rig: &mut Rig) {
        match self {
            Self::Read(offset, width) => {
                rig.gpu.read(*offset, *width);
            }
            Self::Write(offset, width, value) => rig.gpu.write(*offset, *width, *value),
            Self::Poke(at, dwords) => {
                for (dword, at) in dwords.iter().zip((*at & !3..).step_by(4)) {
                    let _beyond_the_end = rig.gpu.vram().store_u32(VramOffset(at), *dword);
                }
            }
            Self::Queue(dwords) => rig.queue(|w| push_all(w, dwords)),
            Self::Call(dwords) => {
                rig.put_dwords(vram(BUFFERS_AT), dwords);
                let len = u16::try_from(dwords.len()).unwrap();
                rig.queue(|w| w.dma(GpuVa(BUFFERS_AT), len));
            }
            Self::Step(budget) => {
                rig.gpu.step(*budget);
            }
            Self::Latch => {
                rig.gpu.latch_interrupts();
            }
            Self::Recover => rig.recover(),
            Self::Reset => rig.gpu.reset(),
        }
    }
}

/// Addresses where something is, and some where nothing is.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (0..0x100_u64).prop_map(|n| RING_AT + n * 4),
        4 => (0..0x40_u64).prop_map(|n| BUFFERS_AT + n * 256),
        8 => (0..0x50_u64).prop_map(|n| SURFACES_AT + n * 256),
        4 => (0..0x1000_u64).prop_map(|n| TABLES_AT + n * 4),
        8 => (0..0x60_u64).prop_map(|n| VRAM_BYTES - 0x1000 + n * 256),
        1 => (0..0x20_u64).prop_map(|n| (1 << 40) - 0x1000 + n * 256),
        1 => any::<u64>().prop_map(|n| n >> 24),
    ]
}

fn low(at: u64) -> u32 {
    GpuVa(at).low()
}

/// Dwords that look like table entries, addresses, small counts, or nothing.
fn dword() -> impl Strategy<Value = u32> {
    prop_oneof![
        2 => any::<u32>(),
        2 => 0..64_u32,
        3 => address().prop_map(low),
        4 => (address(), 0..16_u32).prop_map(|(at, bits)| low(at >> 12) << 4 | bits | 1),
        1 => (address(), any::<bool>())
            .prop_map(|(at, kick)| low(at >> 12) | if kick { KICKOFF } else { 0 }),
    ]
}

fn offset() -> impl Strategy<Value = u32> {
    let word = prop_oneof![
        4 => (0..4_u32).prop_map(|word| RING_ADDRESS + word * 4),
        2 => (0..0x20_u32).prop_map(|word| 0x8500 + word * 4),
        1 => Just(ENGINE_RESET),
        1 => Just(MMU_MODE),
        4 => (0..0x20_u32).prop_map(|word| 0x49000 + word * 4),
        3 => (0..1024_u32).prop_map(|word| TTBR + word * 4),
        1 => Just(0x8AA0),
        1 => (0..0x40_u32).prop_map(|word| 0x30000 + word * 4),
        2 => 0..0x10_0010_u32,
        1 => any::<u32>(),
    ];
    (word, prop_oneof![4 => Just(0), 1 => 0..4_u32])
        .prop_map(|(word, lane)| word.wrapping_add(lane))
}

fn width() -> impl Strategy<Value = Width> {
    prop_oneof![
        1 => Just(Width::B1), 1 => Just(Width::B2), 4 => Just(Width::B4), 1 => Just(Width::B8),
    ]
}

fn surface_dwords(rt: u32, at: u64, width: u32, height: u32) -> Vec<u32> {
    let set = |word: u32| 4 << 28 | 6 << 23 | word << 10 | 3;
    vec![
        set(0x18 + 3 * rt),
        low(at >> 8),
        1,
        1,
        set(0x30 + 3 * rt),
        89,
        width | height << 15,
        1 | 0xf << 2 | 2 << 20,
    ]
}

/// A blit or clear with both surfaces; nearly all are possible.
fn drawing() -> impl Strategy<Value = Vec<u32>> {
    let action = prop_oneof![16 => 1..3_u32, 1 => 0..8_u32];
    let more = prop_oneof![16 => Just(0_u32), 1 => 0..3_u32];
    let sizes = (1..2000_u32, 1..12_u32, 0..100_u32, 0..8_u32);
    (address(), address(), action, sizes, any::<[u32; 4]>(), more).prop_map(
        |(to, from, action, (width, height, dx, dy), corners, more)| {
            let span = |a: u32, b: u32, end: u32| {
                (a % end).min(b % end) | ((a % end).max(b % end) + more) << 16
            };
            let mut dwords = surface_dwords(0, to, width, height);
            dwords.extend(surface_dwords(1, from, width + dx, height + dy));
            // A clear has no source.
            dwords.extend([4 << 28 | 6 << 23 | 0x35 << 10 | 1, 0x20_003c | action >> 1]);
            dwords.extend([
                9 << 28 | 6 << 23 | action << 16 | 0xA000 | if action == 1 { 2 } else { 3 },
                span(corners[0], corners[1], width),
                span(corners[2], corners[3], height),
            ]);
            dwords.extend((action != 1).then_some(dx | dy << 16));
            dwords
        },
    )
}

/// One packet; its own length mostly agrees with what follows.
fn packet() -> impl Strategy<Value = Vec<u32>> {
    let payload = |max| prop::collection::vec(dword(), 0..max);
    let counted = |header: u32, payload: Vec<u32>| {
        let count = u32::try_from(payload.len()).unwrap();
        [vec![header | count], payload].concat()
    };
    prop_oneof![
        2 => payload(8).prop_map(move |payload| counted(0, payload)),
        2 => (0..16_u32, address(), 0..64_u32).prop_map(|(mode, at, len)| {
            let high = low(at >> 32);
            let mut dwords = vec![1 << 28 | mode << 24 | len, low(at), high];
            dwords.extend((mode >> 2 == 1 || mode >> 2 == 2).then_some(0));
            dwords
        }),
        4 => (prop_oneof![Just(6), Just(12), Just(18), 0..32_u32], 0..0x2000_u32, payload(8))
            .prop_map(move |(block, word, payload)| counted(4 << 28 | block << 23 | word << 10, payload)),
        2 => (0..0x20_u32, payload(5))
            .prop_map(move |(word, payload)| counted(4 << 28 | 12 << 23 | word << 10, payload)),
        2 => (0..1024_u32, payload(5))
            .prop_map(move |(word, payload)| counted(4 << 28 | 18 << 23 | word << 10, payload)),
        6 => (address(), 0..4_u32, any::<[u32; 2]>()).prop_map(|(at, irq, value)| {
            vec![8 << 28 | irq << 3 | 3 << 5 | 4, low(at & !7), low(at >> 32), value[0], value[1]]
        }),
        1 => (0..0x1000_0000_u32, payload(5))
            .prop_map(move |(bits, payload)| counted(8 << 28 | bits & !7, payload)),
        4 => (0..5_u32, 0..16_u32)
            .prop_map(|(info, process_id)| vec![9 << 28 | info << 17 | process_id << 13 | 1, 1]),
        12 => drawing(),
        3 => (0..4_u32, 0..16_u32, prop::collection::vec(dword(), 3..6)).prop_map(
            move |(kind, process_id, payload)| {
                counted(9 << 28 | 12 << 23 | process_id << 18 | kind << 12, payload)
            }
        ),
        1 => (0..0x1000_0000_u32, payload(6))
            .prop_map(move |(bits, payload)| counted(9 << 28 | bits & !0xfff, payload)),
        1 => (0..0x1_0000_u32).prop_map(|bits| vec![2 << 28 | bits]),
        1 => prop::collection::vec(any::<u32>(), 1..6),
    ]
}

fn packets() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(packet(), 1..6).prop_map(|packets| packets.concat())
}

fn op() -> impl Strategy<Value = Op> {
    let width_and_value = (
        offset(),
        width(),
        prop_oneof![dword().prop_map(u64::from), any::<u64>()],
    );
    prop_oneof![
        1 => (offset(), width()).prop_map(|(offset, width)| Op::Read(offset, width)),
        4 => width_and_value.prop_map(|(offset, width, value)| Op::Write(offset, width, value)),
        2 => (address(), prop::collection::vec(dword(), 1..16))
            .prop_map(|(at, dwords)| Op::Poke(at, dwords)),
        8 => packets().prop_map(Op::Queue),
        4 => packets().prop_map(Op::Call),
        12 => prop_oneof![1 => 0..4096_u32, 2 => Just(1 << 16)].prop_map(Op::Step),
        1 => Just(Op::Latch),
        6 => Just(Op::Recover),
        1 => Just(Op::Reset),
    ]
}

pub(crate) fn program() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), 1..40)
}
