//! What passed through the door.

use serde::Serialize;

use crate::count::Count;

/// Counts since the server began.
#[derive(Debug, Default, Serialize)]
pub struct VfioUserCounters {
    /// Reads of BAR0 by message.
    pub register_reads: Count,
    /// Writes of BAR0 by message.
    pub register_writes: Count,
    /// Accesses of BAR1 by message; most of the guest's need none.
    pub window_accesses: Count,
    /// Reads of configuration space.
    pub config_reads: Count,
    /// Writes of configuration space.
    pub config_writes: Count,
    /// Message-signalled interrupts sent.
    pub msi: Count,
    /// Interrupts sent by INTx.
    pub intx: Count,
    /// Ranges of memory that came.
    pub dma_maps: Count,
    /// Requests to take ranges away.
    pub dma_unmaps: Count,
    /// Resets by the client: at a reboot, behind a bus reset.
    pub device_resets: Count,
    /// Function-level resets.
    pub function_resets: Count,
    /// Ways from D3hot to D0.
    pub power_ups: Count,
    /// Requests answered with an error.
    pub refused: Count,
}
