//! The daemon `presil`: it gives the GPU model of `presil-device` a door to
//! QEMU, an engine thread, and a life.
//!
//! [`shared_gpu`] is the model under a fair lock; [`vhost_user`] and
//! [`vfio_user`] are the doors; [`server`] opens one for each GPU, for one QEMU
//! after another; [`control`] answers questions about the running GPUs.
//!
//! Threads: each GPU has one that accepts QEMU and serves it, and one that is
//! the engine; behind the vhost-user door another maps the window. One more
//! waits for signals, and one serves each control client. None of them can be
//! ended by what a guest does.

mod answers;
pub mod chips;
pub mod cli;
pub mod control;
mod control_clients;
pub mod count;
mod eventfd_signal;
mod human;
mod lent;
pub mod life;
mod log_flood;
mod messages;
pub mod mmu_args;
pub mod pci;
pub mod qemu_args;
pub mod query;
pub mod questions;
pub mod regs;
mod regs_markdown;
mod rings;
mod running;
pub mod sandbox;
pub mod server;
pub mod shared_gpu;
mod sigbus;
pub mod socket;
pub mod system_memory;
mod thread;
mod tlb;
pub mod vfio_user;
pub mod vhost_user;
mod why;
