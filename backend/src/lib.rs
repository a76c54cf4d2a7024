//! The daemon `presil`: it gives the GPU model of `presil-device` a door to
//! QEMU, an engine thread, and a life.
//!
//! [`shared_gpu`] is the model under a fair lock; [`vhost_user`] is the door;
//! [`server`] opens it for one QEMU after another; [`control`] answers
//! questions about the running GPU.
//!
//! Threads: the caller of [`server::serve`] accepts QEMU; the vhost crates run
//! one thread for messages and one for queues; ours are the engine, the
//! window's map, signals, and one per control client. None of them can be
//! ended by what a guest does.

pub mod chips;
pub mod cli;
pub mod control;
pub mod life;
pub mod mmu_args;
pub mod qemu_args;
pub mod query;
pub mod regs;
mod regs_markdown;
pub mod server;
pub mod shared_gpu;
pub mod size;
pub mod socket;
pub mod system_memory;
mod thread;
pub mod vhost_user;
