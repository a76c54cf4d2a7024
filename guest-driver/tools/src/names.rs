//! The driver's numbers as words.

use presil_uapi as uapi;

/// A segment's name.
pub(crate) fn segment(index: u32) -> &'static str {
    let names = uapi::SEGMENT_NAMES;
    names.get(index as usize).copied().unwrap_or("unknown")
}

/// A bus's name.
pub(crate) fn bus(bus: u32) -> &'static str {
    match bus {
        uapi::BUS_IO => "IOMEM (VRAM window)",
        uapi::BUS_MEM => "MEM (RAM pages)",
        _ => "unknown",
    }
}

/// The states that a buffer is in.
pub(crate) fn states(state: u32) -> String {
    let names = [
        (uapi::STATE_POPULATED, "populated"),
        (uapi::STATE_BOUND, "bound"),
        (uapi::STATE_PINNED, "pinned"),
    ];
    let set: Vec<_> = names
        .iter()
        .filter(|(bit, _)| state & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    if set.is_empty() {
        "-".into()
    } else {
        set.join(", ")
    }
}
