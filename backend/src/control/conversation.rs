//! The control socket: a command a line in, a JSON object a line out.
//!
//! A guest's serial port may be joined to it, so line ends may be CR, LF or
//! both, nothing is said that was not asked for, and a line that begins with
//! `{` is passed over: it is an answer that a terminal echoed.

use std::io::{self, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::control::clients::{Client, Clients};
use crate::control::questions::{Questions, Refusal, answer};
use crate::service::send::send_all;
use crate::service::socket::{self, Socket};
use crate::thread;

/// Bytes of the longest command line.
pub(crate) const MAX_LINE: usize = 256;
/// How long a client may take to read an answer, all of it.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Answers clients of `socket` as long as the process lives.
pub fn start(socket: &Socket, questions: Questions) -> io::Result<()> {
    let listener = socket.listener().try_clone()?;
    let path = socket.path().to_owned();
    let clients = Clients::default();
    thread::spawn("control", move || {
        for client in listener.incoming() {
            match client {
                Ok(client) => admit(client, &questions, &clients),
                Err(error) => socket::pause(&path, &error),
            }
        }
    })
    .map(|_| ())
}

fn admit(client: UnixStream, questions: &Questions, clients: &Clients) {
    let (client, sent_away) = clients.admit(client);
    if sent_away {
        tracing::debug!("the control client that asked longest ago was sent away for another");
    }
    let questions = questions.clone();
    let started = thread::spawn("control client", move || {
        if let Err(error) = converse(&client, &questions) {
            tracing::debug!("control client: {error}");
        }
    });
    if let Err(error) = started {
        tracing::warn!("control socket: no thread for a client: {error}");
    }
}

fn converse(client: &Client, questions: &Questions) -> io::Result<()> {
    let mut line = Vec::new();
    let mut too_long = false;
    for byte in BufReader::new(client.stream()).bytes() {
        let byte = byte?;
        if !matches!(byte, b'\n' | b'\r') {
            if line.len() < MAX_LINE {
                line.push(byte);
            } else {
                too_long = true;
            }
            continue;
        }
        let text = String::from_utf8_lossy(&line);
        if let Some(answer) = respond(&text, too_long, questions) {
            client.asks()?;
            let answer = format!("{answer}\n");
            if !send_all(client.stream(), answer.as_bytes(), None, ANSWER_TIME)? {
                return Ok(());
            }
        }
        line.clear();
        too_long = false;
    }
    Ok(())
}

fn refused(refusal: &Refusal) -> Value {
    json!({ "error": refusal.to_string() })
}

/// The answer to one line; `None` where nothing was asked.
fn respond(line: &str, too_long: bool, questions: &Questions) -> Option<Value> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('{') {
        return None;
    }
    let answer = if too_long {
        Err(Refusal::TooLong)
    } else {
        answer(line, questions)
    };
    Some(answer.unwrap_or_else(|refusal| refused(&refusal)))
}

#[cfg(test)]
mod tests {
    use e3k_regs::fields::MmuMode;
    use e3k_regs::pte::{L2Entry, L3Entry, Ttbr};
    use e3k_regs::{Reg, VramOffset};
    use presil_device::{Chip, Config, Width};
    use std::io::Write;
    use std::sync::Arc;

    use super::*;
    use crate::control::questions::HELP;
    use crate::doors::pci::Identity;
    use crate::service::server::{DoorKind, DoorOptions, Served};
    use crate::shared_gpu::SharedGpu;

    fn several(doors: &[DoorKind]) -> Questions {
        let config = Config::new(Chip::Arise10c0, 1 << 30, 512 << 20, true).unwrap();
        let served = |kind: &DoorKind| {
            let door = DoorOptions {
                kind: *kind,
                socket: kind.name().into(),
            };
            Served::start(
                config.clone(),
                Identity::default(),
                &door,
                &Arc::default(),
                None,
            )
            .unwrap()
        };
        Questions::new(doors.iter().map(served).collect())
    }

    fn questions() -> Questions {
        several(&[DoorKind::VhostUser])
    }

    fn gpu(questions: &Questions) -> &SharedGpu {
        &questions.gpus[0].gpu
    }

