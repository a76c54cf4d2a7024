//! Random programs. Their data never lies where tables, rings or buffers do.

use super::Choices;
use super::compare::{PAGES, PROCESSES};
use super::program::{Down, Edit, Leaf, Step};
use super::random_packets::{batch, packet_in_context, packets};
use crate::rig::{ENGINE_RESET, MMU_MODE, SURFACES_AT, VRAM_BYTES};
use presil_device::{DtlbShape, LargePage, MmuOptions, OnFault, OnWait, UtlbSize, Width};
use proptest::prelude::*;

/// What the reference leaves open, and the shapes of the TLBs.
pub(crate) fn choices() -> impl Strategy<Value = Choices> {
    let large_page = prop_oneof![
        3 => Just(LargePage::Table64K), 2 => Just(LargePage::Leaf4M), 1 => Just(LargePage::Fault),
    ];
    let on_fault = prop_oneof![
        2 => Just(OnFault::Report), 1 => Just(OnFault::Halt), 2 => Just(OnFault::Retry),
    ];
    let on_wait = prop_oneof![3 => Just(OnWait::Pass), 1 => Just(OnWait::Halt)];
    let utlb = prop_oneof![Just(0_u32), Just(1), Just(32)];
    let dtlb = prop_oneof![
        Just(DtlbShape::OFF),
        Just(DtlbShape::new(1, 2).unwrap()),
        Just(DtlbShape::default()),
    ];
    let switches = any::<[bool; 2]>();
    (large_page, on_fault, on_wait, utlb, dtlb, switches).prop_map(
        |(large_page, on_fault, on_wait, utlb, dtlb, [strict_utlb, vsync])| Choices {
            mmu: MmuOptions {
                utlb: UtlbSize::new(utlb).unwrap(),
                strict_utlb,
                dtlb,
                large_page,
                on_fault,
            },
            on_wait,
            vsync,
        },
    )
}

fn register() -> impl Strategy<Value = (u32, Width, u64)> {
    let mode = prop_oneof![
        3 => Just(1_u64), 2 => Just(0), 1 => Just(0x100), 1 => Just(0x301), 1 => Just(0xff00),
    ];
    let offset = prop_oneof![
        Just(0x1000_u32),
        Just(0x8220),
        Just(0x8234),
        Just(0x34714),
        Just(0x8834),
        Just(0x88A0),
        Just(0x89C4),
        Just(0x8504),
        Just(0x8508),
        Just(0x8548),
        Just(0x854C),
        Just(0x8574),
        Just(0x8578),
        Just(0x8850),
        Just(0x8AA0),
        Just(0xD370),
        Just(0x30000),
        Just(0x49018),
        Just(0x4901C),
        Just(0x49020),
        Just(0x49024),
        Just(0x49038),
        Just(0x4903C),
        Just(0x49040),
        Just(0x49048),
        Just(0x49050),
        Just(0x300A4),
        Just(0x30630),
    ];
    let width = prop_oneof![
        1 => Just(Width::B1), 1 => Just(Width::B2), 5 => Just(Width::B4), 1 => Just(Width::B8),
    ];
    let value = prop_oneof![
        Just(0_u64),
        Just(1),
        Just(0x3f),
        Just(u64::MAX),
        any::<u64>()
    ];
    prop_oneof![
        1 => mode.prop_map(|mode| (MMU_MODE, Width::B4, mode)),
        1 => prop_oneof![Just(0_u64), Just(0x1FC), (0..10_u64).prop_map(|bit| 1 << bit)]
            .prop_map(|units| (ENGINE_RESET, Width::B4, units)),
        1 => prop_oneof![Just(0_u64), Just(0x1000), Just(0x1003), Just(0x1007), Just(0x1010)]
            .prop_map(|buffer| (0x4900C, Width::B4, buffer)),
        1 => value.clone().prop_map(|value| (0x1000, Width::B8, value)),
        8 => (offset, width, 0..4_u32, value)
            .prop_map(|(offset, width, lane, value)| (offset + lane, width, value)),
        1 => (any::<u32>(), any::<u64>())
            .prop_map(|(offset, value)| (offset | 1 << 20, Width::B8, value)),
    ]
}

