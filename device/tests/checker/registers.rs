//! Registers, interrupts, power.

use crate::bench::fires;
use crate::rig::{
    ADVANCED_ENABLE, ADVANCED_SHADOW, BIU_SHADOW, FENCE, GATE, MMU_MODE, Rig, TOP_BUSY,
};
use presil_device::{GpuVa, Width};

const AT: u64 = 4 << 20;

fn set(register: u32, value: u32) -> impl Fn(&mut Rig) {
    move |rig| rig.set(register, value)
}

#[test]
fn one_that_is_read_only() {
    fires(70001, set(TOP_BUSY, 1), set(ADVANCED_ENABLE, 1));
}

#[test]
fn reserved_bits() {
    fires(70002, set(MMU_MODE, 2), set(MMU_MODE, 1 << 8));
}

#[test]
fn another_width() {
    fires(
        70003,
        |rig| rig.gpu.write(MMU_MODE, Width::B2, 0),
        |rig| {
            // Two registers at once, and a byte of a register of bytes.
            rig.gpu.write(0x49054, Width::B8, 0);
            rig.gpu.write(GATE, Width::B1, 0);
        },
    );
}

#[test]
fn one_that_nobody_declares() {
    fires(70004, set(0x12_3454 & 0xF_FFFC, 1), set(MMU_MODE, 0));
}

/// Fences that interrupt, and a handler.
fn interrupted(rig: &mut Rig, count: u64, handler: fn(&mut Rig)) {
    rig.set(ADVANCED_ENABLE, FENCE);
    rig.gpu.write(GATE, Width::B1, 1);
    for value in 1..=count {
        rig.submit(|w| w.fence(GpuVa(AT), value, true));
        handler(rig);
    }
}

fn handle(rig: &mut Rig) {
    rig.set(BIU_SHADOW, 0);
    rig.reg(BIU_SHADOW);
    rig.reg(ADVANCED_SHADOW);
}

#[test]
fn an_interrupt_that_is_never_acknowledged() {
    let late = |handler: fn(&mut Rig)| {
        move |rig: &mut Rig| {
            interrupted(rig, 66, |_| {});
            handler(rig);
            rig.gpu.reset();
        }
    };
    fires(70005, late(|_| {}), late(handle));
    // The virtio door latches for the driver.
    fires(
        70005,
        late(|_| {}),
        late(|rig| _ = rig.gpu.latch_interrupts()),
    );
    // The end is one of the run, not of the driver's patience.
    fires(
        70005,
        |rig| interrupted(rig, 66, |_| {}),
        |rig| interrupted(rig, 64, |_| {}),
    );
}

#[test]
fn an_interrupt_that_is_not_looked_at() {
    let blind = |rig: &mut Rig| rig.set(BIU_SHADOW, 0);
    fires(
        70006,
        |rig| interrupted(rig, 3, blind),
        |rig| {
            interrupted(rig, 2, handle);
            // Closing everything, a driver latches what it does not want to know.
            rig.submit(|w| w.fence(GpuVa(AT), 7, true));
            rig.set(BIU_SHADOW, 0);
            rig.set(ADVANCED_ENABLE, 0);
            rig.set(BIU_SHADOW, 0);
        },
    );
    fires(
        70006,
        |rig| interrupted(rig, 3, blind),
        |rig| {
            // What was pending before is cleared, and its message comes all the same.
            rig.submit(|w| w.fence(GpuVa(AT), 1, true));
            rig.set(ADVANCED_ENABLE, FENCE);
            rig.gpu.write(GATE, Width::B1, 1);
            rig.set(BIU_SHADOW, 0);
            handle(rig);
        },
    );
}

#[test]
fn a_poll_that_never_ends() {
    let polls = |count: u32, n: u32| {
        move |rig: &mut Rig| {
            for _ in 0..n {
                (0..count).for_each(|_| _ = rig.reg(TOP_BUSY));
                rig.submit(|w| w.push(0));
            }
        }
    };
    fires(70011, polls(100_000, 1), |rig| {
        polls(99_999, 2)(rig);
        // However slow the engine is, it gets on.
        rig.queue(|w| w.push(0));
        (0..100_000).for_each(|_| _ = rig.reg(TOP_BUSY));
        rig.run();
    });
}

#[test]
fn a_power_state_that_does_not_exist() {
    let asks = |code| {
        move |rig: &mut Rig| {
            rig.set(0x8E000, code);
            rig.set(0x8E080, 1);
        }
    };
    fires(70012, asks(0x11), asks(0x44));
}

#[test]
fn a_mode_that_changes_with_work() {
    let changes = |done: bool, mode: u32| {
        move |rig: &mut Rig| {
            rig.queue(|w| w.fence(GpuVa(AT), 1, false));
            if done {
                rig.run();
            }
            rig.set(MMU_MODE, mode);
        }
    };
    fires(70013, changes(false, 1), changes(true, 1));
    // The size of VRAM is no mode.
    fires(70013, changes(false, 1), changes(false, 0x300));
}
