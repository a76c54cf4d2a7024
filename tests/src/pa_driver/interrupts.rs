//! Turning interrupts on and off (hardware reference 7.2, 7.3).

use super::Result;
use super::board::Board;

/// BIU sources that have a handler: displays and audio.
const BIU_SOURCES: u32 = 0x5D63_019D;
/// Video cores' errors and hangs, and the fence.
const ADVANCED_SOURCES: u32 = 0x0800_00FF;

pub(super) fn enable(board: &mut Board) -> Result<()> {
    board.write(0x8508, BIU_SOURCES);
    board.write(0x854C, ADVANCED_SOURCES);
    let gate = board.read_byte(0x8AA0);
    board.write_byte(0x8AA0, gate | 1);
    board.write(0x8574, 0);
    if board.read(0x804C) != 0 && board.read(0x8048) >> 16 & 1 == 0 {
        board.write(0x8574, 0);
        let control = board.read(0x8048);
        board.write(0x8048, control | 1 << 16);
    }
    match (board.read(0x8508), board.read(0x854C)) {
        (BIU_SOURCES, ADVANCED_SOURCES) => Ok(()),
        (biu, advanced) => Err(format!("interrupt enables read {biu:#x} and {advanced:#x}")),
    }
}

pub(super) fn disable(board: &mut Board) {
    board.write(0x8508, 0);
    board.write(0x854C, 0);
    let gate = board.read_byte(0x8AA0);
    board.write_byte(0x8AA0, gate & !1);
    board.write(0x8574, 0);
}
