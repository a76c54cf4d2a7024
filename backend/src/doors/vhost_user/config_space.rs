//! The configuration space (docs/virtio-binding.md 2).

use e3k_regs::register::BAR0_BYTES;
use presil_device::Config;

use super::requests::MAX_OPS;

const MAGIC: u32 = u32::from_le_bytes(*b"PRSL");
const VERSION: u32 = 1;
/// Bytes that are told to QEMU.
pub(crate) const CONFIG_BYTES: usize = 256;
const STATE_LOST: u32 = 1;
const FEATURE_DOORBELL: u32 = 1;
/// Where [`Words`] are.
const WORDS_AT: usize = 0x30;
const WORDS_BYTES: usize = 12;
const WORDS_END: usize = WORDS_AT + WORDS_BYTES;
const READY_AT: usize = 0x0C;
const STATE_AT: usize = 0x28;

/// What the configuration space says that can change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live {
    /// Epoch of the mapped window, or 0.
    pub ready: u32,
    /// The GPU is lost.
    pub lost: bool,
    /// What the driver has written.
    pub words: Words,
}

/// The part of the configuration space that a driver writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    /// Guest-physical address of the mailbox.
    pub mailbox: u64,
    /// Rung when it changes.
    pub doorbell: u32,
}

impl Words {
    /// What they are after a write of `bytes` at `offset` of the whole space.
    /// QEMU always writes all of it, and with it what it read or wrote last.
    pub(super) fn written(self, offset: u32, bytes: &[u8]) -> Self {
        let mut raw = [0; WORDS_BYTES];
        raw[..8].copy_from_slice(&self.mailbox.to_le_bytes());
        raw[8..].copy_from_slice(&self.doorbell.to_le_bytes());
        for (at, byte) in (offset as usize..).zip(bytes) {
            if let Some(place) = at.checked_sub(WORDS_AT).and_then(|at| raw.get_mut(at)) {
                *place = *byte;
            }
        }
        let [m0, m1, m2, m3, m4, m5, m6, m7, doorbell @ ..] = raw;
        Self {
            mailbox: u64::from_le_bytes([m0, m1, m2, m3, m4, m5, m6, m7]),
            doorbell: u32::from_le_bytes(doorbell),
        }
    }

    /// Operations that the doorbell announces.
    pub(super) fn operations(self) -> usize {
        usize::from(self.doorbell.to_le_bytes()[0])
    }
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
    blob.put(&FEATURE_DOORBELL.to_le_bytes());
    blob.put(&live.words.mailbox.to_le_bytes());
    blob.put(&live.words.doorbell.to_le_bytes());
    blob.bytes
}

/// `size` bytes of `blob` from `offset`; what lies behind its end reads zero.
pub(super) fn slice(blob: &[u8], offset: u32, size: u32) -> Vec<u8> {
    let rest = blob.get(offset as usize..).unwrap_or_default();
    let mut bytes: Vec<u8> = rest.iter().take(size as usize).copied().collect();
    bytes.resize(size as usize, 0);
    bytes
}

/// Whether a write of `bytes` at `offset` was to something that no driver
/// writes. `ready` and `state` are in every write, as they were read last.
pub(super) fn spoils(blob: &[u8], offset: u32, bytes: &[u8]) -> bool {
    let rest = blob.iter().enumerate().skip(offset as usize);
    rest.zip(bytes).any(|((at, held), written)| {
        held != written && !matches!(at, READY_AT..0x10 | STATE_AT..0x2C | WORDS_AT..WORDS_END)
    })
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
        let words = Words {
            mailbox: 0x1122_3344_5566_7788,
            doorbell: 0x99AA_BBCC,
        };
        blob(&config, Live { ready, lost, words })
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
        assert_eq!(word(0x2C), 1);
        assert_eq!(long(0x30), 0x1122_3344_5566_7788);
        assert_eq!(word(0x38), 0x99AA_BBCC);
        assert!(blob[0x3C..].iter().all(|byte| *byte == 0));
        assert_eq!(blob_of(0, false)[0x0C..0x10], [0; 4]);
        assert_eq!(blob_of(0, false)[0x28], 0);
    }

    #[test]
    fn of_a_write_only_what_the_driver_may_write_is_taken() {
        let words = Words::default();
        let all = words.written(0, &blob_of(7, true));
        assert_eq!(all.mailbox, 0x1122_3344_5566_7788);
        assert_eq!((all.doorbell, all.operations()), (0x99AA_BBCC, 0xCC));
        assert_eq!(all.written(0, &[0xFF; WORDS_AT]), all);
        assert_eq!(all.written(0x3C, &[0xFF; 256]), all);
        assert_eq!(all.written(u32::MAX, &[0xFF; 256]), all);
        assert_eq!(
            all.written(0x34, &[0; 4]),
            Words {
                mailbox: 0x5566_7788,
                ..all
            }
        );
        assert_eq!(all.written(0x38, &[]), all);
    }

    #[test]
    fn a_write_is_told_by_the_fields_that_no_driver_writes() {
        let now = blob_of(7, false);
        let mut written = blob_of(0, true);
        written[WORDS_AT..WORDS_END].fill(0xEE);
        assert!(!spoils(&now, 0, &written));
        assert!(!spoils(&now, 0x30, &[1; 12]));
        assert!(!spoils(&now, 300, &[1; 12]));
        assert!(spoils(&now, 4, &[2]));
        written[0x2C] = 0;
        assert!(spoils(&now, 0, &written));
        assert!(spoils(&now, 0x38, &[1; 5]));
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
