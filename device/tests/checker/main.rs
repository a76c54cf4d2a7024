//! The driver checker: every rule has a fault of a driver that fires it and nothing else,
//! and a near miss that fires nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod bench;
mod caches;
mod fences;
mod flood;
mod frame;
mod invalidations;
mod lifetime;
mod oracle;
mod pages;
mod protection;
mod registers;
mod resets;
mod rings;
mod translations;
mod unwritten;

#[allow(dead_code, reason = "shared with the tests of the model")]
#[path = "../model/machine.rs"]
mod machine;
#[allow(dead_code, reason = "shared with the tests of the model")]
#[path = "../model/rig.rs"]
mod rig;
#[allow(dead_code, reason = "shared with the tests of the model")]
#[path = "../model/tables.rs"]
mod tables;
