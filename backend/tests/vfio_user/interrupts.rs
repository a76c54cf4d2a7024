//! MSI and INTx.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::event::{EventfdFlags, eventfd};

use crate::FENCE_AT;
use crate::support::assert_nobody_holds;
use crate::support::fuse::Stubborn;
use crate::support::gpu;
use crate::support::vfio::*;

#[test]
fn a_fence_reaches_ram_and_interrupts_by_msi() {
    let mut rig = Rig::new();
    let signal = Signal::new();
    rig.bring_up(&signal);
    for value in 1..=3 {
        rig.submit_fence(FENCE_AT, value);
        assert_eq!(signal.wait(), 1);
        assert_eq!(rig.ram_u64(FENCE_AT), value);
        assert_eq!(rig.latch(), 1 << 27);
    }
    assert_eq!(signal.take(), 0);
    assert_eq!(rig.counters.msi.get(), 3);
}

/// Why no interrupt is sent; empty where one would be.
fn closed(rig: &Rig) -> &'static str {
    let way = rig.gpu.enter().interrupt_way();
    way.map_or("no port", |way| way.closed.unwrap_or_default())
}

#[test]
fn without_bus_master_there_is_no_dma_and_an_interrupt_waits() {
    let mut rig = Rig::new();
    let signal = Signal::new();
    rig.bring_up(&signal);
    rig.client.set_config(4, 2, 2);
    rig.submit_fence(FENCE_AT, 1);
    rig.until_idle();
    assert_eq!(rig.ram_u64(FENCE_AT), 0);
    assert_eq!(rig.gpu.enter().run(|gpu| gpu.counters().bus_errors), Ok(1));
    let told = rig.last_fault();
    assert!(
        told.contains("): bus master is off in the PCI command register (bus:"),
        "{told}"
    );
    assert_eq!(signal.take(), 0);
    assert!(closed(&rig).contains("MSI needs its enable bit and bus master"));
    rig.client.set_config(4, 2, 6);
    assert_eq!(signal.wait(), 1, "the source is still pending");
    assert!(closed(&rig).contains("one MSI was sent"));
    rig.latch();
    rig.submit_fence(FENCE_AT, 2);
    signal.wait();
    assert_eq!(rig.ram_u64(FENCE_AT), 2);
}

#[test]
fn intx_is_masked_by_itself_and_comes_again_while_the_line_is_up() {
    let mut rig = Rig::new();
    let (msi, intx) = (Signal::new(), Signal::new());
    rig.bring_up(&msi);
    rig.client.set_config(0x4A, 2, 0x80);
    rig.client.set_irqs(4 | 32, INTX, 1, &[intx.fd()]).unwrap();
    rig.submit_fence(FENCE_AT, 1);
    assert_eq!(intx.wait(), 1);
    assert_eq!(rig.client.config(6, 2) & 8, 8, "interrupt status");
    rig.submit_fence(FENCE_AT, 2);
    rig.until_idle();
    assert_eq!(intx.take(), 0, "masked");
    assert!(closed(&rig).contains("one INTx was sent"));
    rig.client.set_irqs(1 | 16, INTX, 1, &[]).unwrap();
    assert_eq!(intx.wait(), 1, "the line is still up");
    assert_eq!(rig.latch(), 1 << 27);
    rig.client.set_irqs(1 | 16, INTX, 1, &[]).unwrap();
    assert_eq!(intx.take(), 0, "the line is down");
    assert_eq!(rig.client.config(6, 2) & 8, 0);
    // Interrupt disable of the command register, and the client's own mask.
    rig.client.set_config(4, 2, 0x406);
    rig.submit_fence(FENCE_AT, 3);
    rig.until_idle();
    assert_eq!(intx.take(), 0);
    rig.client.set_irqs(1 | 8, INTX, 1, &[]).unwrap();
    rig.client.set_config(4, 2, 6);
    assert_eq!(intx.take(), 0);
    rig.client.set_irqs(1 | 16, INTX, 1, &[]).unwrap();
    assert_eq!(intx.wait(), 1);
    assert_eq!(msi.take(), 0);
    // Who turns MSI on over a line that is up hears of it, once.
    rig.client.set_config(0x4A, 2, 0x81);
    assert_eq!(msi.wait(), 1);
    rig.client.set_config(4, 2, 6);
    assert_eq!(msi.take(), 0);
}

#[test]
fn who_has_seen_a_fence_latches_the_errors_of_what_came_before_it() {
    let mut rig = Rig::new();
    rig.bring_up(&Signal::new());
    let (at, entry) = gpu::unanswered();
    rig.put_vram(at, &entry);
    let (enable, sources) = gpu::error_sources();
    rig.client.write(enable, sources);
    for value in 1..=200 {
        let bad = value % 3 == 0;
        rig.submit(|writer| gpu::job(writer, bad, FENCE_AT, value));
        while rig.ram_u64(FENCE_AT) != value {
            std::hint::spin_loop();
        }
        assert_eq!(rig.latch(), 1 << 27, "fence {value}");
        let errors = rig.client.read(e3k_regs::Reg::BiuShadow.offset());
        let wanted = if bad { gpu::bus_error_bit() } else { 0 };
        assert_eq!(errors, wanted, "fence {value}");
    }
}

