//! A machine in one process: the real driver (`vidmm`) on the real model
//! (`presil-device`), joined by nothing but register accesses, VRAM, RAM and
//! an interrupt. No clock: time passes when nothing else happens. The GPU works while the
//! driver waits, or beside its threads ([`crew`]).
#![forbid(unsafe_code)]

mod checked;
mod checks;
mod cpu;
pub mod crew;
pub mod demand;
mod guest;
pub mod host;
mod machine;
pub mod manager;
pub mod pa_driver;
mod page;
mod process;
mod program;
mod ram;
#[macro_use]
#[path = "../../guest-driver/vidmm/tests/sync/threads.rs"]
mod threads_of;
pub mod threads;

pub use checks::{Check, data_checks, failed};
pub use cpu::Lines;
pub use guest::Guest;
pub use machine::{Frozen, Machine, WINDOW_AT};
pub use page::check_page;
pub use process::{Process, assert_all, assert_tlbs_agree};
pub use ram::Ram;
