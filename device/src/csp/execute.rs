//! What each packet does.

use super::Csp;
use super::board::Board;
use super::dialect::Dialect;
use super::engine::{Call, Operation};
use super::error::{CspErrorKind, Outcome, Trouble, UnmetWait};
use super::fences::FenceRecord;
use super::flags::FlagClear;
use super::packet::{Packet, wrong_count};
use crate::config::OnWait;
use crate::defect::Defect;
use crate::mmu::{Invalidation, Stop};
use crate::watch::{Event, Onlooker};
use e3k_regs::GpuVa;
use e3k_regs::fields::{FaultClient, TlbTarget};
use e3k_regs::packet::{self, block, opcode, video_opcode};

impl Csp {
    /// Executes a packet of ring `n`.
    pub(super) fn execute<W: Onlooker>(
        &mut self,
        n: usize,
        packet: &Packet,
        board: &mut Board<'_, W>,
    ) -> Outcome {
        let fields = packet::Header::from_bits(packet.header());
        match fields.opcode() {
            opcode::SKIP => Ok(()),
            opcode::DMA => self.call(n, packet),
            opcode::WAIT => self.wait(n, packet, board),
            opcode::QUERY_DUMP => self.query_dump(n, packet, board),
            opcode::SET_REGISTER | video_opcode::SET_REGISTER_2 => {
                self.set_register(n, packet, board)
            }
            opcode::FENCE => self.fence(n, packet, board),
            opcode::BLOCK => self.block_command(n, packet, fields.block(), board),
            // Drawing, compute and post-processing.
            _ => {
                board.mxu.counters.without_effect += 1;
                Ok(())
            }
        }
    }

    fn call(&mut self, n: usize, packet: &Packet) -> Outcome {
        let header = packet::Dma::from_bits(packet.header());
        let &[low, high, ref context @ ..] = packet.payload() else {
            return Err(wrong_count().into());
        };
        // Modes 1 and 2, save and restore, carry the context's place.
        let context = context
            .first()
            .map(|base| GpuVa(u64::from(base & 0x1fff_ffff) << 11));
        if header.dwords() == 0 {
            return Ok(());
        }
        let at = GpuVa::from_parts(low, high.to_le_bytes()[0]);
        if !at.0.is_multiple_of(4) {
            return Err(Trouble::malformed(
                "a call of a buffer at an address that is no multiple of 4",
            ));
        }
        let call = Call {
            at,
            dwords: header.dwords().into(),
            context,
        };
        if self.engines[n].call(call) {
            Ok(())
        } else {
            Err(Trouble::malformed(
                "a call from a buffer at the deepest level",
            ))
        }
    }

    /// All earlier work of the ring is done when a Wait is reached. So one that
    /// its slot does not satisfy never will be: it is passed, or halts.
    fn wait<W: Onlooker>(
        &mut self,
        n: usize,
        packet: &Packet,
        board: &mut Board<'_, W>,
    ) -> Outcome {
        let header = packet::Wait::from_bits(packet.header());
        let engine = &self.engines[n];
        let (slot, value, equal) = (header.slot(), header.value(), header.equal());
        let counter = engine.slots[usize::from(slot) % engine.slots.len()];
        board.mxu.counters.waits += 1;
        let met = if equal && !board.watch.bends(Defect::WaitTakesMore) {
            counter == value
        } else {
            counter >= value
        };
        // Modes 1 and 2 wait for no slot.
        if met || header.mode() != 0 {
            return Ok(());
        }
        board.mxu.counters.unmet_waits += 1;
        if board.mxu.config().on_wait == OnWait::Halt {
            return Err(Trouble::Halt(CspErrorKind::UnmetWait {
                slot,
                value,
                counter,
            }));
        }
        let unmet = UnmetWait {
            ring: board.mxu.faults.ring,
            offset: engine.position(),
            slot,
            value,
            equal,
            counter,
        };
        board.watch.saw(&Event::Unmet(&unmet), &board.mxu.look());
        self.waits.record(unmet);
        Ok(())
    }

