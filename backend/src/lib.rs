//! The daemon `presil`: it gives the GPU model of `presil-device` a door to
//! QEMU, an engine thread, and a life.
//!
//! [`shared_gpu`] is the model under a fair lock; [`doors`] are what QEMU comes
//! through; [`service`] opens one for each GPU, for one QEMU after another;
//! [`control`] answers questions about the running GPUs; [`command_line`] is what
//! a user types, and what needs no server.
//!
//! Threads: each GPU has one that accepts QEMU and serves it, and one that is
//! the engine; behind the vhost-user door another maps the window. One more
//! waits for signals, and one serves each control client. None of them can be
//! ended by what a guest does.

pub mod caches;
pub mod command_line;
pub mod control;
pub mod count;
pub mod doors;
pub mod service;
pub mod shared_gpu;
mod sigbus;
mod thread;
mod told;
