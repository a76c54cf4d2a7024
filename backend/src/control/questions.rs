//! The questions of the control socket: one table of what there is to ask, which is
//! the help, the usage and the way to the answer.

use std::sync::Arc;

use serde_json::{Value, json};

use self::Asked::{OfGpu, OfServer};
use crate::control::answers::{self, number, out_of_range};
use crate::control::conversation::MAX_LINE;
use crate::service::server::{self, Served};
use crate::shared_gpu::Lost;

/// A question as `help` and `presil query --help` teach it.
pub struct Question {
    /// Its words, with what they are about in capitals.
    pub usage: &'static str,
    /// What it answers.
    pub about: &'static str,
    /// One that can be asked as it is.
    pub example: &'static str,
    answer: Asked,
}

/// Who answers, by the words behind the first.
enum Asked {
    OfServer(fn(&Questions, &[&str]) -> Answer),
    OfGpu(fn(&Served, &[&str]) -> Answer),
}

/// An answer, or why there is none.
pub(crate) type Answer = Result<Value, Refusal>;

/// Every question.
pub const HELP: &[Question] = &[
    Question {
        usage: "why",
        about: "why no interrupt comes, or nothing moves: reasons in words, and the facts behind them",
        example: "why",
        answer: OfGpu(answers::why),
    },
    Question {
        usage: "info",
        about: "what this GPU is, and whether a guest is attached",
        example: "info",
        answer: OfGpu(answers::info),
    },
    Question {
        usage: "counters",
        about: "what has happened since power-on",
        example: "counters",
        answer: OfGpu(answers::counters),
    },
    Question {
        usage: "rings",
        about: "each ring: where it lies, Head and Tail, whether it runs, and what it waits for",
        example: "rings",
        answer: OfGpu(answers::rings),
    },
    Question {
        usage: "fences [N]",
        about: "the last N (16 without N, at most 64) fences in memory, oldest first: where each \
                went, its value, ring and GPU time in ns",
        example: "fences 3",
        answer: OfGpu(answers::fences),
    },
    Question {
        usage: "faults",
        about: "the fault log, the ring errors and the waits that nothing had satisfied, oldest first",
        example: "faults",
        answer: OfGpu(answers::faults),
    },
    Question {
        usage: "ring_errors",
        about: "the ring errors alone, oldest first",
        example: "ring_errors",
        answer: OfGpu(answers::ring_errors),
    },
    Question {
        usage: "walk PID VA",
        about: "what the page tables of process id PID say about GPU address VA now, what the TLBs \
                hold of it, and where that is stale",
        example: "walk 0 0x100000000",
        answer: OfGpu(answers::walk),
    },
    Question {
        usage: "tlb [PID [VA]]",
        about: "what the DTLB and the UTLBs hold (of process id PID, of address VA), and whether \
                the tables still say so",
        example: "tlb 0",
        answer: OfGpu(answers::tlb),
    },
    Question {
        usage: "reg NAME|OFFSET",
        about: "a register by its name (see `presil regs`), or the 32-bit word at a BAR0 offset, \
                decoded; the guest's accesses alone are counted",
        example: "reg MMU_MODE",
        answer: OfGpu(answers::reg),
    },
    Question {
        usage: "misuse",
        about: "registers that were misused (read-only ones written, ones in reserved bits, another \
                width than theirs), and how often",
        example: "misuse",
        answer: OfGpu(answers::misuse),
    },
    Question {
        usage: "undeclared",
        about: "the words of BAR0 that the model does not have and the guest uses most: ten by \
                reads, ten by writes",
        example: "undeclared",
        answer: OfGpu(answers::undeclared),
    },
    Question {
        usage: "reports",
        about: "what the driver checker has found (see --check), and what it looks at",
        example: "reports",
        answer: OfGpu(answers::reports),
    },
    Question {
        usage: "running",
        about: "what could still work: started rings, process ids with valid L1 registers, bus \
                master",
        example: "running",
        answer: OfGpu(answers::running),
    },
    Question {
        usage: "vram OFFSET LEN",
        about: "LEN (at most 4096) bytes of VRAM in hex",
        example: "vram 0x1000 64",
        answer: OfGpu(answers::vram),
    },
    Question {
        usage: "gpus",
        about: "info of every GPU of this server, in their order",
        example: "gpus",
        answer: OfServer(gpus),
    },
    Question {
        usage: "gpu N QUESTION",
        about: "one of the questions above, to GPU number N (from 0) of several",
        example: "gpu 0 counters",
        answer: OfServer(one_gpu),
    },
    Question {
        usage: "help",
        about: "this list, each with an example",
        example: "help",
        answer: OfServer(help_list),
    },
];

