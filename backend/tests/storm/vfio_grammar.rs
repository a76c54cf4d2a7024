//! What a vfio-user client may say.

use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use e3k_regs::GpuVa;
use e3k_regs::fields::RingWord;
use fastrand::Rng;

use super::line::{self, Lent, Wanted, number, pick, short};
use super::support::gpu;
use super::support::vfio::{
    BAR1, Client, DMA_MAP, DMA_UNMAP, MSI, RAM_BYTES, REGION_INFO, REGION_READ, REGION_WRITE,
    RESET, SET_IRQS, access, body, memory, message, version,
};

/// From connecting to leaving.
pub(crate) fn session(rng: &mut Rng, socket: &Path) {
    let lent = Lent::new();
    let stream = UnixStream::connect(socket).expect("the server listens");
    let mut client = Client::new(stream);
    // Replies to messages that a bad line has made of others are not looked at,
    // so what wants them comes first.
    let ram = memory(RAM_BYTES);
    if rng.u32(..8) != 0 {
        client.greet();
        if rng.bool() {
            start_filling(&mut client, &ram, &lent, rng);
        }
    }
    for id in 0..rng.u16(1..40) {
        let (raw, wanted) = request(rng, id);
        let raw = line::garbled(rng, raw);
        let fds = wanted.map_or_else(Vec::new, |wanted| lent.some(rng, wanted));
        if !line::send(client.stream.as_fd(), &raw, &fds) {
            break;
        }
        if rng.u32(..16) == 0 {
            lent.spoil(rng);
        }
        if rng.u32(..32) == 0 {
            ram.set_len(rng.u64(..RAM_BYTES)).expect("a memfd");
        }
    }
}

/// A driver's work, which is still going on when the rest is said: fills of RAM,
/// and interrupts.
fn start_filling(client: &mut Client, ram: &std::fs::File, lent: &Lent, rng: &mut Rng) {
    let info = client.ask(REGION_INFO, &body(&[32, 0, BAR1, 0], &[0, 0]), &[]);
    let vram = std::fs::File::from(info.fd.expect("VRAM's file"));
    client
        .dma_map(3, 0, 0, RAM_BYTES, Some(ram))
        .expect("RAM is mapped");
    client.set_config(4, 2, 6);
    let events = lent.some(rng, Wanted::Event);
    if let Some(event) = events.first() {
        // Whatever that was.
        let _ = client.set_irqs(4 | 32, MSI, 1, &[*event]);
    }
    client.set_config(0x4A, 2, 0x81);
    for (at, bytes) in gpu::tables() {
        vram.write_all_at(&bytes, at).expect("VRAM");
    }
    for (offset, value) in gpu::set_up() {
        client.write(offset, value);
    }
    let ring = gpu::packets(|writer| {
        for turn in 0..200 {
            writer.surface(0, GpuVa(gpu::RAM_VA + 0x20_0000), 16384, 32);
            writer.clear(16384, 32, turn);
            gpu::fence(writer, 0x1000, turn.into(), true);
        }
    });
    vram.write_all_at(&ring, gpu::RING_AT).expect("VRAM");
    let tail = u32::try_from(ring.len()).expect("a short ring");
    client.write(RingWord::Tail.offset(0), tail);
}

/// A message, and what is to come with it.
fn request(rng: &mut Rng, id: u16) -> (Vec<u8>, Option<Wanted>) {
    let no_reply = if rng.u32(..8) == 0 { 1 << 4 } else { 0 };
    let (command, body, wanted) = match rng.u32(..16) {
        0 => {
            let text = b"{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1}}\0";
            let [major, minor] = [rng.u16(..2), rng.u16(..3)];
            (1, version(major, minor, text), None)
        }
        1..=4 => {
            let flags = pick(rng, |_| [3, 3, 3, 1, 2, 0, 7]);
            let [offset, at] = [number(rng), number(rng)];
            let bytes = pick(rng, |rng| [0x1000, 0x1_0000, RAM_BYTES, number(rng)]);
            let raw = body(&[32, flags], &[offset & !0xFFF, at & !0xFFF, bytes]);
            (DMA_MAP, raw, Some(Wanted::Memory))
        }
        5 => {
            let all = u32::from(rng.u32(..4) == 0) << 1;
            let raw = body(&[24, all], &[number(rng), number(rng)]);
            (DMA_UNMAP, raw, None)
        }
        6 => (4, body(&[16, 0, 0, 0], &[]), None),
        7 => {
            let region = rng.u32(..12);
            (REGION_INFO, body(&[32, 0, region, 0], &[0, 0]), None)
        }
        8 => {
            let index = rng.u32(..6);
            (7, body(&[16, 0, index, 0], &[]), None)
        }
        9 | 10 => {
            let flags = rng.u32(..64);
            let [index, start, count] = [rng.u32(..6), rng.u32(..2), rng.u32(..3)];
            let raw = body(&[20, flags, index, start, count], &[]);
            (SET_IRQS, raw, Some(Wanted::Event))
        }
        11 | 12 => {
            let count = pick(rng, |rng| [1, 2, 4, 8, short(rng) & 0x1_FFFF]);
            let raw = access(region(rng), number(rng), count);
            (REGION_READ, raw, None)
        }
        13 | 14 => {
            let data: Vec<u8> = (0..rng.usize(..17)).map(|_| rng.u8(..)).collect();
            let count = u32::try_from(data.len()).expect("short");
            let raw = [access(region(rng), number(rng), count), data].concat();
            (REGION_WRITE, raw, None)
        }
        _ => {
            let command = pick(rng, |rng| [RESET, 11, 12, 14, rng.u16(..)]);
            (command, vec![0; rng.usize(..64)], None)
        }
    };
    (message(id, command, no_reply, &body), wanted)
}

/// Mostly BAR 0.
fn region(rng: &mut Rng) -> u32 {
    pick(rng, |rng| [0, 0, 0, 1, 7, 7, rng.u32(..12)])
}
