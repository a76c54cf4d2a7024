//! What the targets `vfio_user` and `vhost_user` do with their bytes: they are
//! messages to a door of a GPU. Whatever they are, the door lives until its client
//! has left, and the GPU is not lost.
//!
//! A record is a byte of flags, two bytes of length, and so many bytes: a
//! message, or with [`WRAPPED`] a command number and its body.
#![allow(dead_code, reason = "each target has one door of its own")]

use presil::doors::{vfio_user, vhost_user};
use presil::shared_gpu::SharedGpu;
use presil_device::{Chip, Config};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::{Errno, pwrite, write};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The header is made for the bytes.
const WRAPPED: u8 = 1;
/// A file of memory comes with the message.
const WITH_MEMORY: u8 = 2;
/// An event descriptor does.
const WITH_EVENT: u8 = 4;
/// Both do, many times.
const WITH_MANY: u8 = 8;
/// A socket does.
const WITH_SOCKET: u8 = 16;
/// The bytes are none of a message, but an offset and what the memory has there;
/// then whoever waits for the event is woken.
const POKE: u8 = 32;

const MEMORY_BYTES: u64 = 1 << 16;

/// A message from a command's number and its body.
type Wrap = fn(&[u8], &[u8]) -> Vec<u8>;

/// Serves the records to their end, at the vfio-user door.
pub fn vfio_user(data: &[u8]) {
    play(data, vfio_message, |gpu, stream| {
        let door = vfio_user::Door {
            is_watched: true,
            gpu: Arc::clone(gpu),
            presence: Arc::default(),
            counters: Arc::default(),
            identity: presil::doors::pci::Identity::default(),
        };
        door.serve(stream);
    });
}

/// The same at the vhost-user door.
pub fn vhost_user(data: &[u8]) {
    play(data, vhost_message, |gpu, stream| {
        let (presence, counters) = (Arc::default(), Arc::default());
        let patience = Duration::from_secs(1);
        // To be refused is a good end.
        let _ = vhost_user::serve_client(stream, None, gpu, &presence, &counters, patience);
    });
}

fn play(data: &[u8], wrap: Wrap, serve: impl FnOnce(&Arc<SharedGpu>, UnixStream) + Send) {
    static GPU: OnceLock<Arc<SharedGpu>> = OnceLock::new();
    let gpu = GPU.get_or_init(|| {
        let config = Config::new(Chip::Arise10c0, 1 << 30, 1 << 20, false).expect("legal sizes");
        SharedGpu::start(config).expect("VRAM")
    });
    let (ours, theirs) = UnixStream::pair().expect("sockets");
    std::thread::scope(|scope| {
        let server = scope.spawn(|| serve(gpu, theirs));
        Client::new(ours).play(data, wrap);
        // The scope waits for the closure, this for all that the thread had.
        server.join().expect("the door does not panic");
    });
    assert!(!gpu.is_lost(), "the GPU is lost");
    gpu.power_cycle().expect("VRAM");
}

struct Client {
    stream: UnixStream,
    memory: OwnedFd,
    event: OwnedFd,
    /// One end is lent, the other says nothing.
    sockets: (UnixStream, UnixStream),
}

impl Client {
    fn new(stream: UnixStream) -> Self {
        let memory = memfd_create("ram", MemfdFlags::CLOEXEC).expect("memory");
        ftruncate(&memory, MEMORY_BYTES).expect("memory");
        Self {
            stream,
            memory,
            event: eventfd(0, EventfdFlags::CLOEXEC).expect("an event"),
            sockets: UnixStream::pair().expect("sockets"),
        }
    }

    fn play(&self, data: &[u8], wrap: Wrap) {
        let mut rest = data;
        while let [flags, low, high, behind @ ..] = rest {
            let length = usize::from(u16::from_le_bytes([*low, *high])).min(behind.len());
            let (bytes, next) = behind.split_at(length);
            rest = next;
            if flags & POKE != 0 {
                self.poke(bytes);
                continue;
            }
            let raw = if flags & WRAPPED != 0 {
                let (command, body) = bytes.split_at(bytes.len().min(2));
                wrap(command, body)
            } else {
                bytes.to_vec()
            };
            if !self.send(&raw, &self.descriptors(*flags)) {
                break;
            }
        }
        let _ = self.stream.shutdown(Shutdown::Write);
        while self.drain(RecvFlags::empty()) {}
    }

    fn descriptors(&self, flags: u8) -> Vec<BorrowedFd<'_>> {
        let mut fds = vec![];
        if flags & WITH_MEMORY != 0 {
            fds.push(self.memory.as_fd());
        }
        if flags & WITH_EVENT != 0 {
            fds.push(self.event.as_fd());
        }
        if flags & WITH_SOCKET != 0 {
            fds.push(self.sockets.0.as_fd());
        }
        if flags & WITH_MANY != 0 {
            fds.extend([self.memory.as_fd(); 12]);
        }
        fds
    }

    fn poke(&self, bytes: &[u8]) {
        let Some((at, bytes)) = bytes.split_first_chunk() else {
            return;
        };
        let at = u64::from(u16::from_le_bytes(*at));
        let room = usize::try_from(MEMORY_BYTES - at).expect("a small memory");
        let bytes = &bytes[..bytes.len().min(room)];
        pwrite(&self.memory, bytes, at).expect("memory");
        write(&self.event, &1_u64.to_ne_bytes()).expect("it has room");
    }

    /// Whether the server still listens. Takes replies while it does not.
    fn send(&self, raw: &[u8], fds: &[BorrowedFd<'_>]) -> bool {
        let mut rest = raw;
        let mut fds = fds;
        while !rest.is_empty() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(fds));
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(&self.stream, &[IoSlice::new(rest)], &mut control, flags) {
                Ok(sent) => {
                    rest = &rest[sent..];
                    fds = &[];
                }
                Err(Errno::AGAIN) => {
                    self.drain(RecvFlags::DONTWAIT);
                    std::thread::yield_now();
                }
                Err(_) => return false,
            }
        }
        self.drain(RecvFlags::DONTWAIT);
        true
    }

    /// Takes what the server says; `false` when it says no more.
    fn drain(&self, flags: RecvFlags) -> bool {
        let mut buf = [0; 4096];
        recv(&self.stream, &mut buf, flags).is_ok_and(|(bytes, _)| bytes != 0)
    }
}

fn vfio_message(command: &[u8], body: &[u8]) -> Vec<u8> {
    let mut raw = vec![1, 0];
    raw.extend(command);
    raw.resize(4, 0);
    raw.extend((16 + body.len() as u32).to_ne_bytes());
    raw.resize(16, 0);
    raw.extend(body);
    raw
}

/// The command's second byte are the header's flags.
fn vhost_message(command: &[u8], body: &[u8]) -> Vec<u8> {
    let byte = |at: usize| command.get(at).copied().unwrap_or_default();
    let mut raw = vec![];
    for word in [byte(0).into(), byte(1).into(), body.len() as u32] {
        raw.extend(word.to_ne_bytes());
    }
    raw.extend(body);
    raw
}
