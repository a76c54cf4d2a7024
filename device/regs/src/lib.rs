//! The e3k GPU as software sees it: register map, page-table entries and ring
//! packets, declared once. The model gives them behaviour, the driver uses them;
//! neither repeats a layout.
//!
//! "Hardware reference N" in these docs names a section of `docs/hardware.md`,
//! the project's clean-room description of the chip. Its marks of certainty are
//! kept in [`Mark`]: what is only inferred or unknown on silicon is listed with
//! our choice in `docs/model-choices.md`.
//!
//! Left out: displays beyond their counters and I2C lines, video cores beyond
//! their rings, DDR timing, drawing and compute packets.
#![no_std]
#![forbid(unsafe_code)]

pub mod addr;
pub mod block;
pub mod chip;
pub mod fields;
pub mod layout;
pub mod packet;
pub mod pte;
pub mod register;

pub use addr::{BusAddr, GpuVa, PAGE_SHIFT, PAGE_SIZE, VramOffset};
pub use chip::Chip;
pub use register::{Access, Mark, Reg, RegInfo};
