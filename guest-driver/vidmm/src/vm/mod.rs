//! GPU address spaces: what is mapped where.
//!
//! [`Spaces`] has them all, with the buffers that they map; [`Space`] is the mappings of
//! one, [`Tables`] its page tables, [`Slots`] are the process ids that they take turns in.

mod address_space;
mod jobs;
mod registry;
mod slots;
mod space;
mod spaces;
mod tables;
mod tree;
mod update;

pub use address_space::SpaceMemory;
pub use registry::{Registry, SpaceId};
pub use slots::{Held, Slots, Turn, Wait};
pub use space::{Mapping, Op, Plan, Space};
pub use spaces::Spaces;
pub use tables::{INVALID, TableMemory, Tables};
pub use update::Update;
