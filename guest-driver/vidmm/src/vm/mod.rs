//! GPU address spaces: what is mapped where.
//!
//! Not here yet: page tables, the objects that mappings name.

mod slots;
mod space;
mod tree;

pub use slots::{Held, Slots};
pub use space::{Mapping, Op, Plan, Space};
