//! What each packet does.

use super::{CALL_DEPTH, Call, Csp, CspErrorKind, Packet};
use crate::biu::Biu;
use crate::mmu::{Invalidation, Mxu, Request};
use e3k_regs::fields::{FaultClient, TlbTarget};
use e3k_regs::packet::{self, block, opcode};
use e3k_regs::{GpuVa, Reg};

type Outcome = Result<(), CspErrorKind>;

impl Csp {
    pub(super) fn execute(&mut self, packet: &Packet, mxu: &mut Mxu, biu: &mut Biu) -> Outcome {
        let header = packet.dwords[0];
        let fields = packet::Header::from_bits(header);
        match fields.opcode() {
            opcode::DMA => self.call(packet),
            opcode::WAIT => {
                // Internal fences are done when they are parsed, so every wait
                // is satisfied when it is reached.
                mxu.counters.waits += 1;
                Ok(())
            }
            opcode::SET_REGISTER => self.set_register(packet, mxu),
            opcode::FENCE => self.fence(packet, mxu, biu),
            opcode::BLOCK => self.block_command(packet, fields.block(), mxu),
            _ => Ok(()), // Skip
        }
    }

    fn call(&mut self, packet: &Packet) -> Outcome {
        let header = packet::Dma::from_bits(packet.dwords[0]);
        let &[low, high, ..] = packet.payload() else {
            return Err(too_short());
        };
        // Save and restore (modes 1 and 2) run the buffer like any other; its
        // context-relative commands are refused where they appear.
        if self.calls.len() == CALL_DEPTH {
            return Err(CspErrorKind::Malformed {
                what: "a call from a buffer at the deepest level",
            });
        }
        if header.dwords() > 0 {
            let at = GpuVa::from_parts(low, high.to_le_bytes()[0]);
            self.calls.push(Call {
                at,
                dwords: header.dwords().into(),
            });
        }
        Ok(())
    }

    fn set_register(&mut self, packet: &Packet, mxu: &mut Mxu) -> Outcome {
        let header = packet::SetRegister::from_bits(packet.dwords[0]);
        if header.from_memory() {
            return Err(CspErrorKind::Unsupported {
                what: "Set_Register from memory",
            });
        }
        if header.masked() {
            return Err(CspErrorKind::Unsupported {
                what: "Set_Register with a mask",
            });
        }
        for (word, value) in (u32::from(header.word())..).zip(packet.payload()) {
            match header.block() {
                block::MMU => mxu.set_ttbr(word as usize, *value),
                block::MXU => write_mxu(mxu, word, *value),
                block::FF => self.ff.set(word, *value),
                // The registers of other blocks steer drawing: no effect here.
                _ => {}
            }
        }
        Ok(())
    }

    fn fence(&mut self, packet: &Packet, mxu: &mut Mxu, biu: &mut Biu) -> Outcome {
        let header = packet::Fence::from_bits(packet.dwords[0]);
        match header.kind() {
            0 => {
                let &[value, ..] = packet.payload() else {
                    return Err(too_short());
                };
                if let Some(slot) = self.slots.get_mut(usize::from(header.slot())) {
                    *slot = (value & 0xffff) as u16;
                }
            }
            packet::Fence::EXTERNAL_64 => self.external_fence(header, packet, mxu)?,
            2 => {
                return Err(CspErrorKind::Unsupported {
                    what: "an external 32-bit fence",
                });
            }
            _ => {
                return Err(CspErrorKind::Malformed {
                    what: "fence type 1 does not exist",
                });
            }
        }
        if header.irq() == packet::Fence::IRQ_CPU {
            biu.fence();
        }
        Ok(())
    }

