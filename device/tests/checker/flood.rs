//! A guest that does wrong all the time.

use crate::bench::watched;
use crate::rig::{ENGINE_RESET, MIB, TAIL, TOP_BUSY, write_as};
use crate::tables::vram;
use e3k_regs::packet::block;
use presil_device::{GpuVa, Width};

#[test]
fn a_flood_of_wrong_things_is_counted_in_bounded_lists() {
    let (mut rig, reports) = watched("7=warn,5=warn,6=warn");
    for n in 0..3000_u32 {
        rig.set(TOP_BUSY, n);
        rig.gpu.write(n * 4 % 0x10_0000, Width::B2, 1);
        rig.set(ENGINE_RESET, n % 7);
        rig.set(ENGINE_RESET, 0);
        rig.start_ring();
        rig.submit(|w| {
            w.fence(GpuVa((4 << 20) + u64::from(n) * 8), 1, true);
            w.push(0xA000_0000 | n);
        });
        rig.set(TAIL, n * 4 % 0x1_0000);
    }
    rig.gpu.set_watch(None);
    let list = reports.list();
    assert!(list.len() <= 16 * 50, "{}", list.len());
    let summary = reports.summary();
    let found: u64 = summary.rules.iter().map(|rule| rule.found).sum();
    assert!(found > 6000, "{found}");
    let listed: u64 = list.iter().map(|report| report.count).sum();
    let unlisted: u64 = summary.rules.iter().map(|rule| rule.unlisted).sum();
    assert_eq!(listed + unlisted, found);
}

#[test]
fn a_ring_that_invalidates_all_the_time_hides_no_stale_use() {
    const LINES: u64 = 300;
    const VA: u64 = 64 << 20;
    let (mut rig, reports) = watched("");
    rig.enter_va_mode();
    for line in 0..LINES {
        let va = VA + (line << 16);
        rig.map(1, va, vram(va));
        write_as(&mut rig, 1, va, 1);
    }
    // Of a process that has nothing: more of them than the tables are compared for.
    rig.queue(|w| {
        for _ in 0..200 {
            w.set_register(block::MXU, 6, &[0xF000_0000, 0xF000_0000, 2 << 5]);
        }
    });
    let last = VA + ((LINES - 1) << 16);
    rig.map(1, last, vram(last + MIB));
    rig.run();
    assert_eq!(reports.list().len(), 0);
    write_as(&mut rig, 1, last, 2);
    // Which of them depends on when the tables were compared.
    let rules: Vec<_> = reports.list().iter().map(|report| report.rule.0).collect();
    assert!(matches!(rules[..], [10001 | 10003]), "{rules:?}");
}
