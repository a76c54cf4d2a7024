//! The options QEMU needs to attach this server's GPU.

use std::path::Path;

use crate::doors::vhost_user::{CONFIG_BYTES, QUEUE_SIZE, QUEUES, VIRTIO_ID};
use crate::service::server::{DoorKind, DoorOptions};
use presil_values::size::{self, Size};

/// At more than 5 GT/s a guest's kernel waits after a bus reset for the port to
/// say that its link is active, which QEMU's does not while ACPI handles hotplug.
const PORT_SPEED: &str = "x-speed=5";

/// QEMU rounds a machine's RAM up to a multiple of this, and then refuses a
/// memory backend of another size.
const RAM_UNIT: u64 = 8 << 10;

/// What QEMU 11.1 starts a q35 machine with: of more than 64T it cannot map the
/// backend into the 47 bits of a process's addresses.
const RAM: std::ops::RangeInclusive<u64> = RAM_UNIT..=64 << 40;

/// A socket path that no line can tell QEMU.
#[derive(Debug, thiserror::Error)]
#[error(
    "socket path {}: a path with a control character, or that is not UTF-8, \
     cannot be printed for QEMU: use another",
    .0.escape_debug()
)]
pub struct UnprintablePath(String);

/// Reads `--guest-ram`: a size that QEMU takes.
pub fn guest_ram(text: &str) -> Result<u64, String> {
    let bytes = size::parse(text).map_err(|error| error.to_string())?;
    if RAM.contains(&bytes) && bytes.is_multiple_of(RAM_UNIT) {
        return Ok(bytes);
    }
    Err(format!(
        "QEMU has no machine of that size: expected a multiple of {}, from {} to {}",
        Size(RAM_UNIT),
        Size(*RAM.start()),
        Size(*RAM.end())
    ))
}

/// QEMU's options for the server at `doors` and a guest with `guest_ram`
/// bytes, as one shell-quoted line: shared RAM, and for each GPU a root port
/// (as on a board) and the device.
///
/// # Errors
///
/// Where a socket has a path that the line could not hold.
pub fn line(doors: &[DoorOptions], guest_ram: u64) -> Result<String, UnprintablePath> {
    for door in doors {
        check_path(&door.socket)?;
    }
    Ok(options(doors, guest_ram, None))
}

fn check_path(path: &Path) -> Result<(), UnprintablePath> {
    match path.to_str() {
        Some(text) if !text.contains(char::is_control) => Ok(()),
        _ => Err(UnprintablePath(path.to_string_lossy().into_owned())),
    }
}

/// The same without the devices, which come by `device_add` later: firmware
/// gives each port room for a window of `visible` bytes of VRAM, which it would
/// do otherwise only for a device that is there.
pub fn hotplug_line(doors: &[DoorOptions], guest_ram: u64, visible: u64) -> String {
    options(doors, guest_ram, Some(visible))
}

fn options(doors: &[DoorOptions], guest_ram: u64, visible_later: Option<u64>) -> String {
    let ram = Size(guest_ram);
    let mut options = vec![
        "-machine".to_owned(),
        "q35,memory-backend=presil-ram".to_owned(),
        "-m".to_owned(),
        ram.to_string(),
        "-object".to_owned(),
        format!("memory-backend-memfd,id=presil-ram,size={ram},share=on"),
    ];
    for (door, number) in doors.iter().zip(0..) {
        // The first GPU's names have no number.
        let suffix = if number == 0 {
            String::new()
        } else {
            number.to_string()
        };
        let chassis = number + 1;
        let port = format!("pcie-root-port,id=presil-port{suffix},chassis={chassis},{PORT_SPEED}");
        // Twice the window: firmware aligns an empty port's room to 1 MiB only,
        // and a BAR has to be aligned to its size.
        let room = visible_later.map(|bytes| format!(",pref64-reserve={}", Size(2 * bytes)));
        let port = port + &room.unwrap_or_default();
        options.extend(["-device".to_owned(), port]);
        if visible_later.is_none() {
            options.extend(device(door, &suffix));
        }
    }
    let quoted: Vec<String> = options.iter().map(|option| quote(option)).collect();
    quoted.join(" ")
}