    fn external_fence(&mut self, header: packet::Fence, packet: &Packet, mxu: &mut Mxu) -> Outcome {
        let &[low, high, value_low, value_high, ..] = packet.payload() else {
            return Err(too_short());
        };
        if header.or() {
            return Err(CspErrorKind::Unsupported {
                what: "a fence that ors its value in",
            });
        }
        let at = GpuVa::from_parts(low, high.to_le_bytes()[0]);
        if !at.0.is_multiple_of(8) {
            return Err(CspErrorKind::Malformed {
                what: "a 64-bit fence at an address that is no multiple of 8",
            });
        }
        // A fence in the ring is the kernel's and uses process id 0; one in a
        // called buffer uses the buffer's.
        let process_id = if packet.in_buffer { self.process_id } else { 0 };
        let request = Request {
            client: FaultClient::Fence,
            process_id,
            write: true,
        };
        let value = u64::from(value_high) << 32 | u64::from(value_low);
        if mxu.store_u64(request, at, value).is_ok() {
            mxu.counters.fences += 1;
        }
        Ok(())
    }

    fn block_command(&mut self, packet: &Packet, to: u8, mxu: &mut Mxu) -> Outcome {
        match to {
            block::CSP => {
                let command = packet::CspCommand::from_bits(packet.dwords[0]);
                if command.kind() == packet::CspCommand::INDICATOR {
                    let off = command.info() == packet::CspCommand::INFO_OFF;
                    self.process_id = if off { 0 } else { command.process_id() };
                }
                Ok(())
            }
            block::MXU => invalidate(packet, mxu),
            block::FF => self.sg_command(packet),
            // Cache and draw commands of other blocks: no effect on memory
            // (hardware reference 10.8).
            _ => Ok(()),
        }
    }

    fn sg_command(&mut self, packet: &Packet) -> Outcome {
        let command = packet::SgCommand::from_bits(packet.dwords[0]);
        if command.kind() != packet::SgCommand::SG {
            return Ok(()); // flush or invalidate of a cache that is not modelled
        }
        let source = self.request(FaultClient::BlitSource, false);
        let destination = self.request(FaultClient::BlitDestination, true);
        let operation = match command.action() {
            packet::SgCommand::FAST_CLEAR => self.ff.clear(packet.payload(), destination)?,
            packet::SgCommand::BLIT => self.ff.blit(packet.payload(), source, destination)?,
            0 => {
                return Err(CspErrorKind::Unsupported {
                    what: "a fast clear of a tiled surface",
                });
            }
            3 => return Err(CspErrorKind::Unsupported { what: "a gradient" }),
            4 => {
                return Err(CspErrorKind::Unsupported {
                    what: "a rotating blit",
                });
            }
            _ => {
                return Err(CspErrorKind::Malformed {
                    what: "this SG action does not exist",
                });
            }
        };
        self.operation = Some(operation);
        Ok(())
    }
}

pub(crate) fn too_short() -> CspErrorKind {
    CspErrorKind::Malformed {
        what: "the packet's own count leaves out fields that it needs",
    }
}

/// A register of the crossbar that has behaviour, by its word; others are dropped.
fn write_mxu(mxu: &mut Mxu, word: u32, value: u32) {
    /// The block's place in BAR0; the next block begins 0x400 words behind it.
    const BLOCK_BASE: u32 = 0x49000;
    const BLOCK_WORDS: u32 = 0x400;
    let offset = BLOCK_BASE + word * 4;
    if let Some((reg, index)) = Reg::find(offset).filter(|_| word < BLOCK_WORDS) {
        mxu.write_register(reg, index, value);
    }
}

/// TLB invalidation by ring (hardware reference 10.7); types 0 and 1 mean
/// compression flags, which are not modelled.
fn invalidate(packet: &Packet, mxu: &mut Mxu) -> Outcome {
    let header = packet.dwords[0];
    let target = match header >> 12 & 3 {
        2 => TlbTarget::Utlb,
        3 => TlbTarget::Dtlb,
        _ => return Ok(()),
    };
    let &[low, high, mask_low, mask_high, ..] = packet.payload() else {
        return Err(too_short());
    };
    let page = |low, high: u32| GpuVa::from_parts(low, high.to_le_bytes()[0]).page();
    mxu.invalidate(
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
