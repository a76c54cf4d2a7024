//! Why no interrupt comes, and why nothing moves: everything that stands between
//! a driver's work and the interrupt it waits for, in the order of the way.

use e3k_regs::Reg;
use e3k_regs::fields::{AdvancedInterrupts, BiuInterrupts};
use e3k_regs::layout::Field;
use presil_device::{FenceRecord, Gpu, RingState, UnmetWait};
use serde::Serialize;

use crate::control::rings;
use crate::service::server::Served;
use crate::shared_gpu::Way;

/// The answer to `why`.
#[derive(Debug, Serialize)]
pub(crate) struct Why {
    /// Sentences for people, the first obstacle first.
    reasons: Vec<String>,
    facts: Facts,
}

/// What the sentences are made from.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, by name in the answer"
)]
#[derive(Debug, Default, Serialize)]
struct Facts {
    lost: bool,
    attached: bool,
    engine_held: bool,
    /// Whether the PCI function is a bus master; a virtio device does not say.
    bus_master: Option<bool>,
    /// Numbers of the rings whose kick-off bit is set.
    rings_started: Vec<u8>,
    /// Of these, those with work that they are doing.
    rings_running: Vec<u8>,
    /// `MXU_INT_STATUS`: which clients had page faults that nobody acknowledged.
    fault_status: u32,
    fault: Option<String>,
    unmet_waits: u64,
    /// Sources that wait for a latch, enabled or not, by name.
    pending: Vec<&'static str>,
    /// Those of them whose enable bit is not set.
    not_enabled: Vec<&'static str>,
    /// The gate in front of all: bit 0 of 0x8AA0.
    gate_open: bool,
    /// An enabled source is pending, and the gate is open.
    line_up: bool,
    /// How interrupts reach the guest; `None`: nobody takes them.
    way: Option<Way>,
    /// Times that the line has risen since power-on.
    interrupts: u64,
}

/// What is told beside the facts.
#[derive(Default)]
struct Details {
    waits: Vec<(u8, String)>,
    running: Vec<String>,
    last_wait: Option<UnmetWait>,
    last_fence: Option<FenceRecord>,
    /// Pending and not enabled: which register enables them.
    enables: Vec<String>,
}

/// What stands in the way now.
pub(crate) fn look(served: &Served) -> Why {
    let mut session = served.gpu.enter();
    let (engine_held, way) = (session.engine_is_held(), session.interrupt_way());
    let seen = session.run(|gpu| Seen::of(gpu, served.bus_master(gpu)));
    drop(session);
    let attached = served.presence.is_attached();
    let Ok(seen) = seen else {
        let facts = Facts {
            lost: true,
            attached,
            ..Facts::default()
        };
        let lost = "The GPU is lost: the model itself failed. Its log says why; start presil anew.";
        let reasons = vec![lost.to_owned()];
        return Why { reasons, facts };
    };
    let (mut facts, details) = seen.facts();
    facts.attached = attached;
    facts.engine_held = engine_held;
    facts.way = way;
    Why {
        reasons: facts.reasons(&details),
        facts,
    }
}

/// A word of interrupt sources.
struct Word {
    raw: u32,
    enable: u32,
    fields: &'static [Field],
    enable_at: Reg,
}

impl Word {
    /// Pending, and not enabled.
    fn missing(&self) -> u32 {
        self.raw & !self.enable
    }

    /// The sources of `bits`, by name.
    fn names(&self, bits: u32) -> impl Iterator<Item = &'static str> {
        let set = self.fields.iter().filter(move |f| f.mask() & bits != 0);
        set.filter(|field| !field.is_reserved())
            .map(|field| field.name)
    }
}

/// What is copied while nobody else has the GPU.
struct Seen {
    words: [Word; 2],
    gate_open: bool,
    line_up: bool,
    bus_master: Option<bool>,
    fault_status: u32,
    fault: Option<presil_device::FaultRecord>,
    rings: rings::Facts,
    unmet_waits: u64,
    last_wait: Option<UnmetWait>,
    last_fence: Option<FenceRecord>,
    interrupts: u64,
}

