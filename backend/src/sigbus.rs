//! Lent memory that goes away while it is used.
//!
//! A client can cut the file short that holds its guest's memory, or lend huge
//! pages that do not exist: the next access raises SIGBUS, which would end the
//! process with every other client's GPU. Inside a [`Scope`] the missing page is
//! replaced by one of zeros instead, and [`is_lost`] tells the access, which
//! becomes a bus error. Whoever lent the memory is then sent away
//! ([`crate::shared_gpu::SharedGpu::set_client`]). A SIGBUS outside a scope
//! still ends the process: that memory is our own.
//!
//! One process for each client would contain the same, at the price of a
//! supervisor, of control answers across processes, and of more memory.

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::ptr;
use std::sync::OnceLock;

thread_local! {
    // Constants without destructors: a signal handler may use them.
    static SCOPES: Cell<u32> = const { Cell::new(0) };
    /// Where memory was missed last, or 0.
    static LOST: Cell<usize> = const { Cell::new(0) };
}

/// What a page of lent memory may have, the usual first: of a mapping of huge
/// pages only a whole one can be replaced.
const PAGE_BYTES: [usize; 3] = [4 << 10, 2 << 20, 1 << 30];

/// While it lives this thread may use lent memory.
pub(crate) struct Scope(PhantomData<*const ()>);

impl Scope {
    /// Begins one. They nest.
    pub(crate) fn enter() -> Self {
        if SCOPES.get() == 0 {
            LOST.set(0);
        }
        SCOPES.set(SCOPES.get() + 1);
        Self(PhantomData)
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        SCOPES.set(SCOPES.get() - 1);
    }
}

/// Whether this thread is in a scope, as it is while it has a GPU.
pub(crate) fn is_in_scope() -> bool {
    SCOPES.get() != 0
}

/// Whether this thread has met missing memory since its outermost scope began.
pub(crate) fn is_lost() -> bool {
    LOST.get() != 0
}

/// At which address of this process, if it has; and forgets it: the consequences
/// are drawn.
pub(crate) fn take_lost() -> Option<usize> {
    Some(LOST.replace(0)).filter(|at| *at != 0)
}

/// Installs the handler, once for the process.
pub(crate) fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Option<i32>> = OnceLock::new();
    let error = INSTALLED.get_or_init(|| {
        // SAFETY: all zeros is a valid sigaction, and what matters is set.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        let handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) = handle;
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: the handler calls nothing that a signal handler must not.
        let done = unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) };
        (done != 0).then(|| io::Error::last_os_error().raw_os_error().unwrap_or(0))
    });
    error.map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error)))
}

extern "C" fn handle(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo_t of a SIGBUS to this handler.
    let at = unsafe { (*info).si_addr() };
    if SCOPES.get() != 0 && replace(at as usize) {
        LOST.set(at as usize);
    } else {
        // SAFETY: the default action ends the process at the next try.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
    }
}

/// Puts a page of zeros where `at` is.
fn replace(at: usize) -> bool {
    PAGE_BYTES.iter().any(|bytes| {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
        let page = ptr::without_provenance_mut(at & !(bytes - 1));
        // SAFETY: a page that raised SIGBUS is mapped, and holds nothing that
        // anybody could miss. A part of a larger page is refused by the kernel.
        let mapped = unsafe { libc::mmap(page, *bytes, protection, flags, -1, 0) };
        mapped != libc::MAP_FAILED
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

    use super::*;

    const BYTES: usize = 0x1_0000;

    /// Reads memory of a file that has none.
    pub(crate) fn meet_missing_memory() {
        let file = memfd_create("lent", MemfdFlags::CLOEXEC).unwrap();
        // SAFETY: a new mapping at a place that the kernel chooses.
        let at = unsafe {
            mmap(
                ptr::null_mut(),
                BYTES,
                ProtFlags::READ,
                MapFlags::SHARED,
                &file,
                0,
            )
        };
        let at = at.unwrap();
        // SAFETY: it is mapped; the handler replaces the page.
        assert_eq!(unsafe { at.cast::<u8>().read_volatile() }, 0);
        // SAFETY: mapped above, and not used any more.
        unsafe { munmap(at, BYTES) }.unwrap();
    }

    #[test]
    fn memory_that_its_file_lost_reads_zero_and_is_told_to_this_thread_alone() {
        install().unwrap();
        let file = memfd_create("lent", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, BYTES as u64).unwrap();
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at a place that the kernel chooses.
        let at = unsafe {
            mmap(
                ptr::null_mut(),
                BYTES,
                protection,
                MapFlags::SHARED,
                &file,
                0,
            )
        };
        let at = at.unwrap().cast::<u8>();
        // SAFETY: these bytes are mapped until the end.
        let byte = |offset: usize| unsafe { at.add(offset) };
        {
            let _scope = Scope::enter();
            // SAFETY: as above.
            unsafe { byte(BYTES - 1).write_volatile(7) };
            assert!(!is_lost());
            ftruncate(&file, 4096).unwrap();
            // SAFETY: as above; the handler replaces the page.
            assert_eq!(unsafe { byte(BYTES - 1).read_volatile() }, 0);
            assert!(is_lost());
            assert_eq!(LOST.get(), byte(BYTES - 1).addr());
            std::thread::spawn(|| assert!(!is_lost())).join().unwrap();
            let _inner = Scope::enter();
            assert!(is_lost(), "until the outermost ends");
            // SAFETY: as above.
            unsafe { byte(0).write_volatile(1) };
        }
        let _scope = Scope::enter();
        assert!(!is_lost());
        // SAFETY: mapped above, and not used any more.
        unsafe { munmap(at.cast(), BYTES) }.unwrap();
    }
}
