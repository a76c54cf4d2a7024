//! Counting instructions where there is no performance counter: a child
//! process executes the work step by step.

use std::hint::black_box;

/// Rounds over which a count is averaged, behind some that meet the paths
/// taken only once.
const ROUNDS: u64 = 256;
const FIRST_ROUNDS: u64 = 16;

/// Instructions that one `work` executes in user mode, on average.
///
/// # Panics
/// The system does not let a process trace its child.
pub fn instructions(mut work: impl FnMut()) -> f64 {
    let mut run = |rounds: u64| {
        stepped(|| {
            for _ in 0..black_box(rounds) {
                work();
            }
        })
    };
    let (few, many) = (run(FIRST_ROUNDS), run(FIRST_ROUNDS + ROUNDS));
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let average = (many - few) as f64 / ROUNDS as f64;
    average
}

/// Instructions between two stops of a child, with `work` between them.
fn stepped(work: impl FnOnce()) -> u64 {
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
    assert_eq!(wait(child), Some(libc::SIGSTOP), "ptrace is refused");
    let mut count = 0;
    loop {
        // SAFETY: the child is ours and stopped.
        unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, child, 0, 0) };
        match wait(child) {
            Some(libc::SIGTRAP) => count += 1,
            Some(libc::SIGSTOP) => break,
            other => panic!("the child has stopped with {other:?}"),
        }
    }
    // SAFETY: the child is ours.
    unsafe { libc::kill(child, libc::SIGKILL) };
    wait(child);
    count
}

/// The signal with which the child stops; `None` if it has ended.
fn wait(child: libc::pid_t) -> Option<libc::c_int> {
    let mut status = 0;
    // SAFETY: `status` lives.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    libc::WIFSTOPPED(status).then(|| libc::WSTOPSIG(status))
}
