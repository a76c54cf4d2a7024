//! What packets name that wait in rings: read at each doorbell, where they must be whole.

use crate::checker::fact::Command;
use crate::checker::owners::{Name, Named};
use crate::checker::path::place;
use crate::csp::packet::ring_packet_dwords;
use crate::mmu::look::Look;
use e3k_regs::GpuVa;
use e3k_regs::packet::{CspCommand, block, ff};
use std::collections::VecDeque;

/// Packets that are read behind one doorbell, and names that are remembered of one ring.
const PACKETS: usize = 4096;
const NAMES: usize = 256;
/// Dwords of a packet that matter: a fence's address, or both words of a surface's.
const DWORDS: u32 = 8;

/// A ring whose Tail is moved.
pub(crate) struct Ring {
    pub(crate) number: usize,
    pub(crate) base: GpuVa,
    pub(crate) size: u32,
    /// Where Tail was.
    pub(crate) from: u32,
    /// Of the packets there.
    pub(crate) process_id: u8,
}

/// The names of one ring, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queued(VecDeque<Name>);

impl Queued {
    /// Tail of a ring has gone to `tail`. Names that lead nowhere are not remembered.
    pub(crate) fn doorbell(&mut self, at: u64, ring: &Ring, tail: u32, look: &Look<'_>) {
        let Ring {
            number,
            base,
            size,
            from: mut offset,
            mut process_id,
        } = *ring;
        for _ in 0..PACKETS {
            if offset == tail || offset >= size {
                return;
            }
            let dword = |n: u32| {
                let va = base.add(u64::from(offset) + 4 * u64::from(n));
                look.dword(place(look, 0, va)?)
            };
            let Some(header) = dword(0) else {
                return;
            };
            let Some(len) = ring_packet_dwords(number, header) else {
                return;
            };
            let mut dwords = [header; DWORDS as usize];
            let known = len.min(DWORDS);
            for (n, slot) in (0..known).zip(&mut dwords) {
                let Some(value) = dword(n) else {
                    return;
                };
                *slot = value;
            }
            let command = Command {
                ring: number,
                offset,
                in_buffer: false,
                dwords: dwords.get(..known as usize).unwrap_or(&dwords),
                len,
            };
            if let Some(indicator) = command.indicator() {
                let off = indicator.info() == CspCommand::INFO_OFF;
                process_id = if off { 0 } else { indicator.process_id() };
            }
            for (named, va) in names(&command).into_iter().flatten() {
                let process_id = if named == Named::Fence { 0 } else { process_id };
                let Some(place) = place(look, process_id, va) else {
                    continue;
                };
                if self.0.len() == NAMES {
                    self.0.pop_front();
                }
                self.0.push_back(Name {
                    offset,
                    process_id,
                    va,
                    named,
                    at: place,
                    since: at,
                });
            }
            offset = offset.saturating_add(len.saturating_mul(4));
            if offset == size {
                offset = 0;
            }
        }
    }

    /// A fence of the ring is written: what stands before it has been executed.
    pub(crate) fn fenced(&mut self, ring_offset: u32) {
        let is_it = |name: &Name| name.named == Named::Fence && name.offset == ring_offset;
        if let Some(done) = self.0.iter().position(is_it) {
            self.0.drain(..=done);
        }
    }

    /// Nothing waits any more.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// All names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Name> {
        self.0.iter()
    }
}

/// The addresses that a packet names, at most two surfaces.
fn names(command: &Command<'_>) -> [Option<(Named, GpuVa)>; 2] {
    let word = |n: usize| command.dwords.get(n).copied();
    let pair = |n| Some(GpuVa::from_parts(word(n)?, word(n + 1)?.to_le_bytes()[0]));
    if command.external_fence().is_some() {
        return [pair(1).map(|va| (Named::Fence, va)), None];
    }
    if command.call().is_some_and(|call| call.dwords() > 0) {
        return [pair(1).map(|va| (Named::Buffer, va)), None];
    }
    let Some((block::FF, words)) = command.sets() else {
        return [None; 2];
    };
    [0, 1].map(|target| {
        let register = u32::from(ff::rt_address(target));
        let n = words.contains(&register).then(|| register - words.start)?;
        let base = word(usize::try_from(n).ok()? + 1)?;
        (base != 0).then_some((Named::Surface, GpuVa(u64::from(base) << 8)))
    })
}
