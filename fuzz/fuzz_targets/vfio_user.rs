#![no_main]

#[path = "../src/doors.rs"]
mod doors;

libfuzzer_sys::fuzz_target!(|data: &[u8]| doors::vfio_user(data));
