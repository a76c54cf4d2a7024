//! The command line.

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use e3k_regs::Chip;
use presil_device::{Config, ConfigError, OnWait};
use presil_values::{number, size};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::command_line::check_args::CheckArgs;
use crate::command_line::chips;
use crate::command_line::defects::{self, Asked};
use crate::command_line::explain;
use crate::command_line::human;
use crate::command_line::mmu_args::MmuArgs;
use crate::command_line::qemu_args;
use crate::command_line::query;
use crate::command_line::regs;
use crate::control::questions;
use crate::doors::pci::{self, Class, Identity};
use crate::service::life::Verdict;
use crate::service::log_flood::{self, FloodGate};
use crate::service::server::{self, ControlOptions, DoorKind, DoorOptions, Options};
use crate::service::socket::{self, Access};

const GUIDE: &str = "\
Examples:
  presil serve --vhost-user /tmp/gpu.sock
        a 10C0 with 1G of VRAM, half of it visible to the CPU
  presil serve --vhost-user /tmp/gpu.sock --print-qemu-args
        how to start a QEMU (11.1 or newer) that uses it
  presil serve --vfio-user /tmp/gpu.sock
        the same as a PCI function with the chip's own ids
  presil query /tmp/ctl.sock counters
        ask a server that was started with --control /tmp/ctl.sock
  presil regs 0x49004=0x300
        what a register value means
  presil serve --vhost-user /tmp/gpu.sock --check warn
        the same GPU, and it tells what your driver does wrong

Environment:
  PRESIL_LOG (or RUST_LOG)   what is logged to stderr: error, warn, info, debug,
                             or per module, as in presil=debug

Exit codes:
  0  normal: QEMU left, a signal while no guest was attached, a query answered
  1  failure: the message says what and why
  2  the command line is wrong
  3  nothing failed, and the driver checker (--check) has reports";

const SERVE_GUIDE: &str = "\
Life of a server:
  QEMU leaving ends it with exit code 0 (with several sockets, each its own
  GPU, every QEMU); with --keep it listens again, with a
  GPU that was power-cycled. SIGINT or SIGTERM ends it when no guest is
  attached; with a guest the first one waits for QEMU to leave, since QEMU
  aborts without its server, and a second one ends at once with exit code 1.

Guest RAM must be shared with this process (share=on): --print-qemu-args shows
how. QEMU 11.1 or newer is needed.

Several GPUs are numbered from 0, first those of --vhost-user, then those of
--vfio-user; questions name one, as in `presil query SOCKET gpu 1 counters`.";

/// The questions are laid out for a terminal of this width.
const GUIDE_COLUMNS: usize = 80;

const QUERY_GUIDE: &str = "

On a terminal answers are for people: hexadecimal numbers, fields by name, tables.
On a pipe, and with --json, an answer is one line of JSON.

Examples:
  presil query /tmp/ctl.sock why
        nothing moves, or no interrupt comes: ask this first
  presil query /tmp/ctl.sock rings --watch
        the rings, again every second, until Ctrl-C
  presil query /tmp/ctl.sock reg 'TTBR[3]'
        a register by name; also MMU_MODE, 'ring[0].tail' and 0x49004
  presil query --json /tmp/ctl.sock fences 64 | jq .fences
        for programs";

