//! What one client may have outstanding, and what its many buffers cost.

use super::fake::Fake;
use crate::{Adapter, BoId, CLIENT_BYTES, CLIENT_JOBS, Client, CreateFlags, CreateRequest, Error};
use core::sync::atomic::Ordering;

const MIB: u64 = 1 << 20;

fn start(fake: &Fake) -> (Adapter<Fake>, BoId) {
    let mut a = fake.start();
    let request = CreateRequest {
        bytes: MIB,
        flags: CreateFlags::READBACK.0,
        windows: &[],
    };
    let bo = a.create(&request).unwrap();
    (a, bo)
}

/// Submits a small fill that counts as `bytes`.
fn submit(a: &mut Adapter<Fake>, client: &mut Client, bo: BoId, bytes: u64) -> Result<u64, Error> {
    a.run_for(client, bytes, |a| a.fill(bo, 0, 4, 0))
}

#[test]
fn a_client_at_its_bound_is_refused_and_another_is_behind_no_more_than_that() {
    let fake = Fake::new();
    let (mut a, bo) = start(&fake);
    let [mut greedy, mut other] = [(); 2].map(|()| a.open_client().unwrap());
    let mut queued = 0;
    while submit(&mut a, &mut greedy, bo, MIB).is_ok() {
        queued += 1;
    }
    assert_eq!(queued, CLIENT_BYTES / MIB);
    let fence = submit(&mut a, &mut other, bo, MIB).unwrap();
    assert_eq!(fence, queued + 1, "jobs ahead of the other client's");
    // One job done makes room for one, not for more.
    fake.complete(&a, 1);
    assert!(submit(&mut a, &mut greedy, bo, MIB).is_ok());
    assert_eq!(
        submit(&mut a, &mut greedy, bo, MIB),
        Err(Error::Busy),
        "bytes are at the bound again"
    );
}

#[test]
fn small_jobs_are_bounded_by_their_number() {
    let fake = Fake::new();
    let (mut a, bo) = start(&fake);
    let mut client = a.open_client().unwrap();
    for _ in 0..CLIENT_JOBS {
        submit(&mut a, &mut client, bo, 4).unwrap();
    }
    assert_eq!(submit(&mut a, &mut client, bo, 4), Err(Error::Busy));
    fake.complete(&a, CLIENT_JOBS as u64);
    assert!(submit(&mut a, &mut client, bo, 4).is_ok());
}

#[test]
fn a_job_beyond_the_bound_runs_alone() {
    let fake = Fake::new();
    let (mut a, bo) = start(&fake);
    let mut client = a.open_client().unwrap();
    submit(&mut a, &mut client, bo, u64::MAX).unwrap();
    assert_eq!(submit(&mut a, &mut client, bo, 4), Err(Error::Busy));
    fake.complete(&a, 1);
    submit(&mut a, &mut client, bo, 4).unwrap();
    assert_eq!(submit(&mut a, &mut client, bo, u64::MAX), Err(Error::Busy));
}

#[test]
fn what_submits_nothing_is_not_charged() {
    let fake = Fake::new();
    let (mut a, bo) = start(&fake);
    let mut client = a.open_client().unwrap();
    // A fence that is not done, for what would be charged wrongly.
    a.fill(bo, 0, 4, 0).unwrap();
    for _ in 0..=CLIENT_JOBS {
        let bad = a.run_for(&mut client, CLIENT_BYTES, |a| a.fill(bo, 1, 4, 0));
        assert_eq!(bad, Err(Error::Invalid));
        let nothing = a.run_for(&mut client, CLIENT_BYTES, |_| Ok(()));
        assert_eq!(nothing, Ok(()));
    }
}

#[test]
fn buffers_that_end_while_the_gpu_works_are_not_searched_for() {
    const BUFFERS: u64 = 1000;
    let fake = Fake::new();
    let (mut a, busy) = start(&fake);
    let request = CreateRequest {
        bytes: 4096,
        flags: CreateFlags::READBACK.0,
        windows: &[],
    };
    let bos: Vec<_> = (0..BUFFERS).map(|_| a.create(&request).unwrap()).collect();
    for bo in &bos[1..] {
        a.destroy(*bo).unwrap();
    }
    let fence = a.fill(bos[0], 0, 4, 0).unwrap();
    a.destroy(bos[0]).unwrap();
    for _ in 0..BUFFERS {
        let bo = a.create(&request).unwrap();
        a.destroy(bo).unwrap();
    }
    let steps = a.memory.bos.steps.load(Ordering::Relaxed);
    assert!(steps < BUFFERS, "{steps} slots were looked at");
    assert!(a.describe(busy).is_ok());
    fake.complete(&a, fence);
    a.reap();
    fake.check(&a);
}
