//! A manager on the chip that gets no memory: every allocation of its beginning, and every
//! allocation, page and mapping of a job, is refused once.

use super::fake::Fake;
use super::mm::{Cellar, Machine, Sync, anywhere, info};
use super::ram::Countdown;
use crate::arena::Id;
use crate::bo::pool::SmallLock;
use crate::evict::{Context, FenceOf, Mm, Options, World};
use crate::on_chip::process_tables::Common;
use crate::on_chip::{Blit, Host, OnChip, TablePages};
use crate::placement::SegmentId;
use crate::platform::Patience;
use crate::sync::portable::Single;
use crate::sync::{Caller, Deadline, Primitives, Usage};
use crate::vm::SpaceId;
use crate::{Adapter, Error, InitReport};
use e3k_regs::{GpuVa, PAGE_SIZE, VramOffset};
use presil_allocator::{Refuse, refusing, refusing_but};
use std::alloc::Layout;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

const TABLES: TablePages = TablePages { all: 8, each: 8 };
const PAGES: u64 = 4;

struct TestHost {
    sync: Sync,
    ram: <Machine as World>::Ram,
}

impl TestHost {
    fn new() -> Self {
        Self {
            sync: <Sync>::new(Single::new()),
            ram: Machine::new().ram,
        }
    }
}

impl Host for TestHost {
    type Sync = Sync;
    type Ram = <Machine as World>::Ram;
    type Lock<T> = Cellar<T>;

    fn sync(&self) -> &Sync {
        &self.sync
    }

    fn ram(&self) -> &Self::Ram {
        &self.ram
    }

    fn lock<T>(&self, value: T) -> Cellar<T> {
        Cellar(value.into())
    }

    fn after(&self, ns: u64) -> Deadline {
        Deadline(self.sync.host().now_ns().saturating_add(ns))
    }

    fn unmap_user(&self, _: Id) {}
}

type Manager = Mm<OnChip<Fake, TestHost>>;

/// What an `Arc` allocates.
#[repr(C)]
struct Counted<T>(AtomicUsize, AtomicUsize, T);

/// An `Arc` knows no failure, and in the kernel so little is never refused.
const SURE: &[Layout] = &[
    Layout::new::<Counted<Common<Fake>>>(),
    Layout::new::<Counted<AtomicBool>>(),
    Layout::new::<Counted<Cellar<Vec<VramOffset>>>>(),
];

fn start(fake: &Fake) -> Adapter<Fake> {
    let options = super::fake::OPTIONS;
    Adapter::init(fake.clone(), options, &mut InitReport::default()).unwrap()
}

fn manage(adapter: Adapter<Fake>) -> Result<Manager, Error> {
    OnChip::manage(adapter, TestHost::new(), Options::default(), TABLES)
}

/// Nothing of the driver's is left, and it had nothing to complain about.
fn assert_gone(fake: &Fake, registers: &BTreeMap<u32, u32>, what: &str) {
    assert_eq!(fake.live_pages(), 0, "{what}");
    assert!(!fake.dma.get(), "{what}");
    assert_eq!(fake.registers(), *registers, "{what}");
    assert_eq!(*fake.log.borrow(), [""; 0], "{what}");
}

#[test]
fn whatever_is_refused_when_a_manager_begins_nothing_is_left_of_it() {
    let fake = Fake::new();
    assert!(OnChip::end(manage(start(&fake)).unwrap()).is_ok());
    fake.log.borrow_mut().clear();
    let registers = fake.registers();
    for from in [false, true] {
        let mut refusals = 0;
        for nth in 1.. {
            let what = format!("allocation {nth}, and those behind it: {from}");
            let adapter = start(&fake);
            let host = TestHost::new();
            let refuse = if from { Refuse::From } else { Refuse::Only };
            let (managed, refused) = refusing_but(SURE, refuse(nth), || {
                OnChip::manage(adapter, host, Options::default(), TABLES)
            });
            match managed {
                Ok(mm) => assert!(OnChip::end(mm).is_ok(), "{what}"),
                Err(error) => assert_eq!(error, Error::NoMemory, "{what}"),
            }
            assert_gone(&fake, &registers, &what);
            if refused == 0 {
                break;
            }
            refusals += 1;
        }
        assert!(refusals > 20, "{refusals}");
    }
}

