//! Clients' work: bounded, in pieces, in turns, and gone with its client.

use super::fake::Fake;
use crate::engine::queue::{PIECE_BYTES, RING_BYTES, UNJUDGED};
use crate::{Adapter, BoId, CLIENT_BYTES, CLIENT_JOBS, Client, CreateFlags, CreateRequest, Error};
use core::sync::atomic::Ordering;

const MIB: u64 = 1 << 20;
const FAULT: u32 = 1 << 5;
const FENCE: u32 = 1 << 27;
const HANG: u32 = 1 << 16;

fn request(flags: CreateFlags, bytes: u64) -> CreateRequest<'static> {
    CreateRequest {
        bytes,
        flags: flags.0,
        windows: &[],
    }
}

/// A large buffer of the driver's own, cleared.
fn start(fake: &Fake) -> (Adapter<Fake>, BoId) {
    let mut a = fake.start();
    let large = request(CreateFlags::GPU_ONLY, 200 * MIB);
    let bo = a.create(&large).unwrap();
    fake.complete(&a, 1);
    (a, bo)
}

fn clients<const N: usize>(a: &mut Adapter<Fake>) -> [Client; N] {
    [(); N].map(|()| a.open_client().unwrap())
}

/// Everything on the ring is done.
fn complete(fake: &Fake, a: &mut Adapter<Fake>) {
    fake.complete(a, a.timeline().submitted());
    a.advance();
}

/// The ring's fences that are not done.
fn running(a: &Adapter<Fake>) -> u64 {
    let timeline = a.timeline();
    timeline.submitted() - timeline.completed()
}

#[test]
fn a_client_at_its_bound_is_refused_and_another_is_behind_what_is_on_the_ring() {
    let fake = Fake::new();
    let (mut a, bo) = start(&fake);
    let [greedy, other] = clients(&mut a);
    let mine = a
        .create_for(&other, &request(CreateFlags::READBACK, MIB))
        .unwrap();
    let mut queued = 0;
    while a.fill_for(&greedy, bo, 0, MIB, 0).is_ok() {
        queued += 1;
    }
    assert_eq!(queued, CLIENT_BYTES / MIB);
    let ahead = running(&a);
    assert_eq!(ahead, RING_BYTES / MIB, "the rest is not on the ring");
    let fence = a.fill_for(&other, mine, 0, 4, 0).unwrap();
    // One job done lets one on the ring, and makes room for one, not for more.
    let first = a.timeline().completed() + 1;
    fake.complete(&a, first);
    assert!(a.fill_for(&greedy, bo, 0, MIB, 0).is_ok());
    assert_eq!(a.fill_for(&greedy, bo, 0, MIB, 0), Err(Error::Busy));
    // Before the other's job runs what is on the ring, and one turn.
    let mut before = 0;
    while a.ask(&other, fence).unwrap().is_some() {
        before += 1;
        fake.complete(&a, first + before);
    }
    assert!(before <= ahead + PIECE_BYTES / MIB + 1, "{before} jobs");
    assert!(a.ask(&greedy, queued).is_ok_and(|next| next.is_some()));
}

#[test]
fn who_is_told_to_wait_for_the_ring_finds_something_on_it() {
    let fake = Fake::new();
    let (mut a, bo) = start(&fake);
    let [client] = clients(&mut a);
    while a.fill_for(&client, bo, 0, PIECE_BYTES, 0).is_ok() {}
    // The ring is done, and nobody has looked since.
    fake.complete(&a, a.timeline().submitted());
    a.fill_for(&client, bo, 0, PIECE_BYTES, 0).unwrap();
    fake.complete(&a, a.timeline().submitted());
    let too_much = a.fill_for(&client, bo, 0, CLIENT_BYTES, 0);
    assert_eq!(too_much, Err(Error::Busy));
    assert!(running(&a) > 0);
}

#[test]
fn small_jobs_are_bounded_by_their_number() {
    let fake = Fake::new();
    let (mut a, bo) = start(&fake);
    let [client] = clients(&mut a);
    for _ in 0..CLIENT_JOBS {
        a.fill_for(&client, bo, 0, 4, 0).unwrap();
    }
    assert_eq!(a.fill_for(&client, bo, 0, 4, 0), Err(Error::Busy));
    complete(&fake, &mut a);
    assert_eq!(a.fill_for(&client, bo, 0, 4, 0), Ok(CLIENT_JOBS as u64 + 1));
}

