//! Every offset and bit position against literals typed from the hardware
//! reference, independent of the declarations.

use e3k_regs::Reg;
use e3k_regs::addr::GpuVa;
use e3k_regs::chip::{Chip, MemoryChannels};
use e3k_regs::fields::{
    AdapterControl, AdvancedInterrupts, BiuInterrupts, EngineReset, FaultClient, FaultStatus0,
    InvalidateAddress, InvalidateTrigger, MmuMode, RingAddress, RingWord, TlbTarget, TopBusy,
};
use e3k_regs::packet::{
    self, CspCommand, Dma, Fence, Range, RtFormat, RtMisc, RtSize, SetRegister, SgCommand, Skip,
    SourceOffset, Wait, Writer, ff,
};
use e3k_regs::pte::{L2Entry, L3Entry, L3Entry64K, Ttbr};
use e3k_regs::register::{BAR0_BYTES, REGISTERS, Word};

/// (name, first byte offset, width, how many, last byte offset, reset, access,
/// section, trust), sections 1 to 10.
#[rustfmt::skip]
type Row = (&'static str, u32, u8, u32, u32, u32, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const MAP: &[Row] = &[
    ("MSI_CONTROL",             0x08048, 4,    1, 0x08048, 0,           "RW",      "7.3",  "I"),
    ("MSI_ADDRESS",             0x0804C, 4,    1, 0x0804C, 0,           "RO",      "7.3",  "I"),
    ("DISPLAY1",                0x08220, 4,    2, 0x08224, 0,           "RO",      "7.4",  "D"),
    ("DISPLAY2",                0x08230, 4,    2, 0x08234, 0,           "RO",      "7.4",  "D"),
    ("VGA_PORT",                0x083C0, 1,   32, 0x083DF, 0,           "RW",      "3",    "H"),
    ("BIU_RAW",                 0x08504, 4,    1, 0x08504, 0,           "RO",      "7.1",  "D"),
    ("BIU_ENABLE",              0x08508, 4,    1, 0x08508, 0,           "RW",      "7.1",  "D"),
    ("ENGINE_RESET",            0x08524, 4,    1, 0x08524, 0,           "RW",      "9.1",  "D"),
    ("ADVANCED_RAW",            0x08548, 4,    1, 0x08548, 0,           "RO",      "7.1",  "D"),
    ("ADVANCED_ENABLE",         0x0854C, 4,    1, 0x0854C, 0,           "RW",      "7.1",  "D"),
    ("BIU_SHADOW",              0x08574, 4,    1, 0x08574, 0,           "trigger", "7.1",  "D"),
    ("ADVANCED_SHADOW",         0x08578, 4,    1, 0x08578, 0,           "RO",      "7.1",  "D"),
    ("ENGINE_RESET_HIGH",       0x085B4, 4,    1, 0x085B4, 0,           "RW",      "9.1",  "H"),
    ("DISPLAY1_BLANK",          0x08834, 1,    1, 0x08834, 0xFF,        "RO",      "7.4",  "U"),
    ("POSTED",                  0x08852, 1,    1, 0x08852, 0x0A,        "RW",      "2",    "D"),
    ("SERIAL_PORT1",            0x088A0, 1,    1, 0x088A0, 0x0C,        "RW",      "7.5",  "I"),
    ("SERIAL_PORT2",            0x088AA, 1,    1, 0x088AA, 0x0C,        "RW",      "7.5",  "I"),
    ("DISPLAY2_BLANK",          0x08934, 1,    1, 0x08934, 0xFF,        "RO",      "7.4",  "U"),
    ("SERIAL_PORT3",            0x089C5, 1,    2, 0x089C6, 0x0C,        "RW",      "7.5",  "I"),
    ("SERIAL_PORT5",            0x089F8, 1,    1, 0x089F8, 0x0C,        "RW",      "7.5",  "I"),
    ("CLOCK_GATES",             0x08A01, 1,    1, 0x08A01, 0,           "RW",      "9.3",  "D"),
    ("BACKDOOR_BASE",           0x08A6C, 4,    1, 0x08A6C, 0,           "RW",      "1.5",  "D"),
    ("BACKDOOR_CONTROL",        0x08A70, 4,    1, 0x08A70, 0,           "RW",      "1.5",  "D"),
    ("DEVICE_BYTE",             0x08A80, 1,    4, 0x08A83, 0,           "RO",      "3",    "U"),
    ("ADAPTER_CONTROL",         0x08AA0, 1,    1, 0x08AA0, 0,           "RW",      "7.1",  "D"),
    ("ENGINE_RESET_BYTE",       0x08AA3, 1,    4, 0x08AA6, 0,           "RW",      "9.1",  "U"),
    ("MIU0_SCRAMBLE_PATTERN",   0x0D300, 4,   28, 0x0D36C, 0,           "RW",      "8.4",  "U"),
    ("MEM_READY",               0x0D370, 4,    1, 0x0D370, 0xDEAD_BEAF, "RO",      "2",    "D"),
    ("MEM_CHANNELS",            0x0D374, 4,    1, 0x0D374, 0,           "RO",      "2",    "D"),
    ("MIU0_RANGE",              0x0D390, 4,   24, 0x0D3EC, 0,           "RW",      "8.4",  "D"),
    ("MIU0_SCRAMBLE_ENABLE",    0x0D3F0, 4,    1, 0x0D3F0, 0,           "RW",      "8.4",  "D"),
    ("MIU1_SCRAMBLE_PATTERN",   0x0E300, 4,   28, 0x0E36C, 0,           "RW",      "8.4",  "U"),
    ("MIU1_RANGE",              0x0E390, 4,   24, 0x0E3EC, 0,           "RW",      "8.4",  "U"),
    ("MIU1_SCRAMBLE_ENABLE",    0x0E3F0, 4,    1, 0x0E3F0, 0,           "RW",      "8.4",  "U"),
    ("MIU2_SCRAMBLE_PATTERN",   0x0F300, 4,   28, 0x0F36C, 0,           "RW",      "8.4",  "U"),
    ("MIU2_RANGE",              0x0F390, 4,   24, 0x0F3EC, 0,           "RW",      "8.4",  "U"),
    ("MIU2_SCRAMBLE_ENABLE",    0x0F3F0, 4,    1, 0x0F3F0, 0,           "RW",      "8.4",  "U"),
    ("TOP_BUSY",                0x30000, 4,    1, 0x30000, 0,           "RO",      "9.2",  "D"),
    ("GPC_BUSY",                0x30004, 4,    6, 0x30018, 0,           "RO",      "9.2",  "D"),
    ("RING",                    0x3001C, 4,   28, 0x30088, 0,           "RW",      "10.1", "D"),
    ("CSP_TIMESTAMP",           0x300A4, 4,    2, 0x300A8, 0,           "RO",      "9.4",  "D"),
    ("CSP_TIMESTAMP_1020",      0x300B4, 4,    2, 0x300B8, 0,           "RO",      "9.4",  "D"),
    ("L1_DMA",                  0x303B8, 4,    1, 0x303B8, 0,           "RO",      "9.4",  "D"),
    ("L2_DMA",                  0x303BC, 4,    1, 0x303BC, 0,           "RO",      "9.4",  "D"),
    ("RING_COMMAND",            0x303C0, 4,   10, 0x303E4, 0,           "RO",      "9.4",  "D"),
    ("PWR_MGR_CFG_EN",          0x303F4, 4,    1, 0x303F4, 0,           "RW",      "9.3",  "D"),
    ("PWR_MGR_WAIT_CNT",        0x303F8, 4,    1, 0x303F8, 0,           "RW",      "9.3",  "D"),
    ("PWR_MGR_STATUS0",         0x303FC, 4,    1, 0x303FC, 0,           "RO",      "9.3",  "H"),
    ("VIDEO_RING",              0x30600, 4,   12, 0x3062C, 0,           "RW",      "10.1", "D"),
    ("VIDEO_BUSY",              0x30630, 4,    1, 0x30630, 0,           "RO",      "9.2",  "D"),
    ("DISPLAY3",                0x34014, 4,    2, 0x34018, 0,           "RO",      "7.4",  "D"),
    ("DISPLAY4",                0x34714, 4,    2, 0x34718, 0,           "RO",      "7.4",  "D"),
    ("MMU_MODE",                0x49004, 4,    1, 0x49004, 0,           "RW",      "4.6",  "D"),
    ("BL_SIZE",                 0x4900C, 4,    1, 0x4900C, 0,           "RW",      "8.4",  "D"),
    ("PROC_SEC",                0x49014, 4,    1, 0x49014, 0,           "RW",      "8.4",  "D"),
    ("PT_INV_ADDR",             0x49018, 4,    1, 0x49018, 0,           "RW",      "5",    "D"),
    ("PT_INV_MASK",             0x4901C, 4,    1, 0x4901C, 0,           "RW",      "5",    "D"),
    ("PT_INV_TRIG",             0x49020, 4,    1, 0x49020, 0,           "trigger", "5",    "D"),
    ("CHANNEL_CONTROL",         0x49024, 4,    1, 0x49024, 0,           "RW",      "8.4",  "D"),
    ("DEC_CTRL",                0x49028, 4,    1, 0x49028, 0,           "RW",      "8.4",  "D"),
    ("MXU_INT_STATUS",          0x49038, 4,    1, 0x49038, 0,           "W1C",     "6",    "H"),
    ("MXU_INT_MASK",            0x4903C, 4,    1, 0x4903C, 0,           "RW",      "6",    "H"),
    ("PAGE_FAULT_STATUS0",      0x49040, 4,    1, 0x49040, 0,           "RO",      "6",    "H"),
    ("PAGE_FAULT_STATUS1",      0x49044, 4,    1, 0x49044, 0,           "RO",      "6",    "H"),
    ("MEM_ADDR_FOR_PAGE_FAULT", 0x49048, 4,    1, 0x49048, 0,           "RO",      "6",    "H"),
    ("LEVEL_1_FAULT_PAGE_ADDR", 0x4904C, 4,    1, 0x4904C, 0,           "RO",      "6",    "H"),
    ("LEVEL_2_FAULT_PAGE_ADDR", 0x49050, 4,    1, 0x49050, 0,           "RO",      "6",    "H"),
    ("RB_FL2",                  0x49054, 4,    3, 0x4905C, 0,           "RW",      "8.4",  "D"),
    ("ARGUMENT_FL2",            0x49060, 4,    1, 0x49060, 0,           "RW",      "8.4",  "D"),
    ("PAGE_FAULT_LEVEL",        0x49068, 4,    1, 0x49068, 0,           "RO",      "6",    "H"),
    ("PENDING_BUF_CTRL_0",      0x4906C, 4,    1, 0x4906C, 0,           "RW",      "8.4",  "D"),
    ("DIU_RESERVE_CTRL",        0x49078, 4,    1, 0x49078, 0,           "RW",      "8.4",  "D"),
    ("MXU_PRIORITY",            0x4908C, 4,    1, 0x4908C, 0,           "RW",      "8.4",  "D"),
    ("VISIBLE_SIZE",            0x490A0, 4,    1, 0x490A0, 0,           "RW",      "8.4",  "H"),
    ("VCP0_DECOUPLE",           0x4C910, 4,    1, 0x4C910, 0,           "RW",      "8.4",  "D"),
    ("TTBR",                    0x50000, 4, 4096, 0x53FFC, 0,           "RW",      "4.2",  "D"),
    ("PMP_TAG",                 0x70020, 4,    1, 0x70020, 0,           "RO",      "3",    "D"),
    ("PMP_VERSION",             0x70024, 4,   16, 0x70060, 0,           "RO",      "3",    "D"),
    ("ROM_SHADOW",              0x7CE00, 4,  128, 0x7CFFC, 0,           "RO",      "1.4",  "D"),
    ("POWER_STATE",             0x8E000, 4,    1, 0x8E000, 0,           "RW",      "9.3",  "D"),
    ("POWER_DOORBELL",          0x8E080, 4,    1, 0x8E080, 0,           "trigger", "9.3",  "D"),
    ("TEMPERATURE",             0x8F000, 4,   10, 0x8F024, 0,           "RO",      "1.2",  "U"),
];

