//! Rings and what is in them.

use crate::bench::{finds, fires};
use crate::rig::{
    ADVANCED_ENABLE, BIU_SHADOW, BUFFERS_AT, CSP_TIMEOUT, GATE, HEAD, KICKOFF, MMU_MODE,
    RING_ADDRESS, RING_AT, RING_SIZE, Rig, TAIL, copy, fill,
};
use crate::tables::vram;
use e3k_regs::packet::{CspCommand, Writer, block};
use presil_device::{GpuVa, Width};

const AT: u64 = 4 << 20;
const SURFACE: u64 = 16 << 20;

fn says(dwords: &'static [u32]) -> impl Fn(&mut Rig) {
    move |rig| rig.submit(|w| dwords.iter().for_each(|dword| w.push(*dword)))
}

/// A Fence of 5 dwords, without its last ones.
const HALF: &[u32] = &[0x8200_0064, 0x40_0000];

#[test]
fn tail_on_half_a_packet() {
    fires(60001, says(HALF), says(&[0x8200_0064, 0x40_0000, 0, 1, 0]));
}

#[test]
fn a_buffer_s_length_that_cuts_a_packet() {
    let calls = |dwords| {
        move |rig: &mut Rig| {
            rig.buffer(vram(BUFFERS_AT), |w| w.fence(GpuVa(AT), 1, false));
            rig.submit(|w| w.dma(GpuVa(BUFFERS_AT), dwords));
        }
    };
    fires(60002, calls(4), calls(5));
}

#[test]
fn packets_that_do_not_exist() {
    fires(60003, says(&[0xA000_0000]), says(&[0xF000_0000]));
    // Fence type 1, and a call of an odd address.
    fires(
        60003,
        says(&[0x8000_0024, 0, 0, 0, 0]),
        says(&[0x8000_0001, 0]),
    );
    fires(
        60003,
        says(&[0x1000_0001, 2, 0]),
        says(&[0x1000_0001, 0x20_0000, 0]),
    );
    // What the model lacks is no fault of a driver's.
    fires(60003, says(&[0xD000_0000]), says(&[0x7000_0000]));
}

#[test]
fn a_tail_beyond_the_ring() {
    fires(
        60004,
        |rig| rig.set_and_run(TAIL, 0x1_0000),
        |rig| rig.set_and_run(TAIL, 0xFFFC),
    );
    fires(
        60004,
        |rig| rig.set_and_run(TAIL, 6),
        |rig| rig.set_and_run(TAIL, 8),
    );
}

impl Rig {
    fn set_and_run(&mut self, register: u32, value: u32) {
        self.set(register, value);
        self.run();
    }
}

#[test]
fn a_ring_and_a_buffer_that_are_not_mapped() {
    let maps = |also| {
        move |rig: &mut Rig| {
            rig.enter_va_mode();
            if also {
                rig.map(1, BUFFERS_AT, vram(BUFFERS_AT));
            }
            rig.submit(|w| {
                w.indicator(3, 1);
                w.dma(GpuVa(BUFFERS_AT), 1);
                w.indicator(0, 0);
            });
        }
    };
    fires(60005, maps(false), maps(true));
}

#[test]
fn a_ring_that_changes_while_it_runs() {
    let page = u32::try_from(RING_AT >> 12).unwrap();
    fires(
        60006,
        |rig| rig.set(RING_SIZE, 0x8000),
        |rig| rig.set(RING_SIZE, 0x1_0000),
    );
    fires(
        60006,
        |rig| rig.set(HEAD, 0),
        |rig| {
            rig.set(RING_ADDRESS, page);
            rig.set(HEAD, 0);
        },
    );
    fires(
        60006,
        |rig| rig.set(RING_ADDRESS, (page + 1) | KICKOFF),
        |rig| rig.set(RING_ADDRESS, page | KICKOFF),
    );
}

