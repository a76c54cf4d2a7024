//! The vhost-user door of a running server, as QEMU and a guest meet it.

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;

use e3k_regs::Reg;
use e3k_regs::fields::{AdvancedInterrupts, RingWord};
use rustix::fs::{MemfdFlags, memfd_create};
use support::fuse::Stubborn;
use support::gpu::{self, operation, request};
use support::guest::{DATA, RAM_BYTES, readable, writable};
use support::qemu::Qemu;
use support::server::Server;
use support::vfio::{memory, until};
use vhost::vhost_user::VhostUserFrontend;
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserProtocolFeatures};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const EVENT_AT: u64 = DATA + 0x10_0000;
const FENCE_AT: u64 = DATA + 0x11_0000;

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

fn fence_bit() -> u32 {
    AdvancedInterrupts::new().with_fence(true).into_bits()
}

/// Posts an event buffer of `bytes` bytes; the used index that fills it.
fn post(qemu: &mut Qemu, bytes: u32) -> u16 {
    let used = qemu.guest.offer(1, &[writable(EVENT_AT, bytes)]);
    qemu.kick(1);
    used
}

fn event(qemu: &Qemu) -> (u32, u32, u64) {
    gpu::event(qemu, EVENT_AT)
}

/// Event buffers that are posted, and what came in them so far.
#[derive(Default)]
struct Events {
    posted: u64,
    taken: u16,
    errors: u32,
    fences: u32,
}

impl Events {
    const SLOTS: u64 = 16;

    fn post(&mut self, qemu: &mut Qemu) {
        while self.posted < u64::from(self.taken) + Self::SLOTS / 2 {
            let at = EVENT_AT + self.posted % Self::SLOTS * 16;
            qemu.guest.offer(1, &[writable(at, 16)]);
            self.posted += 1;
        }
        qemu.kick(1);
    }

    /// Whatever is there now.
    fn take(&mut self, qemu: &Qemu) {
        while self.taken < qemu.guest.used_index(1) {
            let at = EVENT_AT + u64::from(self.taken) % Self::SLOTS * 16;
            let (errors, fences, _) = gpu::event(qemu, at);
            self.errors |= errors;
            self.fences |= fences;
            self.taken += 1;
        }
    }
}

#[test]
fn who_has_seen_a_fence_finds_the_errors_of_what_came_before_it_in_the_events() {
    let (_server, mut qemu) = attach(&[]);
    let vram = qemu.start();
    gpu::bring_up(&mut qemu, &vram);
    let (at, entry) = gpu::unanswered();
    vram.write(at, &entry);
    let (enable, sources) = gpu::error_sources();
    gpu::write(&mut qemu, enable, sources);
    let mut events = Events::default();
    for value in 1..=200 {
        let (bad, asks) = (value % 3 == 0, value % 2 == 0);
        events.post(&mut qemu);
        gpu::submit(&mut qemu, &vram, |writer| {
            gpu::job(writer, bad, FENCE_AT, value);
        });
        while qemu.guest.word(FENCE_AT) != value {
            std::hint::spin_loop();
        }
        if asks {
            // Whatever was raised before an answer is in the queue when that is there.
            gpu::read(&mut qemu, RingWord::Head.offset(0));
            events.take(&qemu);
            assert_eq!(events.fences, fence_bit(), "fence {value}");
        } else {
            until("the fence's event", || {
                events.take(&qemu);
                events.fences != 0
            });
        }
        let wanted = if bad { gpu::bus_error_bit() } else { 0 };
        assert_eq!(events.errors, wanted, "fence {value}");
        (events.errors, events.fences) = (0, 0);
    }
}

#[test]
fn exactly_the_features_that_qemu_survives_are_offered() {
    let (_server, mut qemu) = attach(&["--visible", "256M"]);
    assert_eq!(qemu.features, 0x1_4000_0000);
    assert_eq!(qemu.protocol_features, 0x0040_0629);
    let regions = qemu.frontend.get_shmem_config().unwrap();
    assert_eq!({ regions.nregions }, 1);
    let sizes = regions.memory_sizes;
    assert_eq!(sizes[0], 256 << 20);
    assert!(sizes[1..].iter().all(|size| *size == 0));
}

#[test]
fn the_configuration_space_says_what_was_asked_for_before_any_driver() {
    let (_server, mut qemu) = attach(&["--vram", "2G", "--visible", "256M", "--chip", "1020"]);
    let config = qemu.config();
    let word = |at: usize| u32::from_le_bytes(config[at..at + 4].try_into().unwrap());
    let long = |at: usize| u64::from_le_bytes(config[at..at + 8].try_into().unwrap());
    assert_eq!((word(0), word(4)), (0x4C53_5250, 1));
    assert_eq!(word(8), 0x3D02_6766);
    assert_eq!(word(0x0C), 0);
    assert_eq!((long(0x10), long(0x18)), (2 << 30, 256 << 20));
}

