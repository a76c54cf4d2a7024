//! Faults: the chip's registers, the model's log, the interrupt (hardware
//! reference 6).

use crate::rig::{
    BIU_RAW, MASTER_ABORT, MIB, MMU_MODE, PAGE_FAULT, Rig, SURFACES_AT, VRAM_BYTES, copy, fill,
};
use crate::tables::{LARGE, VALID, entry, l1_offset, snooped, unsnooped, vram};
use presil_device::{FaultCause, FaultClient, FaultRecord, GpuVa, LargePage, MmuOptions, Target};

const INT_STATUS: u32 = 0x49038;
/// `PAGE_FAULT_STATUS0` and `1`, `MEM_ADDR_FOR_PAGE_FAULT`, the L1 and L2
/// entry's address, `PAGE_FAULT_LEVEL`.
const REGISTERS: [u32; 6] = [0x49040, 0x49044, 0x49048, 0x4904C, 0x49050, 0x49068];

const VA: u64 = 0x12_3456_7000;
const PID: u32 = 11;

fn registers(rig: &mut Rig) -> [u32; 6] {
    REGISTERS.map(|at| rig.reg(at))
}

fn fill_at(rig: &mut Rig, va: u64) {
    rig.submit(|w| {
        w.indicator(3, 11);
        fill(w, va, 1, 1, 1);
        w.indicator(0, 0);
    });
}

fn only_fault(rig: &Rig) -> FaultRecord {
    let mut faults = rig.gpu.faults();
    let fault = faults.next().expect("a fault").clone();
    assert_eq!(faults.next(), None, "one fault only");
    fault
}

/// Where the L2 entry of `VA` is.
fn l2_entry_at(rig: &mut Rig) -> u64 {
    let l1 = rig.reg(l1_offset(PID, VA));
    (u64::from(l1 >> 4 & 0xff_ffff) << 12) + (VA >> 22 & 0x3ff) * 4
}

#[test]
fn every_invalid_entry_is_told_with_its_level() {
    let status0 = |level: u32| level << 18 | PID << 20 | 0x12 << 24;
    for (cause, level) in [
        (FaultCause::InvalidL1, 1_u8),
        (FaultCause::InvalidL2, 2),
        (FaultCause::LargePage, 2),
        (FaultCause::InvalidL3, 3),
    ] {
        let mut rig = Rig::with_mmu(MmuOptions {
            large_page: LargePage::Fault,
            ..MmuOptions::default()
        });
        rig.enter_va_mode();
        rig.map(PID, VA, vram(SURFACES_AT));
        let l1_at = l1_offset(PID, VA);
        let l2_at = l2_entry_at(&mut rig);
        match cause {
            FaultCause::InvalidL1 => rig.set(l1_at, 0),
            FaultCause::InvalidL2 => rig.store(vram(l2_at), !VALID),
            FaultCause::LargePage => rig.store(vram(l2_at), rig.load(vram(l2_at)) | LARGE),
            _ => {
                let at = rig.l3_entry_at(PID, VA);
                rig.store(at, !VALID);
            }
        }
        fill_at(&mut rig, VA + 0x100);

        let fault = only_fault(&rig);
        assert_eq!((fault.cause, fault.level), (cause, level));
        assert_eq!(
            (fault.client, fault.write),
            (FaultClient::BlitDestination, true)
        );
        assert_eq!((fault.process_id, fault.va), (11, GpuVa(VA + 0x100)));
        assert_eq!(
            fault.ring_offset,
            rig.reg(crate::rig::TAIL) - 5 * 4,
            "the SG packet"
        );

        let l2_low = u32::try_from(l2_at).unwrap();
        let places = match level {
            1 => [l1_at, 0],
            2 => [l1_at, l2_low],
            _ => [0, 0],
        };
        let which = match cause {
            FaultCause::InvalidL1 => 1,
            FaultCause::InvalidL2 => 4,
            _ => 0,
        };
        let expected = [
            status0(level.into()),
            0x3456_7100,
            0x3456_7100,
            places[0],
            places[1],
            which,
        ];
        assert_eq!(registers(&mut rig), expected, "{cause:?}");
        assert_eq!(rig.reg(INT_STATUS), 1 << 3, "blit destination");
        assert_eq!(rig.reg(BIU_RAW), PAGE_FAULT);
        assert_eq!(rig.load(vram(SURFACES_AT)), 0);
    }
}

