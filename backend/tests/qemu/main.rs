//! The server under a real QEMU, without a guest system: what the stand-ins of
//! `door.rs` and `vfio_user` cannot know. Seconds, not minutes.
//!
//! Run with `PRESIL_QEMU=COMMAND cargo test -p presil --test qemu -- --ignored`,
//! where COMMAND starts a QEMU of version 11.1 or newer and may have arguments.

#[path = "../support/mod.rs"]
mod support;

mod hotplug;
mod pci;
mod virtio;
