//! The Rust half of `presil.ko`. The memory manager is the crate `vidmm`; here
//! are the kernel under it (`os`) and the functions that the C shim calls
//! (`entry`). What both sides agree on is `glue.h` and `glue`.
//!
//! Built for no operating system only, by `scripts/support/building/module.py`.
#![no_std]

extern crate alloc;

mod bench;
mod entry;
mod glue;
mod log;
mod memory;
mod os;
mod report;

use core::panic::PanicInfo;

/// A panic is a bug of ours: it says where, and ends the calling process. A
/// lock that it holds stays held. (`cargo doc --workspace` has `std`'s handler.)
#[cfg_attr(not(doc), panic_handler)]
fn panic(info: &PanicInfo<'_>) -> ! {
    log::line(glue::Level::Error, format_args!("{info}"));
    // SAFETY: BUG() takes nothing and may be called anywhere.
    unsafe { glue::presil_bug() }
}