#[test]
fn a_job_beyond_the_bound_is_let_in_alone_and_goes_in_pieces() {
    let fake = Fake::new();
    let (mut a, bo) = start(&fake);
    let [client] = clients(&mut a);
    let fence = a.fill_for(&client, bo, 0, 100 * MIB, 0).unwrap();
    assert_eq!(a.fill_for(&client, bo, 0, 4, 0), Err(Error::Busy));
    let pieces = (100 * MIB).div_ceil(PIECE_BYTES);
    for done in 1..=pieces {
        assert!(running(&a) <= RING_BYTES / PIECE_BYTES);
        assert!(
            a.ask(&client, fence).unwrap().is_some(),
            "{done} of {pieces}"
        );
        assert_eq!(a.jobs(&client), (1, 0));
        fake.complete(&a, 1 + done);
    }
    assert_eq!(a.jobs(&client), (1, 1), "over, if not judged");
    assert_eq!(a.ask(&client, fence), Ok(None));
    a.fill_for(&client, bo, 0, 4, 0).unwrap();
    assert_eq!(a.fill_for(&client, bo, 0, 100 * MIB, 0), Err(Error::Busy));
}

#[test]
fn there_is_an_end_to_pieces_of_which_nobody_knows_how_they_went() {
    let fake = Fake::new();
    let (mut a, bo) = start(&fake);
    let [client] = clients(&mut a);
    for _ in 0..2 * UNJUDGED {
        a.fill_for(&client, bo, 0, 4, 0).unwrap();
        // The interrupt says nothing of any but the oldest.
        let fence = a.timeline().submitted();
        if fence.is_multiple_of(100) {
            fake.finish(&a, fence);
            a.timeline().interrupt(0, 0, FENCE);
            a.advance();
        }
        assert!(a.queues.unjudged().0 <= UNJUDGED);
    }
}

#[test]
fn what_submits_nothing_is_not_charged() {
    let fake = Fake::new();
    let (mut a, bo) = start(&fake);
    let [client] = clients(&mut a);
    // A fence that is not done, for what would be charged wrongly.
    a.fill(bo, 0, 4, 0).unwrap();
    for _ in 0..=CLIENT_JOBS {
        let bad = a.fill_for(&client, bo, 1, CLIENT_BYTES, 0);
        assert_eq!(bad, Err(Error::Invalid));
        let readback = request(CreateFlags::READBACK, MIB);
        let nothing = a.create_for(&client, &readback).unwrap();
        a.destroy(nothing).unwrap();
    }
    assert_eq!(a.jobs(&client), (0, 0));
}

#[test]
fn fences_are_a_clients_own_and_none_but_those_it_was_given() {
    let fake = Fake::new();
    let (mut a, bo) = start(&fake);
    let [one, two] = clients(&mut a);
    assert_eq!(a.fill_for(&one, bo, 0, 4, 0), Ok(1));
    assert_eq!(a.fill_for(&one, bo, 0, 4, 0), Ok(2));
    assert_eq!(a.fill_for(&two, bo, 0, 4, 0), Ok(1));
    assert_eq!(a.ask(&two, 2), Err(Error::Invalid));
    assert_eq!(a.ask(&two, 0), Ok(None));
    complete(&fake, &mut a);
    for (client, fence) in [(&one, 1), (&one, 2), (&two, 1)] {
        assert_eq!(a.ask(client, fence), Ok(None));
    }
}

#[test]
fn an_error_in_any_piece_is_the_jobs_and_nobody_elses() {
    for bad in 1..=3 {
        let fake = Fake::new();
        let (mut a, bo) = start(&fake);
        let [client, other] = clients(&mut a);
        let job = a.fill_for(&client, bo, 0, 3 * PIECE_BYTES, 0).unwrap();
        for piece in 1..=3 {
            // Each is told by itself, and judged before the next one runs.
            let status = if piece == bad { FAULT } else { 0 };
            fake.finish(&a, 1 + piece);
            a.timeline().interrupt(1 + piece, status, FENCE);
            a.advance();
        }
        assert_eq!(a.ask(&client, job), Err(Error::Io), "piece {bad}");
        a.attend().unwrap();
        let next = a.fill_for(&client, bo, 0, 4, 0).unwrap();
        let theirs = a.fill_for(&other, bo, 0, 4, 0).unwrap();
        complete(&fake, &mut a);
        assert_eq!(a.ask(&client, next), Ok(None));
        assert_eq!(a.ask(&other, theirs), Ok(None));
        assert_eq!(a.ask(&client, job), Err(Error::Io), "for ever");
    }
}

