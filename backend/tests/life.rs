//! When a server ends, how, and what it leaves behind.

mod support;

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::process::Signal;
use support::gpu;
use support::qemu::Qemu;
use support::server::{Server, presil, run, stderr};
use support::vfio::{BAR1, Client, DMA_MAP, RESET, body, memory, message, until};

#[test]
fn a_server_ends_well_when_qemu_leaves_and_leaves_no_socket_behind() {
    let mut server = Server::start(&[]);
    let mut qemu = Qemu::attach(&server.socket());
    qemu.start();
    gpu::read(&mut qemu, 0xD370);
    drop(qemu);
    assert_eq!(server.wait().code(), Some(0));
    let log = server.whole_log();
    assert!(log.contains("QEMU left gpu: 1 register accesses"), "{log}");
    assert!(!server.socket().exists());
    assert!(!server.control().exists());
}

#[test]
fn somebody_who_only_looks_is_not_qemu() {
    let mut server = Server::start(&[]);
    drop(UnixStream::connect(server.socket()).unwrap());
    let mut qemu = Qemu::attach(&server.socket());
    qemu.start();
    assert!(server.is_running());
    assert_eq!(server.query(&["info"])["attached"], true);
}

#[test]
fn somebody_who_talks_nonsense_is_sent_away_and_the_server_lives_on() {
    let mut server = Server::start(&[]);
    let mut stranger = UnixStream::connect(server.socket()).unwrap();
    stranger
        .write_all(b"GET / HTTP/1.1\r\nHost: gpu\r\n\r\n")
        .unwrap();
    server.await_log("does not speak vhost-user");
    Qemu::attach(&server.socket()).start();
    assert!(server.is_running());
}

#[test]
fn a_server_without_descriptors_waits_for_some_and_goes_on() {
    let mut server = Server::start(&["--vfio-user", "pci"]);
    let pci = server.dir.path().join("pci");
    server.limit_files(Some(0));
    let waiting =
        [&server.socket(), &pci, &server.control()].map(|path| UnixStream::connect(path).unwrap());
    let mut refused = ["gpu: ", "pci: ", "ctl: "].to_vec();
    while !refused.is_empty() {
        let line = server.await_log("Too many open files");
        assert!(line.contains("ulimit -n"), "{line}");
        refused.retain(|socket| !line.contains(socket));
    }
    server.limit_files(None);
    drop(waiting);
    Qemu::attach(&server.socket()).start();
    let mut client = Client::new(UnixStream::connect(pci).unwrap());
    client.greet();
    assert_eq!(server.query(&["gpu", "1", "info"])["attached"], true);
}

#[test]
fn a_descriptor_that_found_no_room_is_not_taken_for_none() {
    let mut server = Server::start_pci(&[]);
    let mut client = Client::new(UnixStream::connect(server.socket()).unwrap());
    client.greet();
    server.limit_files(Some(0));
    let map = message(1, DMA_MAP, 0, &body(&[32, 3], &[0, 0, 4096]));
    client.send(&map, &[memory(4096).as_fd()]);
    assert!(client.receive().is_none());
    server.await_log("too many files are open");
}

#[test]
fn who_has_left_leaves_no_descriptor_behind() {
    let server = Server::start(&["--keep"]);
    // As many as one guest that is served has.
    let visit = || {
        drop(UnixStream::connect(server.socket()).unwrap());
        let mut qemu = Qemu::attach(&server.socket());
        qemu.start();
        server.files()
    };
    let before = visit();
    for _ in 0..10 {
        visit();
    }
    until("the same number of files", || visit() <= before);
}

