//! What must hold of a GPU that works, each as a function with a name.

mod bookings;
mod data;
mod fairness;
mod fdinfo;
mod fences;
mod order;
mod placement;
mod refusals;
mod removal;
mod story;
mod stress;
mod tables;

use crate::device::{Buffer, Device};
use crate::error::{Error, Result, ensure};
use crate::model::Model;
use presil_uapi as uapi;

/// What checks work with.
#[derive(Debug)]
pub(crate) struct Context {
    /// The GPU.
    pub(crate) device: Device,
    /// What the model says of itself, where there is a line to it.
    pub(crate) model: Option<Model>,
    /// Only small transfers: each access to VRAM takes long.
    pub(crate) small: bool,
    /// The segments before the first check.
    pub(crate) at_start: [uapi::Segment; uapi::SEGMENTS],
    /// Errors that the GPU had before the first check.
    pub(crate) errors_at_start: u64,
}

impl Context {
    /// Remembers how things are before the first check.
    pub(crate) fn new(device: Device, model: Option<Model>) -> Result<Self> {
        let info = device.info()?;
        Ok(Self {
            device,
            model,
            small: false,
            at_start: info.segments,
            errors_at_start: errors(&info),
        })
    }

    /// The model.
    ///
    /// # Errors
    /// [`Error::Skipped`] where there is no line to it.
    fn model(&self) -> Result<&Model> {
        let none = || Error::Skipped("there is no line to the model (--model)".into());
        self.model.as_ref().ok_or_else(none)
    }
}

/// How often the GPU had an error.
fn errors(info: &uapi::Info) -> u64 {
    info.page_faults + info.bus_errors + info.hangs
}

/// A named condition; says in words what was seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Check {
    /// Its name.
    pub(crate) name: &'static str,
    run: fn(&Context) -> Result<String>,
}

/// Why a check was not run.
pub(crate) const NOT_RUN: &str = "the GPU does not finish its work";

/// How a check ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Passed(String),
    Failed(String),
    Skipped(String),
    /// The GPU does not finish what an earlier check gave it.
    NotRun,
}

/// Runs checks one after another and tells how each ended. After a failure
/// that leaves the GPU with unfinished work the others would only wait: they
/// are not run. True if none failed.
pub(crate) fn run(
    checks: &[Check],
    context: &Context,
    mut tell: impl FnMut(&Check, &Outcome),
) -> bool {
    let mut passed = true;
    let mut hangs = false;
    for check in checks {
        if hangs {
            tell(check, &Outcome::NotRun);
            continue;
        }
        let outcome = match (check.run)(context) {
            Ok(detail) => Outcome::Passed(detail),
            Err(Error::Skipped(reason)) => Outcome::Skipped(reason),
            Err(error) => {
                hangs = context
                    .device
                    .info()
                    .is_ok_and(|i| i.fence_completed < i.fence_submitted);
                Outcome::Failed(error.to_string())
            }
        };
        passed &= !matches!(outcome, Outcome::Failed(_));
        tell(check, &outcome);
    }
    passed
}

/// What the demonstration checks: an allocation that is told as it goes, then
/// tables, data, placement and the books.
pub(crate) fn of_demo() -> Vec<Check> {
    [
        story::CHECKS,
        tables::CHECKS,
        data::CHECKS,
        order::CHECKS,
        placement::CHECKS,
        fences::CHECKS,
    ]
    .concat()
}

/// Everything: also refusals, and many threads at once.
pub(crate) fn all() -> Vec<Check> {
    [
        refusals::CHECKS,
        fdinfo::CHECKS,
        tables::CHECKS,
        data::CHECKS,
        order::CHECKS,
        stress::CHECKS,
        fairness::CHECKS,
        bookings::CHECKS,
        placement::CHECKS,
        fences::CHECKS,
        removal::CHECKS,
    ]
    .concat()
}

/// A kind of memory that a buffer can be in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    flags: u32,
    segment: u32,
}

/// VRAM in the CPU's window.
pub(crate) const VISIBLE: Kind = Kind {
    name: "visible VRAM",
    flags: uapi::CREATE_GPU_MOSTLY,
    segment: 0,
};
/// VRAM behind it.
const INVISIBLE: Kind = Kind {
    name: "invisible VRAM",
    flags: uapi::CREATE_GPU_ONLY,
    segment: 1,
};
/// Cached RAM.
pub(crate) const SNOOPED: Kind = Kind {
    name: "snooped RAM",
    flags: uapi::CREATE_READBACK,
    segment: 2,
};
/// Write-combined RAM.
pub(crate) const UNSNOOPED: Kind = Kind {
    name: "unsnooped RAM",
    flags: uapi::CREATE_UPLOAD,
    segment: 3,
};

impl Kind {
    /// Whether this GPU has such memory: all of VRAM may be visible.
    fn exists(&self, context: &Context) -> bool {
        context.at_start[self.segment as usize].bytes > 0
    }

    /// A buffer of this kind, which must be where it belongs.
    ///
    /// # Errors
    /// [`Error::Skipped`] where there is no such memory.
    pub(crate) fn create(&self, context: &Context, bytes: u64) -> Result<Buffer> {
        if !self.exists(context) {
            return Err(Error::Skipped(format!("this GPU has no {}", self.name)));
        }
        let buffer = context.device.create(self.flags, bytes, &[])?;
        let segment = buffer.describe()?.segment;
        ensure!(
            segment == self.segment,
            "a buffer for {} is in segment {segment}, expected {}",
            self.name,
            self.segment
        );
        Ok(buffer)
    }
}