/// A GPU to bring your driver up on before the silicon exists.
///
/// presil runs a register-level model of an e3k-class GPU and attaches it to a
/// QEMU guest.
#[derive(Debug, Parser)]
#[command(name = "presil", version, after_help = GUIDE)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a GPU and wait for QEMU.
    #[command(after_help = SERVE_GUIDE)]
    Serve(Box<ServeArgs>),
    /// Ask a running server a question.
    #[command(after_help = question_guide())]
    Query(QueryArgs),
    /// Print the registers of BAR0, one of them, or what a value means.
    #[command(after_help = regs::GUIDE)]
    Regs(regs::RegsArgs),
    /// Print the rules of the driver checker, or one of them whole.
    #[command(after_help = explain::GUIDE)]
    Explain(explain::ExplainArgs),
    /// Print the chips that --chip knows, and their differences.
    #[command(after_help = chips::GUIDE)]
    Chips(chips::ChipsArgs),
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// Unix socket on which QEMU finds a GPU as a virtio device. May be repeated.
    #[arg(long, value_name = "SOCKET", value_parser = socket_path())]
    vhost_user: Vec<PathBuf>,

    /// Unix socket on which QEMU finds a GPU as a PCI function. May be repeated.
    #[arg(long, value_name = "SOCKET", value_parser = socket_path())]
    vfio_user: Vec<PathBuf>,

    /// VRAM that software may use: what 0xD374 can say, or, without --vfio-user, a multiple of 256M up to 64G.
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = size::parse)]
    vram: u64,

    /// Part of VRAM that the CPU sees: a power of two, at most VRAM and 4G.
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = size::parse)]
    visible: u64,

    /// Chip to be.
    #[arg(long, value_name = "CHIP", default_value = "10c0", value_parser = chip)]
    chip: Chip,

    /// Class of the PCI function.
    #[arg(
        long,
        value_name = "CLASS",
        default_value = "display",
        requires = "vfio_user"
    )]
    pci_class: Class,

    /// Subsystem ids of the PCI function, in hexadecimal; without it the chip's own.
    #[arg(long, value_name = "VENDOR:DEVICE", value_parser = pci::parse_ids, requires = "vfio_user")]
    pci_subsystem: Option<(u16, u16)>,

    /// Listen again when QEMU leaves, with a power-cycled GPU.
    #[arg(long)]
    keep: bool,

    /// Unix socket on which questions about every GPU are answered (see `presil query`).
    #[arg(long, value_name = "SOCKET", value_parser = socket_path())]
    control: Option<PathBuf>,

    /// Unix socket on which questions about GPU number N alone are answered: what a guest's
    /// serial port should be joined to. May be repeated.
    #[arg(long, value_name = "N=SOCKET", value_parser = gpu_control)]
    gpu_control: Vec<(usize, PathBuf)>,

    /// Who may connect to the sockets, in octal: 600 is this user alone, 660 the group as well.
    #[arg(long, value_name = "MODE", default_value = "600", value_parser = socket_mode)]
    socket_mode: u32,

    /// Group of the sockets, by name or number.
    #[arg(long, value_name = "GROUP", value_parser = socket::group)]
    socket_group: Option<u32>,

    /// Keep every system call and file at hand: to debug or trace the server.
    #[arg(long)]
    no_sandbox: bool,

    /// Fill VRAM with the pattern of this number at power-on, instead of zeros.
    #[arg(long, value_name = "N", value_parser = seed)]
    vram_seed: Option<u64>,

    /// Break the chip on purpose, to see that tests notice: with one defect or several, by their
    /// names. `--defect help` lists them. May be repeated.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = defects::parse)]
    defect: Vec<Asked>,

    /// What a ring's Wait does that no earlier fence satisfies: it is recorded
    /// and passed, or halts the ring.
    #[arg(long, value_name = "WHAT", default_value = "pass")]
    on_wait: OnWaitArg,

    /// No vertical blanks, and frame counters that stand still: without it both go at 60 Hz.
    #[arg(long)]
    no_vsync: bool,

    /// Bytes of a pixel, 1, 2, 4, 8 or 16, of a surface format, 0 to 511, so that copies and fills
    /// take it. May be repeated. Without it they take only 89, B8G8R8A8.
    #[arg(long, value_name = "CODE=BYTES", value_parser = surface_format)]
    surface_format: Vec<(u32, u32)>,

    #[command(flatten)]
    mmu: MmuArgs,

    #[command(flatten)]
    check: CheckArgs,

    #[command(flatten)]
    print: PrintArgs,
}

/// What is printed instead of serving.
#[derive(Debug, Args)]
struct PrintArgs {
    /// Print QEMU's options for this server as one shell-quoted line, and end.
    #[arg(long = "print-qemu-args")]
    qemu_args: bool,

    /// Print ports alone, with room for the GPUs that `device_add` puts there later.
    #[arg(long, requires = "qemu_args")]
    hotplug: bool,

    /// RAM of the guest in the printed options: a multiple of 8K, as QEMU wants it. Beyond 978G
    /// QEMU wants a -cpu with more than 40 bits of addresses, too.
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = qemu_args::guest_ram, requires = "qemu_args")]
    guest_ram: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnWaitArg {
    Pass,
    Halt,
}

#[derive(Debug, Args)]
struct QueryArgs {
    /// The server's --control socket.
    socket: PathBuf,