#[test]
fn the_rest_of_a_job_that_has_failed_is_not_put_on_the_ring() {
    let fake = Fake::new();
    let (mut a, bo) = start(&fake);
    let [client, other] = clients(&mut a);
    let job = a.fill_for(&client, bo, 0, 9 * PIECE_BYTES, 0).unwrap();
    let first = a.timeline().submitted() - 1;
    fake.finish(&a, first);
    a.timeline().interrupt(first, FAULT, FENCE);
    a.advance();
    complete(&fake, &mut a);
    assert_eq!(a.timeline().submitted(), first + 1, "seven pieces less");
    assert_eq!(a.ask(&client, job), Err(Error::Io));
    a.attend().unwrap();
    let theirs = a.fill_for(&other, bo, 0, 4, 0).unwrap();
    complete(&fake, &mut a);
    assert_eq!(a.ask(&other, theirs), Ok(None));
}

#[test]
fn nothing_is_put_on_a_ring_that_sleeps() {
    let fake = Fake::new();
    let (mut a, bo) = start(&fake);
    let [client] = clients(&mut a);
    let job = a.fill_for(&client, bo, 0, 5 * PIECE_BYTES, 0).unwrap();
    fake.complete(&a, a.timeline().submitted());
    a.suspend(1_000).unwrap();
    let (put, written) = (a.timeline().submitted(), fake.writes.borrow().len());
    // The worker, for a fence of before.
    a.advance();
    let after = (a.timeline().submitted(), fake.writes.borrow().len());
    assert_eq!(after, (put, written), "its registers are not touched");
    a.resume().unwrap();
    a.advance();
    while a.has_queued() {
        complete(&fake, &mut a);
    }
    complete(&fake, &mut a);
    assert_eq!(a.ask(&client, job), Ok(None));
}

#[test]
fn the_clearing_of_a_buffer_that_nobody_has_any_more_ends() {
    let fake = Fake::new();
    let mut a = fake.start();
    let [client] = clients(&mut a);
    let large = request(CreateFlags::GPU_ONLY, 5 * PIECE_BYTES);
    let bo = a.create_for(&client, &large).unwrap();
    let put = a.timeline().submitted();
    // A dma-buf outlives its node.
    a.close_client(client);
    assert!(a.has_queued());
    a.destroy(bo).unwrap();
    complete(&fake, &mut a);
    assert_eq!((a.timeline().submitted(), a.has_queued()), (put, false));
}

#[test]
fn a_clients_work_that_is_not_on_the_ring_goes_with_it_and_its_memory_with_the_ring() {
    let fake = Fake::new();
    let (mut a, _) = start(&fake);
    let free = a.segments().map(|segment| segment.usage);
    let [greedy, other] = clients(&mut a);
    // One that the ring uses, and one that only a queued job uses.
    let snoop = request(CreateFlags::READBACK, 2 * MIB);
    let [used, queued] = [(); 2].map(|()| a.create_for(&greedy, &snoop).unwrap());
    for _ in 0..RING_BYTES / MIB / 2 {
        a.fill_for(&greedy, used, 0, 2 * MIB, 0).unwrap();
    }
    let newest = a.timeline().submitted();
    a.copy_for(&greedy, queued, 0, used, 0, MIB).unwrap();
    assert!(a.timeline().submitted() == newest && a.has_queued());
    a.destroy(used).unwrap();
    a.destroy(queued).unwrap();
    a.close_client(greedy);
    assert!(!a.has_queued());
    let usage = |a: &Adapter<Fake>| a.segments().map(|segment| segment.usage);
    assert_eq!(usage(&a)[2], free[2] + 2 * MIB, "the ring uses only one");
    let theirs = a.create_for(&other, &snoop).unwrap();
    let fence = a.fill_for(&other, theirs, 0, 4, 0).unwrap();
    fake.complete(&a, newest - 1);
    a.advance();
    assert_eq!(a.timeline().submitted(), newest + 1, "the next on the ring");
    complete(&fake, &mut a);
    assert_eq!(a.ask(&other, fence), Ok(None));
    a.destroy(theirs).unwrap();
    assert_eq!(usage(&a), free);
    fake.check(&a);
}

#[test]
fn the_rest_of_a_large_job_goes_with_its_client() {
    let fake = Fake::new();
    let (mut a, bo) = start(&fake);
    let [client] = clients(&mut a);
    a.fill_for(&client, bo, 0, 100 * MIB, 0).unwrap();
    a.close_client(client);
    let submitted = a.timeline().submitted();
    complete(&fake, &mut a);
    assert_eq!(a.timeline().submitted(), submitted);
    a.destroy(bo).unwrap();
    fake.check(&a);
}

