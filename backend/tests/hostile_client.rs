//! A client of the vhost-user door that means harm, or is QEMU in an unusual moment:
//! it costs nobody but itself.

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;

use e3k_regs::Reg;
use rustix::fs::{MemfdFlags, memfd_create};
use support::fuse::Stubborn;
use support::gpu::{self};
use support::guest::{DATA, RAM_BYTES, readable, writable};
use support::qemu::Qemu;
use support::server::Server;
use support::vfio::{memory, until};
use vhost::vhost_user::VhostUserFrontend;
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost::{VhostBackend, VhostUserMemoryRegionInfo};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

fn attach(args: &[&str]) -> (Server, Qemu) {
    let server = Server::start(args);
    let qemu = Qemu::attach(&server.socket());
    (server, qemu)
}

/// `file` as guest memory at `at`.
fn lent(at: u64, bytes: u64, file: &File) -> VhostUserMemoryRegionInfo {
    VhostUserMemoryRegionInfo {
        guest_phys_addr: at,
        memory_size: bytes,
        userspace_addr: at,
        mmap_offset: 0,
        mmap_handle: file.as_raw_fd(),
    }
}

/// Lends something and says whether it was taken.
type Attempt<'a> = &'a dyn Fn(&mut Qemu) -> bool;

/// `file` where an eventfd is expected.
fn as_event(file: File) -> EventFd {
    let fd = file.into_raw_fd();
    // SAFETY: `into_raw_fd` gave the descriptor away.
    unsafe { EventFd::from_raw_fd(fd) }
}

#[test]
fn memory_that_its_file_does_not_hold_is_refused() {
    let (mut server, mut qemu) = attach(&["--keep"]);
    qemu.begin();
    let beyond = VhostUserMemoryRegionInfo {
        memory_size: support::guest::RAM_BYTES + 4096,
        ..qemu.ram()
    };
    assert!(qemu.frontend.set_mem_table(&[beyond]).is_err());
    server.await_log("shorter than the memory that it is to hold");
    server.await_log("GPU power-cycled");
    Qemu::attach(&server.socket()).start();
}

#[test]
fn a_call_that_takes_nothing_delays_nobody() {
    let (server, mut qemu) = attach(&[]);
    qemu.start();
    let full = EventFd::new(EFD_NONBLOCK).unwrap();
    qemu.frontend.set_vring_call(0, &full).unwrap();
    // The server shares the flags: from here on a write to it waits for ever.
    // SAFETY: `full` is open as long as this borrow.
    let lent = unsafe { BorrowedFd::borrow_raw(full.as_raw_fd()) };
    rustix::io::ioctl_fionbio(lent, false).unwrap();
    full.write(u64::MAX - 1).unwrap();
    for used in 1..=3 {
        qemu.guest
            .offer(0, &[readable(DATA, 16), writable(DATA, 16)]);
        qemu.kick(0);
        until("the answer", || qemu.guest.used_index(0) == used);
    }
    let counters = server.query(&["counters"]);
    assert_eq!(counters["door"]["requests"], 3);
}

#[test]
fn a_client_that_never_answers_a_map_leaves_nothing_behind() {
    let server = Server::start(&["--keep"]);
    let mut kept = Vec::new();
    let mut before = 0;
    for round in 0..20 {
        let mut qemu = Qemu::attach(&server.socket());
        qemu.hold_maps.store(true, Ordering::SeqCst);
        qemu.begin();
        qemu.set_memory(None);
        qemu.maps.recv_timeout(support::PATIENCE).unwrap();
        // It leaves, and holds on to the channel it was asked through.
        kept.push((qemu.release_map, qemu.channel));
        if round == 0 {
            before = server.files();
        }
    }
    Qemu::attach(&server.socket()).start();
    until("the end of what they left", || server.files() <= before);
}

