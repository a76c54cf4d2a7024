//! Whatever processes map, do and let go of, and whatever has to leave: every page holds
//! what was written to it last, and the GPU touches no page of RAM that is not its own.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use e3k_regs::GpuVa;
use presil_device::{Chip, Config, OnFault};
use presil_tests::assert_tlbs_agree;
use presil_tests::demand::{Demand, Item};
use presil_tests::manager::Managed;
use proptest::prelude::*;
use vidmm::bo::Kind;
use vidmm::evict::Info;
use vidmm::placement::{Flags, Place};
use vidmm::sync::Caller;
use vidmm::vm::SpaceId;
use vidmm::{Blit, BoId, Error, Host, LocalMemory, Options, SegmentId, TablePages};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// Pages of a buffer are fewer.
const LARGEST: u64 = 400;
/// Pages of each part of local memory that are not the driver's own.
const LOCAL: u64 = 450;
/// Pages of RAM that buffers may have: with what is pinned, not of every two of them.
const RAM: u64 = 600;
/// Addresses of a process at which it has a buffer each: the last two behind another L1
/// register.
const SLOTS: [u64; 4] = [0, 4 * MIB, 4 << 30, (4 << 30) + 4 * MIB];
const SEGMENTS: [SegmentId; 5] = [
    SegmentId::LocalVisible,
    SegmentId::LocalInvisible,
    SegmentId::PcieSnoop,
    SegmentId::PcieUnsnoop,
    SegmentId::System,
];

/// A buffer that there is not yet.
const NOBODY: BoId = BoId::from_bits(0);

#[derive(Clone, Debug)]
enum Op {
    Start,
    Create(u64, usize),
    Map(usize, usize, usize),
    Unmap(usize, usize),
    /// Process, slot, first page, pages, pattern.
    Fill(usize, usize, u64, u64, u32),
    /// Process, to, from, pages.
    Copy(usize, usize, usize, u64),
    Astray(usize),
    /// Buffer, page, word: a program stores.
    Store(usize, u64, u32),
    Move(usize, usize),
    Swap(usize),
    Pin(usize),
    Unpin(usize),
    Release(usize),
    Destroy(usize),
    /// The GPU sleeps, and loses local memory.
    Sleep,
}

fn op() -> impl Strategy<Value = Op> {
    let n = any::<usize>;
    prop_oneof![
        2 => Just(Op::Start),
        4 => (1..LARGEST, 0..4_usize).prop_map(|(pages, at)| Op::Create(pages, at)),
        6 => (n(), n(), 0..4_usize).prop_map(|(process, bo, slot)| Op::Map(process, bo, slot)),
        1 => (n(), 0..4_usize).prop_map(|(process, slot)| Op::Unmap(process, slot)),
        12 => (n(), 0..4_usize, any::<u64>(), 1..LARGEST, any::<u32>())
            .prop_map(|(process, slot, first, pages, pattern)| Op::Fill(process, slot, first, pages, pattern)),
        6 => (n(), 0..4_usize, 0..4_usize, 1..LARGEST)
            .prop_map(|(process, to, from, pages)| Op::Copy(process, to, from, pages)),
        1 => n().prop_map(Op::Astray),
        6 => (n(), any::<u64>(), any::<u32>())
            .prop_map(|(bo, page, word)| Op::Store(bo, page, word)),
        6 => (n(), 0..5_usize).prop_map(|(bo, to)| Op::Move(bo, to)),
        2 => n().prop_map(Op::Swap),
        2 => n().prop_map(Op::Pin),
        1 => n().prop_map(Op::Unpin),
        2 => n().prop_map(Op::Release),
        1 => n().prop_map(Op::Destroy),
        1 => Just(Op::Sleep),
    ]
}

/// Pins a buffer where it is, or takes that back.
fn change_pins(gpu: &Managed, bo: BoId, pin: bool) {
    let reservation = gpu.mm.reservation(bo).unwrap();
    gpu.with(|set| {
        set.lock(&reservation, 1)?;
        if pin {
            gpu.mm.pin(set, bo)
        } else {
            gpu.mm.unpin(set, bo)
        }
    })
    .unwrap();
}

