//! Random programs that keep the rule of hardware reference 5: who changes a
//! translation invalidates it before the next work. Their data never lies
//! where tables, rings or buffers do.

use super::compare::{PAGES, PROCESSES, Pair};
use crate::rig::{
    BUFFERS_AT, ENGINE_RESET, MMU_MODE, RING_ADDRESS, RING_BYTES, SURFACES_AT, TTBR, VRAM_BYTES,
};
use crate::tables::{VALID, entry, snooped, unsnooped, vram};
use presil_device::{Target, Width};
use proptest::prelude::*;

/// A page that an L3 entry may lead to.
#[derive(Clone, Debug)]
pub(crate) enum Leaf {
    Vram(u64),
    Bus(u64, bool),
    BeyondVram,
    NobodyOnTheBus,
    /// Not valid, with these other bits.
    Invalid(u32),
}

/// A change of the tables.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    L3(usize, Leaf),
    /// The entry of a table for VRAM (0) or bus (1) pages leads to some L3 table or nowhere.
    L2(usize, usize, Option<usize>),
    /// An L1 register of a process leads to some L2 table or nowhere.
    L1(u32, u32, Option<usize>),
    /// The same by the ring, for the processes that the ring itself does not need.
    L1ByRing(u32, u32, Option<usize>),
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Read(u32, Width),
    Write(u32, Width, u64),
    /// A ring register to the start of a batch, or to what cannot be.
    Ring(u32, usize),
    /// Data in VRAM, as the CPU writes it.
    Data(u64, Vec<u32>),
    /// A change, and an invalidation: of everything, or of the range it concerns.
    Edit(Edit, bool),
    /// Packets at the ring's tail.
    Queue(Vec<u32>),
    /// Packets in a buffer, called from the ring, and run.
    Call(u64, Vec<u32>),
    /// A packet that promises more than there is, and run.
    Truncated(u32),
    Run(u32),
    Latch,
    Recover,
    Reset,
}

impl Step {
    /// `false` when the naive model cannot follow.
    pub(crate) fn apply(&self, pair: &mut Pair) -> bool {
        match self {
            Self::Read(offset, width) => {
                let naive = pair.naive.read(*offset, width.bytes());
                assert_eq!(
                    pair.rig.gpu.read(*offset, *width),
                    naive,
                    "{offset:#x} {width:?}"
                );
            }
            Self::Write(offset, width, value) => pair.write(*offset, *width, *value),
            Self::Ring(word, pick) => {
                let bad = [RING_BYTES, 2, u32::MAX, 0];
                let batches: &[u32] = if *word == 1 { &[] } else { &pair.batches };
                let value = *batches.iter().chain(&bad).cycle().nth(*pick).unwrap();
                pair.set(RING_ADDRESS + word * 4, value);
            }
            Self::Data(at, dwords) => pair.poke(vram(*at), dwords),
            Self::Edit(edit, all) => edit.apply(pair, *all),
            Self::Queue(dwords) => pair.queue(dwords),
            Self::Call(at, dwords) => {
                pair.poke(vram(BUFFERS_AT + at), dwords);
                let len = u32::try_from(dwords.len()).unwrap();
                pair.queue(&[1 << 28 | len, low(BUFFERS_AT + at), 0]);
                return pair.run(1 << 16);
            }
            Self::Truncated(header) => {
                pair.queue(&[*header]);
                return pair.run(1 << 16);
            }
            Self::Run(budget) => return pair.run(*budget),
            Self::Latch => {
                pair.rig.gpu.latch_interrupts();
                pair.naive.latch();
                pair.naive.settle();
            }
            Self::Recover => {
                pair.set(ENGINE_RESET, 0x1FC);
                pair.set(ENGINE_RESET, 0);
                pair.start_ring();
            }
            Self::Reset => {
                pair.rig.gpu.reset();
                pair.naive.reset();
                pair.restore();
            }
        }
        true
    }
}

