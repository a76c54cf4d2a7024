//! What the server takes from itself before a stranger may talk to it, so that a
//! thread that was taken over can do little: `no_new_privs`, Landlock for files,
//! and a seccomp filter of system calls (docs/threat-model.md).
//!
//! An unknown system call gets `EPERM` and ends nothing: QEMU would not survive
//! the end of its server.

use std::backtrace::Backtrace;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter_all_threads,
};

/// The newest Landlock whose rules are asked for; an older kernel keeps what it knows.
const LANDLOCK: ABI = ABI::V6;

/// System calls with any arguments.
const ALLOWED: &[libc::c_long] = &[
    // Descriptors that are there already.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_preadv2,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_pipe2,
    libc::SYS_io_setup,
    libc::SYS_io_submit,
    libc::SYS_io_getevents,
    libc::SYS_io_destroy,
    // Sockets that are there already, and their clients.
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_recvmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    // Memory; a new GPU's VRAM.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_memfd_create,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    // Threads and time.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_getrandom,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // The server's own socket files, at its end; Landlock says where.
    libc::SYS_unlink,
    libc::SYS_unlinkat,
];

/// Why the sandbox is not as tight as it should be.
#[derive(Debug, thiserror::Error)]
enum Missing {
    #[error("Landlock: {0}")]
    Landlock(#[from] RulesetError),
    #[error("Landlock: this kernel does not have it, or it is off")]
    NoLandlock,
    #[error("seccomp: {0}")]
    Seccomp(#[from] seccompiler::Error),
    #[error("seccomp: {0}")]
    Filter(#[from] seccompiler::BackendError),
}

/// Before the first thread is started: no privileges by programs, no core file
/// with guests' memory, and no files but the sockets' own, which are made and
/// removed in `socket_folders`.
pub fn enter_files<'a>(socket_folders: impl Iterator<Item = &'a Path>) {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // It may be lowered by anybody.
    let _ = setrlimit(Resource::Core, none);
    if is_tracing() {
        // The files that name functions are opened now, and kept.
        let _ = Backtrace::force_capture().to_string();
    }
    tell(restrict_files(socket_folders));
}

/// Whether a panic is to tell where it came from.
fn is_tracing() -> bool {
    std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0")
}

/// When all that needs more is done, and nobody was let in yet: every thread
/// keeps only the system calls of a running server.
pub fn enter_calls() {
    tell(restrict_calls());
}

fn tell(entered: Result<(), Missing>) {
    if let Err(missing) = entered {
        warn(&missing);
    }
}

fn warn(missing: &dyn Display) {
    tracing::warn!("the sandbox is not complete: {missing}. The rest of it is in force");
}

fn restrict_files<'a>(socket_folders: impl Iterator<Item = &'a Path>) -> Result<(), Missing> {
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?;
    for folder in socket_folders {
        // What is not there cannot be used either.
        if let Ok(place) = PathFd::new(folder) {
            let access = AccessFs::MakeSock | AccessFs::RemoveFile;
            (&mut ruleset).add_rule(PathBeneath::new(place, access))?;
        }
    }
    match ruleset.restrict_self()?.ruleset {
        RulesetStatus::NotEnforced => Err(Missing::NoLandlock),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

fn restrict_calls() -> Result<(), Missing> {
    let arch = std::env::consts::ARCH.try_into()?;
    let refused = |errno: i32| SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules()?, refused(libc::EPERM), SeccompAction::Allow, arch)?;
    // Its arguments are out of a filter's reach: glibc then takes clone.
    let no_clone3 = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_clone3, vec![])]),
        SeccompAction::Allow,
        refused(libc::ENOSYS),
        arch,
    )?;
    for filter in [no_clone3, filter] {
        let program: BpfProgram = filter.try_into()?;
        apply_filter_all_threads(&program)?;
    }
    Ok(())
}

/// What is allowed, and with which arguments.
fn rules() -> Result<BTreeMap<libc::c_long, Vec<SeccompRule>>, Missing> {
    let mut rules: BTreeMap<_, _> = ALLOWED.iter().map(|call| (*call, vec![])).collect();
    // The other filter answers it.
    rules.insert(libc::SYS_clone3, vec![]);
    let thread = bits(libc::CLONE_THREAD);
    let executable = bits(libc::PROT_EXEC);
    let read_only = bits(libc::O_RDONLY | libc::O_CLOEXEC);
    let stream = bits(libc::SOCK_STREAM | libc::SOCK_CLOEXEC);
    let own = u64::from(std::process::id());
    let one = SeccompCmpOp::Eq;
    for (call, argument, operator, value) in [
        // Threads, no processes.
        (libc::SYS_clone, 0, SeccompCmpOp::MaskedEq(thread), thread),
        // No code that was not there.
        (libc::SYS_mmap, 2, SeccompCmpOp::MaskedEq(executable), 0),
        (libc::SYS_mprotect, 2, SeccompCmpOp::MaskedEq(executable), 0),
        // For reading; Landlock says what.
        (libc::SYS_openat, 2, one.clone(), read_only),
        // A datagram socket of a pair could still send to any path.
        (libc::SYS_socketpair, 1, one.clone(), stream),
        (libc::SYS_ioctl, 1, one.clone(), libc::FIONBIO),
        (libc::SYS_prctl, 0, one.clone(), bits(libc::PR_SET_NAME)),
        (libc::SYS_tgkill, 0, one, own),
    ] {
        let length = SeccompCmpArgLen::Dword;
        let condition = SeccompCondition::new(argument, length, operator, value)?;
        rules.insert(call, vec![SeccompRule::new(vec![condition])?]);
    }
    Ok(rules)
}

fn bits(flags: i32) -> u64 {
    flags.unsigned_abs().into()
}