/// The options of one device behind its port.
fn device(door: &DoorOptions, suffix: &str) -> Vec<String> {
    let socket = door.socket.display().to_string();
    match door.kind {
        DoorKind::VhostUser => {
            let socket = socket.replace(',', ",,");
            vec![
                "-chardev".to_owned(),
                format!("socket,id=presil-gpu{suffix},path={socket}"),
                "-device".to_owned(),
                format!(
                    "vhost-user-test-device-pci,bus=presil-port{suffix},chardev=presil-gpu{suffix},\
                     virtio-id={VIRTIO_ID},num_vqs={QUEUES},vq_size={QUEUE_SIZE},config_size={CONFIG_BYTES}"
                ),
            ]
        }
        DoorKind::VfioUser => {
            let device = serde_json::json!({
                "driver": "vfio-user-pci",
                "bus": format!("presil-port{suffix}"),
                "socket": { "type": "unix", "path": socket },
                "rombar": 0,
            });
            vec!["-device".to_owned(), device.to_string()]
        }
    }
}

/// `word` as a POSIX shell reads it back.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+,./:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn door(kind: DoorKind, socket: &str) -> DoorOptions {
        DoorOptions {
            kind,
            socket: socket.into(),
        }
    }

    #[test]
    fn each_door_has_a_device_behind_its_own_port() {
        let doors = [
            door(DoorKind::VhostUser, "a"),
            door(DoorKind::VfioUser, "b"),
        ];
        let line = line(&doors, 1 << 30).unwrap();
        assert!(
            line.contains("pcie-root-port,id=presil-port,chassis=1,x-speed=5 -chardev"),
            "{line}"
        );
        let (_, second) = line
            .split_once("-device pcie-root-port,id=presil-port1,chassis=2,x-speed=5 -device '")
            .unwrap();
        let device: serde_json::Value =
            serde_json::from_str(second.trim_end_matches('\'')).unwrap();
        assert_eq!(
            device,
            serde_json::json!({
                "driver": "vfio-user-pci",
                "bus": "presil-port1",
                "socket": { "type": "unix", "path": "b" },
                "rombar": 0,
            })
        );
    }

    #[test]
    fn the_line_is_what_qemu_needs() {
        assert_eq!(
            line(&[door(DoorKind::VhostUser, "/tmp/gpu.sock")], 1 << 30).unwrap(),
            "-machine q35,memory-backend=presil-ram -m 1G \
             -object memory-backend-memfd,id=presil-ram,size=1G,share=on \
             -device pcie-root-port,id=presil-port,chassis=1,x-speed=5 \
             -chardev socket,id=presil-gpu,path=/tmp/gpu.sock \
             -device vhost-user-test-device-pci,bus=presil-port,chardev=presil-gpu,virtio-id=38,\
             num_vqs=2,vq_size=1024,config_size=256"
        );
    }

    #[test]
    fn ports_for_devices_that_come_later_are_empty_and_have_room() {
        let doors = [
            door(DoorKind::VhostUser, "a"),
            door(DoorKind::VfioUser, "b"),
        ];
        assert_eq!(
            hotplug_line(&doors, 4 << 30, 512 << 20),
            "-machine q35,memory-backend=presil-ram -m 4G \
             -object memory-backend-memfd,id=presil-ram,size=4G,share=on \
             -device pcie-root-port,id=presil-port,chassis=1,x-speed=5,pref64-reserve=1G \
             -device pcie-root-port,id=presil-port1,chassis=2,x-speed=5,pref64-reserve=1G"
        );
    }

    #[test]
    fn odd_paths_are_quoted_for_the_shell_and_for_qemu() {
        let line = line(&[door(DoorKind::VhostUser, "/tmp/it's, mine")], 1 << 30).unwrap();
        assert!(
            line.contains(r"'socket,id=presil-gpu,path=/tmp/it'\''s,, mine'"),
            "{line}"
        );
    }

    #[test]
    fn a_path_that_one_line_cannot_hold_is_refused() {
        let latin = std::ffi::OsStr::from_bytes(b"/tmp/gr\xfcn");
        for path in [
            Path::new("/tmp/two\nlines"),
            Path::new("tab\t"),
            Path::new(latin),
        ] {
            for kind in [DoorKind::VhostUser, DoorKind::VfioUser] {
                let socket = path.to_path_buf();
                let refused = line(&[DoorOptions { kind, socket }], 1 << 30).unwrap_err();
                assert!(!refused.to_string().contains('\n'), "{refused}");
            }
        }
        line(&[door(DoorKind::VfioUser, "/tmp/grün, ja")], 1 << 30).unwrap();
    }

    #[test]
    fn ram_that_qemu_refuses_is_refused_and_other_is_not() {
        for text in [
            "0",
            "4K",
            "12K",
            "1025K",
            "1048577",
            "65T",
            "16777215T",
            "much",
        ] {
            guest_ram(text).unwrap_err();
        }
        for (text, bytes) in [("8K", 8 << 10), ("5000K", 5_120_000), ("4G", 4 << 30)] {
            assert_eq!(guest_ram(text), Ok(bytes));
        }
    }
}
