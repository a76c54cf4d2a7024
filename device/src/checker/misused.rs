//! What several rules say of a register that is misused.

use crate::checker::fact::Fact;
use crate::checker::log::Log;
use crate::checker::report::Finding;
use crate::misuse::Misuse;
use e3k_regs::Reg;

/// Reports misuse of this kind. `words` says of a register, by its name, and the bits what
/// was done, and what would do.
pub(crate) fn judge(
    fact: &Fact<'_>,
    log: &Log<'_>,
    blamed: Misuse,
    words: impl FnOnce(Reg, &str, u32) -> (String, String),
) {
    let (reg, index, bits) = match *fact {
        Fact::Register(_) => return log.checked(),
        Fact::Misuse {
            reg,
            index,
            kind,
            bits,
        } if kind == blamed => (reg, index, bits),
        _ => return,
    };
    let name = reg.info().label(index).to_string();
    log.report(vec![("register", name.clone())], || {
        let (now, would_do) = words(reg, &name, bits);
        Finding {
            now,
            before: None,
            history: Vec::new(),
            would_do,
        }
    });
}
