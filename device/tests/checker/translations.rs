//! Tables that change under TLBs.

use crate::bench::{finds, fires, watched};
use crate::rig::{BUFFERS_AT, MIB, PAGE_A, PAGE_B, RING_AT, Rig, write_as};
use crate::tables::{LARGE, LOCAL, VALID, entry, l1_offset, plus, snooped, unsnooped, vram};
use presil_device::{BusAddr, BusError, DmaAccess, FaultCause, GpuVa, SystemMemory, Target};
use vm_memory::VolatileSlice;

/// Of process 1; the second one is in another line of the shared TLB.
const VA: u64 = 64 * MIB;
const NEXT: u64 = VA + 0x1_0000;

const UTLB: u32 = 1 << 5;
const DTLB: u32 = 2 << 5;

/// Process 1 has used two pages.
fn used(rig: &mut Rig) {
    rig.enter_va_mode();
    rig.map(1, VA, PAGE_A);
    rig.map(1, NEXT, plus(PAGE_A, 0x1000));
    write_as(rig, 1, VA, 1);
    write_as(rig, 1, NEXT, 2);
}

fn again(rig: &mut Rig) {
    write_as(rig, 1, VA, 3);
    write_as(rig, 1, NEXT, 4);
}

fn invalidate(rig: &mut Rig, process: u32, first: u64, mask: u32, target: u32) {
    let page = u32::try_from(first >> 12).unwrap();
    rig.set(0x49018, process << 28 | page);
    rig.set(0x4901C, mask);
    rig.set(0x49020, target);
}

/// All of process 1.
fn invalidate_process(rig: &mut Rig) {
    invalidate(rig, 1, 0, 0xF000_0000, DTLB);
}

/// Process 1 has used two pages, something changes, and they are used again.
fn changes(change: impl Fn(&mut Rig), invalidate: impl Fn(&mut Rig)) -> impl Fn(&mut Rig) {
    move |rig| {
        used(rig);
        change(rig);
        invalidate(rig);
        again(rig);
    }
}

fn nothing(_: &mut Rig) {}

fn remap(rig: &mut Rig) {
    rig.map(1, VA, PAGE_B);
}

fn remap_both(rig: &mut Rig) {
    rig.map(1, VA, PAGE_B);
    rig.map(1, NEXT, plus(PAGE_B, 0x1000));
}

#[test]
fn a_page_that_is_mapped_anew() {
    let one_line = |rig: &mut Rig| invalidate(rig, 1, VA, 0xFFFF_FFF0, DTLB);
    fires(10001, changes(remap, nothing), changes(remap, one_line));
    // What was changed and changed back is no change; a page becomes valid without a word.
    let back = |rig: &mut Rig| {
        remap(rig);
        rig.map(1, VA, PAGE_A);
        rig.map(1, VA + 0x2000, PAGE_B);
        write_as(rig, 1, VA + 0x2000, 9);
    };
    fires(10001, changes(remap, nothing), changes(back, nothing));
}

#[test]
fn an_attribute_that_changes() {
    let bus = |snoop: fn(u64) -> Target| {
        move |rig: &mut Rig| {
            rig.enter_va_mode();
            rig.page(snooped(0));
            rig.map(1, VA, snooped(0));
            write_as(rig, 1, VA, 1);
            rig.map(1, VA, snoop(0));
            write_as(rig, 1, VA, 1);
        }
    };
    fires(10001, bus(unsnooped), bus(snooped));
}

#[test]
fn a_page_that_is_unmapped_may_be_used_until_its_memory_can_have_been_given_away() {
    let unmap = |rig: &mut Rig| {
        let at = rig.l3_entry_at(1, VA);
        rig.store(at, 0);
    };
    let twice = |rig: &mut Rig| {
        used(rig);
        unmap(rig);
        write_as(rig, 1, VA, 3);
        write_as(rig, 1, VA, 4);
    };
    let once = |rig: &mut Rig| {
        used(rig);
        unmap(rig);
        write_as(rig, 1, VA, 3);
    };
    fires(10001, twice, once);
}

