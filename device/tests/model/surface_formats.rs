//! Surface formats whose codes the user has told: copies and fills of pixels
//! of 1, 2, 4, 8 and 16 bytes (docs/model-choices.md).

use crate::blit::sg;
use crate::rig::{Rig, SURFACES_AT, VRAM_BYTES, noise};
use crate::state::{saved, seal};
use crate::tables::vram;
use e3k_regs::packet::Writer;
use presil_device::{Chip, Config, CspErrorKind, GpuVa};

/// Codes and bytes of a pixel.
const FORMATS: [(u32, u32); 5] = [(7, 1), (90, 2), (91, 4), (200, 8), (511, 16)];
const SOURCE: u64 = SURFACES_AT;
const DESTINATION: u64 = SURFACES_AT + 0x10_0000;
/// Of both surfaces; a row is no whole number of pages in any format.
const SIZE: [u16; 2] = [700, 9];

fn rig() -> Rig {
    let mut config = Config::new(Chip::Arise10c0, VRAM_BYTES, VRAM_BYTES, true).unwrap();
    for (code, bytes) in FORMATS {
        config.surface_formats.add(code, bytes).unwrap();
    }
    Rig::with_config(&config)
}

fn surfaces(w: &mut Writer<'_>, to: u32, from: u32) {
    let [width, height] = SIZE;
    for (rt, format, at) in [(0, to, DESTINATION), (1, from, SOURCE)] {
        w.surface(rt, GpuVa(at), width, height);
        w.set_register(6, 0x30 + 3 * rt, &[format]);
    }
}

/// What a blit of two such surfaces with this write mask leads to, if not to pixels.
fn halted(to: u32, from: u32, mask: u32) -> Option<CspErrorKind> {
    let mut rig = rig();
    rig.put(vram(SOURCE), &[0x55; 64]);
    rig.submit(|w| {
        surfaces(w, to, from);
        w.set_register(6, 0x32, &[1 | mask << 2 | 2 << 20]);
        sg(w, 2, (0, 15), (0, 0), (0, 0));
    });
    let error = rig.errors().pop();
    let written = rig.get(vram(DESTINATION), 64) != [0; 64];
    assert_eq!(written, error.is_none() && mask != 0);
    error
}

#[test]
fn rectangles_of_pixels_of_every_size_are_copied_and_filled() {
    for (code, bytes) in FORMATS {
        let bytes = bytes as usize;
        let [width, height] = SIZE.map(usize::from);
        let mut rig = rig();
        let data = noise(1, width * height * bytes);
        let mut expected = noise(2, data.len());
        rig.put(vram(SOURCE), &data);
        rig.put(vram(DESTINATION), &expected);
        rig.submit(|w| {
            surfaces(w, code, code);
            sg(w, 2, (3, 690), (1, 6), (5, 2));
        });
        let row = |x: usize, y: usize, pixels: usize| {
            let start = (y * width + x) * bytes;
            start..start + pixels * bytes
        };
        for y in 1..=6 {
            expected[row(3, y, 688)].copy_from_slice(&data[row(8, y + 2, 688)]);
        }
        assert!(rig.get(vram(DESTINATION), data.len()) == expected, "{code}");

        let colour: [u32; 4] = [0x0302_0100, 0x0706_0504, 0x0b0a_0908, 0x0f0e_0d0c];
        rig.submit(|w| {
            w.set_register(6, 0x35, &[0]);
            w.set_register(6, 0xC8, &colour);
            sg(w, 1, (1, 698), (2, 7), (0, 0));
        });
        for at in (2..=7).flat_map(|y| row(1, y, 698)) {
            expected[at] = u8::try_from(at % 16).unwrap();
        }
        assert!(rig.get(vram(DESTINATION), data.len()) == expected, "{code}");
        rig.assert_clean();
        let counters = rig.gpu.counters();
        let moved = [6 * 688, 6 * 698].map(|pixels| (pixels * bytes) as u64);
        assert_eq!([counters.bytes_copied, counters.bytes_filled], moved);
    }
}

#[test]
fn a_blit_between_pixels_of_different_sizes_halts() {
    let error = halted(200, 90, 0xf).unwrap().to_string();
    assert!(error.contains("2 bytes to pixels of 8"), "{error}");
    assert!(halted(89, 7, 0xf).is_some() && halted(7, 89, 0xf).is_some());
    assert_eq!(halted(89, 91, 0xf), None, "two formats of one size");
}

#[test]
fn a_write_mask_selects_bytes_only_of_pixels_that_have_four() {
    for (code, bytes) in FORMATS {
        for mask in 0..16 {
            let error = halted(code, code, mask).map(|error| error.to_string());
            if bytes == 4 || mask == 0 || mask == 0xf {
                assert_eq!(error, None, "{code} {mask}");
            } else {
                let expected = format!("write mask {mask:#x} for pixels of {bytes} bytes");
                assert!(error.unwrap().contains(&expected));
            }
        }
    }
}

#[test]
fn an_unknown_format_is_named_with_the_option_that_tells_its_size() {
    let error = halted(300, 89, 0xf).unwrap().to_string();
    let expected = "surface format 300, unless --surface-format 300=BYTES";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn formats_are_saved_and_impossible_ones_not_restored() {
    let rig = rig();
    let state = saved(&rig.gpu);
    let restored = rig.restored(&state).unwrap();
    let formats = |rig: &Rig| rig.gpu.config().surface_formats.clone();
    assert_eq!(formats(&restored), formats(&rig));
    for (told, forged) in [
        ("\"code\":91,", "\"code\":89,"),
        ("\"code\":511", "\"code\":512"),
    ] {
        let mut state = state.clone();
        let found = state
            .windows(told.len())
            .position(|at| at == told.as_bytes());
        let at = found.unwrap();
        state[at..at + told.len()].copy_from_slice(forged.as_bytes());
        seal(&mut state);
        let error = rig.restored(&state).err().unwrap().to_string();
        assert!(error.contains("0 to 511"), "{error}");
    }
}
