//! `presil chips`: the chips of the family and what sets them apart.

use std::fmt::Write;

use clap::Args;
use e3k_regs::Chip;
use serde_json::{Value, json};

/// After the options in `presil chips --help`.
pub const GUIDE: &str = "\
ORDER is the place in a driver's comparisons (\"at least a 1020\"); chips with
the same number count as one. TIMESTAMP is the BAR0 offset of the GPU's clock,
GATING whether the chip can gate clocks by itself (PWR_MGR_CFG_EN and the two
behind it), DECOUPLE whether software writes 1 to VCP0_DECOUPLE, PENDING what
it writes to PENDING_BUF_CTRL_0.

  presil serve --vhost-user /tmp/gpu.sock --chip 2030";

/// What `presil chips` takes.
#[derive(Debug, Args)]
pub struct ChipsArgs {
    /// Print JSON: an array with one object for each chip.
    #[arg(long)]
    json: bool,
}

/// What it prints.
pub fn answer(args: &ChipsArgs) -> String {
    if args.json {
        let chips: Vec<Value> = Chip::ALL.iter().map(|chip| object(*chip)).collect();
        return format!("{:#}\n", Value::from(chips));
    }
    let mut text =
        String::from("CHIP   VENDOR  DEVICE  ORDER  TIMESTAMP  GATING  DECOUPLE  PENDING\n");
    for chip in Chip::ALL {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<5}  {:#06x}  {:#06x}  {:<5}  {:#07x}    {:<6}  {:<8}  {:#x}",
            chip.name(),
            chip.vendor_id(),
            chip.device_id(),
            chip.order(),
            chip.timestamp().offset(),
            yes(chip.has_power_manager()),
            yes(chip.decouples_vcp0()),
            chip.pending_buffers(),
        );
    }
    text
}

fn object(chip: Chip) -> Value {
    json!({
        "chip": chip.name(),
        "vendor": chip.vendor_id(),
        "device": chip.device_id(),
        "order": chip.order(),
        "timestamp": chip.timestamp().offset(),
        "power_manager": chip.has_power_manager(),
        "vcp0_decouple": chip.decouples_vcp0(),
        "pending_buffers": chip.pending_buffers(),
    })
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}