impl Edit {
    fn apply(&self, pair: &mut Pair, all: bool) {
        /// Which bits of an address select the entry of a level, as page
        /// numbers: only those need comparing, whoever shares the table. An L3
        /// entry has 15 neighbours in its line.
        const L3: u32 = 0x3f0;
        const L2: u32 = 0x3ff << 10;
        const L1: u32 = 0xfff << 20;
        let address = |at: Option<&Target>, bits: u32| at.map_or(bits, |at| entry(*at));
        match self {
            Self::L3(n, leaf) => {
                let at = pair.l3_entries[n % pair.l3_entries.len()];
                // What becomes valid needs no invalidation.
                let was_valid = pair.rig.load(at) & VALID != 0;
                pair.poke(at, &[leaf.entry()]);
                if was_valid {
                    pair.invalidate(in_table(at), L3, all);
                }
            }
            Self::L2(n, kind, to) => {
                let va = [SURFACES_AT, VRAM_BYTES][kind % 2];
                let table = pair.l2_tables[n % pair.l2_tables.len()];
                let to = to.map(|to| pair.l3_tables[to % pair.l3_tables.len()]);
                pair.poke(
                    crate::tables::plus(table, (va >> 22) * 4),
                    &[address(to.as_ref(), 0xfff0)],
                );
                pair.invalidate(low(va >> 12), L2, all);
            }
            Self::L1(process, index, to) => {
                let to = to.map(|to| pair.l2_tables[to % pair.l2_tables.len()]);
                pair.set(TTBR + (process * 256 + index) * 4, address(to.as_ref(), 0));
                pair.invalidate(process << 28 | index << 20, L1, all);
            }
            Self::L1ByRing(process, index, to) => {
                let to = to.map(|to| pair.l2_tables[to % pair.l2_tables.len()]);
                let register = process * 256 + index;
                pair.queue(&[
                    4 << 28 | 18 << 23 | register << 10 | 1,
                    address(to.as_ref(), 0),
                    9 << 28 | 12 << 23 | process << 18 | 3 << 12 | 4,
                    0,
                    if all { !index & 0xff } else { *index },
                    0,
                    if all { 0 } else { 0xff },
                ]);
            }
        }
    }
}

/// The page number of an L3 entry in its table.
fn in_table(at: Target) -> u32 {
    let (Target::Vram(presil_device::VramOffset(at))
    | Target::System(presil_device::BusAddr(at), _)) = at;
    low(at) >> 2 & 0x3ff
}

impl Leaf {
    pub(crate) fn entry(&self) -> u32 {
        match self {
            Self::Vram(n) => entry(vram(SURFACES_AT + n * 4096)),
            Self::Bus(n, true) => entry(snooped(n * 4096)),
            Self::Bus(n, false) => entry(unsnooped(n * 4096)),
            Self::BeyondVram => entry(vram(VRAM_BYTES)),
            Self::NobodyOnTheBus => entry(snooped(0x7777_7000)),
            Self::Invalid(bits) => bits & !VALID,
        }
    }
}

impl Pair {
    /// By the registers of hardware reference 5: everything, or the lines that
    /// agree with `address` in the bits of `mask`.
    fn invalidate(&mut self, address: u32, mask: u32, all: bool) {
        let mask = if all { 0 } else { mask };
        // Bits that are not compared may be anything: here, wrong.
        self.set(0x49018, address & mask | !address & !mask);
        self.set(0x4901C, mask);
        self.set(0x49020, 0x40);
    }

    /// What a driver sets after a function reset.
    fn restore(&mut self) {
        for process in 0..PROCESSES {
            let table = self.l2_tables[process as usize];
            self.set(TTBR + process * 1024, entry(table));
        }
        self.set(MMU_MODE, 1);
        self.set(0x8508, u32::MAX);
        self.set(0x854C, u32::MAX);
        self.write(0x8AA0, Width::B1, 1);
        self.start_ring();
    }
}

fn low(at: u64) -> u32 {
    u32::try_from(at & 0xffff_ffff).unwrap()
}

/// Addresses of data: mapped, at the edges of what is mapped, and elsewhere.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => (0..0x50_u64).prop_map(|n| SURFACES_AT + n * 256),
        8 => (0..0x50_u64).prop_map(|n| VRAM_BYTES + n * 256),
        2 => (0..0x20_u64).prop_map(|n| VRAM_BYTES - 0x1000 + n * 256),
        3 => (0..0x50_u64).prop_map(|n| (1 << 32) + SURFACES_AT + n * 256),
        1 => (0..0x20_u64).prop_map(|n| (1 << 40) - 0x1000 + n * 256),
        1 => (1_u64 << 24..1 << 32).prop_map(|n| n * 256),
    ]
}