fn pick(n: usize, len: usize) -> Option<usize> {
    n.checked_rem(len)
}

struct Known {
    id: BoId,
    handle: bool,
    pinned: bool,
    words: Vec<u32>,
}

struct Test {
    gpu: Managed,
    /// Pages of each memory type that are not the driver's own.
    room: [u64; SEGMENTS.len()],
    /// What was refused, as the reference says it must.
    refused: u64,
    processes: Vec<(SpaceId, [Option<BoId>; 4])>,
    bos: Vec<Known>,
}

impl Test {
    fn new(on_fault: OnFault) -> Self {
        let mut config = Config::new(Chip::Arise10c0, 256 * MIB, 16 * MIB, true).unwrap();
        config.vram_seed = Some(5);
        config.mmu.on_fault = on_fault;
        let options = Options {
            snoop_bytes: 2 * MIB,
            unsnoop_bytes: 2 * MIB,
            ..Options::default()
        };
        // Each of 18 processes may need two L2 tables and four L3 tables.
        let tables = TablePages { all: 8, each: 8 };
        let gpu = Managed::with_tables(&config, options, tables).unwrap();
        let mut room = [u64::MAX; SEGMENTS.len()];
        for it in &gpu.mm.report().types[..4] {
            room[it.segment as usize] = it.free / PAGE;
        }
        // The driver's own has most of local memory.
        for segment in [SegmentId::LocalVisible, SegmentId::LocalInvisible] {
            let pages = room[segment as usize] - LOCAL;
            room[segment as usize] = LOCAL;
            let info = Info {
                kind: Kind::Kernel,
                ..Managed::info(pages)
            };
            let places = [Place::anywhere(segment, Flags::NONE)];
            let ctx = &mut Managed::ctx();
            let bo = gpu.with(|set| gpu.mm.create(set, &info, None, &places, ctx));
            change_pins(&gpu, bo.unwrap(), true);
        }
        gpu.run();
        gpu.mm.limit_ram(usize::try_from(RAM).unwrap());
        Self {
            gpu,
            room,
            refused: 0,
            processes: Vec::new(),
            bos: Vec::new(),
        }
    }

    /// What there is, and who has it.
    fn demand(&self) -> Demand {
        let items = self.bos.iter().map(|bo| Item {
            bo: bo.id,
            pages: bo.words.len() as u64,
            at: self.gpu.mm.segment(bo.id).unwrap(),
            pinned: bo.pinned,
        });
        Demand {
            room: self.room,
            ram: RAM,
            pcie: SegmentId::PcieUnsnoop,
            items: items.collect(),
        }
    }

    fn item(&self, id: BoId) -> Item {
        let all = self.demand().items;
        *all.iter().find(|item| item.bo == id).unwrap()
    }

    /// What has not found memory did not fit.
    fn refused(&mut self, error: Error, fits: bool, what: &dyn std::fmt::Debug) {
        assert_eq!(error, Error::NoMemory, "{what:?}");
        assert!(!fits, "{what:?} fits: {:#?}", self.demand());
        self.refused += 1;
    }

    fn at(&self, slot: usize) -> GpuVa {
        self.gpu.mm.world().private_zone().add(SLOTS[slot])
    }

    fn bo(&mut self, id: BoId) -> &mut Known {
        self.bos.iter_mut().find(|bo| bo.id == id).unwrap()
    }

    fn forget_unused(&mut self) {
        let mapped: Vec<_> = self
            .processes
            .iter()
            .flat_map(|it| it.1)
            .flatten()
            .collect();
        self.bos.retain(|bo| bo.handle || mapped.contains(&bo.id));
    }

