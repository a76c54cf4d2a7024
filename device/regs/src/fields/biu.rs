//! The bus interface: interrupts, resets, clocks and power (hardware reference 7 and 9).

use crate::layout::layout;

layout! {
    /// 0x8504, 0x8508, 0x8574: interrupt sources of the bus interface (hardware reference 7.1).
    BiuInterrupts(u32) {
        /// Vertical blank of display 1.
        vsync1: bool [1],
        /// An engine is busy.
        engine_busy: bool [1],
        /// Vertical blank of display 2.
        vsync2: bool [1],
        /// Vertical blank of display 3.
        vsync3: bool [1],
        /// Vertical blank of display 4.
        vsync4: bool [1],
        /// A translation failed.
        page_fault: bool [1],
        /// HDMI CEC.
        cec: bool [1],
        /// `DisplayPort` 1.
        dp1: bool [1],
        /// `DisplayPort` 2.
        dp2: bool [1],
        /// A PCIe packet matched.
        tlp_match: bool [1],
        /// A DMA access was answered by nobody.
        master_abort: bool [1],
        /// Correctable PCIe error.
        correctable_error: bool [1],
        /// Non-fatal PCIe error.
        non_fatal_error: bool [1],
        /// Fatal PCIe error.
        fatal_error: bool [1],
        /// Unsupported PCIe request.
        unsupported_request: bool [1],
        /// Invalid CPU read or write.
        invalid_access: bool [1],
        /// `DisplayPort` 3.
        dp3: bool [1],
        /// `DisplayPort` 4.
        dp4: bool [1],
        /// TS input.
        ts: bool [1],
        /// FS0.
        fs0: bool [1],
        /// External GPIO.
        gpio: bool [1],
        /// MB (HD-audio codec on some 1020).
        mb: bool [1],
        /// HDCP.
        hdcp: bool [1],
        /// The chip's idle counter has expired.
        idle: bool [1],
        /// VIP 0 or 1, end of field.
        vip_end: bool [1],
        /// VBI clear.
        vbi_clear: bool [1],
        /// HD-audio codec.
        hda_codec: bool [1],
        /// VIP.
        vip27: bool [1],
        /// VIP.
        vip28: bool [1],
        /// HD audio.
        hda: bool [1],
        /// VIP.
        vip30: bool [1],
        /// FS1.
        fs1: bool [1],
    }

    /// 0x8548, 0x854C, 0x8578: the second interrupt word (hardware reference 7.1).
    AdvancedInterrupts(u32) {
        /// Video core 0: front end hangs.
        vcp0_fe_hang: bool [1],
        /// Video core 0: back end hangs.
        vcp0_be_hang: bool [1],
        /// Video core 0: front end error.
        vcp0_fe_error: bool [1],
        /// Video core 0: back end error.
        vcp0_be_error: bool [1],
        /// Video core 1: front end hangs.
        vcp1_fe_hang: bool [1],
        /// Video core 1: back end hangs.
        vcp1_be_hang: bool [1],
        /// Video core 1: front end error.
        vcp1_fe_error: bool [1],
        /// Video core 1: back end error.
        vcp1_be_error: bool [1],
        __: u32 [8],
        /// The command processor gave up; the model raises it when a ring is halted.
        csp_timeout: bool [1],
        /// SP timeout.
        sp_timeout: bool [1],
        /// VPP timeout.
        vpp_timeout: bool [1],
        /// PECTL timeout.
        pectl_timeout: bool [1],
        /// MSVD timeout.
        msvd_timeout: bool [1],
        /// Memory crossbar timeout.
        mxu_timeout: bool [1],
        /// Memory channel 0 timeout.
        miu0_timeout: bool [1],
        /// Memory channel 1 timeout.
        miu1_timeout: bool [1],
        /// Memory channel 2 timeout.
        miu2_timeout: bool [1],
        /// PMP timeout.
        pmp_timeout: bool [1],
        /// Video core timeout.
        vcp_timeout: bool [1],
        /// A fence command with its interrupt flag was executed.
        fence: bool [1],
        /// VIRQ.
        virq: bool [1],
        __: u32 [3],
    }

    /// 0x8AA0 (hardware reference 7.1).
    AdapterControl(u8) {
        /// No interrupt leaves the chip while this is 0.
        interrupt_enable: bool [1],
        __: u8 [3],
        /// Linear address enable.
        linear: bool [1],
        __: u8 [3],
    }

    /// 0x8048, the mirror of the MSI capability's first word (hardware reference 7.3).
    MsiControl(u32) {
        __: u32 [16],
        /// MSI is on.
        enable: bool [1],
        __: u32 [15],
    }

    /// 0x8524: a one holds the unit in reset (hardware reference 9.1).
    EngineReset(u32) {
        /// Everything.
        all: bool [1],
        /// Memory interface.
        miu: bool [1],
        /// The four 3D units; they run ring 0.
        graphics: u8 [4],
        /// Video post-processor.
        vpp: bool [1],
        /// Video core 0.
        vcp0: bool [1],
        /// Video core 1.
        vcp1: bool [1],
        /// MMIO timer.
        mmio_timer: bool [1],
        /// Dividers of the memory PLL.
        memory_pll: u8 [3],
        /// E-PLL.
        e_pll: bool [1],
        /// V-PLL.
        v_pll: bool [1],
        __: u32 [1],
        /// Displays 1 to 4.
        displays: u8 [4],
        /// Display registers.
        display_registers: bool [1],
        /// MDI.
        mdi: bool [1],
        /// SLV.
        slv: bool [1],
        /// TLM.
        tlm: bool [1],
        __: u32 [8],
    }

    /// 0x8A01: a one lets the unit's clock run (hardware reference 9.3).
    ClockGates(u8) {
        /// Nobody says which unit; software writes all eight bits.
        other0: bool [1],
        /// Video post-processor.
        vpp: bool [1],
        /// Video core 1.
        vcp1: bool [1],
        /// Video core 0.
        vcp0: bool [1],
        /// GPC 2: slices 8 to 11.
        gpc2: bool [1],
        /// GPC 1: slices 4 to 7.
        gpc1: bool [1],
        /// GPC 0: slices 0 to 3.
        gpc0: bool [1],
        /// As bit 0.
        other7: bool [1],
    }

    /// 0x8E000 (hardware reference 9.3). State codes 0x00, 0x10, 0x12, 0x22, 0x24, 0x44 are E0 to E5.
    PowerState(u32) {
        /// Code of the state that is asked for.
        requested: u8 [8],
        __: u32 [8],
        /// 0x00 idle, 0x11 request, 0x22 done, 0x33 failed.
        handshake: u8 [8],
        /// Code of the state the chip is in.
        current: u8 [8],
    }

    /// 0x8E080 (hardware reference 9.3).
    PowerDoorbell(u32) {
        /// Look at the power state register.
        ring: bool [1],
        __: u32 [31],
    }
}
