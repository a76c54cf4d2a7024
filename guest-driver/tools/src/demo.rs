//! `presilctl demo`: the main job, told and checked.

use crate::checks::{self, Context, Outcome};
use crate::debugfs;
use crate::device::Device;
use crate::error::Result;
use crate::messages::say;
use crate::model::Model;
use serde_json::{Value, json};

/// Tells the whole story. True if every check passed.
pub(crate) fn run(device: Device, model: Option<Model>, small: bool) -> Result<bool> {
    let context = Context {
        small,
        ..Context::new(device, model)?
    };
    for mut step in debugfs::init_steps(&context.device)? {
        if let Some(model) = &context.model {
            add_what_the_model_holds(&mut step, model)?;
        }
        println!(
            "vidmm_init, step {}: {}",
            step["step"],
            step["title"].as_str().unwrap_or("?")
        );
        say("step", &step);
    }
    let passed = checks::run(&checks::of_demo(), &context, |check, outcome| {
        let (ok, detail) = match outcome {
            Outcome::Passed(detail) => (true, detail.clone()),
            Outcome::Failed(detail) => (false, detail.clone()),
            Outcome::Skipped(reason) => (true, format!("skipped: {reason}")),
        };
        println!(
            "{} {}: {detail}",
            if ok { "ok  " } else { "FAIL" },
            check.name
        );
        say(
            "check",
            &json!({ "name": check.name, "ok": ok, "detail": detail }),
        );
    });
    Ok(passed)
}

/// Puts the model's L1 registers beside those that the driver wrote.
fn add_what_the_model_holds(step: &mut Value, model: &Model) -> Result<()> {
    let rows = step.get_mut("l1").and_then(Value::as_array_mut);
    for row in rows.into_iter().flatten() {
        let register = debugfs::word(row, "register_addr")?;
        row["model_value"] = model.register(register)?.into();
    }
    Ok(())
}
