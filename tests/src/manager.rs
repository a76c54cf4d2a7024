//! The memory manager on the model: a GPU that was brought up, and works while the one
//! thread waits.

use crate::host::{Frame, OneThread};
use crate::machine::{Machine, WINDOW_AT};
use crate::program::Program;
use presil_device::{Config, Gpu, VramOffset};
use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use vidmm::bo::Kind;
use vidmm::bo::page_vector::Ram as _;
use vidmm::bo::pool;
use vidmm::evict::{self, Context, FenceOf, Info, Mm, Page};
use vidmm::placement::{Flags, Place};
use vidmm::sync::portable::{Portable, Single};
use vidmm::sync::{Caller, Deadline, LockSet, Primitives};
use vidmm::vm::SpaceId;
use vidmm::{
    Adapter, Blit, BoId, Caching, Error, Host, InitReport, Left, OnChip, Options, Patience,
    SegmentId, TablePages, Timeline,
};

const PAGE: usize = 4096;
const MIB: u32 = 1 << 20;
const SECOND: u64 = 1_000_000_000;
/// Where the word is that stands for a page.
const LAST_WORD: u64 = PAGE as u64 - 4;
/// Pages for the tables of processes.
const TABLES: TablePages = TablePages { all: 128, each: 64 };

/// The manager of a GPU.
pub type Manager = Mm<OnChip<Machine, OneThread>>;
/// A fence of its.
pub type Fence = FenceOf<OnChip<Machine, OneThread>>;
/// A transaction of its.
pub type Set<'a> = LockSet<'a, Portable<Single>>;

/// Runs `call` in a transaction of this thread.
///
/// # Errors
/// Those of `call`.
pub(crate) fn transact<S: Primitives, T>(
    sync: &S,
    call: impl FnMut(&mut LockSet<'_, S>) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut caller = Caller::enter(sync);
    let mut set = caller.transaction(Patience::Patient)?;
    set.run(call)
}

/// Waits for a fence, for as long as it takes.
///
/// # Errors
/// How it ended.
pub(crate) fn end_of<S: Primitives>(sync: &S, fence: &S::Fence) -> Result<(), Error> {
    sync.wait_fence(fence, Patience::Patient, Deadline(u64::MAX - 1))?;
    sync.result(fence)
        .map_or(Err(Error::Busy), |end| end.map_err(Into::into))
}

type Meanwhile = Rc<Cell<Option<Box<dyn FnOnce()>>>>;

/// A GPU, brought up, and the manager of its memory.
///
/// ```
/// use presil_device::{Chip, Config};
/// use presil_tests::manager::Managed;
/// use vidmm::evict::Page;
/// use vidmm::placement::{Flags, Place};
/// use vidmm::sync::Caller;
/// use vidmm::{Blit, Host as _, Options, SegmentId};
/// let config = Config::new(Chip::Arise10c0, 256 << 20, 64 << 20, true)?;
/// let gpu = Managed::new(&config, Options::default())?;
/// let (mm, world) = (&gpu.mm, gpu.mm.world());
///
/// // Created where the CPU does not see it, filled by a job through a mapping.
/// let places = [Place::anywhere(SegmentId::LocalInvisible, Flags::NONE)];
/// let buffer = gpu.create(4, &places)?;
/// let (process, at, bytes) = (world.start_process(mm)?, world.private_zone(), 4 * 4096);
/// world.map(mm, process, at, bytes, (buffer, 0), &Managed::ctx())?;
/// gpu.wait(&gpu.job(process, &[Blit::Fill { at, bytes, pattern: 7 }])?)?;
///
/// // Evicted: validated for another memory type. The contents come along.
/// gpu.place(buffer, SegmentId::PcieUnsnoop)?;
/// assert_eq!(mm.segment(buffer)?, Some(SegmentId::PcieUnsnoop));
///
/// // The CPU's first touch of page 3.
/// let mut caller = Caller::enter(world.host().sync());
/// let mut first = 0;
/// mm.fault(&mut caller, buffer, 3, &mut Managed::ctx(), |page| {
///     assert!(matches!(page, Page::Ram(..)));
///     gpu.cpu(&page, |bytes| first = bytes[0]);
/// })?;
/// assert_eq!(first, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Managed {
    /// The machine.
    pub machine: Machine,
    /// The manager.
    pub mm: Rc<Manager>,
    /// Keeps interrupts coming.
    timeline: Arc<Timeline<Machine>>,
    /// What is done when the thread waits the next time.
    meanwhile: Meanwhile,
}

