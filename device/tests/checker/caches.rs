//! Unsnooped memory and the caches of a CPU.

use crate::bench::watched_with;
use crate::rig::{MIB, Rig, copy, fill};
use crate::tables::{snooped, unsnooped};
use presil_device::checker::{CacheLines, Follows, LINE_BYTES, OldLoad, Report, Reports};
use presil_device::{BusAddr, FaultCause, Snoop};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

/// One line, as masks of bytes.
#[derive(Clone, Copy, Default)]
struct Line {
    held: bool,
    dirty: u64,
    old: u64,
}

#[derive(Default)]
struct Held {
    lines: BTreeMap<u64, Line>,
    mixed: Vec<u64>,
    loads: VecDeque<OldLoad>,
    follows: Option<Follows>,
}

/// A CPU that does nothing with its caches unless it is told to.
#[derive(Clone, Default)]
struct Cpu(Arc<Mutex<Held>>);

/// The mask of some bytes of a line.
fn bytes(at: u64, count: u64) -> u64 {
    (u64::MAX >> (64 - count)) << (at % LINE_BYTES)
}

impl Cpu {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap()
    }

    fn line<T>(&self, at: u64, change: impl FnOnce(&mut Line) -> T) -> T {
        change(self.held().lines.entry(at - at % LINE_BYTES).or_default())
    }

    /// Stores through a write-back mapping.
    fn store(&self, at: u64, count: u64) {
        self.line(at, |line| {
            line.held = true;
            line.dirty |= bytes(at, count);
            line.old &= !bytes(at, count);
        });
    }

    /// The same, write-combined.
    fn store_combined(&self, at: u64) {
        if self.line(at, |line| line.held) {
            self.held().mixed.push(at >> 12);
        }
    }

    fn load(&self, at: u64, count: u64) {
        let old = self.line(at, |line| {
            line.held = true;
            line.old & bytes(at, count) != 0
        });
        if old {
            let at = BusAddr(at);
            let load = OldLoad { at, bytes: count };
            self.held().loads.push_back(load);
        }
    }

    fn flush(&self, at: u64) {
        self.line(at, |line| *line = Line::default());
    }
}

impl CacheLines for Cpu {
    fn follows(&self) -> Follows {
        self.held().follows.unwrap_or(Follows::StoresAndLoads)
    }

    fn dirty(&self, line: BusAddr) -> u64 {
        assert_eq!(line.0 % LINE_BYTES, 0);
        self.held().lines.get(&line.0).map_or(0, |line| line.dirty)
    }

    fn mixed(&self, page: BusAddr) -> bool {
        self.held().mixed.contains(&(page.0 >> 12))
    }

    fn written(&mut self, line: BusAddr, bytes: u64, snoop: Snoop) {
        self.line(line.0, |line| match snoop {
            Snoop::Snooped if bytes == u64::MAX => *line = Line::default(),
            Snoop::Snooped => {
                line.dirty &= !bytes;
                line.old &= !bytes;
            }
            Snoop::Unsnooped if line.held => line.old |= bytes,
            Snoop::Unsnooped => {}
        });
    }

    fn next_load(&mut self) -> Option<OldLoad> {
        self.held().loads.pop_front()
    }
}

/// Two pages of system memory that the GPU maps unsnooped, and one that it maps snooped.
const FIRST: u64 = 64 * MIB;
const SECOND: u64 = FIRST + 4096;
const COHERENT: u64 = FIRST + MIB;
const VA: u64 = 1 << 32;
const COHERENT_VA: u64 = VA + MIB;
const OUT_VA: u64 = VA + 2 * MIB;

/// What a GPU and a CPU do, and what is found.
fn judged(levels: &str, drive: impl FnOnce(&mut Rig, &Cpu)) -> (Vec<Report>, Reports, Rig) {
    let cpu = Cpu::default();
    let (mut rig, reports) = watched_with(levels, Box::new(cpu.clone()));
    for (va, page) in [
        (VA, unsnooped(FIRST)),
        (VA + 4096, unsnooped(SECOND)),
        (COHERENT_VA, snooped(COHERENT)),
        (OUT_VA, snooped(COHERENT + 4096)),
    ] {
        let page = rig.page(page);
        rig.map(0, va, page);
    }
    drive(&mut rig, &cpu);
    rig.gpu.set_watch(None);
    (reports.list(), reports, rig)
}

