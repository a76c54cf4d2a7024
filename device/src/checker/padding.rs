//! What a ring has left, read from its memory: a driver that has seen its last fence may
//! stop the ring before the chip has skipped what stands behind.

use crate::checker::fact::Command;
use crate::checker::path::place;
use crate::mmu::look::Look;
use e3k_regs::packet::{CspCommand, Header, Skip, opcode};
use e3k_regs::{GpuVa, PAGE_SIZE};

/// Packets that are looked at; more are taken for work.
const MOST: usize = 128;

/// What a ring has not begun.
pub(crate) struct Left {
    pub(crate) ring: usize,
    /// Its first page.
    pub(crate) page: u32,
    /// Of the ring, in bytes.
    pub(crate) size: u32,
    /// Byte offset of the first packet, and of Tail.
    pub(crate) head: u32,
    pub(crate) tail: u32,
}

/// Whether it is nothing but padding.
pub(crate) fn alone(left: &Left, look: &Look<'_>) -> bool {
    let Left {
        ring, size, tail, ..
    } = *left;
    let base = u64::from(left.page) * PAGE_SIZE;
    let mut at = left.head;
    for _ in 0..MOST {
        if at == tail {
            return true;
        }
        let header =
            place(look, 0, GpuVa(base + u64::from(at))).and_then(|place| look.dword(place));
        let Some(len) = header.and_then(|header| padding(ring, at, header)) else {
            return false;
        };
        let next = u64::from(at) + 4 * u64::from(len);
        // Where it ends behind Tail it is no whole packet.
        if at < tail && next > tail.into() {
            return false;
        }
        at = u32::try_from(next)
            .ok()
            .filter(|next| *next < size)
            .unwrap_or(0);
    }
    false
}

/// The length in dwords of a packet that is padding.
fn padding(ring: usize, offset: u32, header: u32) -> Option<u32> {
    let command = Command {
        ring,
        offset,
        in_buffer: false,
        dwords: &[header],
        len: 1,
    };
    let skip = Header::from_bits(header).opcode() == opcode::SKIP;
    let behind = if skip {
        u32::from(Skip::from_bits(header).dwords())
    } else {
        u32::from(CspCommand::from_bits(header).count())
    };
    command.is_padding().then_some(1 + behind)
}