    fn fence<W: Onlooker>(
        &mut self,
        n: usize,
        packet: &Packet,
        board: &mut Board<'_, W>,
    ) -> Outcome {
        let header = packet::Fence::from_bits(packet.header());
        if header.irq() > packet::Fence::IRQ_GPU {
            return Err(Trouble::malformed("fence Irq 3 does not exist"));
        }
        match header.kind() {
            packet::Fence::INTERNAL => {
                let [value] = packet.exactly()?;
                let [low, high, ..] = value.to_le_bytes();
                let value = u16::from_le_bytes([low, high]);
                if let Some(slot) = self.engines[n].slots.get_mut(usize::from(header.slot())) {
                    *slot = if header.or() && !board.watch.bends(Defect::SlotOrCopies) {
                        *slot | value
                    } else {
                        value
                    };
                }
            }
            packet::Fence::EXTERNAL_32 => {
                let [low, high, value] = packet.exactly()?;
                self.external_fence(n, packet, low, high, &value.to_le_bytes(), board)?;
            }
            packet::Fence::EXTERNAL_64 => {
                let [low, high, value_low, value_high] = packet.exactly()?;
                let value = u64::from(value_high) << 32 | u64::from(value_low);
                self.external_fence(n, packet, low, high, &value.to_le_bytes(), board)?;
            }
            _ => return Err(Trouble::malformed("fence type 1 does not exist")),
        }
        if header.irq() == packet::Fence::IRQ_CPU
            || header.irq() == packet::Fence::IRQ_GPU
                && board.watch.bends(Defect::EveryFenceInterrupts)
        {
            board.biu.fence();
        }
        Ok(())
    }

    /// Writes 4 or 8 bytes. A fence in the ring is the kernel's and uses
    /// process id 0; one in a called buffer uses the buffer's. One that faults
    /// is not written.
    fn external_fence<W: Onlooker>(
        &mut self,
        n: usize,
        packet: &Packet,
        low: u32,
        high: u32,
        value: &[u8],
        board: &mut Board<'_, W>,
    ) -> Outcome {
        let or = packet::Fence::from_bits(packet.header()).or()
            && !board.watch.bends(Defect::FenceOrCopies);
        let at = GpuVa::from_parts(low, high.to_le_bytes()[0]);
        if !at.0.is_multiple_of(value.len() as u64) {
            return Err(Trouble::malformed(
                "a fence at an address that is no multiple of its size",
            ));
        }
        let engine = &self.engines[n];
        if board.watch.bends(Defect::FenceLost) {
            return Ok(());
        }
        let work = packet.in_buffer && !board.watch.bends(Defect::FenceOfKernel);
        let request = |write| engine.request(FaultClient::Fence, write, work);
        let mut old = [0; 8];
        let held = &mut old[..value.len()];
        let result = if or {
            board.mxu.read(board.watch, request(false), at, held)
        } else {
            Ok(())
        };
        let result = result.and_then(|()| {
            for (old, new) in held.iter_mut().zip(value) {
                *old |= new;
            }
            let (watch, mxu) = (board.watch, &mut *board.mxu);
            match <[u8; 8]>::try_from(&*held) {
                Ok(whole) => mxu.store_u64(watch, request(true), at, u64::from_le_bytes(whole)),
                Err(_) => mxu.store_bytes(watch, request(true), at, held),
            }
        });
        match result {
            Err(Stop::Stalled) => return Err(Trouble::Stall),
            Err(Stop::Dropped) => {}
            Ok(target) => {
                board.mxu.counters.fences += 1;
                let fence = FenceRecord {
                    ring: board.mxu.faults.ring,
                    ring_offset: engine.position(),
                    in_buffer: packet.in_buffer,
                    process_id: board.mxu.process_of(request(true)),
                    va: at.0,
                    target,
                    value: u64::from_le_bytes(old),
                    bytes: if value.len() == 8 { 8 } else { 4 },
                    interrupt: packet::Fence::from_bits(packet.header()).irq()
                        == packet::Fence::IRQ_CPU,
                    time: self.clock,
                };
                board.watch.saw(&Event::Fence(&fence), &board.mxu.look());
                self.fences.record(fence);
            }
        }
        Ok(())
    }

    fn block_command<W: Onlooker>(
        &mut self,
        n: usize,
        packet: &Packet,
        to: u8,
        board: &mut Board<'_, W>,
    ) -> Outcome {
        match (to, self.engines[n].dialect) {
            (block::CSP, _) => self.csp_command(n, packet, board),
            (block::MXU, Dialect::Graphics | Dialect::Post) => invalidate(packet, board),
            (block::FF, Dialect::Graphics | Dialect::Post) => self.sg_command(n, packet, board),
            // Cache and draw commands of other blocks, and video commands: no
            // effect on memory (hardware reference 10.8).
            _ => {
                board.mxu.counters.without_effect += 1;
                Ok(())
            }
        }
    }