#[test]
fn several_sockets_are_several_gpus_and_the_server_ends_with_the_last() {
    let mut server = Server::start(&["--vfio-user", "pci", "--vfio-user", "pci2"]);
    let pci = |name: &str| {
        let stream = UnixStream::connect(server.dir.path().join(name)).unwrap();
        let mut client = Client::new(stream);
        client.greet();
        client.set_config(4, 2, 2);
        client
    };
    let (mut first, mut second) = (pci("pci"), pci("pci2"));
    let mut qemu = Qemu::attach(&server.socket());
    qemu.start().write(0, &[1]);
    first.write_region(BAR1, 0, &[2]).unwrap();
    first.write(0x8200, 0);
    second.write_region(BAR1, 0, &[3]).unwrap();
    for (gpu, value) in [("0", "01"), ("1", "02"), ("2", "03")] {
        assert_eq!(server.query(&["gpu", gpu, "vram", "0", "1"])["hex"], value);
    }
    let gpus = server.query(&["gpus"]);
    assert_eq!(gpus[1]["socket"], "pci");
    assert_eq!(gpus[1]["attached"], true);
    drop(first);
    server.await_log("QEMU left pci: 1 register accesses");
    server.await_log("0x08200 display: 0 reads and 1 writes of 1 words");
    let left = server.dir.path().join("pci");
    until("its socket's end", || !left.exists());
    assert_eq!(server.query(&["gpu", "1", "info"])["attached"], false);
    drop(qemu);
    second.write(0x8200, 0);
    assert!(server.is_running());
    drop(second);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn somebody_at_the_pci_door_who_talks_nonsense_is_sent_away() {
    let mut server = Server::start_pci(&[]);
    drop(UnixStream::connect(server.socket()).unwrap());
    let mut stranger = UnixStream::connect(server.socket()).unwrap();
    stranger
        .write_all(b"GET / HTTP/1.1\r\nHost: gpu\r\n\r\n")
        .unwrap();
    server.await_log("vfio-user connection given up");
    // Well formed, but not how a client begins.
    let mut stranger = Client::new(UnixStream::connect(server.socket()).unwrap());
    assert!(stranger.call(RESET, &[], &[]).is_err());
    server.await_log("the first command is not a VERSION");
    let mut client = Client::new(UnixStream::connect(server.socket()).unwrap());
    client.greet();
    assert_eq!(server.query(&["info"])["attached"], true);
    drop(client);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn subsystem_ids_that_slow_drivers_down_are_told() {
    let mut server = Server::start_pci(&["--pci-subsystem", "1af4:1100"]);
    server.signal(Signal::TERM);
    server.wait();
    let log = server.whole_log();
    assert!(log.contains("drivers of this family wait longer"), "{log}");
}

#[test]
fn with_keep_the_next_qemu_finds_a_power_cycled_gpu() {
    let mut server = Server::start(&[
        "--keep",
        "--vram-seed",
        "7",
        "--vram",
        "256M",
        "--visible",
        "256M",
    ]);
    let pattern = server.query(&["vram", "0x1000", "8"])["hex"].clone();
    assert_ne!(pattern, "0000000000000000");
    for _ in 0..3 {
        let mut qemu = Qemu::attach(&server.socket());
        let vram = qemu.start();
        assert_eq!(qemu.ready(), 1);
        gpu::bring_up(&mut qemu, &vram);
        vram.write(0x1000, b"changed!");
        drop(qemu);
        server.await_log("GPU power-cycled");
        assert_eq!(server.query(&["vram", "0x1000", "8"])["hex"], pattern);
        assert_eq!(server.query(&["reg", "0x50000"])["value"], 0, "registers");
        assert_eq!(server.query(&["info"])["attached"], false);
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_gpu_that_cannot_be_powered_on_now_is_powered_on_later() {
    let mut server = Server::start(&["--keep"]);
    let qemu = Qemu::attach(&server.socket());
    server.limit_files(Some(0));
    drop(qemu);
    server.await_log("cannot power the GPU on");
    server.limit_files(None);
    server.await_log("GPU power-cycled");
    Qemu::attach(&server.socket()).start();
}

#[test]
fn a_server_outlives_the_reader_of_its_log() {
    let mut server = Server::start(&["--keep"]);
    server.close_log();
    for _ in 0..5 {
        let mut qemu = Qemu::attach(&server.socket());
        qemu.start();
        // First touched, and told.
        gpu::read(&mut qemu, 0x8200);
    }
    assert!(server.is_running());
    assert_eq!(server.query(&["info"])["lost"], false);
}

#[test]
fn a_signal_without_guest_ends_at_once_and_well() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut server = Server::start(&["--keep"]);
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0));
        assert!(!server.socket().exists());
        assert!(!server.control().exists());
    }
}

