//! Everything that can go wrong, at any moment and in any order: what is told of
//! jobs is true, and is told.

use super::door::{BUS_ERROR, Door, FAULT, FENCE, HANG, Words};
use super::fake::{Fake, fence_frame, write_fence};
use crate::{Adapter, Client, CreateFlags, CreateRequest, Error, Timeline};
use e3k_regs::fields::RingWord;
use e3k_regs::{Reg, VramOffset};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

const SECOND: u64 = 1_000_000_000;

/// How a job of the ring goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Good,
    /// An access of it is dropped; its fence arrives nonetheless.
    Error(u32),
    /// The same, and the next step finds it still at work.
    Slow(u32),
    /// The write of its fence is what fails.
    Unwritten(u32),
    /// The ring gives up at it.
    Hang,
    /// It has faults, in turn at so many places, for ever.
    Stands(u32),
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Queue { client: usize },
    Run(Fate),
    EndSlice,
    Read,
    Latch,
    Handle,
    Attend,
    Reset,
    Ask { client: usize, back: u64 },
    Wait,
}

fn error() -> impl Strategy<Value = u32> {
    prop_oneof![Just(FAULT), Just(BUS_ERROR)]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        8 => Just(Fate::Good),
        1 => error().prop_map(Fate::Error),
        1 => error().prop_map(Fate::Slow),
        1 => error().prop_map(Fate::Unwritten),
        1 => Just(Fate::Hang),
        1 => (1u32..4).prop_map(Fate::Stands),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..3).prop_map(|client| Step::Queue { client }),
        8 => fate().prop_map(Step::Run),
        4 => Just(Step::EndSlice),
        4 => Just(Step::Read),
        4 => Just(Step::Latch),
        4 => Just(Step::Handle),
        3 => Just(Step::Attend),
        1 => Just(Step::Reset),
        3 => (0usize..3, 0u64..6).prop_map(|(client, back)| Step::Ask { client, back }),
        1 => Just(Step::Wait),
    ]
}

/// What is true of the ring's jobs.
struct Truth {
    timeline: Arc<Timeline<Fake>>,
    /// The newest job that is over for the GPU, done or dropped.
    over: u64,
    bad: BTreeSet<u64>,
    /// Of these nobody could say that they had gone well when an error was told.
    doubtful: BTreeSet<u64>,
}

impl Truth {
    fn sees(&mut self, (biu, advanced): Words) {
        if biu != 0 || advanced & HANG != 0 {
            self.doubt(self.over + 1);
        }
    }

    fn doubt(&mut self, last: u64) {
        let unknown = |fence: &u64| self.timeline.verdict(*fence).is_none();
        let begun = 1..=last.min(self.timeline.submitted());
        self.doubtful.extend(begun.filter(unknown));
    }
}

/// The GPU and its door.
struct Gpu {
    fake: Fake,
    door: Door,
    truth: Truth,
    memory: u64,
    echo: VramOffset,
    /// The next job has begun.
    begun: Option<Fate>,
    faults: u32,
}

impl Gpu {
    fn new(fake: &Fake, adapter: &Adapter<Fake>, queued: bool) -> Self {
        Self {
            fake: fake.clone(),
            door: Door::new(adapter.timeline(), queued),
            truth: Truth {
                timeline: adapter.timeline(),
                over: 0,
                bad: BTreeSet::new(),
                doubtful: BTreeSet::new(),
            },
            memory: fence_frame(adapter),
            echo: VramOffset(adapter.ring0.ring.echo.0),
            begun: None,
            faults: 0,
        }
    }