#[test]
fn a_piece_of_a_large_page() {
    // 64 KiB, of which another piece than the first is used.
    const AT: u64 = VA + 0x40_0000;
    const PIECE: u64 = AT + 0x5000;
    let leads_to = |rig: &mut Rig, to: u64| {
        rig.l3_entry_at(1, AT);
        let l2 = l2_entry_at(rig, AT);
        rig.store(l2, rig.load(l2) | LARGE);
        let l3 = vram(u64::from(rig.load(l2) >> 4 & 0xff_ffff) << 12);
        let valid = VALID | LOCAL | u32::try_from(to >> 16).unwrap() << 8;
        let entry = if to == 0 { 0 } else { valid };
        rig.store(plus(l3, (AT >> 16 & 0x3f) * 4), entry);
    };
    let changes = |to: u64, uses: u32| {
        move |rig: &mut Rig| {
            rig.enter_va_mode();
            leads_to(rig, 32 * MIB);
            write_as(rig, 1, PIECE, 1);
            write_as(rig, 1, PIECE, 2);
            leads_to(rig, to);
            (0..uses).for_each(|_| write_as(rig, 1, PIECE, 3));
        }
    };
    fires(10001, changes(33 * MIB, 1), changes(32 * MIB, 2));
    fires(10001, changes(0, 2), changes(0, 1));
}

#[test]
fn a_change_behind_the_doorbell_is_not_due() {
    let late = |change: fn(&mut Rig)| {
        move |rig: &mut Rig| {
            used(rig);
            rig.queue(|w| {
                w.indicator(3, 1);
                crate::rig::fill(w, VA, 1, 1, 7);
                w.indicator(0, 0);
            });
            change(rig);
            rig.run();
        }
    };
    fires(10001, changes(remap, nothing), late(remap));
}

#[test]
fn what_is_right_again_at_the_access_is_no_stale_use() {
    let queued = |back: bool| {
        move |rig: &mut Rig| {
            used(rig);
            remap(rig);
            rig.queue(|w| {
                w.indicator(3, 1);
                crate::rig::fill(w, VA, 1, 1, 7);
                w.indicator(0, 0);
            });
            if back {
                rig.map(1, VA, PAGE_A);
            }
            rig.run();
        }
    };
    fires(10001, queued(false), queued(true));
}

#[test]
fn an_invalidation_of_the_shared_tlb_drops_whole_lines_everywhere() {
    let found = |target| {
        let lines = finds("10022=off,10006=warn", |rig| {
            used(rig);
            invalidate(rig, 1, VA + 0x4000, 0xFFFF_FFFF, target);
        });
        lines.iter().map(|report| report.rule.0).collect::<Vec<_>>()
    };
    assert_eq!(found(DTLB), [0_u32; 0]);
    assert_eq!(found(UTLB), [10006]);
}

#[test]
fn a_report_of_a_stale_use_says_what_changed_when_and_what_would_do() {
    let found = finds("", changes(remap, nothing));
    let report = &found[0];
    let text = report.to_string();
    assert!(
        report
            .now
            .contains("blit destination writes vram:0x0001000000 at va:0x0004000000, process id 1"),
        "{text}"
    );
    assert!(
        report
            .before
            .as_ref()
            .unwrap()
            .contains("the tables say vram:0x0001100000"),
        "{text}"
    );
    assert!(
        report.history[1].contains("an entry of level 3 changed between events"),
        "{text}"
    );
    assert!(
        report.would_do.contains("0x4000000 for process id 1"),
        "{text}"
    );
    assert!(
        report
            .line()
            .contains(" pid=1 va=0x4000000 client=blit-destination ring=0"),
        "{text}"
    );
}

/// The place of the L2 entry.
fn l2_entry_at(rig: &mut Rig, va: u64) -> Target {
    let l1 = rig.reg(l1_offset(1, va));
    vram((u64::from(l1 >> 4 & 0xff_ffff) << 12) + (va >> 22 & 0x3ff) * 4)
}

#[test]
fn a_table_that_is_replaced() {
    // A new L3 table with one other page.
    let replace = |to: Target| {
        move |rig: &mut Rig| {
            let table = rig.new_table();
            for (va, to) in [(VA, to), (NEXT, plus(PAGE_A, 0x1000))] {
                rig.store(plus(table, (va >> 12 & 0x3ff) * 4), entry(to));
            }
            let at = l2_entry_at(rig, VA);
            rig.store(at, entry(table));
        }
    };
    let all = changes(replace(PAGE_B), invalidate_process);
    fires(10002, changes(replace(PAGE_B), nothing), all);
    // The same pages in another table.
    fires(
        10002,
        changes(replace(PAGE_B), nothing),
        changes(replace(PAGE_A), nothing),
    );
}