fn register() -> impl Strategy<Value = (u32, Width, u64)> {
    let mode = prop_oneof![
        3 => Just(1_u64), 2 => Just(0), 1 => Just(0x100), 1 => Just(0x301), 1 => Just(0xff00),
    ];
    let offset = prop_oneof![
        Just(0x1000_u32),
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
        1 => prop_oneof![Just(0_u64), Just(1), Just(1 << 3), Just(0x1FC), Just(1 << 6)]
            .prop_map(|units| (ENGINE_RESET, Width::B4, units)),
        8 => (offset, width, 0..4_u32, value)
            .prop_map(|(offset, width, lane, value)| (offset + lane, width, value)),
        1 => (any::<u32>(), any::<u64>())
            .prop_map(|(offset, value)| (offset | 1 << 20, Width::B8, value)),
    ]
}

fn surface(rt: u32, at: u64, width: u32, height: u32) -> Vec<u32> {
    let set = |word: u32| 4 << 28 | 6 << 23 | word << 10 | 3;
    let size = width | height << 15;
    let [base, misc] = [low(at >> 8), 1 | 0xf << 2 | 2 << 20];
    vec![
        set(0x18 + 3 * rt),
        base,
        1,
        1,
        set(0x30 + 3 * rt),
        89,
        size,
        misc,
    ]
}

/// A blit (action 2) or clear (1) with both surfaces; few go beyond them.
fn drawing() -> impl Strategy<Value = Vec<u32>> {
    let action = prop_oneof![24 => 1..3_u32, 1 => 5..8_u32];
    let more = prop_oneof![24 => Just(0_u32), 1 => 0..3_u32];
    let sizes = (1..1600_u32, 1..10_u32, 0..100_u32, 0..8_u32);
    let colour = any::<[u32; 4]>();
    (
        address(),
        address(),
        action,
        sizes,
        (any::<[u32; 4]>(), colour),
        more,
    )
        .prop_map(
            |(to, from, action, (width, height, dx, dy), (corners, colour), more)| {
                let span = |a: u32, b: u32, end: u32| {
                    (a % end).min(b % end) | ((a % end).max(b % end) + more) << 16
                };
                let mut dwords = surface(0, to, width, height);
                dwords.extend(surface(1, from, width + dx, height + dy));
                dwords.push(4 << 28 | 6 << 23 | 0xC8 << 10 | 4);
                dwords.extend(colour);
                dwords.extend([
                    9 << 28 | 6 << 23 | action << 16 | 0xA000 | 3,
                    span(corners[0], corners[1], width),
                    span(corners[2], corners[3], height),
                    dx | dy << 16,
                ]);
                dwords
            },
        )
}

/// One whole packet.
fn packet() -> impl Strategy<Value = Vec<u32>> {
    let fence = (address(), 0..32_u64, 0..4_u32, any::<[u32; 2]>(), 0..24_u32);
    let indicator = (0..5_u32, 0..16_u32, 0..24_u32);
    prop_oneof![
        2 => prop::collection::vec(any::<u32>(), 0..8)
            .prop_map(|skipped| [vec![u32::try_from(skipped.len()).unwrap()], skipped].concat()),
        6 => fence.prop_map(|(at, place, irq, value, odd)| {
            let at = at + place * 8 + if odd == 0 { 4 } else { 0 };
            vec![8 << 28 | irq << 3 | 3 << 5 | 4, low(at), low(at >> 32), value[0], value[1]]
        }),
        2 => (0..32_u32, 0..4_u32, any::<u16>()).prop_map(|(slot, irq, value)| {
            let value = u32::from(value);
            vec![8 << 28 | slot << 7 | irq << 3 | 1, value, 2 << 28 | slot << 22 | value]
        }),
        5 => indicator.prop_map(|(info, process, rare)| {
            let process = if rare == 0 { process } else { process % PROCESSES };
            vec![9 << 28 | info << 17 | process << 13 | 1, 1]
        }),
        12 => drawing(),
        3 => (0..4_u32, 0..4_u32).prop_map(|(mode, n)| library_call(mode, n)),
        // Cache commands, registers of blocks that do nothing here.
        1 => prop_oneof![Just(6_u32), Just(8), Just(19), Just(11), Just(10)]
            .prop_map(|block| vec![9 << 28 | block << 23]),
        1 => (prop_oneof![Just(3_u32), Just(7), Just(10)], 0..64_u32, any::<u32>())
            .prop_map(|(block, word, value)| vec![4 << 28 | block << 23 | word << 10 | 1, value]),
        // The fault status, by the ring; an invalidation; a mode.
        1 => any::<u32>().prop_map(|bits| vec![4 << 28 | 12 << 23 | 0xE << 10 | 1, bits]),
        1 => (2..4_u32, 0..16_u32, any::<[u32; 4]>()).prop_map(|(kind, process, payload)| {
            let header = 9 << 28 | 12 << 23 | process << 18 | kind << 12 | 4;
            [vec![header], payload.to_vec()].concat()
        }),
        1 => (0..2_u32).prop_map(|mode| vec![4 << 28 | 12 << 23 | 1 << 10 | 1, mode]),
        1 => malformed(),
    ]
}

