//! Numbers and sizes as people write them: what the daemon on the host and the
//! tools in the guest understand alike.
#![forbid(unsafe_code)]

pub mod number;
pub mod size;
