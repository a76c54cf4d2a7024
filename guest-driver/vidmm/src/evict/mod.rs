//! Making room: which memory is given up first, and how it is given up.

pub mod lru;
