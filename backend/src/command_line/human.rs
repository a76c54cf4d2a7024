//! Answers for people: the JSON of the control socket as aligned text.

use std::fmt::Write;

use serde_json::{Map, Value};

/// Members in the order in which they are shown; others follow by name.
const ORDER: &[&str] = &[
    "reasons",
    "mode",
    "door",
    "socket",
    "chip",
    "name",
    "unit",
    "client",
    "ring",
    "process_id",
    "state",
    "started",
    "offset",
    "ring_offset",
    "in_buffer",
    "base",
    "size",
    "head",
    "tail",
    "va",
    "pages",
    "target",
    "level",
    "value",
    "valid",
    "segment",
    "snoop",
    "ns",
    "addr",
    "bits",
    "register",
    "kind",
    "count",
    "block",
    "l1",
    "l2",
    "l3",
    "dtlb",
    "utlb",
    "entry",
    "stale",
    "tables",
    "bytes",
    "interrupt",
    "time",
];
/// Members that are shown last: they are long.
const LAST: &[&str] = &["waits_for", "meaning", "held", "facts"];
/// Numbers that people know in hexadecimal.
const HEX: &[&str] = &[
    "addr",
    "base",
    "buffer",
    "client_status",
    "device_id",
    "dtlb",
    "entry",
    "fault_status",
    "head",
    "l1",
    "l2",
    "l3",
    "last_dword",
    "last_offset",
    "offset",
    "ring_offset",
    "size",
    "start",
    "tail",
    "utlb",
    "va",
    "value",
    "vendor_id",
    "visible_bytes",
    "vram_bytes",
    "vram_seed",
];
/// Members that say what another one says as well.
const SAID_BY_ANOTHER: &[(&str, &str)] = &[
    ("hex", "value"),
    ("started", "state"),
    ("in_operation", "state"),
    ("l1", "entries"),
    ("l2", "entries"),
    ("l3", "entries"),
    ("dtlb", "entries"),
    ("utlb", "entries"),
];
/// Bytes of VRAM in a line.
const DUMPED: u64 = 16;
/// Between columns.
const GAP: &str = "  ";

/// An answer as text of lines, no longer than `width` where words can be parted.
pub(crate) fn text(answer: &Value, width: usize) -> String {
    let mut page = Page {
        width,
        text: String::new(),
    };
    page.value("", answer, 0);
    page.text
}

struct Page {
    width: usize,
    text: String,
}

impl Page {
    fn value(&mut self, key: &str, value: &Value, indent: usize) {
        match value {
            Value::Object(members) => match members.get("text").and_then(layout) {
                Some(text) => self.laid_out(text, indent),
                None => self.members(key, members, indent),
            },
            Value::Array(all) => self.array(key, all, indent),
            one => self.line(indent, &scalar(key, one)),
        }
    }

    fn line(&mut self, indent: usize, line: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{:indent$}{}", "", line.trim_end());
    }

    /// Text that has a layout of its own, as the log shows it.
    fn laid_out(&mut self, text: &str, indent: usize) {
        for line in text.lines() {
            let words = line.trim_start();
            self.wrapped(indent + line.len() - words.len(), 2, words);
        }
    }

    /// First what fits into a line, aligned, then the rest below headings.
    fn members(&mut self, parent: &str, members: &Map<String, Value>, indent: usize) {
        if let Some((offset, hex)) = dump(members) {
            return self.dump(offset, hex, indent);
        }
        let told = |key: &&String| {
            let another = SAID_BY_ANOTHER.iter().find(|(one, _)| one == key);
            another.is_none_or(|(_, by)| !members.contains_key(*by))
        };
        let keys = ordered(members.keys().filter(told));
        let is_short = |key: &&String| members.get(*key).is_some_and(is_scalar);
        let (short, long): (Vec<_>, Vec<_>) = keys.into_iter().partition(is_short);
        let (first, last): (Vec<_>, Vec<_>) =
            long.into_iter().partition(|key| key.as_str() == "reasons");
        self.headed(&first, members, indent);
        let width = short.iter().map(|key| key.len()).max().unwrap_or(0);
        for key in short {
            let value = members.get(key).unwrap_or(&Value::Null);
            // Of the UTLBs the members are clients.
            let style = if HEX.contains(&parent) { parent } else { key };
            let line = format!("{:<width$}{GAP}{}", spaced(key), scalar(style, value));
            self.wrapped(indent, width + GAP.len(), &line);
        }
        self.headed(&last, members, indent);
    }

