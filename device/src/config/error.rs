//! What no chip can be configured as.

/// A configuration that no chip has. The message lists what is legal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// VRAM size.
    #[error(
        "invalid VRAM size of {bytes} bytes: 0xD374 can say 1G to 15G, an even 16G to 30G, and with three channels \
         3G-24M, 6G-72M, 12G-144M and 24G-288M{}",
        if *.any_size { "; any multiple of 256M up to 64G is legal too, where the size is told by the bus" } else { "" }
    )]
    Vram {
        /// What was asked for.
        bytes: u64,
        /// Whether multiples of 256 MiB were allowed.
        any_size: bool,
    },
    /// Size of the CPU-visible part.
    #[error(
        "invalid visible VRAM size of {bytes} bytes: legal is a power of two from 1M to {max} bytes, the lesser of VRAM and 4G"
    )]
    Visible {
        /// What was asked for.
        bytes: u64,
        /// The most that this VRAM allows.
        max: u64,
    },
    /// Size of the UTLBs.
    #[error("invalid UTLB of {entries} entries: legal is 0 or a power of two up to 1024")]
    Utlb {
        /// What was asked for.
        entries: u32,
    },
    /// Shape of the DTLB.
    #[error(
        "invalid DTLB of {sets} sets of {ways} ways: legal is a power of two up to 4096, and 1 to 16 ways"
    )]
    Dtlb {
        /// Sets asked for.
        sets: u32,
        /// Ways asked for.
        ways: u32,
    },
    /// A surface format.
    #[error(
        "invalid surface format {code} of {bytes} bytes a pixel: legal is each code from 0 to 511 once, but not 89, \
         which is B8G8R8A8, and 1, 2, 4, 8 or 16 bytes"
    )]
    SurfaceFormat {
        /// Its code.
        code: u32,
        /// Bytes of a pixel asked for.
        bytes: u32,
    },
}
