//! What an unsatisfied Wait does.

use serde::{Deserialize, Serialize};

/// What a Wait does that no earlier fence has satisfied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnWait {
    /// It is recorded and passed.
    #[default]
    Pass,
    /// It halts its ring.
    Halt,
}
