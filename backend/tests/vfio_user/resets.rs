//! What ends work, and what is left then.

use e3k_regs::Reg;
use e3k_regs::fields::RingWord;

use crate::FENCE_AT;
use crate::support::vfio::*;

#[test]
fn after_an_unmap_under_running_work_nothing_there_is_touched() {
    let mut rig = Rig::new();
    rig.bring_up(&Signal::new());
    fill_ram_for_long(&mut rig);
    rig.client.dma_unmap(0, 0, RAM_BYTES).unwrap();
    assert!(
        rig.gpu.enter().run(|gpu| gpu.has_work()).unwrap(),
        "work goes on"
    );
    assert_untouched(&rig, "after DMA_UNMAP");
}

#[test]
fn after_a_reset_under_running_work_no_memory_is_touched() {
    type Reset = fn(&mut Client);
    let resets: [(&str, Reset); 4] = [
        ("DEVICE_RESET", |client| {
            assert!(client.call(RESET, &[], &[]).is_ok());
        }),
        ("FLR", |client| client.set_config(0x68, 2, 0xA810)),
        ("bus master off", |client| client.set_config(4, 2, 2)),
        ("D3", |client| client.set_config(0x44, 2, 3)),
    ];
    let mut rig = Rig::new();
    rig.bring_up(&Signal::new());
    for (name, reset) in resets {
        rig.client.set_config(4, 2, 6);
        rig.start_gpu();
        fill_ram_for_long(&mut rig);
        reset(&mut rig.client);
        assert_untouched(&rig, name);
    }
}

#[test]
fn in_d3_the_engine_rests() {
    let mut rig = Rig::new();
    rig.bring_up(&Signal::new());
    fill_ram_for_long(&mut rig);
    rig.client.set_config(0x44, 2, 3);
    let fills = |rig: &Rig| rig.gpu.enter().run(|gpu| gpu.counters().fills).unwrap();
    let before = fills(&rig);
    assert_untouched(&rig, "D3");
    assert_eq!(fills(&rig), before);
    assert!(rig.gpu.enter().run(|gpu| gpu.has_work()).unwrap());
    rig.client.set_config(0x44, 2, 0);
    assert!(!rig.gpu.enter().run(|gpu| gpu.has_work()).unwrap());
}

#[test]
fn a_client_that_leaves_takes_its_memory_with_it() {
    let mut rig = Rig::new();
    rig.bring_up(&Signal::new());
    fill_ram_for_long(&mut rig);
    rig.await_end();
    assert_untouched(&rig, "after the connection's end");
}

#[test]
fn every_reset_clears_and_keeps_what_the_table_says() {
    type Reset = fn(&mut Client);
    let resets: [(&str, Reset); 3] = [
        ("FLR", |client| client.set_config(0x68, 2, 0xA810)),
        ("DEVICE_RESET", |client| {
            for _ in 0..2 {
                assert!(client.call(RESET, &[], &[]).is_ok());
            }
        }),
        ("D3 to D0", |client| {
            client.set_config(0x44, 2, 3);
            client.set_config(0x44, 2, 0);
        }),
    ];
    let mut rig = Rig::new();
    let signal = Signal::new();
    rig.bring_up(&signal);
    for (name, reset) in resets {
        rig.client.set_config(0x0C, 1, 0x10);
        rig.client.set_config(0x14, 4, 0xC000_0000);
        rig.client.set_config(0x3C, 1, 11);
        rig.client.set_config(0x4C, 4, 0xFEE0_0000);
        rig.put_vram(0x20_0000, b"kept");
        rig.client.write(0x7_0000, 1);
        reset(&mut rig.client);
        for (at, value) in [
            (4, 0x0010_0000),
            (0x0C, 0),
            (0x14, 0xC),
            (0x3C, 0x100),
            (0x44, 0),
        ] {
            assert_eq!(rig.client.config(at, 4), value, "{name}: {at:#x}");
        }
        assert_eq!(rig.client.config(0x4A, 2), 0x80, "{name}: MSI");
        assert_eq!(rig.client.config(0x4C, 4), 0, "{name}: MSI address");
        assert_eq!(rig.client.config(0x68, 2), 0x2810, "{name}: device control");
        rig.client.set_config(4, 2, 6);
        for offset in [
            0x7_0000,
            Reg::MmuMode.offset(),
            Reg::Ttbr.offset(),
            Reg::AdvancedEnable.offset(),
            RingWord::Size.offset(0),
            RingWord::Tail.offset(0),
        ] {
            assert_eq!(rig.client.read(offset), 0, "{name}: {offset:#x}");
        }
        assert_eq!(rig.client.read_region(BAR1, 0x20_0000, 4).unwrap(), b"kept");
        // Memory and descriptors are the client's: they stay.
        rig.client.set_config(0x4A, 2, 0x81);
        rig.start_gpu();
        rig.submit_fence(FENCE_AT, 5);
        signal.wait();
        assert_eq!(rig.ram_u64(FENCE_AT), 5, "{name}");
    }
    assert_eq!(rig.gpu.enter().run(|gpu| gpu.counters().resets), Ok(4));
}
