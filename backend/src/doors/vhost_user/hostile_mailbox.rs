//! What a guest can do with its mailbox and the configuration space around it.

use e3k_regs::Reg;
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};

use super::Door;
use super::config_space::CONFIG_BYTES;
use super::tests::started_door;

/// All RAM of [`started_door`].
const RAM: usize = 0x1_0000;
const WORDS_AT: usize = 0x30;

/// A write of the driver, and what it has put in its memory before.
#[derive(Clone, Debug)]
struct Step {
    operation: [u8; 16],
    at: u64,
    mailbox: u64,
    doorbell: u32,
    offset: u32,
    bytes: usize,
}

fn any_step() -> impl Strategy<Value = Step> {
    let operation = (
        prop_oneof![8 => 1_u8..3, 1 => any::<u8>()],
        prop_oneof![8 => prop::sample::select(vec![1_u8, 2, 4, 8]), 1 => any::<u8>()],
        prop_oneof![
            // Nothing that makes the engine work.
            4 => prop::sample::select(vec![Reg::MemReady.offset(), Reg::EngineResetHigh.offset()]),
            1 => 0x0F_FFF0..u32::MAX,
        ],
        any::<u64>(),
    )
        .prop_map(|(op, width, offset, value)| {
            let mut raw = [0; 16];
            raw[0] = op;
            raw[1] = width;
            raw[4..8].copy_from_slice(&offset.to_le_bytes());
            raw[8..].copy_from_slice(&value.to_le_bytes());
            raw
        });
    let ram = RAM as u64;
    let at = 0..ram - 16 * 256;
    let elsewhere = prop_oneof![
        8 => Just(None),
        2 => (ram - 64..ram + 64).prop_map(Some),
        1 => any::<u64>().prop_map(Some),
        1 => (u64::MAX - 64..=u64::MAX).prop_map(Some),
    ];
    let doorbell =
        prop_oneof![6 => (0_u32..4, 0_u32..4).prop_map(|(seq, n)| seq << 8 | n), 1 => any::<u32>()];
    let whole = Just((0, CONFIG_BYTES));
    let range =
        prop_oneof![8 => whole, 1 => (0_u32..300, 0_usize..300), 1 => (any::<u32>(), 0_usize..300)];
    (operation, at, elsewhere, doorbell, range).prop_map(
        |(operation, at, elsewhere, doorbell, (offset, bytes))| Step {
            operation,
            at,
            mailbox: elsewhere.unwrap_or(at),
            doorbell,
            offset,
            bytes,
        },
    )
}

fn ram(door: &Door) -> Vec<u8> {
    let mut bytes = vec![0; RAM];
    let memory = door.memory.memory();
    memory.read_slice(&mut bytes, GuestAddress(0)).unwrap();
    bytes
}

/// Takes one step; the mailbox and the operations announced, if it was rung.
fn take(door: &Door, step: &Step) -> Option<(u64, u64)> {
    let before = *door.words.lock();
    let mut blob = [0xA5; CONFIG_BYTES + 300];
    blob[WORDS_AT..WORDS_AT + 8].copy_from_slice(&step.mailbox.to_le_bytes());
    blob[WORDS_AT + 8..WORDS_AT + 12].copy_from_slice(&step.doorbell.to_le_bytes());
    let start = (step.offset as usize).min(CONFIG_BYTES);
    let part = &blob[start..start + step.bytes];
    door.set_config(step.offset, part);
    let now = *door.words.lock();
    (now.doorbell != before.doorbell).then(|| (now.mailbox, u64::from(now.doorbell & 0xFF)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_only_a_rung_mailbox_gets_results(
        steps in prop::collection::vec(any_step(), 1..16),
    ) {
        let (gpu, door) = started_door();
        for step in steps {
            let memory = door.memory.memory();
            memory.write_slice(&step.operation, GuestAddress(step.at)).unwrap();
            let before = ram(&door);
            let operations = door.counters.operations.get();
            let rung = take(&door, &step);
            let run = door.counters.operations.get() - operations;
            prop_assert!(run <= rung.map_or(0, |(_, count)| count));
            let after = ram(&door);
            for (at, (old, new)) in (0_u64..).zip(before.iter().zip(&after)) {
                let written = rung.is_some_and(|(mailbox, count)| {
                    let into = at.wrapping_sub(mailbox);
                    at >= mailbox && (16 * count..32 * count).contains(&into)
                });
                prop_assert!(old == new || written, "{at:#x} was written");
            }
        }
        prop_assert!(!gpu.is_lost());
    }
}
