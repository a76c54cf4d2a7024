//! What of the improvements over the base algorithm is on.

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
pub struct Options {
    /// Of the managers of the segments.
    pub buddy: BuddyOptions,
    /// What a client may book of each segment, in percent, until its budget says
    /// otherwise (D-20). SYSTEM has no such limit.
    pub client_percent: u8,
}

impl Options {
    /// The base algorithm alone, in which a client may book everything.
    pub const BASE: Self = Self {
        buddy: BuddyOptions::DEFAULT,
        client_percent: 100,
    };
}

impl Default for Options {
    /// All improvements; half of each segment for a client.
    fn default() -> Self {
        Self {
            client_percent: 50,
            ..Self::BASE
        }
    }
}
