//! Messages: what is answered, what is refused, and what ends a connection.

use std::os::fd::AsFd;

use presil::doors::pci::Identity;
use presil_device::Chip;

use crate::FENCE_AT;
use crate::support::vfio::*;

fn unacquainted() -> Rig {
    Rig::unacquainted(Identity::default(), Chip::Arise10c0)
}

#[test]
fn who_does_not_begin_with_a_version_is_refused_and_sent_away() {
    let mut rig = unacquainted();
    for (command, request) in [
        (DMA_UNMAP, body(&[24, 2], &[0, 0])),
        (DEVICE_INFO, body(&[16, 0, 0, 0], &[])),
        (RESET, vec![]),
        (99, vec![]),
        (VERSION, version(1, 0, b"")),
        (VERSION, version(0, 0, b"{}")),
        (VERSION, version(0, 0, b"{\0")),
        (VERSION, version(0, 0, b"7\0")),
        (VERSION, version(0, 0, b"\xFF\0")),
        (VERSION, version(0, 0, &vec![b'['; 60_000])),
    ] {
        let refused = rig.client.call(command, &request, &[]);
        let expected = if command == 99 { ENOTSUP } else { EINVAL };
        assert_eq!(refused, Err(expected), "{command} {request:x?}");
        assert!(rig.client.receive().is_none(), "{command} {request:x?}");
        rig.next_stranger();
    }
    rig.client.send(&message(1, RESET, NO_REPLY, &[]), &[]);
    assert!(rig.client.receive().is_none());
    rig.next_stranger();
    rig.client.greet();
}

#[test]
fn there_is_one_version() {
    let mut rig = unacquainted();
    let reply = rig.client.call(VERSION, &version(0, 7, b""), &[]).unwrap();
    assert_eq!(reply[..4], [0, 0, 1, 0], "0.1 is the highest here");
    let text = reply[4..].strip_suffix(&[0]).unwrap();
    let said: serde_json::Value = serde_json::from_slice(text).unwrap();
    assert_eq!(said["capabilities"]["max_data_xfer_size"], 0x1_0000);
    assert_eq!(said["capabilities"]["max_dma_maps"], 65_535, "QEMU's most");
    assert_eq!(
        rig.client.call(VERSION, &version(0, 0, b""), &[]),
        Err(EINVAL)
    );
    assert_eq!(rig.client.config(0, 4), 0x3D00_6766, "it stays");
}

#[test]
fn the_function_has_two_bars_configuration_space_and_two_kinds_of_interrupt() {
    let mut rig = Rig::new();
    let info = rig
        .client
        .call(DEVICE_INFO, &body(&[16, 0, 0, 0], &[]), &[]);
    assert_eq!(info, Ok(body(&[16, 3, 9, 5], &[])));
    for index in 0..9 {
        let (flags, size) = match index {
            0 => (3, 1 << 20),
            1 => (7, 512 << 20),
            7 => (3, 4096),
            _ => (0, 0),
        };
        let reply = rig
            .client
            .ask(REGION_INFO, &body(&[32, 0, index, 0], &[0, 0]), &[]);
        assert_eq!(reply.body, body(&[32, flags, index, 0], &[size, 0]));
        assert_eq!(reply.fd.is_some(), index == 1, "region {index}");
    }
    for (index, flags, count) in [(0, 7, 1), (1, 9, 1), (2, 0, 0), (3, 0, 0), (4, 0, 0)] {
        let reply = rig
            .client
            .call(IRQ_INFO, &body(&[16, 0, index, 0], &[]), &[]);
        assert_eq!(reply, Ok(body(&[16, flags, index, count], &[])));
    }
    let none = rig
        .client
        .call(REGION_INFO, &body(&[32, 0, 9, 0], &[0, 0]), &[]);
    assert_eq!(none, Err(EINVAL));
    let none = rig.client.call(IRQ_INFO, &body(&[16, 0, 5, 0], &[]), &[]);
    assert_eq!(none, Err(EINVAL));
}

#[test]
fn every_length_but_the_right_one_is_refused_and_the_stream_stays_in_step() {
    let mut rig = Rig::new();
    let requests: [(u16, Vec<u8>); 9] = [
        (DMA_MAP, body(&[32, 3], &[0, 1 << 20, 4096])),
        (DMA_UNMAP, body(&[24, 0], &[0, 4096])),
        (DEVICE_INFO, body(&[16, 0, 0, 0], &[])),
        (REGION_INFO, body(&[32, 0, 0, 0], &[0, 0])),
        (IRQ_INFO, body(&[16, 0, 0, 0], &[])),
        (
            SET_IRQS,
            [body(&[20, 2 | 8, INTX, 0, 1], &[]), vec![1]].concat(),
        ),
        (REGION_READ, access(BAR0, 0xD370, 4)),
        (
            REGION_WRITE,
            [access(BAR0, 0x7_0000, 4), vec![1, 2, 3, 4]].concat(),
        ),
        (RESET, vec![]),
    ];
    for (command, whole) in requests {
        for bytes in 0..whole.len() {
            let refused = rig.client.call(command, &whole[..bytes], &[]);
            assert_eq!(refused, Err(EINVAL), "{command} with {bytes} bytes");
        }
        let longer = [&whole[..], &[0]].concat();
        assert_eq!(
            rig.client.call(command, &longer, &[]),
            Err(EINVAL),
            "{command}"
        );
        assert!(rig.client.call(command, &whole, &[]).is_ok(), "{command}");
    }
}

