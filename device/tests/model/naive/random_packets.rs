//! Random packets: whole ones, nearly all of them possible.

use super::compare::PROCESSES;
use super::draw::FORMATS;
use super::program::{library, low};
use crate::rig::{BUFFERS_AT, SURFACES_AT, VRAM_BYTES};
use proptest::prelude::*;

/// Addresses of data: mapped, at the edges of what is mapped, and elsewhere.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => (0..0x50_u64).prop_map(|n| SURFACES_AT + n * 256),
        8 => (0..0x50_u64).prop_map(|n| VRAM_BYTES + n * 256),
        2 => (0..0x20_u64).prop_map(|n| VRAM_BYTES - 0x1000 + n * 256),
        3 => (0..0x50_u64).prop_map(|n| (1 << 32) + SURFACES_AT + n * 256),
        1 => (0..0x20_u64).prop_map(|n| (1 << 40) - 0x1000 + n * 256),
        1 => (1_u64 << 24..1 << 32).prop_map(|n| n * 256),
    ]
}

fn surface(rt: u32, format: u32, at: u64, width: u32, height: u32, mask: u32) -> Vec<u32> {
    let set = |word: u32| 4 << 28 | 6 << 23 | word << 10 | 3;
    let size = width | height << 15;
    let [base, misc] = [low(at >> 8), 1 | mask << 2 | 2 << 20];
    vec![
        set(0x18 + 3 * rt),
        base,
        1,
        1,
        set(0x30 + 3 * rt),
        format,
        size,
        misc,
    ]
}

/// The packet that starts it; only a blit has a source, and an offset in it.
fn sg(action: u32, x: u32, y: u32, offset: u32) -> Vec<u32> {
    let header = 9 << 28 | 6 << 23 | action << 16 | 0xA000;
    if action == 1 {
        let target_1 = 4 << 28 | 6 << 23 | 0x35 << 10 | 1;
        vec![target_1, 0, header | 2, x, y]
    } else {
        vec![header | 3, x, y, offset]
    }
}

/// A surface format, and its bytes a pixel.
fn format() -> impl Strategy<Value = (u32, u32)> {
    prop_oneof![2 => Just((89, 4)), 1 => prop::sample::select(&FORMATS)]
}

/// A blit (action 2) or clear (1) with both surfaces; few go beyond them, or
/// between formats.
fn drawing() -> impl Strategy<Value = Vec<u32>> {
    let action = prop_oneof![24 => 1..3_u32, 1 => 5..8_u32];
    let more = prop_oneof![24 => Just(0_u32), 1 => 0..3_u32];
    let sizes = (1..1600_u32, 1..10_u32, 0..100_u32, 0..8_u32);
    let colour = any::<[u32; 4]>();
    let mask = prop_oneof![8 => Just(0xf_u32), 1 => 0..16_u32];
    (
        address(),
        address(),
        action,
        sizes,
        (any::<[u32; 4]>(), colour, mask),
        more,
        (
            format(),
            prop_oneof![24 => Just(None), 1 => format().prop_map(Some)],
        ),
    )
        .prop_map(
            |(
                to,
                from,
                action,
                (width, height, dx, dy),
                (corners, colour, mask),
                more,
                (format, other),
            )| {
                let width = (width * 4 / format.1).max(1);
                let other = other.unwrap_or(format);
                let span = |a: u32, b: u32, end: u32| {
                    (a % end).min(b % end) | ((a % end).max(b % end) + more) << 16
                };
                let mut dwords = surface(0, format.0, to, width, height, mask);
                dwords.extend(surface(1, other.0, from, width + dx, height + dy, 0xf));
                dwords.push(4 << 28 | 6 << 23 | 0xC8 << 10 | 4);
                dwords.extend(colour);
                let [x, y] = [
                    span(corners[0], corners[1], width),
                    span(corners[2], corners[3], height),
                ];
                dwords.extend(sg(action, x, y, dx | dy << 16));
                dwords
            },
        )
}

