//! What clients may book: against a naive reference, page by page.

use super::fake::{Fake, OPTIONS};
use crate::bo::accounts::Accounts;
use crate::{Adapter, BoId, CLIENT_BYTES, Client, CreateFlags, CreateRequest, Error, SegmentId};
use proptest::prelude::*;
use std::collections::BTreeMap;

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;

fn request(flags: CreateFlags, bytes: u64) -> CreateRequest<'static> {
    CreateRequest {
        bytes,
        flags: flags.0,
        windows: &[],
    }
}

fn booked(a: &Adapter<Fake>, client: &Client) -> [u64; 4] {
    a.bookings(client).map(|booking| booking.booked)
}

/// Everything that was queued is done.
fn complete(fake: &Fake, a: &mut Adapter<Fake>) {
    loop {
        fake.complete(a, a.timeline().submitted());
        let more = a.has_queued();
        a.advance();
        if !more {
            return;
        }
    }
}

#[test]
fn clients_have_letters_that_come_again_after_25() {
    let mut accounts = Accounts::new(50);
    let letters: String = (0..27).map(|_| accounts.open().unwrap().letter()).collect();
    assert_eq!(letters, "abcdefghijklmnopqrstuvwxyab");
}

/// An account goes with the last of what is booked on it, and not before its client.
#[test]
fn an_account_outlives_its_client_as_long_as_it_has_buffers() {
    let fake = Fake::new();
    let mut a = fake.start();
    let readback = request(CreateFlags::READBACK, MIB);
    let client = a.open_client().unwrap();
    let bo = a.create_for(&client, &readback).unwrap();
    a.destroy(bo).unwrap();
    assert_eq!(a.memory.accounts.len(), 1, "its client is there");
    let bo = a.create_for(&client, &readback).unwrap();
    a.close_client(client);
    assert_eq!(a.memory.accounts.len(), 1, "its buffer is there");
    a.destroy(bo).unwrap();
    assert_eq!(a.memory.accounts.len(), 0);
    let client = a.open_client().unwrap();
    a.close_client(client);
    assert_eq!(a.memory.accounts.len(), 0, "it never had a buffer");
    fake.check(&a);
}

#[test]
fn what_the_driver_pins_is_pinned_no_more_when_it_is_given_back() {
    let fake = Fake::new();
    let mut a = fake.start();
    let pinned = |a: &Adapter<Fake>| a.segments().map(|segment| (segment.pinned, segment.usage));
    let before = pinned(&a);
    let kernel = a
        .memory
        .book_kernel(SegmentId::LocalVisible, 3 * 4096)
        .unwrap();
    assert_ne!(pinned(&a), before);
    a.memory.release(kernel);
    assert_eq!(pinned(&a), before);
    fake.check(&a);
}

#[test]
fn a_client_gets_half_of_a_segment_and_another_the_other_half() {
    let fake = Fake::new();
    let mut a = fake.start();
    let [greedy, other] = [(); 2].map(|()| a.open_client().unwrap());
    let readback = request(CreateFlags::READBACK, MIB);
    let half = OPTIONS.snoop_bytes / 2;
    let mut bos: Vec<BoId> = (0..half / MIB)
        .map(|_| a.create_for(&greedy, &readback).unwrap())
        .collect();
    let refused = a.create_for(&greedy, &readback).unwrap_err();
    let limit = Error::Limit {
        segment: SegmentId::PcieSnoop,
        limit: half,
        booked: half,
    };
    assert_eq!((refused, refused.errno()), (limit, 28));
    assert_eq!(
        refused.to_string(),
        "beyond the client's limit in pcie-snoop: it has booked 4194304 of at most 4194304 bytes"
    );
    let theirs = a.create_for(&other, &readback).unwrap();
    // What the driver books for itself is on nobody's account.
    a.create(&readback).unwrap();
    a.destroy(bos.pop().unwrap()).unwrap();
    a.create_for(&greedy, &readback).unwrap();
    a.destroy(theirs).unwrap();
    assert_eq!(booked(&a, &other), [0; 4]);
    fake.check(&a);
}

