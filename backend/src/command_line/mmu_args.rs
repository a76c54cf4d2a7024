//! Options of the GPU's MMU on the command line.

use clap::{Args, ValueEnum};
use presil_device::{ConfigError, DtlbShape, LargePage, MmuOptions, OnFault, UtlbSize};

use presil_values::number;

/// What docs/model-choices.md lets a user choose about the MMU.
#[derive(Debug, Args)]
#[command(next_help_heading = "MMU")]
pub struct MmuArgs {
    /// Entries of each client's UTLB, one page each: a power of two up to 1024; off or 0: none.
    #[arg(long, value_name = "N", default_value = "32", value_parser = utlb)]
    utlb: UtlbSize,

    /// Shape of the shared TLB, 16 pages a line; off: none.
    #[arg(long, value_name = "SETSxWAYS", default_value = "64x4", value_parser = dtlb)]
    dtlb: DtlbShape,

    /// A DTLB invalidation leaves the UTLBs alone; without this it reaches them, too.
    #[arg(long)]
    strict_utlb: bool,

    /// What the large-page bit of an L2 entry means: an L3 table of 64K pages, a page of 4M, or a page fault.
    #[arg(long, value_name = "WHAT", default_value = "64k")]
    large_page: LargePageArg,

    /// What a page fault does: report it and drop the access, halt the ring
    /// behind the access until the driver clears the fault status, or then retry it.
    #[arg(long, value_name = "POLICY", default_value = "report")]
    on_fault: OnFaultArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LargePageArg {
    #[value(name = "64k")]
    Table64K,
    #[value(name = "4m")]
    Leaf4M,
    Fault,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnFaultArg {
    Report,
    Halt,
    Retry,
}

impl MmuArgs {
    /// What was asked for.
    pub fn options(&self) -> MmuOptions {
        MmuOptions {
            utlb: self.utlb,
            strict_utlb: self.strict_utlb,
            dtlb: self.dtlb,
            large_page: match self.large_page {
                LargePageArg::Table64K => LargePage::Table64K,
                LargePageArg::Leaf4M => LargePage::Leaf4M,
                LargePageArg::Fault => LargePage::Fault,
            },
            on_fault: match self.on_fault {
                OnFaultArg::Report => OnFault::Report,
                OnFaultArg::Halt => OnFault::Halt,
                OnFaultArg::Retry => OnFault::Retry,
            },
        }
    }
}

fn utlb(text: &str) -> Result<UtlbSize, String> {
    if text == "off" {
        return Ok(UtlbSize::OFF);
    }
    let expected = || format!("'{text}' is not a number of entries: write off, or as in 32");
    UtlbSize::new(whole(text).ok_or_else(expected)?).map_err(text_of)
}

fn dtlb(text: &str) -> Result<DtlbShape, String> {
    if text == "off" {
        return Ok(DtlbShape::OFF);
    }
    let expected = || format!("'{text}' is not a shape: write off, or sets and ways as in 64x4");
    let shape = text.split_once('x');
    let shape = shape.and_then(|(sets, ways)| whole(sets).zip(whole(ways)));
    let (sets, ways) = shape.ok_or_else(expected)?;
    DtlbShape::new(sets, ways).map_err(text_of)
}

fn whole(text: &str) -> Option<u32> {
    number::decimal(text)?.try_into().ok()
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn text_of(error: ConfigError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        mmu: MmuArgs,
    }

    fn parse(args: &[&str]) -> Result<MmuOptions, clap::Error> {
        let args = ["test"].iter().chain(args);
        Ok(Command::try_parse_from(args)?.mmu.options())
    }

    #[test]
    fn the_defaults_are_the_models() {
        assert_eq!(parse(&[]).unwrap(), MmuOptions::default());
    }

    #[test]
    fn every_choice_can_be_made() {
        let args = [
            "--utlb=8",
            "--dtlb=16x2",
            "--strict-utlb",
            "--large-page=4m",
            "--on-fault=retry",
        ];
        let expected = MmuOptions {
            utlb: UtlbSize::new(8).unwrap(),
            strict_utlb: true,
            dtlb: DtlbShape::new(16, 2).unwrap(),
            large_page: LargePage::Leaf4M,
            on_fault: OnFault::Retry,
        };
        assert_eq!(parse(&args).unwrap(), expected);
        let off = parse(&["--utlb=off", "--dtlb=off", "--large-page=fault"]).unwrap();
        assert_eq!((off.utlb, off.dtlb), (UtlbSize::OFF, DtlbShape::OFF));
        assert_eq!(off.large_page, LargePage::Fault);
        assert_eq!(parse(&["--utlb=0"]).unwrap().utlb, UtlbSize::OFF);
        let halt = parse(&["--on-fault=halt"]).unwrap();
        assert_eq!(halt.on_fault, OnFault::Halt);
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_can() {
        for (arg, expected) in [
            ("--utlb=3", "power of two up to 1024"),
            ("--utlb=many", "as in 32"),
            ("--utlb=+8", "as in 32"),
            ("--dtlb=64", "as in 64x4"),
            ("--dtlb=+64x4", "as in 64x4"),
            ("--dtlb=64x+4", "as in 64x4"),
            ("--dtlb=63x4", "power of two up to 4096"),
            ("--dtlb=64x17", "1 to 16 ways"),
            ("--large-page=2m", "64k"),
            ("--on-fault=panic", "retry"),
        ] {
            let error = parse(&[arg]).unwrap_err().to_string();
            assert!(error.contains(expected), "{arg}: {error}");
        }
    }
}