    fn ask(questions: &Questions, line: &str) -> Value {
        respond(line, false, questions).expect(line)
    }

    #[test]
    fn every_command_of_the_help_is_answered() {
        let questions = questions();
        for question in HELP {
            let answer = ask(&questions, question.example);
            assert!(
                answer.get("error").is_none(),
                "{}: {answer}",
                question.usage
            );
            let word = |text: &'static str| text.split_whitespace().next();
            assert_eq!(word(question.example), word(question.usage));
            let without = question.usage.split_whitespace().count() == 1;
            assert!(without == (question.usage == question.example));
        }
    }

    #[test]
    fn a_register_has_a_name_in_any_case_and_a_mistake_is_told_what_it_may_mean() {
        let questions = questions();
        let by_offset = ask(&questions, "reg 0x49004");
        assert_eq!(by_offset["fields"][0]["name"], "va_mode");
        assert_eq!(ask(&questions, "reg mmu_mode"), by_offset);
        assert_eq!(ask(&questions, "reg TTBR[17]")["offset"], 0x50044);
        assert_eq!(ask(&questions, "reg ring[0].TAIL")["name"], "RING[0].TAIL");
        with_gpu(&questions, |gpu| gpu.write(0x8AA0, Width::B1, 0x11));
        let byte = ask(&questions, "reg ADAPTER_CONTROL");
        assert_eq!(
            (&byte["value"], &byte["offset"]),
            (&json!(0x11), &json!(0x8AA0))
        );
        for (name, expected) in [
            ("MMU_MODUS", "did you mean MMU_MODE"),
            ("TTBR", "say which, from TTBR[0]"),
            ("TTBR[99999]", "has no TTBR[99999]"),
            ("zebra", "`presil regs` lists all"),
        ] {
            let refused = ask(&questions, &format!("reg {name}"))["error"].to_string();
            assert!(refused.contains(expected), "{name}: {refused}");
        }
    }

    #[test]
    fn a_register_is_told_with_its_name() {
        let answer = ask(&questions(), "reg 0xd370");
        assert_eq!(answer["name"], "MEM_READY");
        assert_eq!(answer["hex"], "0xdeadbeaf");
        assert_eq!(answer["value"], 0xdead_beaf_u32);
    }

    #[test]
    fn a_question_about_a_register_is_no_access_of_the_guest() {
        let questions = questions();
        let before = ask(&questions, "counters");
        // Registers of 32 bits and of one byte, and a word that nobody declares.
        for offset in ["0xd370", "0x8850", "0x8200"] {
            let answer = ask(&questions, &format!("reg {offset}"));
            assert!(answer.get("value").is_some(), "{answer}");
        }
        assert_eq!(ask(&questions, "counters"), before);
    }

    fn with_gpu<T>(questions: &Questions, body: impl FnOnce(&mut presil_device::Gpu) -> T) -> T {
        gpu(questions).enter().run(body).unwrap()
    }

    #[test]
    fn misuse_is_told_register_by_register() {
        let questions = questions();
        with_gpu(&questions, |gpu| {
            gpu.write(0xD370, Width::B4, 1);
            gpu.write(0xD370, Width::B4, 1);
            gpu.write(0x49004, Width::B4, 0x20);
            gpu.read(0x49004, Width::B2);
            gpu.read(0x49005, Width::B2);
        });
        let told = |name, offset: u32, kind, count: u32| json!({ "register": name, "offset": offset, "kind": kind, "count": count });
        assert_eq!(
            ask(&questions, "misuse"),
            json!({ "refused_accesses": 1, "registers": [
                told("MEM_READY", 0xD370, "read_only", 2),
                told("MMU_MODE", 0x49004, "reserved", 1),
                told("MMU_MODE", 0x49004, "width", 1),
            ] })
        );
    }

