//! The driver checker of a server: which rules are armed, and where their reports go.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use presil_device::checker::{Checker, Options, Report, Reports, Summary};
use serde::Serialize;
use serde_json::{Value, json};

use crate::shared_gpu::{Lost, SharedGpu};

/// What is to be judged.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// Levels and suppressions.
    pub rules: Options,
    /// Gets a line of JSON when a QEMU has left, opened already: the sandbox has no files.
    pub report: Option<Arc<File>>,
}

/// The checker of one GPU.
pub struct Check {
    options: CheckOptions,
    /// Of the last GPU that was powered on.
    reports: Mutex<Option<Reports>>,
}

impl Check {
    /// One that judges nothing yet.
    pub fn new(options: CheckOptions) -> Self {
        Self {
            options,
            reports: Mutex::new(None),
        }
    }

    /// Judges what is done to `gpu` from now on, in place of one that was there before its
    /// power was cycled.
    pub(crate) fn begin(&self, gpu: &SharedGpu) -> Result<(), Lost> {
        let checker = Checker::new(&self.options.rules);
        *self.reports.lock() = Some(checker.reports());
        let watch = Box::new(checker);
        gpu.enter().run(|gpu| gpu.set_watch(Some(watch)))
    }

    /// QEMU has left GPU number `number`: what only the end can tell is told, and all of it
    /// written down. Whether anything was found.
    pub(crate) fn end(&self, gpu: &SharedGpu, number: usize) -> bool {
        // A lost GPU took its checker along.
        let lost = gpu.enter().run(|gpu| gpu.set_watch(None)).is_err();
        let Some(reports) = self.reports.lock().clone() else {
            return false;
        };
        let (reports, summary) = (reports.list(), reports.summary());
        for line in summary.to_string().trim_end().lines() {
            tracing::info!("{line}");
        }
        if let Err(error) = self.write(number, lost, &reports, &summary) {
            tracing::error!("the report of the driver checker could not be written: {error}");
        }
        !reports.is_empty()
    }

    fn write(
        &self,
        number: usize,
        lost: bool,
        reports: &[Report],
        summary: &Summary,
    ) -> io::Result<()> {
        let Some(file) = &self.options.report else {
            return Ok(());
        };
        let mut line = json!({ "gpu": number, "lost": lost });
        if let (Value::Object(line), Value::Object(told)) = (&mut line, told(reports, summary)?) {
            line.extend(told);
        }
        (&**file).write_all(format!("{line}\n").as_bytes())
    }

    /// What was found so far, as JSON.
    pub(crate) fn answer(&self) -> serde_json::Result<Value> {
        let reports = self.reports.lock().clone();
        reports.map_or(Ok(Value::Null), |reports| {
            told(&reports.list(), &reports.summary())
        })
    }
}

/// Reports and summary, each also in words.
fn told(reports: &[Report], summary: &Summary) -> serde_json::Result<Value> {
    let reports: serde_json::Result<Vec<_>> = reports
        .iter()
        .map(|report| with_text(report, report))
        .collect();
    let summary = with_text(summary, summary)?;
    Ok(json!({ "reports": reports?, "summary": summary }))
}

/// With what it says in words as `text`.
fn with_text(told: &impl Serialize, words: &impl Display) -> serde_json::Result<Value> {
    let mut value = serde_json::to_value(told)?;
    if let Value::Object(fields) = &mut value {
        fields.insert("text".to_owned(), words.to_string().trim_end().into());
    }
    Ok(value)
}
