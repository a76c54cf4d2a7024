//! The configuration space (docs/virtio-binding.md 2).

use e3k_regs::register::BAR0_BYTES;
use presil_device::Config;

use super::requests::MAX_OPS;

const MAGIC: u32 = u32::from_le_bytes(*b"PRSL");
const VERSION: u32 = 1;
/// Bytes that are told to QEMU.
pub(crate) const CONFIG_BYTES: usize = 256;
const STATE_LOST: u32 = 1;

/// What the configuration space says that can change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live {
    /// Epoch of the mapped window, or 0.
    pub ready: u32,
    /// The GPU is lost.
    pub lost: bool,
}

/// The whole configuration space.
pub(super) fn blob(config: &Config, live: Live) -> [u8; CONFIG_BYTES] {
    let mut blob = Blob {
        bytes: [0; CONFIG_BYTES],
        at: 0,
    };
    blob.put(&MAGIC.to_le_bytes());
    blob.put(&VERSION.to_le_bytes());
    blob.put(&config.chip.vendor_id().to_le_bytes());
    blob.put(&config.chip.device_id().to_le_bytes());
    blob.put(&live.ready.to_le_bytes());
    blob.put(&config.vram_bytes.to_le_bytes());
    blob.put(&config.visible_bytes.to_le_bytes());
    blob.put(&BAR0_BYTES.to_le_bytes());
    blob.put(&MAX_OPS.to_le_bytes());
    blob.put(&(if live.lost { STATE_LOST } else { 0 }).to_le_bytes());
    blob.bytes
}

/// `size` bytes of `blob` from `offset`; what lies behind its end reads zero.
pub(super) fn slice(blob: &[u8], offset: u32, size: u32) -> Vec<u8> {
    let rest = blob.get(offset as usize..).unwrap_or_default();
    let mut bytes: Vec<u8> = rest.iter().take(size as usize).copied().collect();
    bytes.resize(size as usize, 0);
    bytes
}

/// Fields laid down one after another.
struct Blob {
    bytes: [u8; CONFIG_BYTES],
    at: usize,
}

impl Blob {
    fn put(&mut self, field: &[u8]) {
        let end = self.at + field.len();
        self.bytes[self.at..end].copy_from_slice(field);
        self.at = end;
    }
}

#[cfg(test)]
mod tests {
    use presil_device::{Chip, Config};

    use super::*;

    fn blob_of(ready: u32, lost: bool) -> [u8; CONFIG_BYTES] {
        let config = Config::new(Chip::Arise10c0, 1 << 30, 512 << 20, true).unwrap();
        blob(&config, Live { ready, lost })
    }

    #[test]
    fn fields_are_where_the_binding_says() {
        let blob = blob_of(7, true);
        let word = |at: usize| u32::from_le_bytes(blob[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_le_bytes(blob[at..at + 8].try_into().unwrap());
        assert_eq!(word(0x00), 0x4C53_5250);
        assert_eq!(word(0x04), 1);
        assert_eq!(word(0x08), 0x3D00_6766);
        assert_eq!(word(0x0C), 7);
        assert_eq!(long(0x10), 1 << 30);
        assert_eq!(long(0x18), 512 << 20);
        assert_eq!(word(0x20), 0x10_0000);
        assert_eq!(word(0x24), MAX_OPS);
        assert_eq!(word(0x28), 1);
        assert!(blob[0x2C..].iter().all(|byte| *byte == 0));
        assert_eq!(blob_of(0, false)[0x0C..0x10], [0; 4]);
        assert_eq!(blob_of(0, false)[0x28], 0);
    }

    #[test]
    fn any_part_can_be_read_and_nothing_is_behind_the_end() {
        let blob = blob_of(7, false);
        assert_eq!(slice(&blob, 0, 256), blob);
        assert_eq!(slice(&blob, 0x0C, 4), [7, 0, 0, 0]);
        assert_eq!(slice(&blob, 254, 4), [0; 4]);
        assert_eq!(slice(&blob, u32::MAX, 2), [0; 2]);
    }
}
