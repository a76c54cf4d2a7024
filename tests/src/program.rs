//! A program on a CPU of its own, with mappings of buffers: what it stores through a
//! write-combined one stays there until it asks for a barrier, or the driver takes the
//! mapping away, which interrupts that CPU. A barrier of the driver's CPU does nothing.

use crate::cpu::WriteBuffer;
use crate::machine::{Machine, WINDOW_AT};
use std::cell::RefCell;
use std::collections::HashMap;
use vidmm::{BoId, Caching};

/// See the module.
pub(crate) struct Program {
    machine: Machine,
    /// Where a page of a buffer is mapped, and how.
    mappings: RefCell<HashMap<(BoId, u64), (u64, Caching)>>,
    buffer: RefCell<WriteBuffer>,
}

impl Program {
    pub(crate) fn new(machine: Machine) -> Self {
        Self {
            machine,
            mappings: RefCell::default(),
            buffer: RefCell::new(WriteBuffer::new()),
        }
    }

    /// Maps a page that is at a physical address.
    pub(crate) fn map(&self, bo: BoId, page: u64, at: u64, caching: Caching) {
        let caching = if at >= WINDOW_AT {
            Caching::WriteCombined
        } else {
            caching
        };
        let mut mappings = self.mappings.borrow_mut();
        mappings.insert((bo, page), (at, caching));
    }

    /// Removes all mappings of a buffer.
    pub(crate) fn unmap(&self, bo: BoId) {
        let mut mappings = self.mappings.borrow_mut();
        mappings.retain(|(mapped, _), _| *mapped != bo);
        self.barrier();
    }

    /// Stores into a page. False if that is not mapped.
    pub(crate) fn store(&self, bo: BoId, page: u64, offset: u64, data: &[u8]) -> bool {
        let Some((at, caching)) = self.mappings.borrow().get(&(bo, page)).copied() else {
            return false;
        };
        if caching == Caching::Cached {
            self.machine.cpu_write(at + offset, data);
        } else {
            let memory = |at, data: &[u8]| self.machine.write_memory(at, data);
            self.buffer.borrow_mut().store(at + offset, data, memory);
        }
        true
    }

    /// What was stored is in memory.
    pub(crate) fn barrier(&self) {
        let memory = |at, data: &[u8]| self.machine.write_memory(at, data);
        self.buffer.borrow_mut().drain(memory);
    }
}
