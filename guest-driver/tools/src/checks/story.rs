//! How one allocation goes: flags, place, bus, manager, resource, BO, fault, bind.

use super::{Check, Context};
use crate::device::Buffer;
use crate::error::Result;
use crate::messages::say;
use crate::names;
use presil_uapi as uapi;
use serde_json::json;

const BYTES: u64 = 4 << 20;

pub(super) const CHECKS: &[Check] = &[Check {
    name: "an allocation, step by step",
    run: tell,
}];

/// Tells it for a buffer in VRAM and for one in RAM behind the GART.
fn tell(context: &Context) -> Result<String> {
    allocation(context, "GPU_MOSTLY", uapi::CREATE_GPU_MOSTLY)?;
    allocation(context, "UPLOAD", uapi::CREATE_UPLOAD)?;
    Ok("one in VRAM, one in RAM behind the GART".into())
}

fn allocation(context: &Context, name: &str, flags: u32) -> Result<()> {
    println!("allocation of {BYTES} bytes, flags {name}");
    say(
        "story",
        &json!({ "event": "flags", "flags": name, "bytes": BYTES }),
    );
    let buffer = context.device.create(flags, BYTES, &[])?;
    let at = buffer.describe()?;
    let segment = names::segment(at.segment);
    let pages = at.pages;
    for event in [
        json!({ "event": "place", "segment": segment }),
        json!({ "event": "bus", "bus": names::bus(at.bus) }),
        json!({ "event": "manager", "manager": format!("books {pages} pages of {segment}") }),
        json!({ "event": "resource", "start_page": at.start_page, "gpu_va": at.gpu_va }),
        json!({ "event": "buffer object", "handle": buffer.handle(), "pages": pages }),
    ] {
        say("story", &event);
    }
    state(context, "before the first touch", &buffer)?;
    let mapping = buffer.map()?;
    let value = mapping.touch()?;
    say(
        "story",
        &json!({ "event": "fault", "touched_byte": 0, "first_byte_reads": value }),
    );
    let bound = at.bus == uapi::BUS_MEM;
    state(
        context,
        if bound {
            "bind"
        } else {
            "after the first touch"
        },
        &buffer,
    )
}

/// The first PTE as the CPU reads it and, where it can be asked, as the model does.
fn state(context: &Context, event: &str, buffer: &Buffer) -> Result<()> {
    let at = buffer.describe()?;
    let mut body = json!({
        "event": event,
        "state": names::states(at.state),
        "pte": at.first_pte,
    });
    if let Some(model) = &context.model {
        body["model_pte"] = model.pte(at.gpu_va)?.into();
    }
    println!(
        "  {event}: {}, first PTE {:#010x}",
        names::states(at.state),
        at.first_pte
    );
    say("story", &body);
    Ok(())
}