impl Managed {
    /// Brings a GPU up.
    ///
    /// # Errors
    /// Those of the model and of the driver, as text.
    pub fn new(config: &Config, options: Options) -> Result<Self, Box<dyn std::error::Error>> {
        Self::with_tables(config, options, TABLES)
    }

    /// Brings a GPU up, with so many pages for the tables of processes.
    ///
    /// # Errors
    /// Those of the model and of the driver, as text.
    pub fn with_tables(
        config: &Config,
        options: Options,
        tables: TablePages,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        Self::with_options(config, options, evict::Options::default(), tables)
    }

    /// Brings a GPU up, with a manager that works so.
    ///
    /// # Errors
    /// Those of the model and of the driver, as text.
    pub fn with_options(
        config: &Config,
        options: Options,
        manager: evict::Options,
        tables: TablePages,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let machine = Machine::new(config)?;
        let mut report = InitReport::default();
        let adapter = Adapter::init(machine.clone(), options, &mut report)?;
        let timeline = adapter.timeline();
        machine.connect(&timeline);
        let host = OneThread::new(&machine);
        let clock = host.clock.clone();
        let mm = Rc::new(OnChip::manage(adapter, host, manager, tables)?);
        let (gpu, behind) = (machine.clone(), Rc::downgrade(&mm));
        let heard = Arc::downgrade(&timeline);
        let interrupts = move || heard.upgrade().map(|it| it.counters().interrupts);
        let mut asked = 0;
        let meanwhile = Meanwhile::default();
        let waits = Rc::clone(&meanwhile);
        // As `Host::sync` promises: behind interrupts, and once a second.
        clock.on_poll(move |now| {
            if let Some(done) = waits.take() {
                done();
            }
            gpu.set_now(now);
            let before = interrupts();
            gpu.run();
            let mm = Weak::upgrade(&behind)?;
            if interrupts() != before || now >= asked + SECOND {
                asked = now;
                mm.world().advance();
            }
            let works = gpu.can_work();
            let next = if works { now + 1000 } else { asked + SECOND };
            (!mm.world().is_idle()).then_some(next)
        });
        Ok(Self {
            machine,
            mm,
            timeline,
            meanwhile,
        })
    }

