//! A guest can cause as many log lines as it likes; this lets the first few
//! through and then only every power of two.

/// How many lines of one kind are logged without a gap.
const FIRST: u64 = 16;

/// Whether the `count`-th event of a kind (1 is the first) deserves a line.
pub(crate) fn worth_a_line(count: u64) -> bool {
    count <= FIRST || count.is_power_of_two()
}
