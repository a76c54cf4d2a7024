//! 70002: ones in reserved bits of a register.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::misused;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::misuse::Misuse;

pub(super) static TEXT: Text = Text {
    id: RuleId(70002),
    title: "ones in reserved bits of a register",
    what: "A one is written to a bit that the reference calls reserved, over the bus or by a \
           packet.",
    why: "What the bit does is nobody's promise, and differs between chips.",
    happened: "amdgpu, \"set snoop bit in pde/pte entries\" (2021-02), is of this kind: a bit had \
           another meaning on another chip.",
    mend: "Write zeros there. If the whole value is shifted, the field is another: `presil regs \
           NAME=VALUE` decodes it.",
    limits: "As far as registers are declared (docs/registers.md). The model stores the bits.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, _: &Seen, log: &Log<'_>) {
        misused::judge(fact, log, Misuse::Reserved, |_, name, bits| {
            (
                format!("{name} is written with ones in reserved bits {bits:#x}"),
                format!("zeros in {bits:#x}"),
            )
        });
    }
}
