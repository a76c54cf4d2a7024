//! `presil regs`: the register table, one register, or what a value means.

use std::fmt::Write;

use clap::Args;
use e3k_regs::layout::{Field, Layout};
use e3k_regs::register::{BAR0_BYTES, REGISTERS};
use e3k_regs::{Reg, RegInfo};
use serde_json::{Value, json};

use presil_values::number;

/// After the options in `presil regs --help`.
pub const GUIDE: &str = "\
Examples:
  presil regs                     every declared register of BAR0
  presil regs MMU_MODE            one register and its bits
  presil regs 'ring[0].tail'      one of a bank; also TTBR[17], or by offset: 0x30028
  presil regs 0x49004=0x300       what a value means, field by field

ACCESS: RO read-only, RW reads back, W1C a written one clears, trigger a write
acts. SRC is how sure the hardware reference is: D defined and used by a
driver, H in a header only, I inferred, U unknown (see docs/model-choices.md);
then its section of docs/hardware.md.";

/// What `presil regs` takes.
#[derive(Debug, Args)]
pub struct RegsArgs {
    /// A register by name or BAR0 offset, and a value to decode.
    #[arg(value_name = "NAME|OFFSET[=VALUE]", value_parser = What::parse)]
    what: Option<What>,

    /// Print JSON: one object, or an array of all.
    #[arg(long)]
    json: bool,

    /// Print all as docs/registers.md.
    #[arg(long, conflicts_with_all = ["json", "what"])]
    markdown: bool,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
struct What {
    reg: Reg,
    /// Which of a bank; `None` is the bank as a whole.
    index: Option<u32>,
    value: Option<u32>,
}

/// What it prints.
pub fn answer(args: &RegsArgs) -> String {
    match args.what {
        Some(what) if args.json => format!("{:#}\n", what.json()),
        Some(what) => what.text(),
        None if args.json => {
            let all: Vec<Value> = REGISTERS.iter().map(|info| info_json(info, None)).collect();
            format!("{:#}\n", Value::from(all))
        }
        None if args.markdown => crate::command_line::regs_markdown::page(),
        None => table(),
    }
}

impl What {
    fn parse(text: &str) -> Result<Self, String> {
        let (place, value) = match text.split_once('=') {
            Some((place, value)) => (place, Some(value)),
            None => (text, None),
        };
        let (reg, index) = match number::parse(place) {
            Some(offset) => by_offset(offset)?,
            None => by_name(place)?,
        };
        let value = value.map(|value| value_of(reg, value)).transpose()?;
        let what = Self { reg, index, value };
        let info = reg.info();
        if value.is_some() && index.is_none() && info.layouts.len() > 1 {
            return Err(format!(
                "{} is a bank of different registers; say which, from {} to {}",
                info.name,
                info.label(0),
                info.label(info.count - 1)
            ));
        }
        Ok(what)
    }

    /// The kinds of register that are meant.
    fn layouts(self) -> &'static [Layout] {
        match self.index {
            Some(index) => std::slice::from_ref(self.reg.info().layout(index)),
            None => self.reg.info().layouts,
        }
    }

    fn name(self) -> String {
        let info = self.reg.info();
        match self.index {
            Some(index) => info.label(index).to_string(),
            None => info.name.to_owned(),
        }
    }

    fn text(self) -> String {
        let info = self.reg.info();
        let mut text = String::new();
        let offset = match self.index {
            Some(index) => format!("{:#07x}", self.reg.at(index)),
            None => places(info),
        };
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(
            text,
            "{}  {offset}  {}  {}  reset {:#x}  {} {}\n{}",
            self.name(),
            info.access.name(),
            match info.width {
                1 => "1 byte".to_owned(),
                _ => format!("{} bytes", widths(info)),
            },
            info.reset,
            info.mark.letter(),
            info.section,
            info.about()
        );
        for layout in self.layouts() {
            if self.layouts().len() > 1 {
                let _ = writeln!(text, "\n{}", layout.name);
            }
            text.push_str(&bits(info, layout, self.value));
        }
        text
    }

