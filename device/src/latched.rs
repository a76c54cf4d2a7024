//! What a latch finds.

use serde::{Deserialize, Serialize};

/// The two status words, as a latch leaves them in the shadow registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latched {
    /// 0x8574.
    pub biu: u32,
    /// 0x8578.
    pub advanced: u32,
}
