//! What a driver should not do to registers.

use serde::Serialize;

/// What a driver should not do to a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Misuse {
    /// It writes one that is read-only.
    ReadOnly = 1,
    /// It writes ones to reserved bits.
    Reserved = 2,
    /// It uses another width than the register's; 64 bits are two times 32.
    Width = 4,
}

impl Misuse {
    pub(crate) const ALL: [Self; 3] = [Self::ReadOnly, Self::Reserved, Self::Width];

    /// Its place in a register's counts.
    pub(crate) const fn place(self) -> usize {
        match self {
            Self::ReadOnly => 0,
            Self::Reserved => 1,
            Self::Width => 2,
        }
    }
}
