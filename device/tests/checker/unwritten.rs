//! VRAM that nobody has written, where a pattern shows it.

use crate::bench::{Judged, fires_on, judged};
use crate::rig::{BUFFERS_AT, MIB, PAGE_A, PAGE_B, RING_AT, Rig, TAIL, copy, packets};
use crate::tables::{plus, vram};
use e3k_regs::packet::block;
use presil_device::{GpuVa, Target};

const SEED: u64 = 7;
/// Of process 1.
const FROM: u64 = 64 * MIB;
const TO: u64 = FROM + MIB;

fn fires(id: u32, fault: impl Fn(&mut Rig), near: impl FnOnce(&mut Rig)) {
    fires_on(Some(SEED), id, fault, near);
}

/// Clears a page, and a page's table, as a driver does.
fn clear(rig: &Rig, at: Target) {
    rig.put(at, &[0; 4096]);
}

/// VA mode, with tables of zeros.
fn enter(rig: &mut Rig) {
    for n in 0..8 {
        clear(rig, vram(8 * MIB + n * 4096));
    }
    rig.enter_va_mode();
}

/// Process 1 copies 1024 bytes.
fn copied(rig: &mut Rig) {
    rig.map(1, FROM, PAGE_A);
    rig.map(1, TO, PAGE_B);
    rig.submit(|w| {
        w.indicator(3, 1);
        copy(w, FROM, TO, 256, 1);
        w.indicator(0, 0);
    });
}

#[test]
fn a_process_that_reads_what_nobody_wrote() {
    let read = |written: usize| {
        move |rig: &mut Rig| {
            enter(rig);
            rig.put(PAGE_A, &vec![0; written]);
            copied(rig);
        }
    };
    fires(30002, read(0), read(1024));
    fires(30002, read(1016), read(1017)); // of the last word one byte
}

#[test]
fn what_the_kernel_has_filled_or_reads_itself_is_no_finding() {
    let found = judged(Some(SEED), "", |rig| {
        enter(rig);
        for (va, page) in [(FROM, PAGE_A), (TO, PAGE_B)] {
            rig.map(0, va, page);
        }
        rig.submit(|w| {
            w.indicator(3, 0);
            copy(w, FROM, TO, 256, 1);
            crate::rig::fill(w, FROM, 256, 1, 0);
            w.indicator(0, 0);
        });
        copied(rig);
    });
    assert!(found.reports.is_empty(), "{:?}", found.reports);
}

/// Sets three registers that nothing uses here: two of the values are in the second 8 bytes.
fn packet() -> Vec<u32> {
    packets(|w| w.set_register(block::FF, 0x48, &[0; 3]))
}

#[test]
fn packets_that_nobody_wrote() {
    let tail = |written: usize| {
        move |rig: &mut Rig| {
            rig.put_dwords(vram(RING_AT), &packet()[..written]);
            rig.set(TAIL, 16);
            rig.run();
        }
    };
    fires(60017, tail(1), tail(4));
    // What a Skip passes may be anything.
    fires(60017, tail(1), |rig| {
        rig.put_dwords(vram(RING_AT), &[6]);
        rig.set(TAIL, 4 * 7);
        rig.run();
    });
}

#[test]
fn a_buffer_that_nobody_wrote() {
    let call = |written: usize| {
        move |rig: &mut Rig| {
            rig.put_dwords(vram(BUFFERS_AT), &packet()[..written]);
            rig.submit(|w| w.dma(GpuVa(BUFFERS_AT), 4));
        }
    };
    fires(60017, call(1), call(4));
}

#[test]
fn a_table_that_nobody_filled() {
    let table = |filled: bool| {
        move |rig: &mut Rig| {
            enter(rig);
            rig.map(1, FROM, PAGE_A);
            let entry = rig.l3_entry_at(1, FROM);
            let other = plus(entry, 4 * 64);
            if !filled {
                rig.put(other, &pattern(other));
            }
            clear(rig, PAGE_A);
            clear(rig, PAGE_B);
            rig.map(1, TO, PAGE_B);
            // The first entry of its 16 is used, another is not.
            let va = FROM + 64 * 4096;
            rig.submit(|w| {
                w.indicator(3, 1);
                crate::rig::fill(w, va, 1, 1, 7);
                w.indicator(0, 0);
            });
        }
    };
    fires(10007, table(false), table(true));
}

fn pattern(at: Target) -> [u8; 8] {
    let Target::Vram(at) = at else {
        panic!("not in VRAM");
    };
    presil_device::Vram::pattern(SEED, at.0).to_le_bytes()
}

#[test]
fn without_a_pattern_nothing_is_judged_and_the_summary_says_so() {
    let told = |seed| {
        let Judged { reports, summary } = judged(seed, "", |rig| {
            enter(rig);
            copied(rig);
        });
        let found: Vec<_> = reports.iter().map(|report| report.rule.0).collect();
        let rules = [10007, 30002, 60017];
        let with_input = summary.rules.iter().filter(|rule| rule.checked > 0);
        let judged = with_input
            .filter(|rule| rules.contains(&rule.rule.0))
            .count();
        (found, judged, summary.to_string().contains("--vram-seed"))
    };
    assert_eq!(told(None), (vec![], 0, true));
    assert_eq!(told(Some(SEED)), (vec![30002], 3, false));
}
