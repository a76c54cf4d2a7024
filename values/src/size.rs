//! Sizes as people write them: `512M`, `1G`, `1GiB`, plain bytes.

use std::fmt;

/// What is wrong with a size.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Not a number with a known unit.
    #[error("'{0}' is not a size: write a whole number and a unit, as in 512M, 1G or 1GiB")]
    NotASize(String),
    /// Does not fit in 64 bits.
    #[error("'{0}' is too large: the largest size is 16 EiB - 1")]
    TooLarge(String),
}

const UNITS: [(&str, u32); 4] = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];

/// Reads a size in bytes. Units are powers of 1024, in any case: K, M, G and T,
/// alone or as KiB, MiB, GiB and TiB; no unit means bytes.
///
/// # Errors
/// In words, with an example.
pub fn parse(text: &str) -> Result<u64, SizeError> {
    let not_a_size = || SizeError::NotASize(text.to_owned());
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let (number, unit) = text.split_at(text.len() - digits.len());
    if number.is_empty() {
        return Err(not_a_size());
    }
    let shift = shift_of(unit).ok_or_else(not_a_size)?;
    let too_large = || SizeError::TooLarge(text.to_owned());
    let number: u64 = number.parse().map_err(|_| too_large())?;
    number.checked_mul(1 << shift).ok_or_else(too_large)
}

fn shift_of(unit: &str) -> Option<u32> {
    let unit = unit.to_ascii_uppercase();
    let letter = unit.strip_suffix("IB").unwrap_or(&unit);
    match (letter, unit.as_str()) {
        ("", "" | "B") | ("B", "B") => Some(0),
        _ => UNITS
            .iter()
            .find(|(name, _)| *name == letter)
            .map(|(_, shift)| *shift),
    }
}

/// A size with the largest unit that divides it, as QEMU reads it: `1536M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS
            .iter()
            .find(|(_, shift)| self.0 != 0 && self.0.is_multiple_of(1 << shift));
        match unit {
            Some((name, shift)) => write!(f, "{}{name}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_every_spelling() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4096B", 4096),
            ("64k", 64 << 10),
            ("512M", 512 << 20),
            ("512MiB", 512 << 20),
            ("1G", 1 << 30),
            ("1gib", 1 << 30),
            ("2T", 2 << 40),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused_with_an_example() {
        for text in [
            "", "G", "1.5G", "-1", "1 G", "1Gi", "1GB", "iB", "1iB", "0x10",
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains("512M"), "{text}: {error}");
        }
        assert!(matches!(parse("16777216T"), Err(SizeError::TooLarge(_))));
        assert!(matches!(
            parse("99999999999999999999"),
            Err(SizeError::TooLarge(_))
        ));
    }

    #[test]
    fn a_size_is_printed_with_its_largest_whole_unit() {
        for (bytes, text) in [
            (0, "0"),
            (1 << 30, "1G"),
            (1536 << 20, "1536M"),
            (4097, "4097"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
            assert_eq!(parse(text), Ok(bytes));
        }
    }
}
