//! The driver checker: a [`Watch`](crate::Watch) that judges what a *driver* does to
//! rings, fences, registers, page tables and TLBs, and says what silicon would have
//! punished later or elsewhere (docs/checker.md; one page a rule in docs/rules/).
//!
//! ```
//! use presil_device::checker::{Checker, Options};
//! use presil_device::{Chip, Config, Gpu, NoInterrupts, Width};
//!
//! let options = Options {
//!     levels: "60001=off,7=fault".parse()?,
//!     suppressions: "70001 register=TOP_BUSY # its firmware does it".parse()?,
//! };
//! let config = Config::new(Chip::Arise10c0, 256 << 20, 256 << 20, true)?;
//! let mut gpu = Gpu::new(&config, Box::new(NoInterrupts))?;
//! let checker = Checker::new(&options);
//! let reports = checker.reports();
//! gpu.set_watch(Some(Box::new(checker)));
//!
//! gpu.write(0x300A4, Width::B4, 1); // the clock is read-only
//!
//! gpu.set_watch(None); // what only the end can tell is told now
//! let found = reports.list();
//! assert_eq!(found[0].rule.to_string(), "70001");
//! assert!(found[0].line().ends_with("level=fault event=2 count=1 register=CSP_TIMESTAMP.LOW"));
//! assert!(reports.summary().rules.len() >= 30);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Reports`] is a handle that may be cloned and read at any time, from any thread;
//! [`Report`] and [`Summary`] are `serde::Serialize`. [`texts`] has every rule's text,
//! [`Text::page`] its page of documentation. The checker is deterministic: the same
//! events, the same reports. What it keeps is bounded (docs/checker.md).

mod cache_lines;
mod caches;
mod criteria;
mod dirty;
mod fact;
mod halted;
mod held;
mod kernel;
mod level;
mod levels;
mod log;
mod misused;
mod owners;
mod padding;
mod path;
mod queued;
mod report;
mod rule;
mod rules;
mod seen;
mod stale;
mod suppression;
mod suppressions;
mod text;
mod tlbs;
mod unmapped;
mod unsnooped;
mod watcher;

pub use cache_lines::{CacheLines, Follows, LINE_BYTES, OldLoad};
pub use level::Level;
pub use levels::{Levels, LevelsError};
pub use log::Reports;
pub use report::{Report, RuleSummary, Summary, Unwatched};
pub use rules::{index, text, texts};
pub use suppression::Suppression;
pub use suppressions::{Suppressions, SuppressionsError};
pub use text::{Group, RuleId, Text};
pub use watcher::{Checker, Options};
