//! Memory that is unmapped for DMA, where the machine tells of that.

use crate::bench::{finds, fires, watched};
use crate::rig::{BUFFERS_AT, HEAD, MIB, PAGE_A, RING_AT, Rig, TAIL, fill, packets, write_as};
use crate::tables::{entry, plus, snooped};
use presil_device::{BusAddr, GpuVa, Snoop, Target};

/// Of process 1.
const VA: u64 = 64 * MIB;
/// A page of the bus.
const PAGE: u64 = 0x12_3456_7000;

/// In VA mode, behind an IOMMU.
fn behind_iommu(rig: &mut Rig) {
    rig.ram.put_behind_iommu();
    rig.enter_va_mode();
    rig.page(snooped(PAGE));
}

/// Process 1 has used the page.
fn used(rig: &mut Rig) {
    behind_iommu(rig);
    rig.map(1, VA, snooped(PAGE));
    write_as(rig, 1, VA, 1);
}

fn unmap(rig: &mut Rig, page: u64) {
    rig.gpu.dma_unmaps(BusAddr(page), BusAddr(page + 4095));
    rig.ram.remove_page(page);
}

fn clear_entry(rig: &mut Rig, process: u32, va: u64) {
    let at = rig.l3_entry_at(process, va);
    rig.store(at, 0);
}

/// Everything, for all process ids.
fn invalidate(rig: &mut Rig) {
    rig.set(0x49018, 0);
    rig.set(0x4901C, 0);
    rig.set(0x49020, 2 << 5);
}

/// As a driver is to do it, behind its work.
fn unmap_in_order(rig: &mut Rig, process: u32, va: u64) {
    clear_entry(rig, process, va);
    invalidate(rig);
    unmap(rig, PAGE);
}

#[test]
fn an_entry_that_still_leads_there() {
    let fault = |rig: &mut Rig| {
        used(rig);
        unmap(rig, PAGE);
    };
    fires(20001, fault, |rig| {
        used(rig);
        unmap_in_order(rig, 1, VA);
    });
    // An entry that leads elsewhere does as well; so does a function that is cut off.
    fires(20001, fault, |rig| {
        used(rig);
        rig.map(1, VA, PAGE_A);
        invalidate(rig);
        unmap(rig, PAGE);
    });
    fires(20001, fault, |rig| {
        used(rig);
        rig.ram.set_bus_master(false);
        unmap(rig, PAGE);
        rig.ram.set_bus_master(true);
        unmap_in_order(rig, 1, VA);
    });
}

#[test]
fn a_page_among_others_that_go_at_once() {
    let range = |last: u64| {
        move |rig: &mut Rig| {
            used(rig);
            let first = PAGE & !0xF_FFFF;
            rig.gpu.dma_unmaps(BusAddr(first), BusAddr(last));
        }
    };
    // Others around it, and what ends before it.
    fires(20001, range(PAGE | 0xF_FFFF), range(PAGE - 1));
}