    fn unmap(&mut self, process: usize, slot: usize) {
        let Some(bo) = self.processes[process].1[slot].take() else {
            return;
        };
        let (space, at) = (self.processes[process].0, self.at(slot));
        let bytes = self.bo(bo).words.len() as u64 * PAGE;
        let world = self.gpu.mm.world();
        let mut caller = Caller::enter(world.host().sync());
        let spaces = world.spaces();
        spaces
            .unmap(&self.gpu.mm, &mut caller, space, at, bytes, &Managed::ctx())
            .unwrap();
        self.forget_unused();
    }

    fn run(&mut self, op: &Op) -> Option<()> {
        match *op {
            Op::Start if self.processes.len() < 18 => {
                let space = self.gpu.mm.world().start_process(&self.gpu.mm).unwrap();
                self.processes.push((space, [None; 4]));
            }
            Op::Start => {}
            Op::Create(pages, segment) => {
                let segment = match SEGMENTS[segment] {
                    SegmentId::PcieSnoop => SegmentId::PcieUnsnoop,
                    other => other,
                };
                let place = Place::anywhere(segment, Flags::NONE);
                match self.gpu.create(pages, &[place]) {
                    Ok(id) => self.bos.push(Known {
                        id,
                        handle: true,
                        pinned: false,
                        words: vec![0; usize::try_from(pages).unwrap()],
                    }),
                    Err(error) => {
                        let new = Item {
                            bo: NOBODY,
                            pages,
                            at: None,
                            pinned: false,
                        };
                        let fits = self.demand().fits(&new, segment, &[]);
                        self.refused(error, fits, op);
                    }
                }
            }
            Op::Map(process, bo, slot) => {
                let process = pick(process, self.processes.len())?;
                let id = self.bos[pick(bo, self.bos.len())?].id;
                // Jobs do not see mappings change under them.
                self.gpu.run();
                let keeps = self.bo(id).handle;
                self.unmap(process, slot);
                if !keeps && !self.bos.iter().any(|bo| bo.id == id) {
                    return None;
                }
                let bytes = self.bo(id).words.len() as u64 * PAGE;
                let (space, at) = (self.processes[process].0, self.at(slot));
                let world = self.gpu.mm.world();
                // The pool of tables is small, but others give theirs.
                let mapped = world.map(&self.gpu.mm, space, at, bytes, (id, 0), &Managed::ctx());
                mapped.unwrap();
                self.processes[process].1[slot] = Some(id);
            }
            Op::Unmap(process, slot) => {
                let process = pick(process, self.processes.len())?;
                self.gpu.run();
                self.unmap(process, slot);
            }
            Op::Release(bo) => {
                let at = pick(bo, self.bos.len())?;
                if std::mem::replace(&mut self.bos[at].handle, false) {
                    self.gpu.program_unmaps(self.bos[at].id);
                    self.gpu.mm.release(self.bos[at].id).unwrap();
                    self.forget_unused();
                }
            }
            Op::Sleep => {
                let mm = &self.gpu.mm;
                match mm.world().suspend(mm, &mut Managed::ctx()) {
                    Ok(()) => {
                        self.gpu.lose_power();
                        mm.world().resume(mm, LocalMemory::Lost).unwrap();
                    }
                    Err(Error::Busy) => {
                        let stays = |it: &Item| it.pinned && it.at.is_some_and(|at| !at.uses_tt());
                        assert!(self.demand().items.iter().any(stays));
                    }
                    Err(error) => self.refused(error, self.demand().can_sleep(), op),
                }
            }
            Op::Destroy(process) => self.destroy(pick(process, self.processes.len())?),
            Op::Fill(..) | Op::Copy(..) | Op::Astray(_) | Op::Store(..) => return self.work(op),
            Op::Move(..) | Op::Swap(_) | Op::Pin(_) | Op::Unpin(_) => return self.place(op),
        }
        Some(())
    }