#[test]
fn an_invalidation_of_something_else() {
    let one = |process, first, mask, target| {
        changes(remap, move |rig: &mut Rig| {
            invalidate(rig, process, first, mask, target);
        })
    };
    let right = || one(1, VA, 0xFFFF_FFF0, DTLB);
    // Another process, other pages, the clients' TLBs alone.
    fires(10003, one(2, VA, 0xFFFF_FFF0, DTLB), right());
    fires(10003, one(1, VA + 0x2_0000, 0xFFFF_FFF0, DTLB), right());
    fires(10003, one(1, VA, 0xFFFF_FFF0, UTLB), right());
    // Any process, any page.
    fires(
        10003,
        one(2, VA, 0xFFFF_FFF0, DTLB),
        one(2, VA, 0x0FFF_FFF0, DTLB),
    );
    fires(10003, one(2, VA, 0xFFFF_FFF0, DTLB), one(2, VA, 0, DTLB));
}

#[test]
fn an_invalidation_of_a_part() {
    let short = |mask| {
        changes(remap_both, move |rig: &mut Rig| {
            invalidate(rig, 1, VA, mask, DTLB);
        })
    };
    fires(10004, short(0xFFFF_FFF0), short(0xFFFF_FFE0));
    // Two invalidations do as well.
    let two = changes(remap_both, |rig| {
        invalidate(rig, 1, VA, 0xFFFF_FFF0, DTLB);
        invalidate(rig, 1, NEXT, 0xFFFF_FFF0, DTLB);
    });
    fires(10004, short(0xFFFF_FFF0), two);
}

#[test]
fn a_process_id_that_gets_another_address_space() {
    let give = |rig: &mut Rig| {
        rig.map(2, VA, PAGE_B);
        rig.map(2, NEXT, plus(PAGE_B, 0x1000));
        let other = rig.reg(l1_offset(2, VA));
        rig.set(l1_offset(1, VA), other);
    };
    fires(
        10005,
        changes(give, nothing),
        changes(give, invalidate_process),
    );
}

#[test]
fn an_invalidation_of_nothing() {
    let twice = |rig: &mut Rig| {
        used(rig);
        invalidate_process(rig);
        invalidate_process(rig);
    };
    let once = |rig: &mut Rig| {
        used(rig);
        invalidate_process(rig);
    };
    fires(10006, twice, once);
}

#[test]
fn a_bus_page_with_two_attributes() {
    let both = |unmap: bool, second: fn(u64) -> Target| {
        move |rig: &mut Rig| {
            rig.enter_va_mode();
            rig.page(snooped(0));
            rig.map(1, VA, snooped(0));
            write_as(rig, 1, VA, 1);
            if unmap {
                let at = rig.l3_entry_at(1, VA);
                rig.store(at, 0);
                invalidate_process(rig);
            }
            rig.map(1, NEXT, second(0));
            write_as(rig, 1, NEXT, 1);
        }
    };
    fires(30001, both(false, unsnooped), both(true, unsnooped));
    fires(30001, both(false, unsnooped), both(false, snooped));
    // A dummy page that is mapped both ways, and used one way.
    fires(30001, both(false, unsnooped), |rig| {
        both(false, snooped)(rig);
        rig.map(1, NEXT + 0x1000, unsnooped(0));
        write_as(rig, 1, NEXT, 2);
    });
}

#[test]
fn what_another_kernel_used_is_forgotten() {
    // The old tables stand: the new kernel has not come to them.
    let again = |set_up: bool| {
        move |rig: &mut Rig| {
            rig.enter_va_mode();
            rig.page(snooped(0));
            rig.map(1, VA, snooped(0));
            write_as(rig, 1, VA, 1);
            if set_up {
                rig.start_ring();
            }
            rig.map(2, VA, unsnooped(0));
            write_as(rig, 2, VA, 1);
        }
    };
    fires(30001, again(false), again(true));
}

#[test]
fn a_process_that_writes_tables() {
    // Its own L3 table, mapped where the process sees it; unlinked: its data.
    let write = |process: u8, unlink: bool| {
        move |rig: &mut Rig| {
            rig.enter_va_mode();
            rig.map(1, VA, PAGE_A);
            write_as(rig, 1, VA, 1);
            let table = l2_entry_at(rig, VA);
            let l3 = vram(u64::from(rig.load(table) >> 4 & 0xff_ffff) << 12);
            let other = VA + (64 << 20);
            rig.map(process.into(), other, l3);
            if unlink {
                rig.store(table, 0);
                invalidate_process(rig);
            }
            write_as(rig, process, other + 0x800, 0);
        }
    };
    fires(40004, write(1, false), write(0, false));
    fires(40004, write(1, false), write(1, true));
}

#[test]
fn a_process_that_writes_a_ring_or_a_fence() {
    let write = |to: u64| {
        move |rig: &mut Rig| {
            rig.enter_va_mode();
            rig.map(0, BUFFERS_AT, vram(BUFFERS_AT));
            rig.submit(|w| w.fence(GpuVa(BUFFERS_AT), 1, false));
            rig.map(1, VA, vram(to & !0xfff));
            write_as(rig, 1, VA | to & 0xf00, 0);
        }
    };
    fires(40004, write(BUFFERS_AT), write(BUFFERS_AT + 0x100));
    // A page of the ring that nothing has read yet is not known to be one.
    fires(40004, write(RING_AT + 0x800), write(RING_AT + 0x8000));
}

