//! A fill and a copy by the GPU as a PCI function that no driver has bound:
//! registers and VRAM through `resource0` and `resource1` of sysfs, page tables
//! and rings of its own, PA mode. Written from docs/programming.md,
//! docs/registers.md and docs/pci-function.md alone; it shares no declaration
//! with the model or the driver.
//!
//! Needs root. Prints one message for each check, as the guest's other programs
//! do; the exit status is 0 if all hold.

mod checks;
mod function;
mod gpu;
mod packets;
mod pages;
mod shadow;
mod window;

use serde_json::json;
use std::process::ExitCode;

/// Errors are text for the message.
type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let mut all = true;
    let mut say = |name: &str, outcome: Result<String>| {
        let ok = outcome.is_ok();
        all &= ok;
        let detail = outcome.unwrap_or_else(|error| error);
        let check = json!({ "check": { "name": name, "ok": ok, "detail": detail } });
        println!("@presil {check}");
    };
    if let Err(error) = checks::run(&mut say) {
        say("without a driver", Err(error));
    }
    if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