/// Many pages of VRAM that follow each other, copied forwards, backwards or on
/// themselves, or filled; half of them in PA mode, where nothing faults.
fn large_drawing() -> impl Strategy<Value = Vec<u32>> {
    // Of at most 48 KiB.
    let size = prop_oneof![
        (Just(64_u32), 1..32_u32),
        (Just(1000), 1..12_u32),
        (Just(1024), 1..12_u32),
        (Just(4096), 1..4_u32),
    ];
    let distance = prop_oneof![0..0x20_u64, 0..0x200_u64];
    let place = (0..0x40_u64, distance, any::<bool>());
    let what = (1..3_u32, any::<[u32; 4]>(), any::<bool>(), format());
    (place, size, what).prop_map(
        |((at, distance, back), (width, height), (action, colour, in_pa_mode, (format, bytes)))| {
            let width = width * 4 / bytes;
            let near = SURFACES_AT + at * 256;
            let far = near + distance * 256;
            let [to, from] = if back { [near, far] } else { [far, near] };
            let mut dwords = if in_pa_mode {
                vec![4 << 28 | 12 << 23 | 1 << 10 | 1, 0]
            } else {
                vec![]
            };
            dwords.extend(surface(0, format, to, width, height, 0xf));
            dwords.extend(surface(1, format, from, width, height, 0xf));
            dwords.push(4 << 28 | 6 << 23 | 0xC8 << 10 | 4);
            dwords.extend(colour);
            dwords.extend(sg(action, (width - 1) << 16, (height - 1) << 16, 0));
            dwords
        },
    )
}

/// External fences of both sizes, copied or or-ed; few are out of place.
fn fence() -> impl Strategy<Value = Vec<u32>> {
    let or = prop_oneof![3 => Just(0_u32), 1 => Just(1 << 13)];
    let kind = prop_oneof![1 => Just(2_u32), 3 => Just(3)];
    let irq = prop_oneof![24 => 0..3_u32, 1 => Just(3)];
    let fields = (irq, kind, or).prop_map(|(irq, kind, or)| irq << 3 | kind << 5 | or);
    (address(), 0..32_u64, fields, any::<[u32; 2]>(), 0..24_u32).prop_map(
        |(at, place, fields, value, odd)| {
            let at = at + place * 8 + if odd == 0 { 2 } else { 0 };
            let value = &value[..if fields >> 5 & 3 == 2 { 1 } else { 2 }];
            let header = 8 << 28 | fields | low(value.len() as u64 + 2);
            [&[header, low(at), low(at >> 32)], value].concat()
        },
    )
}

/// An internal fence, and a wait that it may satisfy.
fn fence_and_wait() -> impl Strategy<Value = Vec<u32>> {
    let modes = prop_oneof![4 => Just(0_u32), 1 => 1..3_u32];
    let value =
        prop_oneof![3 => (0..4_u32).prop_map(|n| n + 7), 1 => any::<u16>().prop_map(u32::from)];
    (0..3_u32, 0..3_u32, value.clone(), value, modes, 0..4_u32).prop_map(
        |(slot, irq, value, wanted, mode, bits)| {
            let [or, equal] = [bits & 1, bits >> 1];
            vec![
                8 << 28 | or << 13 | slot << 7 | irq << 3 | 1,
                0xabcd << 16 | value,
                2 << 28 | slot << 22 | equal << 18 | mode << 16 | wanted,
            ]
        },
    )
}

fn indicator() -> impl Strategy<Value = Vec<u32>> {
    (0..5_u32, 0..16_u32, 0..24_u32).prop_map(|(info, process, rare)| {
        let process = if rare == 0 {
            process
        } else {
            process % PROCESSES
        };
        vec![9 << 28 | info << 17 | process << 13 | 1, 1]
    })
}

/// Registers to memory; the time, for a few. `offset`: the addresses are in a
/// context.
fn dump(offset: bool) -> impl Strategy<Value = Vec<u32>> {
    let from = prop_oneof![
        2 => (Just(0_u32), prop_oneof![0..0x40_u32, 0xe0..0x100_u32, 0x170..0x190_u32]),
        2 => (Just(12_u32), 0..0x30_u32),
        2 => (Just(6_u32), prop_oneof![0..0x100_u32, Just(0x1ff0_u32)]),
        2 => (Just(18_u32), prop_oneof![0..4_u32, Just(0x100_u32), Just(0xff0)]),
        1 => (Just(3_u32), 0..0x2000_u32),
    ];
    let words = prop_oneof![3 => 0..8_u32, 1 => 0..300_u32];
    (at(offset), from, words, 0..8_u32).prop_map(move |(at, (block, word), words, time)| {
        let header = 3 << 28 | block << 23 | u32::from(time == 0) << 21 | words << 7 | 2;
        let high = word << 19 | low(at >> 32);
        vec![header | u32::from(offset) << 20, low(at), high]
    })
}

