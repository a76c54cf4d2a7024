//! `presilctl kexec`: another kernel takes over in the middle of the GPU's work.

use crate::device::{Buffer, Device};
use crate::error::{Error, Result, ensure};
use presil_uapi as uapi;
use rustix::system::{RebootCommand, reboot};
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::thread;

/// What is filled over and over, in RAM: what a GPU that goes on would write to.
const BYTES: u64 = 8 << 20;
/// `KEXEC_FILE_ON_CRASH`: the kernel is for after a crash.
const ON_CRASH: libc::c_ulong = 2;

/// Loads the kernel, keeps the GPU busy and gives the machine to the kernel.
pub(crate) fn run(crash: bool, kernel: &Path, initramfs: &Path, append: &str) -> Result<bool> {
    load(if crash { ON_CRASH } else { 0 }, kernel, initramfs, append)?;
    match Device::open() {
        Ok(device) => keep_busy(&device)?,
        Err(Error::NoDevice) => {}
        Err(error) => return Err(error),
    }
    if crash {
        let trigger = Path::new("/proc/sysrq-trigger");
        fs::write(trigger, "c").map_err(Error::file(trigger))?;
    }
    let why = reboot(RebootCommand::Kexec).err();
    Err(Error::Wrong(format!("no kernel took over: {why:?}")))
}

/// Returns when jobs are queued and a thread queues more, whatever happens then.
fn keep_busy(device: &Device) -> Result<()> {
    let buffer = device.create(uapi::CREATE_READBACK, BYTES, &[])?;
    for pattern in 0..4 {
        buffer.start_fill(0, BYTES, pattern)?;
    }
    thread::spawn(move || while fill(&buffer).is_ok() {});
    Ok(())
}

fn fill(buffer: &Buffer) -> Result<u64> {
    buffer.start_fill(0, BYTES, u32::MAX)
}

/// `kexec_file_load(2)`.
fn load(flags: libc::c_ulong, kernel: &Path, initramfs: &Path, append: &str) -> Result<()> {
    let open = |path: &Path| File::open(path).map_err(Error::file(path));
    let (kernel, initramfs) = (open(kernel)?, open(initramfs)?);
    let append = CString::new(append)
        .map_err(|_| Error::Wrong("a kernel's command line has no 0 in it".into()))?;
    // SAFETY: the descriptors are open, and the command line is as long as it says.
    let status = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initramfs.as_raw_fd(),
            append.as_bytes_with_nul().len(),
            append.as_ptr(),
            flags,
        )
    };
    let error = io::Error::last_os_error();
    ensure!(status == 0, "kexec_file_load: {error}");
    Ok(())
}
