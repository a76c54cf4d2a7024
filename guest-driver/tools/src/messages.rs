//! Lines for the program that started the guest.

use serde_json::{Value, json};

/// Prints one message in one write, so that no other line gets in between.
pub(crate) fn say(kind: &str, body: &Value) {
    println!("@presil {}", json!({ kind: body }));
}
