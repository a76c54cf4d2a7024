//! What holds for every input whatever.

use crate::programs::{Op, program, rig};
use crate::rig::{BUFFERS_AT, ENGINE_RESET, MMU_MODE, RING_BYTES, Rig, push_all};
use crate::tables::vram;
use presil_device::{Counters, CspError, FaultRecord, GpuVa, Progress, VramOffset, Width};
use proptest::prelude::*;
use std::ops::Range;

/// Where programs write, and all behaviour is.
const REGISTERS: [Range<u32>; 6] = [
    0x8500..0x8600,
    0x8A00..0x8B00,
    0xD300..0xD400,
    0x30000..0x30700,
    0x49000..0x49100,
    0x50000..0x54000,
];

/// Everything that can be seen from outside.
#[derive(Debug, PartialEq)]
pub(crate) struct State {
    registers: Vec<u64>,
    vram: Vec<(u64, Vec<u8>)>,
    ram: Vec<(u64, Vec<u8>)>,
    pub(crate) interrupts: Vec<u64>,
    pending: bool,
    has_work: bool,
    faults: Vec<FaultRecord>,
    errors: Vec<CspError>,
}

pub(crate) fn state(rig: &mut Rig) -> State {
    State {
        registers: REGISTERS
            .into_iter()
            .flatten()
            .step_by(4)
            .map(|at| rig.gpu.read(at, Width::B4))
            .collect(),
        vram: rig.vram_pages(),
        ram: rig.ram.dump(),
        interrupts: rig.line.seen(),
        pending: rig.gpu.interrupt_pending(),
        has_work: rig.gpu.has_work(),
        faults: rig.gpu.faults().cloned().collect(),
        errors: rig.gpu.ring_errors().cloned().collect(),
    }
}

/// Fails if one step did more than its budget pays for.
fn step_within_price(rig: &mut Rig, budget: u32) {
    rig.ram.take_touches();
    let before = rig.gpu.counters();
    rig.gpu.step(budget);
    let after = rig.gpu.counters();
    let done = |count: fn(&Counters) -> u64| count(&after) - count(&before);
    let budget = u64::from(budget);
    assert!(done(|c| c.packets + c.ring_errors) <= budget / 256 + 1);
    // A fill only writes, so eight bytes of it cost what four of a copy do.
    let paid = done(|c| c.bytes_copied) / 4 + done(|c| c.bytes_filled) / 8;
    assert!(paid <= budget + 1024, "{paid} for {budget}");
    assert!(
        done(|c| c.walks) <= budget / 512 + 3,
        "a packet may lie on two pages"
    );
    assert!(done(|c| c.faults + c.bus_errors) <= budget / 64 + 1);
    assert!(done(|c| c.interrupts) <= 1);
    // A piece has two accesses, a packet three, a walk 17.
    let touches = rig.ram.take_touches().len() as u64;
    assert!(
        touches <= budget / 16 + 100,
        "{touches} accesses for {budget}"
    );
}

/// Puts the GPU's memory of `from` into `to`.
fn copy_memory(from: &Rig, to: &Rig) {
    for (at, _) in to.vram_pages() {
        to.gpu.vram().write(VramOffset(at), &[0; 4096]).unwrap();
    }
    for (at, bytes) in from.vram_pages() {
        to.gpu.vram().write(VramOffset(at), &bytes).unwrap();
    }
    for (at, bytes) in from.ram.dump() {
        to.ram.poke(at, &bytes);
    }
}

pub(crate) fn run(rig: &mut Rig, program: &[Op]) {
    for op in program {
        op.run(rig);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// No input panics, no step does more than it is paid for, and after the
    /// driver's recovery (hardware reference 9.1) the GPU works.
    #[test]
    fn any_program_ends_in_a_gpu_that_recovers(program in program()) {
        let mut rig = rig();
        for op in &program {
            match op {
                Op::Step(budget) => step_within_price(&mut rig, *budget),
                op => op.run(&mut rig),
            }
        }
        rig.set(ENGINE_RESET, 0x1FC);
        prop_assert!(!rig.gpu.has_work());
        prop_assert_eq!(rig.gpu.step(u32::MAX), Progress::Idle);
        rig.set(ENGINE_RESET, 0);
        rig.set(MMU_MODE, 0);
        rig.start_ring();
        rig.enable_interrupts();
        rig.gpu.latch_interrupts();
        let (raised, errors) = (rig.line.raised(), rig.errors().len());
        rig.submit(|w| w.fence(GpuVa(BUFFERS_AT), 0x600d, true));
        prop_assert_eq!(rig.load_u64(vram(BUFFERS_AT)), 0x600d);
        prop_assert_eq!(rig.line.raised(), raised + 1);
        prop_assert_eq!(rig.errors().len(), errors);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_same_inputs_give_the_same_outputs(program in program()) {
        let [mut one, mut two] = [rig(), rig()];
        run(&mut one, &program);
        run(&mut two, &program);
        prop_assert_eq!(one.gpu.counters(), two.gpu.counters());
        prop_assert!(state(&mut one) == state(&mut two));
    }

    /// A reset GPU behaves as a new one on the same memory.
    #[test]
    fn after_a_reset_nothing_is_left_of_what_was(before in program(), after in program()) {
        let [mut used, mut new] = [rig(), rig()];
        run(&mut used, &before);
        for rig in [&mut used, &mut new] {
            rig.gpu.reset();
        }
        copy_memory(&used, &new);
        let faults = used.gpu.faults().count();
        let errors = used.errors().len();
        let raised = used.line.raised();
        for rig in [&mut used, &mut new] {
            rig.start_ring();
            run(rig, &after);
        }
        let counters = used.gpu.counters();
        prop_assume!(counters.faults + counters.bus_errors < 1024, "the log is whole");
        let (mut used, new) = (state(&mut used), state(&mut new));
        used.faults.drain(..faults);
        used.errors.drain(..errors);
        used.interrupts.drain(..raised);
        prop_assert!(used == new);
    }

    /// Without calls, a ring's work is bounded by its contents: it comes to an
    /// end, whatever the budget of its steps.
    #[test]
    fn finite_work_ends(dwords in prop::collection::vec(any::<u32>(), 1..2000), budget in 0..70_000_u32) {
        let mut rig = rig();
        let no_calls = |dword: &u32| if dword >> 28 == 1 { 0 } else { *dword };
        let dwords: Vec<_> = dwords.iter().map(no_calls).collect();
        rig.queue(|w| push_all(w, &dwords));
        let ended = (0..RING_BYTES).any(|_| rig.gpu.step(budget) == Progress::Idle);
        prop_assert!(ended);
    }
}
