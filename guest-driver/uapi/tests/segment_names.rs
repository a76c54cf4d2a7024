//! The segments' names are the same wherever they are written: in C, in the driver's logic,
//! which knows nothing of this crate, and in the documentation.

#![expect(clippy::unwrap_used, reason = "a test")]

use presil_uapi::SEGMENT_NAMES;

fn text(path: &str) -> String {
    let path = format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

/// The names in a part of a text, in the order in which it has them.
fn named(text: &str, from: &str, to: &str, quote: char) -> Vec<String> {
    let part = text.split_once(from).unwrap().1.split_once(to).unwrap().0;
    let quoted = part.split(quote).skip(1).step_by(2);
    quoted.map(ToOwned::to_owned).collect()
}

#[test]
fn everybody_calls_the_segments_alike() {
    let c = text("guest-driver/kmod/fdinfo.c");
    assert_eq!(
        named(&c, "regions[PRESIL_SEGMENTS] = {", "}", '"'),
        SEGMENT_NAMES
    );
    let logic = text("guest-driver/vidmm/src/placement/segments.rs");
    assert_eq!(
        named(&logic, "Self::LocalVisible =>", "Self::System", '"'),
        SEGMENT_NAMES
    );
    let docs = text("docs/uapi.md");
    assert_eq!(named(&docs, "`SEGMENT` is ", ".", '`'), SEGMENT_NAMES);
}
