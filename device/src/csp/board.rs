//! What a ring's work reaches of the rest of the GPU.

use crate::biu::Biu;
use crate::mmu::Mxu;
use crate::storage::Storage;

/// The units around the command processor, lent to it for a step.
pub(crate) struct Board<'a, W> {
    pub(crate) mxu: &'a mut Mxu,
    pub(crate) biu: &'a mut Biu,
    pub(crate) storage: &'a mut Storage,
    pub(crate) watch: W,
}
