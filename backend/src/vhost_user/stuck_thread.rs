//! Ends a wait for an answer that a client does not give.
//!
//! The vhost crate waits for the answer to `SHMEM_MAP` in `recvmsg`, without a
//! deadline, and does not hand out the socket that it waits at. The kernel says
//! which one that is: `/proc/self/task/TID/syscall` has the number of the system
//! call that a thread is blocked in, and its arguments.

use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use rustix::net::{Shutdown, shutdown};
use rustix::thread::Pid;

/// Makes the wait of thread `tid` for a message end, if it is in one. Says
/// whether it was: it may be on its way into the next, so ask again until the
/// thread is done.
pub(super) fn wake(tid: Pid) -> bool {
    let Some(socket) = waited_for(tid).and_then(duplicate) else {
        return false;
    };
    // Still the same: a thread that waits at a socket does not close it.
    if waited_for(tid).is_none() {
        return false;
    }
    shutdown(&socket, Shutdown::Both).is_ok()
}

/// The socket that thread `tid` waits at.
fn waited_for(tid: Pid) -> Option<RawFd> {
    let path = format!("/proc/self/task/{}/syscall", tid.as_raw_nonzero());
    let text = std::fs::read_to_string(path).ok()?;
    let mut words = text.split_whitespace();
    let call: libc::c_long = words.next()?.parse().ok()?;
    let first = words.next()?.strip_prefix("0x")?;
    let waits = [libc::SYS_recvmsg, libc::SYS_sendmsg].contains(&call);
    RawFd::from_str_radix(first, 16).ok().filter(|_| waits)
}

fn duplicate(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: the other thread is in a system call that uses it, and nobody
    // else may close it; if it is closed all the same, this fails.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    fd.try_clone_to_owned().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_that_waits_for_a_message_is_woken() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (tell, told) = mpsc::channel();
        let waiting = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid()).unwrap();
            let mut space = [];
            let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
            let mut buf = [0];
            let mut slices = [std::io::IoSliceMut::new(&mut buf)];
            let flags = rustix::net::RecvFlags::empty();
            rustix::net::recvmsg(&theirs, &mut slices, &mut control, flags)
                .unwrap()
                .bytes
        });
        let tid = told.recv().unwrap();
        while !wake(tid) {
            std::thread::yield_now();
        }
        assert_eq!(waiting.join().unwrap(), 0);
        assert_eq!((&ours).read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_thread_that_does_something_else_is_left_alone() {
        let (end, ended) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let sleeper = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid()).unwrap();
            ended.recv()
        });
        assert!(!wake(told.recv().unwrap()));
        drop(end);
        assert!(sleeper.join().unwrap().is_err());
    }
}
