//! A process of a managed GPU with one buffer, and what a test looks at in buffers.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use crate::manager::{Fence, Managed};
use e3k_regs::{GpuVa, PAGE_SIZE};
use vidmm::placement::{Flags, Place};
use vidmm::vm::SpaceId;
use vidmm::{Blit, BoId, Error, SegmentId};

/// A process that maps a buffer where its addresses begin.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Its address space.
    pub space: SpaceId,
    /// Where the buffer is for it.
    pub at: GpuVa,
    /// The buffer.
    pub bo: BoId,
}

impl Process {
    /// A process for a buffer of so many pages.
    ///
    /// # Panics
    /// There is no memory for it.
    #[track_caller]
    pub fn of(gpu: &Managed, bo: BoId, pages: u64) -> Self {
        let world = gpu.mm.world();
        let space = world.start_process(&gpu.mm).unwrap();
        let (at, bytes) = (world.private_zone(), pages * PAGE_SIZE);
        world
            .map(&gpu.mm, space, at, bytes, (bo, 0), &Managed::ctx())
            .unwrap();
        Self { space, at, bo }
    }

    /// A process, and a buffer of so many pages there.
    ///
    /// # Panics
    /// There is no memory for it.
    #[track_caller]
    pub fn start(gpu: &Managed, pages: u64, segment: SegmentId) -> Self {
        let place = Place::anywhere(segment, Flags::NONE);
        Self::of(gpu, gpu.create(pages, &[place]).unwrap(), pages)
    }

    /// The same, in the part of local memory that the CPU sees.
    ///
    /// # Panics
    /// There is no memory for it.
    #[track_caller]
    pub fn local(gpu: &Managed, pages: u64) -> Self {
        Self::start(gpu, pages, SegmentId::LocalVisible)
    }

    /// A job that fills the first pages of the buffer.
    ///
    /// # Errors
    /// Those of [`Managed::job`].
    pub fn try_fill(&self, gpu: &Managed, pages: u64, pattern: u32) -> Result<Fence, Error> {
        let (at, bytes) = (self.at, pages * PAGE_SIZE);
        gpu.job(self.space, &[Blit::Fill { at, bytes, pattern }])
    }

    /// The same.
    ///
    /// # Panics
    /// The job was refused.
    #[track_caller]
    pub fn fill(&self, gpu: &Managed, pages: u64, pattern: u32) -> Fence {
        self.try_fill(gpu, pages, pattern).unwrap()
    }
}

/// Whether all words of a buffer are these, and nothing was seen that is wrong.
///
/// # Panics
/// They are not, or there was.
#[track_caller]
pub fn assert_all(gpu: &Managed, bo: BoId, pattern: u32) {
    let words = gpu.words(bo).unwrap();
    assert!(
        words.iter().all(|word| *word == pattern),
        "{pattern:#x}: {:#x?}",
        &words[..words.len().min(4)]
    );
    assert_eq!(gpu.machine.ram().violations(), [""; 0]);
}

/// Whether no TLB holds anything that the tables do not say.
///
/// # Panics
/// One does.
#[track_caller]
pub fn assert_tlbs_agree(gpu: &Managed) {
    gpu.run();
    let stale = gpu.machine.gpu(|gpu| {
        let mut all = gpu.tlb(None, None);
        let stale = all.find(presil_device::TlbEntry::is_stale);
        stale.map(|it| format!("process id {} at {:#x}: {it}", it.process_id, it.va))
    });
    assert_eq!(stale, None);
}
