//! What a guest can put in its queues: every refusal, and that nothing it
//! writes can do more than be refused.

use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryMmap};

use super::buffers::Buffers;
use super::requests::{self, MAX_OPS, Operation, Served};
use super::vring::{Memory, QueueBroken, RingsAt, Vring};
use crate::shared_gpu::Lost;

const QUEUE_SIZE: u16 = 16;
const TABLE: u64 = 0x0;
const AVAILABLE: u64 = 0x200;
const USED: u64 = 0x400;
/// Where buffers are in these tests.
const DATA: u64 = 0x1000;
/// RAM ends here; behind it is a hole, then more RAM.
const HOLE: u64 = 0x1_0000;
const AFTER_HOLE: u64 = 0x2_0000;
const RAM_END: u64 = 0x3_0000;

const NEXT: u16 = 1;
const WRITE: u16 = 2;

#[derive(Clone, Copy, Debug)]
struct Descriptor {
    at: u64,
    bytes: u32,
    flags: u16,
    next: u16,
}

/// One queue of a guest and its memory.
struct Guest {
    memory: Memory,
    vring: Vring,
}

impl Guest {
    fn new() -> Self {
        let ranges = [
            (GuestAddress(0), 0x1_0000),
            (GuestAddress(AFTER_HOLE), 0x1_0000),
        ];
        let memory = Memory::new(GuestMemoryMmap::from_ranges(&ranges).unwrap());
        let vring = Vring::new().unwrap();
        vring.set_size(QUEUE_SIZE.into()).unwrap();
        let at = RingsAt {
            descriptors: GuestAddress(TABLE),
            available: GuestAddress(AVAILABLE),
            used: GuestAddress(USED),
        };
        vring.set_rings(&memory.memory(), at).unwrap();
        vring.set_ready(true);
        vring.set_enabled(true);
        Self { memory, vring }
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.memory
            .memory()
            .write_slice(bytes, GuestAddress(at))
            .unwrap();
    }

    fn read(&self, at: u64, bytes: usize) -> Vec<u8> {
        let mut buf = vec![0; bytes];
        self.memory
            .memory()
            .read_slice(&mut buf, GuestAddress(at))
            .unwrap();
        buf
    }

    /// Puts `descriptors` at the table's beginning and makes `head` available.
    fn offer(&self, head: u16, descriptors: &[Descriptor]) {
        for (index, d) in (0..).zip(descriptors) {
            let mut raw = Vec::new();
            raw.extend(d.at.to_le_bytes());
            raw.extend(d.bytes.to_le_bytes());
            raw.extend(d.flags.to_le_bytes());
            raw.extend(d.next.to_le_bytes());
            self.write(TABLE + 16 * index, &raw);
        }
        self.write(AVAILABLE + 4, &head.to_le_bytes());
        self.write(AVAILABLE + 2, &1_u16.to_le_bytes());
    }

    fn serve(
        &self,
        access: impl FnMut(Operation) -> Result<u64, Lost>,
    ) -> Result<Served, QueueBroken> {
        let table = self.memory.memory();
        let chain = self.vring.pop(&table)?.expect("a chain was offered");
        let buffers = Buffers::of(chain)?;
        Ok(requests::serve(&buffers, &table, access))
    }
}

fn descriptor(at: u64, bytes: u32, flags: u16, next: u16) -> Descriptor {
    Descriptor {
        at,
        bytes,
        flags,
        next,
    }
}

fn operation(op: u8, width: u8, reserved: u16, offset: u32, value: u64) -> Vec<u8> {
    let mut raw = vec![op, width];
    raw.extend(reserved.to_le_bytes());
    raw.extend(offset.to_le_bytes());
    raw.extend(value.to_le_bytes());
    raw
}

