//! Clients on threads of their own whose working sets fit one at a time.

use crate::Error;
use crate::arena::Id;
use crate::bo::Kind;
use crate::bo::page_vector::{BackingStore, PageVector, Ram};
use crate::bo::pool::{Effort, Linked, Lists, PageSource, SmallLock};
use crate::evict::{Context, FenceOf, Info, Mm, Options, ReservationOf, Side, World};
use crate::placement::{Extent, Flags, Place, SegmentId};
use crate::platform::{Caching, Patience, Wake};
use crate::sync::portable::{Host, Monitor, Portable};
use crate::sync::{Caller, Deadline, FenceContext, Usage};
use e3k_regs::BusAddr;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Threads, and the time since the test began.
#[derive(Clone, Copy)]
struct Threads(Instant);

struct Watched<T>(Mutex<T>, Condvar, Instant);

impl Host for Threads {
    type Monitor<T: 'static> = Watched<T>;

    fn monitor<T: 'static>(&self, value: T) -> Watched<T> {
        Watched(Mutex::new(value), Condvar::new(), self.0)
    }
}

impl<T> Monitor<T> for Watched<T> {
    fn with<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut self.0.lock().unwrap())
    }

    fn wake(&self) {
        self.1.notify_all();
    }

    fn wait<R>(
        &self,
        _: Patience,
        deadline: Deadline,
        mut look: impl FnMut(&mut T) -> Option<R>,
    ) -> Result<R, Wake> {
        let mut value = self.0.lock().unwrap();
        loop {
            if let Some(found) = look(&mut value) {
                return Ok(found);
            }
            let left = deadline.0.saturating_sub(elapsed(self.2));
            if left == 0 {
                return Err(Wake::TimedOut);
            }
            let sleep = Duration::from_nanos(left).min(Duration::from_secs(1));
            value = self.1.wait_timeout(value, sleep).unwrap().0;
        }
    }
}

fn elapsed(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap()
}

type Sync = Portable<Threads>;

struct Small<T>(Mutex<T>);

impl<T> SmallLock<T> for Small<T> {
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.lock().unwrap())
    }

    fn into_inner(self) -> T {
        self.0.into_inner().unwrap()
    }
}

struct Block(Option<Box<Block>>);

impl Linked for Block {
    fn set_next(&mut self, next: Option<Self>) {
        self.0 = next.map(Box::new);
    }

    fn take_next(&mut self) -> Option<Self> {
        self.0.take().map(|next| *next)
    }
}

/// RAM of which only the pages are counted.
#[derive(Default)]
struct Pages(AtomicU64);

impl PageSource for Pages {
    type Block = Block;

    fn take(&self, order: u32, _: bool, _: Effort) -> Option<Block> {
        self.0.fetch_add(1 << order, Ordering::Relaxed);
        Some(Block(None))
    }

    fn give(&self, _: Block, order: u32) {
        self.0.fetch_sub(1 << order, Ordering::Relaxed);
    }

    fn split(&self, _: Block, _: u32) -> (Block, Block) {
        (Block(None), Block(None))
    }

    fn clear(&self, _: &mut Block, _: u32) {}

    fn set_caching(
        &self,
        _: &mut dyn Iterator<Item = (&mut Block, u32)>,
        _: Caching,
    ) -> Result<(), Error> {
        Ok(())
    }

    fn write_barrier(&self) {}

    fn restore_caching(&self, _: &mut Block, _: u32) {}

    fn map(&self, _: &Block, _: u32) -> Result<BusAddr, Error> {
        Ok(BusAddr::from_page(1))
    }

    fn unmap(&self, _: &Block, _: BusAddr, _: u32) {}
}

/// Nothing is swapped here.
struct NoStore;

impl BackingStore<Block> for NoStore {
    fn put(&self, _: &Block, _: usize) -> Result<NonZeroU64, Error> {
        Err(Error::NoSpace)
    }

    fn get(&self, _: NonZeroU64, _: &mut Block, _: usize) -> Result<(), Error> {
        Err(Error::Io)
    }

    fn drop(&self, _: NonZeroU64) {}
}

struct Store {
    source: Pages,
    pool: Small<Lists<Block>>,
}

impl Ram for Store {
    type Block = Block;
    type Source = Pages;
    type Pool = Small<Lists<Block>>;
    type Store = NoStore;

    fn source(&self) -> &Pages {
        &self.source
    }

    fn pool(&self) -> &Small<Lists<Block>> {
        &self.pool
    }

    fn store(&self) -> &NoStore {
        &NoStore
    }
}

/// A GPU whose work is done by a thread of its own, in order.
struct Machine {
    began: Instant,
    sync: Arc<Sync>,
    ram: Store,
    ring: Arc<Mutex<FenceContext<Sync>>>,
    doorbell: Sender<u64>,
}

