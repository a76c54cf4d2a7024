//! One client's long queue does not stand between another and its memory.

use super::{Check, Context, SNOOPED, VISIBLE};
use crate::device::{Buffer, Device, PAGE};
use crate::error::{Error, Result, ensure};
use presil_uapi as uapi;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// One fill of the client that queues without end.
const FILL_BYTES: u64 = 32 << 20;
/// Pieces of a client's work that are on the ring at a time, as docs/uapi.md says.
const ON_THE_RING: u64 = 2;
/// Fills that a node is closed with: as many as it may have.
const FILLS: u64 = (64 << 20) / FILL_BYTES;
/// Fills that were queued before the other client comes.
const QUEUED: usize = 24;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "a page behind another client's long queue",
        run: fairness,
    },
    Check {
        name: "what a closed node had queued never runs",
        run: closed,
    },
];

fn fairness(context: &Context) -> Result<String> {
    let greedy = Device::open()?;
    let buffer = greedy.create(uapi::CREATE_GPU_MOSTLY, FILL_BYTES, &[])?;
    let enough = AtomicBool::new(false);
    let (queued, queue) = channel();
    thread::scope(|scope| {
        let (until, target) = (&enough, &buffer);
        // The sender goes with the thread, so that nobody listens to one that has failed.
        let filling = scope.spawn(move || fill_until(until, target, &queued));
        let begun = queue.iter().take(QUEUED).count();
        let outcome = touch_a_page(context);
        enough.store(true, Ordering::Relaxed);
        let filled = filling.join();
        greedy.wait(filled.map_err(|_| Error::Wrong("the other client died".into()))??)?;
        ensure!(begun == QUEUED, "only {begun} fills were queued");
        outcome
    })
}

/// Queues fills as fast as it is let; returns the last fence.
fn fill_until(enough: &AtomicBool, buffer: &Buffer, queued: &Sender<()>) -> Result<u64> {
    let mut fence = 0;
    while !enough.load(Ordering::Relaxed) {
        fence = buffer.start_fill(0, FILL_BYTES, 0x5AFE_5AFE)?;
        // The listener leaves when it has heard enough.
        let _ = queued.send(());
    }
    Ok(fence)
}

fn touch_a_page(context: &Context) -> Result<String> {
    let buffer = VISIBLE.create(context, PAGE)?;
    let info = context.device.info()?;
    let unfinished = info.fence_submitted - info.fence_completed;
    // What the other has queued is not before the clearing of our page.
    ensure!(
        unfinished <= ON_THE_RING + 1,
        "{unfinished} pieces are on the ring, expected at most {ON_THE_RING} of the other client and ours"
    );
    let byte = buffer.map()?.touch()?;
    ensure!(byte == 0, "a fresh page begins with {byte:#x}, expected 0");
    Ok(format!("{unfinished} pieces on the ring, the page came"))
}

/// What ring 0 is given after a node with a queue is closed is what others ask for.
fn closed(context: &Context) -> Result<String> {
    let buffer = SNOOPED.create(context, PAGE)?;
    let greedy = Device::open()?;
    let theirs = greedy.create(uapi::CREATE_GPU_MOSTLY, FILL_BYTES, &[])?;
    for _ in 0..FILLS {
        theirs.start_fill(0, FILL_BYTES, 0x5AFE_5AFE)?;
    }
    let before = context.device.info()?;
    drop((theirs, greedy));
    let given = context.device.info()?.fence_submitted;
    buffer.fill(0, PAGE, 1)?;
    // What was on the ring is done, too: anything queued would have followed it.
    buffer.fill(0, PAGE, 2)?;
    let after = context.device.info()?.fence_submitted;
    ensure!(
        after == given + 2,
        "{} pieces were given to the ring after the node was closed, expected 2 of ours",
        after - given
    );
    let unfinished = before.fence_submitted - before.fence_completed;
    Ok(format!(
        "{unfinished} pieces were on the ring when it was closed"
    ))
}
