//! 60011: a copy or fill uses surfaces that another submission set.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use e3k_regs::packet::{SgCommand, block, ff};

pub(super) static TEXT: Text = Text {
    id: RuleId(60011),
    title: "a copy or fill uses surfaces that another submission set",
    what: "A copy or fill begins, and its render targets (address, format, size and misc words of \
           target 0, of target 1 as well for a copy) were not all set since the Indicator before.",
    why: "The registers are those of whoever came last, perhaps another process: the copy goes \
           to its memory. A context switch changes them.",
    happened: "i915, \"Reapply ppgtt enabling after engine resets\" (2021-01), is of this kind: state \
           was taken for set.",
    mend: "Set all words of the targets in each submission, as known drivers do before every copy \
           (hardware reference 10.12).",
    limits: "Whether an Indicator changes registers of the colour pipe is not known. A context that \
           is loaded (Set_Register from memory, Restore) counts as set.",
    level: Level::Warn,
};

/// Words of targets 0 and 1 that matter: address, format, size, misc.
const TARGETS: [[u16; 4]; 2] = [words(0), words(1)];

const fn words(target: u16) -> [u16; 4] {
    let control = ff::rt_control(target);
    [
        ff::rt_address(target),
        control,
        control + 1,
        ff::rt_misc(target),
    ]
}

/// A bit for each word that was set since the Indicator.
#[derive(Default)]
pub(super) struct State {
    set: [u8; 2],
    since: u64,
}

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let command = match fact {
            Fact::Packet(command) if command.ring == 0 => command,
            Fact::Reset => return *self = Self::default(),
            _ => return,
        };
        if command.indicator().is_some() {
            *self = Self {
                set: [0; 2],
                since: seen.at,
            };
        }
        if command.restores() {
            self.set = [0xf; 2];
        }
        if let Some((block::FF, words)) = command.sets() {
            for (set, target) in self.set.iter_mut().zip(TARGETS) {
                for (bit, word) in target.into_iter().enumerate() {
                    *set |= u8::from(words.contains(&word.into())) << bit;
                }
            }
        }
        let Some(draw) = command.draw() else {
            return;
        };
        // What was before the first Indicator is not known.
        if self.since == 0 {
            return;
        }
        log.checked();
        let needed = if draw.action() == SgCommand::BLIT {
            2
        } else {
            1
        };
        let Some(target) = self.set[..needed].iter().position(|set| *set != 0xf) else {
            return;
        };
        log.report(
            vec![("ring", "0".into()), ("target", target.to_string())],
            || Finding {
                now: format!(
                    "{}: a copy or fill, and render target {target} is not set",
                    command.place()
                ),
                before: Some((self.since, "the submission began".into())),
                history: Vec::new(),
                would_do: format!("words {:#x?} of block 6 before it", TARGETS[target]),
            },
        );
    }
}
