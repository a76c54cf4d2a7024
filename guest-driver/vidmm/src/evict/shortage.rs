//! What there is to say when a buffer found no room.

use super::mm::Mm;
use super::object::Info;
use super::report::TypeReport;
use super::world::World;
use crate::bo::pool::SmallLock;
use crate::placement::{Flags, MAX_WINDOWS, Place, SegmentId, Window};
use core::fmt;

/// A request, and each memory type that it names, at one moment. It is a value, so that
/// who prints it decides when and how often.
///
/// ```text
/// 16 pages at multiples of 1, wanted at
///   local-visible, in one piece
/// local-visible: 131072 bytes, clients 24576, kernel 20480, free 86016 (...)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// What was to be placed.
    pub info: Info,
    /// Where: as many places as a request of an application can name.
    places: [Option<Place>; MAX_WINDOWS],
    left_out: usize,
    types: [Option<TypeReport>; SegmentId::COUNT],
}

impl Shortage {
    /// The memory types that were asked, each once.
    pub fn types(&self) -> impl Iterator<Item = &TypeReport> {
        self.types.iter().flatten()
    }
}

impl<W: World + 'static> Mm<W> {
    /// What to print when [`Self::validate`] or [`Self::create`] has said that there is no
    /// room at these places. It looks at every buffer once for each memory type: for
    /// people, not for every refusal.
    pub fn shortage(&self, info: &Info, placement: &[Place]) -> Shortage {
        let mut places = [None; MAX_WINDOWS];
        for (place, of) in places.iter_mut().zip(placement) {
            *place = Some(*of);
        }
        let named = |segment| placement.iter().any(|place| place.segment == segment);
        let types = self.state.with(|state| {
            SegmentId::TYPES.map(|segment| named(segment).then(|| state.type_report(segment)))
        });
        Shortage {
            info: *info,
            places,
            left_out: placement.len().saturating_sub(MAX_WINDOWS),
            types,
        }
    }
}

/// The flags of a place, in words.
const WORDS: [(Flags, &str); 5] = [
    (Flags::CONTIGUOUS, "in one piece"),
    (Flags::TOPDOWN, "high"),
    (Flags::TEMPORARY, "for a while"),
    (Flags::DESIRED, "if nobody has to leave"),
    (Flags::FALLBACK, "if all else fails"),
];

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Info { pages, align, .. } = self.info;
        writeln!(f, "{pages} pages at multiples of {align}, wanted at")?;
        for place in self.places.iter().flatten() {
            write!(f, "  {}", place.segment.name())?;
            if place.window != Window::ALL {
                let Window {
                    first_page,
                    last_page,
                } = place.window;
                write!(f, ", pages {first_page} to {last_page}")?;
            }
            for (_, word) in WORDS.iter().filter(|(flag, _)| place.flags.has(*flag)) {
                write!(f, ", {word}")?;
            }
            writeln!(f)?;
        }
        if self.left_out > 0 {
            writeln!(f, "  and at {} more", self.left_out)?;
        }
        self.types().try_for_each(|it| writeln!(f, "{it}"))
    }
}
