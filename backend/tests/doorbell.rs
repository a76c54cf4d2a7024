//! Register accesses by the doorbell of a running server's vhost-user door.

mod support;

use e3k_regs::Reg;
use support::doorbell::{Driver, MAILBOX, MAILBOX_WORD, UNANSWERED};
use support::gpu::operation;
use support::guest::RAM_BYTES;
use support::server::Server;

#[test]
fn an_access_is_done_when_the_write_of_the_doorbell_is() {
    let server = Server::start(&[]);
    let mut driver = Driver::attach(&server);
    driver.start();
    let at = Reg::Ttbr.offset();
    for value in [0x10, 0x20, 0x20, 0x30] {
        assert_eq!(driver.access(&[operation(2, 4, at, value)]), [(0, 0)]);
        assert_eq!(driver.access(&[operation(1, 4, at, 0)]), [(value, 0)]);
    }
    let writes: Vec<_> = (0..255)
        .map(|i| operation(2, 4, Reg::Ttbr.at(i), u64::from(i) << 4))
        .collect();
    assert_eq!(driver.access(&writes), vec![(0, 0); 255]);
    let reads: Vec<_> = (0..255)
        .map(|i| operation(1, 4, Reg::Ttbr.at(i), 0))
        .collect();
    let expected: Vec<_> = (0..255).map(|i| (i << 4, 0)).collect();
    assert_eq!(driver.access(&reads), expected);
    let door = &server.query(&["counters"])["door"];
    assert_eq!(
        (&door["doorbells"], &door["operations"], &door["requests"]),
        (&10.into(), &518.into(), &0.into())
    );
}

#[test]
fn a_doorbell_that_does_not_change_is_not_rung() {
    let server = Server::start(&[]);
    let mut driver = Driver::attach(&server);
    driver.start();
    driver.assert_served();
    driver.put(&[operation(1, 4, Reg::MemReady.offset(), 0)]);
    driver.rung -= 1;
    driver.ring(1);
    driver.qemu.set_config_word(0x0C, 77);
    driver.set_mailbox(MAILBOX);
    driver.qemu.config();
    assert_eq!(driver.results(1), [UNANSWERED]);
    driver.assert_served();
}

#[test]
fn refused_operations_say_why_and_what_follows_them_is_not_run() {
    let server = Server::start(&[]);
    let mut driver = Driver::attach(&server);
    driver.start();
    let at = Reg::Ttbr.offset();
    let mut reserved = operation(1, 4, at, 0);
    reserved[2] = 1;
    for (refused, status) in [
        (operation(0, 4, at, 0), 1),
        (operation(3, 4, at, 0), 1),
        (reserved, 1),
        (operation(1, 3, at, 0), 2),
        (operation(2, 4, at + 2, 0), 3),
        (operation(1, 8, 0x10_0000, 0), 3),
    ] {
        let results = driver.access(&[operation(2, 4, at, 0x40), refused, operation(2, 4, at, 0)]);
        assert_eq!(results, [(0, 0), (0, status), (0, 4)]);
        assert_eq!(driver.access(&[operation(1, 4, at, 0)]), [(0x40, 0)]);
    }
}

#[test]
fn a_mailbox_that_cannot_be_used_runs_nothing_and_is_logged() {
    let mut server = Server::start(&[]);
    let mut driver = Driver::attach(&server);
    driver.start();
    let write = operation(2, 4, Reg::Ttbr.offset(), 0x50);
    driver.put(&[write]);
    for at in [
        RAM_BYTES - 16,
        RAM_BYTES - 8,
        RAM_BYTES,
        1 << 40,
        u64::MAX - 15,
        u64::MAX,
    ] {
        driver.qemu.guest.write(RAM_BYTES - 16, &write);
        driver.set_mailbox(at);
        driver.ring(1);
        driver.ring(255);
        driver.ring(0);
    }
    server.await_log("mailbox outside guest memory");
    driver.set_mailbox(MAILBOX);
    let read = operation(1, 4, Reg::Ttbr.offset(), 0);
    assert_eq!(driver.access(&[read]), [(0, 0)], "a write was run");
    driver.assert_served();
}

#[test]
fn the_doorbell_works_while_the_driver_is_there_and_is_the_next_drivers_own() {
    let server = Server::start(&[]);
    let mut driver = Driver::attach(&server);
    let read = operation(1, 4, Reg::MemReady.offset(), 0);
    driver.set_mailbox(MAILBOX);
    assert_eq!(driver.access(&[read]), [UNANSWERED], "before DRIVER_OK");
    driver.start();
    driver.assert_served();
    driver.qemu.stop();
    assert_eq!(driver.access(&[read]), [UNANSWERED], "after the reset");
    driver.qemu.start();
    let words = driver.qemu.config()[MAILBOX_WORD..0x40].to_vec();
    assert_eq!(words, [0; 16]);
    driver.set_mailbox(MAILBOX);
    driver.assert_served();
}

#[test]
fn a_pause_of_the_vm_leaves_mailbox_and_doorbell_as_they_are() {
    let server = Server::start(&[]);
    let mut driver = Driver::attach(&server);
    let map = driver.qemu.start();
    driver.set_mailbox(MAILBOX);
    driver.assert_served();
    driver.qemu.stop();
    driver.qemu.begin();
    driver.qemu.set_memory(Some(&map));
    driver.qemu.start_queues();
    driver.assert_served();
}
