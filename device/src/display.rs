//! The displays, of which there is only what a driver waits for: frames and the
//! place of the beam by the GPU's clock, and the lines to monitors that are not
//! there (hardware reference 7.4 and 7.5). Nothing here has a state of its own.

use crate::defect::Defect;
use crate::watch::Onlooker;
use e3k_regs::Reg;
use e3k_regs::fields::{DisplayFrame, DisplayPosition, SerialPort};

/// Nanoseconds of a frame: 60 Hz.
const FRAME_NS: u64 = 16_666_667;
/// Lines and pixels of a frame with its blanks, and the lines of the picture
/// with those before it, from the start of the sync: 1920 x 1080 as CEA-861
/// times it (sync and back porch 5 + 36 lines).
const LINES: u64 = 1125;
const PIXELS: u64 = 2200;
const PICTURE: std::ops::Range<u16> = 41..41 + 1080;

/// How many frames have ended at a time in nanoseconds.
pub(crate) fn frame(clock: u64) -> u64 {
    clock / FRAME_NS
}

/// When the frame that goes on at a time ends.
pub(crate) fn frame_end(clock: u64) -> u64 {
    (frame(clock) + 1).saturating_mul(FRAME_NS)
}

/// Where the beam is: the line and the pixel, from the start of their syncs. A
/// frame begins with its sync, when the last one signals its end.
#[expect(
    clippy::cast_possible_truncation,
    reason = "below the lines and pixels of a frame"
)]
fn beam(clock: u64) -> (u16, u16) {
    let place = clock % FRAME_NS * (LINES * PIXELS) / FRAME_NS;
    ((place / PIXELS) as u16, (place % PIXELS) as u16)
}

/// What a register of the displays reads; `stored` is what was written to it.
/// Without `running` displays all stands at 0. `None` for other registers.
pub(crate) fn read_register(
    watch: impl Onlooker,
    (reg, index): (Reg, u32),
    stored: u32,
    clock: u64,
    running: bool,
) -> Option<u32> {
    Some(match reg {
        Reg::SerialPort1 | Reg::SerialPort2 | Reg::SerialPort3 | Reg::SerialPort5 => {
            serial_port(stored)
        }
        Reg::Display1
        | Reg::Display2
        | Reg::Display3
        | Reg::Display4
        | Reg::Display1Blank
        | Reg::Display2Blank
            if !running =>
        {
            0
        }
        Reg::Display1 | Reg::Display2 | Reg::Display3 | Reg::Display4 if index == 0 => {
            frame_word(clock, watch)
        }
        Reg::Display1 | Reg::Display2 | Reg::Display3 | Reg::Display4 => {
            let (line, pixel) = beam(clock);
            let word = DisplayPosition::new().with_line(line).with_pixel(pixel);
            word.into_bits()
        }
        Reg::Display1Blank | Reg::Display2Blank => {
            if PICTURE.contains(&beam(clock).0) {
                0
            } else {
                0xff
            }
        }
        _ => return None,
    })
}

#[expect(clippy::cast_possible_truncation, reason = "the counter wraps")]
fn frame_word(clock: u64, watch: impl Onlooker) -> u32 {
    let frame = if watch.bends(Defect::FramesStandStill) {
        0
    } else {
        frame(clock) as u16
    };
    let word = DisplayFrame::new().with_frame(frame);
    word.with_line(beam(clock).0).into_bits()
}

/// A line is low only while the port is enabled and drives it low: no monitor
/// does.
fn serial_port(stored: u32) -> u32 {
    let port = SerialPort::from_bits(stored.to_le_bytes()[0]);
    let port = port
        .with_clock_line(!port.enable() || port.clock())
        .with_data_line(!port.enable() || port.data());
    port.into_bits().into()
}
