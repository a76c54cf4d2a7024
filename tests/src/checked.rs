//! Every GPU of these tests is watched by the driver checker: what it finds is a bug, of
//! the driver or of the checker.

use crate::ram::Ram;
use presil_device::checker::{Checker, Options, Report, Reports};
use presil_device::{Defects, Gpu};
use std::thread;

/// Lets a checker look at a GPU and the caches of its machine's CPU from now on. Of a model with a defect it says nothing: what
/// a driver does then is the defect's fault.
pub(crate) fn watch(gpu: &mut Gpu, ram: &Ram) -> Reports {
    let checker = Checker::with_caches(&Options::default(), Box::new(ram.clone()));
    let reports = checker.reports();
    if gpu.config().defects == Defects::default() {
        gpu.set_watch(Some(Box::new(checker)));
    }
    reports
}

/// At a GPU's end: fails if anything was found that is not expected.
pub(crate) fn end(gpu: &mut Gpu, reports: &Reports, expected: &[u32]) {
    gpu.set_watch(None);
    let found = reports.list().into_iter();
    let found: Vec<_> = found
        .filter(|report| !expected.contains(&report.rule.0))
        .collect();
    let text: Vec<_> = found.iter().map(Report::to_string).collect();
    let silent = text.is_empty() || thread::panicking();
    assert!(silent, "the driver checker:\n{}", text.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use presil_device::{Chip, Config, NoInterrupts, Width};

    fn misused() -> (Gpu, Reports) {
        let config = Config::new(Chip::Arise10c0, 256 << 20, 256 << 20, true);
        let mut gpu = Gpu::new(&config.unwrap(), Box::new(NoInterrupts)).unwrap();
        let reports = watch(&mut gpu, &Ram::new());
        gpu.write(0x30000, Width::B4, 1);
        (gpu, reports)
    }

    #[test]
    #[should_panic(expected = "presil[70001] a read-only register is written")]
    fn what_is_found_fails_the_test() {
        let (mut gpu, reports) = misused();
        end(&mut gpu, &reports, &[60001]);
    }

    #[test]
    fn what_is_expected_does_not() {
        let (mut gpu, reports) = misused();
        end(&mut gpu, &reports, &[70001]);
    }
}
