//! 10022: an invalidation of the DTLB names pages inside a line.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use e3k_regs::Reg;

pub(super) static TEXT: Text = Text {
    id: RuleId(10022),
    title: "an invalidation of the DTLB names pages inside a line",
    what: "The DTLB is invalidated, and PT_INV_MASK compares one of the low four bits of the page \
           number, which is 1 in PT_INV_ADDR.",
    why: "A line of the DTLB holds 16 pages and is known by the number of its first, whose low \
           four bits are 0. By the reference's rule, (line & mask) == (address & mask), no line \
           agrees: nothing is invalidated.",
    happened: "amdgpu, \"Fix GPU TLB update error when PAGE_SIZE > AMDGPU_PAGE_SIZE\" (2021-05), is \
           of this kind: pages of the wrong size were invalidated.",
    mend: "Clear the low four bits of PT_INV_ADDR and PT_INV_MASK: Address = (va >> 16) << 4.",
    limits: "The model does not compare these bits, and drops the whole line \
           (docs/model-choices.md); known drivers always leave them 0. UTLBs hold single pages and are not \
           judged.",
    level: Level::Warn,
};

/// Pages of a line (hardware reference 5).
const LINE_PAGES: u32 = 16;

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, seen: &Seen, log: &Log<'_>) {
        let Fact::Register(written) = fact else {
            return;
        };
        if written.reg != Reg::PtInvTrig || written.value >> 5 & 3 != 2 {
            return;
        }
        let known = (seen.register(Reg::PtInvAddr), seen.register(Reg::PtInvMask));
        let (Some(address), Some(mask)) = known else {
            return;
        };
        log.checked();
        if address & mask & (LINE_PAGES - 1) == 0 {
            return;
        }
        log.report(vec![("page", format!("{:#x}", address & 0xfff_ffff))], || Finding {
            now: format!("the DTLB is invalidated with PT_INV_ADDR = {address:#x}, PT_INV_MASK = {mask:#x}"),
            before: None,
            history: Vec::new(),
            would_do: format!(
                "PT_INV_ADDR = {:#x}, PT_INV_MASK = {:#x}",
                address & !0xf,
                mask & !0xf
            ),
        });
    }
}
