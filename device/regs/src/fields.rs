//! Field layouts of registers, one type per register and one file per unit.
#![allow(
    clippy::return_self_not_must_use,
    clippy::result_unit_err,
    reason = "the accessors are generated"
)]

mod biu;
mod csp;
mod display;
mod miu;
mod mxu;

pub use biu::{
    AdapterControl, AdvancedInterrupts, BiuInterrupts, ClockGates, EngineReset, MsiControl,
    PowerDoorbell, PowerState,
};
pub use csp::{GpcBusy0, GpcBusy1, PowerManagerConfig, RingAddress, RingWord, TopBusy, VideoBusy};
pub use display::{DisplayFrame, DisplayPosition, SerialPort};
pub use miu::{MemChannels, MiuRangeAddress};
pub use mxu::{
    BlSize, ChannelControl, DecControl, FaultAddress, FaultClient, FaultLevel, FaultStatus0, Fl2,
    InvalidateAddress, InvalidateTrigger, MmuMode, MxuIntMask, MxuIntStatus, ProcSec, TlbTarget,
    VisibleSize,
};
