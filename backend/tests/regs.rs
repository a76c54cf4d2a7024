//! `presil regs` and `presil chips`: what they print, and that the page in
//! docs/ is what the declarations say.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use support::server::{presil, run, stderr};

fn says(args: &[&str]) -> String {
    let output = presil().args(args).output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{args:?}: {}",
        stderr(&output)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&says(args)).unwrap()
}

#[test]
fn the_page_of_registers_is_what_the_declarations_say() {
    let page = include_str!("../../docs/registers.md");
    assert!(
        says(&["regs", "--markdown"]) == page,
        "docs/registers.md is stale: presil regs --markdown > docs/registers.md"
    );
}

#[test]
fn the_table_has_a_line_for_every_register() {
    let table = says(&["regs"]);
    for info in e3k_regs::register::REGISTERS {
        let lines = table.lines().filter(|line| {
            let mut words = line.split_whitespace();
            words
                .next()
                .is_some_and(|at| at.starts_with(&format!("{:#07x}", info.offset)))
                && words.next() == Some(info.name)
        });
        assert_eq!(lines.count(), 1, "{}", info.name);
    }
    let all = json(&["regs", "--json"]);
    let count = e3k_regs::register::REGISTERS.len();
    assert_eq!(all.as_array().unwrap().len(), count);
}

#[test]
fn a_value_is_decoded_field_by_field() {
    for what in ["0x49004=0x321", "mmu_mode=801", "0x49006=0x321"] {
        let text = says(&["regs", what]);
        for part in [
            "MMU_MODE  0x49004  RW  4 bytes",
            "value 0x321",
            "  0      va_mode        0x1         0: PA mode, 1: VA mode.\n",
            "  15:8   video_size     0x3 ",
            "reserved bits are set: 0x20\n",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
    let object = json(&["regs", "0x49004=0x321", "--json"]);
    assert_eq!(object["name"], "MMU_MODE");
    assert_eq!(object["kinds"][0]["value"], 0x321);
    assert_eq!(object["kinds"][0]["reserved_set"], 0x20);
    let size = &object["kinds"][0]["fields"][4];
    assert_eq!(
        (&size["name"], &size["value"]),
        (&"video_size".into(), &3.into())
    );
    assert!(!says(&["regs", "MMU_MODE=0x300"]).contains("reserved bits"));
}

#[test]
fn registers_of_a_bank_are_found_by_name_and_by_offset() {
    for (what, name) in [
        ("ring[0].tail", "RING[0].TAIL  0x30028"),
        ("0x30028", "RING[0].TAIL  0x30028"),
        ("TTBR[17]", "TTBR[17]  0x50044"),
        ("327748", "TTBR[17]  0x50044"),
        ("posted", "POSTED  0x08852  RW  1 byte "),
        ("VIDEO_RING", "VIDEO_RING  0x30600..0x3062c"),
    ] {
        let text = says(&["regs", what]);
        assert!(text.starts_with(name), "{what}: {text}");
    }
    assert_eq!(json(&["regs", "0x30028", "--json"])["offset"], 0x30028);
}

#[test]
fn what_is_no_register_or_no_value_is_refused_with_what_is() {
    for (what, expected) in [
        ("MMU_MOD", "did you mean MMU_MODE?"),
        ("WHATEVER", "`presil regs` lists all"),
        ("TTBR[4096]", "TTBR[0] to TTBR[4095]"),
        ("0x8850", "nothing is declared at 0x8850"),
        ("0x100000", "outside BAR0"),
        ("POSTED=0x100", "up to 0xff"),
        ("MMU_MODE=0x100000000", "up to 0xffffffff"),
        ("MMU_MODE=", "is no value for MMU_MODE"),
        ("RING=1", "RING[0].ADDRESS to RING[6].TAIL"),
    ] {
        let output = run(&["regs", what]);
        assert_eq!(output.status.code(), Some(2), "{what}");
        let message = stderr(&output);
        assert!(message.contains(expected), "{what}: {message}");
    }
}

#[test]
fn the_chips_are_listed_with_what_sets_them_apart() {
    let table = says(&["chips"]);
    assert_eq!(table.lines().count(), 10);
    let row: Vec<_> = table.lines().nth(8).unwrap().split_whitespace().collect();
    assert_eq!(
        row,
        [
            "2030", "0x6766", "0x3d07", "6", "0x300b4", "yes", "no", "0x40"
        ]
    );
    let chips = json(&["chips", "--json"]);
    assert_eq!(chips.as_array().unwrap().len(), 9);
    assert_eq!(chips[0]["vendor"], 0x1D17);
    assert_eq!(chips[0]["timestamp"], 0x300A4);
}