#[test]
fn memory_that_the_kernel_has_left_may_be_a_process_s() {
    let fence = |moves: bool| {
        move |rig: &mut Rig| {
            rig.enter_va_mode();
            rig.map(0, BUFFERS_AT, vram(BUFFERS_AT));
            rig.submit(|w| w.fence(GpuVa(BUFFERS_AT), 1, false));
            if moves {
                rig.map(0, BUFFERS_AT, PAGE_B);
                invalidate(rig, 0, 0, 0xF000_0000, DTLB);
            }
            rig.map(1, VA, vram(BUFFERS_AT));
            write_as(rig, 1, VA, 0);
        }
    };
    fires(40004, fence(false), fence(true));
}

#[test]
fn what_other_clients_use_meanwhile_hides_nothing() {
    // The fence's own TLB keeps its entry, whatever a copy goes through.
    let fence = |told: bool| {
        move |rig: &mut Rig| {
            rig.enter_va_mode();
            rig.map(0, BUFFERS_AT, PAGE_A);
            rig.submit(|w| w.fence(GpuVa(BUFFERS_AT), 1, false));
            for line in 1..=300_u64 {
                rig.map(1, VA + (line << 16), plus(PAGE_B, line << 12));
                write_as(rig, 1, VA + (line << 16), 1);
            }
            rig.map(0, BUFFERS_AT, plus(PAGE_A, 0x1000));
            if told {
                invalidate(rig, 0, 0, 0xF000_0000, DTLB);
            }
            rig.submit(|w| w.fence(GpuVa(BUFFERS_AT), 2, false));
        }
    };
    fires(10001, fence(false), fence(true));
}

#[test]
fn a_fence_without_memory() {
    let fence = |map: bool| {
        move |rig: &mut Rig| {
            rig.enter_va_mode();
            if map {
                rig.map(0, VA, PAGE_A);
            }
            rig.submit(|w| w.fence(GpuVa(VA), 1, false));
        }
    };
    fires(50007, fence(false), fence(true));
}

#[test]
fn at_level_fault_a_stale_use_is_a_page_fault_and_writes_nothing() {
    for (levels, writes) in [("", 3), ("10001=fault", 1), ("6=fault", 3)] {
        let (mut rig, reports) = watched(levels);
        changes(remap, nothing)(&mut rig);
        assert_eq!(rig.load(PAGE_A), writes, "{levels}");
        let refused = rig
            .gpu
            .faults()
            .filter(|fault| fault.cause == FaultCause::Refused);
        assert_eq!(refused.count(), usize::from(writes == 1), "{levels}");
        assert!(reports.list().iter().all(|report| report.rule.0 == 10001));
        assert!(!reports.list().is_empty());
    }
}

#[test]
fn memory_without_bus_mastering() {
    let copies = |master: bool, answers: bool| {
        move |rig: &mut Rig| {
            rig.enter_va_mode();
            if answers {
                rig.page(snooped(0));
            }
            rig.map(1, VA, snooped(0));
            if !master {
                rig.gpu.set_memory(Box::new(Cut));
            }
            write_as(rig, 1, VA, 1);
        }
    };
    fires(70016, copies(false, true), copies(true, true));
    // Nobody there is another thing.
    fires(70016, copies(false, true), copies(true, false));
}

/// The memory of a function that is no bus master.
struct Cut;

impl SystemMemory for Cut {
    fn bus_master(&self) -> bool {
        false
    }

    fn read(&self, _: BusAddr, _: &mut [u8], _: DmaAccess) -> Result<(), BusError> {
        Err(BusError)
    }

    fn write(&self, _: BusAddr, _: &[u8], _: DmaAccess) -> Result<(), BusError> {
        Err(BusError)
    }

    fn with_mapped(
        &self,
        _: BusAddr,
        _: usize,
        _: bool,
        _: DmaAccess,
        _: &mut dyn FnMut(VolatileSlice<'_>),
    ) -> Result<(), BusError> {
        Err(BusError)
    }

    fn load_u32(&self, _: BusAddr, _: DmaAccess) -> Result<u32, BusError> {
        Err(BusError)
    }

    fn store_u64(&self, _: BusAddr, _: u64, _: DmaAccess) -> Result<(), BusError> {
        Err(BusError)
    }
}
