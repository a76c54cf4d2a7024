//! How the GPU's work was noticed to be done.

use super::{Check, Context, errors};
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
        errors(&info) == context.errors_at_start,
        "the GPU had {} page faults and {} bus errors and gave up {} times, {} errors of it before",
        info.page_faults,
        info.bus_errors,
        info.hangs,
        context.errors_at_start
    );
    Ok(format!(
        "{completed} fences, {} interrupts, 0 found by polling",
        info.interrupts
    ))
}