#[test]
fn a_buffer_that_outlives_its_client_is_cleared_all_the_same() {
    let fake = Fake::new();
    let (mut a, bo) = start(&fake);
    let [client] = clients(&mut a);
    for _ in 0..3 {
        a.fill_for(&client, bo, 0, PIECE_BYTES, 0).unwrap();
    }
    let visible = request(CreateFlags::GPU_MOSTLY, MIB);
    let [held, gone] = [(); 2].map(|()| a.create_for(&client, &visible).unwrap());
    assert_eq!(a.fault(held, 0), Err(Error::Busy), "its clearing is queued");
    a.destroy(gone).unwrap();
    a.close_client(client);
    assert!(a.has_queued());
    assert_eq!(a.fault(held, 0), Err(Error::Busy));
    let before = a.timeline().submitted();
    complete(&fake, &mut a);
    assert_eq!(
        a.timeline().submitted(),
        before + 1,
        "the clearing, no fill"
    );
    assert_eq!(a.fault(held, 0), Err(Error::Busy));
    complete(&fake, &mut a);
    assert!(a.fault(held, 0).is_ok());
    fake.check(&a);
}

#[test]
fn a_reset_ends_what_is_on_the_ring_and_the_rest_runs_after_it() {
    let fake = Fake::new();
    let (mut a, bo) = start(&fake);
    let [client] = clients(&mut a);
    let jobs = [0; 4].map(|at| a.fill_for(&client, bo, at, 14 * MIB, 0).unwrap());
    let visible = request(CreateFlags::GPU_MOSTLY, MIB);
    let fresh = a.create_for(&client, &visible).unwrap();
    a.resume().unwrap();
    for _ in 0..4 {
        complete(&fake, &mut a);
    }
    let ends = jobs.map(|job| a.ask(&client, job));
    let cut = Err(Error::Canceled);
    assert_eq!(ends, [cut, cut, Ok(None), Ok(None)]);
    assert!(a.fault(fresh, 0).is_ok());
    fake.check(&a);
}

#[test]
fn a_ring_that_gives_up_costs_others_what_is_on_it_and_no_queue() {
    let fake = Fake::new();
    let (mut a, bo) = start(&fake);
    let [guilty, other] = clients(&mut a);
    let mine = a
        .create_for(&other, &request(CreateFlags::READBACK, MIB))
        .unwrap();
    let hang = a.fill_for(&guilty, bo, 0, 4, 0).unwrap();
    let behind = a.fill_for(&other, mine, 0, 4, 0).unwrap();
    let rest = [0; 2].map(|at| a.fill_for(&guilty, bo, at, RING_BYTES - MIB, 0).unwrap());
    let queued = a.fill_for(&other, mine, 0, 4, 0).unwrap();
    a.timeline().interrupt(1, 0, 1 << 16);
    a.attend().unwrap();
    while a.has_queued() {
        complete(&fake, &mut a);
    }
    complete(&fake, &mut a);
    assert_eq!(a.ask(&guilty, hang), Err(Error::Io));
    assert_eq!(a.ask(&other, behind), Err(Error::Canceled));
    let cut = a.ask(&guilty, rest[0]);
    assert_eq!(cut, Err(Error::Canceled), "it was on the ring");
    assert_eq!(a.ask(&guilty, rest[1]), Ok(None));
    assert_eq!(a.ask(&other, queued), Ok(None));
}

#[test]
fn a_clearing_that_a_reset_cut_in_the_middle_begins_anew() {
    let fake = Fake::new();
    let (mut a, bo) = start(&fake);
    a.destroy(bo).unwrap();
    let [client] = clients(&mut a);
    let large = request(CreateFlags::GPU_ONLY, 100 * MIB);
    let bo = a.create_for(&client, &large).unwrap();
    fake.complete(&a, 2);
    a.advance();
    a.resume().unwrap();
    // By who wants to use it; the rest of the first one is not put there.
    let cut = a.timeline().submitted();
    assert!(!a.has_queued());
    assert_eq!(a.fill_for(&client, bo, 0, 4, 0), Err(Error::Busy));
    assert_eq!(a.timeline().submitted(), cut + 1, "all of it");
    assert_eq!(a.ready_fence(bo), Some(cut + 1));
    complete(&fake, &mut a);
    assert_eq!(a.ready_fence(bo), None);
    assert!(a.fill_for(&client, bo, 0, 4, 0).is_ok());
}

