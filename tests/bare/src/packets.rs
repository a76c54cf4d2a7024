//! The packets of docs/programming.md, section 4.

const ROW_PIXELS: usize = 16384;
const ROW_BYTES: usize = ROW_PIXELS * 4;

pub(crate) const INDICATOR_ON: [u32; 2] = [0x9006_0001, 1];
pub(crate) const INDICATOR_OFF: [u32; 2] = [0x9000_0001, 1];

fn low(value: u64) -> u32 {
    u32::try_from(value & 0xFFFF_FFFF).unwrap_or(0)
}

fn address(at: u64) -> [u32; 2] {
    [low(at), low(at >> 32)]
}

pub(crate) fn call(at: u64, dwords: usize) -> [u32; 3] {
    let [low_half, high] = address(at);
    [0x1000_0000 + low(dwords as u64), low_half, high]
}

/// A fence with an interrupt.
pub(crate) fn fence(at: u64, value: u32) -> [u32; 5] {
    let [low_half, high] = address(at);
    [0x8200_006C, low_half, high, value, 0]
}

/// Offset, width and height of the rectangles that a linear range is.
fn rectangles(bytes: usize) -> Vec<(usize, u32, u32)> {
    let rows = bytes / ROW_BYTES;
    let rest = bytes % ROW_BYTES / 4;
    let number = |value: usize| low(value as u64);
    let whole = (rows > 0).then(|| (0, number(ROW_PIXELS), number(rows)));
    let end = (rest > 0).then(|| (rows * ROW_BYTES, number(rest), 1));
    whole.into_iter().chain(end).collect()
}

fn surface(place: u32, shape: u32, at: u64, width: u32, height: u32) -> [u32; 8] {
    let place_words = [place, low(at >> 8), 1, 1];
    let shape_words = [shape, 89, width + (height << 15), 0x0020_003D];
    let mut packet = [0; 8];
    packet[..4].copy_from_slice(&place_words);
    packet[4..].copy_from_slice(&shape_words);
    packet
}

fn surface_0(at: u64, width: u32, height: u32) -> [u32; 8] {
    surface(0x4300_6003, 0x4300_C003, at, width, height)
}

fn range(pixels: u32) -> u32 {
    (pixels - 1) << 16
}

/// Fills `bytes`, a multiple of 4, from `at`, a multiple of 256.
pub(crate) fn fill(at: u64, bytes: usize, colour: [u32; 4]) -> Vec<u32> {
    let mut packets = Vec::new();
    for (offset, width, height) in rectangles(bytes) {
        packets.extend(surface_0(at + offset as u64, width, height));
        packets.extend([0x4300_D401, 0, 0x4303_2004]);
        packets.extend(colour);
        packets.extend([0x9301_A002, range(width), range(height)]);
    }
    packets
}

/// Copies `bytes`, a multiple of 4; both addresses are multiples of 256.
pub(crate) fn copy(to: u64, from: u64, bytes: usize) -> Vec<u32> {
    let mut packets = Vec::new();
    for (offset, width, height) in rectangles(bytes) {
        let offset = offset as u64;
        packets.extend(surface_0(to + offset, width, height));
        packets.extend(surface(
            0x4300_6C03,
            0x4300_CC03,
            from + offset,
            width,
            height,
        ));
        packets.extend([0x9302_A003, range(width), range(height), 0]);
    }
    packets
}
