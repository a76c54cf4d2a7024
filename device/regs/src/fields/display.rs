//! What answers of the displays: counters, and the lines to monitors (hardware
//! reference 7.4 and 7.5).

use crate::layout::layout;

layout! {
    /// The first word of a display (hardware reference 7.4).
    DisplayFrame(u32) {
        /// Frames; wraps.
        frame: u16 [16],
        /// A line counter.
        line: u16 [16],
    }

    /// The second word of a display: the place of the beam, from the start of
    /// the vertical and the horizontal sync (hardware reference 7.4).
    DisplayPosition(u32) {
        /// The line.
        line: u16 [16],
        /// The pixel in it.
        pixel: u16 [16],
    }

    /// A serial port for a monitor's I2C bus (hardware reference 7.5). The lines
    /// are open drain and have pull-ups.
    SerialPort(u8) {
        /// 0 drives the clock low.
        clock: bool [1],
        /// 0 drives data low.
        data: bool [1],
        /// The clock, as read from the line.
        clock_line: bool [1],
        /// Data, as read from the line.
        data_line: bool [1],
        /// The port drives its lines.
        enable: bool [1],
        /// Nobody says what; stored.
        other: u8 [3],
    }
}