    fn json(self) -> Value {
        let mut object = info_json(self.reg.info(), self.value);
        if let Some(index) = self.index {
            let layout = self.reg.info().layout(index);
            object["name"] = self.name().into();
            object["offset"] = self.reg.at(index).into();
            object["count"] = 1.into();
            object["kinds"] = json!([layout_json(layout, self.value)]);
        }
        object
    }
}

fn by_offset(offset: u64) -> Result<(Reg, Option<u32>), String> {
    let at = u32::try_from(offset).ok().filter(|at| *at < BAR0_BYTES);
    let at =
        at.ok_or_else(|| format!("offset {offset:#x} is outside BAR0 ({BAR0_BYTES:#x} bytes)"))?;
    let found = Reg::find(at).map(|(reg, index)| (reg, Some(index)));
    found.ok_or_else(|| format!("nothing is declared at {at:#x}; the model stores what is written"))
}

fn by_name(name: &str) -> Result<(Reg, Option<u32>), String> {
    let bank = name.split(['[', '.']).next().unwrap_or(name);
    let info = REGISTERS
        .iter()
        .find(|info| info.name.eq_ignore_ascii_case(bank))
        .ok_or_else(|| unknown(bank))?;
    if name.len() == bank.len() {
        return Ok((info.reg, (info.count == 1).then_some(0)));
    }
    let index = (0..info.count)
        .find(|index| info.label(*index).to_string().eq_ignore_ascii_case(name))
        .ok_or_else(|| {
            format!(
                "{} has no {name}; it has {} to {}",
                info.name,
                info.label(0),
                info.label(info.count - 1)
            )
        })?;
    Ok((info.reg, Some(index)))
}

/// The register of this name, one of a bank with its number: `TTBR[17]`.
///
/// # Errors
/// What is wrong with the name, and which it may have meant.
pub(crate) fn one_by_name(name: &str) -> Result<(Reg, u32), String> {
    let (reg, index) = by_name(name)?;
    let info = reg.info();
    let index = index.ok_or_else(|| {
        format!(
            "{} is a bank; say which, from {} to {}",
            info.name,
            info.label(0),
            info.label(info.count - 1)
        )
    })?;
    Ok((reg, index))
}

fn unknown(name: &str) -> String {
    let wanted = name.to_ascii_uppercase();
    let mut near: Vec<_> = REGISTERS
        .iter()
        .map(|info| {
            (
                strsim::jaro_winkler(&wanted, &info.name.to_ascii_uppercase()),
                info.name,
            )
        })
        .filter(|(likeness, _)| *likeness > 0.85)
        .collect();
    near.sort_by(|one, other| other.0.total_cmp(&one.0));
    let near: Vec<_> = near.iter().take(3).map(|(_, name)| *name).collect();
    if near.is_empty() {
        return format!("no register is called {name}; `presil regs` lists all");
    }
    format!(
        "no register is called {name}; did you mean {}?",
        near.join(", ")
    )
}

/// The fields of a value, reserved bits only where one is set, from bit 0 up.
pub(crate) fn decoded(reg: Reg, index: u32, value: u32) -> Vec<Value> {
    let fields = reg.info().layout(index).fields.iter();
    let told = fields.filter(|field| !field.is_reserved() || field.extract(value) != 0);
    told.map(|field| {
        json!({
            "bits": span(field),
            "name": shown(field),
            "value": field.extract(value),
            "meaning": field.meaning(),
        })
    })
    .collect()
}

fn value_of(reg: Reg, text: &str) -> Result<u32, String> {
    let info = reg.info();
    let most = if info.width == 1 { 0xff } else { u32::MAX };
    number::parse(text)
        .and_then(|value| u32::try_from(value).ok())
        .filter(|value| *value <= most)
        .ok_or_else(|| {
            format!(
                "{text} is no value for {}: a number up to {most:#x} is",
                info.name
            )
        })
}

