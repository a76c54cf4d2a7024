//! Surfaces of copies and fills, as the registers describe them.

use crate::config::{Pixel, SurfaceFormats};
use crate::defect::Defect;
use crate::refused::Refused;
use crate::saved::csp as saved;
use crate::saved::{Damage, ensure};
use crate::watch::Onlooker;
use e3k_regs::GpuVa;
use e3k_regs::addr::ADDRESS_BITS;
use e3k_regs::packet::{RtFormat, RtMisc, RtSize, ff};

/// A render target as its registers describe it.
#[derive(Clone, Copy, Debug)]
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

    pub(crate) fn save(self) -> saved::Surface {
        let Self {
            base,
            width,
            height,
            mask,
        } = self;
        saved::Surface {
            base,
            width,
            height,
            mask,
        }
    }

    /// # Errors
    /// Its registers cannot say it.
    pub(crate) fn restore(saved: saved::Surface) -> Result<Self, Damage> {
        let saved::Surface {
            base,
            width,
            height,
            mask,
        } = saved;
        let sayable = base.0.is_multiple_of(1 << 8)
            && base.0 >> ADDRESS_BITS == 0
            && width.max(height) <= u16::MAX.into();
        ensure(sayable, || {
            format!("a surface of {width} x {height} pixels at {base}, which no registers say")
        })?;
        Ok(Self {
            base,
            width,
            height,
            mask,
        })
    }

    pub(crate) fn contains(&self, x: u32, y: u32) -> bool {
        x < self.width && y < self.height
    }

    /// Render target `rt`, and its pixel, from the registers of the block.
    pub(crate) fn read(
        word: impl Fn(u16) -> u32,
        rt: u16,
        formats: &SurfaceFormats,
        watch: impl Onlooker,
    ) -> Result<(Self, Pixel), Refused> {
        let [address, control] = [ff::rt_address(rt), ff::rt_control(rt)];
        let format = RtFormat::from_bits(word(control));
        let size = RtSize::from_bits(word(control + 1));
        let misc = RtMisc::from_bits(word(ff::rt_misc(rt)));
        let code = format.format().into();
        let pixel = if watch.bends(Defect::PixelSizeIgnored) {
            Some(Pixel::B4)
        } else {
            formats.pixel(code)
        };
        let what = if !misc.enable() {
            return Err(Refused::malformed(
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
        } else if let Some(pixel) = pixel {
            let surface = Self {
                base: GpuVa(u64::from(word(address)) << 8),
                width: size.width().into(),
                height: size.height().into(),
                mask: misc.write_mask(),
            };
            return Ok((surface, pixel));
        } else {
            return Err(Refused::unsupported(format!(
                "surface format {code}, unless --surface-format {code}=BYTES says its bytes a pixel,"
            )));
        };
        Err(Refused::unsupported(what))
    }
}
