//! `presil explain`: the rules of the driver checker.

use std::fmt::Write;

use clap::Args;
use presil_device::checker::{self, Text};

/// After the options in `presil explain --help`.
pub const GUIDE: &str = "\
The first digit of a rule is its group: 1 translation, 2 lifetime, 3 data,
4 protection, 5 fences, 6 rings, 7 interrupts, reset and configuration.
What is printed of one rule is its page in docs/rules/.

  presil explain                 every rule on a line
  presil explain 10001           what it reports, why, and how to mend it
  presil serve --vfio-user /tmp/gpu.sock --check warn,10001=fault";

/// What `presil explain` takes.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A rule's number, as a report begins with it; without one all are listed.
    rule: Option<u32>,
}

/// What it prints.
///
/// # Errors
/// There is no such rule.
pub fn answer(args: &ExplainArgs) -> Result<String, String> {
    let Some(rule) = args.rule else {
        return Ok(list());
    };
    let text = checker::text(rule);
    text.map(Text::page)
        .ok_or_else(|| format!("there is no rule {rule}: `presil explain` lists them"))
}

fn list() -> String {
    let mut list = String::from("RULE   LEVEL  REPORTS\n");
    for text in checker::texts() {
        // Writing to a string cannot fail.
        let _ = writeln!(
            list,
            "{}  {:<5}  {}",
            text.id,
            text.level.to_string(),
            text.title
        );
    }
    list
}