/// Calls buffer `n` of [`library`].
fn library_call(mode: u32, n: u32) -> Vec<u32> {
    let at = BUFFERS_AT + 0x3000 + u64::from(n) * 0x100;
    let len = u32::try_from(library()[n as usize].len()).unwrap();
    let mut call = vec![1 << 28 | mode << 26 | len, low(at), 0];
    call.extend((mode == 1 || mode == 2).then_some(0));
    call
}

/// Buffers that are always there: a fence, a call of it at the end, a call of
/// it before the end, and one of that.
pub(crate) fn library() -> [Vec<u32>; 4] {
    let call = |n: u64, len: u32| [1 << 28 | len, low(BUFFERS_AT + 0x3000 + n * 0x100), 0];
    let to = SURFACES_AT + 0x800;
    [
        vec![8 << 28 | 1 << 3 | 3 << 5 | 4, low(to), 0, 0x11, 0x22],
        [&[0], &call(0, 5)[..]].concat(),
        [&call(0, 5)[..], &[0]].concat(),
        [&call(2, 4)[..], &[0]].concat(),
    ]
}

/// What halts the ring, whatever follows.
fn malformed() -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![
        prop_oneof![Just(5_u32), Just(0xA), Just(0xD), Just(0xE)].prop_flat_map(|opcode| (0
            ..1_u32 << 28)
            .prop_map(move |bits| vec![opcode << 28 | bits])),
        Just(vec![8 << 28 | 1 << 5 | 1, 0]),    // fence type 1
        Just(vec![8 << 28 | 3 << 5 | 2, 0, 0]), // a fence without its value
        Just(vec![9 << 28 | 12 << 23 | 3 << 12 | 1, 0]), // an invalidation without its mask
        Just(vec![9 << 28 | 6 << 23 | 2 << 16 | 0xA000 | 1, 0]), // a blit without its rows
    ]
}

fn packets() -> impl Strategy<Value = Vec<u32>> {
    let indicator = (0..2 * PROCESSES).prop_map(|process| match process {
        0..PROCESSES => vec![9 << 28 | 3 << 17 | process << 13 | 1, 1],
        _ => vec![],
    });
    (indicator, prop::collection::vec(packet(), 1..6))
        .prop_map(|(indicator, packets)| [indicator, packets.concat()].concat())
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
    prop_oneof![
        8 => (any::<usize>(), leaf()).prop_map(|(n, leaf)| Edit::L3(n, leaf)),
        2 => (any::<usize>(), any::<usize>(), to()).prop_map(|(n, kind, to)| Edit::L2(n, kind, to)),
        2 => (0..PROCESSES, 0..3_u32, to()).prop_map(|(p, index, to)| Edit::L1(p, index, to)),
        2 => (1..PROCESSES, 0..3_u32, to()).prop_map(|(p, index, to)| Edit::L1ByRing(p, index, to)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => register().prop_map(|(offset, width, _)| Step::Read(offset, width)),
        5 => register().prop_map(|(offset, width, value)| Step::Write(offset, width, value)),
        1 => (1..4_u32, 0..256_usize).prop_map(|(word, pick)| Step::Ring(word, pick)),
        2 => (0..0x2000_u64, prop::collection::vec(any::<u32>(), 1..16))
            .prop_map(|(at, dwords)| Step::Data(SURFACES_AT + at * 4, dwords)),
        6 => (edit(), any::<bool>()).prop_map(|(edit, all)| Step::Edit(edit, all)),
        10 => packets().prop_map(Step::Queue),
        5 => (0..0x300_u64, packets()).prop_map(|(at, dwords)| Step::Call(at * 4, dwords)),
        1 => prop_oneof![Just(8_u32 << 28 | 7), Just(3), Just(1 << 28), Just(4 << 28 | 0x7f)]
            .prop_map(Step::Truncated),
        12 => prop_oneof![1 => 0..4096_u32, 2 => Just(1 << 16)].prop_map(Step::Run),
        1 => Just(Step::Latch),
        6 => Just(Step::Recover),
        1 => Just(Step::Reset),
    ]
}

pub(crate) fn program() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..60)
}
