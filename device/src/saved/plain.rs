//! BAR0 as plain storage, and what is known of its use.

use super::sparse::Sparse;
use crate::misuse::Misuse;
use serde::{Deserialize, Serialize};

/// The words, and the log.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Registers {
    /// By their number in BAR0.
    pub(crate) words: Sparse<u32>,
    /// Reads and writes that no declaration covers, by the word's number.
    pub(crate) undeclared: Sparse<[u32; 2]>,
    /// The same for each block of BAR0.
    pub(crate) blocks: Sparse<Use>,
    /// The kinds of misuse that were said of a register, by its place in the list of all.
    pub(crate) said: Sparse<u8>,
    /// How often a register was misused in each way, by its place in all banks.
    pub(crate) misused: Sparse<[u32; Misuse::ALL.len()]>,
}

/// Accesses to a block that no declaration covers.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Use {
    /// Different words.
    pub(crate) words: u64,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
}
