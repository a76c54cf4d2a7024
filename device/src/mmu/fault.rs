//! Faults: the chip's registers carry what the hardware reference lists (6),
//! the model's log the rest: client, direction, cause, ring position.

use super::access::{Request, Stop};
use super::record::{FaultCause, FaultRecord};
use crate::config::OnFault;
use crate::defect::Defect;
use crate::history::History;
use crate::memory::Target;
use crate::saved::Damage;
use crate::saved::mxu::Faults;
use crate::watch::Onlooker;
use e3k_regs::fields::FaultStatus0;
use e3k_regs::{GpuVa, Reg};

/// How far the walk came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FaultPlace {
    level: u8,
    l1_at: u32,
    l2_at: Option<Target>,
    target: Option<Target>,
}

impl FaultPlace {
    pub(super) fn level(level: u8) -> Self {
        Self {
            level,
            ..Self::default()
        }
    }

    /// The data access itself failed.
    pub(super) fn page(target: Target) -> Self {
        Self::default().with_target(target)
    }

    pub(super) fn with_l1(self, l1_at: u32) -> Self {
        Self { l1_at, ..self }
    }

    /// One level further down, at the L2 entry `at`.
    pub(super) fn below(self, at: Target) -> Self {
        Self {
            level: 2,
            l2_at: Some(at),
            ..self
        }
    }

    pub(super) fn with_target(self, target: Target) -> Self {
        Self {
            target: Some(target),
            ..self
        }
    }
}

/// Why an access failed, and where.
pub(super) type Failure = (FaultCause, FaultPlace);

/// The fault registers and the history.
#[derive(Debug, Default)]
pub(crate) struct FaultLog {
    history: History<FaultRecord>,
    status: u32,
    status0: FaultStatus0,
    status1: u32,
    level1_at: u32,
    level2_at: u32,
    level: u32,
    mask: u32,
    /// The ring in execution.
    pub(crate) ring: u8,
    /// Offset in that ring of the packet in execution.
    pub(crate) ring_offset: u32,
    /// A translation fault since the last look.
    pub(crate) translation: bool,
    /// A bus error since the last look.
    pub(crate) bus: bool,
    /// A fault since the last look after which its ring stands.
    stand: bool,
}

impl FaultLog {
    pub(super) fn save(&self) -> Faults {
        Faults {
            history: self.history.save(),
            status: self.status,
            status0: self.status0,
            status1: self.status1,
            level1_at: self.level1_at,
            level2_at: self.level2_at,
            level: self.level,
            mask: self.mask,
            ring: self.ring,
            ring_offset: self.ring_offset,
            translation: self.translation,
            bus: self.bus,
            stand: self.stand,
        }
    }

    /// # Errors
    /// A history that is too long.
    pub(super) fn restore(saved: Faults) -> Result<Self, Damage> {
        let Faults {
            history,
            status,
            status0,
            status1,
            level1_at,
            level2_at,
            level,
            mask,
            ring,
            ring_offset,
            translation,
            bus,
            stand,
        } = saved;
        Ok(Self {
            history: History::restore(history)?,
            status,
            status0,
            status1,
            level1_at,
            level2_at,
            level,
            mask,
            ring,
            ring_offset,
            translation,
            bus,
            stand,
        })
    }

    pub(crate) fn history(&self) -> impl Iterator<Item = &FaultRecord> {
        self.history.iter()
    }

    /// The registers to their reset values; the history stays.
    pub(super) fn reset_registers(&mut self) {
        *self = Self {
            history: std::mem::take(&mut self.history),
            ..Self::default()
        };
    }

    /// Whether software has not cleared every status bit.
    pub(super) fn pending(&self) -> bool {
        self.status != 0
    }

    /// The last one.
    pub(super) fn last(&self) -> Option<&FaultRecord> {
        self.history.last()
    }

    pub(super) fn take_stand(&mut self) -> bool {
        std::mem::take(&mut self.stand)
    }

