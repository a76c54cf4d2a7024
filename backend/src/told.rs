//! Records as programs and people read them.

use std::fmt::Display;

use serde::Serialize;
use serde_json::Value;

use crate::sigbus;

/// A record with its fields, and with what it says in words as `text`.
pub(crate) fn told(record: &(impl Serialize + Display)) -> serde_json::Result<Value> {
    debug_assert!(
        !sigbus::is_in_scope(),
        "the guest waits for these sentences"
    );
    let mut value = serde_json::to_value(record)?;
    if let Value::Object(fields) = &mut value {
        fields.insert("text".to_owned(), record.to_string().trim_end().into());
    }
    Ok(value)
}
