//! Saved states: what is restored goes on as the original would, and what is
//! damaged is refused.

use crate::programs::{program, rig_with};
use crate::random::{run, state};
use crate::rig::{BUFFERS_AT, Rig, SURFACES_AT, copy, fill, noise};
use crate::tables::vram;
use presil_device::{
    Chip, Config, DtlbShape, Gpu, GpuVa, LargePage, MmuOptions, OnFault, RestoreError, UtlbSize,
};
use proptest::prelude::*;
use std::ops::Range;

/// Bytes before the blocks: magic, version, length.
const HEAD: usize = 20;

pub(crate) fn saved(gpu: &Gpu) -> Vec<u8> {
    let mut state = vec![];
    gpu.save(&mut state).unwrap();
    state
}

fn fork(rig: &Rig) -> Rig {
    rig.restored(&saved(&rig.gpu)).unwrap()
}

/// Fails unless both are in the same state in every way that can be seen.
fn assert_same(one: &mut Rig, two: &mut Rig, raised_before: usize) {
    let [a, b] = [&one.gpu, &two.gpu];
    assert!(saved(a) == saved(b), "different states");
    assert_eq!(a.counters(), b.counters());
    assert!(a.unmet_waits().eq(b.unmet_waits()));
    let mut one = state(one);
    one.interrupts.drain(..raised_before);
    assert!(one == state(two));
}

fn mmu() -> impl Strategy<Value = MmuOptions> {
    let on_fault = prop_oneof![
        Just(OnFault::Report),
        Just(OnFault::Halt),
        Just(OnFault::Retry)
    ];
    (on_fault, any::<bool>(), any::<bool>()).prop_map(|(on_fault, small, strict_utlb)| MmuOptions {
        utlb: UtlbSize::new(if small { 2 } else { 32 }).unwrap(),
        strict_utlb,
        dtlb: DtlbShape::new(if small { 1 } else { 64 }, 3).unwrap(),
        large_page: LargePage::Leaf4M,
        on_fault,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_restored_gpu_goes_on_as_the_saved_one_would(
        mmu in mmu(), before in program(), budget in 0..9000_u32, after in program(),
    ) {
        let mut original = rig_with(mmu);
        original.gpu.set_clock(77);
        run(&mut original, &before);
        original.gpu.step(budget);
        let mut restored = fork(&original);
        prop_assert_eq!(saved(&restored.gpu), saved(&original.gpu));
        let raised = original.line.raised();
        for rig in [&mut original, &mut restored] {
            run(rig, &after);
            rig.gpu.set_clock(99);
        }
        assert_same(&mut original, &mut restored, raised);
    }

    /// With the checksum made right, so that only the contents can be refused.
    #[test]
    fn a_forged_state_is_refused_or_panics_nowhere(
        before in program(), budget in 0..9000_u32, after in program(),
        forgeries in prop::collection::vec((any::<prop::sample::Index>(), number()), 1..3),
    ) {
        // Small TLBs: more of the numbers matter.
        let mut rig = rig_with(MmuOptions {
            utlb: UtlbSize::new(2).unwrap(),
            dtlb: DtlbShape::new(1, 3).unwrap(),
            ..MmuOptions::default()
        });
        run(&mut rig, &before);
        rig.gpu.step(budget);
        let mut forged = saved(&rig.gpu);
        for (index, number) in &forgeries {
            let numbers = numbers(&forged);
            forge(&mut forged, numbers[index.index(numbers.len())].clone(), number);
        }
        if let Ok(mut rig) = rig.restored(&forged) {
            run(&mut rig, &after);
            rig.gpu.step(1 << 20);
        }
    }
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(u64::MAX.to_string()),
        Just(u32::MAX.to_string()),
        Just("65535".into()),
        Just("-1".into()),
        (0..300_u32).prop_map(|n| n.to_string()),
        any::<u32>().prop_map(|n| n.to_string()),
    ]
}

/// Length of the blocks.
fn blocks_len(state: &[u8]) -> usize {
    let length = u64::from_le_bytes(state[12..HEAD].try_into().unwrap());
    usize::try_from(length).unwrap()
}

/// Where the numbers in the blocks are.
fn numbers(state: &[u8]) -> Vec<Range<usize>> {
    let end = HEAD + blocks_len(state);
    let mut at = HEAD;
    let mut found = vec![];
    for run in state[HEAD..end].chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit()) {
        if run[0].is_ascii_digit() {
            found.push(at..at + run.len());
        }
        at += run.len();
    }
    found
}

