//! The answers to questions about one GPU, one function each. Facts are copied
//! while nobody else has the GPU, and told afterwards.

use std::fmt::{Display, Write as _};

use e3k_regs::register::BAR0_BYTES;
use e3k_regs::{GpuVa, Reg, VramOffset};
use presil_device::WordUse;
use serde_json::{Value, json};

use crate::command_line::regs;
use crate::control::entries;
use crate::control::questions::{Answer, Refusal, none};
use crate::control::tlb;
use crate::service::server::{self, Served};
use crate::told;

/// Most bytes of VRAM in one answer.
const MAX_VRAM_READ: u64 = 4096;
/// Fences in one answer that does not say how many.
const DEFAULT_FENCES: u64 = 16;
/// Most words of BAR0 in one order of one answer.
const MOST_WORDS: usize = 10;

pub(crate) fn info(served: &Served, words: &[&str]) -> Answer {
    none(words)?;
    Ok(server::describe(served))
}

pub(crate) fn why(served: &Served, words: &[&str]) -> Answer {
    none(words)?;
    Ok(serde_json::to_value(crate::control::why::look(served))?)
}

pub(crate) fn rings(served: &Served, words: &[&str]) -> Answer {
    none(words)?;
    Ok(serde_json::to_value(crate::control::rings::look(served)?)?)
}

pub(crate) fn running(served: &Served, words: &[&str]) -> Answer {
    none(words)?;
    Ok(serde_json::to_value(crate::control::running::look(
        served,
    )?)?)
}

pub(crate) fn number(word: &str) -> Result<u64, Refusal> {
    presil_values::number::parse(word).ok_or_else(|| Refusal::NotANumber(word.to_owned()))
}

pub(crate) fn out_of_range(what: &'static str, value: u64, expected: impl Into<String>) -> Refusal {
    Refusal::OutOfRange {
        what,
        value,
        expected: expected.into(),
    }
}

pub(crate) fn counters(served: &Served, words: &[&str]) -> Answer {
    none(words)?;
    let (device, undeclared) = served.counted()?;
    Ok(json!({
        "device": serde_json::to_value(device)?,
        "undeclared": serde_json::to_value(undeclared)?,
        "door": served.door.counters()?,
    }))
}

pub(crate) fn faults(served: &Served, words: &[&str]) -> Answer {
    none(words)?;
    // Copies, so that the guest does not wait for sentences.
    let (faults, ring_errors, unmet_waits) = served.gpu.enter().run(|gpu| {
        (
            gpu.faults().cloned().collect::<Vec<_>>(),
            gpu.ring_errors().cloned().collect::<Vec<_>>(),
            gpu.unmet_waits().cloned().collect::<Vec<_>>(),
        )
    })?;
    Ok(json!({
        "faults": told(&faults)?,
        "ring_errors": told(&ring_errors)?,
        "unmet_waits": told(&unmet_waits)?,
    }))
}

pub(crate) fn ring_errors(served: &Served, words: &[&str]) -> Answer {
    none(words)?;
    let errors = served
        .gpu
        .enter()
        .run(|gpu| gpu.ring_errors().cloned().collect::<Vec<_>>())?;
    Ok(json!({ "ring_errors": told(&errors)? }))
}

pub(crate) fn misuse(served: &Served, words: &[&str]) -> Answer {
    none(words)?;
    let (misuses, counters) = served
        .gpu
        .enter()
        .run(|gpu| (gpu.misuses().collect::<Vec<_>>(), gpu.counters()))?;
    Ok(json!({
        "registers": serde_json::to_value(misuses)?,
        "refused_accesses": counters.refused_accesses,
    }))
}

pub(crate) fn reports(served: &Served, words: &[&str]) -> Answer {
    none(words)?;
    Ok(match &served.check {
        Some(check) => check.answer()?,
        None => json!({ "checker": "off: start the server with --check warn" }),
    })
}

pub(crate) fn undeclared(served: &Served, words: &[&str]) -> Answer {
    none(words)?;
    let words = served
        .gpu
        .enter()
        .run(|gpu| gpu.undeclared_words().collect::<Vec<_>>())?;
    let most = |count: fn(&WordUse) -> u32| {
        let mut used: Vec<_> = words.iter().filter(|word| count(word) != 0).collect();
        // Equal ones stay in the order of their offsets.
        used.sort_by_key(|word| std::cmp::Reverse(count(word)));
        used.truncate(MOST_WORDS);
        serde_json::to_value(used)
    };
    Ok(json!({
        "words": words.len(),
        "most_read": most(|word| word.reads)?,
        "most_written": most(|word| word.writes)?,
    }))
}