pub(crate) fn leaf() -> impl Strategy<Value = Leaf> {
    prop_oneof![
        6 => (0..2 * PAGES).prop_map(Leaf::Vram),
        6 => (0..PAGES, any::<bool>()).prop_map(|(n, snoop)| Leaf::Bus(n, snoop)),
        1 => Just(Leaf::BeyondVram),
        1 => Just(Leaf::NobodyOnTheBus),
        2 => any::<u32>().prop_map(Leaf::Invalid),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    let to = || prop_oneof![1 => Just(None), 5 => (0..16_usize).prop_map(Some)];
    let down = prop_oneof![
        1 => Just(Down::Nowhere),
        4 => (0..16_usize).prop_map(Down::Table),
        3 => (0..16_usize, 0..1024_u32).prop_map(|(n, bits)| Down::Large(n, bits)),
    ];
    let index = 0..3_u32;
    prop_oneof![
        8 => (any::<usize>(), leaf()).prop_map(|(n, leaf)| Edit::L3(n, leaf)),
        3 => (any::<usize>(), any::<usize>(), down).prop_map(|(n, kind, to)| Edit::L2(n, kind, to)),
        2 => (0..PROCESSES, index.clone(), to()).prop_map(|(p, index, to)| Edit::L1(p, index, to)),
        2 => (1..PROCESSES, index, to(), any::<bool>())
            .prop_map(|(p, index, to, masked)| Edit::L1ByRing(p, index, to, masked)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let context = prop_oneof![
        Just(SURFACES_AT),
        Just(VRAM_BYTES),
        Just((1 << 40) - 0x1000)
    ];
    let in_context =
        prop::collection::vec(packet_in_context(), 1..4).prop_map(|packets| packets.concat());
    prop_oneof![
        1 => register().prop_map(|(offset, width, _)| Step::Read(offset, width)),
        5 => register().prop_map(|(offset, width, value)| Step::Write(offset, width, value)),
        1 => (prop_oneof![Just(0_usize), Just(9)], 1..4_u32, 0..256_usize)
            .prop_map(|(ring, word, pick)| Step::Ring(ring, word, pick)),
        2 => (0..0x2000_u64, prop::collection::vec(any::<u32>(), 1..16))
            .prop_map(|(at, dwords)| Step::Data(SURFACES_AT + at * 4, dwords)),
        6 => (edit(), any::<bool>()).prop_map(|(edit, all)| Step::Edit(edit, all)),
        12 => batch().prop_map(|(ring, packets)| Step::Queue(ring, packets)),
        5 => (prop_oneof![5 => Just(0_usize), 1 => Just(9)], 0..0x300_u64, packets())
            .prop_map(|(ring, at, dwords)| Step::Call(ring, at * 4, dwords)),
        2 => (1..3_u32, context, in_context)
            .prop_map(|(mode, context, dwords)| Step::CallIn(mode, context, dwords)),
        1 => (prop_oneof![Just(0_usize), Just(7), Just(9)],
            prop_oneof![Just(8_u32 << 28 | 7), Just(3), Just(1 << 28), Just(4 << 28 | 0x7f)])
            .prop_map(|(ring, header)| Step::Truncated(ring, header)),
        1 => (1..7_usize).prop_map(Step::Disabled),
        12 => prop_oneof![1 => 0..4096_u32, 2 => Just(1 << 16)].prop_map(Step::Run),
        1 => (any::<u64>(), 8..64_u32).prop_map(|(now, bits)| Step::Clock(now >> bits)),
        4 => Just(Step::Acknowledge),
        1 => Just(Step::Latch),
        6 => Just(Step::Recover),
        1 => Just(Step::Reset),
    ]
}

pub(crate) fn program() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..60)
}
