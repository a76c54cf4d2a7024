//! The vhost-user door of a running server, as QEMU and a guest meet it.

mod support;

use std::sync::atomic::Ordering;

use e3k_regs::Reg;
use e3k_regs::fields::{AdvancedInterrupts, RingWord};
use support::gpu::{self, operation, request};
use support::guest::{DATA, readable, writable};
use support::qemu::Qemu;
use support::server::Server;
use support::vfio::until;
use vhost::vhost_user::VhostUserFrontend;
use vhost::vhost_user::message::VhostUserConfigFlags;

const EVENT_AT: u64 = DATA + 0x10_0000;
const FENCE_AT: u64 = DATA + 0x11_0000;

fn attach(args: &[&str]) -> (Server, Qemu) {
    let server = Server::start(args);
    let qemu = Qemu::attach(&server.socket());
    (server, qemu)
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
