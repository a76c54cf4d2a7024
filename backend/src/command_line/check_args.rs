//! Options of the driver checker on the command line.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use presil_device::checker::{self, Level, Levels, LevelsError, Suppressions};

use crate::caches::CacheFile;
use crate::command_line::qemu_args;
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

    /// Follow the caches of the guest's CPUs: make FILE, which presil's plugin for QEMU keeps
    /// (docs/checker.md), and judge what the GPU reads and writes unsnooped by it. For one QEMU
    /// without an IOMMU.
    #[arg(long, value_name = "FILE", requires = "check", conflicts_with = "keep")]
    check_caches: Option<PathBuf>,

    /// RAM of the guest whose caches are followed.
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = qemu_args::guest_ram, requires = "check_caches")]
    check_caches_ram: u64,
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
        let caches = match &self.check_caches {
            None => None,
            Some(path) => Some(
                CacheFile::create(path, self.check_caches_ram)
                    .map_err(|error| cannot(path, "make", error))?,
            ),
        };
        Ok(Some(CheckOptions {
            rules: checker::Options {
                levels: levels.clone(),
                suppressions,
            },
            caches: caches.map(Arc::new),
            report: report.map(Arc::new),
        }))
    }
}

fn levels(text: &str) -> Result<Levels, String> {
    text.parse().map_err(|error: LevelsError| error.to_string())
}
