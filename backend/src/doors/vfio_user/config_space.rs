//! Configuration space: a table of reset values and write masks, and what its
//! bits mean to the rest of the door. What no line of the table names reads 0
//! and takes no writes.

use presil_device::Config;

use crate::doors::pci::Identity;

/// Bytes of the configuration space of a PCI Express function; those from
/// [`HEADER_BYTES`] on are empty.
pub(super) const CONFIG_BYTES: u64 = 4096;
/// Bytes that the table describes.
const HEADER_BYTES: usize = 256;
/// Bytes of BAR0.
pub(super) const BAR0_BYTES: u32 = e3k_regs::register::BAR0_BYTES;

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const POWER: usize = 0x40;
const POWER_CONTROL: usize = POWER + 4;
/// The MSI capability, whose first 8 bytes BAR0 mirrors at 0x8048.
pub(super) const MSI: usize = 0x48;
const EXPRESS: usize = 0x60;
const DEVICE_CONTROL: usize = EXPRESS + 8;

const COMMAND_IO: u32 = 1;
const COMMAND_MEMORY: u8 = 1 << 1;
const COMMAND_MASTER: u8 = 1 << 2;
/// Of the command's second byte.
const COMMAND_NO_INTX: u8 = 1 << 2;
/// Memory, bus master, parity, SERR, interrupt disable.
const COMMAND_MASK: u32 = 0x0546;
const STATUS_INTERRUPT: u8 = 1 << 3;
const STATUS_CAPABILITIES: u32 = 1 << 4;
const MSI_64_BIT: u32 = 1 << 7;
const MSI_ENABLE: u8 = 1;
/// Of device control's second byte.
const FUNCTION_RESET: u8 = 1 << 7;
const POWER_STATE: u8 = 3;
const D3: u8 = 3;
const BAR_64_BIT_PREFETCHABLE: u32 = 0xC;
/// Role-based error reporting and function-level reset.
const DEVICE_CAPABILITIES: u32 = 1 << 15 | 1 << 28;
/// Relaxed ordering, no-snoop, reads of up to 512 bytes.
const DEVICE_CONTROL_RESET: u32 = 0x2810;
/// Error reporting, relaxed ordering, payload size, no-snoop, read size.
const DEVICE_CONTROL_MASK: u32 = 0x78FF;
/// 8 GT/s (3) and sixteen lanes, as capability and status say it.
const LINK: u32 = 16 << 4 | 3;
/// 2.5, 5 and 8 GT/s.
const LINK_SPEEDS: u32 = 0b1110;
/// ASPM, completion boundary, common clock, extended synch.
const LINK_CONTROL_MASK: u32 = 0x00CB;

/// One line of the table: a field, its value after reset and the bits that
/// software may change.
struct Field {
    at: usize,
    bytes: usize,
    reset: u32,
    mask: u32,
}

const fn fixed(at: usize, bytes: usize, value: u32) -> Field {
    Field {
        at,
        bytes,
        reset: value,
        mask: 0,
    }
}

const fn field(at: usize, bytes: usize, reset: u32, mask: u32) -> Field {
    Field {
        at,
        bytes,
        reset,
        mask,
    }
}

