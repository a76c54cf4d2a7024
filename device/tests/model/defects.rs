//! Each planted defect shows: tests that rely on them can trust them.

use crate::rig::{Rig, SURFACES_AT, copy, fill, push_all};
use crate::tables::{unsnooped, vram};
use presil_device::Defects;

const DESTINATION: u64 = SURFACES_AT + (1 << 20);

fn fill_page(rig: &mut Rig, value: u32) {
    rig.submit(|w| {
        w.indicator(3, 1);
        fill(w, 0x5_0000, 1, 1, value);
        w.indicator(0, 0);
    });
}

#[test]
fn ignored_copies_move_nothing() {
    for ignore_copies in [false, true] {
        let mut rig = Rig::with_defects(Defects {
            ignore_copies,
            ..Defects::default()
        });
        rig.store(vram(SURFACES_AT), 0x55);
        rig.submit(|w| {
            copy(w, SURFACES_AT, DESTINATION, 16, 16);
            fill(w, DESTINATION + 4096, 1, 1, 0x66);
        });
        assert_eq!(rig.load(vram(DESTINATION)) == 0x55, !ignore_copies);
        assert_eq!(rig.load(vram(DESTINATION + 4096)), 0x66);
        assert!(!rig.gpu.has_work());
    }
}

#[test]
fn ignored_fills_write_nothing() {
    for ignore_fills in [false, true] {
        let mut rig = Rig::with_defects(Defects {
            ignore_fills,
            ..Defects::default()
        });
        rig.store(vram(SURFACES_AT), 0x55);
        rig.submit(|w| {
            fill(w, DESTINATION + 4096, 1, 1, 0x66);
            copy(w, SURFACES_AT, DESTINATION, 16, 16);
        });
        assert_eq!(rig.load(vram(DESTINATION + 4096)) == 0x66, !ignore_fills);
        assert_eq!(rig.load(vram(DESTINATION)), 0x55);
    }
}

#[test]
fn ignored_segments_send_system_pages_to_vram() {
    for ignore_segments in [false, true] {
        let mut rig = Rig::with_defects(Defects {
            ignore_segments,
            ..Defects::default()
        });
        rig.enter_va_mode();
        rig.page(unsnooped(SURFACES_AT));
        rig.map(1, 0x5_0000, unsnooped(SURFACES_AT));
        fill_page(&mut rig, 0x55);
        assert_eq!(rig.load(unsnooped(SURFACES_AT)) == 0x55, !ignore_segments);
        assert_eq!(rig.load(vram(SURFACES_AT)) == 0x55, ignore_segments);
    }
}

#[test]
fn ignored_invalidations_leave_old_translations() {
    for ignore_invalidations in [false, true] {
        let mut rig = Rig::with_defects(Defects {
            ignore_invalidations,
            ..Defects::default()
        });
        rig.enter_va_mode();
        rig.map(1, 0x5_0000, vram(SURFACES_AT));
        fill_page(&mut rig, 0x55);
        rig.map(1, 0x5_0000, vram(DESTINATION));
        rig.set(0x49018, 0);
        rig.set(0x4901C, 0);
        rig.set(0x49020, 0x40);
        rig.submit(|w| {
            push_all(w, &[0x9604_3004, 0, 0, 0, 0]);
        });
        fill_page(&mut rig, 0x66);
        assert_eq!(rig.load(vram(DESTINATION)) == 0x66, !ignore_invalidations);
    }
}
