//! What the driver says of itself in debugfs.

use crate::device::Device;
use crate::error::{Error, Result};
use serde_json::Value;
use std::fs;

/// The steps of `vidmm_init`, as the driver reports them.
pub(crate) fn init_steps(device: &Device) -> Result<Vec<Value>> {
    match file(device, "vidmm_init")? {
        Value::Array(steps) => Ok(steps),
        other => Err(Error::Wrong(format!("vidmm_init is no list: {other}"))),
    }
}

/// One of the driver's files, which are JSON.
pub(crate) fn file(device: &Device, name: &str) -> Result<Value> {
    let path = device.debugfs().join(name);
    let text = fs::read_to_string(&path);
    let text = text.map_err(Error::file(&path))?;
    serde_json::from_str(&text).map_err(|source| Error::Json { path, source })
}

/// The step about the reserved VMA.
pub(crate) fn reserved_vma(device: &Device) -> Result<Value> {
    let mut steps = init_steps(device)?.into_iter();
    let step = steps.find(|step| step["step"] == 5);
    step.ok_or_else(|| Error::Wrong("vidmm_init reports no step 5".into()))
}

/// A number that the driver reports.
pub(crate) fn number(of: &Value, field: &str) -> Result<u64> {
    of[field]
        .as_u64()
        .ok_or_else(|| Error::Wrong(format!("the driver reports no {field}")))
}

/// A 32-bit number that the driver reports.
pub(crate) fn word(of: &Value, field: &str) -> Result<u32> {
    let number = number(of, field)?;
    u32::try_from(number).map_err(|_| Error::Wrong(format!("{field} {number:#x} has over 32 bits")))
}
