//! Status words on their way from the GPU to the driver, at any moments that a bus allows.

use super::fake::Fake;
use crate::Timeline;
use std::collections::VecDeque;
use std::sync::Arc;

pub(super) const FAULT: u32 = 1 << 5;
pub(super) const BUS_ERROR: u32 = 1 << 10;
pub(super) const FENCE: u32 = 1 << 27;
pub(super) const HANG: u32 = 1 << 16;

/// The two status words.
pub(super) type Words = (u32, u32);

/// The GPU's interrupts, its door and the interrupt handler, each somewhere in its work.
pub(super) struct Door {
    timeline: Arc<Timeline<Fake>>,
    /// Over a queue of events (virtio); otherwise the handler latches (PCI).
    queued: bool,
    /// Raised in this slice; raw when it ends.
    slice: Words,
    raw: Words,
    events: VecDeque<Words>,
    /// Fence memory as the handler read it last.
    read: u64,
    /// What was read before the next words were latched.
    before: u64,
    latched: Option<Words>,
}

impl Door {
    pub(super) fn new(timeline: Arc<Timeline<Fake>>, queued: bool) -> Self {
        Self {
            timeline,
            queued,
            slice: (0, 0),
            raw: (0, 0),
            events: VecDeque::new(),
            read: 0,
            before: 0,
            latched: None,
        }
    }

    pub(super) fn raise(&mut self, biu: u32, advanced: u32) {
        self.slice = (self.slice.0 | biu, self.slice.1 | advanced);
    }

    /// The GPU lets go of its lock: what it raised is signalled.
    pub(super) fn end_slice(&mut self) {
        let (biu, advanced) = std::mem::take(&mut self.slice);
        self.raw = (self.raw.0 | biu, self.raw.1 | advanced);
        if self.queued && self.raw != (0, 0) {
            self.events.push_back(std::mem::take(&mut self.raw));
        }
    }

    pub(super) fn read(&mut self) {
        if self.latched.is_none() {
            self.read = self.timeline.in_memory();
        }
    }

    /// The handler takes an event, or latches the words.
    pub(super) fn latch(&mut self) {
        if self.latched.is_some() {
            return;
        }
        if self.queued {
            self.latched = self.events.pop_front();
            if self.latched.is_none() {
                self.before = self.read;
            }
            return;
        }
        self.before = self.read;
        self.end_slice();
        self.latched = Some(std::mem::take(&mut self.raw));
    }

    /// The handler tells the driver what it has latched; `sees` is told first.
    pub(super) fn handle(&mut self, sees: &mut dyn FnMut(Words)) {
        if let Some((biu, advanced)) = self.latched.take() {
            sees((biu, advanced));
            self.timeline.interrupt(self.before, biu, advanced);
        }
    }

    /// What `deliver` promises, in whatever state the handler was.
    pub(super) fn deliver(&mut self, sees: &mut dyn FnMut(Words)) {
        self.end_slice();
        self.handle(sees);
        loop {
            self.read();
            self.latch();
            self.handle(sees);
            if self.events.is_empty() {
                return;
            }
        }
    }

    /// The function is reset: what was raised and not handled is gone.
    pub(super) fn reset(&mut self) {
        (self.slice, self.raw) = ((0, 0), (0, 0));
        self.events.clear();
    }
}
