//! The command processor: rings, what is in flight, and the registers of copies and fills.

use super::history::History;
use super::sparse::Sparse;
use crate::csp::error::{CspError, UnmetWait};
use e3k_regs::GpuVa;
use e3k_regs::fields::{BlSize, FaultClient, RingAddress};
use e3k_regs::packet::{Range, SourceOffset};
use serde::{Deserialize, Serialize};

/// All of it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommandProcessor {
    /// All ten, ring 0 first.
    pub(crate) rings: Vec<Ring>,
    /// The ring whose turn it is, and what is left of it.
    pub(crate) current: usize,
    pub(crate) turn: u64,
    /// The registers of copies and fills, by their word.
    pub(crate) surfaces: Sparse<u32>,
    /// 0x4900C.
    pub(crate) flag_buffer: BlSize,
    /// Headers of the last packets from called buffers, by depth.
    pub(crate) commands: [u32; 2],
    /// Nanoseconds.
    pub(crate) clock: u64,
    pub(crate) errors: History<CspError>,
    pub(crate) waits: History<UnmetWait>,
}

/// A ring with its state.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ring {
    pub(crate) address: RingAddress,
    pub(crate) size: u32,
    pub(crate) head: u32,
    pub(crate) tail: u32,
    /// The buffers that it is in, the outer one first.
    pub(crate) calls: Vec<Call>,
    /// Of the last Indicator.
    pub(crate) process_id: u8,
    /// Internal fence counters.
    pub(crate) slots: Sparse<u16>,
    pub(crate) operation: Option<Operation>,
    pub(crate) halted: bool,
    /// Stopped by a page fault until software has cleared `MXU_INT_STATUS`.
    pub(crate) stands: bool,
    pub(crate) in_reset: bool,
    /// Header of the last packet from the ring.
    pub(crate) command: u32,
    /// Offset of the last packet from the ring.
    pub(crate) position: u32,
}

/// A called buffer: what is left of it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    pub(crate) at: GpuVa,
    pub(crate) dwords: u32,
    /// What "offset" addressing in it adds to.
    pub(crate) context: Option<GpuVa>,
}

/// Work that takes more than one piece.
#[derive(Serialize, Deserialize)]
pub(crate) enum Operation {
    /// A blit or a fast clear.
    Draw(Draw),
    /// Registers on their way from or to memory.
    Transfer(Transfer),
    /// Compression flags on their way to a value.
    Flags(FlagClear),
}

/// A blit or a fast clear.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Draw {
    /// `None`: it is a clear.
    pub(crate) source: Option<Source>,
    /// Bytes of a pixel of both surfaces.
    pub(crate) pixel_bytes: u32,
    pub(crate) destination: Surface,
    pub(crate) request: Request,
    /// Columns and rows of the destination.
    pub(crate) x: Range,
    pub(crate) y: Range,
    /// The pixel that comes next.
    pub(crate) at_x: u32,
    pub(crate) at_y: u32,
}

/// What a blit reads.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    pub(crate) surface: Surface,
    pub(crate) offset: SourceOffset,
    pub(crate) request: Request,
}

/// A render target.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Surface {
    pub(crate) base: GpuVa,
    /// In pixels, as `height` is.
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Which bytes of a pixel are written.
    pub(crate) mask: u8,
}

/// Registers on their way.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Transfer {
    /// From memory.
    pub(crate) load: bool,
    pub(crate) block: u8,
    /// The next word of the block.
    pub(crate) word: u32,
    /// Its place in memory.
    pub(crate) at: GpuVa,
    /// Words left.
    pub(crate) left: u32,
    pub(crate) request: Request,
}

/// A clear of flags, as far as it has not been done.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FlagClear {
    /// VRAM offsets of the next flag byte and of the one behind the last.
    pub(crate) at: u64,
    pub(crate) end: u64,
    pub(crate) value: u8,
    /// Which bits are written, byte by byte of each dword.
    pub(crate) mask: [u8; 4],
}

/// Who accesses memory.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    pub(crate) client: FaultClient,
    pub(crate) process_id: u8,
    pub(crate) write: bool,
}
