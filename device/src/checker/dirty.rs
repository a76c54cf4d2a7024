//! What two rules say of dirty lines that the GPU reads, or writes under.

use crate::checker::fact::Fact;
use crate::checker::log::Log;
use crate::checker::report::Finding;

/// Reports an unsnooped read, or write, that meets dirty lines.
pub(crate) fn judge(fact: &Fact<'_>, log: &Log<'_>, write: bool) {
    let Fact::Unsnooped(met) = fact else {
        return;
    };
    if met.write != write {
        return;
    }
    log.checked();
    if let Some((line, stored)) = met.stored() {
        log.report(met.place(line), || Finding {
            now: met.words(),
            before: None,
            history: vec![stored],
            would_do: "a flush of these lines behind the last store and before the doorbell".into(),
        });
    }
}