#[test]
fn a_clearing_in_pieces_has_failed_when_any_of_them_has() {
    for bad in 0..3 {
        let fake = Fake::new();
        let (mut a, bo) = start(&fake);
        a.destroy(bo).unwrap();
        let [client] = clients(&mut a);
        let large = request(CreateFlags::GPU_ONLY, 3 * PIECE_BYTES);
        let bo = a.create_for(&client, &large).unwrap();
        let first = a.timeline().completed() + 1;
        for n in 0..3 {
            // As far as it went on the ring: a piece that failed ends it.
            if first + n <= a.timeline().submitted() {
                fake.finish(&a, first + n);
                let error = if n == bad { FAULT } else { 0 };
                a.timeline().interrupt(first + n, error, FENCE);
                a.attend().unwrap();
                a.advance();
            }
        }
        assert!(!a.has_queued());
        let before = a.timeline().submitted();
        assert_eq!(a.fill_for(&client, bo, 0, 4, 0), Err(Error::Busy), "{bad}");
        assert_eq!(
            a.timeline().submitted(),
            before + 1,
            "once more, as a whole"
        );
        complete(&fake, &mut a);
        assert!(a.fill_for(&client, bo, 0, 4, 0).is_ok());
    }
}

#[test]
fn a_clearing_in_pieces_that_always_hangs_is_given_up() {
    let fake = Fake::new();
    let (mut a, bo) = start(&fake);
    a.destroy(bo).unwrap();
    let [client] = clients(&mut a);
    let large = request(CreateFlags::GPU_ONLY, 6 * PIECE_BYTES);
    let bo = a.create_for(&client, &large).unwrap();
    let mut hangs = 0;
    loop {
        if running(&a) > 0 {
            hangs += 1;
            a.timeline().interrupt(0, 0, HANG);
            a.attend().unwrap();
        }
        match a.fill_for(&client, bo, 0, 4, 0) {
            Err(Error::Busy) => assert!(hangs < 20, "it goes on for ever"),
            end => {
                assert_eq!(end, Err(Error::Io));
                break;
            }
        }
    }
    assert_eq!((hangs, running(&a), a.has_queued()), (4, 0, false));
}

#[test]
fn the_drivers_own_work_does_not_pass_what_is_queued_for_a_buffer() {
    let fake = Fake::new();
    let (mut a, bo) = start(&fake);
    let [client] = clients(&mut a);
    for _ in 0..3 {
        a.fill_for(&client, bo, 0, 16 * MIB, 0).unwrap();
    }
    assert_eq!(a.fill(bo, 0, 4, 0), Err(Error::Busy));
    complete(&fake, &mut a);
    assert!(a.fill(bo, 0, 4, 0).is_ok());
}

#[test]
fn a_gpu_that_is_lost_takes_no_more_and_says_so_of_what_is_queued() {
    let fake = Fake::new();
    let (mut a, bo) = start(&fake);
    let [client] = clients(&mut a);
    let jobs = [0; 3].map(|at| a.fill_for(&client, bo, at, 16 * MIB, 0).unwrap());
    a.timeline().mark_lost();
    for job in jobs {
        assert_eq!(a.ask(&client, job), Err(Error::Lost));
    }
    assert_eq!(a.fill_for(&client, bo, 0, 4, 0), Err(Error::Lost));
}

#[test]
fn buffers_that_end_while_the_gpu_works_are_not_searched_for() {
    const BUFFERS: u64 = 1000;
    let fake = Fake::new();
    let (mut a, busy) = start(&fake);
    let readback = request(CreateFlags::READBACK, 4096);
    let bos: Vec<_> = (0..BUFFERS).map(|_| a.create(&readback).unwrap()).collect();
    for bo in &bos[1..] {
        a.destroy(*bo).unwrap();
    }
    let fence = a.fill(bos[0], 0, 4, 0).unwrap();
    a.destroy(bos[0]).unwrap();
    for _ in 0..BUFFERS {
        let bo = a.create(&readback).unwrap();
        a.destroy(bo).unwrap();
    }
    let steps = a.memory.bos.steps.load(Ordering::Relaxed);
    assert!(steps < BUFFERS, "{steps} slots were looked at");
    assert!(a.describe(busy).is_ok());
    fake.complete(&a, fence);
    a.reap();
    fake.check(&a);
}
