//! What a rule says of itself: one place for `presil explain`, docs/rules/ and reports.

use crate::checker::level::Level;
use serde::{Serialize, Serializer};
use std::fmt::{self, Write as _};

/// The number of a rule: five digits, never given to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:05}", self.0)
    }
}

impl Serialize for RuleId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

/// What a rule is about: the first digit of its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group(pub u32);

impl Group {
    /// In a word or two; `None` for a digit that stands for no group.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            1 => "translation",
            2 => "lifetime",
            3 => "data",
            4 => "protection",
            5 => "fences",
            6 => "rings",
            7 => "interrupts, reset, configuration",
            _ => return None,
        })
    }
}

/// The text of a rule.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// Its number.
    pub id: RuleId,
    /// What a driver did, in a few words.
    pub title: &'static str,
    /// When it reports.
    pub what: &'static str,
    /// Why that matters on silicon.
    pub why: &'static str,
    /// A bug of this kind that a public driver had, by the title of its fix.
    pub happened: &'static str,
    /// How to mend it.
    pub mend: &'static str,
    /// What it does not see, and where the chip's reference leaves open whether this is
    /// wrong at all.
    pub limits: &'static str,
    /// Its level unless somebody chooses.
    pub level: Level,
}

impl Text {
    /// The first digit of its number.
    pub const fn group(&self) -> Group {
        Group(self.id.0 / 10_000)
    }

    /// Its page in docs/rules/, Markdown.
    pub fn page(&self) -> String {
        let Self {
            id,
            title,
            what,
            why,
            happened,
            mend,
            limits,
            level,
        } = self;
        let group = self.group().name().unwrap_or("of no group");
        format!(
            "# {id}: {title}\n\n\
             <!-- Generated: cargo run -p presil-device --example rules docs/rules. A test compares. -->\n\n\
             Group {}, {group}. Level unless chosen otherwise: {level}.\n\n\
             ## When it reports\n\n{what}\n\n\
             ## Why it matters on silicon\n\n{why}\n\n\
             ## It happened\n\n{happened}\n\n\
             ## How to mend it\n\n{mend}\n\n\
             ## Limits\n\n{limits}\n",
            self.group().0
        )
    }
}

/// The list of all pages in docs/rules/, Markdown.
pub(crate) fn index<'a>(texts: impl Iterator<Item = &'a Text>) -> String {
    let mut page = "# Rules of the driver checker\n\n\
         <!-- Generated: cargo run -p presil-device --example rules docs/rules. A test compares. -->\n\n\
         [checker.md](../checker.md) says what the checker is and how it is asked.\n"
        .to_owned();
    let mut last = None;
    for text in texts {
        let group = text.group();
        if last != Some(group) {
            last = Some(group);
            let name = group.name().unwrap_or("of no group");
            let head = "| Rule | It reports |\n|---|---|";
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(page, "\n## {}: {name}\n\n{head}", group.0);
        }
        let off = if text.level == Level::Off {
            " (off unless asked for)"
        } else {
            ""
        };
        let _ = writeln!(page, "| [{0}]({0}.md) | {1}{off} |", text.id, text.title);
    }
    page
}
