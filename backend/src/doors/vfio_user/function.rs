//! The PCI function: its regions as messages reach them, and its resets.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use e3k_regs::Reg;
use presil_device::{BusAddr, Gpu, NoMemory, Vram, VramOffset, Width};
use rustix::io::Errno;
use vfio_bindings::bindings::vfio;

use super::config_space::{BAR0_BYTES, CONFIG_BYTES, ConfigSpace, MSI, Written};
use super::counters::VfioUserCounters;
use super::dma::{Bus, Dma};
use super::interrupts::{Interrupts, Port};
use super::wire::{Access, DmaUnmap, SetIrqs};
use crate::doors::lent::LentEvent;
use crate::doors::pci::Identity;
use crate::shared_gpu::SharedGpu;

/// Where BAR0 mirrors the first words of the MSI capability.
const MSI_MIRROR: u32 = Reg::MsiControl.offset();
const MSI_MIRROR_BYTES: u32 = 8;

/// The function while one client has it.
pub(super) struct Function {
    gpu: Arc<SharedGpu>,
    vram: Arc<Vram>,
    config: ConfigSpace,
    pub(super) dma: Arc<Dma>,
    interrupts: Arc<Interrupts>,
    counters: Arc<VfioUserCounters>,
    is_watched: bool,
}

impl Function {
    /// Plugs the GPU in, which reaches memory by `dma`.
    pub(super) fn new(
        gpu: Arc<SharedGpu>,
        identity: Identity,
        counters: Arc<VfioUserCounters>,
        dma: Arc<Dma>,
        is_watched: bool,
    ) -> Self {
        let vram = gpu.vram();
        let interrupts = Arc::new(Interrupts::new(Arc::clone(&counters)));
        gpu.set_interrupt_port(Some(Box::new(Port(Arc::clone(&interrupts)))));
        let mut session = gpu.enter();
        // A lost GPU reaches no memory.
        let _ = session.run(|gpu| gpu.set_memory(Box::new(Bus(Arc::clone(&dma)))));
        drop(session);
        let function = Self {
            config: ConfigSpace::new(gpu.config(), identity),
            gpu,
            vram,
            dma,
            interrupts,
            counters,
            is_watched,
        };
        function.apply();
        function
    }

    /// Size and flags of a region; `None` where there is none of this number.
    pub(super) fn region(&self, index: u32) -> Option<(u64, u32)> {
        let access = vfio::VFIO_REGION_INFO_FLAG_READ | vfio::VFIO_REGION_INFO_FLAG_WRITE;
        match index {
            vfio::VFIO_PCI_BAR0_REGION_INDEX => Some((BAR0_BYTES.into(), access)),
            vfio::VFIO_PCI_BAR1_REGION_INDEX => Some((
                self.vram.visible_bytes(),
                access | vfio::VFIO_REGION_INFO_FLAG_MMAP,
            )),
            vfio::VFIO_PCI_CONFIG_REGION_INDEX => Some((CONFIG_BYTES, access)),
            index if index < vfio::VFIO_PCI_NUM_REGIONS => Some((0, 0)),
            _ => None,
        }
    }