    fn dump(&mut self, offset: u64, hex: &str, indent: usize) {
        let mut digits = hex.chars().peekable();
        for line in 0.. {
            if digits.peek().is_none() {
                break;
            }
            let mut text = format!("{:#012x} ", offset + line * DUMPED);
            for _ in 0..DUMPED {
                text.push(' ');
                text.extend(digits.by_ref().take(2));
            }
            self.line(indent, &text);
        }
    }

    fn headed(&mut self, keys: &[&String], members: &Map<String, Value>, indent: usize) {
        for key in keys {
            let value = members.get(*key).unwrap_or(&Value::Null);
            if is_empty(value) {
                self.line(indent, &format!("{}: none", spaced(key)));
                continue;
            }
            if !self.text.is_empty() && indent == 0 {
                self.text.push('\n');
            }
            self.line(indent, &format!("{}:", spaced(key)));
            self.value(key, value, indent + 2);
        }
    }

    fn array(&mut self, key: &str, all: &[Value], indent: usize) {
        if let Some(texts) = each(all, |one| one.get("text").and_then(layout)) {
            for (n, text) in texts.into_iter().enumerate() {
                if n > 0 {
                    self.text.push('\n');
                }
                self.laid_out(text, indent);
            }
        } else if let Some(texts) = each(all, |one| one.get("text").and_then(Value::as_str)) {
            for text in texts {
                self.wrapped(indent, 2, &format!("- {text}"));
            }
        } else if let Some(records) = each(all, Value::as_object) {
            self.records(&records, indent);
        } else if let Some(questions) = each(all, question) {
            let width = questions.iter().map(|(usage, _)| usage.len()).max();
            let width = width.unwrap_or(0);
            for (usage, about) in questions {
                let line = format!("{usage:<width$}{GAP}{about}");
                self.wrapped(indent, width + GAP.len(), &line);
            }
        } else if let Some(texts) = each(all, |one| one.as_str().filter(|s| s.contains(' '))) {
            for text in texts {
                self.wrapped(indent, 2, &format!("- {text}"));
            }
        } else {
            let all: Vec<_> = all.iter().map(|one| scalar(key, one)).collect();
            let line = if all.is_empty() {
                "none".to_owned()
            } else {
                all.join(", ")
            };
            self.wrapped(indent, 0, &line);
        }
    }

    /// A table, a long last member below its row where there is no room beside it;
    /// where all that is wider than the page, one record after the other.
    fn records(&mut self, records: &[&Map<String, Value>], indent: usize) {
        let told = |key: &&String| {
            let another = SAID_BY_ANOTHER.iter().find(|(one, _)| one == key);
            let mut values = records.iter().filter_map(|record| record.get(*key));
            values.any(|value| !value.is_null())
                && another.is_none_or(|(_, by)| records.iter().any(|r| !r.contains_key(*by)))
        };
        let keys = records.iter().flat_map(|record| record.keys()).filter(told);
        let mut keys = ordered(keys);
        let mut below = keys.pop_if(|key| LAST.contains(&key.as_str()));
        let cells = |keys: &[&String]| {
            let row = |record: &&Map<String, Value>| {
                let cell = |key: &&String| scalar(key, record.get(*key).unwrap_or(&Value::Null));
                keys.iter().map(cell).collect::<Vec<_>>()
            };
            let heading = keys.iter().map(|key| spaced(key).to_uppercase()).collect();
            let mut rows = vec![heading];
            rows.extend(records.iter().map(row));
            rows
        };
        let width =
            |rows: &[Vec<String>]| widths(rows).iter().map(|w| w + GAP.len()).sum::<usize>();
        if let Some(key) = below {
            // Most of a sentence is beside its row, or all of it is below.
            keys.push(key);
            let rows = cells(&keys);
            let whole = width(&rows);
            let last = widths(&rows).last().copied().unwrap_or(0);
            if whole - last + last.min(32) + indent <= self.width {
                below = None;
            } else {
                keys.pop();
            }
        }
        let rows = cells(&keys);
        if below.is_none() && keys.iter().any(|key| LAST.contains(&key.as_str()))
            || width(&rows) + indent <= self.width + GAP.len()
        {
            return self.columns(&rows, below.map(|key| (key, records)), indent);
        }
        for (n, record) in records.iter().enumerate() {
            if n > 0 {
                self.text.push('\n');
            }
            self.members("", record, indent);
        }
    }

