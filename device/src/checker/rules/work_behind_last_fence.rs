//! 50003: a submission goes on behind its last fence.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};

pub(super) static TEXT: Text = Text {
    id: RuleId(50003),
    title: "a submission goes on behind its last fence",
    what: "A submission on ring 0 calls a buffer, copies or fills behind its last external fence, \
           and its Indicator off comes.",
    why: "The fence says that the submission is done. Its buffers are given away while that work \
           still runs.",
    happened: "i915, \"Flush xcs before tgl breadcrumbs\" (2020-11), is of this kind: the fence was \
           written before the work was through.",
    mend: "Put the fences behind everything else.",
    limits: "A submission without any fence is not judged: a later one's may cover it. A submission \
           is what lies between two Indicators in the ring.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State {
    /// The last fence of this submission.
    fenced: Option<(u64, String)>,
    /// The first work behind it.
    behind: Option<String>,
}

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let command = match fact {
            Fact::Packet(command) if command.ring == 0 && !command.in_buffer => command,
            Fact::Reset => return *self = Self::default(),
            _ => return,
        };
        if command.indicator().is_some() {
            let Self { fenced, behind } = std::mem::take(self);
            let Some((at, fence)) = fenced else {
                return;
            };
            log.checked();
            if let Some(behind) = behind {
                log.report(vec![("ring", "0".into())], || Finding {
                    now: format!("the submission ends, with {behind} behind its last fence"),
                    before: Some((at, format!("its last fence, {fence}"))),
                    history: seen.history(0),
                    would_do: "the fence behind that".into(),
                });
            }
        } else if command.external_fence().is_some() {
            *self = Self {
                fenced: Some((seen.at, command.place())),
                behind: None,
            };
        } else if command.call().is_some_and(|call| call.dwords() > 0) || command.draw().is_some() {
            self.behind.get_or_insert_with(|| command.place());
        }
    }
}