#[test]
fn interrupts_that_are_not_there_are_refused() {
    let mut rig = Rig::new();
    let signal = Signal::new();
    for (flags, index, count) in [
        (4 | 32, MSI, 2),
        (4 | 32, 2, 1),
        (1 | 32, 2, 0),
        (1 | 32, 4, 0),
        (4 | 32, 7, 1),
        (4 | 8, MSI, 1),
        (1 | 8, MSI, 1),
        (1 | 16, MSI, 1),
        (1 | 2 | 32, MSI, 1),
        (1 | 8 | 32, INTX, 1),
        (1, INTX, 1),
        (32, INTX, 1),
        (1 | 64, INTX, 1),
    ] {
        let fds = if flags & 4 != 0 {
            vec![signal.fd()]
        } else {
            vec![]
        };
        let refused = rig.client.set_irqs(flags, index, count, &fds);
        assert_eq!(refused, Err(EINVAL), "{flags:#x} {index} {count}");
    }
    let beyond = body(&[20, 1 | 8, INTX, 1, 1], &[]);
    assert_eq!(rig.client.call(SET_IRQS, &beyond, &[]), Err(EINVAL));
    let huge = body(&[20, 1 | 8, INTX, 1, u32::MAX], &[]);
    assert_eq!(rig.client.call(SET_IRQS, &huge, &[]), Err(EINVAL));
    // The client's own trigger, and taking the descriptor away.
    rig.client.set_irqs(4 | 32, MSI, 1, &[signal.fd()]).unwrap();
    rig.client.set_irqs(1 | 32, MSI, 1, &[]).unwrap();
    assert_eq!(signal.take(), 1);
    for flags in [4 | 32, 1 | 32] {
        let count = u32::from(flags & 4 != 0);
        rig.client.set_irqs(4 | 32, MSI, 1, &[signal.fd()]).unwrap();
        rig.client.set_irqs(flags, MSI, count, &[]).unwrap();
        rig.client.set_irqs(1 | 32, MSI, 1, &[]).unwrap();
        assert_eq!(signal.take(), 0);
    }
}

#[test]
fn an_eventfd_that_its_owner_fills_and_makes_wait_delays_nobody() {
    let mut rig = Rig::new();
    let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap();
    rig.bring_up(&Signal::new());
    rig.client
        .set_irqs(4 | 32, MSI, 1, &[event.as_fd()])
        .unwrap();
    // The server shares the flags: from here on a write to it waits for ever.
    rustix::io::ioctl_fionbio(&event, false).unwrap();
    rustix::io::write(&event, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    for value in 1..4 {
        rig.submit_fence(FENCE_AT, value);
        rig.until_idle();
        rig.latch();
        assert_eq!(rig.ram_u64(FENCE_AT), value);
    }
}

#[test]
fn what_is_no_eventfd_is_refused_when_it_arrives_and_stays_as_it_is() {
    let mut rig = Rig::new();
    rig.bring_up(&Signal::new());
    let file = memory(0);
    let folder = File::open("/").unwrap();
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let (_reader, writer) = std::io::pipe().unwrap();
    for fd in [file.as_fd(), folder.as_fd(), socket.as_fd(), writer.as_fd()] {
        let refused = rig.client.set_irqs(4 | 32, MSI, 1, &[fd]);
        assert_eq!(refused, Err(EINVAL));
    }
    rig.submit_fence(FENCE_AT, 1);
    rig.until_idle();
    assert_eq!(file.metadata().unwrap().len(), 0);
}

#[test]
fn a_file_whose_owner_answers_nothing_keeps_nobody_from_the_gpu() {
    let irqs = body(&[20, 4 | 32, MSI, 0, 1], &[]);
    let map = body(&[32, 3], &[0, 0x100_0000, 0x1000]);
    for (command, request) in [(SET_IRQS, irqs), (DMA_MAP, map)] {
        let mut rig = Rig::new();
        rig.bring_up(&Signal::new());
        let mut stubborn = match Stubborn::new() {
            Ok(stubborn) => stubborn,
            Err(error) => {
                println!("not tried: no FUSE file system here ({error})");
                return;
            }
        };
        fill_ram_for_long(&mut rig);
        let raw = message(1, command, 0, &request);
        rig.client.send(&raw, &[stubborn.file.as_fd()]);
        stubborn.await_question();
        assert_nobody_holds(&rig.gpu);
        drop(stubborn);
        assert_eq!(rig.client.receive().unwrap().error, Some(EINVAL));
    }
}
