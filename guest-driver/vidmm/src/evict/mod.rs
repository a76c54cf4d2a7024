//! Making room: which memory is given up first, and how it is given up.
//!
//! [`Mm`] has the books of all buffers. One small lock lies around them; nobody
//! waits, copies or asks the system for pages under it. What a buffer is made of
//! changes only while its reservation is held. [`crate::OnChip`] is it on the chip, which the running driver does not use yet.

mod accounts;
mod attempt;
mod budget;
mod cause;
#[cfg(test)]
pub(crate) mod check;
mod destroy;
mod drain;
mod fault;
mod ghost;
mod give;
mod hunt;
pub mod lru;
mod mapping;
mod mm;
mod moves;
mod object;
mod options;
mod picture;
mod place;
mod plan;
mod promote;
mod purge;
mod ram;
mod report;
mod shortage;
mod sleep;
mod state;
mod touch;
mod used;
mod victim;
mod world;

pub use budget::{Balance, Budget, OwnerId};
pub use cause::{Cause, Step};
pub use fault::{Page, Run};
pub use mm::{Context, Mm};
pub use object::Info;
pub use options::Options;
pub use promote::Promotion;
pub use report::{Counters, RamReport, Report, Traffic, TypeReport};
pub use shortage::Shortage;
pub use state::State;
pub use used::Used;
pub use world::{BlockOf, COPY_RINGS, FenceOf, GpuPage, ReservationOf, Side, World};
