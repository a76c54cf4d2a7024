//! Whatever processes map, do and let go of, and whatever has to leave: every page holds
//! what was written to it last, and the GPU touches no page of RAM that is not its own.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use e3k_regs::GpuVa;
use presil_device::{Chip, Config, OnFault};
use presil_tests::assert_tlbs_agree;
use presil_tests::manager::Managed;
use proptest::prelude::*;
use vidmm::placement::{Flags, Place};
use vidmm::sync::Caller;
use vidmm::vm::SpaceId;
use vidmm::{Blit, BoId, Error, Host, LocalMemory, Options, SegmentId, TablePages};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
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
    Release(usize),
    Destroy(usize),
    /// The GPU sleeps, and loses local memory.
    Sleep,
}

fn op() -> impl Strategy<Value = Op> {
    let n = any::<usize>;
    prop_oneof![
        2 => Just(Op::Start),
        4 => (1..200_u64, 0..4_usize).prop_map(|(pages, at)| Op::Create(pages, at)),
        6 => (n(), n(), 0..4_usize).prop_map(|(process, bo, slot)| Op::Map(process, bo, slot)),
        1 => (n(), 0..4_usize).prop_map(|(process, slot)| Op::Unmap(process, slot)),
        12 => (n(), 0..4_usize, any::<u64>(), 1..200_u64, any::<u32>())
            .prop_map(|(process, slot, first, pages, pattern)| Op::Fill(process, slot, first, pages, pattern)),
        6 => (n(), 0..4_usize, 0..4_usize, 1..200_u64)
            .prop_map(|(process, to, from, pages)| Op::Copy(process, to, from, pages)),
        1 => n().prop_map(Op::Astray),
        6 => (n(), any::<u64>(), any::<u32>())
            .prop_map(|(bo, page, word)| Op::Store(bo, page, word)),
        6 => (n(), 0..5_usize).prop_map(|(bo, to)| Op::Move(bo, to)),
        2 => n().prop_map(Op::Swap),
        2 => n().prop_map(Op::Release),
        1 => n().prop_map(Op::Destroy),
        1 => Just(Op::Sleep),
    ]
}

fn pick(n: usize, len: usize) -> Option<usize> {
    n.checked_rem(len)
}

struct Known {
    id: BoId,
    handle: bool,
    words: Vec<u32>,
}

struct Test {
    gpu: Managed,
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
        Self {
            // Each of 18 processes may need two L2 tables and four L3 tables.
            gpu: Managed::with_tables(&config, options, TablePages { all: 8, each: 8 }).unwrap(),
            processes: Vec::new(),
            bos: Vec::new(),
        }
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
                        words: vec![0; usize::try_from(pages).unwrap()],
                    }),
                    Err(error) => assert_eq!(error, Error::NoMemory),
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
                    // The PCIe segments are small.
                    Err(error) => assert_eq!(error, Error::NoMemory),
                }
            }
            Op::Destroy(process) => self.destroy(pick(process, self.processes.len())?),
            Op::Fill(..)
            | Op::Copy(..)
            | Op::Astray(_)
            | Op::Store(..)
            | Op::Move(..)
            | Op::Swap(_) => {
                return self.work(op);
            }
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
                    Err(error) => assert_eq!(error, Error::NoMemory),
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
                    Err(error) => assert_eq!(error, Error::NoMemory),
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
                if let Ok(fence) = self.gpu.job(self.processes[process].0, &[fill]) {
                    self.gpu.run();
                    assert_eq!(self.gpu.wait(&fence), Err(Error::Io));
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
                    Err(error) => assert!(matches!(error, Error::NoMemory | Error::Fault)),
                }
            }
            Op::Move(bo, to) => {
                let id = self.bos[pick(bo, self.bos.len())?].id;
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
                assert!(matches!(moved, Ok(()) | Err(Error::NoMemory)), "{moved:?}");
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
