//! Application flags to ordered places (R-1.2).

use crate::Error;
use crate::placement::segments::SegmentId::{self, LocalInvisible, LocalVisible};
use crate::placement::segments::SegmentId::{PcieSnoop, PcieUnsnoop};
use crate::placement::{Flags, Place, Window};
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

/// What an application asks for.
///
/// ```
/// use vidmm::{CreateFlags, CreateRequest, Window};
/// // 4 MiB in one of two windows of local visible, the first of them if it has room.
/// let windows = [Window::new(64 << 10, 68 << 10), Window::new(88 << 10, 92 << 10)];
/// let request = CreateRequest {
///     bytes: 4 << 20,
///     flags: CreateFlags::GPU_MOSTLY.0,
///     windows: &windows,
/// };
/// assert!(request.windows.len() <= vidmm::MAX_WINDOWS);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct CreateRequest<'a> {
    /// Size, not 0; rounded up to pages.
    pub bytes: u64,
    /// Bits of [`CreateFlags`].
    pub flags: u32,
    /// With [`CreateFlags::GPU_MOSTLY`] only: the places are exactly these of the
    /// local visible segment, in order; at most [`MAX_WINDOWS`].
    pub windows: &'a [Window],
}

const fn place(segment: SegmentId, flags: Flags) -> Place {
    Place::anywhere(segment, flags)
}

const GPU_ONLY: &[Place] = &[
    place(LocalInvisible, Flags::NONE),
    place(LocalVisible, Flags::FALLBACK),
    place(PcieUnsnoop, Flags::FALLBACK),
];
const GPU_MOSTLY: &[Place] = &[
    place(LocalVisible, Flags::NONE),
    place(LocalInvisible, Flags::DESIRED),
    place(PcieUnsnoop, Flags::FALLBACK),
];
const UPLOAD: &[Place] = &[
    place(PcieUnsnoop, Flags::NONE),
    place(LocalVisible, Flags::FALLBACK),
];
const READBACK: &[Place] = &[place(PcieSnoop, Flags::NONE)];

/// The place of what nobody is using at the moment.
pub const PARKED: &[Place] = &[place(SegmentId::System, Flags::NONE)];

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
            ..place(LocalVisible, Flags::NONE)
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
        let order = |flags: CreateFlags| -> Vec<(SegmentId, Flags)> {
            let places = request(flags.0, &[]).unwrap();
            places.iter().map(|p| (p.segment, p.flags)).collect()
        };
        let (both, desired, fallback) = (Flags::NONE, Flags::DESIRED, Flags::FALLBACK);
        assert_eq!(
            order(CreateFlags::GPU_ONLY),
            [
                (LocalInvisible, both),
                (LocalVisible, fallback),
                (PcieUnsnoop, fallback)
            ]
        );
        assert_eq!(
            order(CreateFlags::GPU_MOSTLY),
            [
                (LocalVisible, both),
                (LocalInvisible, desired),
                (PcieUnsnoop, fallback)
            ]
        );
        assert_eq!(
            order(CreateFlags::UPLOAD),
            [(PcieUnsnoop, both), (LocalVisible, fallback)]
        );
        assert_eq!(order(CreateFlags::READBACK), [(PcieSnoop, both)]);
    }

    #[test]
    fn exactly_one_known_flag_is_asked_for() {
        for flags in [0, 3, 5, 16, 1 << 31, u32::MAX] {
            assert_eq!(request(flags, &[]), Err(Error::Invalid), "{flags:#x}");
        }
    }

    #[test]
    fn windows_replace_the_policy_and_go_with_gpu_mostly_only() {
        let window = Window::new(3, 9);
        let mostly = CreateFlags::GPU_MOSTLY.0;
        let places = request(mostly, &[window; MAX_WINDOWS]).unwrap();
        assert_eq!(places.len(), MAX_WINDOWS);
        let wanted = Place {
            window,
            ..place(LocalVisible, Flags::NONE)
        };
        assert!(places.iter().all(|place| *place == wanted));
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
