//! docs/registers.md, from the declarations.

use std::fmt::Write;

use e3k_regs::RegInfo;
use e3k_regs::layout::{Field, Layout};
use e3k_regs::register::REGISTERS;

use crate::command_line::regs::{places, shown, span, widths};

const HEAD: &str = "\
# Registers of BAR0

<!-- Generated: presil regs --markdown > docs/registers.md. A test compares. -->

Every register that the model and the driver declare. Any other offset of BAR0
is plain storage that reads 0 until it is written. `presil regs NAME` shows one
register, `presil regs OFFSET=VALUE` decodes a value.

*Access*: RO is read-only, RW reads back what was written, of W1C a written one
clears the bit, a trigger acts when it is written. *Source* is the section of
the [hardware reference](hardware.md) and its trust: D defined and used by a
driver, H only in a header, I inferred, U unknown;
[model-choices.md](model-choices.md) has what the model decided about the last
three. A bank's registers follow each other without gaps. *Bytes* has a second
number where software may also use that width.

A write to a read-only register, a one written to a reserved bit, and an access
in another width than the register's (64 bits are two times 32) are counted
(`presil query SOCKET counters`), and the first of each kind is logged for each
register.

| Offset | Name | Access | Bytes | Reset | Source | What |
|---|---|---|---|---|---|---|
";

const BITS: &str = "
## Bits

Registers that are not here are one number.
";

/// The whole page.
pub(crate) fn page() -> String {
    let mut page = HEAD.to_owned();
    for info in REGISTERS {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(
            page,
            "| {} | `{}`{} | {} | {} | {:#x} | {} {} | {} |",
            places(info),
            info.name,
            bank(info),
            info.access.name(),
            widths(info),
            info.reset,
            info.section,
            info.mark.letter(),
            info.about()
        );
    }
    page.push_str(BITS);
    for (names, fields) in layouts() {
        let _ = writeln!(
            page,
            "\n### {}\n\n| Bits | Field | Meaning |\n|---|---|---|",
            names.join(", ")
        );
        for field in fields {
            let _ = writeln!(
                page,
                "| {} | {} | {} |",
                span(field),
                shown(field),
                field.meaning()
            );
        }
    }
    page
}

fn bank(info: &RegInfo) -> String {
    match info.count {
        1 => String::new(),
        count => format!(" × {count}"),
    }
}

/// Each distinct set of fields, with all that have it, in the order of the table.
fn layouts() -> Vec<(Vec<String>, &'static [Field])> {
    let mut found: Vec<(Vec<String>, &[Field])> = Vec::new();
    let all = REGISTERS
        .iter()
        .flat_map(|info| info.layouts.iter().map(move |layout| (info, layout)));
    for (info, layout) in all.filter(|(_, layout)| !layout.fields.is_empty()) {
        let name = title(info, layout);
        match found
            .iter_mut()
            .find(|(_, fields)| *fields == layout.fields)
        {
            Some((names, _)) => names.push(name),
            None => found.push((vec![name], layout.fields)),
        }
    }
    found
}

fn title(info: &RegInfo, layout: &Layout) -> String {
    match layout.name {
        "" => format!("`{}`", info.name),
        kind => format!("`{}`.{kind}", info.name),
    }
}