#[test]
fn writes_to_the_read_only_part_of_the_configuration_space_change_nothing_and_are_logged() {
    let (mut server, mut qemu) = attach(&[]);
    let before = qemu.config();
    qemu.frontend
        .set_config(0, VhostUserConfigFlags::empty(), &[0xFF; 0x30])
        .unwrap();
    assert_eq!(qemu.config(), before);
    server.await_log("read-only");
}

#[test]
fn the_window_is_mapped_after_driver_ok_and_ready_only_after_the_answer() {
    let (_server, mut qemu) = attach(&[]);
    assert!(qemu.maps.try_recv().is_err(), "no map before DRIVER_OK");
    qemu.hold_maps.store(true, Ordering::SeqCst);
    qemu.begin();
    qemu.set_memory(None);
    qemu.start_queues();
    let map = qemu.maps.recv_timeout(support::PATIENCE).unwrap();
    assert_eq!(
        (map.len, map.file_offset, map.window_offset),
        (512 << 20, 0, 0)
    );
    assert_eq!(map.flags, 1, "writable");
    assert_eq!(qemu.ready(), 0, "QEMU has not answered");
    qemu.release_map.send(()).unwrap();
    assert_eq!(qemu.await_ready(), 1);
}

#[test]
fn a_map_that_qemu_refuses_leaves_ready_at_zero_and_says_so() {
    let (mut server, mut qemu) = attach(&[]);
    qemu.refuse_maps.store(true, Ordering::SeqCst);
    qemu.begin();
    qemu.set_memory(None);
    server.await_log("QEMU did not map the VRAM window");
    assert_eq!(qemu.ready(), 0);
}

#[test]
fn vram_is_the_same_through_the_window_the_server_and_the_next_driver() {
    let (server, mut qemu) = attach(&[]);
    let map = qemu.start();
    map.write(0x1000, b"presil");
    assert_eq!(
        server.query(&["vram", "0x1000", "6"])["hex"],
        "70726573696c"
    );
    qemu.stop();
    assert_eq!(qemu.ready(), 0);
    assert_eq!(qemu.start().read(0x1000, 6), b"presil");
    assert_eq!(qemu.ready(), 2);
}

#[test]
fn registers_are_reached_in_one_chain_of_many_operations() {
    let (server, mut qemu) = attach(&[]);
    qemu.start();
    let writes = (0..1024).map(|i| operation(2, 4, Reg::Ttbr.at(i), u64::from(i) << 4));
    let results = request(&mut qemu, &writes.collect::<Vec<_>>());
    assert_eq!(results, vec![(0, 0); 1024]);
    let reads = (0..1024).map(|i| operation(1, 4, Reg::Ttbr.at(i), 0));
    let results = request(&mut qemu, &reads.collect::<Vec<_>>());
    let expected: Vec<_> = (0..1024).map(|i| (i << 4, 0)).collect();
    assert_eq!(results, expected);
    assert_eq!(gpu::read(&mut qemu, Reg::MemReady.offset()), 0xDEAD_BEAF);
    let door = &server.query(&["counters"])["door"];
    assert_eq!(
        (&door["requests"], &door["operations"]),
        (&3.into(), &2049.into())
    );
}

#[test]
fn a_fence_arrives_as_an_event_with_its_value_visible() {
    let (_server, mut qemu) = attach(&[]);
    let vram = qemu.start();
    gpu::bring_up(&mut qemu, &vram);
    for round in 1..=50 {
        let used = post(&mut qemu, 16);
        gpu::submit_fence(&mut qemu, &vram, FENCE_AT, round);
        qemu.await_used(1, used);
        assert_eq!(qemu.guest.word(FENCE_AT), round, "the fence's value");
        assert_eq!(qemu.guest.used_bytes(1, used), 16);
        assert_eq!(event(&qemu), (0, fence_bit(), round));
        assert_eq!(
            gpu::read(&mut qemu, Reg::AdvancedShadow.offset()),
            fence_bit()
        );
        assert_eq!(
            gpu::read(&mut qemu, Reg::AdvancedRaw.offset()),
            0,
            "latched and cleared"
        );
    }
}