    fn run(&mut self, fate: Fate) {
        let job = self.truth.over + 1;
        if job > self.truth.timeline.submitted() {
            return;
        }
        let begun = self.begun.is_some();
        let fate = self.begun.unwrap_or(fate);
        if fate != Fate::Good {
            self.truth.bad.insert(job);
        }
        match fate {
            Fate::Good => self.finish(job, 0, true),
            Fate::Error(error) => self.finish(job, error, true),
            Fate::Slow(_) if begun => self.finish(job, 0, true),
            Fate::Slow(error) => {
                self.door.raise(error, 0);
                self.begun = Some(fate);
            }
            Fate::Unwritten(error) => self.finish(job, error, false),
            Fate::Hang if !begun => {
                self.door.raise(0, HANG);
                self.begun = Some(fate);
            }
            Fate::Hang => {}
            Fate::Stands(places) => {
                self.fake.set_register(Reg::MxuIntStatus.offset(), 1);
                let place = self.faults % places;
                self.fake
                    .set_register(Reg::FaultStatus1.offset(), place << 12);
                self.faults += 1;
                self.door.raise(FAULT, 0);
                self.begun = Some(fate);
            }
        }
    }

    /// `written`: its fence reaches memory.
    fn finish(&mut self, job: u64, error: u32, written: bool) {
        let registers = self.fake.registers();
        let tail = registers.get(&RingWord::Tail.offset(0)).copied();
        self.fake
            .set_register(RingWord::Head.offset(0), tail.unwrap_or(0));
        if written {
            write_fence(self.memory, job);
        }
        self.fake.store(self.echo, job as u32);
        self.truth.over = job;
        self.begun = None;
        self.door.raise(error, FENCE);
    }

    fn handle(&mut self) {
        self.door.handle(&mut |words| self.truth.sees(words));
    }

    fn deliver(&mut self) {
        self.door.deliver(&mut |words| self.truth.sees(words));
    }

    /// The engine drops what it has; the words that were raised stay.
    fn drop_work(&mut self) {
        let submitted = self.truth.timeline.submitted();
        self.truth.doubt(submitted);
        self.truth.bad.extend(self.truth.over + 1..=submitted);
        self.truth.over = submitted;
        self.begun = None;
    }

    /// The function is reset, between two interrupts. Nobody can say any more
    /// what was raised and not told.
    fn reset(&mut self) {
        self.handle();
        self.drop_work();
        self.door.reset();
        self.fake.set_register(Reg::MxuIntStatus.offset(), 0);
    }
}

struct World {
    adapter: Adapter<Fake>,
    gpu: Rc<RefCell<Gpu>>,
    clients: Vec<(Client, crate::BoId, u64)>,
    /// The ring's job of each client's.
    ring: BTreeMap<(usize, u64), u64>,
    told: BTreeMap<(usize, u64), Result<(), Error>>,
    judged: BTreeMap<u64, Result<(), Error>>,
}

impl World {
    fn new(fake: &Fake, queued: bool) -> Self {
        let mut adapter = fake.start();
        let gpu = Rc::new(RefCell::new(Gpu::new(fake, &adapter, queued)));
        let (door, engine) = (Rc::clone(&gpu), Rc::clone(&gpu));
        *fake.on_deliver.borrow_mut() = Some(Box::new(move || door.borrow_mut().deliver()));
        *fake.on_engine_reset.borrow_mut() =
            Some(Box::new(move || engine.borrow_mut().drop_work()));
        let clients = [(); 3].map(|()| {
            let client = adapter.open_client().unwrap();
            let request = CreateRequest {
                bytes: 4096,
                flags: CreateFlags::READBACK.0,
                windows: &[],
            };
            let bo = adapter.create_for(&client, &request).unwrap();
            (client, bo, 0)
        });
        Self {
            adapter,
            gpu,
            clients: clients.into(),
            ring: BTreeMap::new(),
            told: BTreeMap::new(),
            judged: BTreeMap::new(),
        }
    }

