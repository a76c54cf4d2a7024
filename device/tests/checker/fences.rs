//! Fences and waits.

use crate::bench::{finds, fires};
use crate::rig::{ADVANCED_ENABLE, BUFFERS_AT, FENCE, KICKOFF, Rig, copy, fill};
use crate::tables::vram;
use e3k_regs::packet::{self, Writer};
use presil_device::GpuVa;
use presil_device::checker::{Checker, Options};

const AT: u64 = 4 << 20;
const SURFACE: u64 = 16 << 20;

fn values(values: &'static [u64]) -> impl Fn(&mut Rig) {
    move |rig| {
        for value in values {
            rig.submit(|w| w.fence(GpuVa(AT), *value, false));
        }
    }
}

#[test]
fn one_that_goes_back_or_repeats() {
    fires(50001, values(&[5, 6, 4]), values(&[5, 6, 9]));
    fires(50001, values(&[5, 5]), values(&[0, 1, 1 << 40]));
}

#[test]
fn a_process_s_own_values_and_a_new_set_up_are_no_going_back() {
    fires(50001, values(&[2, 1]), |rig| {
        let dwords = rig.buffer(vram(BUFFERS_AT), |w| {
            w.fence(GpuVa(AT + 8), 3, false);
            w.fence(GpuVa(AT + 8), 2, false);
        });
        rig.submit(|w| w.dma(GpuVa(BUFFERS_AT), dwords));
        values(&[5, 6])(rig);
        rig.recover();
        values(&[1, 2])(rig);
        // Another address has its own.
        rig.submit(|w| w.fence(GpuVa(AT + 16), 1, false));
    });
}

#[test]
fn a_word_that_the_cpu_begins_anew_is_no_going_back() {
    fires(50001, values(&[6, 1]), |rig| {
        values(&[5, 6])(rig);
        rig.put(vram(AT), &[0; 8]);
        values(&[1, 2])(rig);
    });
}

#[test]
fn a_report_of_one_names_both_fences() {
    let found = finds("", values(&[7, 6]));
    let report = &found[0];
    assert!(
        report.now.contains("fence 0x6 at GPU VA 0x400000"),
        "{report}"
    );
    assert!(report.before.as_ref().unwrap().contains("0x7"), "{report}");
    assert!(report.before_event.unwrap() < report.event);
    assert!(report.line().ends_with(" ring=0 va=0x400000"), "{report}");
}

/// A fence behind `route`.
fn fence_behind(w: &mut Writer<'_>, route: u8, value: u32) {
    let header = packet::Fence::new()
        .with_count(4)
        .with_kind(3)
        .with_route(route);
    for dword in [header.into_bits(), u32::try_from(AT).unwrap(), 0, value, 0] {
        w.push(dword);
    }
}

#[test]
fn one_that_does_not_wait_for_the_copy() {
    let copies = |route| {
        move |rig: &mut Rig| {
            rig.submit(|w| {
                w.indicator(3, 0);
                copy(w, SURFACE, SURFACE + 4096, 16, 1);
                fence_behind(w, route, 1);
                w.indicator(0, 0);
            });
        }
    };
    fires(50002, copies(0), |rig| {
        copies(2)(rig);
        // Nothing is copied in this submission.
        rig.submit(|w| {
            w.indicator(3, 0);
            fence_behind(w, 0, 2);
            w.indicator(0, 0);
        });
    });
    fires(50002, copies(8), copies(7));
}

#[test]
fn work_behind_the_last_one() {
    let at_the_end = |fences: usize| {
        move |rig: &mut Rig| {
            rig.submit(|w| {
                w.indicator(3, 0);
                w.fence(GpuVa(AT), 1, false);
                fill(w, SURFACE, 1, 1, 7);
                (0..fences).for_each(|_| w.fence(GpuVa(AT), 2, false));
                w.indicator(0, 0);
            });
        }
    };
    fires(50003, at_the_end(0), |rig| {
        at_the_end(1)(rig);
        // Without any fence a later one counts.
        rig.submit(|w| {
            w.indicator(3, 0);
            fill(w, SURFACE, 1, 1, 7);
            w.indicator(0, 0);
        });
    });
}

fn wait_behind(value: u16, waits_for: u16) -> impl Fn(&mut Rig) {
    move |rig| {
        rig.submit(|w| {
            w.push(packet::Fence::new().with_count(1).with_slot(9).into_bits());
            w.push(value.into());
            let wait = packet::Wait::new().with_slot(9).with_value(waits_for);
            w.push(wait.into_bits());
        });
    }
}

#[test]
fn a_wait_that_nothing_satisfies() {
    fires(50004, wait_behind(0x10, 0x11), wait_behind(0x10, 0x10));
}

#[test]
fn a_wait_that_halts_is_found_as_well() {
    use presil_device::{Chip, Config, OnWait};
    let mut config = Config::new(Chip::Arise10c0, 256 << 20, 256 << 20, true).unwrap();
    config.on_wait = OnWait::Halt;
    let mut rig = Rig::with_config(&config);
    let checker = Checker::new(&Options::default());
    let reports = checker.reports();
    rig.gpu.set_watch(Some(Box::new(checker)));
    wait_behind(1, 2)(&mut rig);
    let ids: Vec<_> = reports.list().iter().map(|report| report.rule.0).collect();
    assert_eq!(ids, [50004]);
}

#[test]
fn an_interrupt_that_nobody_enabled() {
    let interrupts = |rig: &mut Rig| rig.submit(|w| w.fence(GpuVa(AT), 1, true));
    fires(50005, interrupts, |rig| {
        interrupts(rig);
        rig.set(ADVANCED_ENABLE, FENCE); // late, not never
        rig.submit(|w| w.fence(GpuVa(AT), 2, true));
    });
}

#[test]
fn an_address_of_two_rings() {
    const RING9: u32 = 0x30620;
    let both = |other: u64| {
        move |rig: &mut Rig| {
            let base = u32::try_from(AT + 0x1_0000).unwrap();
            rig.put_dwords(
                vram(base.into()),
                &crate::rig::packets(|w| w.fence(GpuVa(other), 9, false)),
            );
            for (word, value) in [
                (0, base >> 12),
                (4, 0x1000),
                (8, 0),
                (12, 0),
                (0, base >> 12 | KICKOFF),
            ] {
                rig.set(RING9 + word, value);
            }
            rig.submit(|w| w.fence(GpuVa(AT), 1, false));
            rig.set(RING9 + 12, 20);
            rig.run();
            rig.submit(|w| w.fence(GpuVa(AT), 2, false));
        }
    };
    fires(50006, both(AT), both(AT + 8));
}

#[test]
fn a_copy_that_is_not_flushed() {
    let flushes = |dword: u32| {
        move |rig: &mut Rig| {
            rig.submit(|w| {
                w.indicator(3, 0);
                fill(w, SURFACE, 1, 1, 7);
                w.push(dword);
                w.fence(GpuVa(AT), 1, false);
                w.indicator(0, 0);
            });
        }
    };
    // Skip, and an invalidation, are none.
    fires(60014, flushes(0), flushes(0x9300_0000));
    fires(60014, flushes(0x9300_1000), flushes(0x9300_0000));
}
