//! Fills and copies, byte by byte: nothing missing, nothing beside the target.

use super::{Check, Context, INVISIBLE, Kind, SNOOPED, UNSNOOPED, VISIBLE};
use crate::device::{Buffer, PAGE};
use crate::error::{Result, ensure};
use crate::noise::noise;
use crate::pages::Scattered;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "fresh VRAM reads zero",
        run: fresh,
    },
    Check {
        name: "fill visible VRAM",
        run: |c| fill(c, VISIBLE),
    },
    Check {
        name: "fill snooped RAM",
        run: |c| fill(c, SNOOPED),
    },
    Check {
        name: "fill unsnooped RAM",
        run: |c| fill(c, UNSNOOPED),
    },
    Check {
        name: "fill RAM beside RAM in use",
        run: neighbours,
    },
    Check {
        name: "copy VRAM to VRAM",
        run: |c| copy(c, VISIBLE, VISIBLE),
    },
    Check {
        name: "copy VRAM to snooped RAM",
        run: |c| copy(c, VISIBLE, SNOOPED),
    },
    Check {
        name: "copy snooped RAM to VRAM",
        run: |c| copy(c, SNOOPED, VISIBLE),
    },
    Check {
        name: "copy VRAM to unsnooped RAM",
        run: |c| copy(c, VISIBLE, UNSNOOPED),
    },
    Check {
        name: "copy unsnooped RAM to VRAM",
        run: |c| copy(c, UNSNOOPED, VISIBLE),
    },
    Check {
        name: "copy through invisible VRAM",
        run: through_invisible,
    },
];

/// Bytes: one word; less than a 64 KiB row; a row; rows and a part of one; many rows.
const SIZES: &[u64] = &[4, 1020, 65_532, 65_536, 65_540 + 65_536, (1 << 20) + 52];
/// How many of them are small.
const SMALL: usize = 4;
/// Where the target begins; what is before and behind it must not change. Not a whole page.
const GUARD: u64 = 1280;
/// Where the source begins.
const SOURCE: u64 = 768;
const PATTERN: u32 = 0xC0DE_1234;

fn sizes(context: &Context) -> &'static [u64] {
    if context.small {
        &SIZES[..SMALL]
    } else {
        SIZES
    }
}

fn fill(context: &Context, kind: Kind) -> Result<String> {
    let _scattered = Scattered::new(&context.device)?;
    for &bytes in sizes(context) {
        let buffer = kind.create(context, GUARD + bytes + GUARD)?;
        let mapping = buffer.map()?;
        let mut expected = noise(bytes, length(GUARD + bytes + GUARD));
        mapping.write(&expected)?;
        buffer.fill(GUARD, bytes, PATTERN)?;
        for word in target(&mut expected, bytes).chunks_mut(4) {
            word.copy_from_slice(&PATTERN.to_le_bytes());
        }
        same(&mapping.read()?, &expected, || {
            format!("{bytes} bytes of {}", kind.name)
        })?;
    }
    Ok(all_intact(context))
}

/// Pages that share a TLB line: what the GPU remembers of all of them since it used the
/// first must not be what it takes for the next, which was bound later.
fn neighbours(context: &Context) -> Result<String> {
    const BUFFERS: u32 = 4;
    for kind in [SNOOPED, UNSNOOPED] {
        let mut kept = Vec::new();
        for pattern in 1..=BUFFERS {
            let buffer = kind.create(context, PAGE)?;
            buffer.fill(0, PAGE, pattern)?;
            let expected = pattern.to_le_bytes().repeat(length(PAGE / 4));
            same(&buffer.map()?.read()?, &expected, || {
                format!(
                    "page {pattern} of {}, bound after its neighbours were used",
                    kind.name
                )
            })?;
            kept.push(buffer);
        }
    }
    Ok(format!(
        "{BUFFERS} pages of each, one bound after the other"
    ))
}

