//! The model against the hardware reference, over its public interface only:
//! registers in and out, bytes in VRAM and in a machine's memory.
//!
//! Offsets and bits are typed from the reference, not taken from the
//! declarations; packets are built with the driver's own writer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod blit;
mod defects;
mod displays;
mod dumps;
mod engines;
mod fault_policies;
mod faults;
mod faults_planted;
mod interrupts;
mod machine;
mod misuse;
mod mmu;
mod naive;
mod packets;
mod price;
mod programs;
mod random;
mod registers;
mod rig;
mod rings;
mod runs;
mod state;
mod state_format;
mod surface_formats;
mod tables;
mod tlb;
mod watch;
mod watch_memory;