    #[test]
    fn the_ten_undeclared_words_that_are_used_most_are_told() {
        let questions = questions();
        with_gpu(&questions, |gpu| {
            for n in 0..12 {
                for _ in 0..=n {
                    gpu.read(0x1000 + 4 * n, Width::B4);
                }
            }
            gpu.write(0x33000, Width::B4, 1);
        });
        let answer = ask(&questions, "undeclared");
        let read = answer["most_read"].as_array().unwrap();
        assert_eq!((read.len(), &answer["words"]), (10, &json!(13)));
        assert_eq!(
            (&read[0]["offset"], &read[0]["reads"]),
            (&json!(0x102C), &json!(12))
        );
        let block = "display, from 0x33000";
        assert_eq!(
            answer["most_written"],
            json!([{ "block": block, "offset": 0x33000, "reads": 0, "writes": 1 }])
        );
    }

    #[test]
    fn a_stale_translation_is_told_beside_what_the_tables_say() {
        let questions = questions();
        let put = |at, entry: u32| {
            let vram = gpu(&questions).vram();
            vram.write(VramOffset(at), &entry.to_le_bytes()).unwrap();
        };
        let page = |number| {
            L3Entry::new()
                .with_valid(true)
                .with_segment(true)
                .with_page(number)
        };
        // The tables of process 0 at 0x10000; ring 0, all zeros, at va 0.
        let l1 = Ttbr::new()
            .with_valid(true)
            .with_segment(true)
            .with_page(0x10);
        let l2 = L2Entry::new()
            .with_valid(true)
            .with_segment(true)
            .with_page(0x11);
        put(0x10000, l2.into_bits());
        put(0x11000, page(0x20).into_bits());
        with_gpu(&questions, |gpu| {
            let va_mode = MmuMode::new().with_va_mode(true).into_bits();
            gpu.write(Reg::MmuMode.offset(), Width::B4, va_mode.into());
            gpu.write(Reg::Ttbr.at(0), Width::B4, l1.into_bits().into());
            for (word, value) in [(4, 0x1000), (12, 8), (0, 1 << 31)] {
                gpu.write(Reg::LowRings.at(0) + word, Width::B4, value);
            }
            while gpu.has_work() {
                gpu.step(1);
            }
        });
        let fresh = ask(&questions, "tlb 0 0");
        assert_eq!((&fresh["pages"], &fresh["stale"]), (&json!(2), &json!(0)));
        let walk = ask(&questions, "walk 0 0x10");
        assert_eq!(
            (&walk["stale"], &walk["page_bytes"]),
            (&json!([]), &json!(4096))
        );
        let levels = walk["entries"].as_array().unwrap();
        let levels: Vec<_> = levels.iter().map(|entry| &entry["level"]).collect();
        assert_eq!(levels, ["L1", "L2", "L3", "DTLB", "UTLB of ring fetch"]);
        assert_eq!(walk["entries"][2]["addr"], 0x20000);
        put(0x11000, page(0x21).into_bits());
        let held = ask(&questions, "tlb")["held"].clone();
        let utlb = &held[1];
        assert_eq!(
            (
                &utlb["unit"],
                &utlb["client"],
                &utlb["stale"],
                &utlb["pages"]
            ),
            (
                &json!("utlb"),
                &json!("ring fetch"),
                &json!(true),
                &json!(1)
            ),
            "{held}"
        );
        let walk = ask(&questions, "walk 0 0x10");
        let told = walk["stale"][0].as_str().unwrap_or_default();
        assert!(
            told.starts_with("the DTLB has vram:0x") && told.contains("the tables say vram:0x"),
            "{walk}"
        );
        assert_eq!(ask(&questions, "tlb 3")["pages"], 0);
    }

    #[test]
    fn no_guest_waits_for_the_sentences_about_faults() {
        let questions = questions();
        // `told` panics where its thread has a GPU.
        for question in ["faults", "ring_errors"] {
            assert!(ask(&questions, question).get("error").is_none());
        }
    }

    #[test]
    fn vram_is_told_in_hex() {
        let questions = questions();
        gpu(&questions)
            .vram()
            .write(VramOffset(0x1000), &[0xAB, 0x01])
            .unwrap();
        assert_eq!(ask(&questions, "vram 4096 3")["hex"], "ab0100");
    }