#[test]
fn tables_and_pages_beyond_vram_are_told_with_their_level() {
    let outside = entry(vram(VRAM_BYTES));
    for level in 1..=3_u8 {
        let mut rig = Rig::in_va_mode();
        let l3_at = rig.l3_entry_at(PID, VA);
        let l2_at = l2_entry_at(&mut rig);
        match level {
            1 => rig.set(l1_offset(PID, VA), outside),
            2 => rig.store(vram(l2_at), outside),
            _ => rig.store(l3_at, outside),
        }
        fill_at(&mut rig, VA);
        let fault = only_fault(&rig);
        // An L1 register that leads outside fails when the L2 entry is loaded.
        assert_eq!(
            (fault.cause, fault.level),
            (FaultCause::OutsideVram, (level + 1).min(3))
        );
        let target = fault.target.unwrap();
        assert!(target.starts_with("vram:0x001000"), "{target}");
        assert_eq!(rig.reg(BIU_RAW), PAGE_FAULT);
    }
}

#[test]
fn an_address_beyond_40_bits_is_refused_without_a_walk() {
    // The last 256 bytes of the address space and the 256 behind them.
    let last = (1 << 40) - 256;
    let mut rig = Rig::in_va_mode();
    rig.map(PID, last & !0xfff, vram(SURFACES_AT));
    rig.submit(|w| {
        w.indicator(3, 11);
        fill(w, last, 128, 1, 0x77);
    });
    assert_eq!(
        rig.get(vram(SURFACES_AT + 0xf00), 256),
        [0x77, 0, 0, 0].repeat(64)
    );
    let fault = only_fault(&rig);
    assert_eq!(
        (fault.cause, fault.level, fault.va),
        (FaultCause::AddressTooWide, 0, GpuVa(1 << 40))
    );
}

#[test]
fn an_address_beyond_40_bits_is_refused_where_the_tlb_knows_its_low_bits() {
    // The last page of the address space, and the first, follow each other in VRAM.
    let last = (1 << 40) - 4096;
    let mut rig = Rig::in_va_mode();
    rig.map(PID, last, vram(SURFACES_AT));
    rig.map(PID, 0, vram(SURFACES_AT + 4096));
    fill_at(&mut rig, 0);
    rig.submit(|w| {
        w.indicator(3, 11);
        fill(w, last, 2048, 1, 0x77);
    });
    assert_eq!(rig.load(vram(SURFACES_AT + 0xffc)), 0x77);
    assert_eq!(rig.load(vram(SURFACES_AT + 4096)), 1);
    let fault = only_fault(&rig);
    assert_eq!(
        (fault.cause, fault.va),
        (FaultCause::AddressTooWide, GpuVa(1 << 40))
    );
}

#[test]
fn a_table_of_64_kib_pages_that_is_not_there_is_a_fault_of_level_3() {
    for (table, cause) in [
        (vram(VRAM_BYTES), FaultCause::OutsideVram),
        (snooped(0x7000), FaultCause::Bus),
    ] {
        let mut rig = Rig::in_va_mode();
        rig.l3_entry_at(PID, VA);
        let l2_at = l2_entry_at(&mut rig);
        rig.store(vram(l2_at), LARGE | entry(table));
        fill_at(&mut rig, VA);
        let fault = only_fault(&rig);
        assert_eq!((fault.cause, fault.level), (cause, 3));
        assert_eq!(rig.reg(0x49040) >> 18 & 3, 3);
        assert_eq!((rig.reg(0x4904C), rig.reg(0x49050)), (0, 0));
        assert_eq!(rig.reg(BIU_RAW), PAGE_FAULT);
    }
}

#[test]
fn the_first_fault_stays_in_the_registers_until_every_status_bit_is_cleared() {
    let mut rig = Rig::in_va_mode();
    fill_at(&mut rig, VA);
    let first = registers(&mut rig);
    rig.submit(|w| w.fence(GpuVa(0x9_0000), 1, false));
    assert_eq!(registers(&mut rig), first);
    assert_eq!(
        rig.reg(INT_STATUS),
        1 << 3 | 1 << 4,
        "blit destination and fence"
    );

    rig.set(INT_STATUS, 1 << 3);
    assert_eq!(rig.reg(INT_STATUS), 1 << 4);
    rig.submit(|w| w.fence(GpuVa(0xA_0000), 1, false));
    assert_eq!(registers(&mut rig), first);

    rig.set(INT_STATUS, u32::MAX);
    assert_eq!(rig.reg(INT_STATUS), 0);
    rig.submit(|w| w.fence(GpuVa(0xB_0000), 1, false));
    assert_eq!(rig.reg(0x49044), 0xB_0000);
    assert_eq!(rig.gpu.counters().faults, 4);
    assert_eq!(rig.gpu.faults().count(), 4);
}