    /// What a region is mapped from: of BAR1 it is VRAM.
    pub(super) fn mappable(&self, index: u32) -> Option<BorrowedFd<'_>> {
        (index == vfio::VFIO_PCI_BAR1_REGION_INDEX).then(|| self.vram.file().as_fd())
    }

    /// Refuses what does not lie in its region.
    fn check(&self, access: Access) -> Result<(), Errno> {
        let (size, _) = self.region(access.region).ok_or(Errno::INVAL)?;
        let count = u64::try_from(access.count).map_err(|_| Errno::INVAL)?;
        let end = access.offset.checked_add(count);
        if count == 0 || end.is_none_or(|end| end > size) {
            return Err(Errno::INVAL);
        }
        Ok(())
    }

    /// Fills `buf`, which is as long as the access.
    ///
    /// # Errors
    /// `EINVAL`: no region, not inside it, or a width that registers do not have.
    pub(super) fn read(&self, access: Access, buf: &mut [u8]) -> Result<(), Errno> {
        self.check(access)?;
        match access.region {
            vfio::VFIO_PCI_CONFIG_REGION_INDEX => {
                self.counters.config_reads.add(1);
                let pending = self.gpu.enter().run(|gpu| gpu.interrupt_pending());
                self.config
                    .read(access.offset, buf, pending.unwrap_or(false));
            }
            vfio::VFIO_PCI_BAR0_REGION_INDEX => {
                self.counters.register_reads.add(1);
                self.read_register(access.offset, buf)?;
            }
            _ => {
                self.counters.window_accesses.add(1);
                let read = self.vram.read(VramOffset(access.offset), buf);
                if read.is_err() || !self.config.memory_enabled() {
                    buf.fill(0xFF);
                }
            }
        }
        Ok(())
    }

    /// # Errors
    /// As [`Self::read`].
    pub(super) fn write(&mut self, access: Access, data: &[u8]) -> Result<(), Errno> {
        self.check(access)?;
        match access.region {
            vfio::VFIO_PCI_CONFIG_REGION_INDEX => {
                self.counters.config_writes.add(1);
                self.write_config(access.offset, data);
            }
            vfio::VFIO_PCI_BAR0_REGION_INDEX => {
                self.counters.register_writes.add(1);
                self.write_register(access.offset, data)?;
            }
            _ => {
                self.counters.window_accesses.add(1);
                if self.config.memory_enabled() {
                    // Inside VRAM, as checked.
                    let _ = self.vram.write(VramOffset(access.offset), data);
                }
            }
        }
        Ok(())
    }

    fn read_register(&self, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let (offset, width) = register_access(offset, buf.len())?;
        let value = if !self.config.memory_enabled() {
            width.ones()
        } else if let Some(at) = mirrored(offset, width) {
            self.config.read(at, buf, false);
            return Ok(());
        } else {
            let read = self.gpu.enter().run(|gpu| gpu.read(offset, width));
            read.unwrap_or(width.ones())
        };
        for (byte, from) in buf.iter_mut().zip(value.to_le_bytes()) {
            *byte = from;
        }
        Ok(())
    }

    fn write_register(&mut self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let (offset, width) = register_access(offset, data.len())?;
        if !self.config.memory_enabled() {
            return Ok(());
        }
        if let Some(at) = mirrored(offset, width) {
            self.write_config(at, data);
            return Ok(());
        }
        let mut raw = [0; 8];
        for (byte, from) in raw.iter_mut().zip(data) {
            *byte = *from;
        }
        let value = u64::from_le_bytes(raw);
        // A lost GPU takes no writes.
        let _ = self.gpu.enter().run(|gpu| gpu.write(offset, width, value));
        Ok(())
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        let was_powered = self.config.is_powered();
        match self.config.write(offset, data) {
            Written::Bits => {
                if was_powered && !self.config.is_powered() {
                    // A lost GPU has no work.
                    let _ = self.gpu.enter().run(Gpu::sleeps);
                }
                self.apply();
            }
            Written::FunctionReset => {
                self.counters.function_resets.add(1);
                self.reset();
            }
            Written::PowerUp => {
                self.counters.power_ups.add(1);
                self.reset();
            }
        }
    }

    /// The client's reset: a reboot, or the bus.
    pub(super) fn device_reset(&mut self) {
        self.counters.device_resets.add(1);
        self.reset();
    }

    /// Function reset. When it returns, nothing of the work before it touches
    /// memory any more.
    fn reset(&mut self) {
        self.config.reset();
        // A lost GPU has nothing to reset.
        let _ = self.gpu.enter().run(Gpu::reset);
        self.apply();
    }

    /// Makes what configuration space says so.
    fn apply(&self) {
        // Its end sends an interrupt that had no way until now.
        let mut session = self.gpu.enter();
        session.hold_engine(!self.config.is_powered());
        self.dma.set_enabled(self.config.bus_master());
        self.interrupts.set_route(self.config.route());
    }

    /// Takes memory away. Who watches the GPU hears of it before, while it can still be
    /// looked at.
    ///
    /// # Errors
    /// As [`Dma::unmap`].
    pub(super) fn dma_unmap(&self, request: DmaUnmap) -> Result<(), Errno> {
        if self.is_watched
            && let Some((first, last)) = self.dma.taken_by(request)?
        {
            let unmaps = |gpu: &mut Gpu| gpu.dma_unmaps(BusAddr(first), BusAddr(last));
            // A lost GPU is not watched.
            let _ = self.gpu.enter().run(unmaps);
        }
        self.dma.unmap(request)
    }

    /// # Errors
    /// As [`Interrupts::set`].
    pub(super) fn set_irqs(
        &self,
        request: SetIrqs<'_>,
        event: Option<LentEvent>,
    ) -> Result<(), Errno> {
        let _session = self.gpu.enter();
        self.interrupts.set(request, event)
    }
}

impl Drop for Function {
    /// Unplugs the GPU: nothing of the client's is touched any more.
    fn drop(&mut self) {
        let mut session = self.gpu.enter();
        session.hold_engine(true);
        // A lost GPU touches nothing either.
        let _ = session.run(|gpu| gpu.set_memory(Box::new(NoMemory)));
        drop(session);
        self.gpu.set_interrupt_port(None);
        self.dma.clear();
    }
}

fn register_access(offset: u64, bytes: usize) -> Result<(u32, Width), Errno> {
    let offset = u32::try_from(offset).ok();
    let width = u8::try_from(bytes).ok().and_then(Width::from_bytes);
    offset.zip(width).ok_or(Errno::INVAL)
}

/// Where an access of the mirrored words goes in configuration space.
fn mirrored(offset: u32, width: Width) -> Option<u64> {
    let at = offset.checked_sub(MSI_MIRROR)?;
    let inside = offset.is_multiple_of(width.bytes()) && at + width.bytes() <= MSI_MIRROR_BYTES;
    inside.then(|| MSI as u64 + u64::from(at))
}