#[test]
fn a_ring_that_is_stopped_with_work_and_started_again() {
    let page = u32::try_from(RING_AT >> 12).unwrap();
    let stop = move |done: bool, again: fn(&mut Rig)| {
        move |rig: &mut Rig| {
            rig.queue(|w| w.fence(GpuVa(AT), 1, false));
            if done {
                rig.run();
            }
            rig.set(RING_ADDRESS, page);
            again(rig);
        }
    };
    fires(
        60007,
        stop(false, Rig::start_ring),
        stop(true, Rig::start_ring),
    );
    // A reset took the work; or it stays stopped.
    fires(60007, stop(false, Rig::start_ring), |rig| {
        stop(true, Rig::start_ring)(rig);
        stop(false, Rig::recover)(rig);
        stop(false, |_| {})(rig);
    });
}

/// Queues a fence, `behind` it, and runs until the fence is there: no further.
fn until_the_fence(rig: &mut Rig, behind: impl FnOnce(&mut Writer<'_>)) {
    rig.queue(|w| {
        w.indicator(3, 0);
        w.fence(GpuVa(AT), 1, false);
        behind(w);
    });
    while rig.load_u64(vram(AT)) != 1 {
        rig.gpu.step(1);
    }
    assert!(rig.gpu.has_work());
}

/// What drivers leave behind their last fence.
fn padding(w: &mut Writer<'_>) {
    w.indicator(0, 0);
    crate::rig::push_all(w, &[0, 2, 0xDEAD, 0xBEEF, 0]);
}

#[test]
fn padding_behind_the_last_fence_is_no_work() {
    let page = u32::try_from(RING_AT >> 12).unwrap();
    let stop = |va_mode: bool, behind: fn(&mut Writer<'_>)| {
        move |rig: &mut Rig| {
            if va_mode {
                rig.map(0, AT, vram(AT));
                rig.enter_va_mode();
            }
            until_the_fence(rig, behind);
            rig.set(RING_ADDRESS, page);
            rig.start_ring();
        }
    };
    let works = |w: &mut Writer<'_>| {
        padding(w);
        w.dma(GpuVa(BUFFERS_AT), 1);
    };
    for va_mode in [false, true] {
        fires(60007, stop(va_mode, works), stop(va_mode, padding));
    }
    let mode = |behind: fn(&mut Writer<'_>)| {
        move |rig: &mut Rig| {
            until_the_fence(rig, behind);
            rig.set(MMU_MODE, 1);
        }
    };
    fires(70013, mode(works), mode(padding));
}

#[test]
fn padding_behind_a_copy_says_nothing_of_the_copy() {
    let page = u32::try_from(RING_AT >> 12).unwrap();
    let stop = |fence: bool| {
        move |rig: &mut Rig| {
            rig.queue(|w| {
                w.indicator(3, 0);
                w.fence(GpuVa(AT), 1, false);
                fill(w, SURFACE, 1024, 1024, 7);
                if fence {
                    w.fence(GpuVa(AT), 2, false);
                }
                padding(w);
            });
            while rig.load(vram(SURFACE)) != 7 || fence && rig.load_u64(vram(AT)) != 2 {
                rig.gpu.step(1);
            }
            assert!(rig.gpu.has_work());
            rig.set(RING_ADDRESS, page);
            rig.start_ring();
        }
    };
    fires(60007, stop(false), stop(true));
}

#[test]
fn work_for_a_halted_ring() {
    fn halts(w: &mut Writer<'_>) {
        w.push(0x7000_0000); // a draw, which the model does not have
    }
    let goes_on = |reset: bool, told: bool| {
        move |rig: &mut Rig| {
            rig.set(ADVANCED_ENABLE, CSP_TIMEOUT);
            rig.gpu.write(GATE, Width::B1, 1);
            rig.submit(halts);
            if told {
                rig.set(BIU_SHADOW, 0);
                rig.reg(BIU_SHADOW);
            }
            if reset {
                rig.recover();
            }
            rig.submit(|w| w.fence(GpuVa(AT), 1, false));
        }
    };
    fires(60008, goes_on(false, true), goes_on(true, true));
    // It cannot know yet.
    fires(60008, goes_on(false, true), goes_on(false, false));
}

