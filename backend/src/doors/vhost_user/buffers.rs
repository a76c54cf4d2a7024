//! A guest's descriptor chain, sorted out and bounded.

use virtio_queue::DescriptorChain;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::vring::QueueBroken;

/// A piece of guest memory, not checked yet.
#[derive(Clone, Copy, Debug)]
struct Span {
    at: GuestAddress,
    bytes: usize,
}

/// The buffers of one chain.
#[derive(Debug)]
pub(super) struct Buffers {
    readable: Vec<Span>,
    writable: Vec<Span>,
    /// A readable buffer came after a writable one.
    disordered: bool,
}

impl Buffers {
    /// Walks `chain`, which ends by its own count of descriptors also when it
    /// loops.
    pub(super) fn of<M>(chain: DescriptorChain<M>) -> Result<Self, QueueBroken>
    where
        M: std::ops::Deref,
        M::Target: vm_memory::GuestMemory,
    {
        let head = chain.head_index();
        let mut buffers = Self {
            readable: Vec::new(),
            writable: Vec::new(),
            disordered: false,
        };
        let mut ended = false;
        for descriptor in chain {
            ended = !descriptor.has_next();
            let bytes = descriptor.len() as usize;
            let span = Span {
                at: descriptor.addr(),
                bytes,
            };
            if descriptor.is_write_only() {
                buffers.writable.push(span);
            } else {
                buffers.disordered |= !buffers.writable.is_empty();
                buffers.readable.push(span);
            }
        }
        if ended {
            Ok(buffers)
        } else {
            Err(QueueBroken::Chain { head })
        }
    }

    /// `bytes` to read at `at`, and behind them as many to write. The range may
    /// lie anywhere, also over the end of the address space.
    pub(super) fn adjacent(at: u64, bytes: usize) -> Self {
        let span = |at| Span {
            at: GuestAddress(at),
            bytes,
        };
        Self {
            readable: vec![span(at)],
            writable: at.checked_add(bytes as u64).map(span).into_iter().collect(),
            disordered: false,
        }
    }

    /// Whether readable buffers come first and all are in guest memory.
    pub(super) fn are_well_formed(&self, memory: &GuestMemoryMmap) -> bool {
        let mut spans = self.readable.iter().chain(&self.writable);
        !self.disordered && spans.all(|span| span.is_in(memory))
    }

    /// Bytes that the guest offers to read.
    pub(super) fn readable_bytes(&self) -> usize {
        total(&self.readable)
    }

    /// Bytes that the guest offers to be written.
    pub(super) fn writable_bytes(&self) -> usize {
        total(&self.writable)
    }

    /// All readable bytes; `None` if a part is not in guest memory. The caller
    /// has looked at [`Self::readable_bytes`] before.
    pub(super) fn read(&self, memory: &GuestMemoryMmap) -> Option<Vec<u8>> {
        let mut bytes = vec![0; self.readable_bytes()];
        let mut rest = bytes.as_mut_slice();
        for span in &self.readable {
            let (part, after) = rest.split_at_mut_checked(span.bytes)?;
            memory.read_slice(part, span.at).ok()?;
            rest = after;
        }
        Some(bytes)
    }

    /// Whether [`Self::write`] of this many bytes would succeed.
    pub(super) fn can_take(&self, memory: &GuestMemoryMmap, mut bytes: usize) -> bool {
        for span in &self.writable {
            let part = Span {
                bytes: span.bytes.min(bytes),
                ..*span
            };
            if !part.is_in(memory) {
                return false;
            }
            bytes -= part.bytes;
        }
        bytes == 0
    }

    /// Writes `bytes` to the first writable bytes, all or nothing, and says
    /// how many were written.
    pub(super) fn write(&self, memory: &GuestMemoryMmap, bytes: &[u8]) -> usize {
        if !self.can_take(memory, bytes.len()) {
            return 0;
        }
        let mut rest = bytes;
        for span in &self.writable {
            let (part, after) = rest.split_at(span.bytes.min(rest.len()));
            if memory.write_slice(part, span.at).is_err() {
                return 0;
            }
            rest = after;
        }
        bytes.len()
    }
}

impl Span {
    fn is_in(&self, memory: &GuestMemoryMmap) -> bool {
        self.bytes == 0 || memory.check_range(self.at, self.bytes)
    }
}

fn total(spans: &[Span]) -> usize {
    spans
        .iter()
        .fold(0, |sum, span| sum.saturating_add(span.bytes))
}