    /// The question.
    #[arg(required = true)]
    words: Vec<String>,

    /// Text for people, also where the output is no terminal.
    #[arg(long, conflicts_with = "json")]
    human: bool,

    /// One line of JSON, also on a terminal.
    #[arg(long)]
    json: bool,

    /// Ask again every SECONDS (1 unless you say), until Ctrl-C: a terminal is redrawn.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = query::seconds)]
    watch: Option<Duration>,
}

/// Runs the command line; the process's exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log();
    let outcome = match cli.command {
        Command::Serve(args) => {
            let served = serve(&args);
            log_flood::tell_rest();
            match served {
                Ok(verdict) => return ExitCode::from(verdict.code()),
                Err(error) => Err(error),
            }
        }
        Command::Query(args) => ask(&args),
        Command::Regs(args) => print(&regs::answer(&args)),
        Command::Explain(args) => match explain::answer(&args) {
            Ok(text) => print(&text),
            Err(unknown) => wrong_command_line(unknown),
        },
        Command::Chips(args) => print(&chips::answer(&args)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("presil: {error}");
            ExitCode::FAILURE
        }
    }
}

fn ask(args: &QueryArgs) -> Result<(), Box<dyn std::error::Error>> {
    let human = args.human || !args.json && std::io::stdout().is_terminal();
    let show = |answer: &str| query::show(answer, human);
    match args.watch {
        None => print(&show(&query::ask(&args.socket, &args.words)?)?),
        Some(every) => Ok(query::watch(&args.socket, &args.words, human, every)?),
    }
}

/// Prints an answer. Whoever reads may stop early, as `head` does.
fn print(text: &str) -> Result<(), Box<dyn std::error::Error>> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("writing to standard output: {error}").into())
        }
        _ => Ok(()),
    }
}

fn serve(args: &ServeArgs) -> Result<Verdict, Box<dyn std::error::Error>> {
    if args.defect.contains(&Asked::Help) {
        return print(&defects::list()).map(|()| Verdict::Silent);
    }
    let config = config(args).unwrap_or_else(|error| wrong_command_line(error));
    let doors = doors(args);
    if doors.is_empty() {
        wrong_command_line("no socket: expected --vhost-user SOCKET, --vfio-user SOCKET or both");
    }
    let control = controls(args, doors.len());
    if args.print.qemu_args {
        let line = if args.print.hotplug {
            Ok(qemu_args::hotplug_line(
                &doors,
                args.print.guest_ram,
                config.visible_bytes,
            ))
        } else {
            qemu_args::line(&doors, args.print.guest_ram)
        };
        let line = line.unwrap_or_else(|error| wrong_command_line(error));
        return print(&format!("{line}\n")).map(|()| Verdict::Silent);
    }
    let identity = Identity {
        class: args.pci_class,
        subsystem: args.pci_subsystem,
    };
    identity.warn();
    let served = server::serve(&Options {
        doors,
        config,
        identity,
        control,
        access: Access {
            mode: args.socket_mode,
            group: args.socket_group,
        },
        keep: args.keep,
        sandboxed: !args.no_sandbox,
        check: args.check.options()?,
    });
    Ok(served?)
}

/// Ends the process as clap does for what it sees itself: with exit code 2.
fn wrong_command_line(error: impl std::fmt::Display) -> ! {
    let kind = clap::error::ErrorKind::ValueValidation;
    Cli::command().error(kind, error).exit()
}

/// The control sockets. A GPU that does not exist is a mistake of the command line.
fn controls(args: &ServeArgs, gpus: usize) -> Vec<ControlOptions> {
    let all = args.control.iter().map(|socket| ControlOptions {
        socket: socket.clone(),
        gpu: None,
    });
    let bound = args.gpu_control.iter().map(|(number, socket)| {
        if *number >= gpus {
            wrong_command_line(format!(
                "--gpu-control {number}: there are {gpus} GPUs, counted from 0"
            ))
        }
        ControlOptions {
            socket: socket.clone(),
            gpu: Some(*number),
        }
    });
    all.chain(bound).collect()
}

