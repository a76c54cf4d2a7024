//! The rings as they stand, and what those wait for that do not get on.

use e3k_regs::Reg;
use e3k_regs::fields::MmuMode;
use presil_device::{Gpu, RingState, RingStatus};
use serde::Serialize;

use crate::service::server::Served;
use crate::shared_gpu::Lost;

/// The answer to `rings`.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    /// What the rings' addresses are: `va` are translated by the tables; `pa` are
    /// VRAM offsets below the size in `MMU_MODE`, and translated as process 0 above.
    mode: &'static str,
    /// Nothing runs while QEMU takes the GPU's memory or bus away.
    engine_held: bool,
    rings: Vec<Ring>,
}

#[derive(Debug, Serialize)]
struct Ring {
    #[serde(flatten)]
    status: RingStatus,
    /// What it does not get on without; `None` where it gets on, or has nothing to do.
    waits_for: Option<String>,
}

/// What is copied while nobody else has the GPU.
pub(crate) struct Facts {
    pub(crate) va_mode: bool,
    pub(crate) rings: Vec<RingStatus>,
    /// Why each of them was halted last.
    halts: Vec<Option<String>>,
}

/// The rings now.
pub(crate) fn look(served: &Served) -> Result<Answer, Lost> {
    let mut session = served.gpu.enter();
    let engine_held = session.engine_is_held();
    let facts = session.run(|gpu| Facts::of(gpu))?;
    drop(session);
    Ok(Answer {
        mode: if facts.va_mode { "va" } else { "pa" },
        engine_held,
        rings: facts.rings().collect(),
    })
}

impl Facts {
    pub(crate) fn of(gpu: &Gpu) -> Self {
        let rings: Vec<_> = gpu.rings().collect();
        let halt = |ring: &RingStatus| {
            let errors = gpu.ring_errors().filter(|error| error.ring == ring.ring);
            let halted = ring.state == RingState::Halted;
            halted.then(|| errors.last().map(ToString::to_string))?
        };
        Self {
            va_mode: MmuMode::from_bits(gpu.peek(Reg::MmuMode.offset())).va_mode(),
            halts: rings.iter().map(halt).collect(),
            rings,
        }
    }

    fn rings(&self) -> impl Iterator<Item = Ring> {
        let halts = self.halts.iter().map(Option::as_deref);
        self.rings.iter().zip(halts).map(|(status, halt)| Ring {
            status: *status,
            waits_for: waits_for(status, halt),
        })
    }

    /// What each ring waits for that does not get on.
    pub(crate) fn waits(&self) -> impl Iterator<Item = (u8, String)> {
        let all = self.rings();
        all.filter_map(|ring| Some((ring.status.ring, ring.waits_for?)))
    }
}

fn waits_for(ring: &RingStatus, halt: Option<&str>) -> Option<String> {
    let work = ring.head != ring.tail;
    Some(match ring.state {
        RingState::Idle | RingState::Running => return None,
        RingState::Stopped if !work => return None,
        RingState::Stopped => format!(
            "its kick-off bit: there is work from Head {:#x} to Tail {:#x}, but bit 31 of its \
             address register is not set",
            ring.head, ring.tail
        ),
        RingState::Waiting => format!(
            "the acknowledgement of a page fault: write the ones of MXU_INT_STATUS ({:#x}) back",
            Reg::MxuIntStatus.offset()
        ),
        RingState::Halted => format!(
            "an engine reset ({:#x}), because of a ring error: {}",
            Reg::EngineReset.offset(),
            halt.unwrap_or("it is not in the log any more")
        ),
        RingState::InReset => format!(
            "the end of its reset: write 0 to ENGINE_RESET ({:#x}) and set the ring up again",
            Reg::EngineReset.offset()
        ),
    })
}

#[cfg(test)]
mod tests {
    use e3k_regs::VramOffset;
    use e3k_regs::fields::RingWord;
    use presil_device::{Chip, Config, NoInterrupts, Width};

    use super::*;

    fn gpu() -> Gpu {
        let config = Config::new(Chip::Arise10c0, 1 << 30, 512 << 20, true).unwrap();
        Gpu::new(&config, Box::new(NoInterrupts)).unwrap()
    }

    fn write(gpu: &mut Gpu, offset: u32, value: u32) {
        gpu.write(offset, Width::B4, value.into());
    }

    /// Ring 0 and what it waits for.
    fn ring_0(gpu: &Gpu) -> (RingState, String) {
        let ring = Facts::of(gpu).rings().next().unwrap();
        (ring.status.state, ring.waits_for.unwrap_or_default())
    }

    #[test]
    fn a_ring_tells_its_state_and_what_it_waits_for() {
        let mut gpu = gpu();
        assert_eq!(ring_0(&gpu), (RingState::Stopped, String::new()));
        write(&mut gpu, RingWord::Size.offset(0), 0x1000);
        write(&mut gpu, RingWord::Tail.offset(0), 8);
        let (state, waits) = ring_0(&gpu);
        assert!(state == RingState::Stopped && waits.contains("Head 0x0 to Tail 0x8"));
        // Packets of ring 0, at VRAM offset 0x5000: one skipped dword, and an unknown one.
        let unknown = 5_u32 << 28;
        gpu.vram()
            .write(VramOffset(0x5004), &unknown.to_le_bytes())
            .unwrap();
        write(&mut gpu, RingWord::Address.offset(0), 1 << 31 | 5);
        assert_eq!(ring_0(&gpu), (RingState::Running, String::new()));
        while gpu.has_work() {
            gpu.step(1);
        }
        let (state, waits) = ring_0(&gpu);
        assert_eq!(state, RingState::Halted);
        assert!(waits.contains("no packet has this opcode"), "{waits}");
        let ring = gpu.rings().next().unwrap();
        assert_eq!((ring.base, ring.last_offset), (0x5000, 4));
        write(&mut gpu, Reg::EngineReset.offset(), 0x1FC);
        let (state, waits) = ring_0(&gpu);
        assert!(state == RingState::InReset && waits.contains("ENGINE_RESET"));
        write(&mut gpu, Reg::EngineReset.offset(), 0);
        write(&mut gpu, RingWord::Size.offset(0), 0x1000);
        write(&mut gpu, RingWord::Address.offset(0), 1 << 31 | 5);
        assert_eq!(ring_0(&gpu), (RingState::Idle, String::new()));
    }
}