fn table(config: &Config, identity: Identity) -> [Field; 31] {
    let [low, high] = e3k_regs::packet::halves(!(config.visible_bytes - 1));
    let class = identity.class.code();
    let io = if identity.class.has_legacy_io() {
        COMMAND_IO
    } else {
        0
    };
    let (subsystem_vendor, subsystem) = identity.subsystem(config.chip);
    [
        fixed(0x00, 2, config.chip.vendor_id().into()),
        fixed(0x02, 2, config.chip.device_id().into()),
        field(COMMAND, 2, 0, COMMAND_MASK | io),
        fixed(STATUS, 2, STATUS_CAPABILITIES),
        fixed(0x08, 4, class << 8),
        field(0x0C, 1, 0, 0xFF), // Cache line size.
        field(0x10, 4, 0, !(BAR0_BYTES - 1)),
        field(0x14, 4, BAR_64_BIT_PREFETCHABLE, low),
        field(0x18, 4, 0, high),
        fixed(0x2C, 2, subsystem_vendor.into()),
        fixed(0x2E, 2, subsystem.into()),
        fixed(0x34, 1, 0x40),
        field(0x3C, 1, 0, 0xFF), // Interrupt line.
        fixed(0x3D, 1, 1),       // INTA.
        // Power management, version 3: D0 and D3hot, and D3hot to D0 is a reset.
        fixed(POWER, 2, 0x4801),
        fixed(POWER + 2, 2, 3),
        field(POWER_CONTROL, 2, 0, u32::from(POWER_STATE)),
        // MSI: one vector, 64-bit address.
        fixed(MSI, 2, 0x6005),
        field(MSI + 2, 2, MSI_64_BIT, u32::from(MSI_ENABLE)),
        field(MSI + 4, 4, 0, !3),
        field(MSI + 8, 4, 0, !0),
        field(MSI + 12, 2, 0, 0xFFFF),
        // PCI Express, version 2: an endpoint.
        fixed(EXPRESS, 2, 0x0010),
        fixed(EXPRESS + 2, 2, 2),
        fixed(EXPRESS + 4, 4, DEVICE_CAPABILITIES),
        field(DEVICE_CONTROL, 2, DEVICE_CONTROL_RESET, DEVICE_CONTROL_MASK),
        fixed(EXPRESS + 0x0C, 4, LINK),
        field(EXPRESS + 0x10, 2, 0, LINK_CONTROL_MASK),
        fixed(EXPRESS + 0x12, 2, LINK),
        fixed(EXPRESS + 0x2C, 4, LINK_SPEEDS),
        fixed(EXPRESS + 0x30, 2, 3), // Target speed.
    ]
}

/// Where interrupts go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Route {
    /// Nowhere: disabled, no bus master, or in D3.
    #[default]
    Off,
    Msi,
    Intx,
}

/// What a write has asked for, apart from the bits that it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Nothing.
    Bits,
    /// A function-level reset.
    FunctionReset,
    /// The way from D3hot to D0, which resets the function, too.
    PowerUp,
}

/// The configuration space of one function.
pub(super) struct ConfigSpace {
    bytes: [u8; HEADER_BYTES],
    resets: [u8; HEADER_BYTES],
    masks: [u8; HEADER_BYTES],
}

impl ConfigSpace {
    pub(super) fn new(config: &Config, identity: Identity) -> Self {
        let mut resets = [0; HEADER_BYTES];
        let mut masks = [0; HEADER_BYTES];
        for line in table(config, identity) {
            let place = line.at..line.at + line.bytes;
            let raw = line
                .reset
                .to_le_bytes()
                .into_iter()
                .zip(line.mask.to_le_bytes());
            for (at, (reset, mask)) in place.zip(raw) {
                if let (Some(to_reset), Some(to_mask)) = (resets.get_mut(at), masks.get_mut(at)) {
                    *to_reset = reset;
                    *to_mask = mask;
                }
            }
        }
        Self {
            bytes: resets,
            resets,
            masks,
        }
    }

    /// As after power-on.
    pub(super) fn reset(&mut self) {
        self.bytes = self.resets;
    }

