//! Which memory a buffer may live in, and who books it: places, managers,
//! resources. Nothing here touches contents, waits or evicts.

mod booking;
mod buddy;
mod extent;
mod holes;
mod manager;
pub mod picture;
mod place;
mod policy;
mod range;
pub(crate) mod segments;
mod system;
#[cfg(test)]
mod tests;

pub use booking::{Booking, NoFence, Resource};
pub use buddy::{Buddy, Options as BuddyOptions, Stats as BuddyStats};
pub use extent::Extent;
pub(crate) use manager::is_at;
pub use manager::{Freed, Managers, Request, ResourceManager, book, good_enough};
pub use place::{Fit, Flags, Pass, Place, Window};
pub(crate) use policy::places;
pub use policy::{CreateFlags, CreateRequest, MAX_WINDOWS, PARKED};
pub use range::RangeManager;
pub(crate) use segments::leads_back;
pub use segments::{Bus, SegmentId, SegmentInfo};
pub use system::SystemManager;
