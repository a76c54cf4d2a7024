//! The bus interface unit.

use crate::latched::Latched;
use e3k_regs::fields::{AdapterControl, AdvancedInterrupts, BiuInterrupts};
use serde::{Deserialize, Serialize};

/// Its registers and its line.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Interrupts {
    pub(crate) raw: BiuInterrupts,
    pub(crate) enable: u32,
    pub(crate) advanced_raw: AdvancedInterrupts,
    pub(crate) advanced_enable: u32,
    pub(crate) shadow: Latched,
    pub(crate) control: AdapterControl,
    /// Whether the line is up.
    pub(crate) asserted: bool,
}