#[test]
fn a_full_segment_is_out_of_memory_and_no_limit() {
    let fake = Fake::new();
    let mut a = fake.start();
    let client = a.open_client().unwrap();
    let readback = |bytes| request(CreateFlags::READBACK, bytes);
    let too_large = a.create_for(&client, &readback(OPTIONS.snoop_bytes + 1));
    assert_eq!(too_large, Err(Error::NoMemory), "it fits nobody");
    a.create(&readback(OPTIONS.snoop_bytes - MIB)).unwrap();
    let no_room = a.create_for(&client, &readback(MIB));
    assert_eq!(
        no_room,
        Err(Error::NoMemory),
        "the driver's own page is there"
    );
}

#[test]
fn at_its_limit_a_client_goes_on_to_the_next_place() {
    let fake = Fake::new();
    let mut a = fake.start();
    let client = a.open_client().unwrap();
    let segments: Vec<_> = [6, 6, 3, 2]
        .into_iter()
        .map(|size| {
            let upload = request(CreateFlags::UPLOAD, size * MIB / 2);
            let bo = a.create_for(&client, &upload)?;
            a.describe(bo).map(|bo| bo.segment)
        })
        .collect();
    let (unsnoop, visible) = (SegmentId::PcieUnsnoop, SegmentId::LocalVisible);
    assert_eq!(
        segments,
        [Ok(unsnoop), Ok(visible), Ok(visible), Ok(unsnoop)],
        "3 MiB and 1 MiB of at most 4; the rest where the policy says next"
    );
}

#[test]
fn a_buffer_that_could_not_be_made_is_not_booked() {
    let fake = Fake::new();
    let mut a = fake.start();
    let client = a.open_client().unwrap();
    let bo = a.create(&request(CreateFlags::READBACK, MIB)).unwrap();
    let mostly = request(CreateFlags::GPU_MOSTLY, MIB);
    while a.fill(bo, 0, 4, 0).is_ok() {}
    a.create_for(&client, &mostly).unwrap();
    assert_eq!(booked(&a, &client)[0], MIB, "a full ring is waited for");
    let too_much = request(CreateFlags::GPU_ONLY, CLIENT_BYTES);
    assert_eq!(a.create_for(&client, &too_much), Err(Error::Busy));
    a.timeline().mark_lost();
    assert_eq!(a.create_for(&client, &mostly), Err(Error::Lost));
    assert_eq!(booked(&a, &client), [MIB, 0, 0, 0]);
}

