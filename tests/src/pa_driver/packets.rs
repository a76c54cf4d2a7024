//! Ring packets, dword by dword (hardware reference 10.2 to 10.13).

use super::board::split;

const CSP: u32 = 0;
const EU_FS: u32 = 3;
const TASFE: u32 = 4;
const FF: u32 = 6;
const IU: u32 = 7;
const WLS_FE: u32 = 8;
const TUFE: u32 = 10;
const L2: u32 = 11;
/// The internal fence counter of the kernel-mode driver (hardware reference 10.5).
const KMD_SLOT: u32 = 9;
/// Bytes between the registers that a context loads and the place where a
/// save stores them.
pub(super) const SAVE_AREA: u64 = 0x1000;
/// Registers of the FF block in a context, from its word 0.
const CONTEXT_WORDS: u32 = 0x100;

/// Called before, between and after the commands of a submission.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) at: u64,
    pub(super) dwords: u32,
}

/// What a submission does besides its commands (hardware reference 10.11).
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A context is restored before and saved behind: buffers, context base.
    Context {
        restore: Call,
        save: Call,
        base: u64,
    },
    /// Paging and presenting.
    Paging,
    /// Nothing but fences.
    FenceOnly,
}

/// A fence's address, and whether it interrupts.
pub(super) type Slot = (u64, bool);

fn address(at: u64) -> [u32; 2] {
    let [low, high] = split(at);
    [low, high & 0xff]
}

fn set_register(block: u32, word: u32, count: u32) -> u32 {
    4 << 28 | block << 23 | word << 10 | count
}

fn block_command(block: u32, rest: u32) -> u32 {
    9 << 28 | block << 23 | rest
}

fn indicator(info: u32) -> [u32; 2] {
    [block_command(CSP, info << 17 | 1), 1]
}

fn dma(mode: u32, call: Call) -> [u32; 3] {
    let [low, high] = address(call.at);
    [1 << 28 | mode << 26 | call.dwords, low, high]
}

fn context_dma(mode: u32, call: Call, base: u64) -> [u32; 4] {
    let [header, low, high] = dma(mode, call);
    [header, low, high, split(base >> 11)[0]]
}

/// External 64-bit fence behind `route`.
fn fence(route: u32, (at, interrupt): Slot, id: u64) -> [u32; 5] {
    let [low, high] = address(at);
    let [id_low, id_high] = split(id);
    let header = 8 << 28 | route << 24 | 3 << 5 | u32::from(interrupt) << 3 | 4;
    [header, low, high, id_low, id_high]
}

fn internal_fence(value: u32) -> [u32; 2] {
    [8 << 28 | KMD_SLOT << 7 | 1, 1 << 16 | value]
}

fn wait(value: u32) -> u32 {
    2 << 28 | KMD_SLOT << 22 | value
}

fn pad(packet: &mut Vec<u32>, dwords: usize) {
    packet.resize(packet.len().next_multiple_of(dwords), 0);
}

/// The submission packet: 72 dwords, padded to 80 (hardware reference 10.11).
pub(super) fn submission(
    kind: Kind,
    commands: Call,
    flush: Call,
    fences: [Slot; 6],
    id: u64,
) -> Vec<u32> {
    let mut packet = indicator(3).to_vec();
    packet.extend([0; 5]);
    match kind {
        Kind::Context { restore, base, .. } => {
            packet.extend([0; 4]); // no slice switch
            packet.extend(context_dma(2, restore, base));
            packet.extend([0; 4]); // no dump for the hang tool
        }
        Kind::Paging => packet.extend([0; 12]),
        Kind::FenceOnly => packet.extend([0; 22]),
    }
    if !matches!(kind, Kind::FenceOnly) {
        packet.extend(dma(0, commands));
        packet.extend(dma(3, flush));
    }
    match kind {
        Kind::Context { save, base, .. } => packet.extend(context_dma(1, save, base)),
        Kind::Paging => packet.extend([3, 0, 0, 0]),
        Kind::FenceOnly => {}
    }
    for slot in fences {
        packet.extend(fence(2, slot, id));
    }
    packet.extend([0; 11]);
    packet.extend(indicator(0));
    pad(&mut packet, 16);
    packet
}

