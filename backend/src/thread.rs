//! Threads whose top catches every panic.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

/// Starts a named thread. A panic in `body` is logged and ends that thread only.
pub(crate) fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let label = name.to_owned();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            contain(&label, body);
        })
}

/// Runs `body`; a panic in it is logged and gives `None`.
pub(crate) fn contain<R>(what: &str, body: impl FnOnce() -> R) -> Option<R> {
    let caught = catch_unwind(AssertUnwindSafe(body));
    if let Err(payload) = &caught {
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        tracing::error!("{what} failed: {message}. This is a bug in presil, please report it");
    }
    caught.ok()
}
