//! What the kernel says of an open node, read.

use crate::device::Device;
use crate::error::Result;
use crate::names;
use presil_uapi as uapi;

/// What an open node has booked in a segment and the most that it may, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Booking {
    pub(crate) booked: u64,
    pub(crate) limit: u64,
}

/// What an open node has booked and may book in each segment.
pub(crate) fn bookings(device: &Device) -> Result<[Booking; uapi::SEGMENTS]> {
    let text = device.fdinfo()?;
    Ok([0, 1, 2, 3].map(|segment| {
        let name = names::segment(segment);
        let of = |what| bytes(&text, &format!("presil-{what}-{name}"));
        Booking {
            booked: of("booked"),
            limit: of("limit"),
        }
    }))
}

/// A size in fdinfo, 0 where it is not there.
pub(crate) fn bytes(text: &str, key: &str) -> u64 {
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