#[test]
fn a_signal_with_a_guest_waits_for_qemu_to_leave() {
    let mut server = Server::start(&["--keep"]);
    let mut qemu = Qemu::attach(&server.socket());
    qemu.start();
    server.signal(Signal::TERM);
    server.await_log("it ends when QEMU leaves");
    assert_eq!(
        gpu::read(&mut qemu, 0xD370),
        0xDEAD_BEAF,
        "the guest is still served"
    );
    drop(qemu);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_signal_waits_for_no_qemu_that_never_came() {
    let mut server = Server::start(&["--keep", "--vfio-user", "pci"]);
    let mut qemu = Qemu::attach(&server.socket());
    qemu.start();
    server.signal(Signal::TERM);
    server.await_log("it ends when QEMU leaves");
    drop(qemu);
    assert_eq!(server.wait().code(), Some(0));
    assert!(!server.socket().exists());
    assert!(!server.dir.path().join("pci").exists());
}

#[test]
fn a_second_signal_ends_under_the_guest() {
    let mut server = Server::start(&[]);
    let mut qemu = Qemu::attach(&server.socket());
    qemu.start();
    server.signal(Signal::INT);
    server.await_log("Signal again to end at once");
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(1));
    assert!(!server.socket().exists());
}

#[test]
fn a_stale_socket_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    // A listener that is gone leaves its file.
    drop(UnixListener::bind(dir.path().join("gpu")).unwrap());
    let server = Server::start_in(dir, &[]);
    Qemu::attach(&server.socket()).start();
}

#[test]
fn a_server_that_ends_leaves_the_socket_of_its_successor() {
    for left_by_qemu in [true, false] {
        let mut server = Server::start(&[]);
        let qemu = left_by_qemu.then(|| Qemu::attach(&server.socket()));
        let sockets = [server.socket(), server.control()];
        for path in &sockets {
            std::fs::remove_file(path).unwrap();
            UnixListener::bind(path).unwrap();
        }
        if qemu.is_none() {
            server.signal(Signal::TERM);
        }
        drop(qemu);
        assert_eq!(server.wait().code(), Some(0));
        assert!(sockets.iter().all(|path| path.exists()), "{left_by_qemu}");
    }
}

