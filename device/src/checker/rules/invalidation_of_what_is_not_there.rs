//! 10006: an invalidation had nothing to invalidate.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};

pub(super) static TEXT: Text = Text {
    id: RuleId(10006),
    title: "an invalidation had nothing to invalidate",
    what: "An invalidation drops no entry of any TLB.",
    why: "It costs time, and it may be the wrong one.",
    happened: "xe, \"Use ring ops TLB invalidation for rebinds\" (2024-03).",
    mend: "Leave it out where an entry only became valid: invalid entries are never kept.",
    limits: "It is off unless asked for: a driver cannot know what a TLB holds.",
    level: Level::Off,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, _: &Seen, log: &Log<'_>) {
        let Fact::Invalidated { what, dropped, .. } = fact else {
            return;
        };
        log.checked();
        if *dropped > 0 {
            return;
        }
        let place = vec![
            ("page", format!("{:#x}", what.page)),
            ("mask", format!("{:#x}", what.page_mask)),
        ];
        log.report(place, || Finding {
            now: format!(
                "an invalidation of page {:#x} under {:#x}",
                what.page, what.page_mask
            ),
            before: None,
            history: Vec::new(),
            would_do: "nothing".into(),
        });
    }
}
