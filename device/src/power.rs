//! The power handshake (hardware reference 9.3). Every state is reached at
//! once; nothing is powered off.

use e3k_regs::Reg;
use e3k_regs::fields::{PowerDoorbell, PowerState};

/// Codes of the states E0 to E5.
const STATES: [u8; 6] = [0x00, 0x10, 0x12, 0x22, 0x24, 0x44];
const DONE: u8 = 0x22;
const FAILED: u8 = 0x33;

#[derive(Debug, Default)]
pub(crate) struct Power {
    state: PowerState,
}

impl Power {
    pub(crate) fn save(&self) -> PowerState {
        let Self { state } = *self;
        state
    }

    pub(crate) fn restore(state: PowerState) -> Self {
        Self { state }
    }

    pub(crate) fn read_register(&self, reg: Reg) -> Option<u32> {
        match reg {
            Reg::PowerState => Some(self.state.into_bits()),
            Reg::PowerDoorbell => Some(0),
            _ => None,
        }
    }

    pub(crate) fn write_register(&mut self, reg: Reg, value: u32) -> bool {
        match reg {
            // Which state the chip is in is the chip's to say.
            Reg::PowerState => {
                self.state = PowerState::from_bits(value).with_current(self.state.current());
            }
            Reg::PowerDoorbell => {
                if PowerDoorbell::from_bits(value).ring() {
                    self.request();
                }
            }
            _ => return false,
        }
        true
    }

    fn request(&mut self) {
        let requested = self.state.requested();
        self.state = if STATES.contains(&requested) {
            self.state.with_current(requested).with_handshake(DONE)
        } else {
            self.state.with_handshake(FAILED)
        };
    }
}
