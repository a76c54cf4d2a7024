//! 30002: a process reads VRAM that nobody ever wrote.

use crate::checker::fact::Fact;
use crate::checker::level::Level;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::rule::Rule;
use crate::checker::seen::Seen;
use crate::checker::text::{RuleId, Text};
use crate::memory::Target;
use e3k_regs::VramOffset;
use e3k_regs::fields::FaultClient;

pub(super) static TEXT: Text = Text {
    id: RuleId(30002),
    title: "a process reads VRAM that nobody ever wrote",
    what: "In VA mode, a copy for a process id other than 0 reads VRAM that still is as it was at power-on.",
    why: "VRAM keeps what was in it before the driver came: another boot, another guest, another user. Uncleared memory hands that on.",
    happened: "amdgpu, \"always allocate cleared VRAM for GEM allocations\" (2024-03).",
    mend: "Clear VRAM before a process gets it, or fill it with its contents.",
    limits: "Process id 0 is taken for the kernel's. Of each 4 KiB page the first and the last 8 bytes that are read are looked at. Needs VRAM with a pattern (--vram-seed, which scripts/run has); else it has nothing to judge. A word that was written with its own pattern counts as not written.",
    level: Level::Warn,
};

#[derive(Default)]
pub(super) struct State;

impl Rule for State {
    fn saw(&mut self, fact: &Fact<'_>, _: &Seen, log: &Log<'_>) {
        let Fact::Access(access, look) = fact else {
            return;
        };
        let Target::Vram(at) = access.target else {
            return;
        };
        let fetches = [FaultClient::RingFetch, FaultClient::BufferFetch];
        if access.write || access.process_id == 0 || fetches.contains(&access.client) {
            return;
        }
        if look.vram().is_untouched(at).is_none() {
            return;
        }
        log.checked();
        let last = at.0.saturating_add(access.bytes.max(1) - 1);
        let mut ends = (at.page()..=last >> 12).flat_map(|page| {
            let page = page << 12;
            [page.max(at.0), (page | 0xfff).min(last)]
        });
        let Some(unwritten) =
            ends.find(|at| look.vram().is_untouched(VramOffset(*at)) == Some(true))
        else {
            return;
        };
        let va = access.va.add(unwritten - at.0);
        let place = vec![
            ("pid", access.process_id.to_string()),
            ("va", format!("{:#x}", va.0 & !0xfff)),
            ("client", access.client.name().replace(' ', "-")),
        ];
        log.report(place, || Finding {
            now: format!(
                "{} reads {} at {va}, process id {}, ring {} offset {:#x}, which nobody has written since power-on",
                access.client.name(),
                VramOffset(unwritten),
                access.process_id,
                access.ring,
                access.ring_offset
            ),
            before: None,
            history: Vec::new(),
            would_do: "a fill of the page before the process gets it".into(),
        });
    }

    fn hears_accesses(&self) -> bool {
        true
    }
}