    /// What somebody else does as soon as the thread waits.
    pub fn meanwhile(&self, done: impl FnOnce() + 'static) {
        self.meanwhile.set(Some(Box::new(done)));
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
            meanwhile: _,
        } = self;
        drop(timeline);
        let Some(mm) = Rc::into_inner(mm) else {
            unreachable!("somebody else has the manager");
        };
        OnChip::end(mm)?;
        Ok(machine)
    }

    /// How operations wait here: as long as it takes.
    pub fn ctx() -> Context {
        Context::until(Deadline(u64::MAX - 1), Patience::Patient)
    }

    /// A buffer of a user.
    pub const fn info(pages: u64) -> Info {
        Info {
            kind: Kind::Device,
            pages,
            align: 1,
            caching: Caching::WriteCombined,
            priority: 0,
            owner: None,
        }
    }

    /// A buffer of a user, at one of these places.
    ///
    /// # Errors
    /// Those of [`Mm::create`].
    pub fn create(&self, pages: u64, places: &[Place]) -> Result<BoId, Error> {
        self.create_as(Caching::WriteCombined, pages, places)
    }

    /// The same, with pages of RAM that the CPU maps so.
    ///
    /// # Errors
    /// Those of [`Mm::create`].
    pub fn create_as(&self, caching: Caching, pages: u64, places: &[Place]) -> Result<BoId, Error> {
        let info = Info {
            caching,
            ..Self::info(pages)
        };
        self.with(|set| self.mm.create(set, &info, None, places, &mut Self::ctx()))
    }

    /// A buffer of a process's own, at one of these places.
    ///
    /// # Errors
    /// Those of [`OnChip::create`].
    pub fn create_private(
        &self,
        space: SpaceId,
        pages: u64,
        places: &[Place],
    ) -> Result<BoId, Error> {
        let (mm, info) = (&self.mm, Self::info(pages));
        let ctx = &mut Self::ctx();
        mm.world().create(mm, space, &info, true, places, ctx)
    }

    /// In a transaction.
    ///
    /// # Errors
    /// Those of `call`.
    pub fn with<T>(&self, call: impl FnMut(&mut Set<'_>) -> Result<T, Error>) -> Result<T, Error> {
        transact(self.mm.world().host().sync(), call)
    }

    /// A job of a process, whose buffers go wherever there is room.
    ///
    /// # Errors
    /// Those of [`OnChip::run`].
    pub fn job(&self, space: SpaceId, blits: &[Blit]) -> Result<Fence, Error> {
        self.job_in(space, blits, &mut Self::ctx())
    }

    /// The same, that may wait so.
    ///
    /// # Errors
    /// Those of [`OnChip::run`].
    pub fn job_in(
        &self,
        space: SpaceId,
        blits: &[Blit],
        ctx: &mut Context,
    ) -> Result<Fence, Error> {
        // As who submits does.
        self.program().barrier();
        let mm = &self.mm;
        let places = |bo| {
            let pcie = mm.info(bo)?.pcie();
            let segments = [SegmentId::LocalVisible, SegmentId::LocalInvisible, pcie];
            Ok::<_, Error>(segments.map(|segment| Place::anywhere(segment, Flags::NONE)))
        };
        let place =
            |set: &mut Set<'_>, bo, ctx: &mut Context| mm.validate(set, bo, &places(bo)?, ctx);
        mm.world().run(mm, space, blits.to_vec(), ctx, place)
    }

    fn program(&self) -> &Program {
        &self.mm.world().host().program
    }

    /// A program stores a word where [`Self::words`] looks, through its mapping of the
    /// page. If there is none it has it first.
    ///
    /// # Errors
    /// Those of [`Mm::fault`].
    pub fn program_stores(&self, bo: BoId, page: u64, word: u32) -> Result<(), Error> {
        let word = word.to_le_bytes();
        if self.program().store(bo, page, LAST_WORD, &word) {
            return Ok(());
        }
        let caching = self.mm.info(bo)?.caching;
        let mut caller = Caller::enter(self.mm.world().host().sync());
        self.mm
            .fault(&mut caller, bo, page, &mut Self::ctx(), |at| {
                self.program().map(bo, page, address(&at), caching);
            })?;
        self.program().store(bo, page, LAST_WORD, &word);
        Ok(())
    }

    /// What the program has stored is in memory.
    pub fn program_barrier(&self) {
        self.program().barrier();
    }

    /// The program has no mapping of a buffer any more.
    pub fn program_unmaps(&self, bo: BoId) {
        self.program().unmap(bo);
    }

    /// Whether a fence has ended, however.
    pub fn has_ended(&self, fence: &Fence) -> bool {
        self.mm.world().host().sync().result(fence).is_some()
    }

    /// Waits for a fence.
    ///
    /// # Errors
    /// How it ended.
    pub fn wait(&self, fence: &Fence) -> Result<(), Error> {
        end_of(self.mm.world().host().sync(), fence)
    }

    /// One word of each page of a buffer, wherever it is: as only a test sees it.
    ///
    /// # Errors
    /// Those of [`Mm::fault`].
    pub fn words(&self, bo: BoId) -> Result<Vec<u32>, Error> {
        let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        self.run();
        self.program().barrier();
        let mm = &self.mm;
        if mm.segment(bo)? == Some(SegmentId::LocalInvisible) {
            let first = self.machine.vram().visible_bytes();
            let at = mm.with_extents(bo, |extents| {
                let pages = extents.iter().flat_map(|extent| extent.first..extent.end);
                pages.collect::<Vec<_>>()
            })?;
            let read = |page: u64| {
                let mut bytes = [0; 4];
                let at = VramOffset(first + page * PAGE as u64 + LAST_WORD);
                _ = self.machine.vram().read(at, &mut bytes);
                word(&bytes)
            };
            return Ok(at.into_iter().map(read).collect());
        }
        let mut caller = Caller::enter(mm.world().host().sync());
        let mut read = |page| {
            mm.fault(&mut caller, bo, page, &mut Self::ctx(), |at| {
                let mut found = 0;
                self.cpu(&at, |bytes| found = word(&bytes[PAGE - 4..]));
                found
            })
        };
        (0..mm.info(bo)?.pages).map(&mut read).collect()
    }

    /// Puts a buffer at one of these places, with pages where it needs some.
    ///
    /// # Errors
    /// Those of [`Mm::validate`] and [`Mm::make_resident`].
    pub fn place(&self, bo: BoId, segment: SegmentId) -> Result<(), Error> {
        let places = [Place::anywhere(segment, Flags::NONE)];
        let (mm, reservation) = (&self.mm, self.mm.reservation(bo)?);
        self.with(|set| {
            set.lock(&reservation, 1)?;
            mm.validate(set, bo, &places, &mut Self::ctx())?;
            match segment {
                SegmentId::System => Ok(()),
                _ => mm.make_resident(set, bo, &mut Self::ctx()),
            }
        })
    }

    /// The power goes and comes back: registers as after a reset, garbage in local memory.
    pub fn lose_power(&self) {
        self.machine.gpu(Gpu::reset);
        let vram = self.machine.vram();
        let words = (1..=MIB / 4).flat_map(|n| (n | 1 << 24).to_le_bytes());
        let noise: Vec<u8> = words.collect();
        for at in (0..vram.bytes()).step_by(MIB as usize) {
            _ = vram.write(VramOffset(at), &noise);
        }
    }

    /// Gives back the pages that wait in the pool.
    pub fn empty_pool(&self) {
        let memory = &self.mm.world().host().memory;
        pool::close(memory.source(), memory.pool());
    }

    /// Where everything is, a bar for each segment.
    pub fn picture(&self) -> String {
        let mut picture = String::new();
        // Writing to a string cannot fail.
        _ = self.mm.write_picture(&mut picture);
        picture
    }

    /// Bytes that the GPU has copied so far.
    pub fn bytes_copied(&self) -> u64 {
        self.machine.gpu(|gpu| gpu.counters().bytes_copied)
    }

    /// The GPU works until it has nothing to do.
    pub fn run(&self) {
        while !self.mm.world().is_idle() {
            self.machine.run();
            self.mm.world().advance();
        }
    }

    /// Reads or writes a page where it is, as the CPU does.
    pub fn cpu(&self, page: &Page<'_, Frame>, access: impl FnOnce(&mut [u8; PAGE])) {
        let at = address(page);
        let mut bytes = [0; PAGE];
        self.machine.cpu_read(at, &mut bytes);
        let before = bytes;
        access(&mut bytes);
        if bytes != before {
            self.machine.cpu_write(at, &bytes);
        }
    }
}

/// Where the CPU finds a page.
fn address(page: &Page<'_, Frame>) -> u64 {
    match page {
        Page::Local(SegmentId::LocalVisible, page) => WINDOW_AT + page * PAGE as u64,
        Page::Local(..) => unreachable!("the CPU does not see it"),
        Page::Ram(frame, _) => frame.at,
    }
}