/// As `bench::fires`, with a CPU.
#[track_caller]
fn fires(id: u32, fault: impl FnOnce(&mut Rig, &Cpu), near: impl FnOnce(&mut Rig, &Cpu)) -> Report {
    let (found, ..) = judged("", fault);
    let ids: Vec<_> = found.iter().map(|report| report.rule.0).collect();
    assert!(
        !ids.is_empty() && ids.iter().all(|found| *found == id),
        "{found:#?}"
    );
    let (none, reports, _) = judged("", near);
    assert!(none.is_empty(), "the near miss of {id}: {none:#?}");
    let summary = reports.summary();
    let judged = summary.rules.iter().find(|rule| rule.rule.0 == id).unwrap();
    assert!(
        judged.checked > 0,
        "{id} had nothing to judge in its near miss"
    );
    found.into_iter().next().unwrap()
}

/// The GPU reads two pixels of four bytes, unsnooped.
fn gpu_reads(rig: &mut Rig) {
    rig.submit(|w| copy(w, VA, OUT_VA, 2, 1));
}

/// The GPU writes two pixels of four bytes, unsnooped.
fn gpu_writes(rig: &mut Rig) {
    rig.submit(|w| fill(w, VA, 2, 1, 7));
}

#[test]
fn the_gpu_reads_what_only_the_caches_have() {
    let report = fires(
        30020,
        |rig, cpu| {
            cpu.store(FIRST + 4, 4);
            gpu_reads(rig);
        },
        |rig, cpu| {
            cpu.store(FIRST + 4, 4);
            cpu.flush(FIRST);
            cpu.store(FIRST + 8, 8); // beside what is read, in the same line
            cpu.store(SECOND, 8);
            gpu_reads(rig);
            cpu.store(COHERENT, 64); // snooped
            rig.submit(|w| copy(w, COHERENT_VA, OUT_VA, 16, 1));
        },
    );
    let text = report.to_string();
    assert!(text.contains("bytes 4 to 7 of the line at"), "{text}");
    assert!(
        text.contains("client=blit-source by=access bus=0x4000000"),
        "{text}"
    );
}

#[test]
fn every_line_of_a_long_read_is_looked_at() {
    let (found, ..) = judged("", |rig, cpu| {
        for line in [0, 3, 63, 64, 100] {
            cpu.store(FIRST + line * LINE_BYTES, 64);
        }
        rig.submit(|w| copy(w, VA, OUT_VA, 1024, 1)); // a page
    });
    assert!(
        found[0].to_string().contains("dirty lines in all: 3"),
        "{}",
        found[0]
    );
}

#[test]
fn a_walk_reads_an_entry_that_only_the_caches_have() {
    let tables = |at: fn(u64) -> u64| {
        move |rig: &mut Rig, cpu: &Cpu| {
            rig.tables_in_ram = Some(Snoop::Unsnooped);
            let page = rig.page(unsnooped(FIRST + 8192));
            let far = VA << 1;
            let entry = rig.l3_entry_at(0, far);
            rig.map(0, far, page);
            let presil_device::Target::System(entry, _) = entry else {
                panic!("{entry}");
            };
            cpu.store(at(entry.0), 4);
            rig.submit(|w| fill(w, far, 2, 1, 7));
        }
    };
    // The next entry of the same line is nobody's yet.
    let report = fires(30020, tables(|entry| entry), tables(|entry| entry + 4));
    assert!(report.to_string().contains("entry of level 3"), "{report}");
    assert!(report.line().contains("by=walk"), "{report}");
}