impl Seen {
    fn of(gpu: &Gpu, bus_master: Option<bool>) -> Self {
        let peek = |reg: Reg| gpu.peek(reg.offset());
        let counters = gpu.counters();
        let fault_status = peek(Reg::MxuIntStatus);
        Self {
            words: [
                Word {
                    raw: peek(Reg::BiuRaw),
                    enable: peek(Reg::BiuEnable),
                    fields: BiuInterrupts::FIELDS,
                    enable_at: Reg::BiuEnable,
                },
                Word {
                    raw: peek(Reg::AdvancedRaw),
                    enable: peek(Reg::AdvancedEnable),
                    fields: AdvancedInterrupts::FIELDS,
                    enable_at: Reg::AdvancedEnable,
                },
            ],
            gate_open: peek(Reg::AdapterControl) & 1 != 0,
            line_up: gpu.interrupt_pending(),
            bus_master,
            fault_status,
            fault: gpu.faults().last().filter(|_| fault_status != 0).cloned(),
            rings: rings::Facts::of(gpu),
            unmet_waits: counters.unmet_waits,
            last_wait: gpu.unmet_waits().last().cloned(),
            last_fence: gpu.fences().last().copied(),
            interrupts: counters.interrupts,
        }
    }

    fn facts(self) -> (Facts, Details) {
        let all = |bits: fn(&Word) -> u32| {
            let words = self.words.iter();
            words.flat_map(move |word| word.names(bits(word))).collect()
        };
        let enables = self.words.iter().filter(|word| word.missing() != 0);
        let enables = enables.map(|word| {
            let names: Vec<_> = word.names(word.missing()).collect();
            let (info, bits) = (word.enable_at.info(), word.missing());
            format!(
                "{}: pending, but not enabled. Set {bits:#x} in {} ({:#x}), which is {:#x}",
                names.join(", "),
                info.name,
                info.offset,
                word.enable
            )
        });
        let rings = &self.rings.rings;
        let numbers = |running: bool| {
            let chosen = rings
                .iter()
                .filter(move |ring| ring.started && (!running || ring.state == RingState::Running));
            chosen.map(|ring| ring.ring).collect::<Vec<_>>()
        };
        let running = rings.iter().filter(|r| r.state == RingState::Running);
        let details = Details {
            waits: self.rings.waits().collect(),
            running: running
                .map(|ring| {
                    format!(
                        "Ring {} is at work: Head {:#x}, Tail {:#x}.",
                        ring.ring, ring.head, ring.tail
                    )
                })
                .collect(),
            last_wait: self.last_wait,
            last_fence: self.last_fence,
            enables: enables.collect(),
        };
        let facts = Facts {
            bus_master: self.bus_master,
            rings_started: numbers(false),
            rings_running: numbers(true),
            fault_status: self.fault_status,
            fault: self.fault.map(|fault| fault.to_string()),
            unmet_waits: self.unmet_waits,
            pending: all(|word| word.raw),
            not_enabled: all(Word::missing),
            gate_open: self.gate_open,
            line_up: self.line_up,
            interrupts: self.interrupts,
            ..Facts::default()
        };
        (facts, details)
    }
}

impl Facts {
    fn reasons(&self, details: &Details) -> Vec<String> {
        let mut reasons = self.of_the_door();
        reasons.extend(self.of_the_rings(details));
        reasons.extend(self.of_the_interrupt(details));
        if reasons.is_empty() {
            let rises = self.interrupts;
            reasons.push(format!(
                "Nothing stands in the way: every started ring has done its work, and no interrupt \
                 waits. The line has risen {rises} times; is the driver's handler called, and does \
                 it look at the right fence?"
            ));
        }
        reasons
    }