/// Serves `operations` in one readable and one writable buffer; the results as
/// (value, status).
fn run(
    operations: &[Vec<u8>],
    access: impl FnMut(Operation) -> Result<u64, Lost>,
) -> Vec<(u64, u32)> {
    let guest = Guest::new();
    let raw = operations.concat();
    guest.write(DATA, &raw);
    let bytes = u32::try_from(raw.len()).unwrap();
    let results = DATA + u64::from(bytes);
    guest.offer(
        0,
        &[
            descriptor(DATA, bytes, NEXT, 1),
            descriptor(results, bytes, WRITE, 0),
        ],
    );
    let served = guest.serve(access).unwrap();
    decode_results(&guest.read(results, served.bytes))
}

fn decode_results(raw: &[u8]) -> Vec<(u64, u32)> {
    raw.chunks_exact(16)
        .map(|r| {
            assert_eq!(r[12..], [0; 4], "reserved bytes of a result");
            (
                u64::from_le_bytes(r[..8].try_into().unwrap()),
                u32::from_le_bytes(r[8..12].try_into().unwrap()),
            )
        })
        .collect()
}

/// A register space of one word.
fn one_word() -> impl FnMut(Operation) -> Result<u64, Lost> {
    let mut word = 0;
    move |operation| match operation {
        Operation::Read { .. } => Ok(word),
        Operation::Write { value, .. } => {
            word = value;
            Ok(0)
        }
    }
}

#[test]
fn operations_run_in_order_and_a_read_sees_the_write_before_it() {
    let results = run(
        &[
            operation(1, 8, 0, 0, 0),
            operation(2, 8, 0, 0, 77),
            operation(1, 8, 0, 0, 0),
        ],
        one_word(),
    );
    assert_eq!(results, [(0, 0), (0, 0), (77, 0)]);
}

#[test]
fn the_first_refused_operation_ends_the_request() {
    for (refused, status) in [
        (operation(0, 4, 0, 0, 0), 1),
        (operation(3, 4, 0, 0, 0), 1),
        (operation(1, 4, 1, 0, 0), 1),
        (operation(1, 0, 0, 0, 0), 2),
        (operation(1, 3, 0, 0, 0), 2),
        (operation(1, 16, 0, 0, 0), 2),
        (operation(1, 4, 0, 2, 0), 3),
        (operation(1, 8, 0, 4, 0), 3),
        (operation(1, 1, 0, 0x10_0000, 0), 3),
        (operation(1, 8, 0, 0x10_0000, 0), 3),
        (operation(2, 4, 0, 0xFFFF_FFFC, 0), 3),
    ] {
        let mut accesses = 0;
        let results = run(
            &[
                operation(2, 4, 0, 0, 5),
                refused.clone(),
                operation(2, 4, 0, 0, 6),
            ],
            |_| {
                accesses += 1;
                Ok(0)
            },
        );
        assert_eq!(results, [(0, 0), (0, status), (0, 4)], "{refused:?}");
        assert_eq!(accesses, 1, "{refused:?}");
    }
}

#[test]
fn the_last_bytes_of_bar0_are_reached_in_every_width() {
    for width in [1_u8, 2, 4, 8] {
        let offset = 0x10_0000 - u32::from(width);
        assert_eq!(
            run(&[operation(1, width, 0, offset, 0)], |_| Ok(9)),
            [(9, 0)]
        );
    }
}

#[test]
fn a_lost_gpu_answers_every_operation_with_ones() {
    let results = run(
        &[operation(1, 4, 0, 0, 0), operation(2, 4, 0, 0, 1)],
        |_| Err(Lost),
    );
    assert_eq!(results, [(u64::MAX, 6), (u64::MAX, 6)]);
}