#[test]
fn an_address_space_that_goes_as_a_whole_is_not_judged() {
    let found = finds("", |rig| {
        used(rig);
        rig.gpu.dma_unmaps(BusAddr(0), BusAddr(u64::MAX));
    });
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_tlb_that_still_leads_there() {
    let unmapped = |told: bool| {
        move |rig: &mut Rig| {
            used(rig);
            clear_entry(rig, 1, VA);
            if told {
                invalidate(rig);
            }
            unmap(rig, PAGE);
        }
    };
    fires(20002, unmapped(false), unmapped(true));
}

#[test]
fn an_address_that_was_never_mapped_or_lost_its_upper_bits() {
    let write = |page: u64| {
        move |rig: &mut Rig| {
            behind_iommu(rig);
            rig.map(1, VA, snooped(page));
            write_as(rig, 1, VA, 1);
        }
    };
    fires(20003, write(PAGE + 0x1000), write(PAGE));
    let found = finds("", write(PAGE & 0xFFFF_FFFF));
    assert_eq!(found.len(), 1);
    let text = found[0].to_string();
    assert!(
        text.contains("bus:0x1234567000 is mapped, which is the same in its low 32 bits"),
        "{text}"
    );
    let other = finds("", write(PAGE + 0x1000))[0].to_string();
    assert!(!other.contains("low 32 bits"), "{other}");
}

#[test]
fn a_table_that_is_linked() {
    let tables = |unlink: bool| {
        move |rig: &mut Rig| {
            behind_iommu(rig);
            rig.tables_in_ram = Some(Snoop::Snooped);
            rig.map(1, VA, PAGE_A);
            write_as(rig, 1, VA, 1);
            let Target::System(table, _) = rig.l3_entry_at(1, VA) else {
                panic!("the table is in VRAM");
            };
            if unlink {
                rig.set(crate::tables::l1_offset(1, VA), 0);
                invalidate(rig);
            }
            unmap(rig, table.0 & !0xfff);
        }
    };
    fires(20004, tables(false), tables(true));
}

#[test]
fn a_ring_that_runs() {
    let ring = |stop: bool| {
        move |rig: &mut Rig| {
            behind_iommu(rig);
            rig.map(0, RING_AT, snooped(PAGE));
            let dwords = packets(|w| crate::rig::push_all(w, &[0, 0]));
            rig.put_dwords(snooped(PAGE), &dwords);
            rig.set(TAIL, u32::try_from(4 * dwords.len()).unwrap());
            rig.run();
            assert_ne!(rig.reg(HEAD), 0);
            if stop {
                rig.set(crate::rig::RING_ADDRESS, 0);
                clear_entry(rig, 0, RING_AT);
                invalidate(rig);
            }
            unmap(rig, PAGE);
        }
    };
    fires(20005, ring(false), ring(true));
}

#[test]
fn a_fence_that_is_still_to_be_written() {
    let fence = |waits: bool| {
        move |rig: &mut Rig| {
            behind_iommu(rig);
            rig.map(0, BUFFERS_AT, snooped(PAGE));
            rig.queue(|w| w.fence(GpuVa(BUFFERS_AT + 8), 1, false));
            if waits {
                rig.run();
                unmap_in_order(rig, 0, BUFFERS_AT);
            } else {
                unmap(rig, PAGE);
            }
        }
    };
    fires(20006, fence(false), fence(true));
}

#[test]
fn a_buffer_or_surface_of_queued_work() {
    let call = |waits: bool| {
        move |rig: &mut Rig| {
            behind_iommu(rig);
            rig.map(1, VA, snooped(PAGE));
            rig.queue(|w| {
                w.indicator(3, 1);
                w.dma(GpuVa(VA), 4);
                w.indicator(0, 0);
            });
            if waits {
                rig.run();
                unmap_in_order(rig, 1, VA);
            } else {
                unmap(rig, PAGE);
            }
        }
    };
    fires(20007, call(false), call(true));
    let surface = |process: u8| {
        move |rig: &mut Rig| {
            behind_iommu(rig);
            for of in [1, 2] {
                rig.map(of, VA, if of == 1 { snooped(PAGE) } else { PAGE_A });
            }
            rig.queue(|w| {
                w.indicator(3, process);
                fill(w, VA, 1, 1, 7);
                w.indicator(0, 0);
            });
            if process == 1 {
                unmap(rig, PAGE);
            } else {
                unmap_in_order(rig, 1, VA);
            }
        }
    };
    // The same address of another process is another page.
    fires(20007, surface(1), surface(2));
}

#[test]
fn a_buffer_whose_contents_have_moved_meanwhile_is_not_named() {
    let found = finds("", |rig| {
        used(rig);
        rig.queue(|w| {
            w.indicator(3, 1);
            fill(w, VA, 1, 1, 7);
            w.indicator(0, 0);
        });
        rig.map(1, VA, PAGE_A);
        invalidate(rig);
        unmap(rig, PAGE);
    });
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn addresses_of_queued_work_that_are_unmapped() {
    let queued = |rig: &mut Rig| {
        rig.enter_va_mode();
        rig.map(1, VA, PAGE_A);
        rig.map(0, BUFFERS_AT, PAGE_A);
        rig.queue(|w| {
            w.indicator(3, 1);
            fill(w, VA, 1, 1, 7);
            w.fence(GpuVa(BUFFERS_AT), 1, false);
            w.indicator(0, 0);
        });
    };
    let unmapped = |process: u32, va: u64, waits: bool| {
        move |rig: &mut Rig| {
            queued(rig);
            if waits {
                rig.run();
            }
            clear_entry(rig, process, va);
            invalidate(rig);
        }
    };
    fires(20008, unmapped(1, VA, false), unmapped(1, VA, true));
    fires(
        20008,
        unmapped(0, BUFFERS_AT, false),
        unmapped(2, VA, false),
    );
    // Moved, or under an engine that is reset before.
    fires(20008, unmapped(1, VA, false), |rig| {
        queued(rig);
        rig.map(1, VA, plus(PAGE_A, 0x1000));
        invalidate(rig);
    });
    fires(20008, unmapped(1, VA, false), |rig| {
        queued(rig);
        rig.recover();
        clear_entry(rig, 1, VA);
        invalidate(rig);
    });
}

#[test]
fn without_an_iommu_nothing_is_judged_and_the_summary_says_so() {
    let told = |iommu: bool| {
        let (mut rig, reports) = watched("");
        if iommu {
            rig.ram.put_behind_iommu();
        }
        rig.enter_va_mode();
        rig.page(snooped(PAGE));
        rig.map(1, VA, snooped(PAGE));
        write_as(&mut rig, 1, VA, 1);
        unmap(&mut rig, PAGE);
        rig.gpu.set_watch(None);
        let found = reports
            .list()
            .iter()
            .map(|report| report.rule.0)
            .collect::<Vec<_>>();
        let summary = reports.summary();
        let judged = summary
            .rules
            .iter()
            .filter(|rule| (20001..=20007).contains(&rule.rule.0));
        let judged = judged.filter(|rule| rule.checked > 0).count();
        (
            found,
            judged,
            summary
                .to_string()
                .contains("the guest's IOMMU does not tell"),
        )
    };
    assert_eq!(told(false), (vec![], 0, true));
    assert_eq!(told(true), (vec![20001], 7, false));
}

#[test]
fn at_level_fault_nothing_is_used_that_is_not_mapped() {
    let (mut rig, reports) = watched("20003=fault");
    behind_iommu(&mut rig);
    let table = rig.l3_entry_at(1, VA);
    rig.store(plus(table, 0), entry(snooped(PAGE + 0x1000)));
    write_as(&mut rig, 1, VA, 1);
    assert_eq!(reports.list().len(), 1);
    let faults: Vec<_> = rig.gpu.faults().map(|fault| fault.cause).collect();
    assert_eq!(faults, [presil_device::FaultCause::Refused]);
}
