//! The format of saved states has a number, and states that were saved under
//! it lie in `tests/states/`: who changes what is saved cannot read or write
//! them as they are any more, and has to raise the number.

use crate::rig::{
    ADVANCED_RAW, BUFFERS_AT, ENGINE_RESET, FENCE, KICKOFF, MMU_MODE, Rig, SURFACES_AT, VRAM_BYTES,
    copy, fill, noise, push_all,
};
use crate::tables::vram;
use presil_device::{Chip, Config, DtlbShape, GpuVa, MmuOptions, OnFault, UtlbSize};
use std::io::Write;
use std::path::{Path, PathBuf};

const COPY_BYTES: usize = 0x2800;
const POST_RING: u32 = 0x30620;
const DUMP_AT: u64 = SURFACES_AT + 0x8000;
/// Nothing is mapped here.
const FAR: u64 = 1 << 33;

/// Small TLBs: the file is short.
fn rig(on_fault: OnFault) -> Rig {
    let mut config = Config::new(Chip::Arise10c0, VRAM_BYTES, VRAM_BYTES, true).unwrap();
    config.mmu = MmuOptions {
        utlb: UtlbSize::new(1).unwrap(),
        dtlb: DtlbShape::new(1, 1).unwrap(),
        on_fault,
        ..MmuOptions::default()
    };
    config.surface_formats.add(7, 2).unwrap();
    Rig::with_config(&config)
}

fn step_while(rig: &mut Rig, condition: impl Fn(&mut Rig) -> bool) {
    while condition(rig) {
        rig.gpu.step(1);
        assert!(rig.gpu.has_work());
    }
}

/// A copy in flight in a buffer that a buffer called; before it, a fault, a
/// ring error and an unmet wait of every kind that PA mode has.
fn copy_and_history() -> Rig {
    let mut rig = rig(OnFault::Report);
    rig.set(MMU_MODE, 0x300);
    rig.submit(|w| {
        for at in [FAR, 0x1000_0000] {
            w.fence(GpuVa(at), 1, false);
        }
        push_all(w, &[2 << 28 | 3 << 22 | 7]);
    });
    let unknown = [5 << 28];
    let truncated = [8 << 28 | 4];
    let malformed = [8 << 28 | 1 << 5 | 1, 0];
    let unsupported = [7 << 28];
    let far = [1 << 28 | 1, 0, 2];
    for packet in [&unknown[..], &truncated, &malformed, &unsupported, &far] {
        rig.submit(|w| push_all(w, packet));
        rig.recover();
    }
    rig.set(0x3002C, 1 | KICKOFF);
    rig.set(0x30038, 4);
    rig.run();
    rig.set(ENGINE_RESET, 0);
    rig.gpu.set_clock(0x1234_5678_9abc);
    rig.put(vram(SURFACES_AT), &noise(3, COPY_BYTES));
    let inner = rig.buffer(vram(BUFFERS_AT), |w| {
        w.indicator(3, 5);
        copy(w, SURFACES_AT, SURFACES_AT + (1 << 20), 0x280, 4);
        push_all(w, &[8 << 28 | 4 << 7 | 1, 9, 0]);
    });
    let outer = rig.buffer(vram(BUFFERS_AT + 0x800), |w| {
        w.dma(GpuVa(BUFFERS_AT), inner);
        w.fence(GpuVa(BUFFERS_AT + 0xff0), 0x77, true);
    });
    rig.queue(|w| w.dma(GpuVa(BUFFERS_AT + 0x800), outer));
    step_while(&mut rig, |rig| rig.gpu.counters().bytes_copied == 0);
    rig
}

fn copy_has_ended(rig: &mut Rig) {
    let copied = rig.get(vram(SURFACES_AT + (1 << 20)), COPY_BYTES);
    assert!(copied == noise(3, COPY_BYTES));
    assert_eq!(rig.load_u64(vram(BUFFERS_AT + 0xff0)), 0x77);
    assert_eq!((rig.gpu.faults().count(), rig.errors().len()), (3, 6));
    assert_eq!(rig.gpu.unmet_waits().count(), 1);
    assert_eq!(rig.reg(0x300A8), 0x1234);
    assert_eq!(rig.reg(ADVANCED_RAW) & FENCE, FENCE);
}

