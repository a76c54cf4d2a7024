//! The options QEMU needs to attach this server's GPU.

use std::path::Path;

use crate::size::Size;
use crate::vhost_user::{CONFIG_BYTES, QUEUE_SIZE, QUEUES, VIRTIO_ID};

/// QEMU's options for the server at `socket` and a guest with `guest_ram`
/// bytes, as one shell-quoted line: shared RAM, a root port (as on a board),
/// the device.
pub fn line(socket: &Path, guest_ram: u64) -> String {
    let ram = Size(guest_ram);
    let socket = socket.display().to_string().replace(',', ",,");
    let options = [
        "-machine".to_owned(),
        "q35,memory-backend=presil-ram".to_owned(),
        "-m".to_owned(),
        ram.to_string(),
        "-object".to_owned(),
        format!("memory-backend-memfd,id=presil-ram,size={ram},share=on"),
        "-device".to_owned(),
        "pcie-root-port,id=presil-port,chassis=1".to_owned(),
        "-chardev".to_owned(),
        format!("socket,id=presil-gpu,path={socket}"),
        "-device".to_owned(),
        format!(
            "vhost-user-test-device-pci,bus=presil-port,chardev=presil-gpu,virtio-id={VIRTIO_ID},\
             num_vqs={QUEUES},vq_size={QUEUE_SIZE},config_size={CONFIG_BYTES}"
        ),
    ];
    let quoted: Vec<String> = options.iter().map(|option| quote(option)).collect();
    quoted.join(" ")
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
    use super::*;

    #[test]
    fn the_line_is_what_qemu_needs() {
        assert_eq!(
            line(Path::new("/tmp/gpu.sock"), 1 << 30),
            "-machine q35,memory-backend=presil-ram -m 1G \
             -object memory-backend-memfd,id=presil-ram,size=1G,share=on \
             -device pcie-root-port,id=presil-port,chassis=1 \
             -chardev socket,id=presil-gpu,path=/tmp/gpu.sock \
             -device vhost-user-test-device-pci,bus=presil-port,chardev=presil-gpu,virtio-id=38,\
             num_vqs=2,vq_size=1024,config_size=256"
        );
    }

    #[test]
    fn odd_paths_are_quoted_for_the_shell_and_for_qemu() {
        let line = line(Path::new("/tmp/it's, mine"), 1 << 30);
        assert!(
            line.contains(r"'socket,id=presil-gpu,path=/tmp/it'\''s,, mine'"),
            "{line}"
        );
    }
}