#[test]
fn without_a_buffer_nothing_is_latched_or_signalled_and_sources_merge() {
    let (_server, mut qemu) = attach(&[]);
    let vram = qemu.start();
    gpu::bring_up(&mut qemu, &vram);
    for value in [1, 2] {
        gpu::submit_fence(&mut qemu, &vram, FENCE_AT, value);
        while gpu::read(&mut qemu, RingWord::Head.offset(0))
            != gpu::read(&mut qemu, RingWord::Tail.offset(0))
        {}
    }
    assert_eq!(gpu::read(&mut qemu, Reg::AdvancedRaw.offset()), fence_bit());
    assert_eq!(gpu::read(&mut qemu, Reg::AdvancedShadow.offset()), 0);
    assert!(!qemu.was_called(1), "a call without a used element");
    // Both fences are one event, as soon as a buffer is there.
    let used = post(&mut qemu, 16);
    qemu.await_used(1, used);
    assert_eq!(event(&qemu), (0, fence_bit(), 1));
    assert_eq!(gpu::read(&mut qemu, Reg::AdvancedRaw.offset()), 0);
}

#[test]
fn an_event_buffer_that_cannot_hold_one_is_returned_empty() {
    let (_server, mut qemu) = attach(&[]);
    let vram = qemu.start();
    gpu::bring_up(&mut qemu, &vram);
    gpu::submit_fence(&mut qemu, &vram, FENCE_AT, 1);
    let outside = support::guest::RAM_BYTES;
    for buffers in [
        &[writable(EVENT_AT, 15)][..],
        &[readable(EVENT_AT, 16)],
        &[readable(DATA, 16), writable(EVENT_AT, 16)],
        &[writable(outside, 16)],
    ] {
        let used = qemu.guest.offer(1, buffers);
        qemu.kick(1);
        qemu.await_used(1, used);
        assert_eq!(qemu.guest.used_bytes(1, used), 0);
        assert_eq!(
            gpu::read(&mut qemu, Reg::AdvancedRaw.offset()),
            fence_bit(),
            "not latched"
        );
    }
    let used = post(&mut qemu, 4096);
    qemu.await_used(1, used);
    assert_eq!(event(&qemu), (0, fence_bit(), 1));
}

#[test]
fn every_start_is_an_epoch_with_fresh_registers_and_event_numbers() {
    let (_server, mut qemu) = attach(&[]);
    for epoch in 1..=20 {
        let vram = qemu.start();
        assert_eq!(qemu.ready(), epoch);
        assert_eq!(
            gpu::read(&mut qemu, RingWord::Size.offset(0)),
            0,
            "reset registers"
        );
        gpu::bring_up(&mut qemu, &vram);
        let used = post(&mut qemu, 16);
        gpu::submit_fence(&mut qemu, &vram, FENCE_AT, 7);
        qemu.await_used(1, used);
        assert_eq!(event(&qemu).2, 1, "event numbers count from DRIVER_OK");
        qemu.stop();
        assert_eq!(qemu.ready(), 0);
    }
}

#[test]
fn after_a_stop_is_answered_guest_memory_is_left_alone() {
    let (_server, mut qemu) = attach(&[]);
    let mut caught = 0;
    for round in 0..200 {
        let vram = qemu.start();
        gpu::bring_up(&mut qemu, &vram);
        gpu::submit_long_work(&mut qemu, &vram, FENCE_AT);
        while qemu.guest.word(FENCE_AT) == 0 {
            std::thread::yield_now();
        }
        qemu.stop();
        let at_stop = qemu.guest.word(FENCE_AT);
        // On a busy machine the work may have ended before the stop.
        caught += u32::from(at_stop != gpu::LONG_WORK_ENDS);
        for _ in 0..100 {
            assert_eq!(qemu.ready(), 0);
            assert_eq!(
                qemu.guest.word(FENCE_AT),
                at_stop,
                "round {round}: written after the stop"
            );
        }
        qemu.guest.write(FENCE_AT, &[0; 8]);
        if caught == 10 {
            return;
        }
    }
    assert!(caught > 0, "no stop came while work ran");
}

#[test]
fn a_pause_of_the_vm_is_not_a_reset() {
    let (_server, mut qemu) = attach(&[]);
    let vram = qemu.start();
    gpu::bring_up(&mut qemu, &vram);
    let used = post(&mut qemu, 16);
    qemu.stop();
    qemu.begin();
    // QEMU keeps the window mapped, and the table shows it.
    qemu.set_memory(Some(&vram));
    qemu.start_queues();
    assert_eq!(qemu.await_ready(), 1);
    gpu::submit_fence(&mut qemu, &vram, FENCE_AT, 9);
    qemu.await_used(1, used);
    assert_eq!(event(&qemu), (0, fence_bit(), 1));
    assert_eq!(qemu.guest.word(FENCE_AT), 9);
    assert!(qemu.maps.try_recv().is_err(), "QEMU refuses a second map");
}

