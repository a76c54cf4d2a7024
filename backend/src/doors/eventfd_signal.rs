//! Signals an eventfd that somebody else can make blocking at any time.
//!
//! A `write` to a full, blocking eventfd waits, and the flag is shared with
//! whoever lent it. What the kernel's own signal does (as for KVM's irqfd) never
//! waits: it adds 1 and stops at the maximum. User space reaches it through
//! asynchronous I/O: a request may name an eventfd to be signalled when it is
//! done. The request here reads nothing from an empty file, so it is done when
//! `io_submit` returns. System calls: `io_setup`, `io_submit`, `io_getevents`.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::OnceLock;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;

/// `IOCB_CMD_PREAD` and `IOCB_FLAG_RESFD` (`linux/aio_abi.h`).
const PREAD: u16 = 0;
const SIGNAL_WHEN_DONE: u32 = 1;
/// Among them are flags that no kernel knows.
const UNKNOWN_FLAGS: u32 = u32::MAX;
/// Requests that may be under way at once, by different threads.
const REQUESTS: libc::c_long = 64;

/// `struct iocb` of a little-endian machine.
#[repr(C)]
struct Request {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    file: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    eventfd: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Done {
    data: u64,
    request: u64,
    result: i64,
    second_result: i64,
}

const _: () = assert!(size_of::<Request>() == 64 && size_of::<Done>() == 32);
const _: () = assert!(cfg!(target_endian = "little"));

/// The process's requests, and the file that they read.
struct Context {
    id: libc::c_ulong,
    empty: OwnedFd,
}

static CONTEXT: OnceLock<Result<Context, Errno>> = OnceLock::new();

fn context() -> Result<&'static Context, Errno> {
    let made = CONTEXT.get_or_init(|| {
        let empty = memfd_create("nothing", MemfdFlags::CLOEXEC)?;
        let mut id: libc::c_ulong = 0;
        // SAFETY: `id` is writable and 0, as io_setup wants it.
        let made = unsafe { libc::syscall(libc::SYS_io_setup, REQUESTS, &raw mut id) };
        done(made).map(|_| Context { id, empty })
    });
    made.as_ref().map_err(|error| *error)
}

/// Makes what [`signal`] needs, so that it cannot fail later.
///
/// # Errors
/// The kernel has no asynchronous I/O, or no room for more (`fs.aio-max-nr`).
pub(crate) fn prepare() -> Result<(), Errno> {
    context().map(|_| ())
}

/// Adds 1 to `eventfd` unless it is full. Never waits.
///
/// # Errors
/// `EINVAL`: it is no eventfd; `EAGAIN`: the kernel has no memory for the moment.
pub(crate) fn signal(eventfd: BorrowedFd<'_>) -> Result<(), Errno> {
    let context = context()?;
    submit(context, eventfd, 0)?;
    let mut over = [Done::default(); 4];
    // SAFETY: room for as many as are asked for; a null time waits for the
    // minimum only, which is none.
    let taken = unsafe {
        libc::syscall(
            libc::SYS_io_getevents,
            context.id,
            0 as libc::c_long,
            over.len(),
            over.as_mut_ptr(),
            ptr::null_mut::<libc::timespec>(),
        )
    };
    done(taken).map(|_| ())
}

/// Whether `fd` is an eventfd. Asks the kernel and not the file, which may be
/// of a FUSE file system whose server does not answer; signals nothing.
pub(crate) fn is_eventfd(fd: BorrowedFd<'_>) -> bool {
    // The eventfd is looked up before the flags are looked at.
    let refused = context().and_then(|context| submit(context, fd, UNKNOWN_FLAGS));
    refused == Err(Errno::OPNOTSUPP)
}

/// Reads nothing from the empty file, with `flags`, and signals `eventfd` then.
fn submit(context: &Context, eventfd: BorrowedFd<'_>, flags: u32) -> Result<(), Errno> {
    let number = |fd: i32| u32::try_from(fd).map_err(|_| Errno::BADF);
    let mut request = Request {
        data: 0,
        key: 0,
        rw_flags: flags,
        opcode: PREAD,
        priority: 0,
        file: number(context.empty.as_raw_fd())?,
        buffer: 0,
        bytes: 0,
        offset: 0,
        reserved: 0,
        flags: SIGNAL_WHEN_DONE,
        eventfd: number(eventfd.as_raw_fd())?,
    };
    let mut requests = [&raw mut request];
    // SAFETY: one valid request, which is over when this returns: a read of no
    // bytes from a memfd is never deferred, and writes to no buffer.
    let submitted = unsafe {
        libc::syscall(
            libc::SYS_io_submit,
            context.id,
            1 as libc::c_long,
            requests.as_mut_ptr(),
        )
    };
    done(submitted).map(|_| ())
}

fn done(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL));
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::event::epoll::CreateFlags;
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::io::{read, write};
    use rustix::pipe::pipe;

    use super::*;

    fn count(fd: &OwnedFd) -> u64 {
        let mut raw = [0; 8];
        read(fd, &mut raw).unwrap();
        u64::from_ne_bytes(raw)
    }

    #[test]
    fn signals_are_counted_and_none_is_lost() {
        let fd = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        for _ in 0..1000 {
            signal(fd.as_fd()).unwrap();
        }
        assert_eq!(count(&fd), 1000);
        assert_eq!(read(&fd, &mut [0; 8]), Err(Errno::AGAIN));
    }

    #[test]
    fn threads_that_signal_at_once_lose_none_either() {
        let fd = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1000).for_each(|_| signal(fd.as_fd()).unwrap()));
            }
        });
        assert_eq!(count(&fd), 8000);
    }

    #[test]
    fn a_full_eventfd_that_would_block_is_not_waited_for() {
        let fd = eventfd(0, EventfdFlags::empty()).unwrap();
        write(&fd, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        signal(fd.as_fd()).unwrap();
        signal(fd.as_fd()).unwrap();
    }

    #[test]
    fn what_is_no_eventfd_is_refused() {
        let (_reader, writer) = pipe().unwrap();
        assert_eq!(signal(writer.as_fd()), Err(Errno::INVAL));
    }
    #[test]
    fn an_eventfd_is_told_from_what_only_looks_like_one_and_is_not_signalled() {
        let fd = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        assert!(is_eventfd(fd.as_fd()));
        assert_eq!(read(&fd, &mut [0; 8]), Err(Errno::AGAIN));
        // An epoll has no file type either, and may hold files that wait.
        let epoll = rustix::event::epoll::create(CreateFlags::CLOEXEC).unwrap();
        let memory = memfd_create("memory", MemfdFlags::CLOEXEC).unwrap();
        for other in [epoll, memory] {
            assert!(!is_eventfd(other.as_fd()));
        }
    }
}
