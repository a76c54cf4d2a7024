//! What the adapter tells of its memory.

use crate::Error;
use crate::adapter::Adapter;
use crate::bo::{Backing, BoId, Kind};
use crate::placement::picture::Bar;
use crate::placement::segments::{Bus, SegmentId, SegmentInfo};
use crate::platform::Os;
use core::fmt;
use e3k_regs::{GpuVa, PAGE_SIZE};

/// Where a BO is and in what state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// The segment it was placed in.
    pub segment: SegmentId,
    /// First page, counted from the segment's start.
    pub start_page: u64,
    /// Its pages.
    pub pages: u64,
    /// Size as asked for.
    pub bytes: u64,
    /// Where the GPU finds it.
    pub gpu_va: GpuVa,
    /// Which bus the CPU takes.
    pub bus: Bus,
    /// It has RAM pages.
    pub populated: bool,
    /// The GART points at them.
    pub bound: bool,
    /// The page-table entry of its first page, as the CPU reads it.
    pub first_pte: u32,
    /// It is pinned.
    pub pinned: bool,
}

impl<O: Os> Adapter<O> {
    /// Where a BO is and in what state.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn describe(&self, bo: BoId) -> Result<Description, Error> {
        let gpu_va = self.user_bo(bo).and_then(|_| self.memory.va(bo))?;
        let bo = self.user_bo(bo)?;
        let resource = bo.resource.ok_or(Error::NotFound)?;
        Ok(Description {
            segment: resource.segment,
            start_page: resource.first_page,
            pages: bo.pages,
            bytes: bo.bytes,
            gpu_va,
            bus: resource.segment.bus(),
            populated: bo.backing.pages().is_some(),
            bound: bo.backing.is_bound(),
            first_pte: self.os().load_u32(self.gart.tables.l3_entry(gpu_va)),
            pinned: bo.pins > 0,
        })
    }

    /// The four segments' figures.
    pub fn segments(&self) -> [SegmentInfo; 4] {
        self.memory.mm_mgr.segments.infos()
    }

    /// One line for each BO: place, state, owner.
    ///
    /// # Errors
    /// Those of `w`.
    pub fn write_bo_list(&self, w: &mut dyn fmt::Write) -> fmt::Result {
        writeln!(
            w,
            "id kind segment start_page pages gpu_va state pins last_use"
        )?;
        for (id, bo) in self.memory.bos.iter() {
            let kind = match bo.kind {
                Kind::Kernel => "kernel",
                Kind::Device if bo.zombie => "zombie",
                Kind::Device => "device",
            };
            let state = match (&bo.backing, bo.is_on(Bus::Io)) {
                (_, true) => "local",
                (Backing::Empty, _) => "empty",
                (Backing::Populated(_), _) => "populated",
                (Backing::Bound(_), _) => "bound",
            };
            write!(w, "{:#x} {kind} ", id.to_bits())?;
            match bo.resource {
                Some(at) => {
                    let va = self
                        .memory
                        .mm_mgr
                        .segments
                        .get(at.segment)
                        .va(at.first_page);
                    let (name, first) = (at.segment.name(), at.first_page);
                    write!(w, "{name} {first} {} {:#x}", bo.pages, va.0)?;
                }
                None => write!(w, "system - {} -", bo.pages)?,
            }
            writeln!(w, " {state} {} {}", bo.pins, bo.last_use)?;
        }
        Ok(())
    }

    /// A bar for each segment: what is the kernel's (`K`), pinned (`P`), going (`z`),
    /// each client's (`a` for the first, and so on) and free (`.`).
    ///
    /// # Errors
    /// Those of `w`.
    pub fn write_picture(&self, w: &mut dyn fmt::Write) -> fmt::Result {
        for segment in self.segments() {
            let pages = segment.bytes / PAGE_SIZE;
            let mut bar = Bar::new(pages);
            for (_, bo) in self.memory.bos.iter() {
                if let Some(at) = bo.resource.filter(|at| at.segment == segment.id) {
                    bar.add(at.first_page..at.first_page + bo.pages, bo.letter());
                }
            }
            let (used, pages) = (segment.usage / PAGE_SIZE, pages);
            writeln!(w, "{:<16}{bar} {used} of {pages} pages", segment.name)?;
        }
        Ok(())
    }
}
