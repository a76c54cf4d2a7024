//! GPU address spaces: what is mapped where.
//!
//! Not here yet: page tables, process-id slots, the objects that mappings name.

mod space;
mod tree;

pub use space::{Mapping, Op, Plan, Space};
