//! How the GPU's work was noticed to be done.

use super::{Check, Context};
use crate::error::{Result, ensure};

pub(super) const CHECKS: &[Check] = &[Check {
    name: "every fence by interrupt",
    run: fences,
}];

fn fences(context: &Context) -> Result<String> {
    let info = context.device.info()?;
    let (submitted, completed) = (info.fence_submitted, info.fence_completed);
    ensure!(
        submitted == completed,
        "{completed} of {submitted} fences are done"
    );
    ensure!(
        info.fallbacks == 0,
        "{} fences were found done by polling",
        info.fallbacks
    );
    ensure!(
        info.interrupts > 0 && submitted > 0,
        "{} interrupts, {submitted} fences",
        info.interrupts
    );
    ensure!(
        info.page_faults == 0,
        "the GPU had {} page faults",
        info.page_faults
    );
    Ok(format!(
        "{completed} fences, {} interrupts, 0 found by polling",
        info.interrupts
    ))
}