/// Replaces a part of the blocks, and makes length and checksum right.
fn forge(state: &mut Vec<u8>, range: Range<usize>, by: &str) {
    let length = blocks_len(state) + by.len() - range.len();
    state.splice(range, by.bytes());
    state[12..HEAD].copy_from_slice(&(length as u64).to_le_bytes());
    seal(state);
}

/// Where a text is for the first time.
fn found(state: &[u8], text: &str) -> Range<usize> {
    let mut parts = state.windows(text.len());
    let start = parts.position(|part| part == text.as_bytes());
    let start = start.unwrap_or_else(|| panic!("no {text}"));
    start..start + text.len()
}

/// Where the number of a member of the blocks is.
fn member(state: &[u8], name: &str) -> Range<usize> {
    let name = format!("\"{name}\":");
    let start = found(state, &name).end;
    let numbers = numbers(state);
    numbers
        .into_iter()
        .find(|number| number.start == start)
        .expect(&name)
}

pub(crate) fn seal(state: &mut [u8]) {
    let (contents, sum) = state.split_last_chunk_mut::<4>().unwrap();
    *sum = crc32fast::hash(contents).to_le_bytes();
}

/// A state of every kind of block that is short: no TLBs, one page of VRAM.
fn short_state() -> (Rig, Vec<u8>) {
    let mut rig = Rig::with_mmu(MmuOptions {
        utlb: UtlbSize::OFF,
        dtlb: DtlbShape::OFF,
        ..MmuOptions::default()
    });
    rig.submit(|w| w.fence(GpuVa(1 << 39), 1, false));
    rig.queue(|w| w.fence(GpuVa(BUFFERS_AT), 1, false));
    let state = saved(&rig.gpu);
    (rig, state)
}

#[test]
fn work_in_flight_is_finished_by_the_restored_gpu() {
    type Work = fn(&mut Rig);
    let works: [(&str, Work); 2] = [
        ("fill", |rig| {
            rig.queue(|w| fill(w, SURFACES_AT, 4096, 8, 0x1234_5678));
        }),
        ("copy", |rig| {
            rig.put(vram(SURFACES_AT), &noise(1, 1 << 17));
            rig.queue(|w| copy(w, SURFACES_AT, SURFACES_AT + (1 << 17), 4096, 8));
        }),
    ];
    for (name, work) in works {
        let mut original = Rig::new();
        work(&mut original);
        original.gpu.step(10_000);
        let counters = original.gpu.counters();
        assert!(
            counters.bytes_filled + counters.bytes_copied > 0,
            "{name} has begun"
        );
        assert!(original.gpu.has_work(), "{name} is in flight");
        let mut restored = fork(&original);
        original.run();
        restored.run();
        assert_eq!(
            restored.gpu.counters().fills + restored.gpu.counters().copies,
            1
        );
        assert_same(&mut original, &mut restored, 0);
    }
}

#[test]
fn an_access_that_waits_for_its_tables_waits_in_the_restored_gpu() {
    let mut original = Rig::with_mmu(MmuOptions {
        on_fault: OnFault::Retry,
        ..MmuOptions::default()
    });
    original.enter_va_mode();
    let far = 1 << 33;
    original.queue(|w| w.fence(GpuVa(far), 0x77, false));
    original.gpu.step(1 << 20);
    let mut restored = fork(&original);
    assert!(!restored.gpu.has_work());
    restored.map(0, far, vram(SURFACES_AT));
    restored.set(0x49038, u32::MAX);
    restored.run();
    assert_eq!(restored.load_u64(vram(SURFACES_AT)), 0x77);
}

#[test]
fn a_pending_interrupt_is_pending_and_not_raised_twice() {
    let mut original = Rig::new();
    original.enable_interrupts();
    original.submit(|w| w.fence(GpuVa(BUFFERS_AT), 1, true));
    let mut restored = fork(&original);
    assert!(restored.gpu.interrupt_pending());
    assert_eq!(restored.line.raised(), 0);
    restored.gpu.latch_interrupts();
    restored.submit(|w| w.fence(GpuVa(BUFFERS_AT), 2, true));
    assert_eq!(restored.line.raised(), 1);
}