    fn apply(&mut self, step: Step) {
        let gpu = &self.gpu;
        match step {
            Step::Queue { client } => {
                let (owner, bo, newest) = &mut self.clients[client];
                match self.adapter.fill_for(owner, *bo, 0, 4, 0) {
                    Ok(fence) => *newest = fence,
                    Err(error) => assert_eq!(error, Error::Busy),
                }
            }
            Step::Run(fate) => gpu.borrow_mut().run(fate),
            Step::EndSlice => gpu.borrow_mut().door.end_slice(),
            Step::Read => gpu.borrow_mut().door.read(),
            Step::Latch => gpu.borrow_mut().door.latch(),
            Step::Handle => gpu.borrow_mut().handle(),
            Step::Attend => {
                self.adapter.attend().unwrap();
                self.adapter.advance();
            }
            Step::Reset => {
                gpu.borrow_mut().reset();
                self.adapter.resume().unwrap();
            }
            Step::Ask { client, back } => {
                let newest = self.clients[client].2;
                self.ask(client, newest.saturating_sub(back));
            }
            Step::Wait => {
                let timeline = self.adapter.timeline();
                let done = timeline.in_memory().max(timeline.completed());
                assert_eq!(timeline.wait(done, 10 * SECOND), Ok(()), "found by polling");
            }
        }
        self.check();
    }

    /// Asks as a caller of WAIT does. True if the job is over.
    fn ask(&mut self, client: usize, fence: u64) -> bool {
        let ends = match self.adapter.ask(&self.clients[client].0, fence) {
            Ok(Some(ring)) => {
                assert!(ring <= self.adapter.timeline().submitted());
                return false;
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        let first = *self.told.entry((client, fence)).or_insert(ends);
        assert_eq!(
            ends, first,
            "job {fence} of client {client} is told otherwise"
        );
        true
    }

    fn check(&mut self) {
        let gpu = self.gpu.borrow();
        let timeline = self.adapter.timeline();
        for fence in 1..=timeline.submitted() {
            let Some(verdict) = timeline.verdict(fence) else {
                continue;
            };
            let first = *self.judged.entry(fence).or_insert(verdict);
            assert_eq!(verdict, first, "fence {fence} is judged otherwise");
            let bad = gpu.truth.bad.contains(&fence);
            let doubtful = bad || gpu.truth.doubtful.contains(&fence);
            assert!(!bad || verdict.is_err(), "fence {fence} had an error");
            assert!(
                doubtful || verdict.is_ok(),
                "fence {fence} went well: {verdict:?}"
            );
        }
        for (at, (client, _, newest)) in self.clients.iter().enumerate() {
            for fence in 1..=*newest {
                if let Some(ring) = self.adapter.queues.on_ring((client.id, fence)) {
                    self.ring.insert((at, fence), ring);
                }
            }
        }
        for (job, told) in &self.told {
            if let Some(ring) = self.ring.get(job) {
                assert_eq!(Some(*told), timeline.verdict(*ring), "{job:?}");
            }
        }
    }

    /// What the GPU is done with is known without anything behind it.
    fn ask_for_what_is_over(&mut self) {
        self.gpu.borrow_mut().deliver();
        self.apply(Step::Attend);
        let over = self.gpu.borrow().truth.over;
        for ((client, fence), ring) in self.ring.clone() {
            let told = ring > over || self.ask(client, fence);
            assert!(told, "job {fence} of client {client} is over");
        }
    }

    /// Everybody waits, and the GPU has no more trouble of its own.
    fn end(&mut self) {
        self.ask_for_what_is_over();
        for _ in 0..400 {
            self.apply(Step::Run(Fate::Good));
            self.gpu.borrow_mut().deliver();
            self.apply(Step::Attend);
        }
        for client in 0..self.clients.len() {
            for fence in 1..=self.clients[client].2 {
                assert!(self.ask(client, fence), "job {fence} of client {client}");
            }
        }
        self.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_is_told_of_a_job_is_true_stays_and_comes(
        queued in any::<bool>(), steps in prop::collection::vec(step(), 1..200),
    ) {
        let fake = Fake::new();
        let mut world = World::new(&fake, queued);
        for step in steps {
            world.apply(step);
        }
        world.end();
        *fake.on_deliver.borrow_mut() = None;
        *fake.on_engine_reset.borrow_mut() = None;
    }
}
