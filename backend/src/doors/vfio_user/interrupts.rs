//! The function's interrupt, by MSI or INTx.

use std::sync::Arc;

use parking_lot::Mutex;
use presil_device::Gpu;
use rustix::io::Errno;
use vfio_bindings::bindings::vfio;

use super::config_space::Route;
use super::counters::VfioUserCounters;
use super::wire::{IrqAction, IrqData, SetIrqs};
use crate::doors::lent::LentEvent;
use crate::shared_gpu::{InterruptPort, Way};

/// Said at the first INTx.
const SLOW_WINDOW: &str = "the guest uses INTx: QEMU then serves BAR1 by messages, about fifty \
    times slower, until INTx is disabled. With MSI it does not";

/// Flags and number of the interrupts of a kind; `None` when there is no such kind.
pub(super) fn kind(index: u32) -> Option<(u32, u32)> {
    match index {
        vfio::VFIO_PCI_INTX_IRQ_INDEX => {
            let flags = vfio::VFIO_IRQ_INFO_EVENTFD
                | vfio::VFIO_IRQ_INFO_MASKABLE
                | vfio::VFIO_IRQ_INFO_AUTOMASKED;
            Some((flags, 1))
        }
        vfio::VFIO_PCI_MSI_IRQ_INDEX => Some((
            vfio::VFIO_IRQ_INFO_EVENTFD | vfio::VFIO_IRQ_INFO_NORESIZE,
            1,
        )),
        index if index < vfio::VFIO_PCI_NUM_IRQS => Some((0, 0)),
        _ => None,
    }
}

/// Where interrupts of one connection go.
pub(super) struct Interrupts {
    counters: Arc<VfioUserCounters>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    route: Route,
    msi: Option<LentEvent>,
    intx: Option<LentEvent>,
    /// From each INTx until the client has taken it.
    intx_masked: bool,
    /// Rises of the line when an MSI was last sent.
    seen: u64,
}

impl Interrupts {
    pub(super) fn new(counters: Arc<VfioUserCounters>) -> Self {
        Self {
            counters,
            state: Mutex::default(),
        }
    }

    /// What configuration space says.
    pub(super) fn set_route(&self, route: Route) {
        self.state.lock().route = route;
    }

    /// What the client says. Belongs into a session of the GPU, whose end sends
    /// what waits.
    ///
    /// # Errors
    /// `EINVAL`: there are no such interrupts, they cannot do that, or the
    /// descriptor is not theirs.
    pub(super) fn set(&self, request: SetIrqs<'_>, event: Option<LentEvent>) -> Result<(), Errno> {
        let (_, number) = kind(request.index).ok_or(Errno::INVAL)?;
        let end = request.start.checked_add(request.count);
        if number == 0
            || end.is_none_or(|end| end > number)
            || (request.data != IrqData::EventFds && event.is_some())
        {
            return Err(Errno::INVAL);
        }
        let mut state = self.state.lock();
        let intx = request.index == vfio::VFIO_PCI_INTX_IRQ_INDEX;
        let all = matches!(request.data, IrqData::None) && request.count == 1;
        let chosen = all || matches!(request.data, IrqData::Bools([chosen]) if *chosen != 0);
        match (request.action, request.data) {
            (IrqAction::Trigger, IrqData::EventFds) if request.count == 1 => {
                state.assign(intx, event);
            }
            (IrqAction::Trigger, IrqData::None) if request.count == 0 => state.assign(intx, None),
            (IrqAction::Trigger, IrqData::None | IrqData::Bools(_)) => {
                if chosen {
                    state.signal(intx);
                }
            }
            (IrqAction::Mask, IrqData::None | IrqData::Bools(_)) if intx => {
                state.intx_masked |= chosen;
            }
            (IrqAction::Unmask, IrqData::None | IrqData::Bools(_)) if intx => {
                state.intx_masked &= !chosen;
            }
            _ => return Err(Errno::INVAL),
        }
        Ok(())
    }
}

impl State {
    fn assign(&mut self, intx: bool, fd: Option<LentEvent>) {
        if intx {
            self.intx = fd;
            self.intx_masked = false;
        } else {
            self.msi = fd;
        }
    }

    /// Whether there was somebody to tell.
    fn signal(&self, intx: bool) -> bool {
        let event = if intx { &self.intx } else { &self.msi };
        let Some(event) = event else { return false };
        // Where the kernel has no memory for it the interrupt is lost.
        if let Err(error) = event.signal() {
            tracing::debug!("an interrupt was lost: {error}");
        }
        true
    }
}

/// [`Interrupts`] as the GPU holds it.
pub(super) struct Port(pub(super) Arc<Interrupts>);

impl InterruptPort for Port {
    fn deliver(&mut self, gpu: &mut Gpu) {
        let mut state = self.0.state.lock();
        let rises = gpu.counters().interrupts;
        let route = state.route;
        match route {
            Route::Msi if state.seen != rises && state.signal(false) => {
                state.seen = rises;
                self.0.counters.msi.add(1);
            }
            Route::Intx if !state.intx_masked && state.signal(true) => {
                state.intx_masked = true;
                if self.0.counters.intx.get() == 0 {
                    tracing::warn!("{SLOW_WINDOW}");
                }
                self.0.counters.intx.add(1);
            }
            _ => {}
        }
    }
    fn way(&self, gpu: &Gpu) -> Way {
        let state = self.0.state.lock();
        let (kind, closed) = match state.route {
            Route::Off => (
                "PCI",
                Some(
                    "MSI needs its enable bit and bus master, INTx needs interrupt disable (bit \
                     10 of the PCI command register) to be 0, both need D0",
                ),
            ),
            Route::Msi if state.msi.is_none() => {
                ("MSI", Some("the VMM has not said where MSIs go"))
            }
            Route::Msi if state.seen == gpu.counters().interrupts => (
                "MSI",
                Some(
                    "one MSI was sent for this rise of the line, and the next comes after the \
                     driver has latched the sources by a write to 0x8574",
                ),
            ),
            Route::Msi => ("MSI", None),
            Route::Intx if state.intx.is_none() => {
                ("INTx", Some("the VMM has not said where INTx goes"))
            }
            Route::Intx if state.intx_masked => (
                "INTx",
                Some(
                    "one INTx was sent, and it is masked until the driver has lowered the line by \
                     a write to 0x8574",
                ),
            ),
            Route::Intx => ("INTx", None),
        };
        Way { kind, closed }
    }
}
