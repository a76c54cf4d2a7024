//! Surface formats: the one that the hardware reference names, and those whose codes
//! the user knows. Of a format only the bytes of a pixel matter here.

use super::error::ConfigError;
use crate::saved::config::SurfaceFormat;
use e3k_regs::packet::RtFormat;
use std::collections::BTreeMap;

/// Format codes that the registers can say.
const CODES: u32 = 1 << 9;
const B8G8R8A8: u32 = RtFormat::B8G8R8A8 as u32;

/// How many bytes a pixel has: as many as divide a page, and the clear colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pixel {
    B1,
    B2,
    B4,
    B8,
    B16,
}

impl Pixel {
    pub(crate) fn from_bytes(bytes: u32) -> Option<Self> {
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
        if code == B8G8R8A8 {
            return Some(Pixel::B4);
        }
        self.0.get(&code).copied()
    }

    pub(super) fn save(&self) -> Vec<SurfaceFormat> {
        let known = self.0.iter();
        known
            .map(|(&code, pixel)| SurfaceFormat {
                code,
                bytes: 1 << pixel.shift(),
            })
            .collect()
    }

    /// # Errors
    /// As [`Self::add`].
    pub(super) fn restore(saved: Vec<SurfaceFormat>) -> Result<Self, ConfigError> {
        let mut formats = Self::default();
        for SurfaceFormat { code, bytes } in saved {
            formats.add(code, bytes)?;
        }
        Ok(formats)
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
