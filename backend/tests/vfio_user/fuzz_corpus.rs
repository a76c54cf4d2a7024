//! The inputs that fuzzing has kept: the door survives each of them.
#![allow(
    unreachable_pub,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    reason = "a test fails by panicking; the target is another crate's"
)]

#[path = "../../../fuzz/src/vfio_user.rs"]
mod target;

#[test]
fn the_corpus_of_the_fuzz_target_runs() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/vfio_user");
    let inputs: Vec<_> = std::fs::read_dir(folder).expect("a corpus").collect();
    assert!(!inputs.is_empty());
    for input in inputs {
        target::vfio_user(&std::fs::read(input.expect("an entry").path()).expect("an input"));
    }
}
