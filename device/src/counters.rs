//! What has happened, in numbers, since power-on.

use serde::{Deserialize, Serialize};

/// Counts since power-on; a function reset does not clear them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Register reads.
    pub register_reads: u64,
    /// Register writes.
    pub register_writes: u64,
    /// Accesses refused: misaligned or outside BAR0.
    pub refused_accesses: u64,
    /// Accesses to offsets that no declaration covers; they are plain storage.
    pub undeclared_accesses: u64,
    /// Writes to read-only registers; they are lost.
    pub read_only_writes: u64,
    /// Writes of ones to reserved bits of a register.
    pub reserved_writes: u64,
    /// Accesses to a register in another width than its own; 64 bits count as two times 32.
    pub wrong_widths: u64,
    /// Packets executed.
    pub packets: u64,
    /// Packets of parts that are not modelled, passed by their length.
    pub without_effect: u64,
    /// Context saves and restores; they have no effect.
    pub context_switches: u64,
    /// Waits.
    pub waits: u64,
    /// Those of them that no earlier fence had satisfied.
    pub unmet_waits: u64,
    /// Blits finished.
    pub copies: u64,
    /// Fast clears finished.
    pub fills: u64,
    /// Bytes that blits wrote.
    pub bytes_copied: u64,
    /// Bytes that fast clears wrote.
    pub bytes_filled: u64,
    /// External fences written.
    pub fences: u64,
    /// Times the interrupt was raised.
    pub interrupts: u64,
    /// Translations answered by a client's own TLB.
    pub utlb_hits: u64,
    /// Translations answered by the shared TLB.
    pub dtlb_hits: u64,
    /// Table walks.
    pub walks: u64,
    /// TLB invalidations.
    pub invalidations: u64,
    /// Translation faults.
    pub faults: u64,
    /// Those of them that came while an earlier one was on display.
    pub fault_overflows: u64,
    /// DMA accesses that nobody answered.
    pub bus_errors: u64,
    /// Ring errors; each halted its ring.
    pub ring_errors: u64,
    /// Function resets.
    pub resets: u64,
}

/// More than any counter of a GPU will ever hold; a saved one that does is not true.
pub(crate) const COUNT_MAX: u64 = 1 << 62;

impl Counters {
    /// Whether a GPU can have counted so far.
    pub(crate) fn is_sound(&self) -> bool {
        let Self {
            register_reads,
            register_writes,
            refused_accesses,
            undeclared_accesses,
            read_only_writes,
            reserved_writes,
            wrong_widths,
            packets,
            without_effect,
            context_switches,
            waits,
            unmet_waits,
            copies,
            fills,
            bytes_copied,
            bytes_filled,
            fences,
            interrupts,
            utlb_hits,
            dtlb_hits,
            walks,
            invalidations,
            faults,
            fault_overflows,
            bus_errors,
            ring_errors,
            resets,
        } = *self;
        let all = [
            register_reads,
            register_writes,
            refused_accesses,
            undeclared_accesses,
            read_only_writes,
            reserved_writes,
            wrong_widths,
            packets,
            without_effect,
            context_switches,
            waits,
            unmet_waits,
            copies,
            fills,
            bytes_copied,
            bytes_filled,
            fences,
            interrupts,
            utlb_hits,
            dtlb_hits,
            walks,
            invalidations,
            faults,
            fault_overflows,
            bus_errors,
            ring_errors,
            resets,
        ];
        all.into_iter().all(|count| count <= COUNT_MAX)
    }
}
