//! Lines for the program that started the guest.

use serde_json::{Value, json};
use std::io::{IsTerminal as _, stdout};

/// Prints one message in one write, so that no other line gets in between. A
/// person at a terminal is told the same in words.
pub(crate) fn say(kind: &str, body: &Value) {
    if !stdout().is_terminal() {
        println!("@presil {}", json!({ kind: body }));
    }
}