/// Drawing registers, the flag buffer and the fault status from memory.
fn load(offset: bool) -> impl Strategy<Value = Vec<u32>> {
    let to = prop_oneof![
        6 => (Just(6_u32), prop_oneof![0x10..0x40_u32, 0xc0..0xd0_u32]),
        1 => (Just(12_u32), prop_oneof![Just(3_u32), Just(0xe), Just(0x1a)]),
        1 => (Just(3_u32), 0..0x100_u32),
    ];
    let words = prop_oneof![3 => 0..8_u32, 1 => 0..150_u32];
    (at(offset), to, words, 0..24_u32).prop_map(move |(at, (block, word), words, rare)| {
        // Of the crossbar's registers, one: those behind it are others.
        let words = if block == 12 { 1 } else { words };
        let physical = u32::from(rare == 0) << 9;
        vec![
            4 << 28 | block << 23 | word << 10 | 1 << 8 | u32::from(offset) << 7 | 2,
            low(at),
            words << 19 | physical | low(at >> 32),
        ]
    })
}

/// Where registers are moved from or to: in a context or anywhere.
fn at(offset: bool) -> BoxedStrategy<u64> {
    let odd = prop_oneof![24 => Just(0_u64), 1 => 1..4_u64];
    if offset {
        (0..0x1000_u64, odd)
            .prop_map(|(word, odd)| word * 4 + odd)
            .boxed()
    } else {
        (address(), 0..64_u64, odd)
            .prop_map(|(at, word, odd)| at + word * 4 + odd)
            .boxed()
    }
}

/// `Set_Register` with values or with a mask, where tables do not depend on it.
fn set_register() -> impl Strategy<Value = Vec<u32>> {
    let to = prop_oneof![
        1 => (prop_oneof![Just(3_u32), Just(7), Just(10), Just(0)], 0..64_u32),
        1 => (Just(6_u32), prop_oneof![0x18..0x40_u32, 0xc8..0xcc_u32]),
        // The fault status, its mask, what cannot be written, and plain storage.
        2 => (Just(12_u32), prop_oneof![Just(0xe_u32), Just(0xf), Just(0x10), Just(0x1a)]),
        1 => (Just(12_u32), prop_oneof![Just(5_u32), 9..0xb_u32, 0x15..0x19_u32]),
    ];
    let value = prop_oneof![Just(u32::MAX), any::<u32>()];
    (to, value, any::<u32>(), 0..3_u32).prop_map(|((block, word), value, mask, form)| {
        let header = 4 << 28 | block << 23 | word << 10;
        if form == 0 {
            vec![header | 1 << 9 | 2, value, mask]
        } else {
            vec![header | 1, value]
        }
    })
}

/// Compression flags.
fn clear_flags() -> impl Strategy<Value = Vec<u32>> {
    let count = prop_oneof![3 => 0..64_u32, 1 => 0..0x1_0000_u32];
    (0..0x5000_u64, count, any::<u8>(), any::<u32>()).prop_map(|(offset, count, values, mask)| {
        let header = 9 << 28 | 1 << 20 | count << 3 | 3;
        vec![
            header,
            low(SURFACES_AT + offset),
            u32::from(values) << 24,
            mask,
        ]
    })
}

/// One whole packet that every ring takes.
fn plain_packet() -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![
        2 => prop::collection::vec(any::<u32>(), 0..8)
            .prop_map(|skipped| [vec![u32::try_from(skipped.len()).unwrap()], skipped].concat()),
        6 => fence(),
        2 => fence_and_wait(),
        4 => indicator(),
    ]
}