/// The GPUs' doors: first those of `--vhost-user`, then those of `--vfio-user`.
fn doors(args: &ServeArgs) -> Vec<DoorOptions> {
    let door = |kind| {
        move |socket: &PathBuf| DoorOptions {
            kind,
            socket: socket.clone(),
        }
    };
    let virtio = args.vhost_user.iter().map(door(DoorKind::VhostUser));
    let pci = args.vfio_user.iter().map(door(DoorKind::VfioUser));
    virtio.chain(pci).collect()
}

/// The GPU that was asked for.
fn config(args: &ServeArgs) -> Result<Config, ConfigError> {
    // The configuration space of the virtio device can tell any size; a PCI function has only 0xD374.
    let any_size = args.vfio_user.is_empty();
    let mut config = Config::new(args.chip, args.vram, args.visible, any_size)?;
    config.vram_seed = args.vram_seed;
    config.on_wait = match args.on_wait {
        OnWaitArg::Pass => OnWait::Pass,
        OnWaitArg::Halt => OnWait::Halt,
    };
    for (code, bytes) in &args.surface_format {
        config.surface_formats.add(*code, *bytes)?;
    }
    config.vsync = !args.no_vsync;
    config.mmu = args.mmu.options();
    let chosen = args.defect.iter().filter_map(|asked| match asked {
        Asked::Of(defect) => Some(*defect),
        Asked::Help => None,
    });
    config.defects = chosen.collect();
    Ok(config)
}

fn chip(name: &str) -> Result<Chip, String> {
    Chip::from_name(name).ok_or_else(|| {
        let names: Vec<&str> = Chip::ALL.iter().map(|chip| chip.name()).collect();
        format!("no such chip; there are {}", names.join(", "))
    })
}

fn surface_format(text: &str) -> Result<(u32, u32), &'static str> {
    let number = |text| number::parse(text)?.try_into().ok();
    let parts = text.split_once('=');
    let parts = parts.and_then(|(code, bytes)| Some((number(code)?, number(bytes)?)));
    parts.ok_or("expected a format code and the bytes of a pixel, as in 12=2")
}

fn gpu_control(text: &str) -> Result<(usize, PathBuf), String> {
    let parts = text.split_once('=');
    let parts = parts.and_then(|(number, path)| Some((number.parse().ok()?, path)));
    let (number, path) = parts.ok_or("expected the GPU's number and a socket, as in 0=/tmp/ctl")?;
    let path = socket::possible(path.into()).map_err(|error| error.to_string())?;
    Ok((number, path))
}

/// A socket's path; it need not be UTF-8.
fn socket_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(socket::possible)
}

fn socket_mode(text: &str) -> Result<u32, &'static str> {
    let mode = u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777);
    mode.ok_or("expected permissions in octal, as in 660")
}

fn seed(text: &str) -> Result<u64, &'static str> {
    number::parse(text).ok_or("expected a number of 64 bits, decimal or with 0x hexadecimal")
}

fn question_guide() -> String {
    let questions = human::text(&questions::help(), GUIDE_COLUMNS - 2);
    let questions = questions.lines().map(|line| format!("\n  {line}"));
    format!("Questions:{}{QUERY_GUIDE}", questions.collect::<String>())
}

fn start_log() {
    // The queue crate logs every mistake of a guest as an error; the door says it once.
    let default = "info,virtio_queue=off";
    let filter = EnvFilter::try_from_env("PRESIL_LOG")
        .or_else(|_| EnvFilter::try_from_default_env())
        .unwrap_or_else(|_| EnvFilter::new(default));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        // It would be told on standard error, and panic where that is closed.
        .log_internal_errors(false)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    tracing_subscriber::registry()
        .with(filter)
        .with(FloodGate)
        .with(lines)
        .init();
}

#[cfg(test)]
mod tests {
    use presil_device::SurfaceFormats;

    use super::*;

    #[test]
    fn surface_formats_that_were_told_are_the_gpus() {
        let line = ["presil", "serve", "--vhost-user", "gpu"];
        let formats = ["--surface-format=12=2", "--surface-format=0x1ff=16"];
        let cli = Cli::try_parse_from(line.into_iter().chain(formats)).unwrap();
        let Command::Serve(args) = cli.command else {
            panic!("{cli:?}");
        };
        let mut expected = SurfaceFormats::default();
        expected.add(12, 2).unwrap();
        expected.add(511, 16).unwrap();
        assert_eq!(config(&args).unwrap().surface_formats, expected);
    }
}
