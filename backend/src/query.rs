//! `presil query`: one question to a running server.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a server may take; it answers at once unless it is stopped.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Nobody listens.
    #[error("no server answers on {} ({error}): is `presil serve --control {}` running?", .path.display(), .path.display())]
    Connect {
        /// The control socket.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The conversation broke.
    #[error("the server did not answer: {0}")]
    Talk(#[from] io::Error),
    /// It answered, with an error.
    #[error("{0}")]
    Refused(String),
}

/// Asks the server at `path` and gives its answer, one JSON object.
pub fn ask(path: &Path, words: &[String]) -> Result<String, QueryError> {
    let mut stream = UnixStream::connect(path).map_err(|error| QueryError::Connect {
        path: path.to_owned(),
        error,
    })?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(format!("{}\n", words.join(" ")).as_bytes())?;
    let mut answer = String::new();
    if BufReader::new(stream).read_line(&mut answer)? == 0 {
        return Err(QueryError::Talk(io::ErrorKind::UnexpectedEof.into()));
    }
    let answer = answer.trim_end().to_owned();
    let parsed: serde_json::Value = serde_json::from_str(&answer).map_err(io::Error::from)?;
    match parsed.get("error").and_then(|error| error.as_str()) {
        Some(error) => Err(QueryError::Refused(error.to_owned())),
        None => Ok(answer),
    }
}
