//! Invalidations as they are posted.

use crate::bench::fires;
use crate::rig::{ENGINE_RESET, Rig};

const PT_INV_ADDR: u32 = 0x49018;
const PT_INV_MASK: u32 = 0x4901C;
const PT_INV_TRIG: u32 = 0x49020;

fn invalidate(address: u32, mask: u32, trigger: u32) -> impl Fn(&mut Rig) {
    move |rig| {
        rig.set(PT_INV_ADDR, address);
        rig.set(PT_INV_MASK, mask);
        rig.set(PT_INV_TRIG, trigger);
    }
}

#[test]
fn one_of_no_tlb() {
    fires(10020, invalidate(0, 0xFFF0, 0), invalidate(0, 0, 1 << 5));
    fires(10020, invalidate(0x10, 0, 0), invalidate(0, 0, 0));
    fires(10020, invalidate(0, 0, 3 << 5), invalidate(0, 0, 2 << 5));
}

#[test]
fn one_of_two_process_ids() {
    let near = invalidate(3 << 28, 0xF << 28, 2 << 5 | 3);
    fires(10021, invalidate(3 << 28, 0xF << 28, 2 << 5 | 2), near);
    // Process ids are not compared, or the trigger names none.
    let near = invalidate(3 << 28, 0, 2 << 5 | 2);
    fires(10021, invalidate(3 << 28, 0xF << 28, 2 << 5 | 4), near);
    let near = invalidate(3 << 28, 0xF << 28, 2 << 5);
    fires(10021, invalidate(3 << 28, 0xF << 28, 2 << 5 | 5), near);
}

#[test]
fn one_of_a_page_inside_a_line() {
    let mask = 0x0FFF_FFFF;
    let near = invalidate(0x1230, mask, 2 << 5);
    fires(10022, invalidate(0x1234, mask, 2 << 5), near);
    // Single pages are what UTLBs hold.
    let near = |rig: &mut Rig| {
        invalidate(0x1230, mask, 2 << 5)(rig);
        invalidate(0x1234, mask, 1 << 5)(rig);
    };
    fires(10022, invalidate(0x1231, mask, 2 << 5), near);
}

#[test]
fn one_in_a_reset() {
    let post = |units| {
        move |rig: &mut Rig| {
            rig.set(ENGINE_RESET, units);
            invalidate(0, 0, 2 << 5)(rig);
            rig.set(ENGINE_RESET, 0);
        }
    };
    fires(70008, post(1), post(0x3C));
}