/// The answer to `help`: of each question its words, what it answers and an example.
pub fn help() -> Value {
    HELP.iter()
        .map(|question| json!([question.usage, question.about, question.example]))
        .collect()
}

/// What questions are about.
#[derive(Clone)]
pub struct Questions {
    pub(crate) gpus: Arc<[Served]>,
    /// The number of the only one that is answered for.
    only: Option<usize>,
}

impl Questions {
    /// About these.
    pub fn new(gpus: Arc<[Served]>) -> Self {
        Self { gpus, only: None }
    }

    /// About number `number` of them alone: whoever asks here learns nothing of
    /// the others. A number that does not exist has no questions.
    pub fn only(gpus: Arc<[Served]>, number: usize) -> Self {
        Self {
            gpus,
            only: Some(number),
        }
    }

    /// The GPUs that are answered for, with their numbers.
    fn asked(&self) -> impl Iterator<Item = (usize, &Served)> {
        let only = self.only;
        let numbered = self.gpus.iter().enumerate();
        numbered.filter(move |(number, _)| only.is_none_or(|only| only == *number))
    }
}

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("unknown command '{0}': say help")]
    Unknown(String),
    #[error("usage: {0}")]
    Usage(&'static str),
    /// Too many words, or too few; the question's usage is what is told.
    #[error("too many words, or too few")]
    Words,
    #[error("'{0}' is not a number: write it in decimal or, with 0x, in hexadecimal")]
    NotANumber(String),
    #[error("invalid {what} {value:#x}: expected {expected}")]
    OutOfRange {
        what: &'static str,
        value: u64,
        expected: String,
    },
    #[error("there are {0} GPUs here: say which, as in gpu 0 info")]
    WhichGpu(usize),
    #[error("{0}")]
    NoRegister(String),
    #[error("the line is longer than {MAX_LINE} bytes")]
    TooLong,
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error("the answer could not be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// The answer to one line.
pub(crate) fn answer(line: &str, questions: &Questions) -> Answer {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (question, more) = find(&words)?;
    let answer = match question.answer {
        OfServer(answer) => answer(questions, more),
        OfGpu(answer) => {
            let mut asked = questions.asked();
            match (asked.next(), asked.count()) {
                (Some((_, served)), 0) => answer(served, more),
                (_, others) => return Err(Refusal::WhichGpu(others + 1)),
            }
        }
    };
    question.told(answer)
}

/// The question of these words, and the words behind its name.
fn find<'a, 'b>(words: &'a [&'b str]) -> Result<(&'static Question, &'a [&'b str]), Refusal> {
    let unknown = || Refusal::Unknown(words.join(" "));
    let (name, more) = words.split_first().ok_or_else(unknown)?;
    let question = HELP.iter().find(|question| question.name() == *name);
    Ok((question.ok_or_else(unknown)?, more))
}

impl Question {
    fn name(&self) -> &'static str {
        self.usage.split(' ').next().unwrap_or(self.usage)
    }

    /// The answer; of wrong words, how they should be.
    fn told(&self, answer: Answer) -> Answer {
        answer.map_err(|refusal| match refusal {
            Refusal::Words => Refusal::Usage(self.usage),
            other => other,
        })
    }
}

fn help_list(_: &Questions, words: &[&str]) -> Answer {
    none(words)?;
    Ok(help())
}

fn gpus(questions: &Questions, words: &[&str]) -> Answer {
    none(words)?;
    let gpus = questions.asked();
    Ok(gpus.map(|(_, served)| server::describe(served)).collect())
}

fn one_gpu(questions: &Questions, words: &[&str]) -> Answer {
    let [which, question @ ..] = words else {
        return Err(Refusal::Words);
    };
    if question.is_empty() {
        return Err(Refusal::Words);
    }
    let number = number(which)?;
    let mut asked = questions.asked();
    let (_, served) = asked
        .find(|(at, _)| u64::try_from(*at) == Ok(number))
        .ok_or_else(|| out_of_range("GPU", number, expected_numbers(questions)))?;
    let (found, more) = find(question)?;
    match found.answer {
        OfGpu(answer) => found.told(answer(served, more)),
        OfServer(_) => Err(Refusal::Unknown(question.join(" "))),
    }
}

fn expected_numbers(questions: &Questions) -> String {
    match questions.only {
        Some(only) => format!("{only}, the only one that is asked about here"),
        None => format!("below {}", questions.gpus.len()),
    }
}

/// Nothing more was said.
pub(crate) fn none(words: &[&str]) -> Result<(), Refusal> {
    if words.is_empty() {
        Ok(())
    } else {
        Err(Refusal::Words)
    }
}
