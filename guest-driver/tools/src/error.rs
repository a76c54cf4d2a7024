//! What can go wrong, in words for the person at the terminal.

use std::io;
use std::path::{Path, PathBuf};

/// A failure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "no presil GPU: no node in /dev/dri belongs to the driver presil (is the module loaded?)"
    )]
    NoDevice,
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{call}: {source}")]
    Call {
        call: &'static str,
        source: rustix::io::Errno,
    },
    #[error("fence {fence} is not done after {seconds} s")]
    FenceLate { fence: u64, seconds: u64 },
    #[error("{}: {source}", path.display())]
    Json {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("the model did not answer '{question}' within {seconds} s")]
    ModelSilent { question: String, seconds: u64 },
    #[error("the model answers '{question}' with '{answer}'")]
    ModelAnswer { question: String, answer: String },
    /// A check cannot be made here; not a failure.
    #[error("{0}")]
    Skipped(String),
    /// Something is not as it has to be.
    #[error("{0}")]
    Wrong(String),
}

impl Error {
    /// What went wrong with a file.
    pub(crate) fn file(path: &Path) -> impl Fn(io::Error) -> Self {
        |source| Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Ends a check whose condition does not hold.
macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err($crate::error::Error::Wrong(format!($($why)+)));
        }
    };
}
pub(crate) use ensure;
