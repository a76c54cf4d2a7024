//! Counting instructions where there is no performance counter: a child
//! process executes the work step by step.

use std::hint::black_box;

/// Rounds before those that are counted: they meet the paths taken only once.
const FIRST_ROUNDS: u64 = 16;

/// Why this host does not let a process be stepped through, if it does not.
pub fn refusal() -> Option<String> {
    stepped(|| ()).err()
}

/// Instructions that one `work` executes in user mode, the mean of `rounds`.
///
/// # Panics
/// The host does not let a process be stepped through ([`refusal`]).
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