    fn csp_command<W: Onlooker>(
        &mut self,
        n: usize,
        packet: &Packet,
        board: &mut Board<'_, W>,
    ) -> Outcome {
        let command = packet::CspCommand::from_bits(packet.header());
        match command.kind() {
            packet::CspCommand::INDICATOR => {
                let [_slices] = packet.exactly()?;
                if command.info() > packet::CspCommand::INFO_VIDEO {
                    return Err(Trouble::malformed(
                        "this Info of an Indicator does not exist",
                    ));
                }
                let off = command.info() == packet::CspCommand::INFO_OFF
                    && !board.watch.bends(Defect::OffKeepsProcess);
                self.engines[n].process_id = if off { 0 } else { command.process_id() };
            }
            packet::CspCommand::CLEAR_FLAGS => {
                let [low, values, mask] = packet.exactly()?;
                self.engines[n].operation = Some(Operation::Flags(FlagClear::new(
                    self.flag_buffer,
                    packet::ClearFlags::from_bits(packet.header()),
                    low,
                    packet::FlagValues::from_bits(values),
                    mask,
                )));
            }
            packet::CspCommand::SAVE | packet::CspCommand::RESTORE => {
                let [_low, _high] = packet.exactly()?;
                board.mxu.counters.context_switches += 1;
            }
            // For drawing.
            packet::CspCommand::DESCRIPTORS => board.mxu.counters.without_effect += 1,
            _ => return Err(Trouble::malformed("this CSP command does not exist")),
        }
        Ok(())
    }

    fn sg_command<W: Onlooker>(
        &mut self,
        n: usize,
        packet: &Packet,
        board: &mut Board<'_, W>,
    ) -> Outcome {
        let command = packet::SgCommand::from_bits(packet.header());
        match command.kind() {
            packet::SgCommand::SG => {}
            3 => return Err(Trouble::malformed("this FF command does not exist")),
            // Flush or invalidate of a cache that is not modelled.
            _ => {
                board.mxu.counters.without_effect += 1;
                return Ok(());
            }
        }
        let engine = &self.engines[n];
        if engine.dialect != Dialect::Graphics {
            return Err(Trouble::unsupported("the 3D pipe on a ring without it"));
        }
        let source = engine.request(FaultClient::BlitSource, false, true);
        let destination = engine.request(FaultClient::BlitDestination, true, true);
        let (ff, watch) = (&mut self.ff, board.watch);
        let formats = &board.mxu.config().surface_formats;
        let colour = command.target() == packet::SgCommand::COLOUR;
        let operation = match command.action() {
            1..=4 if !colour => {
                return Err(Trouble::unsupported(
                    "a copy or fill by another unit than the colour pipe",
                ));
            }
            packet::SgCommand::FAST_CLEAR => {
                ff.clear(watch, packet.exactly()?, destination, formats)?
            }
            packet::SgCommand::BLIT => {
                ff.blit(watch, packet.exactly()?, source, destination, formats)?
            }
            0 => return Err(Trouble::unsupported("a fast clear of a tiled surface")),
            3 => return Err(Trouble::unsupported("a gradient")),
            4 => return Err(Trouble::unsupported("a rotating blit")),
            _ => return Err(Trouble::malformed("this SG action does not exist")),
        };
        self.engines[n].operation = Some(Operation::Draw(operation));
        Ok(())
    }
}

/// TLB invalidation by ring (hardware reference 10.7); types 0 and 1 mean the
/// cache of the compression flags, and there is none.
fn invalidate<W: Onlooker>(packet: &Packet, board: &mut Board<'_, W>) -> Outcome {
    let header = packet.header();
    let [low, high, mask_low, mask_high] = packet.exactly()?;
    let target = match header >> 12 & 3 {
        2 => TlbTarget::Utlb,
        3 => TlbTarget::Dtlb,
        _ => {
            board.mxu.counters.without_effect += 1;
            return Ok(());
        }
    };
    if board.watch.bends(Defect::RingInvalidationLost) {
        return Ok(());
    }
    let page = |low, high: u32| GpuVa::from_parts(low, high.to_le_bytes()[0]).page();
    board.mxu.invalidate(
        board.watch,
        target,
        Invalidation {
            page: page(low, high),
            page_mask: page(mask_low, mask_high),
            process_id: (header >> 18 & 0xf).to_le_bytes()[0],
            process_mask: 0xf,
        },
    );
    Ok(())
}
