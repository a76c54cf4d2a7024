//! The queues by themselves, against a list of all jobs that is searched naively.

use crate::Error;
use crate::bo::BoId;
use crate::bo::accounts::{Accounts, ClientId};
use crate::engine::queue::{CopyWork, FillWork, PIECE_BYTES, Piece, Queues, TURN_JOBS, Work};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const CLIENTS: usize = 4;
const BOS: u64 = 6;

#[derive(Clone, Copy, Debug)]
enum Step {
    Queue {
        client: usize,
        bos: [u64; 2],
        bytes: u64,
    },
    Put,
    /// The oldest piece on the ring is done, well or not.
    Done {
        bad: bool,
    },
    /// A client goes and another comes.
    Close {
        client: usize,
        keep: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    let bytes =
        prop_oneof![3 => 4..PIECE_BYTES, 2 => PIECE_BYTES - 4..3 * PIECE_BYTES, 4 => Just(4)];
    let queue = (client.clone(), [0..BOS, 0..BOS], bytes)
        .prop_map(|(client, bos, bytes)| Step::Queue { client, bos, bytes });
    prop_oneof![
        6 => queue,
        8 => Just(Step::Put),
        5 => prop::bool::weighted(0.1).prop_map(|bad| Step::Done { bad }),
        1 => (client, any::<bool>()).prop_map(|(client, keep)| Step::Close { client, keep }),
    ]
}

struct Job {
    client: ClientId,
    fence: u64,
    bos: [u64; 2],
    bytes: u64,
    put: u64,
    dropped: bool,
    /// How each piece ended, by the ring's fence.
    pieces: Vec<(u64, Option<bool>)>,
}

impl Job {
    /// How it ended, if it is over.
    fn verdict(&self) -> Option<Result<(), Error>> {
        let over = self.put == self.bytes && self.pieces.iter().all(|piece| piece.1.is_some());
        let bad = self.pieces.iter().any(|piece| piece.1 == Some(true));
        over.then_some(if bad { Err(Error::Io) } else { Ok(()) })
    }

    fn is_queued(&self) -> bool {
        !self.dropped && self.put < self.bytes
    }

    fn shares_with(&self, other: &Self) -> bool {
        self.bos.iter().any(|bo| other.bos.contains(bo))
    }
}

fn work(bos: [u64; 2]) -> Work {
    let [first, second] = bos.map(|bo| BoId::from_bits(1 << 32 | bo));
    if bos[0] == bos[1] {
        Work::Fill(FillWork {
            bo: first,
            offset: 0,
            pattern: 0,
        })
    } else {
        Work::Copy(CopyWork {
            dst: (first, 0),
            src: (second, 0),
        })
    }
}

/// All jobs ever queued, in that order.
#[derive(Default)]
struct Reference {
    jobs: Vec<Job>,
    /// What others have put since a client has waited: bytes and pieces.
    waited: BTreeMap<ClientId, BTreeMap<ClientId, (u64, usize)>>,
}

impl Reference {
    /// Whether a job of a client could go on the ring now.
    fn head(&self, client: ClientId) -> Option<usize> {
        let head = self
            .jobs
            .iter()
            .position(|job| job.client == client && job.is_queued())?;
        let free = self.jobs[..head]
            .iter()
            .all(|before| !before.is_queued() || !before.shares_with(&self.jobs[head]));
        free.then_some(head)
    }

    /// Whether nothing keeps a client's next job from the ring, jobs that were
    /// dropped and would have had to wait themselves included.
    fn is_ready(&self, client: ClientId) -> bool {
        let mut pending: Vec<&Job> = Vec::new();
        for job in &self.jobs {
            let behind = pending
                .iter()
                .any(|before| before.shares_with(job) || before.client == job.client);
            if job.client == client && job.is_queued() {
                return !behind;
            }
            if job.is_queued() || job.dropped && behind {
                pending.push(job);
            }
        }
        false
    }

