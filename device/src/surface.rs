//! Surfaces as the registers describe them, and the formats that copies and
//! fills take: the one that the hardware reference names, and those whose codes
//! the user knows. Of a format only the bytes of a pixel matter here.

use crate::config::ConfigError;
use crate::csp::CspErrorKind;
use crate::planted::planted;
use e3k_regs::GpuVa;
use e3k_regs::addr::ADDRESS_BITS;
use e3k_regs::packet::{RtFormat, RtMisc, RtSize, ff};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Format codes that the registers can say.
const CODES: u32 = 1 << 9;
const B8G8R8A8: u32 = RtFormat::B8G8R8A8 as u32;

/// How many bytes a pixel has: as many as divide a page, and the clear colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Pixel {
    B1,
    B2,
    B4,
    B8,
    B16,
}

impl Pixel {
    fn from_bytes(bytes: u32) -> Option<Self> {
        let all = [Self::B1, Self::B2, Self::B4, Self::B8, Self::B16];
        all.into_iter()
            .find(|pixel| pixel.bytes() == u64::from(bytes))
    }

    /// In bytes.
    pub(crate) fn bytes(self) -> u64 {
        1 << self.shift()
    }

    /// The logarithm of [`Self::bytes`].
    pub(crate) fn shift(self) -> u32 {
        self as u32
    }
}

/// Which format codes are known, and how many bytes a pixel of each has. 89,
/// B8G8R8A8, always is and has 4.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurfaceFormats(BTreeMap<u32, Pixel>);

impl SurfaceFormats {
    /// Makes a code known.
    ///
    /// # Errors
    /// `code` is beyond 511 or already known, or `bytes` is not 1, 2, 4, 8 or 16.
    pub fn add(&mut self, code: u32, bytes: u32) -> Result<(), ConfigError> {
        match Pixel::from_bytes(bytes) {
            Some(pixel) if code < CODES && self.pixel(code).is_none() => {
                self.0.insert(code, pixel);
                Ok(())
            }
            _ => Err(ConfigError::SurfaceFormat { code, bytes }),
        }
    }

    /// The pixel of a format; `None` of one that is not known.
    pub(crate) fn pixel(&self, code: u32) -> Option<Pixel> {
        if code == B8G8R8A8 || planted!(PixelSizeIgnored) {
            return Some(Pixel::B4);
        }
        self.0.get(&code).copied()
    }

    /// Whether restored ones can be.
    pub(crate) fn is_sound(&self) -> bool {
        let mut codes = self.0.keys();
        codes.all(|code| *code < CODES && *code != B8G8R8A8)
    }
}

/// A render target as its registers describe it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Surface {
    base: GpuVa,
    /// In pixels; a row follows the one before.
    pub(crate) width: u32,
    height: u32,
    /// Which bytes of a pixel are written.
    pub(crate) mask: u8,
}

impl Surface {
    pub(crate) fn place(&self, pixel: Pixel, x: u32, y: u32) -> GpuVa {
        let index = u64::from(y) * u64::from(self.width) + u64::from(x);
        self.base.add(index << pixel.shift())
    }

    /// Whether its registers can say it.
    pub(crate) fn is_sound(&self) -> bool {
        self.base.0.is_multiple_of(1 << 8)
            && self.base.0 >> ADDRESS_BITS == 0
            && self.width.max(self.height) <= u16::MAX.into()
    }

    pub(crate) fn contains(&self, x: u32, y: u32) -> bool {
        x < self.width && y < self.height
    }

    /// Render target `rt`, and its pixel, from the registers of the block.
    pub(crate) fn read(
        word: impl Fn(u16) -> u32,
        rt: u16,
        formats: &SurfaceFormats,
    ) -> Result<(Self, Pixel), CspErrorKind> {
        let [address, control] = [ff::rt_address(rt), ff::rt_control(rt)];
        let format = RtFormat::from_bits(word(control));
        let size = RtSize::from_bits(word(control + 1));
        let misc = RtMisc::from_bits(word(ff::rt_misc(rt)));
        let code = format.format().into();
        let what = if !misc.enable() {
            return Err(CspErrorKind::malformed(
                "a copy or fill with a render target that is not enabled",
            ));
        } else if misc.tiled() {
            "a tiled surface"
        } else if format.bl_slot() != 0 {
            "a compressed surface"
        } else if !ff::is_one_layer(word(address + 1), word(address + 2)) {
            "a surface of another depth or array than one layer"
        } else if misc.resource_type() != RtMisc::TYPE_2D {
            "a surface whose resource type is not 2D"
        } else if misc.into_bits() & RtMisc::EFFECTS != 0 {
            "a surface with dither, blending, swizzle, mipmaps or a raster operation"
        } else if let Some(pixel) = formats.pixel(code) {
            let surface = Self {
                base: GpuVa(u64::from(word(address)) << 8),
                width: size.width().into(),
                height: size.height().into(),
                mask: misc.write_mask(),
            };
            return Ok((surface, pixel));
        } else {
            return Err(CspErrorKind::unsupported(format!(
                "surface format {code}, unless --surface-format {code}=BYTES says its bytes a pixel,"
            )));
        };
        Err(CspErrorKind::unsupported(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_made_known_once_with_a_size_that_can_be() {
        let mut formats = SurfaceFormats::default();
        assert_eq!(formats.pixel(89), Some(Pixel::B4));
        for (code, bytes) in [(0, 1), (1, 2), (2, 4), (88, 8), (511, 16)] {
            assert_eq!(formats.pixel(code), None);
            formats.add(code, bytes).unwrap();
            let pixel = formats.pixel(code).unwrap();
            assert_eq!(pixel.bytes(), u64::from(bytes));
        }
        for (code, bytes) in [(0, 1), (89, 4), (512, 4), (3, 0), (3, 3), (3, 32)] {
            let error = formats.add(code, bytes).unwrap_err().to_string();
            assert!(error.contains("0 to 511"), "{error}");
        }
        assert_eq!(formats.pixel(3), None);
    }
}
