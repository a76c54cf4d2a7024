//! Instructions of register accesses and translations, without and with the driver
//! checker, beside their limits.
#![allow(missing_docs, reason = "a benchmark is a program")]

mod support;

use e3k_regs::Reg;
use e3k_regs::fields::{FaultClient, RingWord};
use e3k_regs::packet::block;
use presil_device::{Gpu, GpuVa, MmuOptions, UtlbSize, Width};
use std::hint::black_box;
use std::process::ExitCode;
use support::steps::{instructions, instructions_once, report, table};

/// Most for a register that only stores, and for one that does more.
const STORAGE: f64 = 150.0;
const BEHAVIOUR: f64 = 300.0;
const UTLB_HIT: f64 = 50.0;
const DTLB_HIT: f64 = 130.0;
const WALK: f64 = 400.0;
/// The same where the driver checker looks.
const CHECKED_UTLB_HIT: f64 = 3.0 * UTLB_HIT;
const CHECKED_DTLB_HIT: f64 = 500.0;
const CHECKED_WALK: f64 = 3300.0;
/// With the driver checker, and with as many entries as it remembers: most for an
/// invalidation that a packet posts, and for a doorbell.
const RING_INVALIDATION: f64 = 30_000.0;
const DOORBELL: f64 = 420_000.0;
/// Lines in the default DTLB.
const LINES: u64 = 256;
/// Every access of a register is like the others.
const ROUNDS: u64 = 16;

fn main() -> ExitCode {
    table(|| registers() & translations(false) & translations(true) & invalidations())
}

fn registers() -> bool {
    let registers = [
        ("undeclared", 0x1000, Width::B4, STORAGE),
        ("declared", Reg::DecControl.offset(), Width::B4, STORAGE),
        ("POSTED, a byte", Reg::Posted.offset(), Width::B1, STORAGE),
        ("MEM_READY", Reg::MemReady.offset(), Width::B4, BEHAVIOUR),
        ("TTBR", Reg::Ttbr.at(4), Width::B4, BEHAVIOUR),
        ("MMU_MODE", Reg::MmuMode.offset(), Width::B4, BEHAVIOUR),
        ("PT_INV_TRIG", Reg::PtInvTrig.offset(), Width::B4, BEHAVIOUR),
        (
            "MXU_INT_STATUS",
            Reg::MxuIntStatus.offset(),
            Width::B4,
            BEHAVIOUR,
        ),
        (
            "a ring's Tail",
            RingWord::Tail.offset(0),
            Width::B4,
            BEHAVIOUR,
        ),
        ("TOP_BUSY", Reg::TopBusy.offset(), Width::B4, BEHAVIOUR),
        (
            "CSP_TIMESTAMP",
            Reg::CspTimestamp.offset(),
            Width::B4,
            BEHAVIOUR,
        ),
        (
            "a display's position",
            Reg::Display4.at(1),
            Width::B4,
            BEHAVIOUR,
        ),
        (
            "SERIAL_PORT1, a byte",
            Reg::SerialPort1.offset(),
            Width::B1,
            BEHAVIOUR,
        ),
        ("BIU_SHADOW", Reg::BiuShadow.offset(), Width::B4, BEHAVIOUR),
        (
            "the interrupt gate, a byte",
            Reg::AdapterControl.offset(),
            Width::B1,
            BEHAVIOUR,
        ),
        (
            "ENGINE_RESET",
            Reg::EngineReset.offset(),
            Width::B4,
            BEHAVIOUR,
        ),
    ];
    let mut gpu = support::gpu(MmuOptions::default(), None);
    let call = instructions(ROUNDS, || {
        black_box(empty(&mut gpu, black_box(0), Width::B4));
    });
    let mut within = true;
    for (name, at, width, limit) in registers {
        let read = instructions(ROUNDS, || {
            black_box(gpu.read(black_box(at), width));
        });
        within &= report(&format!("read {name}"), read - call, limit);
        let write = instructions(ROUNDS, || gpu.write(black_box(at), width, black_box(0)));
        within &= report(&format!("write {name}"), write - call, limit);
    }
    within
}

fn translations(checked: bool) -> bool {
    let hits = MmuOptions::default();
    let walks = MmuOptions {
        utlb: UtlbSize::OFF,
        ..hits
    };
    // One line again and again; all that the DTLB holds, in all of its ways, of
    // whose pages the UTLB has none; and more than it holds.
    let mut within = true;
    for (name, options, lines, limits) in [
        (
            "translation, UTLB hit",
            hits,
            1,
            [UTLB_HIT, CHECKED_UTLB_HIT],
        ),
        (
            "translation, DTLB hit",
            hits,
            LINES,
            [DTLB_HIT, CHECKED_DTLB_HIT],
        ),
        ("translation, walk", walks, 4 * LINES, [WALK, CHECKED_WALK]),
    ] {
        let mut gpu = support::gpu(options, Some(support::in_place));
        let (mut name, limit) = (name.to_owned(), limits[usize::from(checked)]);
        if checked {
            support::watch(&mut gpu);
            name += ", checked";
        }
        let client = FaultClient::BlitSource;
        for line in 0..lines {
            gpu.translate(client, 0, GpuVa(line << 16));
        }
        let lines = black_box(lines);
        let [mut line, mut last] = [0; 2];
        let call = instructions(LINES, || {
            last = (last + 1) & (lines - 1);
            black_box(nothing(&mut gpu, client, 0, black_box(GpuVa(last << 16))));
        });
        let count = instructions(LINES, || {
            line = (line + 1) & (lines - 1);
            black_box(gpu.translate(client, 0, black_box(GpuVa(line << 16))));
        });
        within &= report(&name, count - call, limit);
    }
    within
}

/// What compares the entries that the checker remembers with the tables.
fn invalidations() -> bool {
    const PACKETS: u32 = 4;
    let mut gpu = support::gpu(MmuOptions::default(), Some(support::in_place));
    support::watch(&mut gpu);
    for client in FaultClient::ALL {
        for line in 0..2 * LINES {
            gpu.translate(*client, 0, GpuVa(line << 16));
        }
    }
    // Of a process that has no entries: all stay.
    let tail = support::load_ring(&gpu, |w| {
        for _ in 0..PACKETS {
            w.set_register(block::MXU, 6, &[0xF000_0000, 0xF000_0000, 2 << 5]);
        }
    });
    let some = tail / PACKETS * (PACKETS / 2);
    let mut run = |tail| support::run_from(&mut gpu, 0, tail);
    let [few, many] = [some, tail].map(|tail| instructions_once(|| run(tail)));
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let each = (many - few) as f64 / f64::from(PACKETS / 2);
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let doorbell = instructions_once(|| {
        gpu.write(RingWord::Tail.offset(0), Width::B4, black_box(0));
    }) as f64;
    report("a packet's invalidation, checked", each, RING_INVALIDATION)
        & report("a doorbell, checked", doorbell, DOORBELL)
}

/// Calls like those that are counted, which do nothing.
#[inline(never)]
#[expect(clippy::unnecessary_wraps, reason = "as those return it")]
fn nothing(gpu: &mut Gpu, client: FaultClient, process_id: u8, at: GpuVa) -> Option<u64> {
    black_box((std::ptr::from_mut(gpu), client, process_id));
    Some(at.0)
}

#[inline(never)]
fn empty(gpu: &mut Gpu, offset: u32, width: Width) -> u64 {
    black_box((std::ptr::from_mut(gpu), width));
    offset.into()
}