/// One whole packet.
fn packet() -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![
        14 => plain_packet(),
        12 => drawing(),
        1 => large_drawing(),
        3 => (0..4_u32, 0..4_u32).prop_map(|(mode, n)| library_call(mode, n)),
        2 => dump(false),
        2 => load(false),
        2 => set_register(),
        1 => clear_flags(),
        // Cache commands, drawing state, compute, post-processing.
        1 => prop_oneof![
            prop_oneof![Just(6_u32), Just(8), Just(19), Just(11), Just(10)]
                .prop_map(|block| vec![9 << 28 | block << 23]),
            any::<[u32; 2]>().prop_map(|payload| vec![6 << 28 | 2, payload[0], payload[1]]),
            any::<u32>().prop_map(|payload| vec![0xB << 28 | 1, payload]),
            any::<u32>().prop_map(|payload| vec![0xC << 28 | 1, payload]),
            Just(vec![0xF << 28]),
            (2..5_u32).prop_map(|kind| vec![9 << 28 | kind << 20 | 2, 0, 0]),
        ],
        // An invalidation; a mode.
        1 => (0..4_u32, 0..16_u32, any::<[u32; 4]>()).prop_map(|(kind, process, payload)| {
            let header = 9 << 28 | 12 << 23 | process << 18 | kind << 12 | 4;
            [vec![header], payload.to_vec()].concat()
        }),
        1 => (0..2_u32).prop_map(|mode| vec![4 << 28 | 12 << 23 | 1 << 10 | 1, mode]),
        1 => malformed(),
    ]
}

/// One of a buffer with a context.
pub(super) fn packet_in_context() -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![2 => dump(true), 2 => load(true), 1 => plain_packet()]
}

/// One of a video ring.
fn video_packet() -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![
        12 => plain_packet(),
        2 => (4..6_u32, any::<u32>())
            .prop_map(|(opcode, value)| vec![opcode << 28 | 12 << 23 | 1 << 10 | 1, value]),
        1 => (0..32_u32).prop_map(|block| vec![9 << 28 | block << 23 | 2, 0, 0]),
        1 => (0..16_u32, any::<u32>()).prop_map(|(opcode, bits)| vec![opcode << 28 | bits >> 4]),
    ]
}

/// Calls buffer `n` of [`library`].
fn library_call(mode: u32, n: u32) -> Vec<u32> {
    let at = BUFFERS_AT + 0x3000 + u64::from(n) * 0x100;
    let len = u32::try_from(library()[n as usize].len()).unwrap();
    let mut call = vec![1 << 28 | mode << 26 | len, low(at), 0];
    call.extend((mode == 1 || mode == 2).then_some(0));
    call
}

/// What halts ring 0, whatever follows.
fn malformed() -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![
        prop_oneof![Just(5_u32), Just(7), Just(0xA), Just(0xD), Just(0xE)].prop_flat_map(
            |opcode| (0..1_u32 << 28).prop_map(move |bits| vec![opcode << 28 | bits])
        ),
        Just(vec![2 << 28 | 3 << 16]),          // an external wait
        Just(vec![8 << 28 | 1 << 5 | 1, 0]),    // fence type 1
        Just(vec![8 << 28 | 3 << 5 | 2, 0, 0]), // a fence without its value
        // What nothing has: Irq 3, Info 5 to 7, CSP commands, SG commands, blocks.
        Just(vec![8 << 28 | 3 << 3 | 1, 0]),
        (5..8_u32).prop_map(|info| vec![9 << 28 | info << 17 | 1, 0]),
        (5..8_u32).prop_map(|kind| vec![9 << 28 | kind << 20]),
        Just(vec![9 << 28 | 6 << 23 | 3 << 12]),
        (25..32_u32, prop_oneof![Just(3_u32), Just(4), Just(9)])
            .prop_map(|(block, opcode)| vec![opcode << 28 | block << 23]),
        // More dwords than the form has, or two forms.
        one_too_many(),
        Just(vec![9 << 28 | 12 << 23 | 3 << 12 | 1, 0]), // an invalidation without its mask
        Just(vec![9 << 28 | 6 << 23 | 2 << 16 | 0xA000 | 1, 0]), // a blit without its rows
        Just(vec![3 << 28 | 1, 0]),                      // a dump without its registers
        Just(vec![4 << 28 | 6 << 23 | 1 << 9 | 1, 0]),   // a mask left out
        Just(vec![4 << 28 | 6 << 23 | 1 << 8 | 1, 0]),   // half an address
        Just(vec![9 << 28 | 1 << 20 | 2, 0, 0]),         // flags without their mask
        (1..4_u32).prop_map(|odd| vec![1 << 28 | 5, low(BUFFERS_AT) + odd, 0]), // between dwords
        // A clear with another target; a clear by another unit.
        (0..8_u32, surfaces_and_clear()).prop_map(|(rt, dwords)| {
            let misc = 4 << 28 | 6 << 23 | (0x32 + 3 * rt) << 10 | 1;
            let [targets, clear] = [&dwords[..10], &dwords[10..]];
            [targets, &[misc, 0x20_003d], clear].concat()
        }),
        (0..4_u32, address()).prop_filter_map("the colour pipe", |(target, at)| {
            let sg = [9 << 28 | 6 << 23 | 1 << 16 | target << 14 | 0x2002, 0, 0];
            (target != 2).then(|| [surface(0, 89, at, 1, 1, 0xf), sg.to_vec()].concat())
        }),
        // Surfaces that are tiled, compressed, of another format, of more
        // layers, another type, or with effects.
        (0..8_usize, 6..20_u32, surfaces_and_clear()).prop_map(|(what, bit, mut dwords)| {
            let (at, bits) = [
                (7, 2),
                (5, 1 << 9),
                (5, 1),
                (2, 2),
                (3, 2),
                (3, 1 << 12),
                (7, 1 << 20),
                (7, 1 << bit),
            ][what];
            dwords[at] ^= bits;
            dwords
        }),
    ]
}