    /// Fills `buf` from byte `offset` on; what lies outside reads 0.
    /// `interrupt` is whether the interrupt line is up.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8], interrupt: bool) {
        for (byte, at) in buf.iter_mut().zip(offset..) {
            *byte = self.byte(at);
            if interrupt && at == STATUS as u64 && self.route() != Route::Msi {
                *byte |= STATUS_INTERRUPT;
            }
        }
    }

    /// Writes from byte `offset` on, where the table lets it.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> Written {
        let was_down = !self.is_powered();
        let mut written = Written::Bits;
        for (value, at) in data.iter().zip(offset..) {
            let Ok(at) = usize::try_from(at) else { break };
            let (Some(byte), Some(mask)) = (self.bytes.get_mut(at), self.masks.get(at)) else {
                break;
            };
            // D1 and D2 do not exist: the write ends well and changes nothing.
            if at == POWER_CONTROL && !matches!(value & POWER_STATE, 0 | D3) {
                continue;
            }
            *byte = *byte & !mask | value & mask;
            if at == DEVICE_CONTROL + 1 && value & FUNCTION_RESET != 0 {
                written = Written::FunctionReset;
            }
        }
        if was_down && self.is_powered() {
            written = Written::PowerUp;
        }
        written
    }

    fn byte(&self, at: u64) -> u8 {
        let at = usize::try_from(at).ok();
        at.and_then(|at| self.bytes.get(at)).copied().unwrap_or(0)
    }

    /// Whether it is in D0.
    pub(super) fn is_powered(&self) -> bool {
        self.byte(POWER_CONTROL as u64) & POWER_STATE == 0
    }

    fn command(&self) -> u8 {
        self.byte(COMMAND as u64)
    }

    /// Whether the BARs answer.
    pub(super) fn memory_enabled(&self) -> bool {
        self.is_powered() && self.command() & COMMAND_MEMORY != 0
    }

    /// Whether the function may use the machine's memory.
    pub(super) fn bus_master(&self) -> bool {
        self.is_powered() && self.command() & COMMAND_MASTER != 0
    }

    /// Where interrupts go.
    pub(super) fn route(&self) -> Route {
        let msi = self.byte(MSI as u64 + 2) & MSI_ENABLE != 0;
        let intx = self.byte(COMMAND as u64 + 1) & COMMAND_NO_INTX == 0;
        match (msi, intx) {
            _ if !self.is_powered() => Route::Off,
            (true, _) if self.bus_master() => Route::Msi,
            (false, true) => Route::Intx,
            _ => Route::Off,
        }
    }
}

#[cfg(test)]
mod tests {
    use presil_device::Chip;
    use proptest::prelude::*;

    use super::*;
    use crate::doors::pci::Class;

    /// What docs/pci-function.md says of each word: its value after reset and
    /// the bits that software may change.
    fn documented() -> Vec<(u32, u32)> {
        let page = include_str!("../../../../docs/pci-function.md");
        let (_, behind) = page.split_once("```config\n").unwrap();
        let (block, _) = behind.split_once("```").unwrap();
        let mut words = vec![(0, 0); HEADER_BYTES / 4];
        for line in block.lines() {
            let (numbers, _) = line.split_once('#').unwrap();
            let numbers: Vec<u32> = numbers
                .split_whitespace()
                .map(|word| u32::from_str_radix(word.trim_start_matches("0x"), 16).unwrap())
                .collect();
            let [at, reset, mask] = *numbers else {
                panic!("not three numbers: {line}");
            };
            words[usize::try_from(at / 4).unwrap()] = (reset, mask);
        }
        words
    }

    fn space() -> ConfigSpace {
        let config = Config::new(Chip::Arise10c0, 1 << 30, 512 << 20, false).unwrap();
        ConfigSpace::new(&config, Identity::default())
    }

    fn whole(space: &ConfigSpace) -> Vec<u8> {
        let mut all = vec![0; usize::try_from(CONFIG_BYTES).unwrap()];
        space.read(0, &mut all, false);
        all
    }

    proptest! {
        #[test]
        fn a_write_changes_what_is_writable_and_nothing_else(
            writes in prop::collection::vec((0..CONFIG_BYTES, prop::collection::vec(any::<u8>(), 1..9)), 1..40)
        ) {
            let masks: Vec<u8> = documented()
                .iter()
                .flat_map(|(_, mask)| mask.to_le_bytes())
                .chain([0; 4096])
                .collect();
            let mut space = space();
            for (offset, data) in writes {
                let before = whole(&space);
                space.write(offset, &data);
                for (at, (old, new)) in (0_u64..).zip(before.iter().zip(whole(&space))) {
                    let written = at
                        .checked_sub(offset)
                        .and_then(|place| data.get(usize::try_from(place).ok()?));
                    let mask = if written.is_some() { masks[usize::try_from(at).unwrap()] } else { 0 };
                    let wanted = old & !mask | written.unwrap_or(&0) & mask;
                    // D1 and D2 cannot be entered.
                    let unsupported = at == 0x44 && matches!(wanted, 1 | 2);
                    prop_assert_eq!(new, if unsupported { *old } else { wanted }, "{:#x}", at);
                }
            }
        }

        #[test]
        fn pieces_of_any_size_read_the_same(offset in 0..CONFIG_BYTES, bytes in 1_usize..300) {
            let space = space();
            let mut piece = vec![0xEE; bytes];
            space.read(offset, &mut piece, false);
            let mut expected = whole(&space);
            expected.resize(8192, 0);
            let start = usize::try_from(offset).unwrap();
            prop_assert_eq!(&piece, &expected[start..start + bytes]);
        }
    }

