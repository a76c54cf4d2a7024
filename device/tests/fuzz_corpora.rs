//! The inputs that fuzzing has kept: none of them panics, each comes to an end.
#![allow(
    unreachable_pub,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    reason = "a test fails by panicking; the targets are another crate's"
)]

use presil_device::{Gpu, NoInterrupts};

#[path = "../../fuzz/src/lib.rs"]
mod targets;

#[test]
fn the_corpora_of_all_targets_run() {
    type Target = fn(&[u8]);
    let all: [(&str, Target); 4] = [
        ("registers", targets::registers),
        ("ring", targets::ring),
        ("states", targets::states),
        ("tables", targets::tables),
    ];
    for (name, target) in all {
        let folder = format!("{}/../fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
        let inputs: Vec<_> = std::fs::read_dir(folder).expect("a corpus").collect();
        assert!(!inputs.is_empty(), "{name}");
        for input in inputs {
            target(&std::fs::read(input.expect("an entry").path()).expect("an input"));
        }
    }
}

#[test]
fn saved_states_among_the_inputs_are_of_todays_format() {
    for name in ["copy_and_history", "fill_and_transfer", "flags"] {
        let path = format!(
            "{}/../fuzz/corpus/states/{name}",
            env!("CARGO_MANIFEST_DIR")
        );
        let data = std::fs::read(path).expect("an input");
        let state = [&*data, &crc32fast::hash(&data).to_le_bytes()].concat();
        let restored = Gpu::restore(Box::new(NoInterrupts), &mut &*state);
        assert!(restored.is_ok(), "{name}: {:?}", restored.err());
    }
}
