//! A server's life: its sockets, its jail, its log, and the GPUs behind them.

pub mod check;
pub mod life;
pub(crate) mod log_flood;
pub mod sandbox;
pub(crate) mod send;
pub mod server;
pub mod socket;