/// Records with their fields, and with a sentence as `text`.
fn told<T: serde::Serialize + Display>(records: &[T]) -> Result<Vec<Value>, Refusal> {
    records
        .iter()
        .map(|record| Ok(told::told(record)?))
        .collect()
}

pub(crate) fn fences(served: &Served, words: &[&str]) -> Answer {
    let most = match words {
        [] => DEFAULT_FENCES,
        [most] => number(most)?,
        _ => return Err(Refusal::Words),
    };
    let mut last = served
        .gpu
        .enter()
        .run(|gpu| gpu.fences().copied().collect::<Vec<_>>())?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let fences = last.split_off(last.len().saturating_sub(most));
    Ok(json!({ "fences": serde_json::to_value(fences)? }))
}

pub(crate) fn tlb(served: &Served, words: &[&str]) -> Answer {
    let (pid, va) = match *words {
        [] => (None, None),
        [pid] => (Some(process_id(pid)?), None),
        [pid, va] => (Some(process_id(pid)?), Some(GpuVa(number(va)?))),
        _ => return Err(Refusal::Words),
    };
    Ok(serde_json::to_value(tlb::look(&served.gpu, pid, va)?)?)
}

fn process_id(word: &str) -> Result<u8, Refusal> {
    let id = number(word)?;
    u8::try_from(id)
        .ok()
        .filter(|id| u32::from(*id) < e3k_regs::register::PROCESS_IDS)
        .ok_or_else(|| out_of_range("process id", id, "0 to 15"))
}

pub(crate) fn walk(served: &Served, words: &[&str]) -> Answer {
    let [pid, va] = words else {
        return Err(Refusal::Words);
    };
    let (process_id, va) = (process_id(pid)?, GpuVa(number(va)?));
    let (walk, held) = served.gpu.enter().run(|gpu| {
        let held: Vec<_> = gpu.tlb(Some(process_id), Some(va)).collect();
        (gpu.walk(process_id, va), held)
    })?;
    let entries = entries::of(&walk);
    let mut answer = serde_json::to_value(walk)?;
    answer["entries"] = serde_json::to_value(entries)?;
    answer["stale"] = tlb::stale(&held).into();
    Ok(answer)
}

pub(crate) fn reg(served: &Served, words: &[&str]) -> Answer {
    let [which] = words else {
        return Err(Refusal::Words);
    };
    let is_number = which.starts_with(|first: char| first.is_ascii_digit());
    let (offset, found) = if is_number {
        let offset = word_of_bar0(number(which)?)?;
        // Of a word of registers of one byte there is not one name.
        let found = Reg::find(offset).filter(|(reg, _)| reg.info().width != 1);
        (offset, found)
    } else {
        let (reg, index) = regs::one_by_name(which).map_err(Refusal::NoRegister)?;
        (reg.at(index), Some((reg, index)))
    };
    let word = served.gpu.enter().run(|gpu| gpu.peek(offset & !3))?;
    let value = match found {
        Some((reg, _)) if reg.info().width == 1 => word >> (offset % 4 * 8) & 0xff,
        _ => word,
    };
    let mut answer = json!({
        "offset": offset,
        "name": null,
        "value": value,
        "hex": format!("{value:#010x}"),
        "fields": [],
    });
    if let Some((reg, index)) = found {
        answer["name"] = reg.info().label(index).to_string().into();
        answer["about"] = reg.info().about().into();
        answer["fields"] = regs::decoded(reg, index, value).into();
    }
    Ok(answer)
}

fn word_of_bar0(offset: u64) -> Result<u32, Refusal> {
    u32::try_from(offset)
        .ok()
        .filter(|offset| *offset < BAR0_BYTES && offset.is_multiple_of(4))
        .ok_or_else(|| {
            out_of_range(
                "offset",
                offset,
                format!("a multiple of 4 below {BAR0_BYTES:#x}"),
            )
        })
}

pub(crate) fn vram(served: &Served, words: &[&str]) -> Answer {
    let [offset, len] = words else {
        return Err(Refusal::Words);
    };
    let (offset, len) = (number(offset)?, number(len)?);
    let vram = served.gpu.vram();
    if len == 0 || len > MAX_VRAM_READ {
        return Err(out_of_range("length", len, format!("1 to {MAX_VRAM_READ}")));
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    vram.read(VramOffset(offset), &mut bytes).map_err(|_| {
        out_of_range(
            "offset",
            offset,
            format!("below {:#x} with its length", vram.bytes()),
        )
    })?;
    let mut hex = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    Ok(json!({ "offset": offset, "len": len, "hex": hex }))
}
