//! Contents: after any sequence of CPU writes, GPU fills and copies, creation
//! and destruction, every BO reads what a plain copy of it says (invariant 11),
//! also when platform calls fail in between.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use presil_device::{Chip, Config};
use presil_tests::Guest;
use proptest::prelude::*;
use vidmm::{BoId, CreateFlags, Error};

const MIB: u64 = 1 << 20;
const FLAGS: [CreateFlags; 3] = [
    CreateFlags::GPU_MOSTLY,
    CreateFlags::UPLOAD,
    CreateFlags::READBACK,
];

#[derive(Clone, Debug)]
enum Op {
    Create {
        flags: usize,
        bytes: u64,
    },
    Destroy {
        which: usize,
    },
    Write {
        which: usize,
        offset: u64,
        bytes: u64,
        value: u8,
    },
    Fill {
        which: usize,
        offset: u64,
        bytes: u64,
        pattern: u32,
    },
    Copy {
        from: usize,
        to: usize,
        from_offset: u64,
        to_offset: u64,
        bytes: u64,
    },
    Run,
    FailSoon {
        calls: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let which = 0usize..64;
    let offset = 0u64..200_000;
    let bytes = 1u64..200_000;
    prop_oneof![
        3 => (0usize..3, 1u64..200_000).prop_map(|(flags, bytes)| Op::Create { flags, bytes }),
        1 => which.clone().prop_map(|which| Op::Destroy { which }),
        2 => (which.clone(), offset.clone(), bytes.clone(), any::<u8>())
            .prop_map(|(which, offset, bytes, value)| Op::Write { which, offset, bytes, value }),
        3 => (which.clone(), offset.clone(), bytes.clone(), any::<u32>())
            .prop_map(|(which, offset, bytes, pattern)| Op::Fill { which, offset, bytes, pattern }),
        4 => (which.clone(), which, offset.clone(), offset, bytes)
            .prop_map(|(from, to, from_offset, to_offset, bytes)| Op::Copy { from, to, from_offset, to_offset, bytes }),
        1 => Just(Op::Run),
        1 => (1u64..40).prop_map(|calls| Op::FailSoon { calls }),
    ]
}

/// A range as packets can name it, inside `size`.
fn clip(offset: u64, bytes: u64, size: u64) -> (u64, u64) {
    let offset = (offset % size) & !255;
    (offset, bytes.min(size - offset) & !3)
}

fn range(offset: u64, bytes: u64) -> std::ops::Range<usize> {
    usize::try_from(offset).unwrap()..usize::try_from(offset + bytes).unwrap()
}

struct World {
    guest: Guest,
    live: Vec<(BoId, Vec<u8>)>,
}

impl World {
    fn apply(&mut self, op: &Op) -> Result<(), Error> {
        let Self { guest, live } = self;
        let count = live.len();
        match *op {
            Op::Create { flags, bytes } => {
                let bo = guest.create(bytes, FLAGS[flags])?;
                live.push((bo, vec![0; usize::try_from(bytes).unwrap()]));
            }
            Op::Run => guest.machine.run(),
            Op::FailSoon { calls } => guest.machine.fail_call(Some(calls)),
            _ if count == 0 => {}
            Op::Destroy { which } => {
                let (bo, _) = live.swap_remove(which % count);
                guest.adapter.destroy(bo)?;
            }
            Op::Write {
                which,
                offset,
                bytes,
                value,
            } => {
                // As a well-behaved user: the GPU is done before the CPU writes.
                guest.wait(guest.timeline().submitted())?;
                let (bo, shadow) = &mut live[which % count];
                let offset = offset % shadow.len() as u64;
                let bytes = bytes.min(shadow.len() as u64 - offset);
                for page in offset / 4096..(offset + bytes).div_ceil(4096) {
                    guest.touch(*bo, page)?;
                }
                let data = vec![value; usize::try_from(bytes).unwrap()];
                shadow[range(offset, bytes)].copy_from_slice(&data);
                guest.machine.fail_call(None);
                guest.write(*bo, offset, &data)?;
            }
            Op::Fill {
                which,
                offset,
                bytes,
                pattern,
            } => {
                let (bo, shadow) = &mut live[which % count];
                let (offset, bytes) = clip(offset, bytes, shadow.len() as u64);
                guest.call(|a| a.fill(*bo, offset, bytes, pattern))?;
                for pixel in shadow[range(offset, bytes)].chunks_mut(4) {
                    pixel.copy_from_slice(&pattern.to_le_bytes());
                }
            }
            Op::Copy {
                from,
                to,
                from_offset,
                to_offset,
                bytes,
            } => {
                let (from, to) = (from % count, to % count);
                let (from_offset, bytes) = clip(from_offset, bytes, live[from].1.len() as u64);
                let (to_offset, bytes) = clip(to_offset, bytes, live[to].1.len() as u64);
                let (dst, src) = (live[to].0, live[from].0);
                guest.call(|a| a.copy(dst, to_offset, src, from_offset, bytes))?;
                let data = live[from].1[range(from_offset, bytes)].to_vec();
                live[to].1[range(to_offset, bytes)].copy_from_slice(&data);
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn every_bo_reads_what_its_shadow_says(ops in prop::collection::vec(op(), 1..60)) {
        let mut config = Config::new(Chip::Arise10c0, 256 * MIB, 16 * MIB, true).unwrap();
        config.vram_seed = None;
        let guest = Guest::new(&config).unwrap();
        let before = guest.adapter.segments();
        let mut world = World { guest, live: Vec::new() };
        for op in &ops {
            match world.apply(op) {
                Ok(()) | Err(Error::Invalid | Error::NoMemory) => {}
                Err(error) => {
                    let excused = world.guest.machine.has_failed() || world.guest.timeline().is_lost();
                    prop_assert!(excused, "{op:?}: {error}");
                }
            }
        }
        let World { mut guest, live } = world;
        guest.machine.fail_call(None);
        guest.machine.run();
        let lost = guest.timeline().is_lost();
        for (bo, shadow) in live {
            if !lost {
                prop_assert!(guest.read(bo, 0, shadow.len()).unwrap() == shadow, "{bo:?}");
            }
            guest.adapter.destroy(bo).unwrap();
        }
        guest.adapter.reap();
        if !lost {
            prop_assert_eq!(guest.adapter.segments(), before);
        }
        prop_assert_eq!(guest.machine.ram().violations(), Vec::<String>::new());
        let counters = guest.machine.gpu(|gpu| gpu.counters());
        prop_assert_eq!(counters.faults + counters.bus_errors + counters.ring_errors, 0);
        let machine = guest.unload().unwrap();
        prop_assert_eq!(machine.ram().owned(), 0);
    }
}
