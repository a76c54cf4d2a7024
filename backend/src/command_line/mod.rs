//! What is said on the command line, and what the commands that need no server
//! answer.

pub mod check_args;
pub mod chips;
pub mod cli;
pub mod defects;
pub mod explain;
pub(crate) mod human;
pub mod mmu_args;
pub mod qemu_args;
pub mod query;
pub mod regs;
pub(crate) mod regs_markdown;
