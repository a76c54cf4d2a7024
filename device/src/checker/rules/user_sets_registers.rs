//! 40001: a buffer of a process sets a register of the MMU, the crossbar or the rings.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use e3k_regs::packet::block;

pub(super) static TEXT: Text = Text {
    id: RuleId(40001),
    title: "a buffer of a process sets a register of the MMU, the crossbar or the rings",
    what: "In VA mode, a called buffer that runs with a process id other than 0 has a \
           Set_Register for block 12 or 18, or for the ring registers of block 0.",
    why: "Whoever may write L1 registers reads and writes all memory. The driver must not let \
           such packets pass from a process to the chip.",
    happened: "msm, \"Fix the bogus protect error\" (2026-02), is about the chip's own protection of \
           such registers.",
    mend: "Look through buffers of processes before they run, or copy only what is allowed.",
    limits: "Process id 0 is taken for the kernel's. PA mode has no processes, and is not judged. \
           Whether the chip has a protection of its own is not known; the model drops writes of \
           ring registers.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let Fact::Packet(command) = fact else {
            return;
        };
        let Some((to, words)) = command.sets() else {
            return;
        };
        let Some((ring, id)) = seen.of_process(command) else {
            return;
        };
        log.checked();
        let rings = [0x07..0x23, 0x180..0x18C];
        let of_ring = rings
            .iter()
            .any(|all| words.start < all.end && all.start < words.end);
        if words.is_empty()
            || !(to == block::MMU || to == block::MXU || to == block::CSP && of_ring)
        {
            return;
        }
        let place = vec![
            ("pid", id.to_string()),
            ("block", to.to_string()),
            ("word", format!("{:#x}", words.start)),
            ("ring", command.ring.to_string()),
        ];
        log.report(place, || Finding {
            now: format!(
                "{}, process id {id}, sets {} words of block {to} from word {:#x}",
                command.place(),
                words.len(),
                words.start
            ),
            before: ring
                .indicator
                .map(|(at, _)| (at, format!("the Indicator gave it process id {id}"))),
            history: ring.history(),
            would_do: "to refuse the buffer".into(),
        });
    }
}