#[test]
fn a_socket_in_use_is_refused_and_its_server_lives_on() {
    let mut server = Server::start(&[]);
    let path = server.socket();
    let output = run(&["serve", "--vhost-user", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("is in use by another server"),
        "{}",
        stderr(&output)
    );
    assert!(path.exists());
    assert!(server.is_running());
    Qemu::attach(&path).start();
}

#[test]
fn a_file_that_is_no_socket_is_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("precious");
    std::fs::write(&path, "data").unwrap();
    let output = run(&["serve", "--vhost-user", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("is not a socket"),
        "{}",
        stderr(&output)
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "data");
}

#[test]
fn a_control_socket_that_cannot_be_leaves_no_door_socket_behind() {
    let dir = tempfile::tempdir().unwrap();
    let door = dir.path().join("gpu");
    let control = dir.path().join("missing").join("ctl");
    let output = run(&[
        "serve",
        "--vhost-user",
        door.to_str().unwrap(),
        "--control",
        control.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("cannot listen on"),
        "{}",
        stderr(&output)
    );
    assert!(!door.exists());
}

#[test]
fn sockets_are_this_users_alone_whatever_the_umask_or_whose_it_is_told() {
    let before = rustix::process::umask(rustix::fs::Mode::empty());
    let own = Server::start(&[]);
    let shared = Server::start(&["--socket-mode", "660"]);
    rustix::process::umask(before);
    for (server, mode) in [(&own, 0o600), (&shared, 0o660)] {
        for socket in [server.socket(), server.control()] {
            let found = std::fs::metadata(socket).unwrap().permissions().mode();
            assert_eq!(found & 0o777, mode);
        }
    }
    let refused = run(&["serve", "--vhost-user", "gpu", "--socket-mode", "999"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("octal"));
}

#[test]
fn sockets_belong_to_the_group_that_is_told_or_are_not_made() {
    use std::os::unix::fs::MetadataExt;
    // Root may give files to any group, others to their own ones.
    let group = if rustix::process::geteuid().is_root() {
        54321
    } else {
        let own = rustix::process::getgroups().unwrap();
        own.last()
            .map_or_else(rustix::process::getegid, |it| *it)
            .as_raw()
    };
    let told = group.to_string();
    let server = Server::start(&["--socket-group", &told, "--socket-mode", "660"]);
    for socket in [server.socket(), server.control()] {
        let found = std::fs::metadata(socket).unwrap();
        assert_eq!(
            (found.gid(), found.permissions().mode() & 0o777),
            (group, 0o660)
        );
    }
    let refused = run(&[
        "serve",
        "--vhost-user",
        "gpu",
        "--socket-group",
        "no such group",
    ]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("has no group no such group"));
}

#[test]
fn silent_control_clients_lock_nobody_out() {
    let server = Server::start(&[]);
    let connect = || UnixStream::connect(server.control()).unwrap();
    let silent: Vec<_> = std::iter::repeat_with(connect).take(100).collect();
    assert_eq!(server.query(&["info"])["attached"], false);
    drop(silent);
}

#[test]
fn a_client_that_does_not_read_its_answers_is_sent_away() {
    let server = Server::start(&[]);
    let mut slow = UnixStream::connect(server.control()).unwrap();
    // More answers than any socket buffer holds.
    slow.set_nonblocking(true).unwrap();
    until("its end", || {
        let written = slow.write(&b"help\n".repeat(1000));
        written.is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    });
}

#[test]
fn a_control_socket_of_one_gpu_tells_nothing_of_another() {
    let server = Server::start(&["--vfio-user", "other", "--gpu-control", "1=second"]);
    let second = server.dir.path().join("second");
    let ask = |question: &str| {
        let output = presil()
            .arg("query")
            .arg(&second)
            .args(question.split(' '))
            .output();
        output.unwrap()
    };
    let told = String::from_utf8(ask("info").stdout).unwrap();
    assert!(told.contains("\"door\":\"vfio-user\""), "{told}");
    assert!(!ask("gpu 0 vram 0 4").status.success());
    let refused = run(&["serve", "--vhost-user", "gpu", "--gpu-control", "1=ctl"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("there are 1 GPUs"));
}

#[test]
fn clients_that_talk_nonsense_cannot_fill_the_log() {
    let mut server = Server::start_pci(&["--keep"]);
    let started = std::time::Instant::now();
    for _ in 0..500 {
        let mut stranger = UnixStream::connect(server.socket()).unwrap();
        stranger.write_all(&[0xFF; 64]).ok();
        // The server hangs up, having told why.
        let _ = std::io::Read::read(&mut stranger, &mut [0]);
    }
    // On a slow machine it is less of a flood.
    let windows = started.elapsed().as_secs() / 10 + 1;
    server.signal(Signal::TERM);
    server.wait();
    let log = server.whole_log();
    let lines = log.lines().count() as u64;
    let (told, passed): (Vec<_>, Vec<_>) = log
        .lines()
        .filter(|line| line.contains("vfio-user connection given up"))
        .partition(|line| line.contains("more lines were left out like"));
    let left_out: usize = told
        .iter()
        .map(|line| line.split(' ').nth(1).unwrap().parse::<usize>().unwrap())
        .sum();
    assert_eq!(passed.len() + left_out, 500, "{log}");
    assert!(
        lines < 100 * windows,
        "{lines} lines in {windows} times ten seconds"
    );
}
