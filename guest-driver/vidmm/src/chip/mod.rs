//! The chip functions: everything of the memory manager that depends on the
//! chip, as pure descriptions of registers and entries.

pub(crate) mod pagetable;
pub(crate) mod registers;

use crate::Error;
use crate::chip::registers::{read, write};
use crate::platform::RegisterOp;
use core::fmt;
use e3k_regs::chip::MemoryChannels;
use e3k_regs::fields::{
    AdapterControl, AdvancedInterrupts, BiuInterrupts, EngineReset, FaultClient, FaultStatus0,
    InvalidateAddress, InvalidateTrigger, MmuMode, RingAddress, RingWord, TlbTarget,
};
use e3k_regs::pte::{L2Entry, L3Entry, Ttbr};
use e3k_regs::register::{L1_PER_PROCESS, MEM_READY, PROCESS_IDS};
use e3k_regs::{BusAddr, GpuVa, Reg, VramOffset};

/// The hooks of a chip. They touch nothing; callers run the accesses they name.
pub trait ChipOps: Sync {
    /// The chip family.
    fn name(&self) -> &'static str;
    /// Process ids with an L1 bank each.
    fn process_ids(&self) -> u32;
    /// L1 registers of one process id.
    fn l1_registers(&self) -> u32;

    /// The reads that [`Self::vram_bytes`] wants.
    fn identity(&self) -> [RegisterOp; 2];
    /// How much VRAM there is, in bytes; `None` if the chip cannot say it.
    ///
    /// # Errors
    /// [`Error::Io`] when VRAM does not work, [`Error::Invalid`] when the
    /// answer is no legal size.
    fn vram_bytes(&self, identity: &[RegisterOp; 2]) -> Result<Option<u64>, Error>;

    /// A last-level entry for a page of VRAM.
    fn local_pte(&self, page: VramOffset) -> u32;
    /// A last-level entry for a page of RAM.
    fn system_pte(&self, page: BusAddr, snoop: bool) -> u32;
    /// A second-level entry for a last-level table in VRAM.
    fn l2_entry(&self, table: VramOffset) -> u32;
    /// The write that makes L1 register `index` of a process id point at a
    /// second-level table in VRAM.
    fn l1(&self, process_id: u32, index: u32, table: VramOffset) -> RegisterOp;
    /// The write after which every access is translated.
    fn enable_translation(&self, vram_bytes: u64) -> RegisterOp;
    /// Drops what the TLBs hold of `[first, first + bytes)`, for every process
    /// id. When the read at the end is answered, they have.
    fn invalidate(&self, first: GpuVa, bytes: u64) -> [RegisterOp; 5];
    /// Drops all that the TLBs hold. When the read at the end is answered, they have.
    fn invalidate_all(&self) -> [RegisterOp; 5];

    /// The read that [`Self::enable_interrupts`] wants.
    fn interrupt_gate(&self) -> RegisterOp;
    /// Opens the gate for fences, page faults, bus errors and a ring that gave
    /// up. The first two writes must read back.
    fn enable_interrupts(&self, gate: RegisterOp) -> [RegisterOp; 4];
    /// Closes every source of interrupts, whoever opened it.
    fn disable_interrupts(&self) -> [RegisterOp; 2];
    /// True if a latched status says that a translation failed.
    fn is_page_fault(&self, biu_status: u32) -> bool;
    /// True if a latched status says that no memory answered an access.
    fn is_bus_error(&self, biu_status: u32) -> bool;
    /// True if a latched status says that a fence was signalled.
    fn is_fence(&self, advanced_status: u32) -> bool;
    /// True if a latched status says that the command processor gave up.
    fn is_hang(&self, advanced_status: u32) -> bool;

    /// The reads that [`Self::fault`] wants.
    fn fault_registers(&self) -> [RegisterOp; 3];
    /// What those reads say; `None`: no page fault waits to be acknowledged.
    fn fault(&self, registers: &[RegisterOp; 3]) -> Option<Fault>;
    /// Acknowledges a fault: rings that stand at it go on.
    fn clear_fault(&self, fault: &Fault) -> [RegisterOp; 2];