#[test]
fn unknown_commands_are_told_so_and_passed() {
    let mut rig = Rig::new();
    for command in [0, 6, 11, 12, 14, 15, 16, 17, 18, 0xFFFF] {
        assert_eq!(
            rig.client.call(command, &[9; 100], &[]),
            Err(ENOTSUP),
            "{command}"
        );
    }
    assert_eq!(rig.client.config(0, 4), 0x3D00_6766);
}

#[test]
fn a_length_that_cannot_be_ends_the_connection_and_nothing_else() {
    let mut rig = Rig::new();
    for bytes in [0_u32, 15, (64 << 10) + 33, u32::MAX] {
        let mut raw = message(1, RESET, 0, &[]);
        raw[4..8].copy_from_slice(&bytes.to_ne_bytes());
        rig.client.send(&raw, &[]);
        assert!(rig.client.receive().is_none(), "{bytes}");
        rig.reconnect();
    }
    // A reply to nothing, and half a message.
    rig.client.send(&message(1, RESET, 1, &[]), &[]);
    assert!(rig.client.receive().is_none());
    rig.reconnect();
    rig.client.send(&message(1, RESET, 0, &[])[..9], &[]);
    rig.reconnect();
    assert_eq!(rig.client.config(0, 4), 0x3D00_6766);
}

#[test]
fn messages_may_come_in_any_pieces() {
    let mut rig = Rig::new();
    rig.client.set_config(4, 2, 2);
    let read = |id| message(id, REGION_READ, 0, &access(BAR0, 0xD370, 4));
    for byte in read(1) {
        rig.client.send(&[byte], &[]);
    }
    assert_eq!(rig.client.receive().unwrap().id, 1);
    let quiet = message(
        2,
        REGION_WRITE,
        NO_REPLY,
        &[access(BAR0, 0x7_0000, 4), vec![5; 4]].concat(),
    );
    let wrong_and_quiet = message(3, 99, NO_REPLY, &[]);
    let map = message(5, DMA_MAP, 0, &body(&[32, 3], &[0, 0, RAM_BYTES]));
    let read_back = message(4, REGION_READ, 0, &access(BAR0, 0x7_0000, 4));
    let all = [quiet, wrong_and_quiet, read_back, map].concat();
    // The descriptor belongs to the last message, wherever a piece ends.
    let (front, back) = all.split_at(all.len() - 20);
    rig.client.send(front, &[rig.ram.as_fd()]);
    rig.client.send(&[back, &read(6)].concat(), &[]);
    let reply = rig.client.receive().unwrap();
    assert_eq!((reply.id, &reply.body[16..]), (4, &[5; 4][..]));
    assert_eq!(rig.client.receive().unwrap().error, None);
    assert_eq!(rig.client.receive().unwrap().id, 6);
    rig.client.set_config(4, 2, 6);
    rig.start_gpu();
    rig.submit_fence(FENCE_AT, 3);
    until("the fence", || rig.ram_u64(FENCE_AT) == 3);
}

#[test]
fn descriptors_too_many_or_of_the_wrong_kind_are_refused() {
    let mut rig = Rig::new();
    let map = body(&[32, 3], &[0, 0, RAM_BYTES]);
    let ram = rig.ram.try_clone().unwrap();
    let fds = [ram.as_fd(); 2];
    assert_eq!(rig.client.call(DMA_MAP, &map, &fds), Err(EINVAL));
    assert_eq!(rig.client.set_irqs(4 | 32, MSI, 1, &fds), Err(EINVAL));
    assert_eq!(rig.client.set_irqs(1 | 32, MSI, 1, &fds[..1]), Err(EINVAL));
    // A descriptor that no command wanted is dropped.
    assert!(rig.client.call(RESET, &[], &fds).is_ok());
    // A directory cannot be mapped.
    let folder = std::fs::File::open("/").unwrap();
    assert!(rig.client.dma_map(3, 0, 0, 4096, Some(&folder)).is_err());
    rig.client
        .send(&message(1, RESET, 0, &[]), &[ram.as_fd(); 16]);
    assert!(rig.client.receive().is_none());
    rig.reconnect();
}

#[test]
fn what_does_not_lie_in_its_region_is_refused() {
    let mut rig = Rig::new();
    rig.client.set_config(4, 2, 2);
    for (region, offset, count) in [
        (BAR0, 0x10_0000, 4),
        (BAR0, 0xF_FFFE, 4),
        (BAR0, u64::MAX, 4),
        (BAR0, 0, 3),
        (BAR0, 0, 16),
        (BAR0, 0, 0),
        (BAR1, 0, 0),
        (CONFIG, 0, 0),
        (BAR1, 512 << 20, 1),
        (BAR1, (512 << 20) - 1, 2),
        (BAR1, 0, (64 << 10) + 1),
        (CONFIG, 4096, 1),
        (CONFIG, 4095, 2),
        (2, 0, 1),
        (6, 0, 4),
        (8, 0xA_0000, 4),
        (9, 0, 4),
        (u32::MAX, 0, 4),
    ] {
        let read = rig.client.read_region(region, offset, count);
        assert_eq!(read, Err(EINVAL), "read {region} {offset:#x} {count}");
        if count <= 64 << 10 {
            let data = vec![0; count as usize];
            let write = rig.client.write_region(region, offset, &data);
            assert_eq!(write, Err(EINVAL), "write {region} {offset:#x} {count}");
        }
    }
    // A misaligned register access is the guest's own: all ones.
    assert_eq!(rig.client.read_region(BAR0, 0xD371, 4), Ok(vec![0xFF; 4]));
}
