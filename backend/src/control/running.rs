//! What could still work of a GPU: of one that no driver has any more, nothing should.

use e3k_regs::Reg;
use e3k_regs::pte::Ttbr;
use e3k_regs::register::{L1_PER_PROCESS, PROCESS_IDS};
use presil_device::{Gpu, RingStatus};
use serde::Serialize;

use crate::service::server::Served;
use crate::shared_gpu::Lost;

/// The answer to `running`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Running {
    /// Rings whose kick-off bit is set.
    rings: Vec<RingStatus>,
    /// Process ids that have a valid L1 register.
    l1_valid: Vec<u32>,
    /// Whether the PCI function is a bus master; a virtio device does not say.
    bus_master: Option<bool>,
}

/// What could still work.
pub(crate) fn look(served: &Served) -> Result<Running, Lost> {
    let look = |gpu: &mut Gpu| Running::of(gpu, served.bus_master(gpu));
    served.gpu.enter().run(look)
}

impl Running {
    fn of(gpu: &Gpu, bus_master: Option<bool>) -> Self {
        let has_l1 = |id: &u32| {
            (0..L1_PER_PROCESS)
                .map(|n| gpu.peek(Reg::Ttbr.at(id * L1_PER_PROCESS + n)))
                .any(|word| Ttbr::from_bits(word).valid())
        };
        Self {
            rings: gpu.rings().filter(|ring| ring.started).collect(),
            l1_valid: (0..PROCESS_IDS).filter(has_l1).collect(),
            bus_master,
        }
    }
}

#[cfg(test)]
mod tests {
    use presil_device::{Chip, Config, NoInterrupts, Width};

    use super::*;

    #[test]
    fn nothing_runs_but_what_was_started() {
        let config = Config::new(Chip::Arise10c0, 1 << 30, 512 << 20, true).unwrap();
        let mut gpu = Gpu::new(&config, Box::new(NoInterrupts)).unwrap();
        let idle = Running::of(&gpu, None);
        assert!(idle.rings.is_empty() && idle.l1_valid.is_empty());
        // Ring 8 with nothing to do, and one entry of process 3.
        gpu.write(0x30610, Width::B4, 1 << 31);
        gpu.write(0x50000 + 4 * (3 * 256 + 7), Width::B4, 1 << 31 | 1);
        let running = Running::of(&gpu, None);
        let numbers: Vec<u8> = running.rings.iter().map(|ring| ring.ring).collect();
        assert_eq!(numbers, [8]);
        assert_eq!(running.l1_valid, [3]);
        gpu.reset();
        assert_eq!(Running::of(&gpu, None), idle);
    }
}
