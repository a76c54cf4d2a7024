//! Who watches a GPU to break it.

use crate::defect::Defect;
use crate::mmu::access::Access;
use crate::mmu::look::Look;
use crate::watch::{Event, Watch};

/// A watch that gives a GPU chosen defects, and passes on what it is told.
///
/// A defect that shows once in several times counts them from when this is made, so the
/// same work always goes wrong in the same place.
#[derive(Default)]
pub struct Broken {
    /// Each with how often it could have shown since it last did.
    chosen: Vec<(Defect, u32)>,
    inner: Option<Box<dyn Watch>>,
}

impl Broken {
    /// With these defects.
    pub fn new(defects: impl IntoIterator<Item = Defect>) -> Self {
        let chosen = defects.into_iter().map(|defect| (defect, 0)).collect();
        let inner = None;
        Self { chosen, inner }
    }

    /// Beside somebody else.
    #[must_use]
    pub fn beside(self, inner: Option<Box<dyn Watch>>) -> Self {
        Self { inner, ..self }
    }
}

impl Watch for Broken {
    fn saw(&mut self, event: &Event<'_>, look: &Look<'_>) {
        if let Some(inner) = &mut self.inner {
            inner.saw(event, look);
        }
    }

    fn admits(&mut self, access: &Access, look: &Look<'_>) -> bool {
        let inner = self.inner.as_mut();
        inner.is_none_or(|inner| inner.admits(access, look))
    }

    fn bends(&mut self, defect: Defect) -> bool {
        let inner = self.inner.as_mut();
        let Some((_, times)) = self.chosen.iter_mut().find(|(chosen, _)| *chosen == defect) else {
            return inner.is_some_and(|inner| inner.bends(defect));
        };
        *times += 1;
        let shows = *times >= defect.every();
        if shows {
            *times = 0;
        }
        shows
    }
}
