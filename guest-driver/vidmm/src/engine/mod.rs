//! Submission: clients' queues, packets, the ring, and what is done when it goes wrong; the manager
//! to come on the chip ([`on_chip`]), its work ([`line`]) and its processes.

pub(crate) mod end;
pub(crate) mod hang;
pub(crate) mod line;
pub(crate) mod on_chip;
pub(crate) mod process_tables;
mod processes;
pub(crate) mod queue;
pub(crate) mod ring;
pub(crate) mod ring0;
pub(crate) mod sleep;
pub(crate) mod submit;
mod trouble;
