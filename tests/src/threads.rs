//! The threads of the machine that tests run on.

threads!(pub machine, std::sync, None);
