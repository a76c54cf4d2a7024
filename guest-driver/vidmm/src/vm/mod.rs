//! GPU address spaces: what is mapped where.
//!
//! Not here yet: the objects that mappings name.

mod slots;
mod space;
mod tables;
mod tree;

pub use slots::{Held, Slots};
pub use space::{Mapping, Op, Plan, Space};
pub use tables::{INVALID, TableMemory, Tables, Update};
