//! The bus interface unit: interrupts (hardware reference 7).

use crate::defect::Defect;
use crate::latched::Latched;
use crate::saved::interrupts::Interrupts;
use crate::watch::Onlooker;
use e3k_regs::Reg;
use e3k_regs::fields::{AdapterControl, AdvancedInterrupts, BiuInterrupts};

/// Who carries the interrupt to the machine.
pub trait InterruptSink: Send {
    /// The line has risen: an enabled source is pending and the gate is open.
    /// Called while the GPU is in use: only wake somebody. Called again when
    /// sources remain or arrive after a latch.
    fn raise(&mut self);
}

/// No machine that takes interrupts: whoever wants to know asks
/// [`crate::Gpu::interrupt_pending`].
#[derive(Clone, Copy, Debug, Default)]
pub struct NoInterrupts;

impl InterruptSink for NoInterrupts {
    fn raise(&mut self) {}
}

/// Vertical blanks of displays 1 to 4.
const VSYNCS: u32 = BiuInterrupts::new()
    .with_vsync1(true)
    .with_vsync2(true)
    .with_vsync3(true)
    .with_vsync4(true)
    .into_bits();

pub(crate) struct Biu {
    raw: BiuInterrupts,
    enable: u32,
    advanced_raw: AdvancedInterrupts,
    advanced_enable: u32,
    shadow: Latched,
    control: AdapterControl,
    /// The line.
    asserted: bool,
    /// The machine does not hear of it, by a defect.
    unheard: bool,
    /// It rises once more with nothing pending, by a defect.
    echo: bool,
    sink: Box<dyn InterruptSink>,
}

impl Biu {
    pub(crate) fn new(sink: Box<dyn InterruptSink>) -> Self {
        Self {
            raw: BiuInterrupts::new(),
            enable: 0,
            advanced_raw: AdvancedInterrupts::new(),
            advanced_enable: 0,
            shadow: Latched::default(),
            control: AdapterControl::new(),
            asserted: false,
            unheard: false,
            echo: false,
            sink,
        }
    }

    pub(crate) fn save(&self) -> Interrupts {
        Interrupts {
            raw: self.raw,
            enable: self.enable,
            advanced_raw: self.advanced_raw,
            advanced_enable: self.advanced_enable,
            shadow: self.shadow,
            control: self.control,
            asserted: self.asserted,
        }
    }

    /// A line that was up is up, and the sink hears of its next rise.
    pub(crate) fn restore(saved: Interrupts, sink: Box<dyn InterruptSink>) -> Self {
        let Interrupts {
            raw,
            enable,
            advanced_raw,
            advanced_enable,
            shadow,
            control,
            asserted,
        } = saved;
        Self {
            raw,
            enable,
            advanced_raw,
            advanced_enable,
            shadow,
            control,
            asserted,
            unheard: false,
            echo: false,
            sink,
        }
    }

    /// Everything but the sink to its reset value.
    pub(crate) fn reset(&mut self) {
        let sink = std::mem::replace(&mut self.sink, Box::new(NoInterrupts));
        *self = Self::new(sink);
    }

    pub(crate) fn page_fault(&mut self) {
        self.raw.set_page_fault(true);
    }

    pub(crate) fn master_abort(&mut self) {
        self.raw.set_master_abort(true);
    }

    /// Raises the vertical blank of every display whose source is enabled; for the
    /// others nothing stays pending. Says whether there was one.
    pub(crate) fn vsync(&mut self) -> bool {
        let fired = self.enable & VSYNCS;
        self.raw = BiuInterrupts::from_bits(self.raw.into_bits() | fired);
        fired != 0
    }

    pub(crate) fn wants_vsync(&self) -> bool {
        self.enable & VSYNCS != 0
    }

    pub(crate) fn fence(&mut self) {
        self.advanced_raw.set_fence(true);
    }

