//! 10004: an invalidation was for a part of what had changed.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::stale::{self, Reason};
use crate::checker::text::{RuleId, Text};

pub(super) static TEXT: Text = Text {
    id: RuleId(10004),
    title: "an invalidation was for a part of what had changed",
    what: "An access is answered by a stale TLB entry, and since the tables changed an \
           invalidation dropped other changed entries of the same process.",
    why: "The end of the range goes on through old translations.",
    happened: "amdgpu, \"Fix GPU TLB update error when PAGE_SIZE > AMDGPU_PAGE_SIZE\" (2021-05).",
    mend: "Invalidate from the first to the last page that was changed. PT_INV_MASK names aligned \
           powers of two: a range that crosses one needs a wider mask, or several invalidations.",
    limits: "Two changes, of which one was invalidated, look the same. Tables are compared at \
           doorbells and invalidations. What changed behind the last doorbell may still be under \
           way and is not reported; a page that was only unmapped is reported from the second \
           doorbell on. 384 lines of the shared TLB \
           and 256 of the clients' own ones are \
           remembered; with larger TLBs some uses are missed.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, _: &Seen, log: &Log<'_>) {
        stale::judge(fact, log, Reason::Part);
    }
}
