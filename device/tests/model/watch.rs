//! Who watches a GPU is told what happens, as it happens, and changes nothing.

use crate::naive::compare::Pair;
use crate::naive::properties::follow;
use crate::naive::random_programs::{choices, program};
use crate::rig::{BUFFERS_AT, Rig, TAIL};
use presil_device::{
    Counters, CspError, Event, FenceRecord, GpuVa, Look, OnFault, UnmetWait, Watch, Width,
};
use proptest::prelude::*;
use std::sync::{Arc, Mutex};

/// What a watch was told of.
#[derive(Default)]
struct Told {
    counts: Counters,
    misuses: u64,
    fences: Vec<FenceRecord>,
    errors: Vec<CspError>,
    waits: Vec<UnmetWait>,
    lines: Vec<String>,
}

#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Told>>);

impl Watch for Recorder {
    fn saw(&mut self, event: &Event<'_>, _: &Look<'_>) {
        let mut told = self.0.lock().unwrap();
        if let Event::Walked { .. } | Event::Filled { .. } = event {
            return;
        }
        told.lines.push(match event {
            Event::Packet {
                ring,
                offset,
                dwords,
                ..
            } => format!("packet {ring} {offset:#x} {:x?}", dwords.first()),
            Event::Fence(fence) => format!("fence {:#x}", fence.value),
            Event::Write { offset, value, .. } => format!("write {offset:#x} {value:#x}"),
            Event::Read { offset, value, .. } => format!("read {offset:#x} {value:#x}"),
            other => format!("{other:?}"),
        });
        match event {
            Event::Read { .. } => told.counts.register_reads += 1,
            Event::Write { .. } => told.counts.register_writes += 1,
            Event::Misuse { .. } => told.misuses += 1,
            Event::Reset => told.counts.resets += 1,
            Event::Packet { .. } => told.counts.packets += 1,
            Event::Halted(error) => told.errors.push((*error).clone()),
            Event::Unmet(wait) => told.waits.push((*wait).clone()),
            Event::Fence(fence) => told.fences.push(**fence),
            Event::Interrupt => told.counts.interrupts += 1,
            Event::Invalidated { .. } => told.counts.invalidations += 1,
            Event::Fault(_) => told.counts.faults += 1,
            _ => {}
        }
    }
}

#[test]
fn a_ring_s_work_is_told_in_its_order() {
    let mut rig = Rig::new();
    rig.enable_interrupts();
    let recorder = Recorder::default();
    rig.gpu.set_watch(Some(Box::new(recorder.clone())));
    rig.submit(|w| {
        w.indicator(3, 1);
        w.fence(GpuVa(BUFFERS_AT), 7, true);
    });
    let tail = rig.reg(TAIL);
    rig.gpu.read(2, Width::B4); // refused
    rig.set(0x30E0_0000, 0); // refused
    rig.gpu.reset();
    rig.gpu.set_watch(None);
    rig.gpu.reset();
    let lines = std::mem::take(&mut recorder.0.lock().unwrap().lines);
    let packets = lines.iter().filter(|line| line.starts_with("packet"));
    assert_eq!(packets.count(), 2);
    let write = format!("write {TAIL:#x} {tail:#x}");
    let others: Vec<_> = lines
        .iter()
        .filter(|line| !line.starts_with("packet"))
        .collect();
    let read = format!("read {TAIL:#x} {tail:#x}");
    assert_eq!(others, [&write, "fence 0x7", "Interrupt", &read, "Reset"]);
    assert!(
        lines[1].starts_with("packet 0 0x0") && lines[2].starts_with("packet 0 0x8"),
        "{lines:?}"
    );
}

/// The last of those told are those that the model remembers.
fn ends_with<T: PartialEq>(told: &[T], remembered: &[&T]) -> bool {
    let first = told.len().saturating_sub(remembered.len());
    told[first..].iter().eq(remembered.iter().copied())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_time: 20_000, ..ProptestConfig::default() })]

    /// The watched model does what the naive one does, and tells of no more and no less
    /// than its counters and records have.
    #[test]
    fn what_is_told_is_what_happens(choices in choices(), program in program()) {
        let mut pair = Pair::new(choices);
        let recorder = Recorder::default();
        let before = pair.rig.gpu.counters();
        pair.rig.gpu.set_watch(Some(Box::new(recorder.clone())));
        prop_assume!(follow(&mut pair, &program));
        pair.rig.gpu.set_watch(None);
        let gpu = &pair.rig.gpu;
        let after = gpu.counters();
        let told = std::mem::take(&mut *recorder.0.lock().unwrap());
        prop_assert_eq!(told.counts.register_reads, after.register_reads - before.register_reads);
        prop_assert_eq!(told.counts.register_writes, after.register_writes - before.register_writes);
        prop_assert_eq!(told.counts.resets, after.resets - before.resets);
        prop_assert_eq!(told.counts.interrupts, after.interrupts - before.interrupts);
        prop_assert_eq!(told.counts.invalidations, after.invalidations - before.invalidations);
        let faults = |c: Counters| c.faults + c.bus_errors;
        prop_assert_eq!(told.counts.faults, faults(after) - faults(before));
        let misuses = |c: Counters| c.read_only_writes + c.reserved_writes + c.wrong_widths;
        prop_assert_eq!(told.misuses, misuses(after) - misuses(before));
        prop_assert_eq!(told.fences.len() as u64, after.fences - before.fences);
        prop_assert_eq!(told.errors.len() as u64, after.ring_errors - before.ring_errors);
        let packets = after.packets - before.packets;
        prop_assert!(told.counts.packets >= packets);
        if choices.mmu.on_fault != OnFault::Retry {
            prop_assert!(told.counts.packets <= packets + told.errors.len() as u64);
        }
        if told.fences.len() <= 64 {
            let (fences, errors, waits) = (gpu.fences(), gpu.ring_errors(), gpu.unmet_waits());
            let fences: Vec<_> = fences.skip(gpu.fences().count() - told.fences.len()).collect();
            prop_assert!(ends_with(&told.fences, &fences));
            prop_assert!(ends_with(&told.errors, &errors.collect::<Vec<_>>()));
            prop_assert!(ends_with(&told.waits, &waits.collect::<Vec<_>>()));
        }
        let [model, naive] = pair.states();
        let differences = model.differences(&naive);
        prop_assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}