/// A submission to a video core: back end, then front end. VPP (`route` 9)
/// has one fence only.
pub(super) fn video_submission(vpp: bool, slots: [Slot; 2], id: u64) -> Vec<u32> {
    let mut packet = Vec::new();
    if vpp {
        packet.extend(fence(9, slots[0], id));
    } else {
        packet.extend(fence(1, slots[0], id));
        packet.extend(fence(0, slots[1], id));
    }
    pad(&mut packet, 16);
    packet
}

/// The first submission on ring 0, with a context restored from `context`:
/// 64 dwords, no fence (hardware reference 10.11).
pub(super) fn first_submission(context: u64) -> Vec<u32> {
    let mut packet = indicator(3).to_vec();
    packet.extend([0; 8]);
    for block in [EU_FS, TUFE, WLS_FE, CSP, L2] {
        let value = if block == CSP { u32::MAX } else { 0 };
        packet.extend([set_register(block, 0, 1), value]);
    }
    let start = packet.len();
    let [low, high] = address(context);
    packet.extend([block_command(CSP, 3 << 20 | 2), low, high]);
    for block in [FF, EU_FS, TUFE, WLS_FE, IU, TASFE, L2, EU_FS, TUFE] {
        // Registers from memory.
        packet.extend([
            set_register(block, 0, 2) | 1 << 8,
            low,
            CONTEXT_WORDS << 19 | high,
        ]);
    }
    packet.extend(internal_fence(0x10));
    packet.extend([wait(0x10), wait(0x10)]);
    packet.resize(start + 36, 0);
    packet.extend(indicator(0));
    pad(&mut packet, 16);
    packet
}

/// Loads a context's registers; addresses count from the context base.
pub(super) fn restore_buffer() -> Vec<u32> {
    let load = set_register(FF, 0, 2) | 1 << 8 | 1 << 7;
    let mut buffer = vec![block_command(CSP, 3 << 20 | 1 << 19 | 2), 0, 0];
    buffer.extend([load, 0, CONTEXT_WORDS << 19]);
    buffer.extend(internal_fence(0x10));
    buffer.push(wait(0x10));
    buffer
}

/// Stores a context's registers [`SAVE_AREA`] behind its base.
pub(super) fn save_buffer() -> Vec<u32> {
    let [area, _] = split(SAVE_AREA);
    let mut buffer = vec![
        3 << 28 | FF << 23 | 1 << 20 | CONTEXT_WORDS << 7 | 2,
        area,
        0,
    ];
    buffer.extend([block_command(CSP, 2 << 20 | 1 << 19 | 2), 0, 0]);
    for value in [0x21, 0x22] {
        buffer.extend(internal_fence(value));
        buffer.push(wait(value));
    }
    buffer
}

/// The cache flush behind every submission: 65 dwords.
pub(super) fn flush_buffer() -> Vec<u32> {
    let mut buffer = vec![
        block_command(FF, 0),
        block_command(FF, 1 << 12),
        block_command(WLS_FE, 0),
        block_command(19, 0),
        block_command(L2, 4 << 12),
        block_command(L2, 0),
        block_command(EU_FS, 0),
        block_command(TUFE, 0),
    ];
    for value in 0x31..=0x38 {
        buffer.extend(internal_fence(value));
        buffer.push(wait(value));
    }
    buffer.resize(65, 0);
    buffer
}

/// A linear surface of 4-byte pixels: dwords 0 to 7 of 10.12.
fn surface(target: u32, at: u64, [width, height]: [u32; 2]) -> [u32; 8] {
    [
        set_register(FF, 0x18 + 3 * target, 3),
        split(at >> 8)[0],
        1,
        1,
        set_register(FF, 0x30 + 3 * target, 3),
        89,
        height << 15 | width,
        2 << 20 | 0xf << 2 | 1,
    ]
}

/// Splits a linear range into rectangles: rows of 64 KiB, then the rest as
/// one row (hardware reference 10.12). Offset, and width and height in pixels.
pub(super) fn rectangles(bytes: u64) -> Vec<(u64, [u32; 2])> {
    const ROW: u64 = 16384 * 4;
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < bytes {
        let rows = ((bytes - at) / ROW).min(16384);
        let [rest, _] = split((bytes - at) / 4);
        let [rows32, _] = split(rows);
        pieces.push((at, if rows > 0 { [16384, rows32] } else { [rest, 1] }));
        at += if rows > 0 { rows * ROW } else { bytes - at };
    }
    pieces
}