    fn work(&mut self, op: &Op) -> Option<()> {
        match *op {
            Op::Fill(process, slot, first, pages, pattern) => {
                let process = pick(process, self.processes.len())?;
                let (space, slots) = self.processes[process];
                let id = slots[slot]?;
                let at = self.at(slot);
                let all = self.bo(id).words.len() as u64;
                let first = first % all;
                let pages = pages.min(all - first);
                let fill = Blit::Fill {
                    at: at.add(first * PAGE),
                    bytes: pages * PAGE,
                    pattern,
                };
                match self.gpu.job(space, &[fill]) {
                    Ok(_) => {
                        let range = usize::try_from(first).unwrap()
                            ..usize::try_from(first + pages).unwrap();
                        self.bo(id).words[range].fill(pattern);
                    }
                    Err(error) => self.job_refused(error, process, op),
                }
            }
            Op::Copy(process, to, from, pages) => {
                let process = pick(process, self.processes.len())?;
                let (space, slots) = self.processes[process];
                let (target, source) = (slots[to]?, slots[from]?);
                if target == source {
                    return None;
                }
                let words = self.bo(source).words.clone();
                let pages = usize::try_from(pages).unwrap();
                let pages = pages.min(words.len()).min(self.bo(target).words.len());
                let copy = Blit::Copy {
                    to: self.at(to),
                    from: self.at(from),
                    bytes: pages as u64 * PAGE,
                };
                match self.gpu.job(space, &[copy]) {
                    Ok(_) => self.bo(target).words[..pages].copy_from_slice(&words[..pages]),
                    Err(error) => self.job_refused(error, process, op),
                }
            }
            Op::Astray(process) => {
                let process = pick(process, self.processes.len())?;
                let fill = Blit::Fill {
                    at: self.at(0).add(64 * MIB),
                    bytes: PAGE,
                    pattern: 1,
                };
                // Its own jobs before it may be blamed with it, and have worked.
                match self.gpu.job(self.processes[process].0, &[fill]) {
                    Ok(fence) => {
                        self.gpu.run();
                        assert_eq!(self.gpu.wait(&fence), Err(Error::Io));
                    }
                    Err(error) => self.job_refused(error, process, op),
                }
            }
            Op::Store(bo, page, word) => {
                let at = pick(bo, self.bos.len())?;
                if !self.bos[at].handle {
                    return None;
                }
                // It waits for what it has the GPU do, but not for what moves meanwhile.
                self.gpu.run();
                let bo = &mut self.bos[at];
                let page = page % bo.words.len() as u64;
                match self.gpu.program_stores(bo.id, page, word) {
                    Ok(()) => bo.words[usize::try_from(page).unwrap()] = word,
                    Err(error) => {
                        let item = self.item(self.bos[at].id);
                        let far = item.at == Some(SegmentId::LocalInvisible);
                        assert_eq!(error == Error::Fault, far, "{error}");
                        let reachable = self.demand().is_reachable(&item);
                        self.refused(Error::NoMemory, reachable, op);
                    }
                }
            }
            _ => {}
        }
        Some(())
    }