#[test]
fn how_bytes_are_split_into_descriptors_does_not_matter() {
    let guest = Guest::new();
    let raw = [operation(1, 4, 0, 0, 0), operation(1, 4, 0, 4, 0)].concat();
    guest.write(DATA, &raw);
    guest.offer(
        0,
        &[
            descriptor(DATA, 5, NEXT, 1),
            descriptor(DATA + 5, 0, NEXT, 2),
            descriptor(DATA + 5, 27, NEXT, 3),
            descriptor(DATA + 0x100, 20, NEXT | WRITE, 4),
            descriptor(DATA + 0x200, 12, WRITE, 0),
        ],
    );
    let served = guest.serve(|op| match op {
        Operation::Read { offset, .. } => Ok(u64::from(offset) + 1),
        Operation::Write { .. } => Ok(0),
    });
    assert_eq!(
        served.unwrap(),
        Served {
            bytes: 32,
            operations: 2
        }
    );
    let raw = [guest.read(DATA + 0x100, 20), guest.read(DATA + 0x200, 12)].concat();
    assert_eq!(decode_results(&raw), [(1, 0), (5, 0)]);
}

/// A malformed request: its chain, and the address of its writable bytes.
type Malformed = (&'static str, Vec<Descriptor>, Option<u64>);

fn malformed_requests() -> Vec<Malformed> {
    let ops = |count: u32| descriptor(DATA, 16 * count, NEXT, 1);
    let results = |bytes| descriptor(0x8000, bytes, WRITE, 0);
    let swapped = vec![
        descriptor(0x8000, 16, NEXT | WRITE, 1),
        descriptor(DATA, 16, 0, 0),
    ];
    vec![
        ("no readable bytes", vec![results(64)], Some(0x8000)),
        (
            "not a multiple of 16",
            vec![descriptor(DATA, 17, NEXT, 1), results(64)],
            Some(0x8000),
        ),
        (
            "too many operations",
            vec![ops(MAX_OPS + 1), results(0x5000)],
            Some(0x8000),
        ),
        (
            "too few writable bytes",
            vec![ops(2), results(31)],
            Some(0x8000),
        ),
        ("writable before readable", swapped, Some(0x8000)),
        (
            "readable outside RAM",
            vec![descriptor(HOLE, 16, NEXT, 1), results(16)],
            Some(0x8000),
        ),
        (
            "readable into the hole",
            vec![descriptor(HOLE - 8, 16, NEXT, 1), results(16)],
            Some(0x8000),
        ),
        (
            "huge",
            vec![
                descriptor(0, u32::MAX, NEXT, 1),
                descriptor(DATA, 0, WRITE, 0),
            ],
            None,
        ),
        ("nothing writable", vec![descriptor(DATA, 16, 0, 0)], None),
        ("15 writable bytes", vec![ops(1), results(15)], None),
        (
            "writable outside RAM",
            vec![ops(1), descriptor(HOLE, 16, WRITE, 0)],
            None,
        ),
        (
            "address wraps",
            vec![ops(1), descriptor(u64::MAX - 7, 16, WRITE, 0)],
            None,
        ),
    ]
}

#[test]
fn a_malformed_request_runs_nothing_and_is_told_so_where_that_is_possible() {
    for (name, chain, reply_at) in malformed_requests() {
        let guest = Guest::new();
        guest.write(DATA, &operation(2, 4, 0, 0, 1).repeat(2));
        guest.offer(0, &chain);
        let served = guest.serve(|_| panic!("{name}: an operation ran")).unwrap();
        match reply_at {
            Some(at) => {
                assert_eq!(served.bytes, 16, "{name}");
                assert_eq!(decode_results(&guest.read(at, 16)), [(0, 5)], "{name}");
            }
            None => assert_eq!(served.bytes, 0, "{name}"),
        }
    }
}

#[test]
fn a_chain_that_loops_or_leaves_its_table_breaks_the_queue() {
    let dangling = vec![descriptor(DATA, 16, NEXT, QUEUE_SIZE)];
    let looping = vec![descriptor(DATA, 16, NEXT, 0)];
    let too_much = vec![
        descriptor(0, u32::MAX, NEXT, 1),
        descriptor(0, u32::MAX, 0, 0),
    ];
    for (name, head, chain) in [
        ("dangling", 0, dangling),
        ("looping", 0, looping),
        ("4 GiB", 0, too_much),
        ("head", 99, vec![]),
    ] {
        let guest = Guest::new();
        guest.offer(head, &chain);
        let served = guest.serve(|_| panic!("{name}: an operation ran"));
        assert!(
            matches!(served, Err(QueueBroken::Chain { .. })),
            "{name}: {served:?}"
        );
    }
}

#[test]
fn an_available_index_that_leaps_breaks_the_queue() {
    let guest = Guest::new();
    guest.write(AVAILABLE + 2, &(QUEUE_SIZE + 1).to_le_bytes());
    let popped = guest.vring.pop(&guest.memory.memory());
    assert!(matches!(popped, Err(QueueBroken::Available(_))));
}

fn any_address() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..RAM_END,
        2 => prop::sample::select(vec![0, DATA, HOLE - 8, HOLE, AFTER_HOLE - 8, AFTER_HOLE, RAM_END - 16]),
        1 => any::<u64>(),
    ]
}

