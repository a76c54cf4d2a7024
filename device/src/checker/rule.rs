//! What a rule is.

use crate::checker::fact::Fact;
use crate::checker::log::Log;
use crate::checker::seen::Seen;

/// One rule with its state. A file of `rules/` holds it and its text.
pub(crate) trait Rule: Send {
    /// Is told of one fact. `seen` is what was so before it.
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>);

    /// Whether it is told of every access to memory, of which there are many.
    fn hears_accesses(&self) -> bool {
        false
    }
}