#[test]
fn every_fault_sets_the_interrupt_again() {
    let mut rig = Rig::in_va_mode();
    rig.enable_interrupts();
    for n in 1..4 {
        fill_at(&mut rig, VA);
        assert_eq!(rig.line.raised(), n);
        assert_eq!(rig.gpu.latch_interrupts().biu, PAGE_FAULT);
    }
}

#[test]
fn clients_have_their_own_status_bits() {
    let mut rig = Rig::in_va_mode();
    rig.map(0, 0x5_0000, vram(SURFACES_AT));
    for (bit, source, to) in [(2, VA, 0x5_0000), (3, 0x5_0000, VA)] {
        rig.submit(|w| copy(w, source, to, 1, 1));
        assert_eq!(rig.reg(INT_STATUS), 1 << bit);
        let fault = rig.gpu.faults().last().unwrap();
        assert_eq!(fault.write, bit == 3);
        rig.set(INT_STATUS, u32::MAX);
    }
    rig.submit(|w| w.dma(GpuVa(VA), 1));
    assert_eq!(rig.reg(INT_STATUS), 1 << 1, "buffer fetch");
}

#[test]
fn a_page_that_no_memory_answers_for_is_a_master_abort_and_no_page_fault() {
    let mut rig = Rig::in_va_mode();
    rig.map(PID, VA, unsnooped(0x7000));
    fill_at(&mut rig, VA);
    let fault = only_fault(&rig);
    assert_eq!((fault.cause, fault.level), (FaultCause::Bus, 0));
    assert_eq!(fault.target.as_deref(), Some("bus:0x0000007000 unsnooped"));
    assert_eq!(rig.reg(BIU_RAW), MASTER_ABORT);
    assert_eq!((rig.reg(INT_STATUS), registers(&mut rig)), (0, [0; 6]));
    let counters = rig.gpu.counters();
    assert_eq!((counters.bus_errors, counters.faults), (1, 0));
}

#[test]
fn a_table_that_no_memory_answers_for_is_a_page_fault_of_its_level() {
    for level in [2_u8, 3] {
        let mut rig = Rig::in_va_mode();
        rig.l3_entry_at(PID, VA);
        let l2_at = l2_entry_at(&mut rig);
        if level == 2 {
            rig.set(l1_offset(PID, VA), entry(snooped(0x7000)));
        } else {
            rig.store(vram(l2_at), entry(snooped(0x7000)));
        }
        fill_at(&mut rig, VA);
        let fault = only_fault(&rig);
        assert_eq!((fault.cause, fault.level), (FaultCause::Bus, level));
        assert_eq!(rig.reg(BIU_RAW), PAGE_FAULT);
        assert_eq!(rig.reg(0x49040) >> 18 & 3, u32::from(level));
    }
}

#[test]
fn a_gpu_that_may_not_do_dma_gets_bus_errors() {
    let mut rig = Rig::in_va_mode();
    rig.page(snooped(0x7000));
    rig.map(PID, VA, snooped(0x7000));
    rig.gpu.set_memory(Box::new(presil_device::NoMemory));
    fill_at(&mut rig, VA);
    assert_eq!(only_fault(&rig).cause, FaultCause::Bus);
    assert_eq!(rig.load(snooped(0x7000)), 0);
}

#[test]
fn the_log_keeps_the_last_1024_faults() {
    let mut rig = Rig::in_va_mode();
    for n in 0..1030_u64 {
        rig.submit(|w| w.fence(GpuVa(0x100_0000 + n * 8), n, false));
    }
    assert_eq!(rig.gpu.counters().faults, 1030);
    let log: Vec<_> = rig.gpu.faults().map(|fault| fault.va.0).collect();
    assert_eq!(
        log,
        (6..1030).map(|n| 0x100_0000 + n * 8).collect::<Vec<_>>()
    );
}

#[test]
fn a_record_reads_as_a_sentence() {
    let mut rig = Rig::in_va_mode();
    fill_at(&mut rig, VA);
    let text = only_fault(&rig).to_string();
    for part in [
        "blit destination write",
        "0x1234567000",
        "process 11",
        "level 1",
        "L1 register is not valid",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn pa_mode_faults_name_the_boundary_not_a_level() {
    let mut rig = Rig::new();
    rig.set(MMU_MODE, 3 << 8);
    rig.submit(|w| w.fence(GpuVa(VRAM_BYTES + MIB), 1, false));
    let fault = only_fault(&rig);
    assert_eq!((fault.cause, fault.level), (FaultCause::OutsideVram, 0));
    let target = Target::Vram(presil_device::VramOffset(VRAM_BYTES + MIB)).to_string();
    assert_eq!(fault.target, Some(target));
}
