//! Answers as text.

use serde_json::json;

use super::*;

#[test]
fn members_are_aligned_and_numbers_are_in_their_own_base() {
    let answer = json!({ "name": "MMU_MODE", "offset": 0x49004, "value": 768, "count": 12 });
    let lines = [
        "name    MMU_MODE",
        "offset  0x49004",
        "value   0x300",
        "count   12",
    ];
    assert_eq!(text(&answer, 80), lines.join("\n") + "\n");
}

#[test]
fn records_are_a_table_without_members_that_none_has() {
    let answer = json!({ "rings": [
        { "ring": 0, "head": 16, "started": true, "buffer": null, "waits_for": "a long time" },
        { "ring": 10, "head": 4096, "started": false, "buffer": null, "waits_for": null },
    ] });
    let lines = [
        "rings:",
        "  RING  STARTED  HEAD    WAITS FOR",
        "  0     yes      0x10    a long time",
        "  10    no       0x1000  -",
    ];
    assert_eq!(text(&answer, 80), lines.join("\n") + "\n");
    let lines = [
        "rings:",
        "  RING  STARTED  HEAD",
        "  0     yes      0x10",
        "      waits for: a long",
        "        time",
        "  10    no       0x1000",
    ];
    assert_eq!(text(&answer, 25), lines.join("\n") + "\n");
    assert!(text(&answer, 20).contains("head       0x10\n"));
}

#[test]
fn a_walk_is_its_decoded_entries_and_no_bare_numbers() {
    let entry = |level: &str, page_bytes: Option<u64>| {
        json!({ "level": level, "value": 265, "valid": true, "segment": "VRAM", "snoop": false,
                "ns": false, "addr": 65536, "page_bytes": page_bytes })
    };
    let answer = json!({ "l1": 265, "l2": null, "dtlb": null, "utlb": { "blit": 265 },
        "target": "vram:0x10", "stale": [], "page_bytes": 4096,
        "entries": [entry("L1", None), entry("L3", Some(4096))] });
    let lines = [
        "target      vram:0x10",
        "stale       none",
        "page bytes  4096",
        "",
        "entries:",
        "  LEVEL  VALUE  VALID  SEGMENT  SNOOP  NS  ADDR     PAGE BYTES",
        "  L1     0x109  yes    VRAM     no     no  0x10000  -",
        "  L3     0x109  yes    VRAM     no     no  0x10000  4096",
    ];
    assert_eq!(text(&answer, 80), lines.join("\n") + "\n");
}

#[test]
fn memory_is_dumped_in_lines() {
    let answer = json!({ "offset": 4096, "len": 18, "hex": "ab".repeat(18) });
    let bytes = " ab".repeat(16);
    let lines = [
        format!("0x0000001000 {bytes}"),
        "0x0000001010  ab ab".to_owned(),
    ];
    assert_eq!(text(&answer, 80), lines.join("\n") + "\n");
}

#[test]
fn sentences_are_wrapped_between_words() {
    let answer = json!({ "reasons": ["one two three four five six"], "facts": { "lost": false } });
    let lines = [
        "reasons:",
        "  - one two three",
        "    four five six",
        "",
        "facts:",
        "  lost  no",
    ];
    assert_eq!(text(&answer, 18), lines.join("\n") + "\n");
    let long = "x".repeat(100);
    assert_eq!(text(&json!([long]), 18), format!("{long}\n"));
    let help = json!([["why", "what it is", "why"], ["tlb [N]", "more", "tlb 1"]]);
    let lines = [
        "why      what it is",
        "tlb [N]  more; as in: tlb",
        "         1",
    ];
    assert_eq!(text(&help, 26), lines.join("\n") + "\n");
}

#[test]
fn records_with_a_sentence_are_their_sentence() {
    let answer = json!({ "faults": [{ "text": "a fault", "va": 1 }], "ring_errors": [] });
    let lines = ["ring errors  none", "", "faults:", "  - a fault"];
    assert_eq!(text(&answer, 80), lines.join("\n") + "\n");
}

#[test]
fn records_that_have_a_layout_keep_it() {
    let report = |n: u32| {
        let text = format!("presil[{n}] title\n  what happened (event 1)\n  would do   this");
        json!({ "text": text, "rule": n, "history": [] })
    };
    let answer = json!({
        "reports": [report(60001), report(70001)],
        "summary": { "text": "driver checker: 2 rules\n  found 2", "rules": [{ "rule": 60001 }] },
    });
    let lines = [
        "reports:",
        "  presil[60001] title",
        "    what happened (event 1)",
        "    would do   this",
        "",
        "  presil[70001] title",
        "    what happened (event 1)",
        "    would do   this",
        "",
        "summary:",
        "  driver checker: 2 rules",
        "    found 2",
    ];
    assert_eq!(text(&answer, 80), lines.join("\n") + "\n");
    assert!(text(&answer, 20).contains("    what happened\n      (event 1)\n"));
}
