//! A file of a FUSE file system whose server answers no question about it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Opcodes of `linux/fuse.h`.
const LOOKUP: u32 = 1;
const OPEN: u32 = 14;
const INIT: u32 = 26;

/// A regular file of 1 MiB with one name.
const MODE: u32 = 0o100_600;
const BYTES: u64 = 1 << 20;

/// The file, and the server's end: when that is dropped, whatever waits for an
/// answer gets an error.
pub struct Stubborn {
    // To go first: to close the file is a question, too.
    server: File,
    pub file: File,
}

impl Stubborn {
    /// # Errors
    /// This host lets this process have no FUSE file system.
    pub fn new() -> io::Result<Self> {
        let mut server = File::options().read(true).write(true).open("/dev/fuse")?;
        let theirs = OwnedFd::from(server.try_clone()?);
        // In this thread's view nothing is mounted there, and it may go.
        let place = tempfile::tempdir()?;
        let path = place.path().to_owned();
        let (tell_mounted, mounted) = mpsc::channel();
        let (tell_opened, opened) = mpsc::channel();
        std::thread::spawn(move || {
            tell_mounted
                .send(mount_here(&theirs, &path))
                .expect("it waits");
            let file = File::options()
                .read(true)
                .write(true)
                .open(path.join("file"));
            // Nobody waits if nothing was mounted.
            let _ = tell_opened.send(file);
        });
        mounted.recv().expect("it is told")?;
        while answer_next(&mut server)? != OPEN {}
        let file = opened.recv().expect("it is told")?;
        Ok(Self { server, file })
    }

    /// Waits until the kernel asks something about the file, and so somebody
    /// waits for the answer.
    pub fn await_question(&mut self) {
        answer_next(&mut self.server).unwrap();
    }
}

/// For this thread alone, and gone with it and what it opened.
fn mount_here(server: &OwnedFd, place: &Path) -> io::Result<()> {
    // SAFETY: the thread gets mounts and a working directory of its own; no
    // descriptor changes.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS)? };
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private)?;
    let fd = server.as_raw_fd();
    let data = format!("fd={fd},rootmode=40700,user_id=0,group_id=0");
    let data = std::ffi::CString::new(data)?;
    mount("presil-test", place, "fuse", MountFlags::empty(), &*data)?;
    Ok(())
}

/// Answers what must be answered to open the file; says what was asked.
fn answer_next(server: &mut File) -> io::Result<u32> {
    let mut request = vec![0; 1 << 18];
    let bytes = server.read(&mut request)?;
    assert!(bytes >= 40, "a header");
    let opcode = u32::from_ne_bytes(request[4..8].try_into().unwrap());
    let body = match opcode {
        // Version 7.31, and room for 64 KiB.
        INIT => words(&[7, 31, 0, 0, 0, 1 << 16, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        // Its attributes are not to be believed for any time.
        LOOKUP => [u64s(&[2, 1, 1, 0]), words(&[0, 0]), attributes()].concat(),
        OPEN => words(&[0; 4]),
        _ => return Ok(opcode),
    };
    let length = u32::try_from(16 + body.len()).unwrap();
    let answer = [&words(&[length, 0])[..], &request[8..16], &body].concat();
    server.write_all(&answer)?;
    Ok(opcode)
}

fn attributes() -> Vec<u8> {
    let numbers = u64s(&[2, BYTES, 0, 0, 0, 0]);
    let rest = words(&[0, 0, 0, MODE, 1, 0, 0, 0, 4096, 0]);
    [numbers, rest].concat()
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|it| it.to_ne_bytes()).collect()
}

fn u64s(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|it| it.to_ne_bytes()).collect()
}