    fn place(&mut self, op: &Op) -> Option<()> {
        match *op {
            Op::Move(bo, to) => {
                let Known { id, pinned, .. } = self.bos[pick(bo, self.bos.len())?];
                let to = match SEGMENTS[to] {
                    SegmentId::PcieSnoop => SegmentId::PcieUnsnoop,
                    other => other,
                };
                let reservation = self.gpu.mm.reservation(id).unwrap();
                let moved = self.gpu.with(|set| {
                    set.lock(&reservation, 1)?;
                    let places = [Place::anywhere(to, Flags::NONE)];
                    let mm = &self.gpu.mm;
                    mm.validate(set, id, &places, &mut Managed::ctx())
                });
                match moved {
                    Ok(()) => {}
                    Err(Error::Invalid) => assert!(pinned),
                    Err(error) => {
                        let fits = self.demand().fits(&self.item(id), to, &[id]);
                        self.refused(error, fits, op);
                    }
                }
            }
            Op::Pin(bo) => {
                let at = pick(bo, self.bos.len())?;
                let Known { id, pinned, .. } = self.bos[at];
                let pages = self.bos[at].words.len() as u64;
                let others = self.bos.iter().filter(|bo| bo.pinned);
                let others: u64 = others.map(|bo| bo.words.len() as u64).sum();
                // All that is left can be looked at, one by one.
                let stays = self.gpu.mm.segment(id).unwrap() != Some(SegmentId::System);
                if !pinned && stays && pages + others <= RAM - LARGEST {
                    change_pins(&self.gpu, id, true);
                    self.bos[at].pinned = true;
                }
            }
            Op::Unpin(bo) => {
                let at = pick(bo, self.bos.len())?;
                if std::mem::replace(&mut self.bos[at].pinned, false) {
                    change_pins(&self.gpu, self.bos[at].id, false);
                }
            }
            Op::Swap(bo) => {
                let id = self.bos[pick(bo, self.bos.len())?].id;
                let reservation = self.gpu.mm.reservation(id).unwrap();
                let swapped = self.gpu.with(|set| {
                    set.lock(&reservation, 1)?;
                    self.gpu.mm.swap_out(set, id, &mut Managed::ctx())
                });
                assert!(!matches!(swapped, Err(Error::Invalid)), "{swapped:?}");
            }
            _ => {}
        }
        Some(())
    }

    /// All that a process has mapped is held at once.
    fn job_refused(&mut self, error: Error, process: usize, op: &Op) {
        let (_, slots) = self.processes[process];
        let set: Vec<_> = slots.into_iter().flatten().collect();
        let places = [
            SegmentId::LocalVisible,
            SegmentId::LocalInvisible,
            SegmentId::PcieUnsnoop,
        ];
        let fits = self.demand().fit_together(&set, &places);
        self.refused(error, fits, op);
    }

    fn destroy(&mut self, process: usize) {
        let (space, _) = self.processes.swap_remove(process);
        let world = self.gpu.mm.world();
        let mut caller = Caller::enter(world.host().sync());
        let spaces = world.spaces();
        spaces
            .destroy(&self.gpu.mm, &mut caller, space, &Managed::ctx())
            .unwrap();
        self.forget_unused();
    }

    fn check(&self) {
        for bo in &self.bos {
            let found = self.gpu.words(bo.id).unwrap();
            assert_eq!(found, bo.words, "{:?}", self.gpu.mm.segment(bo.id));
        }
        assert_eq!(self.gpu.machine.ram().violations(), [""; 0]);
        assert_tlbs_agree(&self.gpu);
    }
}

fn run(ops: &[Op], on_fault: OnFault, seed: u64) {
    let mut test = Test::new(on_fault);
    test.gpu.machine.ram().shuffle(seed);
    let before = SEGMENTS.map(|segment| test.gpu.mm.usage(segment));
    let frames = test.gpu.machine.ram().owned();
    for (n, op) in ops.iter().enumerate() {
        test.run(op);
        if n % 20 == 0 {
            test.check();
        }
    }
    test.check();
    while !test.processes.is_empty() {
        test.destroy(0);
    }
    for bo in std::mem::take(&mut test.bos) {
        test.gpu.mm.release(bo.id).unwrap();
    }
    test.gpu.run();
    test.gpu.mm.reap();
    let after = SEGMENTS.map(|segment| test.gpu.mm.usage(segment));
    assert_eq!(after, before, "everything is back");
    test.gpu.empty_pool();
    assert_eq!(test.gpu.machine.ram().owned(), frames, "every page of RAM");
    assert_eq!(test.gpu.machine.ram().violations(), [""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn contents_survive_processes_moves_and_failures(
        ops in prop::collection::vec(op(), 120..240),
        on_fault in prop_oneof![Just(OnFault::Report), Just(OnFault::Halt), Just(OnFault::Retry)],
        seed in any::<u64>(),
    ) {
        run(&ops, on_fault, seed);
    }
}
