//! What several rules say of a ring that halted at a packet.

use crate::checker::fact::Fact;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::checker::seen::Seen;
use crate::csp::error::CspError;

/// Reports a ring error that `blames` the driver.
pub(crate) fn judge(
    fact: &Fact<'_>,
    seen: &Seen,
    log: &Log<'_>,
    blames: impl FnOnce(&CspError) -> bool,
    would_do: &str,
) {
    let error = match fact {
        Fact::Halted(error) => error,
        Fact::Packet(_) => return log.checked(),
        _ => return,
    };
    log.checked();
    if !blames(error) {
        return;
    }
    let place = vec![
        ("ring", error.ring.to_string()),
        ("dword", format!("{:#010x}", error.dword)),
    ];
    log.report(place, || Finding {
        now: error.to_string(),
        before: None,
        history: seen.history(error.ring.into()),
        would_do: would_do.into(),
    });
}