fn table() -> String {
    let width = REGISTERS.iter().map(|info| info.name.len()).max();
    let width = width.unwrap_or(0);
    let mut text = format!(
        "{:<17}  {:<width$}  ACCESS   BYTES  RESET       SRC     WHAT\n",
        "OFFSET", "NAME"
    );
    for info in REGISTERS {
        let source = format!("{} {}", info.mark.letter(), info.section);
        let _ = writeln!(
            text,
            "{:<17}  {:<width$}  {:<7}  {:<5}  {:#010x}  {source:<6}  {}",
            places(info),
            info.name,
            info.access.name(),
            widths(info),
            info.reset,
            info.about()
        );
    }
    text
}

/// Its width in bytes, and the other one that it may be accessed in.
pub(crate) fn widths(info: &RegInfo) -> String {
    match info.narrow {
        0 => info.width.to_string(),
        narrow => format!("{}, {narrow}", info.width),
    }
}

/// The offset, or the first and the last one of a bank.
pub(crate) fn places(info: &RegInfo) -> String {
    match info.count {
        1 => format!("{:#07x}", info.offset),
        count => format!("{:#07x}..{:#07x}", info.offset, info.reg.at(count - 1)),
    }
}

/// The fields of a register, with their values if there is one.
fn bits(info: &RegInfo, layout: &Layout, value: Option<u32>) -> String {
    let mut text = String::new();
    if let Some(value) = value {
        let _ = writeln!(text, "value {value:#x}");
    }
    if layout.fields.is_empty() {
        let _ = writeln!(text, "  one number of {} bits", info.width * 8);
        return text;
    }
    let width = layout.fields.iter().map(|field| field.name.len()).max();
    let width = width.unwrap_or(0).max("reserved".len());
    for field in layout.fields {
        let held = match value {
            Some(value) => format!("  {:<10}", format!("{:#x}", field.extract(value))),
            None => String::new(),
        };
        let (bits, name, meaning) = (span(field), shown(field), field.meaning());
        let line = format!("  {bits:<5}  {name:<width$}{held}  {meaning}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let reserved = value.unwrap_or(0) & layout.reserved;
    if reserved != 0 {
        let _ = writeln!(text, "reserved bits are set: {reserved:#x}");
    }
    text
}

/// Its bits: `31:8`, or `4`.
pub(crate) fn span(field: &Field) -> String {
    match field.bits {
        1 => field.low.to_string(),
        _ => format!("{}:{}", field.high(), field.low),
    }
}

/// Its name for readers.
pub(crate) fn shown(field: &Field) -> &'static str {
    if field.is_reserved() {
        "reserved"
    } else {
        field.name
    }
}

fn info_json(info: &RegInfo, value: Option<u32>) -> Value {
    let kinds: Vec<Value> = info
        .layouts
        .iter()
        .map(|layout| layout_json(layout, value))
        .collect();
    json!({
        "name": info.name,
        "offset": info.offset,
        "bytes": info.width,
        "narrow": info.narrow,
        "count": info.count,
        "access": info.access.name(),
        "reset": info.reset,
        "mark": info.mark.letter(),
        "section": info.section,
        "about": info.about(),
        "kinds": kinds,
    })
}

fn layout_json(layout: &Layout, value: Option<u32>) -> Value {
    let fields: Vec<Value> = layout
        .fields
        .iter()
        .map(|field| field_json(field, value))
        .collect();
    let mut object = json!({ "name": layout.name, "reserved": layout.reserved, "fields": fields });
    if let Some(value) = value {
        object["value"] = value.into();
        object["reserved_set"] = (value & layout.reserved).into();
    }
    object
}

fn field_json(field: &Field, value: Option<u32>) -> Value {
    let mut object = json!({
        "name": shown(field),
        "low": field.low,
        "high": field.high(),
        "meaning": field.meaning(),
    });
    if let Some(value) = value {
        object["value"] = field.extract(value).into();
    }
    object
}
