//! Register accesses, of queue 0 or a mailbox (docs/virtio-binding.md 4 and 8).

use e3k_regs::register::BAR0_BYTES;
use presil_device::{Gpu, Width};
use vm_memory::GuestMemoryMmap;

use super::buffers::Buffers;
use crate::shared_gpu::Lost;

/// Bytes of an operation and of a result.
pub(super) const RECORD_BYTES: usize = 16;
/// Most operations in one request.
pub(super) const MAX_OPS: u32 = 1024;

type Record = [u8; RECORD_BYTES];

/// `status` of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Status {
    Ok = 0,
    BadOp = 1,
    BadWidth = 2,
    BadOffset = 3,
    NotRun = 4,
    BadRequest = 5,
    Lost = 6,
}

/// A register access that the binding allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Reads `width` at `offset`.
    Read { offset: u32, width: Width },
    /// Writes the low `width` of `value` at `offset`.
    Write {
        offset: u32,
        width: Width,
        value: u64,
    },
}

impl Operation {
    /// Performs it on the GPU; what a read finds, or 0.
    pub(super) fn run(self, gpu: &mut Gpu) -> u64 {
        match self {
            Self::Read { offset, width } => gpu.read(offset, width),
            Self::Write {
                offset,
                width,
                value,
            } => {
                gpu.write(offset, width, value);
                0
            }
        }
    }
}

/// What one request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Served {
    /// Bytes of results written.
    pub bytes: usize,
    /// Operations run.
    pub operations: u32,
}

/// Runs the request in `buffers` by `access` and writes its results.
pub(super) fn serve(
    buffers: &Buffers,
    memory: &GuestMemoryMmap,
    mut access: impl FnMut(Operation) -> Result<u64, Lost>,
) -> Served {
    let Some(operations) = read_operations(buffers, memory) else {
        let reply = result(0, Status::BadRequest);
        return Served {
            bytes: buffers.write(memory, &reply),
            operations: 0,
        };
    };
    let (records, _) = operations.as_chunks::<RECORD_BYTES>();
    let mut results = Vec::with_capacity(operations.len());
    let mut run = 0;
    let mut refused = false;
    for record in records {
        let (value, status) = match decode(record) {
            _ if refused => (0, Status::NotRun),
            Err(status) => {
                refused = true;
                (0, status)
            }
            Ok(operation) => {
                run += 1;
                match access(operation) {
                    Ok(value) => (value, Status::Ok),
                    Err(Lost) => (u64::MAX, Status::Lost),
                }
            }
        };
        results.extend_from_slice(&result(value, status));
    }
    Served {
        bytes: buffers.write(memory, &results),
        operations: run,
    }
}

/// The bytes of the operations, unless the request is malformed.
fn read_operations(buffers: &Buffers, memory: &GuestMemoryMmap) -> Option<Vec<u8>> {
    let bytes = buffers.readable_bytes();
    let fits = bytes != 0
        && bytes.is_multiple_of(RECORD_BYTES)
        && bytes <= MAX_OPS as usize * RECORD_BYTES
        && bytes <= buffers.writable_bytes();
    if fits && buffers.are_well_formed(memory) {
        buffers.read(memory)
    } else {
        None
    }
}

fn decode(record: &Record) -> Result<Operation, Status> {
    let [op, width, r0, r1, o0, o1, o2, o3, value @ ..] = *record;
    let offset = u32::from_le_bytes([o0, o1, o2, o3]);
    let value = u64::from_le_bytes(value);
    if !matches!(op, 1 | 2) || [r0, r1] != [0, 0] {
        return Err(Status::BadOp);
    }
    let width = Width::from_bytes(width).ok_or(Status::BadWidth)?;
    let bytes = width.bytes();
    if !offset.is_multiple_of(bytes) || offset > BAR0_BYTES - bytes {
        return Err(Status::BadOffset);
    }
    Ok(match op {
        1 => Operation::Read { offset, width },
        _ => Operation::Write {
            offset,
            width,
            value,
        },
    })
}

fn result(value: u64, status: Status) -> Record {
    let mut record = [0; RECORD_BYTES];
    let (low, high) = record.split_at_mut(8);
    low.copy_from_slice(&value.to_le_bytes());
    high[..4].copy_from_slice(&(status as u32).to_le_bytes());
    record
}
