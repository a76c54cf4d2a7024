//! Questions about running GPUs, on a control socket.

pub(crate) mod answers;
pub(crate) mod clients;
pub mod conversation;
pub(crate) mod entries;
pub mod questions;
pub(crate) mod rings;
pub(crate) mod running;
pub(crate) mod tlb;
pub(crate) mod why;
