//! The doors that QEMU comes through, and what its clients lend.

pub(crate) mod eventfd_signal;
pub(crate) mod lent;
pub(crate) mod messages;
pub mod pci;
pub mod system_memory;
pub mod vfio_user;
pub mod vhost_user;
