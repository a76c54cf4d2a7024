//! The driver checker of a server: which rules are armed, and where their reports go.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use presil_device::checker::{Checker, Options, Report, Reports, Summary};
use serde_json::{Value, json};

use crate::caches::CacheFile;
use crate::shared_gpu::SharedGpu;
use crate::told::told;

/// What is to be judged.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// Levels and suppressions.
    pub rules: Options,
    /// What a plugin of QEMU's tells of the CPUs' caches, if it is to.
    pub caches: Option<Arc<CacheFile>>,
    /// Gets a line of JSON when a QEMU has left, opened already: the sandbox has no files.
    pub report: Option<Arc<File>>,
}

/// The checker of one GPU.
pub struct Check {
    options: CheckOptions,
    /// Since the GPU was last powered on.
    reports: Mutex<Reports>,
}

impl Check {
    /// Judges what is done to `gpu` from now on.
    pub(crate) fn begin(options: CheckOptions, gpu: &SharedGpu) -> Self {
        let reports = Mutex::new(watch(&options, gpu));
        Self { options, reports }
    }

    /// The same anew: the GPU's power was cycled.
    pub(crate) fn begin_anew(&self, gpu: &SharedGpu) {
        *self.reports.lock() = watch(&self.options, gpu);
    }

    /// QEMU has left GPU number `number`: what only the end can tell is told, and all of it
    /// written down. Whether anything was found.
    pub(crate) fn end(&self, gpu: &SharedGpu, number: usize) -> bool {
        // A lost GPU took its checker along.
        let lost = gpu.enter().run(|gpu| gpu.set_watch(None)).is_err();
        let reports = self.reports.lock().clone();
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
        if let (Value::Object(line), Value::Object(all)) = (&mut line, all(reports, summary)?) {
            line.extend(all);
        }
        (&**file).write_all(format!("{line}\n").as_bytes())
    }

    /// What was found so far, as JSON.
    pub(crate) fn answer(&self) -> serde_json::Result<Value> {
        let reports = self.reports.lock().clone();
        all(&reports.list(), &reports.summary())
    }
}

/// Puts a checker on a GPU. A lost one does nothing that could be judged.
fn watch(options: &CheckOptions, gpu: &SharedGpu) -> Reports {
    let checker = match &options.caches {
        Some(file) => Checker::with_caches(&options.rules, Box::new(file.follower())),
        None => Checker::new(&options.rules),
    };
    let reports = checker.reports();
    let _ = gpu
        .enter()
        .run(|gpu| gpu.set_watch(Some(Box::new(checker))));
    reports
}

/// Reports and summary, each also in words.
fn all(reports: &[Report], summary: &Summary) -> serde_json::Result<Value> {
    let reports: serde_json::Result<Vec<_>> = reports.iter().map(told).collect();
    Ok(json!({ "reports": reports?, "summary": told(summary)? }))
}
