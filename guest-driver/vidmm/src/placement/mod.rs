//! Application flags to ordered places.

pub(crate) mod range;
pub(crate) mod segments;

use crate::Error;
use crate::placement::segments::SegmentId;
use alloc::vec::Vec;

/// Most windows in one request.
pub const MAX_WINDOWS: usize = 8;

/// What an application says about its use of a BO: exactly one of these bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateFlags(pub u32);

impl CreateFlags {
    /// Only the GPU touches it.
    pub const GPU_ONLY: Self = Self(1 << 0);
    /// The GPU mostly, the CPU sometimes.
    pub const GPU_MOSTLY: Self = Self(1 << 1);
    /// The CPU writes, the GPU reads once.
    pub const UPLOAD: Self = Self(1 << 2);
    /// The CPU reads results.
    pub const READBACK: Self = Self(1 << 3);
}

/// Pages `[first_page, last_page)` of the local visible segment; `last_page` 0
/// means to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First page.
    pub first_page: u64,
    /// Page after the last one.
    pub last_page: u64,
}

/// What an application asks for.
#[derive(Clone, Copy, Debug)]
pub struct CreateRequest<'a> {
    /// Size, not 0; rounded up to pages.
    pub bytes: u64,
    /// Bits of [`CreateFlags`].
    pub flags: u32,
    /// With [`CreateFlags::GPU_MOSTLY`] only: the places are exactly these, in
    /// order; at most [`MAX_WINDOWS`].
    pub windows: &'a [Window],
}

/// In which search a place counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// In both.
    Both,
    /// DESIRED: only in the one that evicts nobody.
    Desired,
    /// FALLBACK: only in the one that may evict.
    Fallback,
}

/// One acceptable segment with a window in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: SegmentId,
    pub(crate) window: Window,
    pub(crate) pass: Pass,
    /// Prefer high addresses.
    pub(crate) topdown: bool,
}

impl Place {
    const fn anywhere(segment: SegmentId, pass: Pass) -> Self {
        Self {
            segment,
            window: Window {
                first_page: 0,
                last_page: 0,
            },
            pass,
            topdown: false,
        }
    }

    /// For kernel objects: away from everything else.
    pub(crate) const fn kernel(segment: SegmentId) -> Self {
        Self {
            topdown: true,
            ..Self::anywhere(segment, Pass::Both)
        }
    }
}

const GPU_ONLY: &[Place] = &[
    Place::anywhere(SegmentId::LocalInvisible, Pass::Both),
    Place::anywhere(SegmentId::LocalVisible, Pass::Fallback),
    Place::anywhere(SegmentId::PcieUnsnoop, Pass::Fallback),
];
const GPU_MOSTLY: &[Place] = &[
    Place::anywhere(SegmentId::LocalVisible, Pass::Both),
    Place::anywhere(SegmentId::LocalInvisible, Pass::Desired),
    Place::anywhere(SegmentId::PcieUnsnoop, Pass::Fallback),
];
const UPLOAD: &[Place] = &[
    Place::anywhere(SegmentId::PcieUnsnoop, Pass::Both),
    Place::anywhere(SegmentId::LocalVisible, Pass::Fallback),
];
const READBACK: &[Place] = &[Place::anywhere(SegmentId::PcieSnoop, Pass::Both)];

/// The ordered places for a request.
///
/// # Errors
/// [`Error::Invalid`] unless exactly one known flag is set, and for windows
/// without `GPU_MOSTLY` or too many of them.
pub(crate) fn places(request: &CreateRequest<'_>) -> Result<Vec<Place>, Error> {
    let policy = match CreateFlags(request.flags) {
        CreateFlags::GPU_ONLY => GPU_ONLY,
        CreateFlags::GPU_MOSTLY => GPU_MOSTLY,
        CreateFlags::UPLOAD => UPLOAD,
        CreateFlags::READBACK => READBACK,
        _ => return Err(Error::Invalid),
    };
    let mostly = CreateFlags(request.flags) == CreateFlags::GPU_MOSTLY;
    if request.windows.len() > MAX_WINDOWS || (!mostly && !request.windows.is_empty()) {
        return Err(Error::Invalid);
    }
    let mut places = Vec::new();
    places.try_reserve_exact(MAX_WINDOWS)?;
    if request.windows.is_empty() {
        places.extend_from_slice(policy);
    } else {
        places.extend(request.windows.iter().map(|window| Place {
            window: *window,
            ..Place::anywhere(SegmentId::LocalVisible, Pass::Both)
        }));
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(flags: u32, windows: &[Window]) -> Result<Vec<Place>, Error> {
        places(&CreateRequest {
            bytes: 4096,
            flags,
            windows,
        })
    }

    #[test]
    fn flags_choose_segments_in_the_order_of_the_policy_r_1_2() {
        use Pass::{Both, Desired, Fallback};
        use SegmentId::{LocalInvisible, LocalVisible, PcieSnoop, PcieUnsnoop};
        let order = |flags: CreateFlags| -> Vec<(SegmentId, Pass)> {
            let places = request(flags.0, &[]).unwrap();
            places.iter().map(|p| (p.segment, p.pass)).collect()
        };
        assert_eq!(
            order(CreateFlags::GPU_ONLY),
            [
                (LocalInvisible, Both),
                (LocalVisible, Fallback),
                (PcieUnsnoop, Fallback)
            ]
        );
        assert_eq!(
            order(CreateFlags::GPU_MOSTLY),
            [
                (LocalVisible, Both),
                (LocalInvisible, Desired),
                (PcieUnsnoop, Fallback)
            ]
        );
        assert_eq!(
            order(CreateFlags::UPLOAD),
            [(PcieUnsnoop, Both), (LocalVisible, Fallback)]
        );
        assert_eq!(order(CreateFlags::READBACK), [(PcieSnoop, Both)]);
    }

    #[test]
    fn exactly_one_known_flag_is_asked_for() {
        for flags in [0, 3, 5, 16, 1 << 31, u32::MAX] {
            assert_eq!(request(flags, &[]), Err(Error::Invalid), "{flags:#x}");
        }
    }

    #[test]
    fn windows_replace_the_policy_and_go_with_gpu_mostly_only() {
        let window = Window {
            first_page: 3,
            last_page: 9,
        };
        let mostly = CreateFlags::GPU_MOSTLY.0;
        let places = request(mostly, &[window; MAX_WINDOWS]).unwrap();
        assert_eq!(places.len(), MAX_WINDOWS);
        assert!(places.iter().all(|p| p.window == window
            && p.segment == SegmentId::LocalVisible
            && p.pass == Pass::Both));
        assert_eq!(
            request(mostly, &[window; MAX_WINDOWS + 1]),
            Err(Error::Invalid)
        );
        assert_eq!(
            request(CreateFlags::UPLOAD.0, &[window]),
            Err(Error::Invalid)
        );
    }
}
