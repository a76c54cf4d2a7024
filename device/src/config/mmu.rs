//! What can be chosen about the MMU: the shape of its TLBs, and the readings
//! of what the hardware reference leaves open.

use super::error::ConfigError;
use serde::{Deserialize, Serialize};

const UTLB_MAX: u32 = 1024;
const SETS_MAX: u32 = 4096;
const WAYS_MAX: u32 = 16;

/// Choices about the MMU. The default is what docs/model-choices.md says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MmuOptions {
    /// Entries of each client's UTLB.
    pub utlb: UtlbSize,
    /// An invalidation of the DTLB leaves the UTLBs alone.
    pub strict_utlb: bool,
    /// Shape of the shared TLB.
    pub dtlb: DtlbShape,
    /// What the `LargePage` bit of an L2 entry means.
    pub large_page: LargePage,
    /// What a page fault does to the ring.
    pub on_fault: OnFault,
}

/// Entries of a UTLB, of one page each: 0 or a power of two up to 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UtlbSize(u32);

impl UtlbSize {
    /// No UTLBs: every client asks the shared TLB.
    pub const OFF: Self = Self(0);

    /// # Errors
    /// Not 0 and not a power of two up to 1024.
    pub fn new(entries: u32) -> Result<Self, ConfigError> {
        if entries == 0 || entries.is_power_of_two() && entries <= UTLB_MAX {
            Ok(Self(entries))
        } else {
            Err(ConfigError::Utlb { entries })
        }
    }

    /// How many.
    pub const fn entries(self) -> u32 {
        self.0
    }
}

impl Default for UtlbSize {
    fn default() -> Self {
        Self(32)
    }
}

/// Shape of the shared TLB, whose lines hold 16 PTEs, 64 KiB of address space
/// (hardware reference 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DtlbShape {
    sets: u32,
    ways: u32,
}

impl DtlbShape {
    /// No shared TLB: what a UTLB does not know is walked.
    pub const OFF: Self = Self { sets: 0, ways: 0 };

    /// # Errors
    /// `sets` is no power of two up to 4096, or `ways` not from 1 to 16.
    pub fn new(sets: u32, ways: u32) -> Result<Self, ConfigError> {
        let legal = sets.is_power_of_two() && sets <= SETS_MAX && (1..=WAYS_MAX).contains(&ways);
        if legal {
            Ok(Self { sets, ways })
        } else {
            Err(ConfigError::Dtlb { sets, ways })
        }
    }

    /// Sets; 0 when there is no shared TLB.
    pub const fn sets(self) -> u32 {
        self.sets
    }

    /// Lines in each set.
    pub const fn ways(self) -> u32 {
        self.ways
    }
}

impl Default for DtlbShape {
    fn default() -> Self {
        Self { sets: 64, ways: 4 }
    }
}

/// What the `LargePage` bit of an L2 entry means (hardware reference 4.1: unknown).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LargePage {
    /// The L3 table below holds 64 entries of 64 KiB pages.
    #[default]
    Table64K,
    /// The entry itself is a page of 4 MiB; its low ten page bits do not count.
    Leaf4M,
    /// Nothing: it is a page fault.
    Fault,
}

/// What a page fault does to the ring whose access it was. The fault
/// registers, the log and the interrupt are the same in all three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFault {
    /// The access is dropped and the ring goes on.
    #[default]
    Report,
    /// The access is dropped; the ring waits behind it until software has
    /// cleared every bit of `MXU_INT_STATUS`.
    Halt,
    /// The access waits until software has cleared every bit of
    /// `MXU_INT_STATUS`, and is then done again.
    Retry,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_cannot_be_are_refused_with_what_can() {
        for entries in [0, 1, 32, 1024] {
            assert_eq!(UtlbSize::new(entries).unwrap().entries(), entries);
        }
        for entries in [3, 2048, u32::MAX] {
            let error = UtlbSize::new(entries).unwrap_err();
            assert!(error.to_string().contains("power of two"), "{error}");
        }
        assert!(DtlbShape::new(1, 1).is_ok() && DtlbShape::new(4096, 16).is_ok());
        for (sets, ways) in [(0, 1), (3, 4), (8192, 1), (64, 0), (64, 17)] {
            let error = DtlbShape::new(sets, ways).unwrap_err();
            assert!(error.to_string().contains("power of two"), "{error}");
        }
    }
}
