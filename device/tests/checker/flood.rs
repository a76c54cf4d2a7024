//! A guest that does wrong all the time.

use crate::bench::watched;
use crate::rig::{ENGINE_RESET, TAIL, TOP_BUSY};
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
