//! The machine around the GPU: memory with holes that remembers who touched
//! it, and an interrupt line that is counted.

use presil_device::{BusAddr, BusError, DmaAccess, DmaMapping, InterruptSink, SystemMemory};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use vm_memory::VolatileSlice;

const PAGE: u64 = 4096;
type Page = [u8; 4096];

/// One access that the GPU made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Touch {
    pub(crate) at: u64,
    pub(crate) bytes: usize,
    pub(crate) write: bool,
    pub(crate) access: DmaAccess,
}

#[derive(Default)]
struct Inner {
    pages: BTreeMap<u64, Box<Page>>,
    touches: Vec<Touch>,
    /// It tells of DMA mappings: the pages that were added are those.
    iommu: bool,
    cut_off: bool,
}

/// System memory: only the pages that were added answer.
#[derive(Clone, Default)]
pub(crate) struct Ram(Arc<Mutex<Inner>>);

impl Ram {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Puts a zeroed page at bus address `at`, a multiple of 4096.
    pub(crate) fn add_page(&self, at: u64) {
        assert_eq!(at % PAGE, 0);
        self.inner().pages.insert(at / PAGE, Box::new([0; 4096]));
    }

    /// Other memory with the same contents.
    pub(crate) fn duplicate(&self) -> Self {
        let other = Self::default();
        other.inner().pages = self.inner().pages.clone();
        other
    }

    /// Reads as the CPU does: not remembered.
    pub(crate) fn peek(&self, at: u64, buf: &mut [u8]) {
        self.inner()
            .copy(at, buf.len(), |page, span| buf[span].copy_from_slice(page))
            .unwrap();
    }

    /// Writes as the CPU does: not remembered.
    pub(crate) fn poke(&self, at: u64, data: &[u8]) {
        self.inner()
            .copy(at, data.len(), |page, span| {
                page.copy_from_slice(&data[span]);
            })
            .unwrap();
    }

    /// What the GPU touched since the last call.
    pub(crate) fn take_touches(&self) -> Vec<Touch> {
        std::mem::take(&mut self.inner().touches)
    }

    /// All contents, in order of address.
    pub(crate) fn dump(&self) -> Vec<(u64, Vec<u8>)> {
        let inner = self.inner();
        inner
            .pages
            .iter()
            .map(|(page, bytes)| (page * PAGE, bytes.to_vec()))
            .collect()
    }
}

#[allow(dead_code, reason = "for the tests of the driver checker")]
impl Ram {
    /// From now on there is an IOMMU.
    pub(crate) fn put_behind_iommu(&self) {
        self.inner().iommu = true;
    }

    /// Takes the page at bus address `at` away.
    pub(crate) fn remove_page(&self, at: u64) {
        self.inner().pages.remove(&(at / PAGE));
    }

    /// The GPU is no bus master any more, or one again.
    pub(crate) fn set_bus_master(&self, on: bool) {
        self.inner().cut_off = !on;
    }
}

impl Inner {
    /// Runs `each` on every piece of a page with its place in the whole.
    fn copy(
        &mut self,
        at: u64,
        len: usize,
        mut each: impl FnMut(&mut [u8], std::ops::Range<usize>),
    ) -> Result<(), BusError> {
        let mut done = 0;
        while done < len {
            let from = at + done as u64;
            let page = self.pages.get_mut(&(from / PAGE)).ok_or(BusError)?;
            let start = usize::try_from(from % PAGE).unwrap();
            let piece = (len - done).min(page.len() - start);
            each(&mut page[start..start + piece], done..done + piece);
            done += piece;
        }
        Ok(())
    }

    fn touch(&mut self, at: BusAddr, bytes: usize, write: bool, access: DmaAccess) {
        self.touches.push(Touch {
            at: at.0,
            bytes,
            write,
            access,
        });
    }
}

impl SystemMemory for Ram {
    fn bus_master(&self) -> bool {
        !self.inner().cut_off
    }

    fn dma_mapping(&self, at: BusAddr) -> DmaMapping {
        let inner = self.inner();
        match (inner.iommu, inner.pages.contains_key(&(at.0 / PAGE))) {
            (false, _) => DmaMapping::Unknown,
            (true, true) => DmaMapping::Mapped,
            (true, false) => DmaMapping::Unmapped,
        }
    }

    fn read(&self, at: BusAddr, buf: &mut [u8], access: DmaAccess) -> Result<(), BusError> {
        let mut inner = self.inner();
        inner.touch(at, buf.len(), false, access);
        inner.copy(at.0, buf.len(), |page, span| {
            buf[span].copy_from_slice(page);
        })
    }

    fn write(&self, at: BusAddr, buf: &[u8], access: DmaAccess) -> Result<(), BusError> {
        let mut inner = self.inner();
        inner.touch(at, buf.len(), true, access);
        inner.copy(at.0, buf.len(), |page, span| {
            page.copy_from_slice(&buf[span]);
        })
    }

    /// As far as there are pages: each run of neighbours counts as one mapping.
    fn with_mapped(
        &self,
        at: BusAddr,
        bytes: usize,
        write: bool,
        access: DmaAccess,
        body: &mut dyn FnMut(VolatileSlice<'_>),
    ) -> Result<(), BusError> {
        let mut inner = self.inner();
        let mut here = 0;
        while here < bytes && inner.pages.contains_key(&((at.0 + here as u64) / PAGE)) {
            let piece = PAGE - (at.0 + here as u64) % PAGE;
            let piece = (bytes - here).min(usize::try_from(piece).unwrap());
            inner.touch(at.add(here as u64), piece, write, access);
            here += piece;
        }
        let mut mapped = vec![0; here];
        inner.copy(at.0, here, |page, span| mapped[span].copy_from_slice(page))?;
        if here > 0 {
            body(VolatileSlice::from(&mut mapped[..]));
        }
        if write {
            inner.copy(at.0, here, |page, span| page.copy_from_slice(&mapped[span]))?;
        }
        Ok(())
    }

    fn load_u32(&self, at: BusAddr, access: DmaAccess) -> Result<u32, BusError> {
        let mut bytes = [0; 4];
        self.read(at, &mut bytes, access)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn store_u64(&self, at: BusAddr, value: u64, access: DmaAccess) -> Result<(), BusError> {
        self.write(at, &value.to_le_bytes(), access)
    }
}

/// Counts interrupts and keeps what a word of RAM held at each of them.
#[derive(Clone, Default)]
pub(crate) struct Line {
    seen: Arc<Mutex<Vec<u64>>>,
    watch: Arc<Mutex<Option<(Ram, u64)>>>,
}

impl Line {
    /// From now on each interrupt notes the 64-bit word at bus address `at`.
    pub(crate) fn watch(&self, ram: &Ram, at: u64) {
        *self.watch.lock().unwrap() = Some((ram.clone(), at));
    }

    /// How often the line has risen.
    pub(crate) fn raised(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// The watched word at each interrupt.
    pub(crate) fn seen(&self) -> Vec<u64> {
        self.seen.lock().unwrap().clone()
    }
}

impl InterruptSink for Line {
    fn raise(&mut self) {
        let mut word = [0; 8];
        if let Some((ram, at)) = &*self.watch.lock().unwrap() {
            ram.peek(*at, &mut word);
        }
        self.seen.lock().unwrap().push(u64::from_le_bytes(word));
    }
}
