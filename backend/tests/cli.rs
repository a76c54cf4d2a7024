//! What `presil` says on the command line, and its exit codes.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use presil_device::{Defect, DefectGroup};
use support::server::{Server, presil, run, stderr, stdout};

#[test]
fn help_teaches_by_examples_and_names_the_exit_codes() {
    let output = run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = stdout(&output);
    for part in [
        "Examples:",
        "presil serve --vhost-user",
        "Exit codes:",
        "PRESIL_LOG",
    ] {
        assert!(help.contains(part), "{part} is missing in {help}");
    }
    let help = stdout(&run(&["serve", "--help"]));
    for part in [
        "--vram",
        "--visible",
        "--chip",
        "--keep",
        "--defect",
        "SIGTERM",
        "share=on",
    ] {
        assert!(help.contains(part), "{part} is missing in {help}");
    }
    assert!(stdout(&run(&["query", "--help"])).contains("walk PID VA"));
}

#[test]
fn a_wrong_command_line_is_refused_with_what_was_expected() {
    let serve = ["serve", "--vhost-user", "gpu"];
    for (more, expected) in [
        (&["--vram", "1.5G"][..], "512M, 1G or 1GiB"),
        (&["--vram", "17M"], "1G to 15G"),
        (&["--vram", "65G"], "multiple of 256M up to 64G"),
        (&["--visible", "3M"], "power of two"),
        (&["--visible", "2G"], "the lesser of VRAM and 4G"),
        (&["--chip", "voodoo"], "10c0"),
        (&["--defect", "everything"], "--defect help lists all"),
        (&["--defect", "copies,fence"], "fence-lost is one"),
        (&["--vram-seed", "x"], "--vram-seed"),
        (&["--vram-seed", "+5"], "with 0x hexadecimal"),
        (&["--surface-format", "12"], "as in 12=2"),
        (&["--surface-format", "12=+2"], "as in 12=2"),
        (&["--surface-format", "512=2"], "0 to 511"),
        (&["--surface-format", "89=4"], "is B8G8R8A8"),
        (&["--surface-format", "12=3"], "1, 2, 4, 8 or 16"),
        (
            &["--surface-format", "12=2", "--surface-format", "12=4"],
            "12 of 4 bytes",
        ),
        (&["--guest-ram", "2G"], "--print-qemu-args"),
    ] {
        let output = run(&[&serve[..], more].concat());
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        assert!(
            stderr(&output).contains(expected),
            "{more:?}: {}",
            stderr(&output)
        );
    }
    let serve = ["serve", "--vfio-user", "gpu"];
    for (more, expected) in [
        (&["--vram", "256M"][..], "1G to 15G"),
        (&["--pci-subsystem", "6766"], "VENDOR:DEVICE"),
        (&["--pci-subsystem", "6766:10000"], "VENDOR:DEVICE"),
        (&["--pci-subsystem", "0x0x12:34"], "VENDOR:DEVICE"),
        (&["--pci-subsystem", "12:+34"], "VENDOR:DEVICE"),
        (&["--pci-class", "audio"], "vga"),
    ] {
        let output = run(&[&serve[..], more].concat());
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        let said = stderr(&output);
        assert!(said.contains(expected), "{more:?}: {said}");
        assert!(
            !said.contains("multiple of 256M"),
            "0xD374 must say it: {said}"
        );
    }
    let class = ["serve", "--vhost-user", "gpu", "--pci-class", "vga"];
    assert!(stderr(&run(&class)).contains("--vfio-user"));
    for args in [&[][..], &["serve"], &["query"], &["query", "ctl"], &["fly"]] {
        assert_eq!(run(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn what_can_be_broken_is_listed_by_group_and_taken_by_name() {
    let output = run(&["serve", "--defect", "help"]);
    assert_eq!(output.status.code(), Some(0));
    let list = stdout(&output);
    assert!(Defect::ALL.len() >= 30);
    for group in DefectGroup::ALL {
        assert!(list.contains(&format!("\n\n{}\n", group.name())), "{list}");
        assert!(Defect::ALL.iter().any(|defect| defect.group() == *group));
    }
    let names: Vec<_> = Defect::ALL.iter().map(|defect| defect.name()).collect();
    for (defect, name) in Defect::ALL.iter().zip(&names) {
        let lines = list.lines().filter(|line| line.starts_with("  "));
        let mut lines = lines.map(str::split_whitespace);
        let line = lines.find(|words| words.clone().next() == Some(name));
        let what: Vec<_> = line.expect(name).skip(1).collect();
        assert_eq!(what.join(" "), defect.what());
        assert_eq!(Defect::from_name(name), Some(*defect));
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(name.chars().all(plain), "{name}");
    }
    let all = names.join(",");
    let line = ["serve", "--vhost-user", "gpu", "--print-qemu-args"];
    for more in [
        &["--defect", &all][..],
        &["--defect", "copies", "--defect", "fills"],
    ] {
        let output = run(&[&line[..], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
}

#[test]
fn json_keeps_its_order_also_where_the_daemon_is_built_alone() {
    let said = serde_json::json!({ "va": 1, "level": 2, "error": 3 });
    assert_eq!(said.to_string(), r#"{"va":1,"level":2,"error":3}"#);
}

#[test]
fn every_chip_of_the_family_is_known_and_the_refusal_lists_them() {
    let refusal = stderr(&run(&["serve", "--vhost-user", "gpu", "--chip", "none"]));
    for chip in e3k_regs::Chip::ALL {
        assert!(
            refusal.contains(chip.name()),
            "{chip} is missing in {refusal}"
        );
        let output = run(&[
            "serve",
            "--vhost-user",
            "gpu",
            "--chip",
            chip.name(),
            "--print-qemu-args",
        ]);
        assert_eq!(output.status.code(), Some(0), "{chip}");
    }
}

#[test]
fn qemus_options_are_one_line_and_nothing_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let output = presil()
        .args([
            "serve",
            "--vhost-user",
            "my gpu",
            "--print-qemu-args",
            "--guest-ram",
            "768M",
        ])
        .current_dir(&dir)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let line = stdout(&output);
    assert_eq!(line.lines().count(), 1);
    for part in [
        "memory-backend-memfd,id=presil-ram,size=768M,share=on",
        "pcie-root-port,",
        "'socket,id=presil-gpu,path=my gpu'",
        "virtio-id=38,num_vqs=2,vq_size=1024,config_size=256",
    ] {
        assert!(line.contains(part), "{part} is missing in {line}");
    }
    assert!(!dir.path().join("my gpu").exists());
}

#[test]
fn a_socket_path_that_the_kernel_has_no_room_for_is_refused() {
    let path = format!("/tmp/{}", "x".repeat(110));
    let control = format!("0={path}");
    for args in [
        &["--vhost-user", &path][..],
        &["--vfio-user", &path],
        &["--vhost-user", "gpu", "--control", &path],
        &["--vhost-user", "gpu", "--gpu-control", &control],
    ] {
        let output = run(&[&["serve"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = stderr(&output);
        assert!(said.contains("at most 107"), "{args:?}: {said}");
    }
}

#[test]
fn what_qemu_could_not_be_told_is_refused_instead_of_printed() {
    let print = ["serve", "--print-qemu-args"];
    for (more, expected) in [
        (&["--vhost-user", "two\nlines"][..], "control character"),
        (&["--vfio-user", "bell\x07"], "control character"),
        (
            &["--vhost-user", "gpu", "--guest-ram", "0"],
            "multiple of 8K",
        ),
        (
            &["--vfio-user", "gpu", "--guest-ram", "1025K"],
            "multiple of 8K",
        ),
        (
            &["--vhost-user", "gpu", "--gpu-control", "1=ctl"],
            "there are 1 GPUs",
        ),
    ] {
        let output = run(&[&print[..], more].concat());
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        assert_eq!(stdout(&output), "", "{more:?}");
        let said = stderr(&output);
        assert!(said.contains(expected), "{more:?}: {said}");
    }
}

#[test]
fn a_server_without_a_door_is_told_both_doors() {
    let output = run(&["serve"]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    for door in ["--vhost-user", "--vfio-user"] {
        assert!(said.contains(door), "{said}");
    }
}

#[test]
fn a_query_prints_one_line_of_json() {
    let server = Server::start(&["--chip", "2030", "--vram", "3G"]);
    let info = server.query(&["info"]);
    assert_eq!(info["chip"], "2030");
    assert_eq!(info["vram_bytes"], 3_u64 << 30);
    assert_eq!(info["attached"], false);
    assert_eq!(server.query(&["counters"])["device"]["copies"], 0);
    assert_eq!(server.query(&["faults"])["faults"], serde_json::json!([]));
    assert_eq!(server.query(&["walk", "3", "0x1000"])["l1"], 0);
    assert_eq!(server.query(&["reg", "0xD370"])["hex"], "0xdeadbeaf");
}

#[test]
fn a_query_for_people_has_names_and_fields_also_on_a_pipe() {
    let server = Server::start(&[]);
    let control = server.control();
    let control = control.to_str().unwrap();
    let human = run(&["query", "--human", control, "reg", "mem_ready"]);
    let said = stdout(&human);
    assert!(said.contains("name    MEM_READY\n"), "{said}");
    assert!(said.contains("value   0xdeadbeaf\n"), "{said}");
    let both = run(&["query", "--human", "--json", control, "info"]);
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn a_watched_question_is_answered_again_and_again_a_line_each() {
    let server = Server::start(&[]);
    let mut child = presil()
        .arg("query")
        .arg(server.control())
        .args(["info", "--watch", "0.1"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let answers = BufReader::new(child.stdout.take().unwrap()).lines().take(3);
    for answer in answers {
        let answer: serde_json::Value = answer.unwrap().parse().unwrap();
        assert_eq!(answer["chip"], "10c0");
    }
    // Nobody reads any more: that is its end, and a good one.
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let refused = run(&["query", "--watch", "ctl", "info"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("behind the question"));
}

#[test]
fn a_query_without_an_answer_fails_and_says_why() {
    let server = Server::start(&[]);
    let control = server.control();
    let control = control.to_str().unwrap();
    for (args, expected) in [
        (&["query", control, "frobnicate"][..], "say help"),
        (&["query", control, "reg", "3"], "multiple of 4"),
        (&["query", "/nonexistent/ctl", "info"], "no server answers"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(
            stderr(&output).contains(expected),
            "{args:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "", "{args:?}");
    }
}

#[test]
fn several_clients_talk_to_the_control_socket_at_once() {
    let server = Server::start(&[]);
    let mut clients: Vec<_> = (0..8)
        .map(|_| BufReader::new(UnixStream::connect(server.control()).unwrap()))
        .collect();
    for round in 0..3 {
        for client in &mut clients {
            client.get_mut().write_all(b"reg 0xD370\r\n").unwrap();
        }
        for client in &mut clients {
            let mut line = String::new();
            client.read_line(&mut line).unwrap();
            assert!(line.contains("MEM_READY"), "round {round}: {line}");
        }
    }
}
