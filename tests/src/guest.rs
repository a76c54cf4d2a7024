//! A running driver with a user: BOs, and the CPU's view of them.

use crate::machine::Machine;
use presil_device::Config;
use std::sync::Arc;
use vidmm::{
    Adapter, BoId, CreateFlags, CreateRequest, Error, InitReport, Leftovers, Options, Timeline,
    Window,
};

const PAGE: u64 = 4096;
const SECOND: u64 = 1_000_000_000;

/// A machine whose driver is loaded.
pub struct Guest {
    /// The machine.
    pub machine: Machine,
    /// The driver.
    pub adapter: Adapter<Machine>,
    /// What `vidmm_init` said.
    pub report: InitReport,
}

impl Guest {
    /// A fresh machine, and the driver on it.
    ///
    /// # Errors
    /// As text: no memory for VRAM, or what `vidmm_init` says.
    pub fn new(config: &Config) -> Result<Self, String> {
        let machine = Machine::new(config).map_err(|e| e.to_string())?;
        Self::load(machine)
    }

    /// The driver on a machine that exists.
    ///
    /// # Errors
    /// What `vidmm_init` says, as text.
    pub fn load(machine: Machine) -> Result<Self, String> {
        let mut report = InitReport::default();
        let adapter = Adapter::init(machine.clone(), Options::default(), &mut report)
            .map_err(|e| format!("{e}; {:?}", machine.log_lines()))?;
        machine.connect(&adapter.timeline());
        Ok(Self {
            machine,
            adapter,
            report,
        })
    }

    /// Ends the driver; the machine stays.
    ///
    /// # Errors
    /// What was left behind.
    pub fn unload(self) -> Result<Machine, Leftovers> {
        self.adapter.fini()?;
        Ok(self.machine)
    }

    /// The driver's fences.
    pub fn timeline(&self) -> Arc<Timeline<Machine>> {
        self.adapter.timeline()
    }

    /// A BO by flags.
    ///
    /// # Errors
    /// Those of [`Adapter::create`].
    pub fn create(&mut self, bytes: u64, flags: CreateFlags) -> Result<BoId, Error> {
        self.create_in(bytes, flags, &[])
    }

    /// A BO by flags and windows. A full ring is waited for, as the kernel
    /// module does.
    ///
    /// # Errors
    /// Those of [`Adapter::create`].
    pub fn create_in(
        &mut self,
        bytes: u64,
        flags: CreateFlags,
        windows: &[Window],
    ) -> Result<BoId, Error> {
        let request = CreateRequest {
            bytes,
            flags: flags.0,
            windows,
        };
        self.call(|adapter| adapter.create(&request))
    }

    /// Calls the driver; where it says that it is busy, lets the GPU work and calls
    /// again, as the kernel module does.
    ///
    /// # Errors
    /// What `call` says; [`Error::Busy`] when the GPU finishes nothing more.
    pub fn call<T>(
        &mut self,
        mut call: impl FnMut(&mut Adapter<Machine>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            let before = self.timeline().counters();
            match call(&mut self.adapter) {
                Err(Error::Busy) => {}
                result => return result,
            }
            // A GPU that cannot be helped is lost, which the next call says.
            _ = self.run();
            if self.timeline().counters() == before {
                return Err(Error::Busy);
            }
        }
    }

    /// Waits for a fence of the GPU, a minute at most, and says how it ended.
    /// The driver attends to errors meanwhile.
    ///
    /// # Errors
    /// Those of [`Timeline::wait`] and [`Adapter::judge`].
    pub fn wait(&mut self, fence: u64) -> Result<(), Error> {
        // A GPU that cannot be helped is lost, which the wait says.
        _ = self.run();
        self.timeline().wait(fence, 60 * SECOND)?;
        self.adapter.judge(fence)
    }

    /// The GPU works until it has nothing to do, and the driver attends to each
    /// error on the way, as the kernel module's work item does.
    ///
    /// # Errors
    /// Those of [`Adapter::attend`].
    pub fn run(&mut self) -> Result<(), Error> {
        loop {
            self.machine.run();
            let before = self.timeline().counters();
            self.adapter.attend()?;
            self.machine.run();
            let after = self.timeline().counters();
            if after == before {
                return Ok(());
            }
        }
    }

    /// The CPU reads a BO, touching its pages as it goes.
    ///
    /// # Errors
    /// Those of [`Adapter::fault`].
    pub fn read(&mut self, bo: BoId, offset: u64, bytes: usize) -> Result<Vec<u8>, Error> {
        let mut data = vec![0; bytes];
        self.pieces(bo, offset, bytes, |machine, at, piece| {
            machine.cpu_read(at, &mut data[piece]);
        })?;
        Ok(data)
    }

    /// The CPU writes a BO, touching its pages as it goes.
    ///
    /// # Errors
    /// Those of [`Adapter::fault`].
    pub fn write(&mut self, bo: BoId, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.pieces(bo, offset, data.len(), |machine, at, piece| {
            machine.cpu_write(at, &data[piece]);
        })
    }

    /// The page frame behind a page, waiting while the BO is being cleared.
    ///
    /// # Errors
    /// Those of [`Adapter::fault`].
    pub fn touch(&mut self, bo: BoId, page: u64) -> Result<u64, Error> {
        let frame = self.call(|adapter| adapter.fault(bo, page))?;
        Ok(frame.pfn)
    }

    /// Calls `access` with the physical address of each piece of a range that
    /// lies in one page.
    fn pieces(
        &mut self,
        bo: BoId,
        offset: u64,
        bytes: usize,
        mut access: impl FnMut(&Machine, u64, std::ops::Range<usize>),
    ) -> Result<(), Error> {
        let mut done = 0;
        while done < bytes {
            let at = offset + done as u64;
            let in_page = at % PAGE;
            let to_end = usize::try_from(PAGE - in_page).unwrap_or(bytes);
            let len = to_end.min(bytes - done);
            let frame = self.touch(bo, at / PAGE)?;
            access(&self.machine, frame * PAGE + in_page, done..done + len);
            done += len;
        }
        Ok(())
    }
}
