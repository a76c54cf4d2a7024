//! What of the improvements over the base algorithm is on.

use super::promote::Promotion;
use crate::placement::BuddyOptions;

/// How a manager works. Each is independent of the others; with all of them off the
/// base algorithm is complete.
///
/// ```
/// use vidmm::evict::Options;
/// // A device that belongs to one client.
/// let options = Options { client_percent: 100, ..Options::BASE };
/// # assert_eq!(Options::default().client_percent, 50);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "switches, each for itself")]
pub struct Options {
    /// Of the managers of the segments.
    pub buddy: BuddyOptions,
    /// What a client may book of each segment, in percent, until its budget says
    /// otherwise (D-20). SYSTEM has no such limit.
    pub client_percent: u8,
    /// Whether who looks for room passes by those whom the GPU uses, and waits in the
    /// end for the earliest of them if nobody else could leave (D-1). Else it waits for
    /// each that it meets.
    pub wait_last: bool,
    /// Whether it is worked out who has to leave before anybody does, so that nobody
    /// leaves in vain (D-23). Else they leave one by one until there is room.
    pub plan: bool,
    /// Whether a buffer that the CPU touches where it does not reach comes to where it
    /// does, and whether the next validations prefer such places for it (D-16). Else such
    /// an access faults.
    pub cpu_use: bool,
    /// Whether faults that follow each other map more and more pages at once (D-15).
    pub grow_prefault: bool,
    /// On which terms buffers that had to leave come back (D-3); none: they come back
    /// only by being validated.
    pub promotion: Option<Promotion>,
    /// Whether a buffer that is validated in a PCIe type has its pages at once, and the
    /// GART points at them (R-7.11). Else they come when somebody needs them.
    pub eager_pages: bool,
    /// How soon after it had to leave a buffer comes back that counts as thrashing.
    pub thrash_ns: u64,
    /// How many pages of RAM may exist behind buffers ([`limit_ram`](super::Mm::limit_ram));
    /// none: as many as there are.
    pub ram_pages: Option<usize>,
}

impl Options {
    /// The base algorithm alone, in which a client may book everything.
    pub const BASE: Self = Self {
        buddy: BuddyOptions::DEFAULT,
        client_percent: 100,
        wait_last: false,
        plan: false,
        cpu_use: false,
        grow_prefault: false,
        promotion: None,
        eager_pages: false,
        thrash_ns: 100_000_000,
        ram_pages: None,
    };
}

impl Default for Options {
    /// All improvements; half of each segment for a client.
    fn default() -> Self {
        Self {
            client_percent: 50,
            wait_last: true,
            plan: true,
            cpu_use: true,
            grow_prefault: true,
            promotion: Some(Promotion::default()),
            ..Self::BASE
        }
    }
}
