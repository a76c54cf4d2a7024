//! The memory manager on the model, used by threads, while the GPU works on a thread of
//! its own. Time passes only when the GPU has nothing to do or does the same for ever, and
//! not while it is [held](Crew::hold_time): nothing depends on how fast the threads are.

use crate::host::ManyThreads;
use crate::machine::{Machine, WINDOW_AT};
use crate::manager::{Managed, end_of, transact};
use crate::threads::machine::Threads;
use presil_device::Config;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use vidmm::evict::{self, Context, FenceOf, Mm, Page};
use vidmm::placement::{Flags, Place};
use vidmm::sync::portable::Portable;
use vidmm::sync::{Caller, LockSet};
use vidmm::vm::SpaceId;
use vidmm::{
    Adapter, Blit, BoId, Error, Host, InitReport, Left, OnChip, Options, SegmentId, TablePages,
    Timeline,
};

const PAGE: u64 = 4096;
/// What passes when the GPU has nothing to do, and when it works.
const IDLE_NS: u64 = 50_000_000;
const WORK_NS: u64 = 1000;

/// The manager of a GPU.
pub type Manager = Mm<OnChip<Machine, ManyThreads>>;
/// A fence of its.
pub type Fence = FenceOf<OnChip<Machine, ManyThreads>>;
/// A transaction of its.
pub type Set<'a> = LockSet<'a, Portable<Threads>>;

/// A GPU that works, and the manager of its memory.
pub struct Crew {
    /// The machine.
    pub machine: Machine,
    /// The manager.
    pub mm: Arc<Manager>,
    timeline: Arc<Timeline<Machine>>,
    held: Arc<AtomicBool>,
    gpu: Works,
}

impl Crew {
    /// Brings a GPU up, and lets it work.
    ///
    /// # Errors
    /// Those of the model and of the driver, as text.
    pub fn new(
        config: &Config,
        options: Options,
        tables: TablePages,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let machine = Machine::new(config)?;
        let mut report = InitReport::default();
        let adapter = Adapter::init(machine.clone(), options, &mut report)?;
        let timeline = adapter.timeline();
        machine.connect(&timeline);
        let host = ManyThreads::new(&machine);
        let [ends, held] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let mm = OnChip::manage(adapter, host, evict::Options::default(), tables)?;
        let mm = Arc::new(mm);
        let thread = thread::spawn({
            let (machine, mm) = (machine.clone(), Arc::clone(&mm));
            let (ends, held) = (Arc::clone(&ends), Arc::clone(&held));
            move || {
                while !ends.load(SeqCst) {
                    let worked = machine.step();
                    let world = mm.world();
                    world.advance();
                    let passes = if worked { WORK_NS } else { IDLE_NS };
                    if !held.load(SeqCst) {
                        let clock = world.host().sync().host();
                        clock.advance(passes);
                        machine.set_now(clock.now_ns());
                    }
                    thread::yield_now();
                }
            }
        });
        Ok(Self {
            machine,
            mm,
            timeline,
            held,
            gpu: Works {
                ends,
                thread: Some(thread),
            },
        })
    }

    /// While true, no time passes.
    pub fn hold_time(&self, held: bool) {
        self.held.store(held, SeqCst);
    }

    /// The time, in nanoseconds.
    pub fn now_ns(&self) -> u64 {
        self.mm.world().host().sync().host().now_ns()
    }

    /// In a transaction of this thread.
    ///
    /// # Errors
    /// Those of `call`.
    pub fn with<T>(&self, call: impl FnMut(&mut Set<'_>) -> Result<T, Error>) -> Result<T, Error> {
        transact(self.mm.world().host().sync(), call)
    }

    /// A buffer of a user, at this place.
    ///
    /// # Errors
    /// Those of [`Mm::create`].
    pub fn create(&self, pages: u64, segment: SegmentId) -> Result<BoId, Error> {
        let place = [Place::anywhere(segment, Flags::NONE)];
        let info = Managed::info(pages);
        let mm = &self.mm;
        self.with(|set| mm.create(set, &info, None, &place, &mut Managed::ctx()))
    }

    /// Moves a buffer there.
    ///
    /// # Errors
    /// Those of [`Mm::validate`].
    pub fn place(&self, bo: BoId, segment: SegmentId) -> Result<(), Error> {
        let places = [Place::anywhere(segment, Flags::NONE)];
        let (mm, reservation) = (&self.mm, self.mm.reservation(bo)?);
        self.with(|set| {
            set.lock(&reservation, 1)?;
            mm.validate(set, bo, &places, &mut Managed::ctx())
        })
    }

    /// A job of a process, whose buffers go wherever there is room.
    ///
    /// # Errors
    /// Those of [`OnChip::run`].
    pub fn job(&self, space: SpaceId, blits: &[Blit], ctx: &mut Context) -> Result<Fence, Error> {
        let mm = &self.mm;
        mm.world()
            .run(mm, space, blits.to_vec(), ctx, |set, bo, ctx| {
                let pcie = mm.info(bo)?.pcie();
                let segments = [SegmentId::LocalVisible, pcie];
                let places = segments.map(|segment| Place::anywhere(segment, Flags::NONE));
                mm.validate(set, bo, &places, ctx)
            })
    }

    /// How a fence ends.
    ///
    /// # Errors
    /// How it ended.
    pub fn wait(&self, fence: &Fence) -> Result<(), Error> {
        end_of(self.mm.world().host().sync(), fence)
    }

    /// The first word of each page of a buffer, behind all that the GPU does with it.
    ///
    /// # Errors
    /// Those of [`Mm::fault`].
    pub fn words(&self, bo: BoId) -> Result<Vec<u32>, Error> {
        let pages = 0..self.mm.info(bo)?.pages;
        let mut word = [0; 4];
        pages
            .map(|page| {
                self.touch(bo, page, |at| self.machine.cpu_read(at, &mut word))?;
                Ok(u32::from_le_bytes(word))
            })
            .collect()
    }

    /// The CPU stores the first word of a page.
    ///
    /// # Errors
    /// Those of [`Mm::fault`].
    pub fn store(&self, bo: BoId, page: u64, word: u32) -> Result<(), Error> {
        let word = word.to_le_bytes();
        self.touch(bo, page, |at| self.machine.cpu_write(at, &word))
    }

    /// Finds a page as the CPU does.
    fn touch(&self, bo: BoId, page: u64, access: impl FnOnce(u64)) -> Result<(), Error> {
        let mut caller = Caller::enter(self.mm.world().host().sync());
        self.mm.fault(
            &mut caller,
            bo,
            page,
            &mut Managed::ctx(),
            |page| match page {
                Page::Local(_, page) => access(WINDOW_AT + page * PAGE),
                Page::Ram(frame, _) => access(frame.at),
            },
        )
    }

    /// Ends the manager; the machine is left.
    ///
    /// # Errors
    /// What was left behind.
    ///
    /// # Panics
    /// When somebody else has the manager.
    pub fn end(self) -> Result<Machine, Left> {
        let Self {
            machine,
            mm,
            timeline,
            held: _,
            gpu,
        } = self;
        drop((timeline, gpu));
        let Some(mm) = Arc::into_inner(mm) else {
            unreachable!("somebody else has the manager");
        };
        OnChip::end(mm)?;
        Ok(machine)
    }
}

/// The thread that the GPU works on; it ends when this is dropped.
struct Works {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Works {
    fn drop(&mut self) {
        self.ends.store(true, SeqCst);
        // What went wrong there the test has said.
        _ = self.thread.take().map(JoinHandle::join);
    }
}
