//! A request queue made of any bytes whatever, on a real GPU that reaches the
//! same memory. The fuzz target `chains` runs it; its corpus is replayed here.
#![expect(clippy::expect_used, reason = "a check fails by panicking")]

use presil_device::{Chip, Config, Gpu, NoInterrupts};
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryMmap};

use super::buffers::Buffers;
use super::requests::{self, MAX_OPS};
use super::vring::{Chain, Memory, RingsAt, Table, Vring};
use crate::doors::system_memory::GuestRam;

const QUEUE_SIZE: u16 = 16;
/// The bytes of an input begin with the descriptor table and the available ring.
const TABLE: u64 = 0;
const AVAILABLE: u64 = 0x100;
const USED: u64 = 0xF000;
const USED_BYTES: usize = 4 + 8 * QUEUE_SIZE as usize;

/// RAM with a hole in it.
const RAM: [(GuestAddress, usize); 2] = [
    (GuestAddress(0), 0x1_0000),
    (GuestAddress(0x2_0000), 0x1_0000),
];

/// What the engine may do between two requests, in bytes.
const BUDGET: u32 = 1 << 14;

/// Serves every request of a queue that lies at the beginning of guest memory
/// with these contents.
///
/// # Panics
/// An answer leaves what the guest offered for it.
pub fn serve(bytes: &[u8]) {
    let memory = Memory::new(GuestMemoryMmap::from_ranges(&RAM).expect("RAM"));
    let table = memory.memory();
    let len = bytes.len().min(RAM[0].1);
    table
        .write_slice(&bytes[..len], GuestAddress(0))
        .expect("RAM");
    let vring = Vring::new().expect("a queue");
    vring.set_size(QUEUE_SIZE.into()).expect("a size");
    let at = RingsAt {
        descriptors: GuestAddress(TABLE),
        available: GuestAddress(AVAILABLE),
        used: GuestAddress(USED),
    };
    vring.set_rings(&table, at).expect("a place for the queue");
    vring.set_ready(true);
    vring.set_enabled(true);
    let mut gpu = gpu(memory.memory());
    // The available ring may promise more than it can hold.
    for _ in 0..=QUEUE_SIZE {
        let Ok(Some(chain)) = vring.pop(&table) else {
            return;
        };
        answer(chain, &vring, &table, &mut gpu);
        gpu.step(BUDGET);
    }
}

fn gpu(table: Table) -> Gpu {
    let config = Config::new(Chip::Arise10c0, 256 << 20, 256 << 20, true).expect("a legal size");
    let mut gpu = Gpu::new(&config, Box::new(NoInterrupts)).expect("VRAM");
    let memory = GuestRam::new(table.into_inner(), gpu.vram());
    gpu.set_memory(Box::new(memory));
    gpu
}

fn answer(chain: Chain, vring: &Vring, table: &Table, gpu: &mut Gpu) {
    let head = chain.head_index();
    let offered: Vec<_> = chain
        .clone()
        .filter(Descriptor::is_write_only)
        .map(|descriptor| (descriptor.addr().0, descriptor.len() as usize))
        .collect();
    let mut before = contents(table);
    if let Ok(buffers) = Buffers::of(chain) {
        let served = requests::serve(&buffers, table, |operation| Ok(operation.run(gpu)));
        assert!(served.operations <= MAX_OPS);
        assert!(served.bytes <= buffers.writable_bytes());
        vring
            .push_used(table, head, served.bytes)
            .expect("a used ring in RAM");
    }
    let after = contents(table);
    for (at, len) in offered.into_iter().chain([(USED, USED_BYTES)]) {
        allow(&mut before, &after, at, len);
    }
    assert!(before == after, "an answer left its buffers");
}

fn contents(table: &Table) -> [Vec<u8>; 2] {
    RAM.map(|(at, len)| {
        let mut bytes = vec![0; len];
        table.read_slice(&mut bytes, at).expect("RAM");
        bytes
    })
}

/// Makes `before` what `after` is in the `len` bytes at `at`.
fn allow(before: &mut [Vec<u8>; 2], after: &[Vec<u8>; 2], at: u64, len: usize) {
    for ((base, ram_len), (before, after)) in RAM.iter().zip(before.iter_mut().zip(after)) {
        let within = |at: u64| {
            let offset = at.saturating_sub(base.0);
            usize::try_from(offset).map_or(*ram_len, |offset| offset.min(*ram_len))
        };
        let span = within(at)..within(at.saturating_add(len as u64));
        before[span.clone()].copy_from_slice(&after[span]);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    #[test]
    fn the_corpus_of_chains_is_served_within_bounds() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/chains");
        let inputs: Vec<_> = fs::read_dir(folder).unwrap().collect();
        assert!(!inputs.is_empty());
        for input in inputs {
            super::serve(&fs::read(input.unwrap().path()).unwrap());
        }
    }
}
