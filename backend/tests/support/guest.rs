//! The guest behind the stand-in for QEMU: its RAM and its side of the queues.

use std::fs::File;
use std::sync::atomic::Ordering;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

/// Guest RAM, from guest-physical address 0.
pub const RAM_BYTES: u64 = 16 << 20;
/// Entries of each queue.
pub const QUEUE_SIZE: u16 = 64;
/// Where tests may put their data.
pub const DATA: u64 = 0x10_0000;

/// Where a queue's rings are.
pub struct Ring {
    pub table: u64,
    pub available: u64,
    pub used: u64,
}

impl Ring {
    pub fn of(queue: usize) -> Self {
        let base = 0x1_0000 * (queue as u64 + 1);
        Self {
            table: base,
            available: base + 0x1000,
            used: base + 0x2000,
        }
    }
}

/// A descriptor of a chain.
#[derive(Clone, Copy)]
pub struct Buffer {
    pub at: u64,
    pub bytes: u32,
    pub writable: bool,
}

pub fn readable(at: u64, bytes: u32) -> Buffer {
    Buffer {
        at,
        bytes,
        writable: false,
    }
}

pub fn writable(at: u64, bytes: u32) -> Buffer {
    Buffer {
        at,
        bytes,
        writable: true,
    }
}

pub struct Guest {
    file: File,
    memory: GuestMemoryMmap,
    /// Available index of each queue, as this driver counts.
    available: [u16; 2],
    /// Where the device goes on.
    base: [u16; 2],
}

impl Guest {
    pub fn new() -> Self {
        let fd = memfd_create("guest-ram", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&fd, RAM_BYTES).unwrap();
        let file = File::from(fd);
        let backing = FileOffset::new(file.try_clone().unwrap(), 0);
        let range = (
            GuestAddress(0),
            usize::try_from(RAM_BYTES).unwrap(),
            Some(backing),
        );
        let memory = GuestMemoryMmap::from_ranges_with_files([range]).unwrap();
        Self {
            file,
            memory,
            available: [0; 2],
            base: [0; 2],
        }
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Empty queues, as a driver makes them.
    pub fn reset(&mut self) {
        self.available = [0; 2];
        self.base = [0; 2];
        self.write(Ring::of(0).table, &vec![0; 0x2_0000]);
    }

    pub fn base(&self, queue: usize) -> u16 {
        self.base[queue]
    }

    pub fn set_base(&mut self, queue: usize, base: u16) {
        self.base[queue] = base;
    }

    pub fn write(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(at)).unwrap();
    }

    pub fn read(&self, at: u64, bytes: usize) -> Vec<u8> {
        let mut buf = vec![0; bytes];
        self.memory.read_slice(&mut buf, GuestAddress(at)).unwrap();
        buf
    }

    pub fn word(&self, at: u64) -> u64 {
        self.memory
            .load(GuestAddress(at), Ordering::Acquire)
            .unwrap()
    }

    /// Makes `chain` available; the used index that answers it, if every
    /// chain before it is answered. Chain number n lies at descriptors 4n on.
    pub fn offer(&mut self, queue: usize, chain: &[Buffer]) -> u16 {
        let head = self.available[queue] * 4 % QUEUE_SIZE;
        for (index, buffer) in (head..).zip(chain) {
            let last = usize::from(index - head) + 1 == chain.len();
            let flags = u16::from(!last) | if buffer.writable { 2 } else { 0 };
            self.write_descriptor(queue, index, buffer.at, buffer.bytes, flags, index + 1);
        }
        self.offer_head(queue, head)
    }

    pub fn write_descriptor(
        &self,
        queue: usize,
        index: u16,
        at: u64,
        bytes: u32,
        flags: u16,
        next: u16,
    ) {
        let mut raw = Vec::with_capacity(16);
        raw.extend(at.to_le_bytes());
        raw.extend(bytes.to_le_bytes());
        raw.extend(flags.to_le_bytes());
        raw.extend(next.to_le_bytes());
        self.write(Ring::of(queue).table + 16 * u64::from(index), &raw);
    }

    /// Makes the chain at `head` available, whatever is there.
    pub fn offer_head(&mut self, queue: usize, head: u16) -> u16 {
        let ring = Ring::of(queue);
        let slot = self.available[queue] % QUEUE_SIZE;
        self.write(
            ring.available + 4 + 2 * u64::from(slot),
            &head.to_le_bytes(),
        );
        self.available[queue] = self.available[queue].wrapping_add(1);
        self.memory
            .store(
                self.available[queue],
                GuestAddress(ring.available + 2),
                Ordering::Release,
            )
            .unwrap();
        self.available[queue]
    }

    pub fn used_index(&self, queue: usize) -> u16 {
        self.memory
            .load(GuestAddress(Ring::of(queue).used + 2), Ordering::Acquire)
            .unwrap()
    }

    /// Bytes of the used element that made the used index `used`.
    pub fn used_bytes(&self, queue: usize, used: u16) -> u32 {
        let slot = u64::from(used.wrapping_sub(1) % QUEUE_SIZE);
        let raw = self.read(Ring::of(queue).used + 4 + 8 * slot + 4, 4);
        u32::from_le_bytes(raw.try_into().unwrap())
    }
}
