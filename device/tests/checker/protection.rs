//! What buffers of processes may not do.

use crate::bench::fires;
use crate::rig::{BUFFERS_AT, Rig, fill};
use crate::tables::vram;
use e3k_regs::packet::{SetRegister, Writer, block};
use presil_device::GpuVa;

/// A rig in VA mode where processes 0 to 3 reach buffers and surfaces.
fn processes(rig: &mut Rig) {
    for process in 0..4 {
        for at in [BUFFERS_AT, 16 << 20] {
            rig.map(process, at, vram(at));
        }
    }
    rig.enter_va_mode();
}

/// Process `id` runs a buffer.
fn run(rig: &mut Rig, id: u8, build: impl FnOnce(&mut Writer<'_>)) {
    let dwords = rig.buffer(vram(BUFFERS_AT), build);
    rig.submit(|w| {
        w.indicator(3, id);
        w.dma(GpuVa(BUFFERS_AT), dwords);
        w.indicator(0, 0);
    });
}

#[test]
fn a_buffer_that_sets_l1_registers() {
    let set = |id| {
        move |rig: &mut Rig| {
            processes(rig);
            run(rig, id, |w| w.set_register(block::MMU, 0x400, &[0]));
        }
    };
    fires(40001, set(2), |rig| {
        set(0)(rig); // the kernel
        run(rig, 2, |w| w.set_register(block::FF, 0x48, &[0]));
    });
}

#[test]
fn a_buffer_that_sets_a_register_of_the_crossbar_from_memory_or_by_mask() {
    let set = |header: SetRegister, payload: [u32; 2]| {
        move |rig: &mut Rig| {
            processes(rig);
            run(rig, 2, |w| {
                w.push(header.into_bits());
                crate::rig::push_all(w, &payload);
            });
        }
    };
    let header = SetRegister::new().with_count(2).with_word(5);
    let masked = header.with_masked(true);
    let loaded = header.with_from_memory(true);
    // PROC_SEC under a mask, one register from memory; and the colour pipe's.
    let near = set(masked.with_block(block::FF), [0; 2]);
    fires(40001, set(masked.with_block(block::MXU), [0; 2]), near);
    let at = u32::try_from(BUFFERS_AT).unwrap() + 0x100; // zeros
    let near = set(loaded.with_block(block::MXU), [at, 0]);
    fires(
        40001,
        set(loaded.with_block(block::MXU), [at, 1 << 19]),
        near,
    );
}

#[test]
fn a_buffer_that_sets_a_ring_register() {
    let set = |word| {
        move |rig: &mut Rig| {
            processes(rig);
            run(rig, 1, |w| w.set_register(block::CSP, word, &[0]));
        }
    };
    fires(40001, set(0x0A), set(0x40));
}

#[test]
fn a_buffer_that_becomes_another_process() {
    let become_ = |id, info, other| {
        move |rig: &mut Rig| {
            processes(rig);
            run(rig, id, |w| w.indicator(info, other));
        }
    };
    fires(40002, become_(2, 3, 1), become_(2, 3, 2));
    fires(40002, become_(2, 0, 2), |rig| {
        become_(0, 3, 1)(rig); // the kernel may
        run(rig, 2, |w| w.indicator(3, 2));
    });
}

#[test]
fn work_that_is_nobody_s() {
    let at = 16 << 20;
    fires(
        40003,
        |rig| {
            processes(rig);
            // The Indicator comes too late.
            rig.submit(|w| {
                fill(w, at, 1, 1, 7);
                w.indicator(3, 1);
                w.indicator(0, 0);
            });
        },
        |rig| {
            // PA mode has no processes.
            rig.submit(|w| fill(w, at, 1, 1, 7));
            processes(rig);
            rig.submit(|w| {
                w.indicator(3, 1);
                fill(w, at, 1, 1, 7);
                w.indicator(0, 0);
            });
        },
    );
}

#[test]
fn a_page_that_two_processes_write() {
    let write = |first_leaves: bool, other: u64| {
        move |rig: &mut Rig| {
            rig.enter_va_mode();
            rig.map(1, 64 << 20, vram(16 << 20));
            crate::rig::write_as(rig, 1, 64 << 20, 1);
            if first_leaves {
                let entry = rig.l3_entry_at(1, 64 << 20);
                rig.store(entry, 0);
            }
            rig.map(2, 64 << 20, vram(other));
            crate::rig::write_as(rig, 2, 64 << 20, 2);
        }
    };
    fires(40005, write(false, 16 << 20), write(true, 16 << 20));
    fires(40005, write(false, 16 << 20), write(false, 17 << 20));
    assert!(crate::bench::finds("", write(false, 16 << 20)).is_empty());
}