/// A process that maps two buffers of everybody's and one of its own: for a job, one needs
/// pages, one has to be cleared, and one to be copied to where pages have to be found first.
struct Scene {
    fake: Fake,
    registers: BTreeMap<u32, u32>,
    mm: Rc<Manager>,
    space: SpaceId,
    bos: [Id; 3],
}

impl Scene {
    fn new() -> Self {
        let fake = Fake::new();
        assert!(OnChip::end(manage(start(&fake)).unwrap()).is_ok());
        fake.log.borrow_mut().clear();
        let registers = fake.registers();
        let mm = Rc::new(manage(start(&fake)).unwrap());
        let world = mm.world();
        let space = world.start_process(&mm).unwrap();
        fake.has_processes.set(true);
        let [ram, local] = [(); 2].map(|()| {
            let mut caller = Caller::enter(world.sync());
            let mut set = caller.transaction(Patience::Patient).unwrap();
            set.run(|set| mm.create(set, &info(PAGES), None, &[], &mut ctx()))
                .unwrap()
        });
        let mut caller = Caller::enter(world.sync());
        let mut set = caller.transaction(Patience::Patient).unwrap();
        let own = set
            .run(|set| {
                let (info, places) = (info(PAGES), [anywhere(SegmentId::LocalVisible)]);
                let spaces = world.spaces();
                spaces.create_private(&mm, set, space, &info, &places, &mut ctx())
            })
            .unwrap();
        drop(set);
        let bos = [ram, local, own];
        let scene = Self {
            fake,
            registers,
            mm,
            space,
            bos,
        };
        for (n, bo) in (0..).zip(bos) {
            let mm = &scene.mm;
            let (at, bytes) = (scene.at(n), PAGES * PAGE_SIZE);
            let world = mm.world();
            world.map(mm, space, at, bytes, (bo, 0), &ctx()).unwrap();
        }
        scene.gpu_works();
        let (fake, behind) = (scene.fake.clone(), Rc::downgrade(&scene.mm));
        let clock = scene.mm.world().host().sync.host().clone();
        clock.on_poll(move |now| {
            works(&fake, &*behind.upgrade()?);
            Some(now + 1000)
        });
        scene
    }

    /// Each buffer needs tables of its own.
    fn at(&self, n: u64) -> GpuVa {
        self.mm.world().private_zone().add(n * (4 << 20))
    }

    /// Everything that is in line has ended.
    fn gpu_works(&self) {
        while !self.mm.world().is_idle() {
            works(&self.fake, &self.mm);
        }
    }

    fn run(&self) -> Result<FenceOf<OnChip<Fake, TestHost>>, Error> {
        let blits = (0..3).map(|n| Blit::Fill {
            at: self.at(n),
            bytes: PAGES * PAGE_SIZE,
            pattern: 7,
        });
        let blits = presil_allocator::spared(|| blits.collect());
        let mm = &self.mm;
        mm.world()
            .run(mm, self.space, blits, &mut ctx(), |set, bo, ctx| {
                let to = if bo == self.bos[1] {
                    SegmentId::LocalVisible
                } else {
                    SegmentId::PcieUnsnoop
                };
                mm.validate(set, bo, &[anywhere(to)], ctx)
            })
    }

    /// A job that was refused has left nothing: it is not in line, nothing is locked or kept
    /// for it.
    fn assert_refused(&self, what: &str) {
        let world = self.mm.world();
        assert!(!world.is_lost(), "{what}");
        let behind = world.line.with(|line| line.behind(self.space, u64::MAX));
        assert!(behind.is_none(), "{what}: it is in line");
        assert_eq!(world.waiting_for_ids(), 0, "{what}");
        for bo in self.bos {
            let reservation = self.mm.reservation(bo).unwrap();
            assert!(world.sync().try_lock(&reservation, None), "{what}");
            world.sync().unlock(&reservation, None);
        }
        self.mm.check();
    }

