//! Programs that keep the rule of hardware reference 5: who changes a
//! translation invalidates it before the next work.

use super::compare::{PROCESSES, Pair};
use super::queues::ring_registers;
use crate::rig::{BUFFERS_AT, ENGINE_RESET, MMU_MODE, RING_BYTES, SURFACES_AT, TTBR, VRAM_BYTES};
use crate::tables::{LARGE, NS, VALID, entry, plus, snooped, unsnooped, vram};
use presil_device::{LargePage, Target, Width};

/// A page that an L3 entry may lead to.
#[derive(Clone, Debug)]
pub(crate) enum Leaf {
    Vram(u64),
    /// Of the machine's memory; the odd ones are non-secure.
    Bus(u64, bool),
    BeyondVram,
    NobodyOnTheBus,
    /// Not valid, with these other bits.
    Invalid(u32),
}

/// Where an L2 entry leads.
#[derive(Clone, Debug)]
pub(crate) enum Down {
    Nowhere,
    /// To an L3 table.
    Table(usize),
    /// The same with the entry's `LargePage` bit; where that makes it a page of
    /// its own, to one in VRAM or on the bus, with these low page bits.
    Large(usize, u32),
}

/// A change of the tables.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    L3(usize, Leaf),
    /// The entry of a table for VRAM (0) or bus (1) pages.
    L2(usize, usize, Down),
    /// An L1 register of a process leads to some L2 table or nowhere.
    L1(u32, u32, Option<usize>),
    /// The same by ring 0, for the processes that the ring itself does not need;
    /// with a mask or without.
    L1ByRing(u32, u32, Option<usize>, bool),
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Read(u32, Width),
    Write(u32, Width, u64),
    /// A register of ring 0 or 9 to the start of a batch, or to what cannot be.
    Ring(usize, u32, usize),
    /// Data in VRAM, as the CPU writes it.
    Data(u64, Vec<u32>),
    /// A change, and an invalidation: of everything, or of the range it concerns.
    Edit(Edit, bool),
    /// Packets at a ring's tail.
    Queue(usize, Vec<u32>),
    /// Packets in a buffer, called from a ring, and run.
    Call(usize, u64, Vec<u32>),
    /// The same with the call's mode and the base of its context.
    CallIn(u32, u64, Vec<u32>),
    /// A packet that promises more than there is, and run.
    Truncated(usize, u32),
    /// Work for a ring that does not run.
    Disabled(usize),
    Run(u32),
    Clock(u64),
    /// Clears every bit of the fault status.
    Acknowledge,
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
            Self::Ring(ring, word, pick) => {
                let bad = [RING_BYTES, 2, u32::MAX, 0];
                let batches = pair.batches(*ring);
                let batches = if *word == 1 { &[] } else { batches };
                let value = *batches.iter().chain(&bad).cycle().nth(*pick).unwrap();
                pair.set(ring_registers(*ring) + word * 4, value);
            }
            Self::Data(at, dwords) => pair.poke(vram(*at), dwords),
            Self::Edit(edit, all) => return edit.apply(pair, *all),
            Self::Queue(ring, dwords) => return pair.queue(*ring, dwords),
            Self::Call(ring, at, dwords) => {
                pair.poke(vram(BUFFERS_AT + at), dwords);
                let len = u32::try_from(dwords.len()).unwrap();
                let call = [1 << 28 | len, low(BUFFERS_AT + at), 0];
                return pair.queue(*ring, &call) && pair.run(1 << 16);
            }
            Self::CallIn(mode, context, dwords) => {
                pair.poke(vram(BUFFERS_AT), dwords);
                let len = u32::try_from(dwords.len()).unwrap();
                let context = low(context >> 11);
                let call = [1 << 28 | mode << 26 | len, low(BUFFERS_AT), 0, context];
                return pair.queue(0, &call) && pair.run(1 << 16);
            }
            Self::Truncated(ring, header) => {
                return pair.queue(*ring, &[*header]) && pair.run(1 << 16);
            }
            Self::Disabled(ring) => {
                pair.start_disabled(*ring);
                return pair.run(1 << 16);
            }
            Self::Clock(now) => {
                pair.rig.gpu.set_clock(*now);
                pair.naive.set_clock(*now);
            }
            Self::Acknowledge => pair.set(0x49038, u32::MAX),
            Self::Run(budget) => return pair.run(*budget),
            Self::Latch => {
                pair.rig.gpu.latch_interrupts();
                pair.naive.latch();
                pair.naive.settle();
            }
            Self::Recover => {
                pair.set(ENGINE_RESET, 0x1FC);
                pair.set(ENGINE_RESET, 0);
                pair.start_rings();
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

/// Which bits of an address select the entry of a level, as page numbers: only
/// those need comparing, whoever shares the table. An L3 entry has 15
/// neighbours in its line; in a table of 64 KiB pages it is a line.
const L3: u32 = 0x3f0;
const L2: u32 = 0x3ff << 10;
const L1: u32 = 0xfff << 20;

impl Edit {
    /// `false` as in [`Step::apply`].
    fn apply(&self, pair: &mut Pair, all: bool) -> bool {
        match self {
            Self::L3(n, leaf) => {
                let at = pair.l3_entries[n % pair.l3_entries.len()];
                // What becomes valid needs no invalidation.
                let was_valid = pair.rig.load(at) & VALID != 0;
                pair.poke(at, &[leaf.entry()]);
                if was_valid {
                    pair.invalidate(in_table(at), L3, all);
                    pair.invalidate(in_table(at) << 4, L3, all);
                }
            }
            Self::L2(n, kind, down) => {
                let va = [SURFACES_AT, VRAM_BYTES][kind % 2];
                let table = pair.l2_tables[n % pair.l2_tables.len()];
                let entry = down.entry(pair);
                pair.poke(plus(table, (va >> 22) * 4), &[entry]);
                pair.invalidate(low(va >> 12), L2, all);
            }
            Self::L1(process, index, to) => {
                let entry = l1_entry(pair, *to);
                pair.set(TTBR + (process * 256 + index) * 4, entry);
                pair.invalidate(process << 28 | index << 20, L1, all);
            }
            Self::L1ByRing(process, index, to, masked) => {
                let entry = l1_entry(pair, *to);
                let register = 4 << 28 | 18 << 23 | (process * 256 + index) << 10;
                let mut packets = if *masked {
                    vec![register | 1 << 9 | 2, entry, u32::MAX]
                } else {
                    vec![register | 1, entry]
                };
                let [address, mask] = if all {
                    [!index & 0xff, 0]
                } else {
                    [*index, 0xff]
                };
                for kind in if pair.choices.mmu.strict_utlb {
                    2..=3
                } else {
                    3..=3
                }
                .rev()
                {
                    let header = 9 << 28 | 12 << 23 | process << 18 | kind << 12 | 4;
                    packets.extend([header, 0, address, 0, mask]);
                }
                return pair.queue(0, &packets);
            }
        }
        true
    }
}

fn l1_entry(pair: &Pair, to: Option<usize>) -> u32 {
    to.map_or(0, |to| entry(pair.l2_tables[to % pair.l2_tables.len()]))
}

impl Down {
    fn entry(&self, pair: &Pair) -> u32 {
        let table = |n: usize| entry(pair.l3_tables[n % pair.l3_tables.len()]);
        match *self {
            Self::Nowhere => 0xfff0,
            Self::Table(n) => table(n),
            Self::Large(n, low_bits) => {
                let page = match n % 8 {
                    0 => vram(VRAM_BYTES),
                    1..4 => vram(SURFACES_AT),
                    4 | 5 => snooped(0),
                    _ => unsnooped(0),
                };
                let leaf = pair.choices.mmu.large_page == LargePage::Leaf4M;
                LARGE
                    | if leaf {
                        entry(page) | low_bits << 4
                    } else {
                        table(n)
                    }
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
            Self::Bus(n, snoop) => {
                let bus = if *snoop { snooped } else { unsnooped };
                entry(bus(n * 4096)) | if n % 2 == 1 { NS } else { 0 }
            }
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
        if self.choices.mmu.strict_utlb {
            self.set(0x49020, 0x20);
        }
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
        self.start_rings();
    }
}

/// The low half of an address.
pub(crate) fn low(at: u64) -> u32 {
    u32::try_from(at & 0xffff_ffff).unwrap()
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
