//! Which memory a buffer may live in, and who books it: places, managers,
//! resources. Nothing here touches contents, waits or evicts.

mod extent;
mod holes;
mod place;
mod policy;
mod range;
pub(crate) mod segments;

pub use extent::Extent;
pub use place::{Fit, Flags, Pass, Place, Window};
pub(crate) use policy::places;
pub use policy::{CreateFlags, CreateRequest, MAX_WINDOWS};
pub use range::RangeManager;
pub use segments::{Bus, SegmentId, SegmentInfo};
