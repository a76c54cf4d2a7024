//! Compression ("BL") flags: bytes in a part of VRAM that 0x4900C names
//! (hardware reference 8.4, 10.6). They are storage: nothing is compressed.

use crate::index::index;
use crate::memory::Vram;
use crate::saved::csp as saved;
use crate::saved::{Damage, ensure};
use e3k_regs::addr::ADDRESS_BITS;
use e3k_regs::fields::BlSize;
use e3k_regs::packet::{ClearFlags, FlagValues};
use e3k_regs::{GpuVa, PAGE_SIZE, VramOffset};

/// A clear of flags, as far as it has not been done.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlagClear {
    at: u64,
    end: u64,
    /// The flag byte.
    value: u8,
    /// Which bits are written, byte by byte of each dword.
    mask: [u8; 4],
}

impl FlagClear {
    /// The part of the packet's range that lies in the flag buffer.
    pub(super) fn new(
        buffer: BlSize,
        header: ClearFlags,
        start_low: u32,
        values: FlagValues,
        mask: u32,
    ) -> Self {
        let buffer_at = u64::from(buffer.offset()) << 16;
        let buffer_bytes = (8 << 20) << buffer.size();
        let start = GpuVa::from_parts(start_low, values.high()).0;
        let end = start + u64::from(header.bytes());
        Self {
            at: start.max(buffer_at),
            end: end.min(buffer_at + buffer_bytes),
            value: values.value1() << 4 | values.value0(),
            mask: mask.to_le_bytes(),
        }
    }

    pub(super) fn save(self) -> saved::FlagClear {
        let Self {
            at,
            end,
            value,
            mask,
        } = self;
        saved::FlagClear {
            at,
            end,
            value,
            mask,
        }
    }

    /// # Errors
    /// Its range ends behind all addresses, or is longer than a packet can say.
    pub(super) fn restore(saved: saved::FlagClear) -> Result<Self, Damage> {
        let saved::FlagClear {
            at,
            end,
            value,
            mask,
        } = saved;
        let in_range = at.max(end) >> (ADDRESS_BITS + 1) == 0 && end.saturating_sub(at) < 1 << 17;
        ensure(in_range, || {
            format!("a clear of flags from {at:#x} to {end:#x}, which no packet says")
        })?;
        Ok(Self {
            at,
            end,
            value,
            mask,
        })
    }

    /// Where the next piece is, which lies in one page, and its bytes.
    pub(super) fn piece(&self) -> (VramOffset, u64) {
        let in_page = PAGE_SIZE - self.at % PAGE_SIZE;
        let bytes = self.end.saturating_sub(self.at).min(in_page);
        (VramOffset(self.at), bytes)
    }

    /// Does that piece. Returns its bytes, and whether all is done.
    pub(super) fn advance(&mut self, vram: &Vram) -> (u64, bool) {
        let mut page = [0; index(PAGE_SIZE)];
        let (_, len) = self.piece();
        let piece = &mut page[..index(len)];
        // Flags beyond the end of VRAM are nowhere.
        if vram.read(VramOffset(self.at), piece).is_ok() {
            for (byte, at) in piece.iter_mut().zip(self.at..) {
                let mask = self.mask[index(at % 4)];
                *byte = *byte & !mask | self.value & mask;
            }
            let _in_vram = vram.write(VramOffset(self.at), piece);
        }
        self.at += len;
        (len, self.at >= self.end)
    }
}
