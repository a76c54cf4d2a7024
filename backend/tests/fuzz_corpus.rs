//! The inputs that fuzzing the doors has kept: they survive each of them.
#![allow(
    unreachable_pub,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    reason = "a test fails by panicking; the target is another crate's"
)]

#[path = "../../fuzz/src/doors.rs"]
mod target;

fn replay(name: &str, target: fn(&[u8])) {
    let folder = format!("{}/../fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let inputs: Vec<_> = std::fs::read_dir(folder).expect("a corpus").collect();
    assert!(!inputs.is_empty());
    for input in inputs {
        target(&std::fs::read(input.expect("an entry").path()).expect("an input"));
    }
}

#[test]
fn the_corpora_of_the_fuzz_targets_run() {
    replay("vfio_user", target::vfio_user);
    replay("vhost_user", target::vhost_user);
}
