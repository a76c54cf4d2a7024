//! No step is long, whatever the ring holds: the price of work in
//! `Gpu::step`'s budget covers what the work costs the host.

use crate::rig::{BUFFERS_AT, Rig, nth_page, push_all};
use crate::tables::{snooped, vram};
use e3k_regs::packet::Writer;
use presil_device::{GpuVa, Progress, Snoop};

/// What the door gives the engine at a time.
const SLICE: u32 = 64 << 10;

/// What the largest of 50 steps did.
#[derive(Debug, Default)]
struct Largest {
    packets: u64,
    walks: u64,
    /// Accesses to the machine's memory.
    touches: usize,
}

/// Runs these packets over and over, in a buffer that ends by calling itself.
fn largest_step(rig: &mut Rig, build: impl FnOnce(&mut Writer<'_>)) -> Largest {
    let at = GpuVa(BUFFERS_AT);
    let mut dwords = crate::rig::packets(build);
    let len = u16::try_from(dwords.len() + 3).unwrap();
    dwords.extend(crate::rig::packets(|w| w.dma(at, len)));
    rig.put_dwords(vram(BUFFERS_AT), &dwords);
    rig.queue(|w| w.dma(at, len));
    let mut largest = Largest::default();
    for _ in 0..50 {
        rig.ram.take_touches();
        let before = rig.gpu.counters();
        assert_eq!(rig.gpu.step(SLICE), Progress::Pending);
        let after = rig.gpu.counters();
        largest.packets = largest.packets.max(after.packets - before.packets);
        largest.walks = largest.walks.max(after.walks - before.walks);
        largest.touches = largest.touches.max(rig.ram.take_touches().len());
    }
    largest
}

#[test]
fn the_cheapest_packets() {
    let largest = largest_step(&mut Rig::new(), |w| (0..4000).for_each(|_| w.push(0)));
    assert!((128..=256).contains(&largest.packets), "{largest:?}");
}

#[test]
fn packets_full_of_register_values() {
    let build = |w: &mut Writer<'_>| (0..30).for_each(|_| w.set_register(12, 0x100, &[0; 127]));
    let largest = largest_step(&mut Rig::new(), build);
    assert!((4..=9).contains(&largest.packets), "{largest:?}");
}

#[test]
fn invalidations_of_the_whole_tlb() {
    let build = |w: &mut Writer<'_>| {
        for _ in 0..500 {
            push_all(w, &[0x9604_3004, 0, 0, 0, 0]);
        }
    };
    let largest = largest_step(&mut Rig::new(), build);
    assert!((64..=130).contains(&largest.packets), "{largest:?}");
}

/// Copies 2000 rows of one pixel, 64 KiB apart: more than the TLB has lines.
fn thin_rows(w: &mut Writer<'_>) {
    w.surface(0, GpuVa(1 << 32), 16384, 2000);
    w.surface(1, GpuVa(1 << 32), 16384, 2000);
    push_all(w, &[0x9302_A003, 0, 1999 << 16, 0]);
}

/// VA mode, tables for the rows in the machine's memory.
fn with_tables_in_ram() -> Rig {
    let mut rig = Rig::in_va_mode();
    rig.map(0, BUFFERS_AT, vram(BUFFERS_AT));
    rig.tables_in_ram = Some(Snoop::Unsnooped);
    for n in 0..2000_u64 {
        rig.map(
            0,
            (1 << 32) + n * 0x1_0000,
            nth_page(snooped(0x1000_0000), n),
        );
    }
    rig
}

#[test]
fn a_walk_for_every_pixel() {
    let mut rig = with_tables_in_ram();
    for n in 0..2000 {
        rig.page(nth_page(snooped(0x1000_0000), n));
    }
    let largest = largest_step(&mut rig, thin_rows);
    assert!((64..=128).contains(&largest.walks), "{largest:?}");
    assert!(largest.touches <= 128 * 19, "{largest:?}");
}

#[test]
fn a_bus_error_for_every_pixel() {
    let largest = largest_step(&mut with_tables_in_ram(), thin_rows);
    assert!(largest.touches <= 128 * 19, "{largest:?}");
}
