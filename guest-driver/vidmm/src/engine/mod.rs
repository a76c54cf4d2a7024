//! Submission: clients' queues, packets, the ring, and what is done when it goes wrong.

pub(crate) mod queue;
pub(crate) mod ring;
pub(crate) mod ring0;
pub(crate) mod submit;
mod trouble;
