//! What the kernel says of an open node's memory in /proc.

use super::{Check, Context, INVISIBLE, SNOOPED, UNSNOOPED, VISIBLE};
use crate::device::PAGE;
use crate::error::{Result, ensure};
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

/// A size in fdinfo, 0 where it is not there.
fn bytes(text: &str, key: &str) -> u64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let mut words = line.unwrap_or_default().split_whitespace();
    let number: u64 = words.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    number
        << match words.next() {
            Some("KiB") => 10,
            Some("MiB") => 20,
            _ => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_have_units() {
        let text = "pos:\t0\ndrm-total-a:\t0\ndrm-total-b:\t16 KiB\ndrm-total-c: 3 MiB\n";
        let sizes = ["drm-total-a", "drm-total-b", "drm-total-c", "drm-total"];
        assert_eq!(sizes.map(|key| bytes(text, key)), [0, 16384, 3 << 20, 0]);
    }
}
