//! `presil query`: a question to a running server, once or again and again.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::termios::tcgetwinsize;

use crate::command_line::human;

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

/// An answer as it is printed, with its line ends.
///
/// # Errors
/// The answer is no JSON.
pub fn show(answer: &str, human: bool) -> Result<String, QueryError> {
    if !human {
        return Ok(format!("{answer}\n"));
    }
    let answer = serde_json::from_str(answer).map_err(io::Error::from)?;
    Ok(human::text(&answer, screen().columns))
}

/// Asks until nobody reads any more. A terminal is redrawn for each answer; elsewhere
/// they follow each other, JSON in a line each.
///
/// # Errors
/// As [`ask`], at any time.
pub fn watch(
    path: &Path,
    words: &[String],
    human: bool,
    every: Duration,
) -> Result<(), QueryError> {
    let mut out = io::stdout();
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    let redraws = human && out.is_terminal() && !dumb;
    if redraws {
        // What is on the screen goes up and can still be read.
        let _ = out.write_all("\n".repeat(screen().rows).as_bytes());
    }
    loop {
        let text = show(&ask(path, words)?, human)?;
        let text = if redraws {
            let every = every.as_secs_f64();
            let heading = format!("{} (every {every} s, Ctrl-C ends)", words.join(" "));
            redrawn(&heading, &text, screen())
        } else if human {
            format!("{text}\n")
        } else {
            text
        };
        if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            let ended = error.kind() == io::ErrorKind::BrokenPipe;
            return if ended { Ok(()) } else { Err(error.into()) };
        }
        std::thread::sleep(every);
    }
}

/// What SECONDS of `--watch` can be.
///
/// # Errors
/// It is something else.
pub fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse::<f64>().ok();
    let seconds = seconds.filter(|seconds| (0.1..=86400.0).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or("expected seconds from 0.1 to 86400, behind the question: SOCKET why --watch 2")
}

/// Characters of the screen.
#[derive(Clone, Copy)]
struct Screen {
    columns: usize,
    rows: usize,
}

/// The terminal's, or what is good to read.
fn screen() -> Screen {
    let told = tcgetwinsize(io::stdout()).ok();
    let told = told.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    told.map_or(
        Screen {
            columns: 100,
            rows: 24,
        },
        |size| Screen {
            columns: size.ws_col.into(),
            rows: size.ws_row.into(),
        },
    )
}

/// The text from the screen's upper left corner on, as much as it has room for.
fn redrawn(heading: &str, text: &str, screen: Screen) -> String {
    let mut drawn = "\x1b[H".to_owned();
    let lines: Vec<_> = text.lines().collect();
    let room = screen.rows.saturating_sub(3).max(1);
    let mut all = vec![heading, ""];
    all.extend(lines.iter().take(room));
    let hidden = lines.len().saturating_sub(room);
    for (n, line) in all.iter().enumerate() {
        let line: String = line.chars().take(screen.columns).collect();
        let end = if n == 0 { "" } else { "\n" };
        // Writing to a string cannot fail.
        let _ = write!(drawn, "{end}{line}\x1b[K");
    }
    if hidden > 0 {
        let _ = write!(drawn, "\n... {hidden} more lines\x1b[K");
    }
    drawn + "\x1b[J"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redrawn_screen_has_no_line_too_many_or_too_long() {
        let text = "0123456789abc\n".repeat(9);
        let screen = Screen {
            columns: 10,
            rows: 6,
        };
        let drawn = redrawn("why", &text, screen);
        let plain = drawn
            .replace("\x1b[H", "")
            .replace("\x1b[K", "")
            .replace("\x1b[J", "");
        let lines: Vec<_> = plain.split('\n').collect();
        assert_eq!(lines.len(), 6, "{lines:?}");
        assert!(lines[..5].iter().all(|line| line.len() <= 10), "{lines:?}");
        assert_eq!((lines[0], lines[5]), ("why", "... 6 more lines"));
        let short = redrawn("why", "one\n", screen);
        assert!(!short.contains("more lines"), "{short}");
    }

    #[test]
    fn seconds_are_a_time_that_a_person_waits() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["", "0", "-1", "nan", "inf", "1e9", "/tmp/ctl"] {
            seconds(text).unwrap_err();
        }
    }
}