    /// Starts ring 0, empty.
    fn start_ring(&self, at: GpuVa, bytes: u32) -> [RegisterOp; 5];
    /// Stops ring 0 where it is. When the read at the end is answered, it stands.
    fn stop_ring(&self, at: GpuVa) -> [RegisterOp; 2];
    /// Makes the engine behind ring 0 drop what it is doing, then reads what
    /// is still busy: 0 is idle.
    fn reset_engine(&self) -> [RegisterOp; 3];
    /// Makes every engine drop what whoever was here before left to it.
    fn reset_all_engines(&self) -> [RegisterOp; 3];
    /// The read of what is busy: 0 is idle.
    fn busy(&self) -> RegisterOp;
    /// Offset of ring 0's read pointer.
    fn ring_head(&self) -> u32;
    /// Offset of ring 0's write pointer.
    fn ring_tail(&self) -> u32;
}

/// The first page fault since the last one was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// One bit for each client that had a fault since then.
    pub clients: u32,
    /// The address.
    pub va: GpuVa,
    /// The level of the entry that is not valid, 1 to 3; 0: none of them.
    pub level: u8,
    /// Whose address space.
    pub process_id: u8,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("page fault of ")?;
        let clients = FaultClient::ALL.iter();
        let mut clients = clients.filter(|client| self.clients >> **client as u32 & 1 == 1);
        match clients.next() {
            Some(first) => f.write_str(first.name())?,
            None => write!(f, "clients {:#x}", self.clients)?,
        }
        for client in clients {
            write!(f, ", {}", client.name())?;
        }
        let Self {
            va,
            level,
            process_id,
            ..
        } = self;
        write!(f, " at {va}, level {level}, process id {process_id}")
    }
}

/// The e3k family in VA mode.
pub(crate) struct E3k;

/// Pages behind one TLB line: the low bits of an invalidation address are 0
/// (hardware reference 5).
const LINE_PAGES: u32 = 16;
const PAGE_NUMBER_BITS: u32 = (1 << 28) - 1;

impl E3k {
    fn invalidation(page: u32, mask: u32) -> [RegisterOp; 5] {
        let trigger = |target| {
            let value = InvalidateTrigger::new()
                .with_addr_valid(true)
                .with_target(target);
            write(Reg::PtInvTrig.offset(), value.into_bits())
        };
        // A process id mask of 0 compares none: the shared zones are in every bank.
        let address = InvalidateAddress::new().with_page(page);
        let mask = InvalidateAddress::new().with_page(mask);
        [
            write(Reg::PtInvAddr.offset(), address.into_bits()),
            write(Reg::PtInvMask.offset(), mask.into_bits()),
            // The shared TLB first, so that no client refills from it.
            trigger(TlbTarget::Dtlb),
            trigger(TlbTarget::Utlb),
            // Writes are posted on a bus: a read of the block comes behind them.
            read(Reg::PtInvMask.offset()),
        ]
    }
}

/// Holds units in reset for a moment.
fn reset(units: EngineReset) -> [RegisterOp; 3] {
    [
        write(Reg::EngineReset.offset(), units.into_bits()),
        write(Reg::EngineReset.offset(), 0),
        read(Reg::TopBusy.offset()),
    ]
}

/// The low 32 bits of a page number that is known to be small.
fn page_bits(page: u64) -> u32 {
    e3k_regs::packet::halves(page)[0]
}