/// A fill that waits for its table, and registers on their way to memory.
fn fill_and_transfer() -> Rig {
    let mut rig = rig(OnFault::Retry);
    rig.enter_va_mode();
    rig.map(1, SURFACES_AT, vram(SURFACES_AT));
    rig.submit(|w| {
        w.indicator(3, 1);
        fill(w, SURFACES_AT, 0x500, 1, 0x5a5a_1234);
        push_all(w, &[8 << 28 | 4 << 7 | 1, 9]);
    });
    // Ring 9, in the rest of ring 0's page, dumps the registers of FF.
    let page = crate::rig::RING_AT + 0x1000;
    rig.put_dwords(vram(page), &[3 << 28 | 6 << 23 | 300 << 7 | 2, 0, 0]);
    rig.put_dwords(vram(page + 4), &[u32::try_from(DUMP_AT).unwrap()]);
    rig.map(0, DUMP_AT, vram(DUMP_AT));
    rig.set(POST_RING + 4, 0x1000);
    rig.set(POST_RING + 12, 12);
    rig.set(POST_RING, u32::try_from(page >> 12).unwrap() | KICKOFF);
    step_while(&mut rig, |rig| {
        let dumped = vram(DUMP_AT + 4 * 0x31);
        rig.load(dumped) == 0
    });
    rig
}

fn fill_has_ended(rig: &mut Rig) {
    assert_eq!(rig.load(vram(DUMP_AT + 4 * 0xc8)), 0x5a5a_1234);
    assert_eq!(rig.reg(0x49038), 1 << 3);
    rig.map(1, SURFACES_AT + 0x1000, vram(SURFACES_AT + 0x1000));
    rig.set(0x49038, u32::MAX);
    rig.run();
    assert_eq!(rig.load(vram(SURFACES_AT + 0x13fc)), 0x5a5a_1234);
    assert_eq!(rig.gpu.counters().fills, 1);
}

/// Compression flags on their way to zero.
fn flags() -> Rig {
    let mut rig = rig(OnFault::Halt);
    rig.set(0x4900C, 0x100 << 4);
    let start = u32::try_from(SURFACES_AT).unwrap();
    rig.put(vram(SURFACES_AT), &[1; 2]);
    rig.put(vram(SURFACES_AT + 0x2ffe), &[1; 2]);
    rig.queue(|w| {
        let header = 9 << 28 | 1 << 20 | 0x2fff << 3 | 3;
        push_all(w, &[header, start, 0, u32::MAX]);
    });
    step_while(&mut rig, |rig| rig.load(vram(SURFACES_AT)) != 0);
    rig
}

fn flags_are_clear(rig: &mut Rig) {
    assert_eq!(rig.get(vram(SURFACES_AT + 0x2ffe), 2), [0, 1]);
}

type Case = (&'static str, fn() -> Rig, fn(&mut Rig));

/// What is in the file: how each state was made, and what comes of it.
const STATES: [Case; 3] = [
    ("copy_and_history", copy_and_history, copy_has_ended),
    ("fill_and_transfer", fill_and_transfer, fill_has_ended),
    ("flags", flags, flags_are_clear),
];

fn saved(rig: &Rig) -> Vec<u8> {
    let mut state = vec![];
    rig.gpu.save(&mut state).unwrap();
    state
}

/// The file of the format that states are saved in now.
fn file() -> PathBuf {
    let number = saved(&Rig::new())[8];
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/states/format-{number}"))
}

#[test]
fn states_of_this_format_are_read_and_written_as_they_were_and_go_on_as_they_did() {
    let file = file();
    let whole = std::fs::read(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; see docs/state-format.md", file.display()));
    let mut rest = &*whole;
    for (_, _, check) in STATES {
        let mut rig = Rig::new().restored(rest).unwrap();
        let again = saved(&rig);
        assert!(
            rest.starts_with(&again),
            "what is saved has changed: the format needs a new number"
        );
        rest = &rest[again.len()..];
        rig.run();
        check(&mut rig);
    }
    assert!(rest.is_empty());
}

#[test]
#[ignore = "writes the states of a new format"]
fn write_the_states_of_a_new_format() {
    let file = std::fs::File::create_new(file());
    let mut file = file.expect("the format has its states: raise VERSION in src/state.rs");
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/states");
    for (name, make, _) in STATES {
        let state = saved(&make());
        file.write_all(&state).unwrap();
        // The fuzzer's inputs have no checksum.
        let (input, _) = state.split_last_chunk::<4>().unwrap();
        std::fs::write(corpus.join(name), input).unwrap();
    }
}
