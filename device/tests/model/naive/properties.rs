//! The model does what the naive one does.

use super::compare::Pair;
use super::program::Step;
use super::random_programs::{choices, program};
use proptest::prelude::*;

/// Runs a program on both. `false` when the naive model cannot follow.
pub(crate) fn follow(pair: &mut Pair, program: &[Step]) -> bool {
    program.iter().all(|step| step.apply(pair)) && pair.run(1 << 16)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_time: 20_000, ..ProptestConfig::default() })]

    /// Memory, registers, interrupts, faults, ring errors, unmet waits and what
    /// was touched on the bus, after any program that invalidates what it
    /// changes, under every choice about the MMU and about Waits.
    #[test]
    fn a_program_that_invalidates_sees_no_tlb(choices in choices(), program in program()) {
        let mut pair = Pair::new(choices);
        prop_assume!(follow(&mut pair, &program));
        let [model, naive] = pair.states();
        let differences = model.differences(&naive);
        prop_assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}