#[test]
fn what_the_gpu_still_uses_is_waited_for_and_counts_until_it_is_free() {
    let fake = Fake::new();
    let mut a = fake.start();
    let client = a.open_client().unwrap();
    let half = request(CreateFlags::READBACK, OPTIONS.snoop_bytes / 2 - MIB);
    let more = request(CreateFlags::READBACK, 2 * MIB);
    let bo = a.create_for(&client, &half).unwrap();
    assert!(matches!(
        a.create_for(&client, &more),
        Err(Error::Limit { .. })
    ));
    let fence = a.fill(bo, 0, 4, 0).unwrap();
    a.destroy(bo).unwrap();
    let booking = a.bookings(&client)[SegmentId::PcieSnoop as usize];
    assert_eq!(
        (booking.booked, booking.dying),
        (half.bytes, half.bytes),
        "its memory is nobody else's yet"
    );
    assert_eq!(a.create_for(&client, &more), Err(Error::Busy));
    fake.complete(&a, fence);
    a.create_for(&client, &more).unwrap();
    let booking = a.bookings(&client)[SegmentId::PcieSnoop as usize];
    assert_eq!((booking.booked, booking.dying), (2 * MIB, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Open,
    /// The client's buffers go with it, except those that somebody else holds.
    Close {
        client: usize,
        keep: bool,
    },
    Create {
        client: usize,
        flags: u32,
        kib: u64,
    },
    Use {
        bo: usize,
    },
    Destroy {
        bo: usize,
    },
    Complete,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..4_usize;
    prop_oneof![
        1 => Just(Step::Open),
        1 => (client.clone(), any::<bool>()).prop_map(|(client, keep)| Step::Close { client, keep }),
        8 => (client, 0..4_u32, 1..3000_u64)
            .prop_map(|(client, flag, kib)| Step::Create { client, flags: 1 << flag, kib }),
        2 => any::<usize>().prop_map(|bo| Step::Use { bo }),
        3 => any::<usize>().prop_map(|bo| Step::Destroy { bo }),
        1 => Just(Step::Complete),
    ]
}

/// A buffer as the reference knows it.
struct Known {
    id: BoId,
    owner: u64,
    segment: usize,
    first: usize,
    pages: usize,
    /// The GPU works on it.
    busy: bool,
    zombie: bool,
}

/// Each page's state, each client's buffers, found by looking at all of them.
struct Reference {
    /// Booked pages.
    pages: [Vec<bool>; 4],
    bos: Vec<Known>,
    /// Of each client, the bytes that are cleared and not done.
    clearing: BTreeMap<u64, Vec<u64>>,
}

impl Reference {
    fn new(a: &Adapter<Fake>) -> Self {
        let mut pages = a
            .segments()
            .map(|segment| vec![false; (segment.bytes / PAGE) as usize]);
        for (_, bo) in a.memory.bos.iter() {
            if let Some(at) = bo.resource {
                let first = at.first_page as usize;
                pages[at.segment as usize][first..first + bo.pages as usize].fill(true);
            }
        }
        Self {
            pages,
            bos: Vec::new(),
            clearing: BTreeMap::new(),
        }
    }

    fn booked(&self, owner: u64, zombies_too: bool) -> [u64; 4] {
        let mut sums = [0; 4];
        for bo in self.bos.iter().filter(|bo| bo.owner == owner) {
            sums[bo.segment] += if zombies_too || !bo.zombie {
                bo.pages as u64 * PAGE
            } else {
                0
            };
        }
        sums
    }

    /// Everything that was queued is done.
    fn complete(&mut self, fake: &Fake, a: &mut Adapter<Fake>) {
        complete(fake, a);
        self.bos.iter_mut().for_each(|bo| bo.busy = false);
        self.clearing.clear();
        self.reap();
    }

    fn reap(&mut self) {
        let (gone, left) = std::mem::take(&mut self.bos)
            .into_iter()
            .partition(|bo: &Known| bo.zombie && !bo.busy);
        self.bos = left;
        for bo in gone {
            self.pages[bo.segment][bo.first..bo.first + bo.pages].fill(false);
        }
    }

    fn room(&self, segment: usize, pages: usize) -> Option<usize> {
        let all = &self.pages[segment];
        (0..all.len().saturating_sub(pages - 1)).find(|at| !all[*at..at + pages].contains(&true))
    }

    /// Where a new buffer must go, or why not.
    fn place(&self, owner: u64, flags: u32, pages: usize) -> Result<(usize, usize), Option<Error>> {
        const ORDER: [&[usize]; 4] = [&[1, 0, 3], &[0, 1, 3], &[3, 0], &[2]];
        let bytes = pages as u64 * PAGE;
        let mut why = None;
        for &segment in ORDER[flags.trailing_zeros() as usize] {
            let Some(first) = self.room(segment, pages) else {
                continue;
            };
            let limit = (self.pages[segment].len() / 2) as u64 * PAGE;
            let booked = self.booked(owner, true)[segment];
            if booked + bytes <= limit {
                return Ok((segment, first));
            }
            if self.booked(owner, false)[segment] + bytes <= limit {
                why = Some(Error::Busy);
            } else if why != Some(Error::Busy) {
                why = Some(Error::Limit {
                    segment: SegmentId::ALL[segment],
                    limit,
                    booked,
                });
            }
        }
        Err(why)
    }
}

proptest! {
    // Each case starts a driver.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn accounts_agree_with_a_naive_reference(steps in prop::collection::vec(step(), 1..160)) {
        let fake = Fake::new();
        let mut a = fake.start();
        let mut reference = Reference::new(&a);
        let mut clients: Vec<(u64, Client)> = Vec::new();
        let mut opened = 0;
        for step in [Step::Open, Step::Open].into_iter().chain(steps) {
            match step {
                Step::Open => {
                    opened += 1;
                    clients.push((opened, a.open_client().unwrap()));
                }
                Step::Close { client, keep } if clients.len() > 1 => {
                    // What of its work would be dropped is another test's.
                    reference.complete(&fake, &mut a);
                    let (owner, client) = clients.remove(client % clients.len());
                    let theirs = reference.bos.iter_mut().filter(|bo| bo.owner == owner && !bo.zombie);
                    for bo in theirs.skip(usize::from(keep)) {
                        a.destroy(bo.id).unwrap();
                        bo.zombie = true;
                    }
                    a.close_client(client);
                }
                Step::Create { client, flags, kib } => {
                    let at = client % clients.len();
                    let (owner, client) = &clients[at];
                    let (owner, bytes) = (*owner, kib << 10);
                    let clearing = reference.clearing.entry(owner).or_default();
                    let outstanding: u64 = clearing.iter().sum();
                    let made = a.create_for(client, &request(CreateFlags(flags), bytes));
                    if outstanding > 0 && outstanding + bytes > CLIENT_BYTES {
                        prop_assert_eq!(made, Err(Error::Busy));
                        continue;
                    }
                    reference.reap();
                    let pages = bytes.div_ceil(PAGE) as usize;
                    match reference.place(owner, flags, pages) {
                        Err(why) => prop_assert_eq!(made, Err(why.unwrap_or(Error::NoMemory))),
                        Ok((segment, first)) => {
                            let id = made.unwrap();
                            let found = a.describe(id).unwrap();
                            prop_assert_eq!((found.segment as usize, found.start_page), (segment, first as u64));
                            reference.pages[segment][first..first + pages].fill(true);
                            let local = segment < 2;
                            if local {
                                reference.clearing.entry(owner).or_default().push(pages as u64 * PAGE);
                            }
                            reference.bos.push(Known { id, owner, segment, first, pages, busy: local, zombie: false });
                        }
                    }
                }
                Step::Use { bo } | Step::Destroy { bo } => {
                    let count = reference.bos.len().max(1);
                    let Some(known) = reference.bos.get_mut(bo % count).filter(|bo| !bo.zombie) else {
                        continue;
                    };
                    if let Step::Use { .. } = step {
                        // Not past a clearing that is queued.
                        let used = a.fill(known.id, 0, 4, 0);
                        prop_assert!(used.is_ok() || known.busy, "{:?}", used);
                        known.busy = true;
                    } else {
                        a.destroy(known.id).unwrap();
                        known.zombie = true;
                    }
                }
                Step::Complete => reference.complete(&fake, &mut a),
                Step::Close { .. } => {}
            }
            a.reap();
            reference.reap();
            for (owner, client) in &clients {
                let bookings = a.bookings(client);
                prop_assert_eq!(bookings.map(|b| b.booked), reference.booked(*owner, true));
                prop_assert_eq!(bookings.map(|b| b.booked - b.dying), reference.booked(*owner, false));
                prop_assert!(bookings.iter().all(|b| b.booked <= b.limit));
            }
        }
        for bo in reference.bos.iter().filter(|bo| !bo.zombie) {
            a.destroy(bo.id).unwrap();
        }
        complete(&fake, &mut a);
        fake.check(&a);
        prop_assert_eq!(a.memory.accounts.len(), clients.len(), "closed accounts are gone");
        for (_, client) in clients {
            prop_assert_eq!(booked(&a, &client), [0; 4]);
            a.close_client(client);
        }
        prop_assert_eq!(a.memory.accounts.len(), 0);
    }
}
