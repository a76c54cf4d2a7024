//! A ring's four registers (hardware reference 10.1).

use super::error::CspErrorKind;
use crate::defect::Defect;
use crate::watch::Onlooker;
use e3k_regs::GpuVa;
use e3k_regs::fields::{RingAddress, RingWord};

#[derive(Debug, Default)]
pub(super) struct Ring {
    pub(super) address: RingAddress,
    pub(super) size: u32,
    pub(super) head: u32,
    pub(super) tail: u32,
}

impl Ring {
    pub(super) fn read(&self, word: RingWord) -> u32 {
        match word {
            RingWord::Address => self.address.into_bits(),
            RingWord::Size => self.size,
            RingWord::Head => self.head,
            RingWord::Tail => self.tail,
        }
    }

    pub(super) fn write(&mut self, word: RingWord, value: u32) {
        match word {
            RingWord::Address => self.address = RingAddress::from_bits(value),
            RingWord::Size => self.size = value,
            RingWord::Head => self.head = value,
            RingWord::Tail => self.tail = value,
        }
    }

    pub(super) fn runs(&self) -> bool {
        self.address.kickoff()
    }

    /// Where it begins.
    pub(super) fn base(&self) -> GpuVa {
        GpuVa::from_page(self.address.page().into())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    pub(super) fn head(&self) -> u32 {
        self.head
    }

    pub(super) fn set_head(&mut self, head: u32) {
        self.head = head;
    }

    /// Where the next packet is, and how many dwords are there up to Tail or
    /// to the end of the ring.
    pub(super) fn next(&self) -> Result<(GpuVa, u32), CspErrorKind> {
        let &Self {
            size, head, tail, ..
        } = self;
        let aligned = (size | head | tail).is_multiple_of(4);
        if !aligned || head >= size || tail >= size {
            return Err(CspErrorKind::BadRing { size, head, tail });
        }
        let end = if tail > head { tail } else { size };
        let at = self.base().add(head.into());
        Ok((at, (end - head) / 4))
    }

    /// Moves Head on, from the end of the ring to its start. `dwords` is at
    /// most what [`Self::next`] said.
    pub(super) fn consume(&mut self, watch: impl Onlooker, dwords: u32) {
        self.head += dwords * 4;
        if self.head >= self.size && !watch.bends(Defect::HeadNotWrapped) {
            self.head = 0;
        }
    }
}
