//! Fences: what the GPU has signalled, and how each job ended.

pub(crate) mod ends;
pub(crate) mod timeline;
