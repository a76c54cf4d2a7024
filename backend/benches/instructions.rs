//! Instructions of register accesses and translations, beside their limits.
#![allow(missing_docs, reason = "a benchmark is a program")]

mod support;

use e3k_regs::Reg;
use e3k_regs::fields::{FaultClient, RingWord};
use presil_device::{Gpu, GpuVa, MmuOptions, UtlbSize, Width};
use std::hint::black_box;
use std::process::ExitCode;
use support::steps::{instructions, report, table};

/// Most for a register that only stores, and for one that does more.
const STORAGE: f64 = 150.0;
const BEHAVIOUR: f64 = 300.0;
const UTLB_HIT: f64 = 50.0;
const DTLB_HIT: f64 = 130.0;
const WALK: f64 = 400.0;
/// Lines in the default DTLB.
const LINES: u64 = 256;
/// Every access of a register is like the others.
const ROUNDS: u64 = 16;

fn main() -> ExitCode {
    table(|| registers() & translations())
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

fn translations() -> bool {
    let hits = MmuOptions::default();
    let walks = MmuOptions {
        utlb: UtlbSize::OFF,
        ..hits
    };
    // One line again and again; all that the DTLB holds, in all of its ways, of
    // whose pages the UTLB has none; and more than it holds.
    let mut within = true;
    for (name, options, lines, limit) in [
        ("translation, UTLB hit", hits, 1, UTLB_HIT),
        ("translation, DTLB hit", hits, LINES, DTLB_HIT),
        ("translation, walk", walks, 4 * LINES, WALK),
    ] {
        let mut gpu = support::gpu(options, Some(support::in_place));
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
        within &= report(name, count - call, limit);
    }
    within
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
