//! A machine in one process: the real driver (`vidmm`) on the real model
//! (`presil-device`), joined by nothing but register accesses, VRAM, RAM and
//! an interrupt. No threads, no clock: the GPU works while the driver waits.
#![forbid(unsafe_code)]

mod checks;
mod cpu;
mod guest;
pub mod host;
mod machine;
pub mod manager;
pub mod pa_driver;
mod page;
mod process;
mod program;
mod ram;

pub use checks::{Check, data_checks, failed};
pub use cpu::Lines;
pub use guest::Guest;
pub use machine::{Frozen, Machine, WINDOW_AT};
pub use page::check_page;
pub use process::{Process, assert_all};
pub use ram::Ram;
