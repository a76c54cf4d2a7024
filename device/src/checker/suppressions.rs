//! Findings that are known: by rule and place, each with a reason.

use crate::checker::rules::text;
use crate::checker::suppression::Suppression;
use crate::checker::text::RuleId;
use std::str::FromStr;

/// All suppressions of a run, in the order of the file. Empty lines, and lines that
/// begin with `#`, say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suppressions(pub Vec<Suppression>);

/// Why a line of suppressions is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what} (a suppression is `RULE [KEY=VALUE ...] # REASON`)")]
pub struct SuppressionsError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl FromStr for Suppressions {
    type Err = SuppressionsError;

    fn from_str(file: &str) -> Result<Self, SuppressionsError> {
        let lines = file
            .lines()
            .zip(1..)
            .map(|(text, line)| (text.trim(), line));
        let lines = lines.filter(|(text, _)| !text.is_empty() && !text.starts_with('#'));
        let parsed =
            lines.map(|(text, line)| parse(text).map_err(|what| SuppressionsError { line, what }));
        Ok(Self(parsed.collect::<Result<_, _>>()?))
    }
}

fn parse(line: &str) -> Result<Suppression, String> {
    let (what, reason) = line.split_once('#').ok_or("the reason is missing")?;
    let reason = reason.trim();
    if reason.is_empty() {
        return Err("the reason is empty".into());
    }
    let mut words = what.split_whitespace();
    let number = words.next().unwrap_or_default();
    let rule = number.parse().ok();
    let rule = rule.filter(|rule| text(*rule).is_some());
    let rule = rule.ok_or_else(|| format!("`{number}` is no rule"))?;
    let pair = |word: &str| match word.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(format!("`{word}` is no KEY=VALUE")),
    };
    Ok(Suppression {
        rule: RuleId(rule),
        place: words.map(pair).collect::<Result<_, _>>()?,
        reason: reason.to_owned(),
    })
}