#[test]
fn work_that_a_pause_interrupts_is_finished_after_it() {
    let (_server, mut qemu) = attach(&[]);
    let vram = qemu.start();
    gpu::bring_up(&mut qemu, &vram);
    gpu::submit_long_work(&mut qemu, &vram, FENCE_AT);
    qemu.stop();
    qemu.begin();
    qemu.set_memory(Some(&vram));
    qemu.start_queues();
    let used = post(&mut qemu, 16);
    qemu.await_used(1, used);
    assert_eq!(qemu.guest.word(FENCE_AT), gpu::LONG_WORK_ENDS);
    assert_eq!(event(&qemu), (0, fence_bit(), 1));
}

#[test]
fn a_guest_reset_while_the_map_is_in_flight_costs_only_that_epoch() {
    let (mut server, mut qemu) = attach(&[]);
    qemu.hold_maps.store(true, Ordering::SeqCst);
    qemu.begin();
    qemu.set_memory(None);
    qemu.start_queues();
    qemu.maps.recv_timeout(support::PATIENCE).unwrap();
    qemu.stop();
    qemu.hold_maps.store(false, Ordering::SeqCst);
    qemu.release_map.send(()).unwrap();
    server.await_log("reset while its VRAM window was being mapped");
    assert_eq!(qemu.ready(), 0);
    qemu.start();
    assert_eq!(qemu.ready(), 2);
    assert_eq!(gpu::read(&mut qemu, Reg::MemReady.offset()), 0xDEAD_BEAF);
}

#[test]
fn a_looping_chain_stops_its_queue_until_the_next_reset_and_nothing_else() {
    let (mut server, mut qemu) = attach(&[]);
    let vram = qemu.start();
    gpu::bring_up(&mut qemu, &vram);
    qemu.guest.write_descriptor(0, 60, DATA, 16, 1, 60);
    qemu.guest.offer_head(0, 60);
    qemu.kick(0);
    server.await_log("request queue stopped until the next reset");
    assert_eq!(qemu.ready(), 1, "the device still answers");
    qemu.guest.write_descriptor(1, 60, EVENT_AT, 16, 3, 60);
    qemu.guest.offer_head(1, 60);
    qemu.kick(1);
    qemu.stop();
    let vram = qemu.start();
    gpu::bring_up(&mut qemu, &vram);
    let used = post(&mut qemu, 16);
    gpu::submit_fence(&mut qemu, &vram, FENCE_AT, 1);
    qemu.await_used(1, used);
    assert!(server.is_running());
}

#[test]
fn queues_that_lie_outside_ram_or_hold_nonsense_do_not_end_the_server() {
    let (mut server, mut qemu) = attach(&[]);
    qemu.start();
    // An available index far ahead of the ring.
    for queue in [0, 1] {
        let ring = support::guest::Ring::of(queue);
        qemu.guest
            .write(ring.available + 2, &0x8000_u16.to_le_bytes());
        qemu.kick(queue);
    }
    server.await_log("request queue stopped until the next reset");
    // A chain through every nonsense at once, on a fresh start.
    qemu.stop();
    qemu.start();
    let ram = support::guest::RAM_BYTES;
    let chain = [
        writable(ram - 8, 16),
        readable(u64::MAX - 3, 1 << 31),
        writable(DATA, 0),
    ];
    assert_eq!(qemu.exchange(0, &chain), 0);
    assert_eq!(gpu::read(&mut qemu, Reg::MemReady.offset()), 0xDEAD_BEAF);
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
    server.await_log("guest memory is gone");
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
    server.await_log("was cut short, or has no huge pages");
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
fn a_device_that_is_added_again_on_the_same_connection_begins_anew() {
    let (_server, mut qemu) = attach(&[]);
    qemu.start();
    qemu.set_config_word(0x30, 0x1234_5000);
    qemu.stop();
    qemu.readd();
    assert_eq!(qemu.ready(), 0);
    let map = qemu.start();
    assert_eq!(qemu.config()[0x30..0x34], [0; 4]);
    gpu::bring_up(&mut qemu, &map);
    let used = post(&mut qemu, 16);
    gpu::submit_fence(&mut qemu, &map, FENCE_AT, 9);
    qemu.await_used(1, used);
    assert_eq!(event(&qemu), (0, fence_bit(), 1));
}

#[test]
fn guest_ram_that_is_not_shared_is_named_as_the_cause() {
    let (mut server, mut qemu) = attach(&[]);
    // QEMU finds no shared memory to tell of, and goes on without a table.
    qemu.begin();
    server.await_log("guest RAM is not shared with this process");
    assert_eq!(qemu.ready(), 0);
    drop(qemu);
    assert_eq!(server.wait().code(), Some(1));
    assert!(server.whole_log().contains("share=on"));
}