#[test]
fn packets_that_are_overwritten() {
    let fills = |last: u32| {
        move |rig: &mut Rig| {
            for tail in [0x8000, 0x9000] {
                rig.set_and_run(TAIL, tail);
            }
            rig.set(TAIL, 0x9100); // not run
            rig.set(TAIL, last);
        }
    };
    fires(60009, fills(0x9000), fills(0x8FFC));
    fires(60009, fills(0x9004), fills(0x100));
}

#[test]
fn work_for_a_ring_that_was_not_started() {
    let rings = |kick| {
        move |rig: &mut Rig| {
            let page = u32::try_from(RING_AT >> 12).unwrap();
            rig.set(RING_ADDRESS, page);
            rig.set(TAIL, 0);
            rig.set(TAIL, 4);
            rig.set(RING_ADDRESS, page | kick);
            rig.set(TAIL, 8);
            rig.set(TAIL, 12);
        }
    };
    fires(60010, rings(0), rings(KICKOFF));
}

#[test]
fn surfaces_that_another_submission_set() {
    let copies = |source_set: bool| {
        move |rig: &mut Rig| {
            for n in 0..2 {
                rig.submit(|w| {
                    w.indicator(3, 0);
                    if n == 0 || source_set {
                        copy(w, SURFACE, SURFACE + 4096, 16, 1);
                    } else {
                        w.surface(0, GpuVa(SURFACE + 8192), 16, 1);
                        w.blit(16, 1);
                    }
                    w.indicator(0, 0);
                });
            }
        }
    };
    fires(60011, copies(false), copies(true));
    // A fill needs no source.
    fires(60011, copies(false), |rig| {
        rig.submit(|w| {
            w.indicator(3, 0);
            fill(w, SURFACE, 1, 1, 7);
            fill(w, SURFACE, 1, 1, 8);
            w.indicator(0, 0);
        });
    });
    // A context that is restored brings them.
    fires(60011, copies(false), |rig| {
        copies(true)(rig);
        let restore = CspCommand::new()
            .with_block(block::CSP)
            .with_kind(CspCommand::RESTORE)
            .with_count(2);
        rig.submit(|w| {
            w.indicator(3, 0);
            w.push(restore.into_bits());
            w.push(0);
            w.push(0);
            w.blit(16, 1);
            w.indicator(0, 0);
        });
    });
}

#[test]
fn a_call_of_nothing() {
    let calls = |dwords| {
        move |rig: &mut Rig| {
            rig.submit(|w| w.dma(GpuVa(BUFFERS_AT), dwords));
        }
    };
    fires(60012, calls(0), calls(1));
}

#[test]
fn work_without_a_clock() {
    const CLOCK_GATES: u32 = 0x8A01;
    let rings = |gates: u64| {
        move |rig: &mut Rig| {
            rig.submit(|w| w.push(0)); // before anything is known of the clocks
            rig.gpu.write(CLOCK_GATES, Width::B1, gates);
            rig.submit(|w| w.push(0));
        }
    };
    fires(60013, rings(0x0F), rings(0x10));
    // Its neighbour says nothing of it.
    fires(60013, rings(0x0F), |rig| {
        rig.gpu.write(CLOCK_GATES + 1, Width::B1, 1);
        rig.submit(|w| w.push(0));
        rings(0x10)(rig);
    });
}

#[test]
fn a_report_has_the_history_of_its_ring() {
    let found = finds("", says(HALF));
    let report = &found[0];
    assert!(
        report
            .history
            .iter()
            .any(|note| note.starts_with("Tail = 0x8 at event")),
        "{report}"
    );
    assert!(
        report
            .to_string()
            .contains("  would do   Tail behind the whole packet"),
        "{report}"
    );
    assert!(
        report.line().contains(" ring=0 dword=0x82000064"),
        "{report}"
    );
}
