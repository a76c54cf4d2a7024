//! A heap as a map of pages, in which everything is looked for page by page.

use super::super::Options;
use crate::Error;
use crate::placement::holes::checker::{naive_find, naive_runs};
use crate::placement::{Extent, Fit, Flags, Request, Window};

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Booked,
    Free { clear: bool, fence: Option<u8> },
}

#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) pages: Vec<Page>,
    options: Options,
}

/// What the model books.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Booked {
    pub(super) extents: Vec<Extent>,
    pub(super) dirty: Vec<Extent>,
    pub(super) fences: Vec<u8>,
}

impl Model {
    pub(super) fn new(pages: u64, options: Options) -> Self {
        let whole = pages - pages % options.chunk;
        let free = Page::Free {
            clear: false,
            fence: None,
        };
        Self {
            pages: vec![free; usize::try_from(whole).unwrap()],
            options,
        }
    }

    fn map(&self, of: impl Fn(Page) -> bool) -> Vec<bool> {
        self.pages.iter().map(|page| of(*page)).collect()
    }

    pub(super) fn idle(&self) -> Vec<bool> {
        self.map(|page| matches!(page, Page::Free { fence: None, .. }))
    }

    pub(super) fn count(&self, of: impl Fn(Page) -> bool) -> u64 {
        self.map(of).iter().filter(|is| **is).count() as u64
    }

    pub(super) fn slice(&mut self, extent: Extent) -> &mut [Page] {
        let [first, end] = [extent.first, extent.end].map(|n| usize::try_from(n).unwrap());
        &mut self.pages[first..end]
    }

    /// Books in the way the documentation tells; the model is as before on error.
    pub(super) fn book(
        &mut self,
        request: &Request,
        window: Window,
        flags: Flags,
    ) -> Result<Booked, Error> {
        let chunk = self.options.chunk;
        let Request { pages, align, .. } = *request;
        let whole = |n: u64| n.is_multiple_of(chunk);
        let (first, last) = (window.first_page, window.last_page);
        if pages == 0 || !whole(pages) || !whole(first) || !whole(last) {
            return Err(Error::Invalid);
        }
        if !align.is_power_of_two() || align < chunk {
            return Err(Error::Invalid);
        }
        let total = self.pages.len() as u64;
        let end = if last == 0 { total } else { last };
        if first >= end || end > total {
            return Err(Error::NeverFits);
        }
        let window = Extent::new(first, end);
        let exact = end - first == pages;
        if exact && (!first.is_multiple_of(align) || !end.is_multiple_of(align)) {
            return Err(Error::Invalid);
        }
        if pages > total {
            return Err(Error::NeverFits);
        }
        let run =
            exact || flags.has(Flags::CONTIGUOUS) || (pages < align && pages.is_power_of_two());
        let taken = if run {
            pages
        } else {
            pages.div_ceil(align) * align
        };
        let mut empty = Self::new(total, self.options);
        empty
            .fill(taken, request, window, flags, run)
            .ok_or(Error::NeverFits)?;
        let kept = if request.kernel {
            0
        } else {
            self.options.reserve
        };
        if total < taken + kept {
            return Err(Error::NeverFits);
        }
        if self.count(|page| page != Page::Booked) < taken + kept {
            return Err(Error::NoSpace);
        }
        if let Some(booked) = self.fill(taken, request, window, flags, run) {
            return Ok(booked);
        }
        let mut waiting = self.clone();
        for page in &mut waiting.pages {
            if let Page::Free { fence, .. } = page {
                *fence = None;
            }
        }
        let filled = waiting.fill(taken, request, window, flags, run);
        let mut booked = filled.ok_or(Error::NoSpace)?;
        for extent in booked.extents.clone() {
            for page in self.slice(extent) {
                if let Page::Free {
                    fence: Some(fence), ..
                } = *page
                    && !booked.fences.contains(&fence)
                {
                    booked.fences.push(fence);
                }
                *page = Page::Booked;
            }
        }
        booked.fences.sort_unstable();
        Ok(booked)
    }

    fn fill(
        &mut self,
        taken: u64,
        request: &Request,
        window: Extent,
        flags: Flags,
        run: bool,
    ) -> Option<Booked> {
        let before = self.pages.clone();
        let mut blocks: Vec<Extent> = Vec::new();
        let mut left = taken;
        let mut size = if run { taken } else { 1 << taken.ilog2() };
        while left > 0 {
            while !run && size > left {
                size /= 2;
            }
            let align = if run { request.align } else { size };
            match self.block(size, align, request.clear, window, flags) {
                Some(first) => {
                    blocks.push(Extent::new(first, first + size));
                    self.slice(Extent::new(first, first + size))
                        .fill(Page::Booked);
                    left -= size;
                }
                None if !run && size > request.align => size /= 2,
                None => {
                    self.pages = before;
                    return None;
                }
            }
        }
        if !request.untrimmed {
            let last = blocks.last_mut().unwrap();
            last.end -= taken - request.pages;
        }
        // What was trimmed is as it was.
        self.pages.clone_from(&before);
        let mut dirty = Vec::new();
        for block in &blocks {
            let tracked = self.options.track_clear;
            let is_dirty: Vec<bool> = before
                .iter()
                .zip(0_u64..)
                .map(|(page, at)| {
                    let clear = matches!(page, Page::Free { clear: true, .. });
                    block.contains(Extent::new(at, at + 1)) && !(clear && tracked)
                })
                .collect();
            dirty.extend(naive_runs(&is_dirty));
            self.slice(*block).fill(Page::Booked);
        }
        Some(Booked {
            extents: joined(blocks),
            dirty: joined(dirty),
            fences: Vec::new(),
        })
    }

    fn block(
        &self,
        size: u64,
        align: u64,
        wanted: bool,
        window: Extent,
        flags: Flags,
    ) -> Option<u64> {
        let topdown = flags.has(Flags::TOPDOWN);
        let fit = if topdown { Fit::High } else { self.options.fit };
        let preferred = self.map(|page| {
            page == Page::Free {
                clear: wanted,
                fence: None,
            }
        });
        let tracked = self.options.track_clear.then_some(());
        let found = tracked.and_then(|()| naive_find(&preferred, size, align, window, fit));
        found.or_else(|| naive_find(&self.idle(), size, align, window, fit))
    }

    /// Free blocks of 2^n chunks whose parent is not free.
    pub(super) fn free_blocks(&self, order: u32) -> u64 {
        let idle = self.idle();
        let chunk = usize::try_from(self.options.chunk).unwrap();
        let free = |size: usize, at: usize| {
            idle.get(at * size..(at + 1) * size)
                .is_some_and(|pages| pages.iter().all(|idle| *idle))
        };
        let size = chunk << order;
        let alone = |at: &usize| free(size, *at) && !free(2 * size, at / 2);
        (0..idle.len() / size).filter(alone).count() as u64
    }
}

/// What touches its neighbour in the list is one with it.
fn joined(list: Vec<Extent>) -> Vec<Extent> {
    let mut joined: Vec<Extent> = Vec::new();
    for extent in list {
        match joined.last_mut() {
            Some(run) if run.end == extent.first => run.end = extent.end,
            Some(run) if extent.end == run.first => run.first = extent.first,
            _ => joined.push(extent),
        }
    }
    joined
}
