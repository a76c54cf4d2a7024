//! Who may touch what, and when: fences, reservations, tickets, and what the
//! running driver has of them today.
//!
//! The layers above ask [`Primitives`] for locks, fences and waits. In the kernel
//! these are `dma_resv`, `ww_acquire_ctx` and `dma_fence`; [`portable`] is the same
//! in plain Rust, for threads of a host and for a single thread without any. All
//! else here is written once for both: the [`Caller`] who holds nothing yet, the
//! [`Locked`] reservation as proof, the [`LockSet`] that backs off, the
//! [`FenceContext`] that ends its fences in order.
//!
//! The running driver uses `timeline` and `ends` alone; [`crate::OnChip`] the others.

pub(crate) mod ends;
pub mod fence;
pub mod lockset;
pub mod portable;
pub mod primitives;
pub mod reservation;
pub(crate) mod timeline;

pub use fence::{FenceContext, FenceError, FenceResult};
pub use lockset::{LockSet, Victim};
pub use primitives::{Deadline, Primitives};
pub use reservation::{Caller, Guard, Locked, Usage};
