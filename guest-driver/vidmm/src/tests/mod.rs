//! The memory manager on a scripted machine: every platform call can be made
//! to fail. What a real GPU does with it is tested against the model, in the
//! workspace's `tests`.
#![expect(
    clippy::cast_possible_truncation,
    reason = "small numbers on a 64-bit host"
)]

mod bookings;
mod bos;
mod budgets;
mod clients;
mod contention;
mod contents;
mod door;
mod fake;
mod faults;
mod fences;
mod init;
mod lru;
mod mm;
mod ordeal;
mod page_vector;
mod plans;
mod pool;
mod processes;
mod promotion;
mod ram;
mod report;
mod restarts;
mod shut_down;
mod space;
mod starved;
mod tables;
mod turns;
mod used;
mod verdicts;
mod waits;