fn one_too_many() -> impl Strategy<Value = Vec<u32>> {
    let packets = [
        vec![8 << 28 | 2, 0, 0],
        vec![8 << 28 | 2 << 5 | 4, low(SURFACES_AT), 0, 1, 1],
        vec![8 << 28 | 3 << 5 | 5, low(SURFACES_AT), 0, 1, 1, 1],
        vec![9 << 28 | 2, 1, 1],
        vec![9 << 28 | 1 << 20 | 4, 0, 0, 0, 0],
        vec![9 << 28 | 2 << 20 | 3, 0, 0, 0],
        vec![9 << 28 | 12 << 23 | 5, 0, 0, 0, 0, 0],
        vec![9 << 28 | 12 << 23 | 3 << 12 | 5, 0, 0, 0, 0, 0],
        vec![3 << 28 | 3, 0, 0, 0],
        vec![4 << 28 | 6 << 23 | 1 << 8 | 3, 0, 0, 0],
        vec![4 << 28 | 6 << 23 | 1 << 9 | 3, 0, 0, 0],
        vec![4 << 28 | 6 << 23 | 3 << 8 | 2, 0, 0], // both forms
        vec![9 << 28 | 6 << 23 | 1 << 16 | 0xA000 | 3, 0, 0, 0],
        vec![9 << 28 | 6 << 23 | 2 << 16 | 0xA000 | 4, 0, 0, 0, 0],
    ];
    prop::sample::select(packets.to_vec())
}

fn surfaces_and_clear() -> impl Strategy<Value = Vec<u32>> {
    address().prop_map(|at| [surface(0, 89, at, 1, 1, 0xf), sg(1, 0, 0, 0)].concat())
}

pub(super) fn packets() -> impl Strategy<Value = Vec<u32>> {
    let indicator = (0..2 * PROCESSES).prop_map(|process| match process {
        0..PROCESSES => vec![9 << 28 | 3 << 17 | process << 13 | 1, 1],
        _ => vec![],
    });
    (indicator, prop::collection::vec(packet(), 1..6))
        .prop_map(|(indicator, packets)| [indicator, packets.concat()].concat())
}

/// Packets and a ring for them.
pub(super) fn batch() -> impl Strategy<Value = (usize, Vec<u32>)> {
    let video = prop::collection::vec(video_packet(), 1..6).prop_map(|packets| packets.concat());
    prop_oneof![
        8 => packets().prop_map(|packets| (0, packets)),
        2 => packets().prop_map(|packets| (9, packets)),
        2 => (7..9_usize, video),
    ]
}
