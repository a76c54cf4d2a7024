//! Each defect of the model is noticed by the comparison with the naive one: on random
//! programs, or on one made for it.

use crate::naive::Choices;
use crate::naive::compare::Pair;
use crate::naive::program::{Edit, Leaf, Step};
use crate::naive::properties::follow;
use crate::naive::random_programs::{choices, program};
use crate::naive::stale;
use crate::rig::{ADVANCED_ENABLE, ENGINE_RESET, GATE, RING_BYTES, SURFACES_AT};
use presil_device::{Broken, Defect, Width};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// More random programs than any fault needs that they notice.
const PROGRAMS: usize = 600;

/// What a program shows with a fault in the model, if anything.
fn notices(choices: Choices, program: &[Step], fault: Option<Defect>) -> Option<String> {
    let mut pair = Pair::new(choices);
    pair.rig.gpu.set_watch(Some(Box::new(Broken::new(fault))));
    let followed = catch_unwind(AssertUnwindSafe(|| follow(&mut pair, program)));
    match followed {
        Ok(true) => {
            let [model, naive] = pair.states();
            model.differences(&naive).into_iter().next()
        }
        Ok(false) => None,
        Err(_) => Some("a register read".into()),
    }
}

/// The same programs every time.
fn random_programs() -> impl Iterator<Item = (Choices, Vec<Step>)> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let programs = (choices(), program());
    (0..PROGRAMS).map(move |_| programs.new_tree(&mut runner).unwrap().current())
}

/// Process 1 writes at `va`.
fn write(va: u64) -> Step {
    let [low, high] = e3k_regs::packet::halves(va);
    Step::Call(
        0,
        0,
        vec![0x9006_2001, 1, 0x8000_0064, low, high, 0x55, 0x66],
    )
}

/// A fence of 64 bits.
fn fence(va: u64, value: u32) -> Vec<u32> {
    let [low, high] = e3k_regs::packet::halves(va);
    vec![0x8000_0064, low, high, value, 0]
}

/// A program for each fault that hardly shows in random ones.
fn made_for(fault: Defect) -> Option<Vec<Step>> {
    /// 4 GiB further, behind process 1's second L1 register.
    const HIGH: u64 = (1 << 32) + SURFACES_AT;
    /// The L3 entry of process 1's first page.
    const ENTRY: usize = 8;
    /// An internal fence that interrupts.
    const INTERRUPT: [u32; 2] = [8 << 28 | 1 << 3 | 1, 5];
    Some(match fault {
        Defect::EnableIgnored => vec![
            Step::Write(ADVANCED_ENABLE, Width::B4, 0),
            Step::Queue(0, INTERRUPT.to_vec()),
        ],
        Defect::GateIgnored => vec![
            Step::Write(GATE, Width::B1, 0),
            Step::Queue(0, INTERRUPT.to_vec()),
        ],
        // The first video core's.
        Defect::VideoResetsSwapped => vec![Step::Write(ENGINE_RESET, Width::B4, 1 << 7)],
        Defect::RingInvalidationLost => vec![
            Step::Edit(Edit::L1(1, 1, Some(1)), true),
            write(HIGH),
            Step::Edit(Edit::L1ByRing(1, 1, Some(2), false), false),
            Step::Run(1 << 16),
            write(HIGH),
        ],
        Defect::InvalidEntryCached => vec![
            Step::Edit(Edit::L3(ENTRY, Leaf::Invalid(0)), true),
            write(SURFACES_AT + 4096),
            Step::Edit(Edit::L3(ENTRY, Leaf::Vram(5)), true),
            write(SURFACES_AT),
        ],
        Defect::ResetKeepsTlbs => vec![
            Step::Edit(Edit::L1(1, 1, Some(1)), true),
            write(HIGH),
            Step::Reset,
            write(HIGH),
        ],
        // 5 and then or 0x18 in slot 3; a Wait for 0x1d.
        Defect::SlotOrCopies => vec![Step::Queue(
            0,
            vec![0x8000_0181, 5, 0x8000_2181, 0x18, 0x20C4_001D],
        )],
        Defect::HeadNotWrapped => vec![
            Step::Queue(0, vec![0; RING_BYTES as usize / 4 - 8]),
            Step::Run(1 << 16),
            Step::Queue(0, vec![0; 16]),
            Step::Run(1 << 16),
        ],
        // The second rises, or falls; then nothing is pending.
        Defect::InterruptLost | Defect::InterruptSpurious => [
            Step::Queue(0, INTERRUPT.to_vec()),
            Step::Run(1 << 16),
            Step::Latch,
            Step::Queue(0, INTERRUPT.to_vec()),
            Step::Run(1 << 16),
            Step::Latch,
            Step::Run(1),
        ]
        .to_vec(),
        Defect::InterruptLate => vec![Step::Queue(0, INTERRUPT.to_vec())],
        Defect::FenceLost => (1..=8)
            .map(|value| Step::Queue(0, fence(SURFACES_AT, value)))
            .collect(),
        Defect::DoorbellLost => (0..8).map(|_| Step::Queue(0, vec![0; 2])).collect(),
        _ => return None,
    })
}

#[test]
fn every_planted_fault_is_noticed() {
    let missed: Vec<_> = Defect::ALL
        .iter()
        .filter(|fault| {
            let found = match made_for(**fault) {
                Some(program) => notices(Choices::default(), &program, Some(**fault)),
                None => random_programs()
                    .find_map(|(choices, program)| notices(choices, &program, Some(**fault))),
            };
            found.is_none()
        })
        .collect();
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn programs_made_for_a_fault_show_nothing_without_it() {
    for program in Defect::ALL.iter().filter_map(|fault| made_for(*fault)) {
        assert_eq!(notices(Choices::default(), &program, None), None);
    }
}

#[test]
fn a_lost_invalidation_breaks_the_tlb_rules() {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let acts = (
        stale::tlbs(),
        proptest::collection::vec(stale::act(), 1..60),
    );
    let mut broken = |fault| {
        (0..PROGRAMS).any(|_| {
            let (tlbs, acts) = acts.new_tree(&mut runner).unwrap().current();
            stale::check(tlbs, &acts, fault).is_err()
        })
    };
    assert!(broken(Some(Defect::RegisterInvalidationLost)));
    assert!(broken(Some(Defect::RingInvalidationLost)));
    assert!(!broken(None));
}