#[test]
fn the_cpu_reads_what_it_held_before_the_gpu_wrote() {
    let report = fires(
        30021,
        |rig, cpu| {
            cpu.load(FIRST, 8);
            gpu_writes(rig);
            cpu.load(FIRST + 4, 4);
        },
        |rig, cpu| {
            cpu.load(FIRST, 8);
            gpu_writes(rig);
            cpu.load(FIRST + 8, 4); // beside what the GPU wrote
            cpu.flush(FIRST);
            cpu.load(FIRST, 8);
            cpu.load(COHERENT, 8);
            rig.submit(|w| fill(w, COHERENT_VA, 2, 1, 7));
            cpu.load(COHERENT, 8);
        },
    );
    let text = report.to_string();
    assert!(
        text.contains("blit destination") && text.contains("wrote there unsnooped"),
        "{text}"
    );
}

#[test]
fn a_line_that_is_dirty_goes_over_what_the_gpu_writes() {
    fires(
        30022,
        |rig, cpu| {
            cpu.store(FIRST + 32, 4); // beside what the GPU writes, in the same line
            gpu_writes(rig);
        },
        |rig, cpu| {
            cpu.store(FIRST + 32, 4);
            cpu.flush(FIRST);
            cpu.store(FIRST + LINE_BYTES, 4);
            gpu_writes(rig);
            cpu.store(COHERENT, 64);
            rig.submit(|w| fill(w, COHERENT_VA, 2, 1, 7));
        },
    );
}

#[test]
fn a_page_is_cached_and_combined() {
    fires(
        30023,
        |rig, cpu| {
            cpu.store(FIRST, 64);
            cpu.store_combined(FIRST);
            cpu.flush(FIRST);
            gpu_reads(rig);
        },
        |rig, cpu| {
            cpu.store(FIRST, 64);
            cpu.flush(FIRST);
            cpu.store_combined(FIRST);
            cpu.store(SECOND, 64);
            cpu.store_combined(SECOND); // the GPU does not use it
            gpu_reads(rig);
        },
    );
}

#[test]
fn an_access_that_is_refused_makes_no_line_old() {
    let (found, _, rig) = judged("30022=fault", |rig, cpu| {
        cpu.store(FIRST, 8);
        gpu_writes(rig);
        cpu.load(FIRST, 8);
    });
    let rules: Vec<_> = found.iter().map(|report| report.rule.0).collect();
    assert_eq!(rules, [30022]);
    assert_eq!(rig.gpu.faults().next().unwrap().cause, FaultCause::Refused);
}

#[test]
fn what_the_cpu_loads_at_last_is_judged_at_the_end() {
    let cpu = Cpu::default();
    let (mut rig, reports) = watched_with("", Box::new(cpu.clone()));
    for n in 0..1000 {
        let at = BusAddr(FIRST + n);
        cpu.held().loads.push_back(OldLoad { at, bytes: 1 });
    }
    rig.gpu.set_watch(None);
    let found: u64 = reports.list().iter().map(|report| report.count).sum();
    assert_eq!(found, 1000);
}

#[test]
fn a_run_says_which_of_the_cpu_s_accesses_it_followed() {
    let said = |follows| {
        let cpu = Cpu::default();
        cpu.held().follows = Some(follows);
        let (mut rig, reports) = watched_with("", Box::new(cpu.clone()));
        let page = rig.page(unsnooped(FIRST));
        rig.map(0, VA, page);
        cpu.store(FIRST, 8);
        rig.submit(|w| fill(w, VA, 2, 1, 7));
        let found = reports.list().len();
        let summary = reports.summary();
        let judged = summary.without_input().all(|rule| rule.0 != 30021);
        (found, judged, summary.to_string())
    };
    let (found, judged, text) = said(Follows::StoresAndLoads);
    assert!(found == 1 && judged && !text.contains("cache"), "{text}");
    let (found, judged, text) = said(Follows::Stores);
    assert!(found == 1 && !judged, "{text}");
    assert!(
        text.contains("not watched: what the CPU reads from its caches"),
        "{text}"
    );
    let (found, judged, text) = said(Follows::Nothing);
    assert!(found == 0 && !judged, "{text}");
    assert!(
        text.contains("not watched: CPU caches of unsnooped memory"),
        "{text}"
    );
}