    fn of_the_door(&self) -> Vec<String> {
        let mut reasons = vec![];
        if !self.attached {
            reasons.push("No QEMU is attached.".to_owned());
        } else if self.engine_held {
            reasons.push(
                "The engine is held, no ring works: the PCI function is not in D0, or the virtio \
                 device is not running (no DRIVER_OK, or the guest is stopped)."
                    .to_owned(),
            );
        }
        if self.bus_master == Some(false) {
            reasons.push(
                "Bus master is off in the PCI command register: no access to the guest's memory \
                 and no MSI (pci_set_master)."
                    .to_owned(),
            );
        }
        reasons
    }

    fn of_the_rings(&self, details: &Details) -> Vec<String> {
        let mut reasons = vec![];
        if self.rings_started.is_empty() {
            reasons.push(format!(
                "No ring is started: write its page number with bit 31 to its address register \
                 ({:#x} of ring 0), then move Tail.",
                Reg::LowRings.offset()
            ));
        }
        let waits = details.waits.iter();
        reasons.extend(waits.map(|(ring, what)| format!("Ring {ring} waits for {what}.")));
        reasons.extend(details.running.iter().cloned());
        if let Some(fault) = &self.fault {
            reasons.push(format!(
                "A page fault is not acknowledged (MXU_INT_STATUS {:#x}); the last was: {fault}.",
                self.fault_status
            ));
        }
        if let Some(wait) = &details.last_wait {
            reasons.push(format!(
                "Waits that nothing had satisfied: {}; the last: {wait}.",
                self.unmet_waits
            ));
        }
        reasons
    }

