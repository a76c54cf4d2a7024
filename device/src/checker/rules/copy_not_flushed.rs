//! 60014: a copy or fill is not flushed out of the colour cache.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};

pub(super) static TEXT: Text = Text {
    id: RuleId(60014),
    title: "a copy or fill is not flushed out of the colour cache",
    what: "A submission on ring 0 copies or fills, and an external fence follows without a flush \
           of the FF block (type 0) in between.",
    why: "The data may still be in the colour cache when the fence says that it is in memory.",
    happened: "i915, \"Flush xcs before tgl breadcrumbs\" (2020-11).",
    mend: "Put the flush, and the invalidation known drivers send with it, behind each copy, or a \
           cache-flush buffer behind the commands (hardware reference 10.11, 10.12).",
    limits: "It is off unless asked for: whether a fence with route 2 flushes by itself is not \
           known. The model has no such cache.",
    level: Level::Off,
};

#[derive(Default)]
pub(super) struct State {
    drawn: Option<(u64, String)>,
}

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let command = match fact {
            Fact::Packet(command) if command.ring == 0 => command,
            Fact::Reset => return self.drawn = None,
            _ => return,
        };
        if command.draw().is_some() {
            self.drawn = Some((seen.at, command.place()));
        } else if command.flushes_colour() {
            self.drawn = None;
        }
        if command.external_fence().is_none() {
            return;
        }
        log.checked();
        let Some((at, drawn)) = self.drawn.take() else {
            return;
        };
        log.report(vec![("ring", "0".into())], || Finding {
            now: format!("{}: a fence", command.place()),
            before: Some((
                at,
                format!("a copy or fill without a flush behind it, {drawn}"),
            )),
            history: Vec::new(),
            would_do: "a flush of block 6 (0x93000000) between them".into(),
        });
    }
}
