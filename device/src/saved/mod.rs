//! What a saved state says of each unit: plain data, whose members' names and meaning are
//! the format (docs/state-format.md). Each unit writes its own with `save`, and is made
//! again by `restore`, which refuses what no GPU can be.

pub(crate) mod config;
pub(crate) mod csp;
mod damage;
pub(crate) mod history;
pub(crate) mod interrupts;
pub(crate) mod mxu;
pub(crate) mod plain;
pub(crate) mod sparse;

pub(crate) use damage::{Damage, countable, ensure};

use crate::counters::Counters;
use config::Config;
use csp::CommandProcessor;
use e3k_regs::fields::PowerState;
use interrupts::Interrupts;
use mxu::Crossbar;
use plain::Registers;
use serde::{Deserialize, Serialize};

/// Everything but VRAM.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Gpu {
    pub(crate) config: Config,
    pub(crate) counters: Counters,
    pub(crate) registers: Registers,
    pub(crate) interrupts: Interrupts,
    pub(crate) crossbar: Crossbar,
    pub(crate) command_processor: CommandProcessor,
    pub(crate) power: PowerState,
}