#[test]
fn ram_that_a_client_takes_away_costs_its_own_connection_only() {
    let (mut server, mut qemu) = attach(&["--keep", "--vhost-user", "other"]);
    let mut other = Qemu::attach(&server.dir.path().join("other"));
    other.start();
    qemu.start();
    qemu.guest
        .offer(0, &[readable(DATA, 16), writable(DATA, 16)]);
    qemu.guest.file().set_len(0).unwrap();
    qemu.kick(0);
    // The queue's available ring is what is looked at first.
    let line = server.await_log("guest memory is gone");
    let place =
        "gpu: guest memory is gone while the GPU uses it (guest address 0x11002, byte 0x11002 ";
    assert!(line.contains(place), "{line}");
    server.await_log("GPU power-cycled");
    gpu::write(&mut other, Reg::PtInvAddr.offset(), 0x10);
    assert_eq!(gpu::read(&mut other, Reg::PtInvAddr.offset()), 0x10);
    Qemu::attach(&server.socket()).start();
}

#[test]
fn huge_pages_that_do_not_exist_cost_their_clients_connection_only() {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    let free = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    let none_free = std::fs::read_to_string(free).is_ok_and(|number| number.trim() == "0");
    let Some(huge) = memfd_create("huge", flags).ok().filter(|_| none_free) else {
        eprintln!("not tested: this host has free huge pages of 2 MiB, or knows none");
        return;
    };
    let huge = File::from(huge);
    let (mut server, mut qemu) = attach(&["--keep", "--vhost-user", "other"]);
    let mut other = Qemu::attach(&server.dir.path().join("other"));
    other.start();
    qemu.start();
    let bytes = 4 << 20;
    huge.set_len(bytes).unwrap();
    let at = 1 << 32;
    let huge = lent(at, bytes, &huge);
    qemu.frontend.set_mem_table(&[qemu.ram(), huge]).unwrap();
    qemu.guest
        .offer(0, &[readable(at + (3 << 20), 16), writable(DATA, 16)]);
    qemu.kick(0);
    let line = server.await_log("was cut short, or has no huge pages");
    let place = "guest address 0x100300000, byte 0x300000 of the file behind it";
    assert!(line.contains(place), "{line}");
    server.await_log("GPU power-cycled");
    gpu::write(&mut other, Reg::PtInvAddr.offset(), 0x10);
    assert_eq!(gpu::read(&mut other, Reg::PtInvAddr.offset()), 0x10);
}

#[test]
fn one_client_does_not_have_the_address_space_of_all() {
    let (server, mut qemu) = attach(&["--keep", "--vhost-user", "other"]);
    qemu.start();
    let sparse = memory(4 << 40);
    let most = lent(1 << 42, (4 << 40) - RAM_BYTES, &sparse);
    let more = lent(1 << 42, 4 << 40, &sparse);
    let tables = [(most, true), (more, false)];
    for (region, taken) in tables {
        let told = qemu.frontend.set_mem_table(&[qemu.ram(), region]);
        assert_eq!(told.is_ok(), taken, "{told:?}");
    }
    let address_space = || {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", server.pid())).unwrap();
        let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
        pages * 4096
    };
    until("the end of what was mapped", || address_space() < 1 << 40);
    let mut other = Qemu::attach(&server.dir.path().join("other"));
    other.start();
}

#[test]
fn features_that_were_not_offered_cannot_be_had() {
    let (mut server, mut qemu) = attach(&["--keep"]);
    let more = VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS;
    let features = VhostUserProtocolFeatures::from_bits_retain(qemu.protocol_features) | more;
    assert!(qemu.frontend.set_protocol_features(features).is_err());
    server.await_log("features 0x8000 were not offered");
    server.await_log("GPU power-cycled");
    let mut next = Qemu::attach(&server.socket());
    // The client's side believes that it may.
    let map = next.start();
    next.frontend.set_protocol_features(features).unwrap_err();
    drop(map);
    server.await_log("GPU power-cycled");
}