/// The fields of every register that has some: (high, low) from bit 0 up, as
/// the sections list them; what is between them is reserved.
#[rustfmt::skip]
const BITS: &[(&str, &[(u8, u8)])] = &[
    ("MSI_CONTROL", &[(16, 16)]),
    ("DISPLAY1.FRAME", HALVES), ("DISPLAY1.POSITION", HALVES),
    ("DISPLAY2.FRAME", HALVES), ("DISPLAY2.POSITION", HALVES),
    ("DISPLAY3.FRAME", HALVES), ("DISPLAY3.POSITION", HALVES),
    ("DISPLAY4.FRAME", HALVES), ("DISPLAY4.POSITION", HALVES),
    ("SERIAL_PORT1", PORT), ("SERIAL_PORT2", PORT), ("SERIAL_PORT3[0]", PORT),
    ("SERIAL_PORT5", PORT),
    ("BIU_RAW", EACH), ("BIU_ENABLE", EACH), ("BIU_SHADOW", EACH),
    ("ENGINE_RESET", &[
        (0, 0), (1, 1), (5, 2), (6, 6), (7, 7), (8, 8), (9, 9), (12, 10), (13, 13), (14, 14),
        (19, 16), (20, 20), (21, 21), (22, 22), (23, 23),
    ]),
    ("ADVANCED_RAW", ADVANCED), ("ADVANCED_ENABLE", ADVANCED), ("ADVANCED_SHADOW", ADVANCED),
    ("CLOCK_GATES", &[(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7)]),
    ("ADAPTER_CONTROL", &[(0, 0), (4, 4)]),
    ("MEM_CHANNELS", &[(3, 0), (7, 4)]),
    ("MIU0_RANGE[0].START", &[(31, 12)]), ("MIU0_RANGE[0].END", &[(31, 12)]),
    ("MIU1_RANGE[0].START", &[(31, 12)]), ("MIU1_RANGE[0].END", &[(31, 12)]),
    ("MIU2_RANGE[0].START", &[(31, 12)]), ("MIU2_RANGE[0].END", &[(31, 12)]),
    ("TOP_BUSY", &[
        (0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (8, 6), (11, 9), (14, 12), (17, 15),
    ]),
    ("GPC_BUSY[0].WORD0", &[(3, 0), (7, 4), (11, 8), (15, 12), (19, 16), (23, 20)]),
    ("GPC_BUSY[0].WORD1", &[
        (3, 0), (7, 4), (11, 8), (15, 12), (19, 16), (23, 20), (27, 24), (31, 28),
    ]),
    ("RING[0].ADDRESS", &[(27, 0), (28, 28), (31, 31)]),
    ("PWR_MGR_CFG_EN", &[(0, 0), (1, 1), (2, 2)]),
    ("VIDEO_RING[0].ADDRESS", &[(27, 0), (28, 28), (31, 31)]),
    ("VIDEO_BUSY", &[(0, 0), (1, 1), (2, 2)]),
    ("MMU_MODE", &[(0, 0), (4, 4), (15, 8), (23, 16), (31, 24)]),
    ("BL_SIZE", &[(2, 0), (22, 4), (24, 24)]),
    ("PROC_SEC", &[(15, 0)]),
    ("PT_INV_ADDR", &[(27, 0), (31, 28)]), ("PT_INV_MASK", &[(27, 0), (31, 28)]),
    ("PT_INV_TRIG", &[(3, 0), (4, 4), (6, 5)]),
    ("CHANNEL_CONTROL", &[(2, 0), (5, 3)]),
    ("DEC_CTRL", &[(2, 0), (3, 3)]),
    ("MXU_INT_STATUS", &[(29, 0)]),
    ("MXU_INT_MASK", &[]),
    ("PAGE_FAULT_STATUS0", &[(19, 18), (23, 20), (31, 24)]),
    ("MEM_ADDR_FOR_PAGE_FAULT", &[(31, 2)]),
    ("LEVEL_1_FAULT_PAGE_ADDR", &[(31, 2)]), ("LEVEL_2_FAULT_PAGE_ADDR", &[(31, 2)]),
    ("RB_FL2[0]", &[(19, 0), (31, 20)]), ("ARGUMENT_FL2", &[(19, 0), (31, 20)]),
    ("PAGE_FAULT_LEVEL", &[(1, 0), (31, 2)]),
    ("VISIBLE_SIZE", &[(7, 0)]),
    ("TTBR[0]", &[(0, 0), (1, 1), (2, 2), (3, 3), (27, 4)]),
    ("POWER_STATE", &[(7, 0), (23, 16), (31, 24)]),
    ("POWER_DOORBELL", &[(0, 0)]),
];

/// Section 7.4: two counters in a word.
const HALVES: &[(u8, u8)] = &[(15, 0), (31, 16)];
/// Section 7.5, and the bits that it does not tell.
const PORT: &[(u8, u8)] = &[(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (7, 5)];

/// Section 7.1: every bit of the first interrupt word has a source.
#[rustfmt::skip]
const EACH: &[(u8, u8)] = &[
    (0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (8, 8), (9, 9), (10, 10),
    (11, 11), (12, 12), (13, 13), (14, 14), (15, 15), (16, 16), (17, 17), (18, 18), (19, 19),
    (20, 20), (21, 21), (22, 22), (23, 23), (24, 24), (25, 25), (26, 26), (27, 27), (28, 28),
    (29, 29), (30, 30), (31, 31),
];

/// Section 7.1: the second interrupt word.
#[rustfmt::skip]
const ADVANCED: &[(u8, u8)] = &[
    (0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7), (16, 16), (17, 17), (18, 18),
    (19, 19), (20, 20), (21, 21), (22, 22), (23, 23), (24, 24), (25, 25), (26, 26), (27, 27),
    (28, 28),
];

#[test]
fn the_register_map_is_the_references() {
    for (info, row) in REGISTERS.iter().zip(MAP) {
        let declared = (
            info.name,
            info.offset,
            info.width,
            info.count,
            info.reg.at(info.count - 1),
            info.reset,
            info.access.name(),
            info.section,
            info.mark.letter(),
        );
        assert_eq!(declared, *row);
        assert_eq!(
            info.reg.info().name,
            info.name,
            "the table is in the order of the enum"
        );
        assert!(info.about().ends_with('.'), "{}", info.name);
    }
    assert_eq!(REGISTERS.len(), MAP.len());
}

/// Section 7.6: other widths than a register's own that are legal.
#[rustfmt::skip]
const NARROW: &[(&str, u8)] = &[
    ("BACKDOOR_BASE", 1), ("BACKDOOR_CONTROL", 1), ("PMP_TAG", 1), ("PMP_VERSION", 1),
    ("ROM_SHADOW", 2),
];

#[test]
fn the_section_of_every_register_is_a_heading_of_the_page() {
    let page = include_str!("../../../docs/hardware.md");
    for info in REGISTERS {
        let heading = |line: &str| {
            let words = line.trim_start_matches('#').trim_start();
            line.starts_with('#')
                && words.split(' ').next().map(|n| n.trim_end_matches('.')) == Some(info.section)
        };
        assert!(
            page.lines().any(heading),
            "{}: docs/hardware.md has no section {}",
            info.name,
            info.section
        );
    }
}

#[test]
fn the_widths_that_are_legal_are_the_references() {
    for info in REGISTERS {
        let row = NARROW.iter().find(|(name, _)| *name == info.name);
        assert_eq!(
            info.narrow,
            row.map_or(0, |(_, width)| *width),
            "{}",
            info.name
        );
        for bytes in [1, 2, 4] {
            let legal = [info.width, info.narrow].map(u32::from).contains(&bytes);
            assert_eq!(info.has_width(bytes), legal, "{}", info.name);
        }
        // The groups of CR and SR registers, which are bytes.
        if matches!(info.offset, 0x8600..0x9000 | 0x9400..0x9600) {
            assert!(info.has_width(1), "{}", info.name);
        }
    }
}

#[test]
fn every_registers_bits_are_those_of_its_section() {
    let layouts = REGISTERS.iter().flat_map(|info| {
        let kinds = 0..u32::try_from(info.layouts.len()).unwrap();
        kinds.map(move |kind| (info, info.label(kind).to_string(), info.layout(kind)))
    });
    let mut count = 0;
    for (info, label, layout) in layouts.filter(|(_, _, layout)| !layout.fields.is_empty()) {
        let row = BITS.iter().find(|(name, _)| *name == label);
        let (_, bits) = row.unwrap_or_else(|| panic!("{label} has fields"));
        let named: Vec<_> = layout.fields.iter().filter(|f| !f.is_reserved()).collect();
        let places: Vec<_> = named.iter().map(|f| (f.high(), f.low)).collect();
        assert_eq!(places, *bits, "{label}");
        assert!(named.iter().all(|f| f.meaning().ends_with('.')), "{label}");
        let used = named.iter().fold(0, |mask, f| mask | f.mask());
        let all = if info.width == 1 { 0xFF } else { u32::MAX };
        assert_eq!(layout.reserved, all & !used, "{label}");
        count += 1;
    }
    assert_eq!(count, BITS.len());
}

/// Which bit is whose, where many are alike: from bit 0 up, without the reserved ones.
#[rustfmt::skip]
const NAMES: &[(&str, &str)] = &[
    ("BIU_RAW", "vsync1 engine_busy vsync2 vsync3 vsync4 page_fault cec dp1 dp2 tlp_match \
        master_abort correctable_error non_fatal_error fatal_error unsupported_request \
        invalid_access dp3 dp4 ts fs0 gpio mb hdcp idle vip_end vbi_clear hda_codec vip27 vip28 \
        hda vip30 fs1"),
    ("DISPLAY1.FRAME", "frame line"),
    ("DISPLAY1.POSITION", "line pixel"),
    ("SERIAL_PORT1", "clock data clock_line data_line enable other"),
    ("ADVANCED_RAW", "vcp0_fe_hang vcp0_be_hang vcp0_fe_error vcp0_be_error \
        vcp1_fe_hang vcp1_be_hang vcp1_fe_error vcp1_be_error \
        csp_timeout sp_timeout vpp_timeout pectl_timeout msvd_timeout mxu_timeout \
        miu0_timeout miu1_timeout miu2_timeout pmp_timeout vcp_timeout fence virq"),
    ("ENGINE_RESET", "all miu graphics vpp vcp0 vcp1 mmio_timer memory_pll e_pll v_pll displays \
        display_registers mdi slv tlm"),
    ("CLOCK_GATES", "other0 vpp vcp1 vcp0 gpc2 gpc1 gpc0 other7"),
    ("TOP_BUSY", "csp mxu_a mxu_b l2 gpcpfe gpcpbe sg tasfe tasbe hub"),
    ("GPC_BUSY[0].WORD0", "tgz iu wbu wls ffc tu"),
    ("GPC_BUSY[0].WORD1", "eu vs hs fe ds gs ps cs"),
    ("VIDEO_BUSY", "vcp0 vcp1 vpp"),
    ("PWR_MGR_CFG_EN", "graphics vcp vpp"),
    ("POWER_STATE", "requested handshake current"),
    ("MEM_CHANNELS", "gib_each channels"),
    ("BL_SIZE", "size offset invalidate"),
    ("CHANNEL_CONTROL", "disable interleave"),
    ("DEC_CTRL", "threshold anti_lock"),
    ("RB_FL2[0]", "base size"),
    ("PAGE_FAULT_LEVEL", "l1_invalid l2_invalid"),
];

#[test]
fn bits_that_are_alike_have_the_names_of_their_section() {
    for (label, names) in NAMES {
        let bank = label.split(['[', '.']).next();
        let info = REGISTERS.iter().find(|info| Some(info.name) == bank);
        let info = info.expect(label);
        let layouts = (0..).zip(info.layouts);
        let mut layouts = layouts.filter(|(kind, _)| info.label(*kind).to_string() == *label);
        let (_, layout) = layouts.next().expect(label);
        let fields = layout.fields.iter().filter(|field| !field.is_reserved());
        let found: Vec<_> = fields.map(|field| field.name).collect();
        assert_eq!(found.join(" "), *names, "{label}");
    }
}

#[test]
fn a_field_knows_its_value() {
    let field = |name| MmuMode::FIELDS.iter().find(|f| f.name == name).unwrap();
    assert_eq!(field("va_mode").extract(0xFFFF_FFFE), 0);
    assert_eq!(field("bius_va").extract(0x10), 1);
    assert_eq!(field("video_size").extract(0x1234_5678), 0x56);
    assert_eq!(field("legacy_offset").extract(0x1234_5678), 0x12);
    assert_eq!(field("legacy_offset").mask(), 0xFF00_0000);
    assert_eq!(Reg::FaultStatus1.info().layout(0).reserved, 0);
}

#[test]
fn registers_of_banks_have_names_of_their_own() {
    for (reg, index, name) in [
        (Reg::MmuMode, 0, "MMU_MODE"),
        (Reg::Ttbr, 4095, "TTBR[4095]"),
        (Reg::LowRings, 3, "RING[0].TAIL"),
        (Reg::VideoRings, 4, "VIDEO_RING[1].ADDRESS"),
        (Reg::GpcBusy, 5, "GPC_BUSY[2].WORD1"),
        (Reg::CspTimestamp, 1, "CSP_TIMESTAMP.HIGH"),
        (Reg::Miu0Range, 1, "MIU0_RANGE[0].END"),
    ] {
        assert_eq!(reg.info().label(index).to_string(), name);
    }
}

#[test]
fn no_two_registers_overlap_and_all_lie_in_bar0() {
    let mut spans: Vec<(u32, u32)> = REGISTERS
        .iter()
        .flat_map(|i| {
            (0..i.count)
                .map(|n| i.reg.at(n))
                .map(|at| (at, at + u32::from(i.width)))
        })
        .collect();
    spans.sort_unstable();
    assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    assert!(spans.iter().all(|(_, end)| *end <= BAR0_BYTES));
}

#[test]
fn find_is_the_inverse_of_at() {
    for info in REGISTERS {
        for index in [0, info.count / 2, info.count - 1] {
            assert_eq!(Reg::find(info.reg.at(index)), Some((info.reg, index)));
        }
    }
    for hole in [
        0, 0x8047, 0x8500, 0x8853, 0x8AA1, 0x3008C, 0x4FFFC, 0x54000, 0xFFFFC, 0xFFFFF,
    ] {
        assert_eq!(Reg::find(hole), None, "{hole:#x}");
    }
    assert_eq!(Reg::find(0x49007), Some((Reg::MmuMode, 0)));
}

#[test]
fn a_word_is_a_register_or_bytes_or_nothing_as_each_of_its_bytes_says() {
    for word in (0..BAR0_BYTES).step_by(4) {
        let found: Vec<_> = (word..word + 4).filter_map(Reg::find).collect();
        let expected = match found[..] {
            [] => Word::Undeclared,
            [(reg, _), ..] if reg.info().width == 1 => Word::Bytes,
            [(reg, index), ..] => Word::Register(reg, index),
        };
        for at in word..word + 4 {
            assert_eq!(Reg::word(at), expected, "{at:#x}");
        }
    }
}

#[test]
fn ring_words_are_where_section_10_1_puts_them() {
    for (ring, base) in [
        (0, 0x3001C),
        (1, 0x3002C),
        (2, 0x3003C),
        (3, 0x3004C),
        (6, 0x3007C),
        (7, 0x30600),
        (8, 0x30610),
        (9, 0x30620),
    ] {
        assert_eq!(RingWord::Address.offset(ring), base);
        assert_eq!(RingWord::Size.offset(ring), base + 4);
        assert_eq!(RingWord::Head.offset(ring), base + 8);
        assert_eq!(RingWord::Tail.offset(ring), base + 0xC);
    }
}

#[test]
fn page_table_entries_have_the_bits_of_sections_4_2_to_4_4() {
    assert_eq!(Ttbr::new().with_valid(true).into_bits(), 1 << 0);
    assert_eq!(Ttbr::new().with_ns(true).into_bits(), 1 << 1);
    assert_eq!(Ttbr::new().with_snoop(true).into_bits(), 1 << 2);
    assert_eq!(Ttbr::new().with_segment(true).into_bits(), 1 << 3);
    assert_eq!(Ttbr::new().with_page(0xFF_FFFF).into_bits(), 0x0FFF_FFF0);

    assert_eq!(L2Entry::new().with_valid(true).into_bits(), 1 << 0);
    assert_eq!(L2Entry::new().with_ns(true).into_bits(), 1 << 1);
    assert_eq!(L2Entry::new().with_snoop(true).into_bits(), 1 << 2);
    assert_eq!(L2Entry::new().with_segment(true).into_bits(), 1 << 3);
    assert_eq!(
        L2Entry::new().with_page(0x7FF_FFFF).into_bits(),
        0x7FFF_FFF0
    );
    assert_eq!(L2Entry::new().with_large_page(true).into_bits(), 1 << 31);

    assert_eq!(L3Entry::new().with_valid(true).into_bits(), 1 << 0);
    assert_eq!(L3Entry::new().with_ns(true).into_bits(), 1 << 1);
    assert_eq!(L3Entry::new().with_snoop(true).into_bits(), 1 << 2);
    assert_eq!(L3Entry::new().with_segment(true).into_bits(), 1 << 3);
    assert_eq!(
        L3Entry::new().with_page(0xFFF_FFFF).into_bits(),
        0xFFFF_FFF0
    );

    assert_eq!(L3Entry64K::new().with_valid(true).into_bits(), 1 << 0);
    assert_eq!(L3Entry64K::new().with_ns(true).into_bits(), 1 << 1);
    assert_eq!(L3Entry64K::new().with_snoop(true).into_bits(), 1 << 2);
    assert_eq!(L3Entry64K::new().with_segment(true).into_bits(), 1 << 3);
    assert_eq!(
        L3Entry64K::new().with_page(0xFF_FFFF).into_bits(),
        0xFFFF_FF00
    );
}

#[test]
fn an_address_splits_8_10_10_12() {
    let va = GpuVa(0xAB << 32 | 0x155 << 22 | 0x2AA << 12 | 0x123);
    assert_eq!(va.l1_index(), 0xAB);
    assert_eq!(va.l2_index(), 0x155);
    assert_eq!(va.l3_index(), 0x2AA);
    assert_eq!(va.l3_index_64k(), 0x2A);
    assert_eq!(va.in_page(), 0x123);
    assert_eq!(GpuVa::from_parts(va.low(), va.high()), va);
}

#[test]
fn mmu_registers_have_the_bits_of_sections_4_6_5_and_6() {
    assert_eq!(MmuMode::new().with_va_mode(true).into_bits(), 1 << 0);
    assert_eq!(MmuMode::new().with_bius_va(true).into_bits(), 1 << 4);
    assert_eq!(MmuMode::new().with_video_size(0xFF).into_bits(), 0xFF00);
    assert_eq!(
        MmuMode::new().with_legacy_size(0xFF).into_bits(),
        0x00FF_0000
    );
    assert_eq!(
        MmuMode::new().with_legacy_offset(0xFF).into_bits(),
        0xFF00_0000
    );
    assert_eq!(MmuMode::from_bits(0x300).video_bytes(), 1 << 30);

    assert_eq!(
        InvalidateAddress::new().with_page(0xFFF_FFFF).into_bits(),
        0x0FFF_FFFF
    );
    assert_eq!(
        InvalidateAddress::new().with_process_id(0xF).into_bits(),
        0xF000_0000
    );
    assert_eq!(
        InvalidateTrigger::new().with_process_id(0xF).into_bits(),
        0xF
    );
    assert_eq!(
        InvalidateTrigger::new().with_addr_valid(true).into_bits(),
        1 << 4
    );
    assert_eq!(
        InvalidateTrigger::new()
            .with_target(TlbTarget::Utlb)
            .into_bits(),
        0x20
    );
    assert_eq!(
        InvalidateTrigger::new()
            .with_target(TlbTarget::Dtlb)
            .into_bits(),
        0x40
    );

    assert_eq!(FaultStatus0::new().with_level(3).into_bits(), 3 << 18);
    assert_eq!(
        FaultStatus0::new().with_process_id(0xF).into_bits(),
        0xF << 20
    );
    assert_eq!(
        FaultStatus0::new().with_va_high(0xFF).into_bits(),
        0xFF00_0000
    );
    assert!(
        FaultClient::Fence as u32 <= 29,
        "one of the 30 Page_Fault bits"
    );
}

#[test]
fn interrupt_and_reset_bits_are_those_of_sections_7_and_9() {
    assert_eq!(
        BiuInterrupts::new().with_page_fault(true).into_bits(),
        1 << 5
    );
    assert_eq!(
        BiuInterrupts::new().with_master_abort(true).into_bits(),
        1 << 10
    );
    assert_eq!(
        AdvancedInterrupts::new().with_csp_timeout(true).into_bits(),
        1 << 16
    );
    assert_eq!(
        AdvancedInterrupts::new().with_fence(true).into_bits(),
        1 << 27
    );
    assert_eq!(
        AdapterControl::new()
            .with_interrupt_enable(true)
            .into_bits(),
        1 << 0
    );
    assert_eq!(AdapterControl::new().with_linear(true).into_bits(), 1 << 4);
    assert_eq!(EngineReset::new().with_all(true).into_bits(), 1 << 0);
    assert_eq!(EngineReset::new().with_miu(true).into_bits(), 1 << 1);
    assert_eq!(EngineReset::new().with_graphics(0xF).into_bits(), 0x3C);
    assert_eq!(EngineReset::new().with_vpp(true).into_bits(), 1 << 6);
    assert_eq!(EngineReset::new().with_vcp0(true).into_bits(), 1 << 7);
    assert_eq!(EngineReset::new().with_vcp1(true).into_bits(), 1 << 8);
    assert_eq!(TopBusy::new().with_csp(true).into_bits(), 1 << 0);
    assert_eq!(TopBusy::new().with_mxu_a(true).into_bits(), 1 << 1);
    assert_eq!(
        RingAddress::new().with_page(0xFFF_FFFF).into_bits(),
        0x0FFF_FFFF
    );
    assert_eq!(
        RingAddress::new().with_l2_cachable(true).into_bits(),
        1 << 28
    );
    assert_eq!(RingAddress::new().with_kickoff(true).into_bits(), 1 << 31);
}

#[test]
fn packet_headers_have_the_bits_of_section_10() {
    assert_eq!(Skip::new().with_dwords(0xFFFF).into_bits(), 0xFFFF);

    assert_eq!(Dma::new().into_bits(), 0x1000_0000);
    assert_eq!(
        Dma::new().with_opcode(0).with_dwords(0xFFFF).into_bits(),
        0xFFFF
    );
    assert_eq!(
        Dma::new().with_opcode(0).with_special(true).into_bits(),
        1 << 24
    );
    assert_eq!(
        Dma::new().with_opcode(0).with_reset(true).into_bits(),
        1 << 25
    );
    assert_eq!(Dma::new().with_opcode(0).with_mode(3).into_bits(), 3 << 26);

    assert_eq!(Wait::new().into_bits(), 0x2000_0000);
    assert_eq!(
        Wait::new().with_opcode(0).with_value(0xFFFF).into_bits(),
        0xFFFF
    );
    assert_eq!(Wait::new().with_opcode(0).with_mode(3).into_bits(), 3 << 16);
    assert_eq!(
        Wait::new().with_opcode(0).with_equal(true).into_bits(),
        1 << 18
    );
    assert_eq!(
        Wait::new().with_opcode(0).with_station(7).into_bits(),
        7 << 19
    );
    assert_eq!(
        Wait::new().with_opcode(0).with_slot(31).into_bits(),
        31 << 22
    );

    assert_eq!(SetRegister::new().into_bits(), 0x4000_0000);
    assert_eq!(
        SetRegister::new()
            .with_opcode(0)
            .with_count(127)
            .into_bits(),
        0x7F
    );
    assert_eq!(
        SetRegister::new()
            .with_opcode(0)
            .with_context_offset(true)
            .into_bits(),
        1 << 7
    );
    assert_eq!(
        SetRegister::new()
            .with_opcode(0)
            .with_from_memory(true)
            .into_bits(),
        1 << 8
    );
    assert_eq!(
        SetRegister::new()
            .with_opcode(0)
            .with_masked(true)
            .into_bits(),
        1 << 9
    );
    assert_eq!(
        SetRegister::new()
            .with_opcode(0)
            .with_word(0x1FFF)
            .into_bits(),
        0x1FFF << 10
    );
    assert_eq!(
        SetRegister::new().with_opcode(0).with_block(31).into_bits(),
        31 << 23
    );

    assert_eq!(Fence::new().into_bits(), 0x8000_0000);
    assert_eq!(Fence::new().with_opcode(0).with_count(7).into_bits(), 7);
    assert_eq!(Fence::new().with_opcode(0).with_irq(3).into_bits(), 3 << 3);
    assert_eq!(Fence::new().with_opcode(0).with_kind(3).into_bits(), 3 << 5);
    assert_eq!(
        Fence::new().with_opcode(0).with_slot(31).into_bits(),
        31 << 7
    );
    assert_eq!(
        Fence::new().with_opcode(0).with_or(true).into_bits(),
        1 << 13
    );
    assert_eq!(
        Fence::new().with_opcode(0).with_rb_type(3).into_bits(),
        3 << 22
    );
    assert_eq!(
        Fence::new().with_opcode(0).with_route(15).into_bits(),
        15 << 24
    );
}

#[test]
fn block_command_fields_have_the_bits_of_sections_10_6_and_10_12() {
    assert_eq!(CspCommand::new().into_bits(), 0x9000_0000);
    assert_eq!(
        CspCommand::new().with_opcode(0).with_count(7).into_bits(),
        7
    );
    assert_eq!(
        CspCommand::new()
            .with_opcode(0)
            .with_process_id(15)
            .into_bits(),
        15 << 13
    );
    assert_eq!(
        CspCommand::new().with_opcode(0).with_info(7).into_bits(),
        7 << 17
    );
    assert_eq!(
        CspCommand::new().with_opcode(0).with_kind(7).into_bits(),
        7 << 20
    );
    assert_eq!(
        CspCommand::new().with_opcode(0).with_block(31).into_bits(),
        31 << 23
    );

    assert_eq!(SgCommand::new().into_bits(), 0x9000_0000);
    assert_eq!(
        SgCommand::new()
            .with_opcode(0)
            .with_count(0xFFF)
            .into_bits(),
        0xFFF
    );
    assert_eq!(
        SgCommand::new().with_opcode(0).with_kind(3).into_bits(),
        3 << 12
    );
    assert_eq!(
        SgCommand::new().with_opcode(0).with_target(3).into_bits(),
        3 << 14
    );
    assert_eq!(
        SgCommand::new().with_opcode(0).with_action(7).into_bits(),
        7 << 16
    );
    assert_eq!(
        SgCommand::new().with_opcode(0).with_block(31).into_bits(),
        31 << 23
    );

    assert_eq!(Range::new().with_min(0xFFFF).into_bits(), 0xFFFF);
    assert_eq!(Range::new().with_max(0xFFFF).into_bits(), 0xFFFF_0000);
    assert_eq!(SourceOffset::new().with_x(0x7FFF).into_bits(), 0x7FFF);
    assert_eq!(SourceOffset::new().with_y(0x7FFF).into_bits(), 0x7FFF_0000);
    assert_eq!(RtFormat::new().with_format(0x1FF).into_bits(), 0x1FF);
    assert_eq!(
        RtFormat::new().with_bl_slot(0x3_FFFF).into_bits(),
        0x3_FFFF << 9
    );
    assert_eq!(RtSize::new().with_width(0x7FFF).into_bits(), 0x7FFF);
    assert_eq!(RtSize::new().with_height(0x7FFF).into_bits(), 0x7FFF << 15);
    assert_eq!(RtMisc::new().with_enable(true).into_bits(), 1 << 0);
    assert_eq!(RtMisc::new().with_tiled(true).into_bits(), 1 << 1);
    assert_eq!(RtMisc::new().with_write_mask(0xF).into_bits(), 0xF << 2);
    assert_eq!(RtMisc::new().with_resource_type(0xF).into_bits(), 0xF << 20);
    let effects = (6..=19).chain(24..=28).map(|bit| 1 << bit);
    assert_eq!(RtMisc::EFFECTS, effects.sum::<u32>());
}

#[test]
fn written_packets_are_the_dwords_of_sections_10_6_to_10_13() {
    let mut dwords = [0xAAAA_AAAA; 96];
    let mut writer = Writer::new(&mut dwords);
    let at = GpuVa(0x12_3456_7800);
    writer.indicator(3, 5);
    writer.dma(at, 42);
    writer.fence(at, 0x1122_3344_5566_7788, true);
    writer.surface(0, at, 16384, 126);
    writer.blit(16384, 126);
    writer.clear(9216, 1, 0xC0FF_EE00);
    writer.pad_to(16);
    let len = writer.len();
    #[rustfmt::skip]
    let expected = [
        0x9006_A001, 1,
        0x1000_002A, 0x3456_7800, 0x12,
        0x8200_006C, 0x3456_7800, 0x12, 0x5566_7788, 0x1122_3344,
        0x4300_6003, 0x1234_5678, 1, 1,
        0x4300_C003, 89, 126 << 15 | 16384, 0x0020_003D,
        0x9302_A003, 16383 << 16, 125 << 16, 0,
        0x4300_D401, 0, 0x4300_E001, 0, 0x4300_EC01, 0, 0x4300_F801, 0,
        0x4301_0401, 0, 0x4301_1001, 0, 0x4301_1C01, 0,
        0x4303_2004, 0xC0FF_EE00, 0xC0FF_EE00, 0xC0FF_EE00, 0xC0FF_EE00,
        0x9301_A002, 9215 << 16, 0,
        0, 0, 0, 0,
    ];
    assert_eq!(dwords[..len], expected);
    assert_eq!(dwords[len], 0xAAAA_AAAA, "nothing beyond the padding");
    assert_eq!(ff::rt_address(1), 0x1B);
    assert_eq!(ff::rt_control(1), 0x33);
    assert_eq!(ff::CLEAR_COLOUR, 0xC8);
}

#[test]
fn a_writer_that_overflows_says_so_and_writes_nothing_outside() {
    let mut dwords = [7; 4];
    let mut writer = Writer::new(&mut dwords[..3]);
    writer.fence(GpuVa(0), 1, false);
    assert_eq!(writer.len(), 5);
    assert_eq!(dwords[3], 7);
}

#[test]
fn block_and_op_codes_are_those_of_sections_3_and_10_2() {
    use packet::{block, opcode};
    let ids = [block::CSP, block::FF, block::MXU, block::MMU];
    assert_eq!(ids, [0, 6, 12, 18]);
    let codes = [
        opcode::SKIP,
        opcode::DMA,
        opcode::WAIT,
        opcode::QUERY_DUMP,
        opcode::SET_REGISTER,
        opcode::SET_OBJECT,
        opcode::DIP,
        opcode::FENCE,
        opcode::BLOCK,
        opcode::GP,
        opcode::VPP,
        opcode::TBR,
    ];
    assert_eq!(codes, [0, 1, 2, 3, 4, 6, 7, 8, 9, 0xB, 0xC, 0xF]);
    assert_eq!(packet::video_opcode::SET_REGISTER_2, 5);
    assert_eq!(packet::video_opcode::KICKOFF, 7);
}

#[test]
fn register_transfers_have_the_bits_of_sections_10_9_and_10_10() {
    use packet::{DumpTarget, QueryDump, RegisterSource};
    assert_eq!(RegisterSource::new().with_high(0xFF).into_bits(), 0xFF);
    let source = RegisterSource::new().with_l2_cachable(true);
    assert_eq!(source.into_bits(), 1 << 8);
    assert_eq!(
        RegisterSource::new().with_physical(true).into_bits(),
        1 << 9
    );
    assert_eq!(
        RegisterSource::new().with_count(0x1FFF).into_bits(),
        0x1FFF << 19
    );
    let dump = QueryDump::new();
    assert_eq!(dump.into_bits(), 0x3000_0002);
    assert_eq!(
        dump.with_registers(0x1FFF).into_bits(),
        0x3000_0002 | 0x1FFF << 7
    );
    assert_eq!(dump.with_context_offset(true).into_bits(), 0x3010_0002);
    assert_eq!(dump.with_timestamp(true).into_bits(), 0x3020_0002);
    assert_eq!(dump.with_kind(true).into_bits(), 0x3040_0002);
    assert_eq!(dump.with_block(31).into_bits(), 0x3000_0002 | 31 << 23);
    assert_eq!(DumpTarget::new().with_high(0xFF).into_bits(), 0xFF);
    assert_eq!(
        DumpTarget::new().with_word(0x1FFF).into_bits(),
        0x1FFF << 19
    );
}

#[test]
fn a_clear_of_flags_has_the_bits_of_section_10_6() {
    use packet::{ClearFlags, FlagValues};
    assert_eq!(ClearFlags::new().into_bits(), 0x9010_0003);
    assert_eq!(
        ClearFlags::new().with_bytes(0x1_FFFF).into_bits(),
        0x9010_0003 | 0x1_FFFF << 3
    );
    assert_eq!(FlagValues::new().with_high(0xFF).into_bits(), 0xFF);
    assert_eq!(FlagValues::new().with_value1(0xF).into_bits(), 0xF << 24);
    assert_eq!(FlagValues::new().with_value0(0xF).into_bits(), 0xF << 28);
    assert_eq!(packet::block::VCP, 15);
    let kinds = [
        CspCommand::INDICATOR,
        CspCommand::CLEAR_FLAGS,
        CspCommand::SAVE,
        CspCommand::RESTORE,
    ];
    assert_eq!(kinds, [0, 1, 2, 3]);
    let fences = [Fence::INTERNAL, Fence::EXTERNAL_32, Fence::EXTERNAL_64];
    assert_eq!(fences, [0, 2, 3]);
}

#[test]
fn chips_have_the_ids_of_section_1_1() {
    let ids: Vec<_> = Chip::ALL
        .iter()
        .map(|c| (c.name(), c.vendor_id(), c.device_id()))
        .collect();
    #[rustfmt::skip]
    let expected = [
        ("e3k", 0x1D17, 0x3D00), ("10c0", 0x6766, 0x3D00), ("10c0t", 0x6766, 0x3D06),
        ("10d0", 0x6766, 0x3D0E), ("1040", 0x6766, 0x3D03), ("1020", 0x6766, 0x3D02),
        ("1010", 0x6766, 0x3D04), ("2030", 0x6766, 0x3D07), ("2020", 0x6766, 0x3D08),
    ];
    assert_eq!(ids, expected);
    let orders = Chip::ALL.iter().map(|c| c.order()).collect::<Vec<_>>();
    assert_eq!(orders, [1, 1, 2, 2, 3, 4, 5, 6, 7]);
    assert_eq!(Chip::from_name("10C0T"), Some(Chip::Arise10c0t));
    assert_eq!(Chip::from_name("10c1"), None);
    assert_eq!(Chip::from_ids(0x6766, 0x3D08), Some(Chip::Arise2020));
}

#[test]
fn chips_differ_where_sections_8_4_and_9_say() {
    #[rustfmt::skip]
    let expected = [
        ("e3k", 0x300A4, false, false, 0x4), ("10c0", 0x300A4, false, false, 0x4),
        ("10c0t", 0x300A4, false, false, 0x4), ("10d0", 0x300A4, false, false, 0x4),
        ("1040", 0x300A4, false, false, 0x4), ("1020", 0x300B4, false, true, 0x40),
        ("1010", 0x300B4, false, true, 0x40), ("2030", 0x300B4, true, false, 0x40),
        ("2020", 0x300B4, true, true, 0x40),
    ];
    for (chip, row) in Chip::ALL.iter().zip(expected) {
        let declared = (
            chip.name(),
            chip.timestamp().offset(),
            chip.has_power_manager(),
            chip.decouples_vcp0(),
            chip.pending_buffers(),
        );
        assert_eq!(declared, row);
    }
}

#[test]
fn the_channel_register_says_what_section_2_lists() {
    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;
    for (bytes, register) in [
        (GIB, 0x11),
        (15 * GIB, 0x1F),
        (16 * GIB, 0x28),
        (30 * GIB, 0x2F),
        (3 * GIB, 0x13),
        (3 * GIB - 24 * MIB, 0x31),
        (6 * GIB - 72 * MIB, 0x32),
        (12 * GIB - 144 * MIB, 0x34),
        (24 * GIB - 288 * MIB, 0x38),
    ] {
        let channels = MemoryChannels::for_vram(bytes).expect("a legal size");
        assert_eq!(channels.to_register(), register);
        assert_eq!(
            MemoryChannels::from_register(0xFF00 | register),
            Some(channels)
        );
        assert_eq!(channels.vram_bytes(), bytes);
    }
    for illegal in [0, 17 * GIB, 32 * GIB, GIB / 2, GIB + 1] {
        assert_eq!(MemoryChannels::for_vram(illegal), None, "{illegal}");
    }
    for register in [0, 0x10, 0x30, 0x33, 0x41, 0xF1] {
        assert_eq!(
            MemoryChannels::from_register(register),
            None,
            "{register:#x}"
        );
    }
}