#[test]
fn only_pages_with_contents_are_saved() {
    let config = Config::new(Chip::E3k, 64 << 30, 1 << 30, true).unwrap();
    let rig = Rig::with_config(&config);
    let empty = saved(&rig.gpu).len();
    rig.put(vram((64 << 30) - 4096), &[0; 4096]);
    assert_eq!(saved(&rig.gpu).len(), empty, "zeros");
    rig.put(vram((64 << 30) - 4096), &[7]);
    rig.put(vram((33 << 30) + 4090), &[7; 10]);
    let state = saved(&rig.gpu);
    assert_eq!(state.len(), empty + 3 * 4096 + 2 * 16);
    let restored = rig.restored(&state).unwrap();
    assert_eq!(
        restored.get(vram((33 << 30) + 4089), 12),
        [&[0][..], &[7; 10], &[0]].concat()
    );
    assert_eq!(restored.get(vram((64 << 30) - 4096), 2), [7, 0]);
}

#[test]
fn a_state_that_ends_anywhere_too_early_is_refused() {
    let (rig, state) = short_state();
    for len in 0..state.len() {
        let error = rig.restored(&state[..len]).err();
        assert!(
            matches!(error, Some(RestoreError::Truncated)),
            "{len}: {error:?}"
        );
    }
    assert!(rig.restored(&state).is_ok());
}

#[test]
fn a_state_with_a_flipped_bit_anywhere_is_refused() {
    let (rig, mut state) = short_state();
    for at in 0..state.len() {
        for bit in 0..8 {
            state[at] ^= 1 << bit;
            assert!(rig.restored(&state).is_err(), "byte {at}, bit {bit}");
            state[at] ^= 1 << bit;
        }
    }
    assert!(rig.restored(&state).is_ok());
}

#[test]
fn what_is_behind_a_state_is_left_in_the_reader() {
    let (rig, mut state) = short_state();
    state.extend(b"rest");
    let mut from = &*state;
    Gpu::restore(Box::new(rig.line.clone()), &mut from).unwrap();
    assert_eq!(from, b"rest");
}

#[test]
fn a_foreign_or_newer_file_is_named_as_such() {
    let (rig, state) = short_state();
    let refused = |at: usize, bytes: &[u8]| {
        let mut state = state.clone();
        state[at..at + bytes.len()].copy_from_slice(bytes);
        seal(&mut state);
        rig.restored(&state).err().unwrap().to_string()
    };
    assert!(refused(0, b"QEVM").starts_with("this is no saved GPU"));
    assert_eq!(
        refused(8, &[7]),
        "the saved state has format 7; this presil reads only format 6"
    );
}

