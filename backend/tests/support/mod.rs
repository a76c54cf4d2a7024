//! What the tests of the running server share: the server as a process, and a
//! stand-in for QEMU and its guest.
#![allow(dead_code, reason = "each test program uses its own part")]
#![allow(unreachable_pub, missing_docs, reason = "modules of a test program")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

pub mod doorbell;
pub mod fuse;
pub mod gpu;
pub mod guest;
pub mod qemu;
pub mod qtest;
pub mod qtest_virtio;
pub mod server;
pub mod vfio;

use std::time::Duration;

/// Longer than anything here takes, also on a machine that has eight times as much to do:
/// to fill 256 MiB with noise takes a debug build some seconds.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// Fails if somebody keeps the GPU's lock.
pub fn assert_nobody_holds(gpu: &std::sync::Arc<presil::shared_gpu::SharedGpu>) {
    let (entered, done) = std::sync::mpsc::channel();
    let gpu = std::sync::Arc::clone(gpu);
    std::thread::spawn(move || {
        let _session = gpu.enter();
        // The test may have given up.
        let _ = entered.send(());
    });
    let waited = done.recv_timeout(PATIENCE);
    assert!(waited.is_ok(), "somebody keeps the GPU");
}