    fn put(&mut self, piece: &Piece, fence: u64) -> Result<(), TestCaseError> {
        let client = piece.job.0;
        let head = self.head(client);
        prop_assert!(head.is_some(), "{:?} goes on the ring too early", piece);
        let waiting: BTreeSet<_> = self.jobs.iter().map(|job| job.client).collect();
        for other in waiting.into_iter().filter(|other| *other != client) {
            if !self.is_ready(other) {
                self.waited.remove(&other);
                continue;
            }
            let passed = self.waited.entry(other).or_default();
            let (bytes, pieces) = passed.entry(client).or_default();
            (*bytes, *pieces) = (*bytes + piece.bytes, *pieces + 1);
        }
        self.waited.remove(&client);
        let job = &mut self.jobs[head.unwrap_or(0)];
        prop_assert_eq!((job.fence, job.put), (piece.job.1, piece.offset));
        prop_assert!(piece.bytes > 0 && piece.bytes <= PIECE_BYTES);
        job.put += piece.bytes;
        prop_assert_eq!(piece.last, job.put == job.bytes);
        prop_assert!(job.put <= job.bytes);
        job.pieces.push((fence, None));
        Ok(())
    }
}

proptest! {
    #[test]
    fn order_pieces_verdicts_and_turns_agree_with_a_list_of_jobs(
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let mut accounts = Accounts::new(50);
        let mut queues = Queues::new();
        let mut open = || {
            let id = accounts.open().unwrap();
            (id, 0)
        };
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| open()).collect();
        for client in &clients {
            queues.open(client.0).unwrap();
        }
        let mut reference = Reference::default();
        let mut last_job = BTreeMap::new();
        let (mut ring, mut completed) = (0, 0);
        for step in steps {
            match step {
                Step::Queue { client, bos, bytes } => {
                    let (id, fence) = &mut clients[client];
                    if queues.admit(*id, bytes, completed).is_err() {
                        continue;
                    }
                    let mut after = [None; 2];
                    for (after, bo) in after.iter_mut().zip(bos) {
                        *after = last_job.insert(bo, (*id, *fence + 1));
                    }
                    *fence += 1;
                    prop_assert_eq!(queues.push(*id, work(bos), bytes, after), Ok(*fence));
                    reference.jobs.push(Job {
                        client: *id, fence: *fence, bos, bytes, put: 0, dropped: false, pieces: Vec::new(),
                    });
                }
                Step::Put => {
                    let piece = queues.next();
                    let any = reference.jobs.iter().any(Job::is_queued);
                    prop_assert_eq!(piece.is_some(), any, "something goes while anything is queued");
                    prop_assert_eq!(queues.is_empty(), !any);
                    if let Some(piece) = piece {
                        ring += 1;
                        reference.put(&piece, ring)?;
                        queues.put(&piece, ring, false);
                    }
                    for passed in reference.waited.values().flat_map(BTreeMap::values) {
                        prop_assert!(passed.0 < 2 * PIECE_BYTES && passed.1 <= TURN_JOBS, "{:?}", passed);
                    }
                }
                Step::Done { bad } if completed < ring => {
                    completed += 1;
                    let pieces = reference.jobs.iter_mut().flat_map(|job| &mut job.pieces);
                    pieces.filter(|piece| piece.0 == completed).for_each(|piece| piece.1 = Some(bad));
                    let verdict = if bad { Err(Error::Io) } else { Ok(()) };
                    queues.judge(|fence| (fence <= completed).then_some(verdict), |_, _| {});
                }
                Step::Close { client, keep } => {
                    let (id, _) = clients[client];
                    let kept = |bos: [u64; 2]| keep && bos[0] == bos[1];
                    queues.close(id, |work| keep && matches!(work, Work::Fill(_)));
                    for job in reference.jobs.iter_mut().filter(|job| job.client == id) {
                        job.dropped |= job.put < job.bytes && !kept(job.bos);
                    }
                    reference.waited.clear();
                    clients[client] = open();
                    queues.open(clients[client].0).unwrap();
                }
                Step::Done { .. } => {}
            }
            for (id, newest) in &clients {
                prop_assert_eq!(queues.verdict((*id, newest + 1)), Err(Error::Invalid));
                prop_assert_eq!(queues.jobs(*id, completed).0, *newest);
            }
            let open = |job: &&Job| clients.iter().any(|client| client.0 == job.client);
            for job in reference.jobs.iter().filter(open) {
                let known = queues.verdict((job.client, job.fence)).unwrap();
                prop_assert_eq!(known, job.verdict(), "job {} of {:?}", job.fence, job.client);
            }
        }
        let bytes = |piece: &(u64, Option<bool>)| piece.1.is_none();
        let running = reference.jobs.iter().flat_map(|job| &job.pieces).filter(|p| bytes(p)).count();
        prop_assert_eq!(queues.running(completed).1, running);
    }
}
