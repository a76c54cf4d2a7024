//! Fences, reservations and tickets: the rules one by one, a naive reference, and
//! every order of steps that loom and shuttle find.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what a scene needs, it has"
)]

mod allocations;
mod hosts;
mod loomed;
mod progress;
mod recorder;
mod reference;
mod rules_fences;
mod rules_locking;
mod shuttled;