impl ChipOps for E3k {
    fn name(&self) -> &'static str {
        "e3k"
    }

    fn process_ids(&self) -> u32 {
        PROCESS_IDS
    }

    fn l1_registers(&self) -> u32 {
        L1_PER_PROCESS
    }

    fn identity(&self) -> [RegisterOp; 2] {
        [Reg::MemReady, Reg::MemChannels].map(|reg| read(reg.offset()))
    }

    fn vram_bytes(&self, identity: &[RegisterOp; 2]) -> Result<Option<u64>, Error> {
        let [ready, channels] = identity.map(|op| op.value);
        if ready != MEM_READY {
            return Err(Error::Io);
        }
        if channels.to_le_bytes()[0] == 0 {
            return Ok(None);
        }
        let channels = MemoryChannels::from_register(channels).ok_or(Error::Invalid)?;
        Ok(Some(channels.vram_bytes()))
    }

    fn local_pte(&self, page: VramOffset) -> u32 {
        let entry = L3Entry::new().with_valid(true).with_segment(true);
        entry.with_page(page_bits(page.page())).into_bits()
    }

    fn system_pte(&self, page: BusAddr, snoop: bool) -> u32 {
        let entry = L3Entry::new()
            .with_valid(true)
            .with_ns(true)
            .with_snoop(snoop);
        entry.with_page(page_bits(page.page())).into_bits()
    }

    fn l2_entry(&self, table: VramOffset) -> u32 {
        let entry = L2Entry::new().with_valid(true).with_segment(true);
        entry.with_page(page_bits(table.page())).into_bits()
    }

    fn l1(&self, process_id: u32, index: u32, table: VramOffset) -> RegisterOp {
        let entry = Ttbr::new()
            .with_valid(true)
            .with_segment(true)
            .with_page(page_bits(table.page()));
        let offset = Reg::Ttbr.at(process_id * L1_PER_PROCESS + index);
        write(offset, entry.into_bits())
    }

    fn enable_translation(&self, vram_bytes: u64) -> RegisterOp {
        let units = vram_bytes.div_ceil(MmuMode::VIDEO_SIZE_UNIT);
        let size = u8::try_from(units.saturating_sub(1)).unwrap_or(u8::MAX);
        let mode = MmuMode::new().with_va_mode(true).with_video_size(size);
        write(Reg::MmuMode.offset(), mode.into_bits())
    }

    fn invalidate(&self, first: GpuVa, bytes: u64) -> [RegisterOp; 5] {
        let last = first.add(bytes.saturating_sub(1));
        let [first, last] = [first, last].map(|va| page_bits(va.page()) & PAGE_NUMBER_BITS);
        // The smallest aligned power of two, at least a line, that holds both ends.
        let differing = (first ^ last) | (LINE_PAGES - 1);
        let inside = u32::MAX >> differing.leading_zeros();
        let mask = !inside & PAGE_NUMBER_BITS;
        Self::invalidation(first & mask, mask)
    }

    fn invalidate_all(&self) -> [RegisterOp; 5] {
        Self::invalidation(0, 0)
    }

    fn interrupt_gate(&self) -> RegisterOp {
        RegisterOp {
            bytes: Reg::AdapterControl.info().width,
            ..read(Reg::AdapterControl.offset())
        }
    }

    fn enable_interrupts(&self, gate: RegisterOp) -> [RegisterOp; 4] {
        let biu = BiuInterrupts::new()
            .with_page_fault(true)
            .with_master_abort(true);
        let advanced = AdvancedInterrupts::new()
            .with_fence(true)
            .with_csp_timeout(true);
        let open = u32::from(
            AdapterControl::new()
                .with_interrupt_enable(true)
                .into_bits(),
        );
        [
            write(Reg::BiuEnable.offset(), biu.into_bits()),
            write(Reg::AdvancedEnable.offset(), advanced.into_bits()),
            RegisterOp {
                value: gate.value | open,
                ..gate.to_write()
            },
            write(Reg::BiuShadow.offset(), 0),
        ]
    }

    fn disable_interrupts(&self) -> [RegisterOp; 2] {
        [Reg::BiuEnable, Reg::AdvancedEnable].map(|reg| write(reg.offset(), 0))
    }

    fn is_page_fault(&self, biu_status: u32) -> bool {
        BiuInterrupts::from_bits(biu_status).page_fault()
    }

    fn is_bus_error(&self, biu_status: u32) -> bool {
        BiuInterrupts::from_bits(biu_status).master_abort()
    }

    fn is_fence(&self, advanced_status: u32) -> bool {
        AdvancedInterrupts::from_bits(advanced_status).fence()
    }

    fn is_hang(&self, advanced_status: u32) -> bool {
        AdvancedInterrupts::from_bits(advanced_status).csp_timeout()
    }

    fn fault_registers(&self) -> [RegisterOp; 3] {
        [Reg::MxuIntStatus, Reg::FaultStatus0, Reg::FaultStatus1].map(|reg| read(reg.offset()))
    }

    fn fault(&self, registers: &[RegisterOp; 3]) -> Option<Fault> {
        let [clients, status0, status1] = registers.map(|op| op.value);
        let status0 = FaultStatus0::from_bits(status0);
        (clients != 0).then(|| Fault {
            clients,
            va: GpuVa(u64::from(status0.va_high()) << 32 | u64::from(status1)),
            level: status0.level(),
            process_id: status0.process_id(),
        })
    }

    fn clear_fault(&self, fault: &Fault) -> [RegisterOp; 2] {
        let status = Reg::MxuIntStatus.offset();
        [write(status, fault.clients), read(status)]
    }

    fn start_ring(&self, at: GpuVa, bytes: u32) -> [RegisterOp; 5] {
        let address = RingAddress::new().with_page(page_bits(at.page()));
        [
            write(RingWord::Address.offset(0), address.into_bits()),
            write(RingWord::Size.offset(0), bytes),
            write(RingWord::Head.offset(0), 0),
            write(RingWord::Tail.offset(0), 0),
            write(
                RingWord::Address.offset(0),
                address.with_kickoff(true).into_bits(),
            ),
        ]
    }

    fn stop_ring(&self, at: GpuVa) -> [RegisterOp; 2] {
        let address = RingAddress::new().with_page(page_bits(at.page()));
        let ring = RingWord::Address.offset(0);
        [write(ring, address.into_bits()), read(ring)]
    }

    fn reset_engine(&self) -> [RegisterOp; 3] {
        reset(EngineReset::new().with_graphics(0xf))
    }

    fn reset_all_engines(&self) -> [RegisterOp; 3] {
        let units = EngineReset::new().with_graphics(0xf).with_vpp(true);
        reset(units.with_vcp0(true).with_vcp1(true))
    }

    fn busy(&self) -> RegisterOp {
        read(Reg::TopBusy.offset())
    }

    fn ring_head(&self) -> u32 {
        RingWord::Head.offset(0)
    }

    fn ring_tail(&self) -> u32 {
        RingWord::Tail.offset(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The rule of hardware reference 5: which lines an invalidation drops.
    fn drops(ops: &[RegisterOp; 5], page: u32) -> bool {
        let [address, mask] = [ops[0].value, ops[1].value];
        page & !15 & mask == address & mask
    }

    #[test]
    fn an_invalidation_of_one_page_drops_its_line_and_no_other() {
        let ops = E3k.invalidate(GpuVa(0x1_0001_2000), 4096);
        for page in 0x10_0000u32..0x10_0100 {
            assert_eq!(drops(&ops, page), page >> 4 == 0x10_001, "{page:#x}");
        }
        assert_eq!(ops[0].value & 0xf, 0);
        assert_eq!(ops[1].value & 0xf, 0);
    }

    #[test]
    fn vram_that_is_not_ready_is_an_error_and_a_silent_chip_is_not() {
        let ask = |ready, channels| {
            let mut ops = E3k.identity();
            ops[0].value = ready;
            ops[1].value = channels;
            E3k.vram_bytes(&ops)
        };
        assert_eq!(ask(0xDEAD_BEAF, 0x11), Ok(Some(1 << 30)));
        assert_eq!(ask(0xDEAD_BEAF, 0xffff_ff00), Ok(None));
        assert_eq!(ask(0xDEAD_BEEF, 0x11), Err(Error::Io));
        assert_eq!(ask(0xDEAD_BEAF, 0x41), Err(Error::Invalid));
    }

    #[test]
    fn video_size_counts_256_mib_units_rounded_up() {
        let mode = |bytes| E3k.enable_translation(bytes).value;
        assert_eq!(mode(1 << 30), 0x0301);
        assert_eq!(mode(256 << 20), 0x0001);
        assert_eq!(mode((3 << 30) - (24 << 20)), 0x0b01);
        assert_eq!(mode(64 << 30), 0xff01);
    }

    proptest! {
        #[test]
        fn an_invalidation_covers_every_page_of_its_range(
            first in 0u64..1 << 28, pages in 1u64..100_000, at in any::<u64>(),
        ) {
            let pages = pages.min((1 << 28) - first);
            let ops = E3k.invalidate(GpuVa::from_page(first), pages * 4096);
            let page = u32::try_from(first + at % pages).unwrap();
            prop_assert!(drops(&ops, page));
        }
    }
}
