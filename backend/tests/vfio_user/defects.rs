//! What a driver sees of a GPU that is broken on purpose.

use e3k_regs::fields::RingWord;
use presil_device::Defect;

use crate::FENCE_AT;
use crate::support::vfio::*;

/// Head and Tail of ring 0.
fn ring(rig: &mut Rig) -> [u32; 2] {
    [RingWord::Head, RingWord::Tail].map(|word| rig.client.read(word.offset(0)))
}

#[test]
fn a_head_that_lags_never_meets_its_tail() {
    for lags in [false, true] {
        let mut rig = if lags {
            Rig::broken([Defect::HeadLags])
        } else {
            Rig::new()
        };
        rig.bring_up(&Signal::new());
        rig.submit_fence(FENCE_AT, 1);
        rig.until_idle();
        assert_eq!(rig.ram_u64(FENCE_AT), 1, "the work is done");
        let [head, tail] = ring(&mut rig);
        assert_eq!(head != tail, lags, "{head:#x} {tail:#x}");
    }
}

#[test]
fn of_two_interrupts_one_is_lost_and_a_latch_finds_it() {
    let mut rig = Rig::broken([Defect::InterruptLost]);
    let signal = Signal::new();
    rig.bring_up(&signal);
    for value in 1..=4 {
        rig.submit_fence(FENCE_AT, value);
        rig.until_idle();
        assert_eq!(rig.ram_u64(FENCE_AT), value);
        assert_eq!(signal.take(), value % 2, "fence {value}");
        assert_eq!(rig.latch(), 1 << 27, "its source is pending");
    }
}

#[test]
fn a_late_interrupt_comes_by_itself() {
    let mut rig = Rig::broken([Defect::InterruptLate]);
    let signal = Signal::new();
    rig.bring_up(&signal);
    rig.submit_fence(FENCE_AT, 1);
    assert_eq!(signal.wait(), 1);
    assert_eq!(rig.latch(), 1 << 27);
}

#[test]
fn two_defects_show_at_once() {
    let mut rig = Rig::broken([Defect::FenceHighHalfLost, Defect::FaultWithoutInterrupt]);
    rig.bring_up(&Signal::new());
    rig.submit_fence(FENCE_AT, 0x11_0000_0022);
    rig.until_idle();
    assert_eq!(rig.ram_u64(FENCE_AT), 0x22);
}
