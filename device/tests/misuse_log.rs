//! What the log says about registers used in ways that they are not declared.
//! Alone in its process: other threads' log calls would disturb the capture.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use presil_device::{Chip, Config, Gpu, NoInterrupts, Width};
use std::fmt;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span;

/// Everything that is logged, as text.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

impl Visit for Lines {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0.lock().unwrap().push(format!("{value:?}"));
        }
    }
}

#[test]
fn each_kind_of_misuse_is_said_once_for_each_register_with_its_name() {
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || {
        let config = Config::new(Chip::Arise10c0, 1 << 30, 256 << 20, true).unwrap();
        let mut gpu = Gpu::new(&config, Box::new(NoInterrupts)).unwrap();
        for _ in 0..3 {
            gpu.write(0xD370, Width::B4, 7);
            gpu.write(0x49004, Width::B4, 0x320);
            gpu.read(0x8524, Width::B2);
            gpu.write(0x3005C, Width::B4, 3 << 29); // bits 30:29 of ring 4's address
            gpu.write(0x3006C, Width::B4, 3 << 29); // ring 5: the same bank
        }
        gpu.write(0x49005, Width::B1, 3);
    });
    assert_eq!(
        *lines.0.lock().unwrap(),
        [
            "write of 0x7 to MEM_READY (0xd370) lost: it is read-only",
            "write to MMU_MODE (0x49004) sets reserved bits 0x20",
            "2-byte access to ENGINE_RESET (0x8524), which has 4",
            "write to RING[4].ADDRESS (0x3005c) sets reserved bits 0x60000000",
            "1-byte access to MMU_MODE (0x49004), which has 4",
        ]
    );
}
