//! Pieces that are moved together have the effects of pieces moved one by one.

use crate::rig::{MIB, Rig, SURFACES_AT, copy, fill, noise, nth_page};
use crate::tables::{VALID, entry, plus, vram};
use e3k_regs::{BusAddr, VramOffset};
use presil_device::{
    BusError, DmaAccess, GpuVa, MmuOptions, Progress, Snoop, SystemMemory, Target, Vram,
};
use std::sync::Arc;

const PAGE: u64 = 4096;
const SOURCE: u64 = 1 << 32;
const DESTINATION: u64 = (1 << 32) + 64 * MIB;
const PAGES: u64 = 48;
const IN_RAM: u64 = (1 << 32) + 128 * MIB;
const RAM_AT: u64 = 0x10_0000;

/// VA mode, source and destination mapped by functions of the page.
fn rig(mmu: MmuOptions, source: fn(u64) -> u64, destination: fn(u64) -> u64) -> Rig {
    let mut rig = Rig::with_mmu(mmu);
    rig.enter_va_mode();
    for n in 0..PAGES {
        let base = vram(SURFACES_AT);
        rig.map(0, SOURCE + n * PAGE, nth_page(base, source(n)));
        rig.map(0, DESTINATION + n * PAGE, nth_page(base, destination(n)));
    }
    rig.put(vram(SURFACES_AT), &noise(5, 1 << 20));
    rig
}

/// All that can be told of a GPU.
fn saved(rig: &Rig) -> Vec<u8> {
    let mut state = vec![];
    rig.gpu.save(&mut state).unwrap();
    state
}

#[test]
fn however_a_copy_or_fill_is_cut_into_steps_the_gpu_is_the_same_behind_it() {
    type Map = fn(u64) -> u64;
    let layouts: [(Map, Map); 6] = [
        (|n| n, |n| 100 + n),
        (|n| n * 37 % 48, |n| 100 + n * 29 % 48),
        (|n| n, |n| 100 + n / 5 * 7 + n % 5),
        (|n| n, |n| n + 3),
        (|n| n + 3, |n| n),
        (|n| n, |n| if n == 20 { 1 << 23 } else { 100 + n }),
    ];
    let small = MmuOptions {
        utlb: presil_device::UtlbSize::new(4).unwrap(),
        dtlb: presil_device::DtlbShape::new(2, 2).unwrap(),
        ..MmuOptions::default()
    };
    for (n, (source, destination)) in layouts.into_iter().enumerate() {
        for (mmu, shift) in [
            (MmuOptions::default(), 0),
            (MmuOptions::default(), 256),
            (small, 0),
        ] {
            let states = [1, 1 << 14, 1 << 16, 1 << 22].map(|budget| {
                let mut rig = rig(mmu, source, destination);
                rig.queue(|w| {
                    copy(w, SOURCE + shift, DESTINATION, 16384, 2);
                    copy(w, SOURCE, DESTINATION + shift, 9000, 5);
                    fill(w, DESTINATION + shift, 16000, 2, 0x1234_5678);
                    // Rows of whole pages, beside which one surface or the other has more.
                    for [to, from] in [[4096, 8192], [8192, 4096]] {
                        w.surface(0, GpuVa(DESTINATION), to, 4);
                        w.surface(1, GpuVa(SOURCE), from, 4);
                        w.blit(4096, 4);
                    }
                    w.clear(4096, 4, 0x8765_4321);
                });
                while rig.gpu.step(budget) == Progress::Pending {}
                saved(&rig)
            });
            let same = states.iter().all(|state| *state == states[0]);
            assert!(same, "layout {n}, shift {shift}");
        }
    }
}

/// Copies out of VRAM and into it, and fills, with a hole in the machine's memory.
#[test]
fn pages_of_the_machine_are_moved_as_one_by_one_until_one_does_not_answer() {
    for hole in [0, 3, 16, 17, PAGES] {
        let states = [1, 1 << 14, 1 << 16, 1 << 22].map(|budget| {
            let mut rig = rig(MmuOptions::default(), |n| n, |n| 100 + n);
            let ram = |n: u64| RAM_AT + n * PAGE;
            for n in 0..PAGES {
                if n != hole {
                    rig.ram.add_page(ram(n));
                }
                let page = Target::System(BusAddr(ram(n)), Snoop::Snooped);
                rig.map(0, IN_RAM + n * PAGE, page);
            }
            rig.queue(|w| copy(w, SOURCE, IN_RAM, 16384, 3));
            while rig.gpu.step(budget) == Progress::Pending {}
            let mut page = [0; 4096];
            for n in (0..PAGES).filter(|n| *n != hole) {
                rig.ram.peek(ram(n), &mut page);
                let source = rig.get(nth_page(vram(SURFACES_AT), n), 4096);
                assert!(page[..] == source, "page {n} of a copy, hole at {hole}");
            }
            let faults = rig.gpu.faults().map(|fault| fault.va.0).collect::<Vec<_>>();
            let expected = (hole < PAGES).then_some(IN_RAM + hole * PAGE);
            assert_eq!(faults, Vec::from_iter(expected), "hole at {hole}");
            rig.queue(|w| {
                copy(w, IN_RAM, DESTINATION, 16384, 3);
                fill(w, IN_RAM + 256, 16384 - 64, 2, 0x1234_5678);
            });
            while rig.gpu.step(budget) == Progress::Pending {}
            for n in (0..PAGES).filter(|n| *n != hole) {
                let [source, copied] =
                    [0, 100].map(|at| rig.get(nth_page(vram(SURFACES_AT), at + n), 4096));
                assert!(copied == source, "page {n} of a copy back, hole at {hole}");
            }
            (saved(&rig), rig.ram.dump())
        });
        assert!(states.iter().all(|state| *state == states[0]), "{hole}");
    }
}