fn any_descriptor() -> impl Strategy<Value = Descriptor> {
    let bytes = prop_oneof![
        6 => (0_u32..8).prop_map(|n| n * 16),
        2 => 0_u32..100,
        1 => any::<u32>(),
    ];
    // Bit 2 is VIRTQ_DESC_F_INDIRECT: not negotiated, and a hostile guest's to set.
    let flags = prop_oneof![8 => 0_u16..4, 1 => any::<u16>()];
    let next = prop_oneof![8 => 0..QUEUE_SIZE, 1 => any::<u16>()];
    (any_address(), bytes, flags, next)
        .prop_map(|(at, bytes, flags, next)| descriptor(at, bytes, flags, next))
}

/// Where a chain's writable descriptors point, walked in the plainest way.
fn is_writable(chain: &[Descriptor], at: u64) -> bool {
    chain.iter().any(|d| {
        let offset = at.wrapping_sub(d.at);
        d.flags & WRITE != 0 && at >= d.at && offset < u64::from(d.bytes)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_chain_over_any_memory_is_served_within_bounds(
        chain in prop::collection::vec(any_descriptor(), 1..=usize::from(QUEUE_SIZE)),
        fill in prop::collection::vec((any::<u8>(), 0_u64..HOLE - 0x200), 0..20),
        head in 0..QUEUE_SIZE,
    ) {
        let guest = Guest::new();
        // Plausible operations here and there, so that some requests run.
        for (byte, at) in fill {
            guest.write(0x200 + at / 16 * 16, &operation(1 + byte % 3, 1 << (byte % 5), 0, 0, 0));
        }
        guest.offer(head, &chain);
        let before = [guest.read(0, 0x1_0000), guest.read(AFTER_HOLE, 0x1_0000)];
        let mut accesses = 0;
        let served = guest.serve(|_| { accesses += 1; Ok(0x5A5A) });
        let after = [guest.read(0, 0x1_0000), guest.read(AFTER_HOLE, 0x1_0000)];
        if let Ok(served) = &served {
            prop_assert_eq!(served.operations, accesses);
            prop_assert!(accesses <= MAX_OPS);
            prop_assert!(served.bytes.is_multiple_of(16));
        } else {
            prop_assert_eq!(accesses, 0);
        }
        // Indirect tables hide their descriptors from this plain check.
        let plain = chain.iter().all(|d| d.flags & 4 == 0);
        for (base, (old, new)) in [0, AFTER_HOLE].into_iter().zip(before.iter().zip(&after)) {
            for (at, (old, new)) in (base..).zip(old.iter().zip(new)) {
                prop_assert!(old == new || !plain || is_writable(&chain, at), "{at:#x} was written");
            }
        }
    }

    #[test]
    fn any_bytes_as_a_whole_queue_never_panic(
        memory in prop::collection::vec(any::<u8>(), 0x600..0x2000),
    ) {
        super::any_queue::serve(&memory);
    }
}
