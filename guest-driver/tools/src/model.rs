//! The model's side of the story: a serial line that leads to its control socket.

use crate::error::{Error, Result};
use e3k_regs::GpuVa;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, QueueSelector, tcflush, tcgetattr, tcsetattr};
use serde_json::Value;
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

const ANSWER_SECONDS: u64 = 30;

/// An open line.
#[derive(Debug)]
pub(crate) struct Model {
    line: RefCell<File>,
}

impl Model {
    /// Opens the line and makes it pass bytes as they are.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let failed = Error::file(path);
        let line = File::options()
            .read(true)
            .write(true)
            .open(path)
            .map_err(&failed)?;
        let mut settings = tcgetattr(&line).map_err(|e| failed(e.into()))?;
        settings.make_raw();
        tcsetattr(&line, OptionalActions::Now, &settings).map_err(|e| failed(e.into()))?;
        tcflush(&line, QueueSelector::IOFlush).map_err(|e| failed(e.into()))?;
        Ok(Self { line: line.into() })
    }

    /// The L3 entry of an address of process id 0, as the model reads it.
    pub(crate) fn pte(&self, at: u64) -> Result<u32> {
        self.number(&walk(at), "l3")
    }

    /// The L3 entries of the page at an address of process id 0 that the TLBs hold,
    /// each with the TLB's name.
    pub(crate) fn cached(&self, at: u64) -> Result<Vec<(String, u64)>> {
        let question = walk(at);
        let answer = self.value(&question)?;
        let shared = ("shared".to_owned(), answer["dtlb"].as_u64());
        let own = answer["utlb"].as_object().into_iter().flatten();
        let own = own.map(|(client, entry)| (client.clone(), entry.as_u64()));
        let all = std::iter::once(shared).chain(own);
        Ok(all.filter_map(|(tlb, entry)| Some((tlb, entry?))).collect())
    }

    /// Words of VRAM; at most 1024 are told at once.
    pub(crate) fn vram(&self, offset: u64, words: u64) -> Result<Vec<u32>> {
        let question = format!("vram {offset:#x} {}", words * 4);
        let answer = self.value(&question)?;
        let hex = answer["hex"].as_str().unwrap_or_default().as_bytes();
        let word = |digits: &[u8]| {
            let digits = std::str::from_utf8(digits).ok()?;
            Some(u32::from_str_radix(digits, 16).ok()?.swap_bytes())
        };
        let found: Option<Vec<u32>> = hex.chunks(8).map(word).collect();
        found
            .filter(|found| found.len() as u64 == words)
            .ok_or_else(|| Error::ModelAnswer {
                question,
                answer: answer.to_string(),
            })
    }

    /// A 32-bit register.
    pub(crate) fn register(&self, offset: u32) -> Result<u32> {
        self.number(&format!("reg {offset:#x}"), "value")
    }

    fn number(&self, question: &str, field: &str) -> Result<u32> {
        let answer = self.value(question)?;
        answer[field]
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .ok_or_else(|| Error::ModelAnswer {
                question: question.to_owned(),
                answer: answer.to_string(),
            })
    }

    fn value(&self, question: &str) -> Result<Value> {
        let answer = self.ask(question)?;
        serde_json::from_str(&answer).map_err(|_| Error::ModelAnswer {
            question: question.to_owned(),
            answer,
        })
    }

    fn ask(&self, question: &str) -> Result<String> {
        let mut line = self.line.borrow_mut();
        let silent = |_| Error::ModelSilent {
            question: question.to_owned(),
            seconds: ANSWER_SECONDS,
        };
        line.write_all(format!("{question}\n").as_bytes())
            .map_err(silent)?;
        read_line(&mut line, Duration::from_secs(ANSWER_SECONDS)).map_err(silent)
    }
}

/// The question what the tables and the TLBs say of an address of process id 0.
fn walk(at: u64) -> String {
    format!("walk 0 {:#x}", GpuVa(at).0)
}

/// One line without its end; an error when it is not whole in time.
fn read_line(line: &mut File, limit: Duration) -> io::Result<String> {
    let deadline = Instant::now() + limit;
    let mut text = Vec::new();
    let mut part = [0; 256];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        if poll(&mut [PollFd::new(line, PollFlags::IN)], Some(&left))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let got = line.read(&mut part)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        text.extend(part.iter().take(got));
        if let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            text.truncate(end);
            return Ok(String::from_utf8_lossy(&text).trim().to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(said: &str, limit: Duration) -> io::Result<String> {
        let (from, to) = rustix::pipe::pipe()?;
        rustix::io::write(&to, said.as_bytes())?;
        read_line(&mut File::from(from), limit)
    }

    #[test]
    fn an_answer_is_one_line_without_its_end() {
        let soon = Duration::from_secs(1);
        assert_eq!(line_of("{\"l3\":1}\r\n", soon).unwrap(), "{\"l3\":1}");
        assert_eq!(line_of("first\nsecond\n", soon).unwrap(), "first");
    }

    #[test]
    fn half_an_answer_ends_at_the_deadline() {
        let error = line_of("{\"l3\":", Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
