//! `presilctl demo`: the main job, told and checked.

use crate::checks::{self, Context, NOT_RUN, Outcome};
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
        let (mark, detail, mut told) = match outcome {
            Outcome::Passed(detail) => ("ok  ", detail.as_str(), json!({ "ok": true })),
            Outcome::Failed(detail) => ("FAIL", detail.as_str(), json!({ "ok": false })),
            Outcome::Skipped(reason) => ("skip", reason.as_str(), json!({ "skipped": reason })),
            Outcome::NotRun => ("----", NOT_RUN, json!({ "not_run": NOT_RUN })),
        };
        println!("{mark} {}: {detail}", check.name);
        told["name"] = check.name.into();
        told["detail"] = detail.into();
        say("check", &told);
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