#[test]
fn a_copy_over_the_table_of_its_next_pages_is_seen_by_them() {
    let mut rig = rig(MmuOptions::default(), |n| n, |n| 100 + n);
    let first_entry = rig.l3_entry_at(0, DESTINATION);
    let table = plus(first_entry, 0);
    // The 16th page of the destination is the table that maps it.
    rig.store(plus(first_entry, 15 * 4), entry(table));
    let mut image = rig.get(table, 4096);
    for n in 16..32_u64 {
        let other = entry(nth_page(vram(SURFACES_AT), 300 + n));
        let at = usize::try_from(n).unwrap() * 4;
        image[at..at + 4].copy_from_slice(&other.to_le_bytes());
    }
    assert_ne!(rig.load(plus(first_entry, 16 * 4)) & VALID, 0);
    rig.put(vram(SURFACES_AT + 15 * PAGE), &image);
    rig.submit(|w| copy(w, SOURCE, DESTINATION, 16384, 2));
    rig.assert_clean();
    let page = |n| rig.get(nth_page(vram(SURFACES_AT), n), 4096);
    for n in 16..32 {
        assert!(page(300 + n) == page(n), "page {n}");
        assert!(page(100 + n) != page(n), "page {n} went by the old table");
    }
}

#[test]
fn a_stale_page_among_fresh_ones_stays_stale() {
    let mmu = MmuOptions {
        strict_utlb: true,
        ..MmuOptions::default()
    };
    let mut rig = rig(mmu, |n| n, |n| 100 + n);
    rig.submit(|w| fill(w, DESTINATION + 5 * PAGE, 1, 1, 0));
    for n in 0..16 {
        let to: Target = nth_page(vram(SURFACES_AT), 200 + n);
        rig.map(0, DESTINATION + n * PAGE, to);
    }
    // The DTLB is emptied, the UTLB is not.
    rig.set(0x4901C, 0);
    rig.set(0x49020, 2 << 5);
    rig.submit(|w| copy(w, SOURCE, DESTINATION, 16384, 1));
    rig.assert_clean();
    let page = |n| rig.get(nth_page(vram(SURFACES_AT), n), 4096);
    for n in 0..16 {
        let place = if n == 5 { 105 } else { 200 + n };
        assert!(page(place) == page(n), "page {n}");
    }
    assert!(page(205) != page(5));
}

/// A machine whose memory is the CPU's window on VRAM.
struct Window(Arc<Vram>);

impl SystemMemory for Window {
    fn read(&self, at: BusAddr, buf: &mut [u8], _: DmaAccess) -> Result<(), BusError> {
        self.0.read(VramOffset(at.0), buf)
    }

    fn write(&self, at: BusAddr, buf: &[u8], _: DmaAccess) -> Result<(), BusError> {
        self.0.write(VramOffset(at.0), buf)
    }

    fn load_u32(&self, at: BusAddr, _: DmaAccess) -> Result<u32, BusError> {
        self.0.load_u32(VramOffset(at.0))
    }

    fn store_u64(&self, at: BusAddr, value: u64, _: DmaAccess) -> Result<(), BusError> {
        self.0.store_u64(VramOffset(at.0), value)
    }
}

#[test]
fn a_piece_is_read_whole_before_it_is_written_though_the_bus_leads_to_the_same_page() {
    for shift in [0, 256, 1024, 2048] {
        let mut rig = Rig::new();
        rig.enter_va_mode();
        rig.gpu.set_memory(Box::new(Window(rig.gpu.vram().clone())));
        let bytes = noise(8, 4096);
        rig.put(vram(SURFACES_AT), &bytes);
        rig.map(0, SOURCE, vram(SURFACES_AT));
        rig.map(
            0,
            DESTINATION,
            Target::System(BusAddr(SURFACES_AT), Snoop::Snooped),
        );
        rig.submit(|w| copy(w, SOURCE, DESTINATION + shift, 256, 1));
        rig.assert_clean();
        let at = usize::try_from(shift).unwrap();
        let mut expected = bytes.clone();
        expected[at..at + 1024].copy_from_slice(&bytes[..1024]);
        assert!(rig.get(vram(SURFACES_AT), 4096) == expected, "{shift}");
    }
}
