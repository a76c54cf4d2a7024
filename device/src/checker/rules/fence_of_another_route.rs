//! 50002: a fence does not wait for the copy before it.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use e3k_regs::packet;

pub(super) static TEXT: Text = Text {
    id: RuleId(50002),
    title: "a fence does not wait for the copy before it",
    what: "A submission of ring 0 copies or fills, and a fence of it in the ring has a route that \
           is neither the colour pipe (2) nor the L2 cache (7) behind it.",
    why: "A fence waits for the unit of its route only. With another route it may come before \
           the data is in memory, and whoever waits for it reads old data.",
    happened: "i915, \"Flush xcs before tgl breadcrumbs\" (2020-11).",
    mend: "Give fences behind copies and fills route 2.",
    limits: "Everything on a ring of the model is in order, so nothing is seen to break here \
           (docs/model-choices.md). That route 7 covers the colour pipe is a guess in the \
           driver's favour. A Wait packet behind the copy is taken for one that waits for it. A \
           submission is what lies between two Indicators; what a buffer draws \
           counts, wherever it was called from.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State {
    /// The last copy or fill since the Indicator, and its event.
    drawn: Option<(u64, String)>,
}

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let command = match fact {
            Fact::Packet(command) if command.ring == 0 => command,
            Fact::Reset => return self.drawn = None,
            _ => return,
        };
        if command.indicator().is_some() || command.is_wait() {
            self.drawn = None;
        } else if command.draw().is_some() {
            self.drawn = Some((seen.at, command.place()));
        }
        let (Some(fence), Some((at, drawn))) = (command.external_fence(), &self.drawn) else {
            return;
        };
        if command.in_buffer {
            return;
        }
        log.checked();
        let route = fence.route();
        if route == packet::Fence::ROUTE_COLOUR || route == L2 {
            return;
        }
        log.report(
            vec![("ring", "0".into()), ("route", route.to_string())],
            || Finding {
                now: format!("{}: a fence with route {route}", command.place()),
                before: Some((*at, format!("a copy or fill before it, {drawn}"))),
                history: Vec::new(),
                would_do: "route 2".into(),
            },
        );
    }
}

/// Route of the L2 cache (hardware reference 10.4).
const L2: u8 = 7;