    /// It runs once there is memory, and all comes back in the end.
    fn end(self, what: &str) {
        let world = self.mm.world();
        let fence = self.run().unwrap();
        for bo in self.bos {
            let reservation = self.mm.reservation(bo).unwrap();
            let idle = world.sync().is_idle(&reservation, Usage::Write);
            assert!(!idle, "{what}: the GPU works on it");
        }
        self.gpu_works();
        assert_eq!(world.sync().result(&fence), Some(Ok(())), "{what}");
        self.mm.check();
        assert_eq!(self.mm.held_pages(), 8, "{what}");
        for bo in self.bos {
            self.mm.release(bo).unwrap();
        }
        // As the end does, which does not tell.
        let idle = world.process_ids.with(|ids| ids.forget(self.space));
        assert_eq!(idle, Ok(()), "{what}: a process id is kept");
        let system = std::sync::Arc::clone(&world.host().ram.system);
        let mm = Rc::into_inner(self.mm).unwrap();
        assert!(OnChip::end(mm).is_ok(), "{what}");
        assert_eq!(system.pages_out(), 0, "{what}");
        assert_gone(&self.fake, &self.registers, what);
    }
}

/// The GPU does all that is on its ring.
fn works(fake: &Fake, mm: &Manager) {
    mm.world().line.with(|line| {
        let submitted = line.adapter.timeline().submitted();
        fake.complete(&line.adapter, submitted);
    });
    mm.world().advance();
}

fn ctx() -> Context {
    Context::until(Deadline(u64::MAX - 1), Patience::Patient)
}

/// The job runs, or it is refused with one of these errors and has left nothing.
fn judge(
    scene: Scene,
    ran: &Result<FenceOf<OnChip<Fake, TestHost>>, Error>,
    told: Error,
    what: &str,
) {
    match ran {
        Ok(_) => {}
        Err(error) => {
            assert_eq!(*error, told, "{what}");
            scene.assert_refused(what);
        }
    }
    scene.end(what);
}

#[test]
fn whatever_allocation_of_a_job_is_refused_it_does_not_run_and_leaves_nothing() {
    for from in [false, true] {
        let mut refusals = 0;
        for nth in 1.. {
            let scene = Scene::new();
            let what = format!("allocation {nth}, and those behind it: {from}");
            let refuse = if from { Refuse::From } else { Refuse::Only };
            let (ran, refused) = refusing(refuse(nth), || scene.run());
            judge(scene, &ran, Error::NoMemory, &what);
            if refused == 0 {
                break;
            }
            refusals += 1;
        }
        assert!(refusals > 20, "{refusals}");
    }
}

type Site = fn(&<Machine as World>::Ram) -> &Countdown;

/// Pages of the system, another caching mode, mappings for the GPU, and the error of each.
const SITES: [(Site, Error); 3] = [
    (|ram| &ram.system.takes_until_failure, Error::NoMemory),
    (|ram| &ram.system.switches_until_failure, Error::NoMemory),
    (|ram| &ram.system.maps_until_failure, Error::Fault),
];

#[test]
fn whatever_page_or_mapping_of_a_job_is_refused_it_does_not_run_and_leaves_nothing() {
    for (n, (site, told)) in SITES.into_iter().enumerate() {
        for nth in 0.. {
            let scene = Scene::new();
            let ram = &scene.mm.world().host().ram;
            site(ram).set(nth);
            let ran = scene.run();
            let refused = site(ram).refused();
            site(ram).set(u32::MAX);
            assert_eq!(ran.is_ok(), refused == 0, "site {n}, call {nth}");
            judge(scene, &ran, told, &format!("site {n}, call {nth}"));
            if refused == 0 {
                assert!(nth > 1, "site {n}: {nth}");
                break;
            }
        }
    }
}
