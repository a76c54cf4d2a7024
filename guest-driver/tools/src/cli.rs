//! The command line.

use clap::{Parser, Subcommand, ValueEnum};
use presil_uapi as uapi;
use presil_values::{number, size};
use std::path::PathBuf;

/// Asks, exercises and checks a presil GPU.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  presilctl info
  presilctl alloc --for upload --bytes 4M --touch
  presilctl alloc --for gpu-mostly --bytes 4M --window 65536..69632
  presilctl demo --model /dev/ttyS1
  presilctl bench
  presilctl selftest

Exit status: 0 when all is well, 1 when something failed, 2 for a wrong command line.
The driver's own view is in /sys/kernel/debug/dri/128: bos, vidmm_init, counters, bench."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Says what GPU this is, how full its memory is and what its fences did
    Info,
    /// Makes one buffer and says where it went
    Alloc {
        /// What the buffer is for
        #[arg(long = "for", value_enum)]
        purpose: Purpose,
        /// Its size: bytes, or with K, M or G
        #[arg(long, value_parser = size::parse)]
        bytes: u64,
        /// Pages FIRST..LAST of the visible VRAM where it may be; in order of preference
        #[arg(long = "window", value_name = "FIRST..LAST", value_parser = window)]
        windows: Vec<uapi::Window>,
        /// Touches it once by the CPU, and says where it is then
        #[arg(long)]
        touch: bool,
    },
    /// Measures register accesses, from a doorbell to its interrupt, and the CPU's
    /// bandwidth in VRAM and RAM
    ///
    /// Where the output is not a terminal, lines that begin with "@presil " are for the
    /// program that started the guest.
    Bench,
    /// Tells how the memory came up and how an allocation goes, and checks both and the data
    ///
    /// Where the output is not a terminal, lines that begin with "@presil " are for the
    /// program that started the guest.
    Demo {
        /// A serial line to the model's control socket, to compare what the driver
        /// wrote with what the model reads
        #[arg(long, value_name = "TTY")]
        model: Option<PathBuf>,
        /// Moves at most 64 KiB at once, for a VRAM window that QEMU serves by messages
        #[arg(long)]
        small: bool,
    },
    /// Takes the PCI function away, resets it and lets it sleep, idle and in use
    ///
    /// The demo's checks follow after each. Needs root, and the device for itself.
    Function {
        /// As for demo
        #[arg(long, value_name = "TTY")]
        model: PathBuf,
        /// Only what has this text in its name
        #[arg(long, value_name = "TEXT", default_value = "")]
        only: String,
    },
    /// Lets another kernel take over by kexec, while the GPU works if there is one
    ///
    /// Needs root. Returns only where it fails.
    Kexec {
        /// By a crash, behind which nothing is shut down; needs crashkernel= of the kernel
        #[arg(long)]
        crash: bool,
        /// The kernel, a bzImage
        kernel: PathBuf,
        /// Its initramfs
        initramfs: PathBuf,
        /// Its command line
        append: String,
    },
    /// Runs all checks, refusals and threads included, and reports in TAP
    Selftest {
        /// As for demo; without it the checks that ask the model are skipped
        #[arg(long, value_name = "TTY")]
        model: Option<PathBuf>,
    },
}

/// What a buffer is for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Purpose {
    /// The GPU alone
    GpuOnly,
    /// The GPU mostly, the CPU sometimes
    GpuMostly,
    /// The CPU writes, the GPU reads
    Upload,
    /// The GPU writes, the CPU reads
    Readback,
}

impl Purpose {
    /// The bit that says so to the driver.
    pub(crate) const fn flags(self) -> u32 {
        match self {
            Self::GpuOnly => uapi::CREATE_GPU_ONLY,
            Self::GpuMostly => uapi::CREATE_GPU_MOSTLY,
            Self::Upload => uapi::CREATE_UPLOAD,
            Self::Readback => uapi::CREATE_READBACK,
        }
    }
}

fn window(text: &str) -> Result<uapi::Window, String> {
    let numbers = text.split_once("..").and_then(|(first, last)| {
        Some(uapi::Window {
            first_page: number::decimal(first)?,
            last_page: number::decimal(last)?,
        })
    });
    numbers.ok_or_else(|| format!("'{text}' is not a window: write pages as 65536..69632"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn windows_are_two_page_numbers() {
        let window = window("65536..69632").unwrap();
        assert_eq!((window.first_page, window.last_page), (65536, 69632));
        for wrong in ["", "1", "1..", "..2", "a..b", "1-2", "+1..2"] {
            assert!(super::window(wrong).is_err(), "{wrong}");
        }
    }
}
