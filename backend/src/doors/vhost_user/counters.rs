//! What passed through the door.

use serde::Serialize;

use crate::count::Count;

/// Counts since the server began.
#[derive(Debug, Default, Serialize)]
pub struct DoorCounters {
    /// Kicks of either queue that arrived.
    pub kicks: Count,
    /// Request chains answered.
    pub requests: Count,
    /// Doorbells of the mailbox answered.
    pub doorbells: Count,
    /// Register accesses run for both.
    pub operations: Count,
    /// Events sent.
    pub events: Count,
    /// Reads of the configuration space.
    pub config_reads: Count,
    /// Writes of the configuration space.
    pub config_writes: Count,
    /// VRAM windows mapped.
    pub maps: Count,
}