    fn of_the_interrupt(&self, details: &Details) -> Vec<String> {
        let mut reasons: Vec<_> = details
            .enables
            .iter()
            .map(|enable| format!("Interrupt {enable}."))
            .collect();
        let enabled = self.pending.len() > self.not_enabled.len();
        if enabled && !self.gate_open {
            reasons.push(format!(
                "An enabled interrupt is pending, but the gate is closed: set bit 0 of {} ({:#x}).",
                Reg::AdapterControl.info().name,
                Reg::AdapterControl.offset()
            ));
        }
        match &self.way {
            None if self.line_up => {
                reasons.push("The interrupt line is up, and nobody takes interrupts.".to_owned());
            }
            Some(Way {
                kind,
                closed: Some(closed),
            }) if self.line_up => {
                reasons.push(format!(
                    "The interrupt line is up, but nothing is sent by {kind}: {closed}."
                ));
            }
            _ => {}
        }
        if self.pending.is_empty()
            && let Some(fence) = details.last_fence.filter(|fence| !fence.interrupt)
        {
            reasons.push(format!(
                "No interrupt source is pending: the last fence, {:#x} at va {:#x}, did not ask \
                 for an interrupt (Irq 1 in its header).",
                fence.value, fence.va
            ));
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use e3k_regs::fields::{MmuMode, RingWord};
    use e3k_regs::packet::Writer;
    use e3k_regs::{GpuVa, VramOffset};
    use presil_device::{Chip, Config, Latched, Width};

    use super::*;
    use crate::doors::pci::Identity;
    use crate::service::server::DoorKind;
    use crate::service::server::DoorOptions;
    use crate::shared_gpu::InterruptPort;

    fn served() -> Served {
        let config = Config::new(Chip::Arise10c0, 1 << 30, 512 << 20, true).unwrap();
        let door = DoorOptions {
            kind: DoorKind::VhostUser,
            socket: "gpu".into(),
        };
        Served::start(config, Identity::default(), &door, &Arc::default(), None).unwrap()
    }

    fn set(served: &Served, offset: u32, value: u32) {
        let mut session = served.gpu.enter();
        let written = session.run(|gpu| gpu.write(offset, Width::B4, value.into()));
        written.unwrap();
    }

    /// Lets the engine work until nothing is left.
    fn run(served: &Served) {
        let mut session = served.gpu.enter();
        let run = session.run(|gpu| while gpu.step(1) != presil_device::Progress::Idle {});
        run.unwrap();
    }

    fn reasons(served: &Served) -> String {
        look(served).reasons.join("\n")
    }

    /// Whether one reason has this part, and tells where else.
    fn assert_reason(served: &Served, part: &str) {
        let reasons = reasons(served);
        assert!(reasons.contains(part), "{part:?} is not in:\n{reasons}");
    }

    struct Closed;

    impl InterruptPort for Closed {
        fn deliver(&mut self, _: &mut Gpu) {}

        fn way(&self, _: &Gpu) -> Way {
            Way {
                kind: "MSI",
                closed: Some("it is off"),
            }
        }
    }

    struct Open;

    impl InterruptPort for Open {
        fn deliver(&mut self, gpu: &mut Gpu) {
            let latched = gpu.latch_interrupts();
            assert_ne!(latched, Latched::default());
        }
    }

    /// A ring at VRAM offset 0 with two fences; only the first interrupts.
    fn ring(served: &Served) {
        let mut buffer = [0; 16];
        let mut writer = Writer::new(&mut buffer);
        writer.fence(GpuVa(0x1000), 1, true);
        writer.fence(GpuVa(0x1000), 2, false);
        let bytes: Vec<u8> = buffer.iter().flat_map(|d| d.to_le_bytes()).collect();
        served.gpu.vram().write(VramOffset(0), &bytes).unwrap();
        set(served, RingWord::Size.offset(0), 0x1000);
    }

    #[test]
    fn every_obstacle_on_the_way_of_an_interrupt_is_told_in_turn() {
        let served = served();
        assert_reason(&served, "No QEMU is attached");
        assert_reason(&served, "No ring is started");
        ring(&served);
        set(&served, RingWord::Tail.offset(0), 20);
        assert_reason(&served, "Ring 0 waits for its kick-off bit");
        set(&served, RingWord::Address.offset(0), 1 << 31);
        run(&served);
        assert_reason(
            &served,
            "fence: pending, but not enabled. Set 0x8000000 in ADVANCED_ENABLE (0x854c)",
        );
        set(&served, Reg::AdvancedEnable.offset(), 1 << 27);
        assert_reason(&served, "the gate is closed: set bit 0 of");
        let gate = Reg::AdapterControl.offset();
        let open = served.gpu.enter().run(|gpu| gpu.write(gate, Width::B1, 1));
        open.unwrap();
        assert_reason(&served, "nobody takes interrupts");
        served.gpu.set_interrupt_port(Some(Box::new(Closed)));
        assert_reason(&served, "nothing is sent by MSI: it is off");
        served.gpu.set_interrupt_port(Some(Box::new(Open)));
        set(&served, RingWord::Tail.offset(0), 40);
        run(&served);
        assert_reason(&served, "did not ask for an interrupt");
        let facts = look(&served).facts;
        assert!(facts.pending.is_empty() && facts.gate_open && !facts.line_up);
        assert_eq!((facts.rings_started, facts.interrupts), (vec![0], 1));
    }

    #[test]
    fn faults_halts_and_a_held_engine_are_told() {
        let served = served();
        // VA mode without tables: the ring itself cannot be fetched.
        set(
            &served,
            Reg::MmuMode.offset(),
            MmuMode::new().with_va_mode(true).into_bits(),
        );
        ring(&served);
        set(&served, RingWord::Address.offset(0), 1 << 31);
        set(&served, RingWord::Tail.offset(0), 20);
        run(&served);
        assert_reason(
            &served,
            "Ring 0 waits for an engine reset (0x8524), because of a ring error",
        );
        assert_reason(&served, "A page fault is not acknowledged");
        assert_reason(&served, "page_fault: pending, but not enabled");
        served.gpu.enter().hold_engine(true);
        served.presence.attach();
        assert_reason(&served, "The engine is held");
        let _ = served.gpu.enter().run(|_| panic!("on purpose"));
        assert_reason(&served, "The GPU is lost");
    }

    #[test]
    fn where_nothing_stands_in_the_way_that_is_told() {
        let served = served();
        served.presence.attach();
        set(&served, RingWord::Address.offset(0), 1 << 31);
        assert_reason(&served, "Nothing stands in the way");
    }
}
