//! Counting instructions where there is no performance counter: a child
//! process executes the work step by step.

use std::hint::black_box;
use std::process::ExitCode;

/// Rounds before those that are counted: they meet the paths taken only once.
const FIRST_ROUNDS: u64 = 16;

/// Prints what `counts` counts, as lines of [`report`]. It fails if a count is above its
/// limit: they are exact, on every machine and under any load. `scripts/test` runs
/// programs of this kind and reads what they print.
pub fn table(counts: impl FnOnce() -> bool) -> ExitCode {
    if let Some(refusal) = refusal() {
        println!("not counted: {refusal}");
        return ExitCode::SUCCESS;
    }
    println!("{:40} {:>12} {:>6}", "operation", "instructions", "limit");
    if counts() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Says whether the count is within its limit.
pub fn report(name: &str, count: f64, limit: f64) -> bool {
    let within = count <= limit;
    let verdict = if within { "" } else { "  TOO MANY" };
    println!("{name:40} {count:12.0} {limit:6.0}{verdict}");
    within
}

/// Why this host does not let a process be stepped through, if it does not.
fn refusal() -> Option<String> {
    stepped(|| ()).err()
}

/// Instructions that one `work` executes in user mode, the mean of `rounds`.
///
/// # Panics
/// The host does not let a process be stepped through.
pub fn instructions(rounds: u64, mut work: impl FnMut()) -> f64 {
    let mut run = |rounds: u64| {
        let counted = stepped(|| {
            for _ in 0..black_box(rounds) {
                work();
            }
        });
        counted.unwrap_or_else(|refusal| panic!("{refusal}"))
    };
    let (few, many) = (run(FIRST_ROUNDS), run(FIRST_ROUNDS + rounds));
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let average = (many - few) as f64 / rounds as f64;
    average
}

/// Instructions that `work` executes in user mode, once. It happens to a copy of this
/// process: here, nothing has changed afterwards.
///
/// # Panics
/// As [`instructions`].
pub fn instructions_once(work: impl FnOnce()) -> u64 {
    let count = |counted: Result<u64, String>| counted.unwrap_or_else(|it| panic!("{it}"));
    count(stepped(work)).saturating_sub(count(stepped(|| ())))
}

/// Instructions between two stops of a child, with `work` between them.
///
/// # Errors
/// In words: what the host refuses.
fn stepped(work: impl FnOnce()) -> Result<u64, String> {
    // SAFETY: a benchmark has one thread, so the child may do what it likes.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "fork: {}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: no pointers. Untraced, the child would stop for ever.
        unsafe {
            if libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) != 0 {
                libc::_exit(1);
            }
            libc::raise(libc::SIGSTOP);
        }
        work();
        // SAFETY: no pointers.
        unsafe {
            libc::raise(libc::SIGSTOP);
            libc::_exit(0);
        }
    }
    if wait(child) != Some(libc::SIGSTOP) {
        return Err("ptrace(PTRACE_TRACEME) is refused".into());
    }
    let counted = step_to_the_end(child);
    // SAFETY: the child is ours.
    unsafe { libc::kill(child, libc::SIGKILL) };
    wait(child);
    counted
}

/// Instructions until a stopped child stops itself.
fn step_to_the_end(child: libc::pid_t) -> Result<u64, String> {
    let mut count = 0;
    loop {
        // SAFETY: the child is ours and stopped.
        if unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, child, 0, 0) } != 0 {
            let error = std::io::Error::last_os_error();
            return Err(format!("ptrace(PTRACE_SINGLESTEP): {error}"));
        }
        match wait(child) {
            Some(libc::SIGTRAP) => count += 1,
            Some(libc::SIGSTOP) => return Ok(count),
            Some(signal) => return Err(format!("a step ends with signal {signal}")),
            None => return Err("a child that is stepped through ends early".into()),
        }
    }
}

/// The signal with which the child stops; `None` if it has ended.
fn wait(child: libc::pid_t) -> Option<libc::c_int> {
    let mut status = 0;
    // SAFETY: `status` lives.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    libc::WIFSTOPPED(status).then(|| libc::WSTOPSIG(status))
}