    fn columns(
        &mut self,
        rows: &[Vec<String>],
        below: Option<(&String, &[&Map<String, Value>])>,
        indent: usize,
    ) {
        let widths = widths(rows);
        let before: usize = widths
            .iter()
            .rev()
            .skip(1)
            .map(|width| width + GAP.len())
            .sum();
        for (n, row) in rows.iter().enumerate() {
            let cells = row.iter().zip(&widths);
            let line: Vec<_> = cells
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            self.wrapped(indent, before, &line.join(GAP));
            let sentence = below.and_then(|(key, records)| {
                let value = records.get(n.checked_sub(1)?)?.get(key)?;
                Some((key, value.as_str()?))
            });
            if let Some((key, sentence)) = sentence {
                self.wrapped(indent + 4, 2, &format!("{}: {sentence}", spaced(key)));
            }
        }
    }

    /// Where the line is too long it goes on below, `more` further in.
    fn wrapped(&mut self, indent: usize, more: usize, line: &str) {
        let mut rest = line.trim_end();
        let mut at = indent;
        while rest.chars().count() + at > self.width {
            let room = self.width.saturating_sub(at);
            let end = rest
                .char_indices()
                .nth(room)
                .map_or(rest.len(), |(end, _)| end);
            let blank = rest[..end].rfind(' ');
            // What is before it must be more than the hanging part.
            let from = if at == indent { more } else { 0 };
            let Some(blank) = blank.filter(|blank| *blank > from) else {
                break;
            };
            let (line, next) = rest.split_at(blank);
            self.line(at, line);
            rest = next.trim_start();
            at = indent + more;
        }
        self.line(at, rest);
    }
}

fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |n: usize| {
        rows.iter()
            .filter_map(move |row| row.get(n))
            .map(|c| c.chars().count())
    };
    (0..columns).map(|n| width(n).max().unwrap_or(0)).collect()
}

/// All of them as something, or `None`; also where there are none.
fn each<'a, T>(all: &'a [Value], what: impl Fn(&'a Value) -> Option<T>) -> Option<Vec<T>> {
    let all: Option<Vec<T>> = all.iter().map(what).collect();
    all.filter(|all| !all.is_empty())
}

/// The text of a record that is more than a sentence.
fn layout(text: &Value) -> Option<&str> {
    text.as_str().filter(|text| text.contains('\n'))
}

fn is_scalar(value: &Value) -> bool {
    match value {
        Value::Object(_) => false,
        Value::Array(all) => all.iter().all(|one| one.is_number() || is_word(one)),
        _ => true,
    }
}

fn is_word(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.contains(' '))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.is_empty(),
        Value::Array(all) => all.is_empty(),
        _ => false,
    }
}

/// Known members first, each once.
fn ordered<'a>(keys: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
    let mut keys: Vec<_> = keys.collect();
    let place = |key: &String| {
        let known = |list: &[&str]| list.iter().position(|one| one == key);
        match (known(ORDER), known(LAST)) {
            (Some(at), _) => at,
            (None, None) => ORDER.len(),
            (None, Some(at)) => ORDER.len() + 1 + at,
        }
    };
    keys.sort_by(|one, other| (place(one), one).cmp(&(place(other), other)));
    keys.dedup();
    keys
}

/// A question of `help`, and what it answers.
fn question(row: &Value) -> Option<(&str, String)> {
    let at = |n: usize| row.get(n).and_then(Value::as_str);
    let (usage, about, example) = (at(0)?, at(1)?, at(2)?);
    let example = if example == usage {
        String::new()
    } else {
        format!("; as in: {example}")
    };
    Some((usage, format!("{about}{example}")))
}

/// Bytes of VRAM, and where they are.
fn dump(members: &Map<String, Value>) -> Option<(u64, &str)> {
    members.get("len")?;
    let offset = members.get("offset").and_then(Value::as_u64)?;
    Some((offset, members.get("hex")?.as_str()?))
}

fn spaced(key: &str) -> String {
    match key {
        "process_id" => "pid".to_owned(),
        "last_offset" => "last at".to_owned(),
        key => key.replace('_', " "),
    }
}

fn scalar(key: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_u64().filter(|_| HEX.contains(&key)) {
            Some(number) => format!("{number:#x}"),
            None => number.to_string(),
        },
        Value::Array(all) if all.is_empty() => "none".to_owned(),
        Value::Array(all) => {
            let all: Vec<_> = all.iter().map(|one| scalar(key, one)).collect();
            all.join(", ")
        }
        Value::Object(members) => {
            let all = members.iter();
            let all: Vec<_> = all
                .map(|(key, one)| format!("{key} {}", scalar(key, one)))
                .collect();
            all.join(", ")
        }
    }
}

#[cfg(test)]
mod tests;