    /// Records a fault and says what becomes of the access.
    pub(super) fn record(
        &mut self,
        watch: impl Onlooker,
        request: Request,
        va: GpuVa,
        cause: FaultCause,
        place: FaultPlace,
        on_fault: OnFault,
    ) -> Stop {
        self.history.record(FaultRecord {
            client: request.client,
            write: request.write,
            process_id: request.process_id,
            va,
            cause,
            level: place.level + u8::from(watch.bends(Defect::WrongLevel)),
            target: place.target.map(|target| target.to_string()),
            ring: self.ring,
            ring_offset: self.ring_offset,
        });
        // The data access itself is the bus's affair, a table entry the MMU's.
        let bus = matches!(cause, FaultCause::Bus | FaultCause::BusMasterOff);
        if bus && place.level == 0 && !watch.bends(Defect::BusErrorIsPageFault) {
            self.bus = true;
            return Stop::Dropped;
        }
        self.latch(watch, request, va, cause, place);
        self.stand = match on_fault {
            OnFault::Report => false,
            OnFault::Halt => !watch.bends(Defect::NoStanding),
            OnFault::Retry => true,
        };
        if on_fault == OnFault::Retry && !watch.bends(Defect::RetryDrops) {
            Stop::Stalled
        } else {
            Stop::Dropped
        }
    }

    /// The first fault fills the registers; until software has cleared every
    /// status bit, later ones only set theirs.
    fn latch(
        &mut self,
        watch: impl Onlooker,
        request: Request,
        va: GpuVa,
        cause: FaultCause,
        place: FaultPlace,
    ) {
        self.translation = !watch.bends(Defect::FaultWithoutInterrupt);
        let first = self.status == 0 || watch.bends(Defect::LaterFaultShown);
        self.status |=
            1 << (request.client as u32 + u32::from(watch.bends(Defect::WrongClientBit)));
        if !first {
            return;
        }
        let [low, high] = e3k_regs::packet::halves(va.0);
        self.status0 = FaultStatus0::new()
            .with_level(place.level)
            .with_process_id(request.process_id & 0xf)
            .with_va_high(high.to_le_bytes()[0]);
        self.status1 = if watch.bends(Defect::FaultAddressOfPage) {
            low & !0xfff
        } else {
            low
        };
        self.level1_at = place.l1_at & !3;
        let [l2_at, _] = e3k_regs::packet::halves(place.l2_at.map_or(0, Target::address));
        self.level2_at = l2_at & !3;
        self.level = match cause {
            FaultCause::InvalidL1 => 1,
            FaultCause::InvalidL2 => 4,
            _ => 0,
        };
    }

    pub(super) fn read_register(&self, reg: Reg) -> Option<u32> {
        Some(match reg {
            Reg::MxuIntStatus => self.status,
            Reg::MxuIntMask => self.mask,
            Reg::FaultStatus0 => self.status0.into_bits(),
            Reg::FaultStatus1 => self.status1,
            Reg::FaultMemAddr => self.status1 & !3,
            Reg::FaultLevel1Addr => self.level1_at,
            Reg::FaultLevel2Addr => self.level2_at,
            Reg::FaultLevel => self.level,
            _ => return None,
        })
    }

    pub(super) fn write_register(&mut self, watch: impl Onlooker, reg: Reg, value: u32) -> bool {
        match reg {
            Reg::MxuIntStatus if watch.bends(Defect::StatusIsStorage) => self.status = value,
            Reg::MxuIntStatus if watch.bends(Defect::AnyWriteClearsStatus) => self.status = 0,
            Reg::MxuIntStatus => self.status &= !value,
            Reg::MxuIntMask => self.mask = value,
            Reg::FaultStatus0
            | Reg::FaultStatus1
            | Reg::FaultMemAddr
            | Reg::FaultLevel1Addr
            | Reg::FaultLevel2Addr
            | Reg::FaultLevel => {}
            _ => return false,
        }
        true
    }
}
