//! Numbers of the GPU as numbers of the host.

/// A number as an index. The model runs on 64-bit hosts only: VRAM is mapped whole.
#[expect(
    clippy::cast_possible_truncation,
    reason = "64-bit hosts only, checked below"
)]
pub(crate) const fn index(value: u64) -> usize {
    value as usize
}

const _: () = assert!(usize::BITS == 64, "VRAM needs a 64-bit host");
