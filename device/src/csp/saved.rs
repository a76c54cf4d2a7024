//! Rings as a saved state has them.

use super::dialect::Dialect;
use super::engine::{CALL_DEPTH, Call, Calls, Engine, Operation};
use super::flags::FlagClear;
use super::ring::Ring;
use super::transfer::Transfer;
use crate::blit;
use crate::saved::csp as saved;
use crate::saved::{Damage, ensure, sparse};

impl Engine {
    pub(super) fn save(&self) -> saved::Ring {
        let Self {
            dialect: _,
            ring:
                Ring {
                    address,
                    size,
                    head,
                    tail,
                },
            calls,
            process_id,
            slots,
            operation,
            halted,
            stands,
            in_reset,
            command,
            position,
        } = self;
        saved::Ring {
            address: *address,
            size: *size,
            head: *head,
            tail: *tail,
            calls: calls.iter().map(|call| save_call(*call)).collect(),
            process_id: *process_id,
            slots: sparse::save(slots),
            operation: operation.as_ref().map(save_operation),
            halted: *halted,
            stands: *stands,
            in_reset: *in_reset,
            command: *command,
            position: *position,
        }
    }

    /// # Errors
    /// No packet can have led there.
    pub(super) fn restore(dialect: Dialect, saved: saved::Ring) -> Result<Self, Damage> {
        let saved::Ring {
            address,
            size,
            head,
            tail,
            calls,
            process_id,
            slots,
            operation,
            halted,
            stands,
            in_reset,
            command,
            position,
        } = saved;
        let mut engine = Self {
            ring: Ring {
                address,
                size,
                head,
                tail,
            },
            calls: restore_calls(calls)?,
            process_id,
            operation: operation.map(restore_operation).transpose()?,
            halted,
            stands,
            in_reset,
            command,
            position,
            ..Self::new(dialect)
        };
        sparse::restore(&mut engine.slots, slots, "fence slot")?;
        Ok(engine)
    }
}

fn save_call(call: Call) -> saved::Call {
    let Call {
        at,
        dwords,
        context,
    } = call;
    saved::Call {
        at,
        dwords,
        context,
    }
}

fn restore_calls(saved: Vec<saved::Call>) -> Result<Calls, Damage> {
    let depth = saved.len();
    let mut calls = Calls::default();
    for saved::Call {
        at,
        dwords,
        context,
    } in saved
    {
        ensure(dwords > 0, || format!("an empty buffer at {at} is called"))?;
        let call = Call {
            at,
            dwords,
            context,
        };
        ensure(calls.push(call), || {
            format!("{depth} buffers call each other, expected at most {CALL_DEPTH}")
        })?;
    }
    Ok(calls)
}

fn save_operation(operation: &Operation) -> saved::Operation {
    match operation {
        Operation::Draw(draw) => saved::Operation::Draw(draw.save()),
        Operation::Transfer(transfer) => saved::Operation::Transfer(transfer.save()),
        Operation::Flags(clear) => saved::Operation::Flags(clear.save()),
    }
}

fn restore_operation(saved: saved::Operation) -> Result<Operation, Damage> {
    Ok(match saved {
        saved::Operation::Draw(draw) => Operation::Draw(blit::Operation::restore(draw)?),
        saved::Operation::Transfer(transfer) => Operation::Transfer(Transfer::restore(transfer)?),
        saved::Operation::Flags(clear) => Operation::Flags(FlagClear::restore(clear)?),
    })
}
