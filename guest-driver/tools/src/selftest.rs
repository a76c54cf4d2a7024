//! `presilctl selftest`: all checks, in TAP 14.

use crate::checks::{self, Context, NOT_RUN, Outcome};
use crate::device::Device;
use crate::error::Result;
use crate::model::Model;

/// Runs everything. True if nothing failed.
pub(crate) fn run(device: Device, model: Option<Model>) -> Result<bool> {
    let context = Context::new(device, model)?;
    let checks = checks::all();
    println!("TAP version 14");
    println!("1..{}", checks.len());
    let mut number = 0;
    let passed = checks::run(&checks, &context, |check, outcome| {
        number += 1;
        match outcome {
            Outcome::Passed(detail) => println!("ok {number} - {}\n# {detail}", check.name),
            Outcome::Skipped(reason) => println!("ok {number} - {} # SKIP {reason}", check.name),
            Outcome::NotRun => println!("not ok {number} - {}\n# not run: {NOT_RUN}", check.name),
            Outcome::Failed(detail) => println!("not ok {number} - {}\n# {detail}", check.name),
        }
    });
    Ok(passed)
}
