//! A driver of the stand-in for QEMU that uses the doorbell.

use e3k_regs::Reg;

use super::gpu::operation;
use super::guest::DATA;
use super::qemu::Qemu;
use super::server::Server;

pub const MAILBOX: u64 = DATA + 0x100;
pub const MAILBOX_WORD: usize = 0x30;
pub const DOORBELL_WORD: usize = 0x38;
/// What the driver leaves where results are to be.
pub const UNANSWERED: (u64, u32) = (0x5A5A_5A5A_5A5A_5A5A, 0x5A5A_5A5A);

/// A driver that uses the doorbell.
pub struct Driver {
    pub qemu: Qemu,
    pub rung: u32,
}

impl Driver {
    pub fn attach(server: &Server) -> Self {
        Self {
            qemu: Qemu::attach(&server.socket()),
            rung: 0,
        }
    }

    pub fn set_mailbox(&mut self, at: u64) {
        for (half, word) in at.to_le_bytes().chunks_exact(4).enumerate() {
            let word = u32::from_le_bytes(word.try_into().unwrap());
            self.qemu.set_config_word(MAILBOX_WORD + 4 * half, word);
        }
    }

    pub fn start(&mut self) {
        self.qemu.start();
        self.set_mailbox(MAILBOX);
    }

    /// Fills the mailbox.
    pub fn put(&self, operations: &[[u8; 16]]) {
        self.qemu.guest.write(MAILBOX, &operations.concat());
        let bytes = 16 * operations.len();
        let results = MAILBOX + bytes as u64;
        self.qemu.guest.write(results, &vec![0x5A; bytes]);
    }

    pub fn results(&self, count: usize) -> Vec<(u64, u32)> {
        let bytes = 16 * count;
        let raw = self.qemu.guest.read(MAILBOX + bytes as u64, bytes);
        raw.chunks_exact(16)
            .map(|raw| {
                let value = u64::from_le_bytes(raw[..8].try_into().unwrap());
                (value, u32::from_le_bytes(raw[8..12].try_into().unwrap()))
            })
            .collect()
    }

    /// Rings for `count` operations.
    pub fn ring(&mut self, count: u32) {
        self.rung += 1;
        self.qemu
            .set_config_word(DOORBELL_WORD, self.rung << 8 | count);
    }

    pub fn access(&mut self, operations: &[[u8; 16]]) -> Vec<(u64, u32)> {
        self.put(operations);
        self.ring(u32::try_from(operations.len()).unwrap());
        self.results(operations.len())
    }

    pub fn assert_served(&mut self) {
        let at = Reg::MemReady.offset();
        assert_eq!(self.access(&[operation(1, 4, at, 0)]), [(0xDEAD_BEAF, 0)]);
    }
}