    #[test]
    fn the_reset_values_are_those_of_the_documentation() {
        let all = whole(&space());
        let (header, rest) = all.split_at(HEADER_BYTES);
        let words = header
            .as_chunks()
            .0
            .iter()
            .map(|raw| u32::from_le_bytes(*raw));
        let documented = documented().into_iter().map(|(reset, _)| reset);
        for ((is, documented), at) in words.zip(documented).zip((0..).step_by(4)) {
            assert_eq!(is, documented, "{at:#x}");
        }
        assert!(rest.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn bars_are_sized_as_software_does_it() {
        for (visible, low, high) in [
            (1 << 20, 0xFFF0_000C, 0xFFFF_FFFF),
            (512 << 20, 0xE000_000C, 0xFFFF_FFFF),
            (4 << 30, 0x0000_000C, 0xFFFF_FFFF),
        ] {
            let config = Config::new(Chip::Arise10c0, 8 << 30, visible, false).unwrap();
            let mut space = ConfigSpace::new(&config, Identity::default());
            space.write(0x10, &[0xFF; 24]);
            let mut bars = [0; 24];
            space.read(0x10, &mut bars, false);
            let words: Vec<u32> = bars
                .as_chunks()
                .0
                .iter()
                .map(|raw| u32::from_le_bytes(*raw))
                .collect();
            assert_eq!(words, [0xFFF0_0000, low, high, 0, 0, 0]);
            space.write(0x30, &[0xFF; 4]);
            space.read(0x30, &mut bars[..4], false);
            assert_eq!(bars[..4], [0; 4], "no ROM");
        }
    }

    #[test]
    fn the_table_has_no_two_lines_for_a_byte() {
        let config = Config::new(Chip::Arise10c0, 1 << 30, 1 << 20, false).unwrap();
        let mut taken = [false; HEADER_BYTES];
        for line in table(&config, Identity::default()) {
            for byte in &mut taken[line.at..line.at + line.bytes] {
                assert!(!std::mem::replace(byte, true), "{:#x}", line.at);
            }
        }
    }

    #[test]
    fn interrupts_go_where_configuration_space_says() {
        let mut space = space();
        assert_eq!(space.route(), Route::Intx);
        space.write(0x4A, &[0x81]);
        assert_eq!(space.route(), Route::Off, "no bus master");
        space.write(0x04, &[4]);
        assert_eq!(space.route(), Route::Msi);
        space.write(0x44, &[3]);
        assert_eq!(space.route(), Route::Off, "D3");
        assert_eq!(space.write(0x44, &[0]), Written::PowerUp);
        space.write(0x4A, &[0x80]);
        space.write(0x04, &[0, 4]);
        assert_eq!(space.route(), Route::Off, "interrupt disable");
    }

    #[test]
    fn a_vga_has_io_enable_and_its_class() {
        let config = Config::new(Chip::Arise10c0, 1 << 30, 1 << 20, false).unwrap();
        let identity = Identity {
            class: Class::Vga,
            subsystem: None,
        };
        let mut space = ConfigSpace::new(&config, identity);
        space.write(0x04, &[0xFF]);
        assert_eq!(whole(&space)[4], 0x47);
        assert_eq!(whole(&space)[8..12], [0, 0, 0, 3]);
    }
}
