//! What the kernel says of an open node's memory in /proc.

use super::{Check, Context, INVISIBLE, SNOOPED, UNSNOOPED, VISIBLE};
use crate::device::PAGE;
use crate::error::{Result, ensure};
use crate::fdinfo::bytes;
use crate::names;

pub(super) const CHECKS: &[Check] = &[Check {
    name: "fdinfo counts buffers by segment",
    run: counts,
}];

fn counts(context: &Context) -> Result<String> {
    let kinds = [VISIBLE, INVISIBLE, SNOOPED, UNSNOOPED];
    for kind in kinds.iter().filter(|kind| kind.exists(context)) {
        let name = names::segment(kind.segment);
        let ask = || -> Result<[u64; 2]> {
            let text = context.device.fdinfo()?;
            Ok(["total", "resident"].map(|what| bytes(&text, &format!("drm-{what}-{name}"))))
        };
        let before = ask()?;
        let buffer = kind.create(context, 4 * PAGE)?;
        let booked = ask()?;
        buffer.fill(0, PAGE, 1)?;
        let filled = ask()?;
        drop(buffer);
        let after = ask()?;
        let vram = kind.segment <= INVISIBLE.segment;
        ensure!(
            before == [0, 0] && after == before,
            "{name}: {before:?} without a buffer, {after:?} afterwards"
        );
        ensure!(
            booked == [4 * PAGE, if vram { 4 * PAGE } else { 0 }] && filled == [4 * PAGE; 2],
            "{name}: total and resident {booked:?}, once it is filled {filled:?}"
        );
    }
    Ok(format!("{} segments", kinds.len()))
}