#[test]
fn lengths_that_are_not_there_take_no_memory() {
    let (rig, state) = short_state();
    for (length, wanted) in [(u64::MAX, "expected at most"), (64 << 20, "ends too early")] {
        let mut state = state.clone();
        state[12..HEAD].copy_from_slice(&length.to_le_bytes());
        seal(&mut state);
        let error = rig.restored(&state).err().unwrap().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

/// Each of these would make the model panic or hang later.
#[test]
fn what_the_model_relies_on_is_checked() {
    let mut rig = Rig::with_mmu(MmuOptions {
        dtlb: DtlbShape::new(1, 3).unwrap(),
        ..MmuOptions::default()
    });
    rig.reg(0x1000);
    rig.queue(|w| fill(w, SURFACES_AT, 4096, 8, 1));
    rig.gpu.step(10_000);
    assert!(rig.gpu.has_work());
    let state = saved(&rig.gpu);
    let max = u32::MAX.into();
    let cases = [
        ("vram_bytes", 1, "VRAM"),
        ("visible_bytes", 3, "power of two"),
        ("utlb_entries", 3, "power of two"),
        ("dtlb_sets", 3, "power of two"),
        ("dtlb_ways", 17, "ways"),
        ("reads", u64::MAX, "reads, expected at most"),
        ("packets", u64::MAX, "counter"),
        ("total", u64::MAX, "records, expected at most"),
        ("current", 10, "expected 10"),
        ("turn", u64::MAX, "a turn of"),
        ("pixel_bytes", 3, "a pixel of 3 bytes"),
        ("base", 1, "no registers say"),
        ("base", 1 << 40, "no registers say"),
        ("width", max, "no registers say"),
        ("height", 1, "outside its rectangle or surfaces"),
        ("at_x", max, "outside its rectangle or surfaces"),
        ("at_y", 8, "outside its rectangle or surfaces"),
    ];
    for (name, value, told) in cases {
        let mut forged = state.clone();
        let place = member(&forged, name);
        forge(&mut forged, place, &value.to_string());
        let error = rig.restored(&forged).err();
        assert!(
            matches!(&error, Some(RestoreError::Unsound { what }) if what.contains(told)),
            "{name} = {value}: {error:?}"
        );
    }
    let lists = [
        (r#""words":["#, "[262144,1],", "word 262144, expected"),
        (r#""ttbr":["#, "[4096,1],", "L1 register 4096, expected"),
        (r#""next":["#, "[1,1]", "set 1, expected"),
        (r#""next":["#, "[0,3]", "way 3 of the shared TLB"),
        (
            r#""lines":["#,
            &format!(
                r#"{{"process_id":0,"va":0,"way":3,"entries":{:?}}}"#,
                [0; 16]
            ),
            "way 3 of the shared TLB",
        ),
        (
            r#""utlb":["#,
            r#"{"client":"Fence","process_id":0,"va":0,"entry":0}"#,
            "that is not valid",
        ),
        (
            r#""calls":["#,
            r#"{"at":0,"dwords":0,"context":null}"#,
            "ring 0: an empty buffer",
        ),
        (
            r#""calls":["#,
            &[r#"{"at":0,"dwords":1,"context":null}"#; 3].join(","),
            "ring 0: 3 buffers call each other",
        ),
        (r#""slots":["#, "[32,1]", "ring 0: fence slot 32"),
        (r#""rings":["#, "", "9 rings"),
        (r#""power":"#, r#"0,"more":"#, "unknown field `more`"),
    ];
    for (place, by, told) in lists {
        let mut forged = state.clone();
        let start = found(&forged, place).end;
        if by.is_empty() {
            let second = found(&forged[start..], r#"{"address""#);
            let end = start + 1 + found(&forged[start + 1..], r#"{"address""#).start;
            assert_eq!(second.start, 0);
            forge(&mut forged, start..end, by);
        } else {
            let ends = forged[start] == b']';
            let by = by.trim_end_matches(if ends { ',' } else { ' ' });
            forge(&mut forged, start..start, by);
        }
        let error = rig.restored(&forged).err().map(|error| error.to_string());
        assert!(
            error.as_ref().is_some_and(|error| error.contains(told)),
            "{place} with {by}: {error:?}"
        );
    }
}

#[test]
fn flags_are_not_cleared_farther_than_a_packet_can_say() {
    let mut rig = Rig::new();
    rig.queue(|w| crate::rig::push_all(w, &[9 << 28 | 1 << 20 | 0x1_ffff << 3 | 3, 0, 0, 0]));
    rig.gpu.step(0);
    let state = saved(&rig.gpu);
    let place = member(&state, "end");
    assert_eq!(state[place.clone()], *b"131071");
    for (end, sound) in [
        ("131071", true),
        ("131072", false),
        ("1099511627776", false),
    ] {
        let mut forged = state.clone();
        forge(&mut forged, place.clone(), end);
        assert_eq!(rig.restored(&forged).is_ok(), sound, "{end}");
    }
}

#[test]
fn pieces_of_vram_that_cannot_be_are_refused() {
    let (rig, state) = short_state();
    let first = HEAD + blocks_len(&state);
    let cases: [(u64, u64); 6] = [
        (1, 4096),
        (0, 4095),
        (0, u64::MAX),
        (u64::MAX - 4095, 4096),
        (256 << 20, 4096),
        (0, (1 << 20) + 4096),
    ];
    for (offset, length) in cases {
        let mut state = state.clone();
        state[first..first + 8].copy_from_slice(&offset.to_le_bytes());
        state[first + 8..first + 16].copy_from_slice(&length.to_le_bytes());
        seal(&mut state);
        let error = rig.restored(&state).err();
        assert!(
            matches!(error, Some(RestoreError::Extent { .. })),
            "{offset:#x} + {length:#x}: {error:?}"
        );
    }
}

#[test]
fn a_page_of_vram_comes_once() {
    let (rig, mut state) = short_state();
    let first = HEAD + blocks_len(&state);
    let piece = state[first..first + 16 + 4096].to_vec();
    state.splice(first..first, piece);
    seal(&mut state);
    let error = rig.restored(&state).err();
    assert!(
        matches!(error, Some(RestoreError::Extent { .. })),
        "{error:?}"
    );
}

#[test]
fn a_writer_that_fails_fails_the_save() {
    let (rig, state) = short_state();
    for room in [0, HEAD, state.len() - 1] {
        let mut small = vec![0; room];
        assert!(rig.gpu.save(&mut &mut *small).is_err(), "{room}");
    }
}
