//! Numbers as people write them: digits alone, without the sign that the
//! standard library would take.

/// Decimal, or hexadecimal behind `0x`.
pub fn parse(text: &str) -> Option<u64> {
    behind_prefix(text).map_or_else(|| digits(text, 10), |rest| digits(rest, 16))
}

/// Decimal.
pub fn decimal(text: &str) -> Option<u64> {
    digits(text, 10)
}

/// Hexadecimal, with `0x` or without.
pub fn hexadecimal(text: &str) -> Option<u64> {
    digits(behind_prefix(text).unwrap_or(text), 16)
}

fn behind_prefix(text: &str) -> Option<&str> {
    text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))
}

fn digits(text: &str, radix: u32) -> Option<u64> {
    let signed = text.starts_with('+');
    u64::from_str_radix(text, radix).ok().filter(|_| !signed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_in_every_spelling() {
        for (text, value) in [("0", 0), ("017", 17), ("0x1F", 31), ("0Xff", 255)] {
            assert_eq!(parse(text), Some(value), "{text}");
        }
        assert_eq!(parse("18446744073709551615"), Some(u64::MAX));
        assert_eq!(decimal("64"), Some(64));
        for text in ["12", "0x12", "0X12"] {
            assert_eq!(hexadecimal(text), Some(0x12), "{text}");
        }
    }

    #[test]
    fn what_is_more_than_digits_is_no_number() {
        for text in [
            "",
            "0x",
            "+5",
            "-5",
            "0x+5",
            "+0x5",
            "0x-5",
            "0x0x5",
            " 5",
            "5 ",
            "1_0",
            "0xg",
            "0x10000000000000000",
            "18446744073709551616",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
            assert_eq!(decimal(text), None, "{text:?}");
        }
        for text in ["", "0x", "+5", "0x+5", "0x0x12", "0x0X12", " 5", "x5"] {
            assert_eq!(hexadecimal(text), None, "{text:?}");
        }
        assert_eq!(decimal("0x5"), None);
    }
}
