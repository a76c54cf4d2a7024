//! Ring 0: packets in VRAM, a fence after each, and the doorbell.

use crate::Error;
use crate::chip::ChipOps;
use crate::chip::registers::{read, write};
use crate::platform::Os;
use crate::sync::timeline::Timeline;
use alloc::vec::Vec;
use e3k_regs::packet::{CspCommand, Writer};
use e3k_regs::{GpuVa, VramOffset};

/// Bytes of the ring.
pub(crate) const RING_BYTES: u32 = 256 << 10;
/// Submissions are padded to this many dwords (hardware reference 10.1).
const PAD_DWORDS: usize = 16;
const DWORD_BYTES: u32 = 4;
/// The longest packet: a quarter of the ring.
const PACKET_DWORDS: usize = (RING_BYTES / 4 / DWORD_BYTES) as usize;
/// Ring fetch, fences and the kernel's own work use this process id.
pub(crate) const KERNEL_PROCESS: u8 = 0;

/// Ring 0 as software keeps it.
///
/// # Invariants
/// `head` and `tail` are whole dwords below [`RING_BYTES`]. From `head` to `tail` lies
/// what the GPU may still read, and that is never the whole ring: if they are equal it
/// is empty. `packet` has room for [`PACKET_DWORDS`].
pub(crate) struct Ring {
    /// Where the CPU writes it.
    pub(crate) at: VramOffset,
    /// Where the GPU reads it.
    pub(crate) va: GpuVa,
    /// Where its fences go.
    pub(crate) fence: GpuVa,
    /// Where each fence goes once more: see [`timeline`](crate::sync::timeline).
    pub(crate) echo: GpuVa,
    /// Where packets are put together. Has room for all that the ring takes.
    packet: Vec<u32>,
    /// The GPU's read pointer when it was last asked.
    head: u32,
    tail: u32,
}

impl Ring {
    /// # Errors
    /// [`Error::NoMemory`].
    pub(crate) fn new(at: VramOffset, va: GpuVa, fence: GpuVa, echo: GpuVa) -> Result<Self, Error> {
        let mut packet = Vec::new();
        packet.try_reserve_exact(PACKET_DWORDS)?;
        Ok(Self {
            at,
            va,
            fence,
            echo,
            packet,
            head: 0,
            tail: 0,
        })
    }

    /// After a reset, which leaves the ring empty and its pointers 0.
    pub(crate) fn restart(&mut self) {
        (self.head, self.tail) = (0, 0);
    }

    /// Submits what `work` writes, by addresses of a process, followed by a fence with an
    /// interrupt. Returns the fence's number.
    ///
    /// # Errors
    /// [`Error::Busy`] when the ring is full: wait for a fence and try again.
    /// [`Error::Lost`] when the doorbell failed; whether the work runs is
    /// unknown then. Others: nothing was submitted.
    pub(crate) fn submit<O: Os>(
        &mut self,
        os: &O,
        chip: &dyn ChipOps,
        timeline: &Timeline<O>,
        process_id: u8,
        work: impl Fn(&mut Writer<'_>),
    ) -> Result<u64, Error> {
        if timeline.is_lost() {
            return Err(Error::Lost);
        }
        let fence = timeline.submitted() + 1;
        let bytes = self.assemble(fence, process_id, work)?;
        let at = self.make_room(os, chip, bytes)?;
        if at != self.tail {
            self.skip_to_end(os);
        }
        os.store_u32(self.at.add(u64::from(at)), &self.packet);
        os.write_barrier();
        // INVARIANT: below the end, or it would have begun at 0; whole, as it was padded.
        self.tail = at + bytes;
        timeline.submit(fence);
        self.kick(os, chip).inspect_err(|_| timeline.mark_lost())?;
        Ok(fence)
    }

    /// Returns the packet's bytes.
    fn assemble(
        &mut self,
        fence: u64,
        process_id: u8,
        work: impl Fn(&mut Writer<'_>),
    ) -> Result<u32, Error> {
        let (at, echo) = (self.fence, self.echo);
        let write = |out: &mut Writer<'_>| {
            out.indicator(CspCommand::INFO_3D, process_id);
            work(out);
            out.fence(at, fence, false);
            out.fence(echo, fence, true);
            out.indicator(CspCommand::INFO_OFF, KERNEL_PROCESS);
            out.pad_to(PAD_DWORDS);
        };
        let mut measure = Writer::new(&mut []);
        write(&mut measure);
        let dwords = measure.len();
        if dwords > PACKET_DWORDS {
            return Err(Error::Invalid);
        }
        self.packet.clear();
        self.packet.resize(dwords, 0);
        write(&mut Writer::new(&mut self.packet));
        let bytes = dwords * DWORD_BYTES as usize;
        u32::try_from(bytes).map_err(|_| Error::Invalid)
    }

    /// Finds room for `bytes` in one piece; returns where. A full ring asks
    /// the GPU how far it is, and never waits.
    fn make_room<O: Os>(&mut self, os: &O, chip: &dyn ChipOps, bytes: u32) -> Result<u32, Error> {
        // A packet is never split: what is left of the ring is skipped (hardware reference 10.1).
        let wraps = self.tail + bytes >= RING_BYTES;
        let (at, needed) = if wraps {
            (0, RING_BYTES - self.tail + bytes)
        } else {
            (self.tail, bytes)
        };
        if self.used() + needed >= RING_BYTES {
            let head = os.read(chip.ring_head())?;
            if head >= RING_BYTES || !head.is_multiple_of(DWORD_BYTES) {
                return Err(Error::Lost);
            }
            // INVARIANT: what the GPU says was looked at.
            self.head = head;
        }
        // Head equal to tail means empty, so the ring is never filled completely.
        if self.used() + needed >= RING_BYTES {
            return Err(Error::Busy);
        }
        Ok(at)
    }

    fn used(&self) -> u32 {
        (self.tail + RING_BYTES - self.head) % RING_BYTES
    }

    /// Zero dwords from the tail to the end of the ring.
    fn skip_to_end<O: Os>(&self, os: &O) {
        const ZEROS: [u32; 64] = [0; 64];
        let mut at = self.tail;
        while at < RING_BYTES {
            let dwords = ((RING_BYTES - at) / DWORD_BYTES).min(64);
            os.store_u32(self.at.add(u64::from(at)), &ZEROS[..dwords as usize]);
            at += dwords * DWORD_BYTES;
        }
    }

    /// Rings the doorbell and checks that the chip took it.
    fn kick<O: Os>(&self, os: &O, chip: &dyn ChipOps) -> Result<(), Error> {
        let mut ops = [write(chip.ring_tail(), self.tail), read(chip.ring_tail())];
        match os.access(&mut ops) {
            Ok(()) if ops[1].value == self.tail => Ok(()),
            _ => Err(Error::Lost),
        }
    }
}
