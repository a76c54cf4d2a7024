//! The virtio driver that a test plays on a real QEMU.

use std::collections::BTreeMap;

use super::qtest::Machine;

/// Where the driver keeps its queues and buffers.
const QUEUES: u64 = 0x10_0000;
pub const REQUEST: u64 = 0x20_0000;
pub const RESULT: u64 = 0x30_0000;
pub const EVENT: u64 = 0x40_0000;
const QUEUE_SIZE: u16 = 64;

/// virtio status: acknowledge, driver, features OK, driver OK.
const DRIVER: u64 = 3;
const FEATURES_OK: u64 = DRIVER | 8;
const DRIVER_OK: u64 = FEATURES_OK | 4;

/// Virtio structures by their capability's type.
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const ISR: u8 = 3;
const DEVICE: u8 = 4;
const SHARED_MEMORY: u8 = 8;

/// What the driver knows.
#[derive(Default)]
pub struct Virtio {
    /// Address and notify multiplier of each structure.
    structures: BTreeMap<u8, (u64, u64)>,
    offered: [u16; 2],
}

impl Machine {
    /// Finds the structures of a virtio device, where there is one.
    pub fn find_structures(&mut self) {
        self.virtio = Virtio::default();
        let mut at = self.config(1, 0, 0x34) & 0xFF;
        while at != 0 {
            let header = self.config(1, 0, at);
            if header & 0xFF == 9 {
                let bar = usize::try_from(self.config(1, 0, at + 4) & 0xFF).unwrap();
                let offset = self.config(1, 0, at + 8);
                let multiplier = self.config(1, 0, at + 16);
                let kind = u8::try_from(header >> 24).unwrap();
                let place = (self.bars[bar] + offset, multiplier);
                self.virtio.structures.entry(kind).or_insert(place);
            }
            at = header >> 8 & 0xFF;
        }
    }

    fn structure(&self, kind: u8) -> u64 {
        self.virtio.structures[&kind].0
    }

    /// The VRAM window.
    pub fn window(&self) -> u64 {
        self.structure(SHARED_MEMORY)
    }

    pub fn ready(&mut self) -> u64 {
        self.load(self.structure(DEVICE) + 0x0C, 4)
    }

    /// Reads and clears the interrupt status.
    pub fn interrupt_status(&mut self) -> u64 {
        self.load(self.structure(ISR), 1)
    }

    /// Device reset, as a driver does it.
    pub fn reset(&mut self) {
        self.store(self.structure(COMMON) + 0x14, 1, 0);
    }

    /// The same where QEMU may not survive it.
    pub fn try_reset(&mut self) -> bool {
        let status = self.structure(COMMON) + 0x14;
        self.try_command(&format!("writeb {status:#x} 0x0"))
            .is_some()
    }

    /// `DRIVER_OK` with queues at `table`; `false` when QEMU does not survive it.
    pub fn start_driver_at(&mut self, table: u64) -> bool {
        let common = self.structure(COMMON);
        if !self.try_reset() {
            return false;
        }
        self.store(common + 0x14, 1, DRIVER);
        self.store(common + 8, 4, 1);
        self.store(common + 0x0C, 4, 1);
        self.store(common + 0x14, 1, FEATURES_OK);
        self.write(QUEUES, &[0; 0x3000]);
        self.write(QUEUES + 0x1_0000, &[0; 0x3000]);
        for queue in [0, 1] {
            let at = table + 0x1_0000 * queue;
            self.store(common + 0x16, 2, queue);
            self.store(common + 0x18, 2, QUEUE_SIZE.into());
            self.store(common + 0x20, 8, at);
            self.store(common + 0x28, 8, at + 0x1000);
            self.store(common + 0x30, 8, at + 0x2000);
            self.store(common + 0x1C, 2, 1);
        }
        self.virtio.offered = [0; 2];
        let status = common + 0x14;
        self.try_command(&format!("writeb {status:#x} {DRIVER_OK:#x}"))
            .is_some()
    }

    /// `DRIVER_OK` without waiting for the window.
    pub fn start_driver(&mut self) -> bool {
        self.start_driver_at(QUEUES)
    }

    /// `DRIVER_OK` and READY; its epoch.
    pub fn bring_up(&mut self) -> u64 {
        assert_eq!(self.ready(), 0);
        assert!(self.start_driver());
        self.await_ready()
    }

    pub fn await_ready(&mut self) -> u64 {
        self.until("READY", |machine| {
            Some(machine.ready()).filter(|ready| *ready != 0)
        })
    }

    /// Makes one buffer pair or one writable buffer available, and kicks.
    pub fn offer(&mut self, queue: usize, buffers: &[(u64, u32, bool)]) {
        let base = QUEUES + 0x1_0000 * queue as u64;
        let head = self.virtio.offered[queue] * 2 % QUEUE_SIZE;
        for (index, (at, bytes, writable)) in (head..).zip(buffers) {
            let last = usize::from(index - head) + 1 == buffers.len();
            let flags = u16::from(!last) | if *writable { 2 } else { 0 };
            let mut raw = at.to_le_bytes().to_vec();
            raw.extend(bytes.to_le_bytes());
            raw.extend(flags.to_le_bytes());
            raw.extend((index + 1).to_le_bytes());
            self.write(base + 16 * u64::from(index), &raw);
        }
        let slot = u64::from(self.virtio.offered[queue] % QUEUE_SIZE);
        self.store(base + 0x1004 + 2 * slot, 2, head.into());
        self.virtio.offered[queue] += 1;
        self.store(base + 0x1002, 2, self.virtio.offered[queue].into());
        let (notify, multiplier) = self.virtio.structures[&NOTIFY];
        self.store(notify + multiplier * queue as u64, 2, queue as u64);
    }

    /// Waits until everything offered on `queue` is used.
    pub fn await_used(&mut self, queue: usize) {
        let used = QUEUES + 0x1_0000 * queue as u64 + 0x2002;
        let offered = u64::from(self.virtio.offered[queue]);
        self.until("the used element", |machine| {
            (machine.load(used, 2) == offered).then_some(())
        });
    }

    /// Tells the device where the mailbox is.
    pub fn set_mailbox(&mut self) {
        // As Linux writes 64 bits.
        self.store(self.structure(DEVICE) + 0x30, 4, REQUEST & 0xFFFF_FFFF);
        self.store(self.structure(DEVICE) + 0x34, 4, REQUEST >> 32);
    }

    /// A register access by the doorbell, the `sequence`th of this driver.
    pub fn ring(&mut self, sequence: u64, operation: [u8; 16]) -> (u64, u64) {
        self.write(REQUEST, &operation);
        self.write(REQUEST + 16, &[0xFF; 16]);
        let doorbell = self.structure(DEVICE) + 0x38;
        self.store(doorbell, 4, sequence << 8 | 1);
        (self.load(REQUEST + 16, 8), self.load(REQUEST + 24, 4))
    }

    /// A register access by queue 0; (value, status).
    pub fn access(&mut self, operation: [u8; 16]) -> (u64, u64) {
        self.write(REQUEST, &operation);
        self.offer(0, &[(REQUEST, 16, false), (RESULT, 16, true)]);
        self.await_used(0);
        (self.load(RESULT, 8), self.load(RESULT + 8, 4))
    }
}
