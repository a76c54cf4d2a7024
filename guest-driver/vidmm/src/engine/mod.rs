//! Submission: clients, packets, the ring, and what is done when it goes wrong.

pub(crate) mod client;
pub(crate) mod queue;
pub(crate) mod ring;
pub(crate) mod submit;
pub(crate) mod trouble;
