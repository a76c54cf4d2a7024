//! What a reset takes.

use crate::bench::fires;
use crate::rig::{
    ADVANCED_ENABLE, ENGINE_RESET, FENCE, HEAD, KICKOFF, MMU_MODE, RING_ADDRESS, RING_AT,
    RING_BYTES, RING_SIZE, Rig, TAIL, TTBR,
};
use presil_device::GpuVa;

/// Sets the ring up where it was.
fn start(rig: &mut Rig) {
    start_at(rig, 0);
}

/// The same, empty from this offset on.
fn start_at(rig: &mut Rig, offset: u32) {
    let page = u32::try_from(RING_AT >> 12).unwrap();
    for (register, value) in [
        (RING_ADDRESS, page),
        (RING_SIZE, RING_BYTES),
        (HEAD, offset),
        (TAIL, offset),
        (RING_ADDRESS, page | KICKOFF),
    ] {
        rig.set(register, value);
    }
}

#[test]
fn the_mode() {
    let again = |mode| {
        move |rig: &mut Rig| {
            rig.set(MMU_MODE, 1);
            rig.gpu.reset();
            if let Some(mode) = mode {
                rig.set(MMU_MODE, mode);
            }
            start(rig);
            rig.set(TAIL, 4);
        }
    };
    fires(70007, again(None), again(Some(0)));
}

#[test]
fn a_ring() {
    let again = |set_up: bool| {
        move |rig: &mut Rig| {
            rig.set(ENGINE_RESET, 0x3C);
            rig.set(ENGINE_RESET, 0);
            if set_up {
                start(rig);
            }
            rig.set(TAIL, 4);
        }
    };
    fires(70010, again(false), again(true));
    // A driver that goes on where it was.
    fires(70010, again(false), |rig| {
        rig.set(ENGINE_RESET, 0x3C);
        rig.set(ENGINE_RESET, 0);
        start_at(rig, 0x40);
        rig.set(TAIL, 0x44);
    });
    // The video cores' reset does not take it.
    fires(70010, again(false), |rig| {
        rig.set(ENGINE_RESET, 0x180);
        rig.set(ENGINE_RESET, 0);
        rig.set(TAIL, 4);
    });
}

#[test]
fn a_ring_that_is_written_meanwhile() {
    let size = |units| {
        move |rig: &mut Rig| {
            rig.set(ENGINE_RESET, units);
            rig.set(RING_SIZE, RING_BYTES);
            rig.set(ENGINE_RESET, 0);
        }
    };
    fires(70009, size(0x3C), size(0x180));
}

#[test]
fn the_enables_of_interrupts() {
    let again = |enable: bool| {
        move |rig: &mut Rig| {
            rig.set(ADVANCED_ENABLE, FENCE);
            rig.gpu.reset();
            if enable {
                rig.set(ADVANCED_ENABLE, FENCE);
            }
            rig.start_ring();
            rig.submit(|w| w.fence(GpuVa(4 << 20), 1, true));
        }
    };
    fires(70014, again(false), again(true));
    // The next reset is as good as the end.
    fires(
        70014,
        |rig| {
            again(false)(rig);
            rig.gpu.reset();
            rig.set(ADVANCED_ENABLE, FENCE);
        },
        // It polls its first fence, and enables then.
        |rig| {
            again(false)(rig);
            rig.set(ADVANCED_ENABLE, FENCE);
        },
    );
}

#[test]
fn the_l1_registers() {
    let again = |tables: bool| {
        move |rig: &mut Rig| {
            rig.set(TTBR, 0xFF_FFF9);
            rig.gpu.reset();
            start(rig);
            if tables {
                rig.set(TTBR, 0xFF_FFF9);
            }
            rig.set(MMU_MODE, 1);
            rig.set(TAIL, 4);
        }
    };
    fires(70015, again(false), again(true));
}

#[test]
fn a_sleep_with_work() {
    let sleep = |idle: bool| {
        move |rig: &mut Rig| {
            rig.queue(|w| w.fence(presil_device::GpuVa(4 << 20), 1, false));
            if idle {
                rig.run();
            }
            rig.gpu.sleeps();
        }
    };
    fires(70017, sleep(false), sleep(true));
    fires(70017, sleep(false), |rig| {
        rig.queue(|w| w.fence(presil_device::GpuVa(4 << 20), 1, false));
        rig.set(crate::rig::RING_ADDRESS, 0);
        rig.gpu.sleeps();
    });
}
