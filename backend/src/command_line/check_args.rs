//! Options of the driver checker on the command line.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use presil_device::checker::{self, Level, Levels, LevelsError, Suppressions};

use crate::service::check::CheckOptions;

/// Who judges the guest's driver.
#[derive(Debug, Args)]
#[command(next_help_heading = "The driver checker")]
pub struct CheckArgs {
    /// Tell what silicon would punish the guest's driver for: off, warn, or fault, which also
    /// makes the access fault that is to blame; by group or rule too, as in warn,6=off,10001=fault
    /// (`presil explain` lists the rules). Reports are logged, and the exit code is 3.
    #[arg(long, value_name = "LEVELS", value_parser = levels)]
    check: Option<Levels>,

    /// Findings that are known, one a line: RULE [KEY=VALUE ...] # REASON.
    #[arg(long, value_name = "FILE", requires = "check")]
    check_suppressions: Option<PathBuf>,

    /// Write the reports there, a line of JSON for each QEMU that has left.
    #[arg(long, value_name = "FILE", requires = "check")]
    check_report: Option<PathBuf>,
}

impl CheckArgs {
    /// What was asked for; `None`: no rule is armed. Files are opened now, before the
    /// sandbox is entered.
    ///
    /// # Errors
    /// A file cannot be opened, or is not understood: which, and why.
    pub fn options(&self) -> Result<Option<CheckOptions>, String> {
        let armed = |levels: &&Levels| {
            checker::texts().any(|text| levels.of(text.id.0, text.level) != Level::Off)
        };
        let Some(levels) = self.check.as_ref().filter(armed) else {
            return Ok(None);
        };
        let cannot =
            |path: &Path, what, error| format!("cannot {what} {}: {error}", path.display());
        let suppressions = match &self.check_suppressions {
            None => Suppressions::default(),
            Some(path) => fs::read_to_string(path)
                .map_err(|error| cannot(path, "read", error))?
                .parse()
                .map_err(|error| format!("{}: {error}", path.display()))?,
        };
        let report = match &self.check_report {
            None => None,
            Some(path) => Some(File::create(path).map_err(|error| cannot(path, "write", error))?),
        };
        Ok(Some(CheckOptions {
            rules: checker::Options {
                levels: levels.clone(),
                suppressions,
            },
            report: report.map(Arc::new),
        }))
    }
}

fn levels(text: &str) -> Result<Levels, String> {
    text.parse().map_err(|error: LevelsError| error.to_string())
}
