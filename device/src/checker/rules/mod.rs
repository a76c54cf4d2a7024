//! The rules, one file each: its id, its state, its events and its text.

mod access_of_unmapped;
mod asleep_with_work;
mod buffer_cuts_packet;
mod bus_master_off;
mod bus_page_snooped_and_not;
mod call_of_nothing;
mod copy_not_flushed;
mod dirty_lines_overwritten;
mod dirty_lines_read;
mod doorbell_of_a_halted_ring;
mod doorbell_of_a_stopped_ring;
mod doorbell_without_clock;
mod enables_lost_by_reset;
mod fence_address_shared;
mod fence_faults;
mod fence_goes_back;
mod fence_interrupt_unheard;
mod fence_of_another_route;
mod half_packet;
mod impossible_ring;
mod interrupt_never_acknowledged;
mod interrupt_not_looked_at;
mod invalidation_elsewhere;
mod invalidation_ids_disagree;
mod invalidation_in_reset;
mod invalidation_inside_a_line;
mod invalidation_of_nothing;
mod invalidation_of_what_is_not_there;
mod invalidation_too_short;
mod mode_changed_with_work;
mod mode_lost_by_reset;
mod no_such_packet;
mod no_such_power_state;
mod old_lines_loaded;
mod page_cached_and_combined;
mod page_of_two_processes;
mod process_id_reused;
mod process_writes_kernel_memory;
mod range_unmapped_under_work;
mod read_only_register;
mod reserved_bits;
mod ring_changed_while_running;
mod ring_lost_by_reset;
mod ring_not_mapped;
mod ring_overwritten;
mod ring_restarted_without_reset;
mod ring_written_in_reset;
mod spin;
mod stale_translation;
mod surface_of_another_submission;
mod tables_lost_by_reset;
mod unfilled_table;
mod unknown_register;
mod unmapped_fence;
mod unmapped_ring;
mod unmapped_table;
mod unmapped_under_entry;
mod unmapped_under_tlb;
mod unmapped_under_work;
mod unwritten_packets;
mod unwritten_read;
mod upper_level_changed;
mod user_changes_process;
mod user_sets_registers;
mod wait_never_met;
mod work_behind_last_fence;
mod work_without_indicator;
mod wrong_width;

use crate::checker::rule::Rule;
use crate::checker::text::{self, Text};

macro_rules! rules {
    ($($module:ident,)*) => {
        /// Every rule, in the order of their numbers.
        pub(crate) const ALL: &[(&Text, fn() -> Box<dyn Rule>)] = &[
            $((&$module::TEXT, || Box::<$module::State>::default()),)*
        ];
    };
}

rules! {
    stale_translation,
    upper_level_changed,
    invalidation_elsewhere,
    invalidation_too_short,
    process_id_reused,
    invalidation_of_what_is_not_there,
    unfilled_table,
    invalidation_of_nothing,
    invalidation_ids_disagree,
    invalidation_inside_a_line,
    unmapped_under_entry,
    unmapped_under_tlb,
    access_of_unmapped,
    unmapped_table,
    unmapped_ring,
    unmapped_fence,
    unmapped_under_work,
    range_unmapped_under_work,
    bus_page_snooped_and_not,
    unwritten_read,
    dirty_lines_read,
    old_lines_loaded,
    dirty_lines_overwritten,
    page_cached_and_combined,
    user_sets_registers,
    user_changes_process,
    work_without_indicator,
    process_writes_kernel_memory,
    page_of_two_processes,
    fence_goes_back,
    fence_of_another_route,
    work_behind_last_fence,
    wait_never_met,
    fence_interrupt_unheard,
    fence_address_shared,
    fence_faults,
    half_packet,
    buffer_cuts_packet,
    no_such_packet,
    impossible_ring,
    ring_not_mapped,
    ring_changed_while_running,
    ring_restarted_without_reset,
    doorbell_of_a_halted_ring,
    ring_overwritten,
    doorbell_of_a_stopped_ring,
    surface_of_another_submission,
    call_of_nothing,
    doorbell_without_clock,
    copy_not_flushed,
    unwritten_packets,
    read_only_register,
    reserved_bits,
    wrong_width,
    unknown_register,
    interrupt_never_acknowledged,
    interrupt_not_looked_at,
    mode_lost_by_reset,
    invalidation_in_reset,
    ring_written_in_reset,
    ring_lost_by_reset,
    spin,
    no_such_power_state,
    mode_changed_with_work,
    enables_lost_by_reset,
    tables_lost_by_reset,
    bus_master_off,
    asleep_with_work,
}

/// The texts of all rules, in the order of their numbers.
pub fn texts() -> impl Iterator<Item = &'static Text> {
    ALL.iter().map(|(text, _)| *text)
}

/// The list of the rules' pages, docs/rules/README.md.
pub fn index() -> String {
    text::index(texts())
}

/// The text of a rule; `None`: no rule has this number.
pub fn text(rule: u32) -> Option<&'static Text> {
    texts().find(|text| text.id.0 == rule)
}