fn copy(context: &Context, from: Kind, to: Kind) -> Result<String> {
    let _scattered = Scattered::new(&context.device)?;
    for &bytes in sizes(context) {
        let source = from.create(context, SOURCE + bytes)?;
        let dst = to.create(context, GUARD + bytes + GUARD)?;
        let (source_map, dst_map) = (source.map()?, dst.map()?);
        let data = noise(!bytes, length(SOURCE + bytes));
        let mut expected = noise(bytes, length(GUARD + bytes + GUARD));
        source_map.write(&data)?;
        dst_map.write(&expected)?;
        dst.copy_from(GUARD, &source, SOURCE, bytes)?;
        target(&mut expected, bytes).copy_from_slice(&data[length(SOURCE)..]);
        let what = || format!("{bytes} bytes from {} to {}", from.name, to.name);
        same(&dst_map.read()?, &expected, what)?;
        same(&source_map.read()?, &data, || {
            format!("the source of {}", what())
        })?;
    }
    Ok(all_intact(context))
}

fn all_intact(context: &Context) -> String {
    let sizes = sizes(context);
    let largest = sizes.last().unwrap_or(&0);
    format!("{} sizes up to {largest} bytes, guards intact", sizes.len())
}

/// Out of the CPU's sight and back.
fn through_invisible(context: &Context) -> Result<String> {
    const BYTES: u64 = 200 * 1024 + 4;
    let hidden: Buffer = INVISIBLE.create(context, BYTES)?;
    let (source, back) = (
        UNSNOOPED.create(context, BYTES)?,
        SNOOPED.create(context, BYTES)?,
    );
    let data = noise(7, length(BYTES));
    source.map()?.write(&data)?;
    hidden.copy_from(0, &source, 0, BYTES)?;
    back.copy_from(0, &hidden, 0, BYTES)?;
    same(&back.map()?.read()?, &data, || {
        "the way through invisible VRAM".into()
    })?;
    Ok(format!("{BYTES} bytes there and back"))
}

/// Nobody sees what a buffer's memory held before.
fn fresh(context: &Context) -> Result<String> {
    const BYTES: u64 = 256 * 1024;
    let old = VISIBLE.create(context, BYTES)?;
    let place = old.describe()?.start_page;
    old.map()?.write(&noise(9, length(BYTES)))?;
    drop(old);
    let new = VISIBLE.create(context, BYTES)?;
    let again = new.describe()?.start_page;
    ensure!(
        place == again,
        "the freed place is page {place}, the new buffer at {again}"
    );
    same(&new.map()?.read()?, &vec![0; length(BYTES)], || {
        "a fresh buffer".into()
    })?;
    Ok(format!(
        "{BYTES} bytes at page {again}, which held other data before"
    ))
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The part of a buffer between the guards.
fn target(buffer: &mut [u8], bytes: u64) -> &mut [u8] {
    &mut buffer[length(GUARD)..length(GUARD + bytes)]
}

/// Compares and says where the first difference is.
fn same(got: &[u8], expected: &[u8], what: impl Fn() -> String) -> Result<()> {
    ensure!(
        got.len() == expected.len(),
        "{}: {} bytes, expected {}",
        what(),
        got.len(),
        expected.len()
    );
    let differs = got
        .iter()
        .zip(expected)
        .position(|(got, expected)| got != expected);
    if let Some(at) = differs {
        let count = got
            .iter()
            .zip(expected)
            .filter(|(got, expected)| got != expected)
            .count();
        ensure!(
            false,
            "{}: {count} bytes differ, the first at {at}: {:#04x}, expected {:#04x}",
            what(),
            got[at],
            expected[at]
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_beside_the_target_is_found() {
        let mut expected = noise(1, 64);
        let got = expected.clone();
        assert!(same(&got, &expected, || "it".into()).is_ok());
        expected[63] ^= 1;
        let error = same(&got, &expected, || "it".into())
            .unwrap_err()
            .to_string();
        assert!(error.contains("1 bytes differ, the first at 63"), "{error}");
        assert!(same(&got[..63], &expected[..63], || "it".into()).is_ok());
        assert!(same(&got[..62], &expected[..63], || "it".into()).is_err());
    }

    #[test]
    fn the_target_lies_between_its_guards() {
        let mut buffer = vec![0; length(GUARD + 8 + GUARD)];
        target(&mut buffer, 8).fill(1);
        let set: Vec<_> = (0..buffer.len()).filter(|at| buffer[*at] == 1).collect();
        assert_eq!(set, (length(GUARD)..length(GUARD) + 8).collect::<Vec<_>>());
    }
}