    /// A ring gave up: its unit's source (hardware reference 7.1).
    pub(crate) fn ring_halted(&mut self, watch: impl Onlooker, ring: u8) {
        match ring {
            8 if watch.bends(Defect::VideoErrorOfOther) => {
                self.advanced_raw.set_vcp0_fe_error(true);
            }
            7 => self.advanced_raw.set_vcp0_fe_error(true),
            8 => self.advanced_raw.set_vcp1_fe_error(true),
            9 => self.advanced_raw.set_vpp_timeout(true),
            _ => self.advanced_raw.set_csp_timeout(true),
        }
    }

    /// Whether the line is up, as far as the machine can tell.
    pub(crate) fn line(&self) -> bool {
        self.asserted && !self.unheard
    }

    /// Whether a source is pending for which the line has not risen, which a defect puts off
    /// until a frame of the displays ends.
    pub(crate) fn is_late(&self, watch: impl Onlooker) -> bool {
        self.pending(watch) && !self.asserted
    }

    fn pending(&self, watch: impl Onlooker) -> bool {
        let enabled = |enable: u32| {
            if watch.bends(Defect::EnableIgnored) {
                !0
            } else {
                enable
            }
        };
        let fired = self.raw.into_bits() & enabled(self.enable)
            | self.advanced_raw.into_bits() & enabled(self.advanced_enable);
        fired != 0 && (self.control.interrupt_enable() || watch.bends(Defect::GateIgnored))
    }

    /// Raises or lowers the line, and tells the sink when it rises. Returns whether it did.
    /// `frame_ends`: the displays' frame has ended.
    pub(crate) fn settle(&mut self, watch: impl Onlooker, frame_ends: bool) -> bool {
        let pending = self.pending(watch) || std::mem::take(&mut self.echo);
        if self.asserted {
            self.asserted = pending || watch.bends(Defect::LineStaysUp);
            self.echo = !self.asserted && watch.bends(Defect::InterruptSpurious);
            return false;
        }
        if !pending || !frame_ends && watch.bends(Defect::InterruptLate) {
            return false;
        }
        self.asserted = true;
        self.unheard = watch.bends(Defect::InterruptLost);
        if !self.unheard {
            self.sink.raise();
        }
        !self.unheard
    }

    /// Copies raw to shadow and clears raw. [`Self::settle`] must follow: it
    /// lowers the line, so that what arrives later raises it anew.
    pub(crate) fn latch(&mut self, watch: impl Onlooker) -> Latched {
        self.shadow = Latched {
            biu: self.raw.into_bits(),
            advanced: self.advanced_raw.into_bits(),
        };
        if !watch.bends(Defect::LatchKeepsRaw) {
            self.raw = BiuInterrupts::new();
            self.advanced_raw = AdvancedInterrupts::new();
        }
        self.shadow
    }

    pub(crate) fn read_register(&self, reg: Reg) -> Option<u32> {
        Some(match reg {
            Reg::BiuRaw => self.raw.into_bits(),
            Reg::BiuEnable => self.enable,
            Reg::AdvancedRaw => self.advanced_raw.into_bits(),
            Reg::AdvancedEnable => self.advanced_enable,
            Reg::BiuShadow => self.shadow.biu,
            Reg::AdvancedShadow => self.shadow.advanced,
            Reg::AdapterControl => self.control.into_bits().into(),
            _ => return None,
        })
    }

    pub(crate) fn write_register(&mut self, watch: impl Onlooker, reg: Reg, value: u32) -> bool {
        match reg {
            Reg::BiuEnable => self.enable = value,
            Reg::AdvancedEnable => self.advanced_enable = value,
            Reg::BiuShadow => {
                self.latch(watch);
            }
            Reg::AdapterControl => {
                self.control = AdapterControl::from_bits(value.to_le_bytes()[0]);
            }
            Reg::BiuRaw | Reg::AdvancedRaw | Reg::AdvancedShadow => {}
            _ => return false,
        }
        true
    }
}
