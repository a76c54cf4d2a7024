//! What a vhost-user client may say, and its guest.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

use fastrand::Rng;

use super::line::{self, Lent, Wanted, number, pick, short};
use super::support::gpu;
use super::support::guest::{DATA, Ring, readable, writable};
use super::support::qemu::{Channel, Qemu};

/// From connecting to leaving.
pub(crate) fn session(rng: &mut Rng, socket: &Path) {
    let lent = Lent::new();
    if rng.u32(..4) == 0 {
        let stream = UnixStream::connect(socket).expect("the server listens");
        talk(rng, stream.as_fd(), &lent, None);
        return;
    }
    let mut qemu = Qemu::attach(socket);
    match rng.u32(..4) {
        // Never answers the request to map VRAM.
        0 => {
            qemu.hold_maps.store(true, Ordering::SeqCst);
            qemu.guest.reset();
            qemu.begin();
            qemu.set_memory(None);
            qemu.start_queues();
        }
        1 => {}
        _ => {
            let map = qemu.start();
            for (offset, value) in gpu::set_up() {
                gpu::write(&mut qemu, offset, value);
            }
            map.write(0, &vec![rng.u8(..); 0x1000]);
        }
    }
    let fd = qemu.frontend.as_raw_fd();
    // SAFETY: `qemu` lives to the end of this function and owns it.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    talk(rng, socket, &lent, Some(&mut qemu));
    if rng.bool() {
        keep((qemu.release_map, qemu.channel));
    }
}

/// Leaves, but holds on to the other end of the channel that VRAM was to be mapped
/// through: of the last few, since this process has not more descriptors either.
fn keep(ends: (Sender<()>, Channel)) {
    static KEPT: Mutex<VecDeque<(Sender<()>, Channel)>> = Mutex::new(VecDeque::new());
    let mut kept = KEPT.lock().expect("one thread");
    kept.push_back(ends);
    if kept.len() > 100 {
        kept.pop_front();
    }
}

/// Anything, until the server has had enough.
fn talk(rng: &mut Rng, socket: BorrowedFd<'_>, lent: &Lent, mut qemu: Option<&mut Qemu>) {
    for _ in 0..rng.u32(1..40) {
        let (raw, wanted) = request(rng);
        let raw = line::garbled(rng, raw);
        let fds = wanted.map_or_else(Vec::new, |wanted| lent.some(rng, wanted));
        if !line::send(socket, &raw, &fds) {
            break;
        }
        if rng.u32(..16) == 0 {
            lent.spoil(rng);
        }
        let spoilt = qemu.as_mut().is_some_and(|qemu| misbehave(rng, qemu));
        if spoilt {
            qemu = None;
        }
    }
}

/// What its guest does meanwhile. Says whether it has taken RAM away, which this
/// process must not touch then either.
fn misbehave(rng: &mut Rng, qemu: &mut Qemu) -> bool {
    let queue = rng.usize(..2);
    let ring = Ring::of(queue);
    match rng.u32(..8) {
        0 => {
            let noise: Vec<u8> = (0..64).map(|_| rng.u8(..)).collect();
            let places = [ring.table, ring.available, ring.used];
            qemu.guest
                .write(*rng.choice(&places).expect("some"), &noise);
        }
        1 | 2 => {
            let operation = [rng.u64(..), number(rng)].map(u64::to_le_bytes).concat();
            qemu.guest.write(DATA, &operation.repeat(8));
            let bytes = short(rng) & 0xFF;
            let chain = [readable(DATA, bytes), writable(DATA + 0x1000, bytes)];
            qemu.guest.offer(queue, &chain);
        }
        3 => {
            qemu.guest.offer_head(queue, rng.u16(..));
        }
        4 if rng.u32(..8) == 0 => {
            let pages = rng.u64(..64) << 12;
            qemu.guest.file().set_len(pages).expect("a memfd");
            qemu.kick(queue);
            return true;
        }
        _ => {}
    }
    qemu.kick(queue);
    false
}

/// A message, and what is to come with it.
fn request(rng: &mut Rng) -> (Vec<u8>, Option<Wanted>) {
    let request = rng.u32(1..48);
    let (body, wanted) = match request {
        2 | 16 => (rng.u64(..).to_ne_bytes().to_vec(), None),
        // The memory table: one region, or how many it says.
        5 => {
            let regions = pick(rng, |rng| [1, 1, 1, 2, 8, short(rng)]);
            let sizes = [0x1000, 0x1_0000, 4 << 20, number(rng)];
            let bytes = *rng.choice(&sizes).expect("some");
            let region = [number(rng) & !0xFFF, bytes, number(rng), number(rng)];
            let mut raw = [regions, 0].map(u32::to_ne_bytes).concat();
            raw.extend(region.map(u64::to_ne_bytes).concat());
            (raw, Some(Wanted::Memory))
        }
        8 | 10 | 11 | 18 => {
            let state = [rng.u32(..3), short(rng)];
            (state.map(u32::to_ne_bytes).concat(), None)
        }
        9 => {
            let mut raw = [rng.u32(..3), short(rng)].map(u32::to_ne_bytes).concat();
            for _ in 0..4 {
                raw.extend(number(rng).to_ne_bytes());
            }
            (raw, None)
        }
        12..=14 => {
            let none = u64::from(rng.u32(..8) == 0) << 8;
            let queue = rng.u64(..3) | none;
            (queue.to_ne_bytes().to_vec(), Some(Wanted::Event))
        }
        // The mailbox and its doorbell.
        25 if rng.bool() => {
            let mut raw = [0x30, 12, 0].map(u32::to_ne_bytes).concat();
            raw.extend(DATA.to_ne_bytes());
            raw.extend(rng.u32(..).to_ne_bytes());
            (raw, None)
        }
        24 | 25 => {
            let bytes = pick(rng, |rng| [4, 256, short(rng) & 0xFFF]);
            let mut raw = [short(rng), bytes, 0].map(u32::to_ne_bytes).concat();
            raw.extend((0..bytes).map(|_| rng.u8(..)));
            (raw, None)
        }
        _ => {
            let bytes = rng.usize(..48);
            let wanted = rng.bool().then_some(Wanted::Event);
            ((0..bytes).map(|_| rng.u8(..)).collect(), wanted)
        }
    };
    let flags = pick(rng, |rng| [1, 9, 9, 9, short(rng)]);
    let bytes = u32::try_from(body.len()).expect("short");
    let mut raw = [request, flags, bytes].map(u32::to_ne_bytes).concat();
    raw.extend(body);
    (raw, wanted)
}
