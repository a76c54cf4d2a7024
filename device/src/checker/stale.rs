//! What several rules say of a stale use: which of them it is for, and its words.

use crate::checker::fact::Fact;
use crate::checker::held::Missed;
use crate::checker::log::Log;
use crate::checker::path::leads_to;
use crate::checker::report::{Finding, Place};
use crate::checker::tlbs::StaleUse;
use crate::mmu::access::{Access, Hit};

/// What made an entry stale, or kept it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Its own entry changed, and nobody invalidated.
    Page,
    /// An L2 entry changed.
    UpperLevel,
    /// An L1 register changed.
    Space,
    /// An invalidation was for something else.
    Elsewhere,
    /// An invalidation was for a part of it.
    Part,
}

impl Reason {
    fn of(used: &StaleUse) -> Self {
        let missed = || used.change.missed.iter().flatten().map(|(_, how)| *how);
        if missed().any(|how| how == Missed::Part) {
            return Self::Part;
        }
        if missed().next().is_some() {
            return Self::Elsewhere;
        }
        match used.change.level {
            1 => Self::Space,
            2 => Self::UpperLevel,
            _ => Self::Page,
        }
    }
}

/// Reports a stale use whose entry is stale for this reason.
pub(crate) fn judge(fact: &Fact<'_>, log: &Log<'_>, reason: Reason) {
    match fact {
        Fact::Doorbell => log.checked(),
        Fact::Stale(access, used) if Reason::of(used) == reason => {
            log.report(place(access, used), || finding(access, used));
        }
        _ => {}
    }
}

fn place(access: &Access, used: &StaleUse) -> Place {
    vec![
        ("pid", access.process_id.to_string()),
        ("va", format!("{:#x}", used.va.0)),
        ("client", access.client.name().replace(' ', "-")),
        ("ring", access.ring.to_string()),
    ]
}

fn leads(entry: Option<u32>) -> String {
    match entry.and_then(leads_to) {
        Some(target) => target.to_string(),
        None => "nothing valid".into(),
    }
}

fn finding(access: &Access, used: &StaleUse) -> Finding {
    let change = &used.change;
    let tlb = if access.by == Hit::Utlb {
        "its own TLB"
    } else {
        "the shared TLB"
    };
    let how = if access.write { "writes" } else { "reads" };
    let (first, last) = change.between;
    let missed = change.missed.iter().flatten().map(|(at, how)| {
        let what = match how {
            Missed::Unit => "other TLBs",
            Missed::Process => "another process id",
            Missed::Page => "other pages",
            Missed::Part => "a part of what had changed",
        };
        format!("an invalidation of {what} at event {at}")
    });
    let doorbell = change.doorbell.unwrap_or(last);
    Finding {
        now: format!(
            "{} {how} {} at {}, process id {}, ring {} offset {:#x}, through an entry of {tlb}",
            access.client.name(),
            leads(Some(used.entry)),
            used.va,
            access.process_id,
            access.ring,
            access.ring_offset
        ),
        before: Some((
            doorbell,
            format!(
                "the tables say {}, since before this doorbell",
                leads(change.now)
            ),
        )),
        history: [
            format!("filled at event {}", used.filled),
            format!(
                "an entry of level {} changed between events {first} and {last}",
                change.level
            ),
        ]
        .into_iter()
        .chain(missed)
        .collect(),
        would_do: format!(
            "an invalidation of {:#x} for process id {} in the DTLB and the UTLBs before event {doorbell}",
            used.va.0 & !0xffff,
            access.process_id
        ),
    }
}
