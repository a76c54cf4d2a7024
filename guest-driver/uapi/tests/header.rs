//! `presil_drm.h`, as the host's C compiler reads it, says what the crate says.

#![expect(clippy::unwrap_used, reason = "a test")]

use presil_uapi::*;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::mem::{offset_of, size_of};
use std::process::Command;

type Values = BTreeMap<String, u64>;

macro_rules! layout {
    ($values:ident, $name:literal, $type:ty, $($field:ident)*) => {
        $values.insert(concat!("sizeof(struct ", $name, ")").into(), size_of::<$type>() as u64);
        $($values.insert(
            concat!("offsetof(struct ", $name, ", ", stringify!($field), ")").into(),
            offset_of!($type, $field) as u64,
        );)*
    };
}

/// C expressions and what the crate takes them for.
fn ours() -> Values {
    let mut v = Values::new();
    layout!(v, "drm_presil_segment", Segment, gpu_va bytes used_bytes pinned_bytes);
    layout!(v, "drm_presil_info", Info, flags vendor_id device_id vram_bytes visible_bytes
        fence_submitted fence_completed interrupts fallbacks page_faults segments bus_errors hangs);
    layout!(v, "drm_presil_window", Window, first_page last_page);
    layout!(v, "drm_presil_create", Create, bytes flags window_count windows handle pad);
    layout!(v, "drm_presil_map_offset", MapOffset, handle flags offset);
    layout!(v, "drm_presil_fill", Fill, handle pattern offset bytes fence);
    layout!(v, "drm_presil_copy", Copy, dst_handle src_handle dst_offset src_offset bytes fence);
    layout!(v, "drm_presil_wait", Wait, fence deadline_ns flags pad);
    layout!(v, "drm_presil_describe", Describe, handle flags segment bus state first_pte
        start_page pages gpu_va);
    for (name, value) in [
        ("DRM_IOCTL_PRESIL_INFO", IOCTL_INFO),
        ("DRM_IOCTL_PRESIL_CREATE", IOCTL_CREATE),
        ("DRM_IOCTL_PRESIL_MAP_OFFSET", IOCTL_MAP_OFFSET),
        ("DRM_IOCTL_PRESIL_FILL", IOCTL_FILL),
        ("DRM_IOCTL_PRESIL_COPY", IOCTL_COPY),
        ("DRM_IOCTL_PRESIL_WAIT", IOCTL_WAIT),
        ("DRM_IOCTL_PRESIL_DESCRIBE", IOCTL_DESCRIBE),
        ("PRESIL_CREATE_GPU_ONLY", CREATE_GPU_ONLY),
        ("PRESIL_CREATE_GPU_MOSTLY", CREATE_GPU_MOSTLY),
        ("PRESIL_CREATE_UPLOAD", CREATE_UPLOAD),
        ("PRESIL_CREATE_READBACK", CREATE_READBACK),
        ("PRESIL_BUS_IO", BUS_IO),
        ("PRESIL_BUS_MEM", BUS_MEM),
        ("PRESIL_STATE_POPULATED", STATE_POPULATED),
        ("PRESIL_STATE_BOUND", STATE_BOUND),
        ("PRESIL_STATE_PINNED", STATE_PINNED),
    ] {
        v.insert(name.into(), u64::from(value));
    }
    v.insert("PRESIL_SEGMENTS".into(), SEGMENTS as u64);
    v.insert("PRESIL_MAX_WINDOWS".into(), MAX_WINDOWS as u64);
    v
}

/// The same expressions, compiled and evaluated in C.
fn theirs(expressions: impl Iterator<Item = String>) -> Values {
    let mut source = String::from("#include <stddef.h>\n#include <stdio.h>\n");
    source += "#include \"presil_drm.h\"\nint main(void)\n{\n";
    for expression in expressions {
        writeln!(
            source,
            "printf(\"%s=%llu\\n\", \"{expression}\", (unsigned long long)({expression}));"
        )
        .unwrap();
    }
    source += "return 0;\n}\n";

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("header.c");
    let program = directory.path().join("header");
    std::fs::write(&file, source).unwrap();
    let compiled = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-I"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../kmod"))
        .arg("-o")
        .args([&program, &file])
        .output()
        .unwrap();
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    let printed = Command::new(program).output().unwrap().stdout;
    String::from_utf8(printed)
        .unwrap()
        .lines()
        .map(|line| {
            let (name, value) = line.split_once('=').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[test]
fn the_c_header_has_the_same_numbers_sizes_and_offsets() {
    let ours = ours();
    assert_eq!(ours, theirs(ours.keys().cloned()));
}