    #[test]
    fn mistakes_are_told_what_was_expected() {
        let questions = questions();
        for (line, expected) in [
            ("frobnicate", "say help"),
            ("reg", "usage: reg NAME|OFFSET"),
            ("reg 0zero", "not a number"),
            ("reg 2", "multiple of 4"),
            ("reg 0x100000", "below 0x100000"),
            ("gpu", "usage: gpu N QUESTION"),
            ("gpu 0", "usage: gpu N QUESTION"),
            ("gpu 0 reg", "usage: reg NAME|OFFSET"),
            ("rings 1", "usage: rings"),
            ("gpu 1 info", "below 1"),
            ("gpu 0 gpus", "unknown command"),
            ("walk 16 0", "0 to 15"),
            ("walk 1", "usage: walk PID VA"),
            ("fences all", "not a number"),
            ("tlb 16", "0 to 15"),
            ("tlb 1 0 0", "usage: tlb [PID [VA]]"),
            ("vram 0 4097", "1 to 4096"),
            ("vram 0 0", "1 to 4096"),
            ("vram 0x3fffffff 2", "below 0x40000000"),
            ("vram 0xffffffffffffffff 2", "below"),
        ] {
            let answer = ask(&questions, line);
            let error = answer["error"].as_str().unwrap_or_default();
            assert!(error.contains(expected), "{line}: {answer}");
        }
    }

    #[test]
    fn with_several_gpus_a_question_says_which() {
        let questions = several(&[DoorKind::VhostUser, DoorKind::VfioUser]);
        questions.gpus[1]
            .gpu
            .vram()
            .write(VramOffset(0), &[7])
            .unwrap();
        assert_eq!(ask(&questions, "gpu 0 vram 0 1")["hex"], "00");
        assert_eq!(ask(&questions, "gpu 1 vram 0 1")["hex"], "07");
        let all = ask(&questions, "gpus");
        assert_eq!(
            (&all[0]["door"], &all[1]["socket"]),
            (&json!("vhost-user"), &json!("vfio-user"))
        );
        let refused = ask(&questions, "vram 0 1");
        assert!(
            refused["error"].as_str().unwrap().contains("say which"),
            "{refused}"
        );
    }

    #[test]
    fn a_socket_of_one_gpu_answers_for_no_other() {
        let questions = several(&[DoorKind::VhostUser, DoorKind::VfioUser]);
        let second = Questions::only(Arc::clone(&questions.gpus), 1);
        assert_eq!(ask(&second, "info")["door"], "vfio-user");
        assert_eq!(ask(&second, "gpu 1 info")["door"], "vfio-user");
        assert_eq!(ask(&second, "gpus").as_array().map(Vec::len), Some(1));
        let refused = ask(&second, "gpu 0 vram 0 4").to_string();
        assert!(refused.contains("expected 1, the only one"), "{refused}");
    }

    #[test]
    fn nothing_is_said_unasked() {
        let questions = questions();
        for line in ["", "  ", "{\"error\":\"echoed\"}", " { "] {
            assert_eq!(respond(line, false, &questions), None, "{line:?}");
        }
    }

    #[test]
    fn a_lost_gpu_is_told() {
        let questions = questions();
        let _ = gpu(&questions).enter().run(|_| panic!("on purpose"));
        assert_eq!(ask(&questions, "info")["lost"], true);
        assert!(
            ask(&questions, "reg 0")["error"]
                .as_str()
                .unwrap()
                .contains("lost")
        );
        assert!(
            ask(&questions, "vram 0 4").get("hex").is_some(),
            "VRAM is still there"
        );
    }

    #[test]
    fn lines_end_with_cr_lf_or_both_and_long_ones_are_refused_whole() {
        let questions = questions();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let (client, _) = Clients::default().admit(theirs);
        std::thread::spawn(move || converse(&client, &questions));
        let long = "x".repeat(10 * MAX_LINE);
        write!(ours, "reg 0\rreg 0\r\nreg 0\n{long}\nreg 0\n").unwrap();
        ours.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answers = String::new();
        ours.read_to_string(&mut answers).unwrap();
        let answers: Vec<Value> = answers.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(answers.len(), 5, "{answers:?}");
        assert!(
            answers[3]["error"]
                .as_str()
                .unwrap()
                .contains("longer than")
        );
        assert_eq!(answers[4]["offset"], 0);
    }
}
