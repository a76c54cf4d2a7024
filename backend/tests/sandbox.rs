//! What a thread of a jailed server can still do. One test: the jail is for the
//! whole process, and for good.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::backtrace::Backtrace;
use std::fs::File;
use std::io::Read;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Command;

use presil::service::sandbox;
use rustix::fs::{MemfdFlags, memfd_create};

#[test]
fn a_thread_that_was_taken_over_can_open_nothing_and_start_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("gpu");
    let secret = folder.path().join("secret");
    // As the system's log and its supervisor have.
    let system = folder.path().join("system");
    let _system = UnixDatagram::bind(&system).unwrap();
    // SAFETY: nobody else in this process uses the environment at this time.
    unsafe { std::env::set_var("RUST_BACKTRACE", "1") };
    std::fs::write(&secret, "of the user's").unwrap();
    sandbox::enter_files([folder.path()].into_iter());
    let listener = UnixListener::bind(&socket).unwrap();
    let client = UnixStream::connect(&socket).unwrap();
    sandbox::enter_calls();

    // What a server does.
    let (mut served, _) = listener.accept().unwrap();
    drop(client);
    assert_eq!(served.read(&mut [0]).unwrap(), 0);
    let vram = File::from(memfd_create("vram", MemfdFlags::CLOEXEC).unwrap());
    vram.set_len(4096).unwrap();
    UnixStream::pair().unwrap();
    let trace = Backtrace::force_capture().to_string();
    assert!(trace.contains("a_thread_that_was_taken_over"), "{trace}");

    // What somebody would try who has taken a thread over.
    let attempts = std::thread::spawn(move || {
        let program = std::env::current_exe().unwrap_or_else(|_| "/bin/true".into());
        let mut open = vec![];
        for path in [
            &secret,
            &program,
            &"/etc/passwd".into(),
            &"/proc/self/maps".into(),
        ] {
            open.push(File::open(path).is_err());
        }
        open.push(File::create(folder.path().join("new")).is_err());
        open.push(std::fs::write(&secret, "changed").is_err());
        open.push(std::fs::read_dir("/").is_err());
        open.push(std::fs::create_dir(folder.path().join("new")).is_err());
        open.push(std::fs::rename(&secret, folder.path().join("other")).is_err());
        let start = [
            Command::new("/bin/true").spawn().is_err(),
            UnixStream::connect(&socket).is_err(),
            std::net::TcpListener::bind("127.0.0.1:0").is_err(),
            UnixDatagram::pair()
                .and_then(|(one, _other)| one.send_to(b"forged", &system))
                .is_err(),
        ];
        // The server's own socket goes with it.
        std::fs::remove_file(&socket).unwrap();
        (open, start)
    });
    let (open, start) = attempts.join().unwrap();
    assert!(open.iter().all(|refused| *refused), "opened: {open:?}");
    assert!(start.iter().all(|refused| *refused), "started: {start:?}");
}
