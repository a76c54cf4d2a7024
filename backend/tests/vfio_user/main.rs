//! The vfio-user door, by messages of our own client. What QEMU makes of it is
//! in `qemu.rs`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod defects;
mod dma;
mod function;
mod interrupts;
mod protocol;
mod resets;

/// Guest-physical address of fences.
const FENCE_AT: u64 = 0x10_0000;
