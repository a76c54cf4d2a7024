//! Lines for the program that started the guest.

use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::fs;
use std::io::{IsTerminal as _, stdout};
use std::path::Path;

/// Prints one message in one write, so that no other line gets in between. A
/// person at a terminal is told the same in words.
pub(crate) fn say(kind: &str, body: &Value) {
    if !stdout().is_terminal() {
        println!("@presil {}", json!({ kind: body }));
    }
}

/// Tells who judges the kernel's log, in that log, that lines with this text in
/// them are wanted from here on.
pub(crate) fn provoke(text: &str) -> Result<()> {
    let log = Path::new("/dev/kmsg");
    let line = format!("<6>presilctl: provokes \"{text}\"\n");
    fs::write(log, line).map_err(Error::file(log))
}