/// The blits that copy a range: 42 dwords each. The size is a multiple of 4,
/// the addresses of 256.
pub(super) fn copy(to: u64, from: u64, bytes: u64) -> Vec<u32> {
    let pieces = rectangles(bytes).into_iter();
    pieces
        .flat_map(|(at, size)| blit(to + at, from + at, size))
        .collect()
}

fn blit(to: u64, from: u64, size: [u32; 2]) -> Vec<u32> {
    let [width, height] = size;
    let mut packet = surface(0, to, size).to_vec();
    packet.extend(surface(1, from, size));
    for (block, word) in [
        (FF, 0x48),
        (IU, 1),
        (TASFE, 0),
        (FF, 4),
        (FF, 5),
        (FF, 0x4A),
    ] {
        packet.extend([set_register(block, word, 1), 0]);
    }
    packet.extend([set_register(FF, 0xB0, 3), 0, 0, 0]);
    packet.push(block_command(FF, 2 << 16 | 2 << 14 | 2 << 12 | 3));
    packet.extend([(width - 1) << 16, (height - 1) << 16, 0]);
    packet.extend([block_command(FF, 0), block_command(FF, 1 << 12)]);
    packet.extend([0; 4]);
    packet
}

/// The fast clears that fill a range: 44 dwords each.
pub(super) fn fill(at: u64, bytes: u64, pattern: u32) -> Vec<u32> {
    let pieces = rectangles(bytes).into_iter();
    pieces
        .flat_map(|(offset, size)| clear(at + offset, size, pattern))
        .collect()
}

fn clear(at: u64, size: [u32; 2], pattern: u32) -> Vec<u32> {
    let [width, height] = size;
    let mut packet = surface(0, at, size).to_vec();
    for target in 1..=7 {
        packet.extend([set_register(FF, 0x32 + 3 * target, 1), 0]);
    }
    packet.extend([set_register(FF, 0x4A, 1), 1 << 28]);
    for (block, word) in [(FF, 0x48), (IU, 1), (TASFE, 0), (FF, 4), (FF, 5)] {
        packet.extend([set_register(block, word, 1), 0]);
    }
    packet.extend([0, 0]);
    packet.push(set_register(FF, 0xC8, 4));
    packet.extend([pattern; 4]);
    packet.push(block_command(FF, 1 << 16 | 2 << 14 | 2 << 12 | 2));
    packet.extend([(width - 1) << 16, (height - 1) << 16]);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Call = Call {
        at: 0x1_2345_6780,
        dwords: 7,
    };
    const SLOTS: [Slot; 6] = [(8, true); 6];

    #[test]
    fn packets_have_the_lengths_of_the_reference() {
        assert_eq!(copy(0, 256, 65536).len() * 4, 168);
        assert_eq!(fill(0, 65536, 7).len() * 4, 176);
        assert_eq!(flush_buffer().len(), 65);
        assert_eq!(first_submission(0).len(), 64);
        let context = Kind::Context {
            restore: CALL,
            save: CALL,
            base: 0x4000,
        };
        for kind in [context, Kind::Paging, Kind::FenceOnly] {
            let packet = submission(kind, CALL, CALL, SLOTS, 5);
            assert_eq!(packet.len(), 80, "{kind:?}");
            assert_eq!(packet[0x74 / 4], 0x8200_006C, "the first fence");
            assert_eq!(packet[0x118 / 4], 0x9000_0001, "the end");
            assert_eq!(packet[72..], [0; 8]);
        }
        let packet = submission(context, CALL, CALL, SLOTS, 5);
        assert_eq!(packet[0x2C / 4], 0x1800_0007, "restore");
        assert_eq!(packet[0x4C / 4..][..3], [0x1000_0007, 0x2345_6780, 1]);
        assert_eq!(packet[0x64 / 4 + 3], 8, "context base");
    }

    #[test]
    fn the_example_of_the_reference_is_one_blit_of_126_rows_and_one_of_9216_pixels() {
        let wanted = [(0, [16384, 126]), (0x7E_0000, [9216, 1])];
        assert_eq!(rectangles(8_294_400), wanted);
    }
}
