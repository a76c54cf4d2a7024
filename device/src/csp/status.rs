//! What a ring shows of itself to whoever looks; looking changes nothing.

use serde::Serialize;

/// Whether a ring gets on, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RingState {
    /// Its kick-off bit is not set.
    Stopped,
    /// It has done everything up to Tail.
    Idle,
    /// It has work and does it when its turn comes.
    Running,
    /// It stands at or behind a page fault that software has not acknowledged.
    Waiting,
    /// A ring error has halted it; only an engine reset helps.
    Halted,
    /// Its unit is held in reset (0x8524).
    InReset,
}

/// One ring as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RingStatus {
    /// Its number, 0 to 9.
    pub ring: u8,
    /// Whether its kick-off bit is set.
    pub started: bool,
    /// Whether it gets on.
    pub state: RingState,
    /// GPU address of its first byte.
    pub base: u64,
    /// Bytes of its memory.
    pub size: u32,
    /// Byte offset where the chip reads next.
    pub head: u32,
    /// Byte offset up to which software has written.
    pub tail: u32,
    /// Byte offset of the packet that was begun last.
    pub last_offset: u32,
    /// Header of the packet that was begun last.
    pub last_dword: u32,
    /// The process id of its work.
    pub process_id: u8,
    /// GPU address of the next packet, while that is in a called buffer.
    pub buffer: Option<u64>,
    /// Whether a packet that takes several pieces is in execution.
    pub in_operation: bool,
}