impl Machine {
    fn new() -> Self {
        let began = Instant::now();
        let sync = Arc::new(Portable::new(Threads(began)));
        let ring = Arc::new(Mutex::new(FenceContext::new(&*sync)));
        let (doorbell, work) = channel();
        let gpu = (Arc::clone(&sync), Arc::clone(&ring));
        std::thread::spawn(move || {
            for sequence in work {
                gpu.1.lock().unwrap().end_through(&gpu.0, sequence);
            }
        });
        Self {
            began,
            sync,
            ram: Store {
                source: Pages::default(),
                pool: Small(Mutex::new(Lists::new(16, false))),
            },
            ring,
            doorbell,
        }
    }

    fn submit(&self) -> Result<FenceOf<Self>, Error> {
        let mut ring = self.ring.lock().unwrap();
        let memory = ring.prepare(&self.sync)?;
        let fence = ring.arm(&self.sync, memory);
        self.doorbell.send(ring.issued()).unwrap();
        Ok(fence)
    }
}

impl World for Machine {
    type Sync = Sync;
    type Ram = Store;
    type Lock<T> = Small<T>;

    fn sync(&self) -> &Sync {
        &self.sync
    }

    fn ram(&self) -> &Store {
        &self.ram
    }

    fn lock<T>(&self, value: T) -> Small<T> {
        Small(Mutex::new(value))
    }

    fn after(&self, ns: u64) -> Deadline {
        Deadline(elapsed(self.began).saturating_add(ns))
    }

    fn is_lost(&self) -> bool {
        false
    }

    fn hop(&self, from: SegmentId, to: SegmentId) -> Option<SegmentId> {
        let over = |from: SegmentId, to| from == SegmentId::System && !SegmentId::uses_tt(to);
        (over(from, to) || over(to, from)).then_some(SegmentId::PcieSnoop)
    }

    fn copy(
        &self,
        _: &ReservationOf<Self>,
        _: &Side<'_, Block>,
        _: &Side<'_, Block>,
    ) -> Result<FenceOf<Self>, Error> {
        self.submit()
    }

    fn clear(&self, _: &ReservationOf<Self>, _: &Side<'_, Block>) -> Result<FenceOf<Self>, Error> {
        self.submit()
    }

    fn bind(&self, _: SegmentId, _: &[Extent], _: &PageVector<Block>) -> Result<(), Error> {
        Ok(())
    }

    fn unbind(&self, _: SegmentId, _: &[Extent]) {}

    fn unmap_user(&self, _: Id) {}

    fn is_mapped(&self, _: Id) -> bool {
        false
    }

    fn unmap_gpu(&self, _: Id) -> Result<(), Error> {
        Ok(())
    }
}

const CLIENTS: usize = 4;
const ROUNDS: usize = 60;

/// Each client's jobs use its three buffers, which take three quarters of `segment`.
fn contend(segment: SegmentId) {
    let mm = Mm::new(Machine::new(), [32, 128, 32, 32], Options::default()).unwrap();
    let info = Info {
        kind: Kind::Device,
        pages: 8,
        align: 1,
        caching: Caching::WriteCombined,
        priority: 0,
        owner: None,
    };
    let place = [Place::anywhere(segment, Flags::NONE)];
    let client = || {
        let world = mm.world();
        let mut caller = Caller::enter(world.sync());
        let ctx = || Context::until(world.after(60_000_000_000), Patience::Patient);
        let bos = [(); 3].map(|()| {
            let mut set = caller.transaction(Patience::Patient).unwrap();
            set.run(|set| mm.create(set, &info, None, &[], &mut ctx()))
                .unwrap()
        });
        let reservations = bos.map(|bo| mm.reservation(bo).unwrap());
        for round in 0..ROUNDS {
            let mut set = caller.transaction(Patience::Patient).unwrap();
            let mut context = ctx();
            let placed = set.run(|set| {
                set.lock_all(&reservations, 1)?;
                for bo in bos {
                    mm.validate(set, bo, &place, &mut context)?;
                    mm.make_resident(set, bo, &mut ctx())?;
                }
                set.lock_all(&reservations, 1)
            });
            assert_eq!(placed, Ok(()), "round {round}");
            for bo in bos {
                assert_eq!(mm.segment(bo), Ok(Some(segment)));
            }
            set.commit(&world.submit().unwrap(), |_| Usage::Write)
                .unwrap();
        }
        for bo in bos {
            mm.release(bo).unwrap();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(client);
        }
    });
    while mm.dying() > 0 {
        mm.reap();
        std::thread::yield_now();
    }
    mm.check();
    assert_eq!(mm.fini(), Ok(()));
}

#[test]
fn contention_for_local_memory_never_becomes_out_of_memory() {
    contend(SegmentId::LocalVisible);
}

#[test]
fn contention_for_what_the_gpu_has_to_let_go_never_becomes_out_of_memory() {
    contend(SegmentId::PcieUnsnoop);
}