#[test]
fn what_is_no_eventfd_and_no_memory_is_refused_when_it_arrives() {
    let mut server = Server::start(&["--keep"]);
    let written = tempfile::tempfile().unwrap();
    let lend = || as_event(written.try_clone().unwrap());
    let attempts: [(&str, Attempt<'_>); 3] = [
        ("no eventfd", &|qemu| {
            qemu.frontend.set_vring_call(0, &lend()).is_ok()
        }),
        ("no eventfd", &|qemu| {
            qemu.frontend.set_vring_kick(1, &lend()).is_ok()
        }),
        ("no memory", &|qemu| {
            written.set_len(4096).unwrap();
            let region = lent(0, 4096, &written);
            qemu.frontend.set_mem_table(&[region]).is_ok()
        }),
    ];
    for (why, attempt) in attempts {
        let mut qemu = Qemu::attach(&server.socket());
        qemu.start();
        assert!(!attempt(&mut qemu), "{why}");
        server.await_log(&format!("its descriptor is {why}"));
    }
    Qemu::attach(&server.socket()).start();
}

#[test]
fn a_file_whose_owner_answers_nothing_keeps_nobody_from_the_gpu() {
    let server = Server::start(&["--keep", "--vhost-user", "other"]);
    for as_memory in [false, true] {
        let mut qemu = Qemu::attach(&server.socket());
        qemu.start();
        let mut stubborn = match Stubborn::new() {
            Ok(stubborn) => stubborn,
            Err(error) => {
                println!("not tried: no FUSE file system here ({error})");
                return;
            }
        };
        let file = stubborn.file.try_clone().unwrap();
        let asked = std::thread::spawn(move || {
            if as_memory {
                let region = lent(0, 4096, &file);
                qemu.frontend.set_mem_table(&[region]).is_err()
            } else {
                qemu.frontend
                    .set_vring_kick(0, &as_event(file.try_clone().unwrap()))
                    .is_err()
            }
        });
        stubborn.await_question();
        // Not by a program: what a new process closes is a question, too.
        let mut control = UnixStream::connect(server.control()).unwrap();
        control.set_read_timeout(Some(support::PATIENCE)).unwrap();
        control.write_all(b"reg 0x8500\n").unwrap();
        assert_ne!(control.read(&mut [0; 4096]).unwrap(), 0);
        let mut other = Qemu::attach(&server.dir.path().join("other"));
        other.start();
        drop(stubborn);
        assert!(asked.join().unwrap());
    }
}

#[test]
fn a_part_of_a_huge_page_is_refused_as_it_could_not_be_unmapped_again() {
    let (mut server, qemu) = attach(&["--keep"]);
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB;
    let Ok(huge) = memfd_create("part-of-a-huge-page", flags) else {
        eprintln!("not tested: this host knows no huge pages");
        return;
    };
    let huge = File::from(huge);
    huge.set_len(1 << 30).unwrap();
    let part = lent(1 << 32, (1 << 30) - 4096, &huge);
    let told = qemu.frontend.set_mem_table(&[qemu.ram(), part]);
    assert!(told.is_err(), "{told:?}");
    server.await_log("of a file whose pages are of");
    server.await_log("GPU power-cycled");
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", server.pid())).unwrap();
    assert!(!maps.contains("part-of-a-huge-page"), "{maps}");
}

#[test]
fn a_client_that_asks_without_end_and_reads_nothing_makes_room_for_another() {
    let mut server = Server::start(&["--keep"]);
    let mut flood = UnixStream::connect(server.socket()).unwrap();
    // GET_PROTOCOL_FEATURES, until neither its room nor that of the answers is left.
    let questions = [15_u32, 1, 0].map(u32::to_ne_bytes).concat().repeat(1000);
    let asking = std::thread::spawn(move || while flood.write_all(&questions).is_ok() {});
    server.await_log("was not read within");
    asking.join().unwrap();
    Qemu::attach(&server.socket()).start();
}

#[test]
fn what_is_kicked_before_there_is_memory_is_served_when_there_is() {
    let (_server, mut qemu) = attach(&[]);
    qemu.start();
    qemu.begin();
    let used = qemu
        .guest
        .offer(0, &[readable(DATA, 16), writable(DATA, 16)]);
    qemu.kick(0);
    // The kick has been taken when this is answered.
    qemu.config();
    qemu.set_memory(None);
    qemu.await_used(0, used);
}
