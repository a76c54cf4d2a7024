//! A connection that nobody waits at, and the descriptors that go through it.

use std::fs::File;
use std::io::{IoSlice, PipeReader, PipeWriter};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use fastrand::Rng;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::ftruncate;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recv, sendmsg};

use super::support::vfio;

/// Numbers at which something begins or ends.
pub(crate) fn number(rng: &mut Rng) -> u64 {
    let power = 1_u64 << rng.u32(..64);
    match rng.u32(..8) {
        0 => 0,
        1 => u64::MAX - rng.u64(..0x1001),
        2 => power.wrapping_sub(rng.u64(..3)),
        3 => power.wrapping_add(rng.u64(..0x1000)),
        4 => rng.u64(..),
        5 => rng.u64(..64) << 12,
        6 => rng.u64(..16),
        _ => rng.u64(..0x10_0000) & !3,
    }
}

/// Its low half.
pub(crate) fn short(rng: &mut Rng) -> u32 {
    let long = number(rng);
    u32::try_from(long & u64::from(u32::MAX)).expect("masked")
}

/// One of some.
pub(crate) fn pick<T: Copy, const N: usize>(
    rng: &mut Rng,
    of: impl FnOnce(&mut Rng) -> [T; N],
) -> T {
    let of = of(rng);
    of[rng.usize(..N)]
}

/// Sends all of `raw` unless the other side has left. Takes and forgets what it
/// says meanwhile: whoever does not listen is a test of its own.
pub(crate) fn send(socket: BorrowedFd<'_>, raw: &[u8], fds: &[BorrowedFd<'_>]) -> bool {
    let (mut rest, mut fds) = (raw, fds);
    while !rest.is_empty() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match sendmsg(socket, &[IoSlice::new(rest)], &mut control, flags) {
            Ok(sent) => (rest, fds) = (&rest[sent..], &[]),
            Err(Errno::AGAIN) => std::thread::yield_now(),
            Err(_) => return false,
        }
        drain(socket);
    }
    true
}

/// Forgets what the other side has said.
pub(crate) fn drain(socket: BorrowedFd<'_>) {
    let mut buf = [0; 4096];
    while recv(socket, &mut buf, RecvFlags::DONTWAIT).is_ok_and(|(_, bytes)| bytes != 0) {}
}

/// What a client may lend, right or wrong.
pub(crate) struct Lent {
    memory: Vec<File>,
    events: Vec<OwnedFd>,
    odd: Vec<OwnedFd>,
    /// The other end of one of the odd ones, which must not be closed.
    _pipe: PipeReader,
}

impl Lent {
    pub(crate) fn new() -> Self {
        let (reader, writer): (PipeReader, PipeWriter) = std::io::pipe().expect("a pipe");
        let event = |flags| eventfd(0, flags | EventfdFlags::CLOEXEC).expect("an event");
        let file = tempfile::tempfile().expect("a file");
        file.set_len(0x1_0000).expect("a file");
        let folder = File::open(std::env::temp_dir()).expect("a folder");
        let (socket, _) = UnixStream::pair().expect("sockets");
        Self {
            memory: [0x1000, 0x1_0000, vfio::RAM_BYTES].map(vfio::memory).into(),
            // One of them makes its writers wait when it is full.
            events: vec![event(EventfdFlags::NONBLOCK), event(EventfdFlags::empty())],
            odd: vec![writer.into(), folder.into(), socket.into(), file.into()],
            _pipe: reader,
        }
    }

    /// A few of them, mostly of the kind that `wanted` says.
    pub(crate) fn some(&self, rng: &mut Rng, wanted: Wanted) -> Vec<BorrowedFd<'_>> {
        let number = pick(rng, |_| [0, 1, 1, 1, 1, 1, 2, 8]);
        let mut one = || {
            let odd = rng.u32(..8) == 0;
            match wanted {
                _ if odd => rng.choice(&self.odd).expect("not empty").as_fd(),
                Wanted::Memory => rng.choice(&self.memory).expect("not empty").as_fd(),
                Wanted::Event => rng.choice(&self.events).expect("not empty").as_fd(),
            }
        };
        (0..number).map(|_| one()).collect()
    }

    /// Takes pages of what was lent away, or fills the events.
    pub(crate) fn spoil(&self, rng: &mut Rng) {
        for file in &self.memory {
            if rng.u32(..4) == 0 {
                ftruncate(file, rng.u64(..16) << 12).expect("a memfd");
            }
        }
        let full = (u64::MAX - 1).to_ne_bytes();
        // The second waits only if it is full; then it is not written.
        let _ = rustix::io::write(&self.events[0], &full);
        if rng.bool() {
            let _ = rustix::io::ioctl_fionbio(&self.events[1], true);
            let _ = rustix::io::write(&self.events[1], &full);
            let _ = rustix::io::ioctl_fionbio(&self.events[1], false);
        }
    }
}

/// What a message is to come with.
#[derive(Clone, Copy)]
pub(crate) enum Wanted {
    Memory,
    Event,
}

/// `raw`, or sometimes what a bad line makes of it.
pub(crate) fn garbled(rng: &mut Rng, mut raw: Vec<u8>) -> Vec<u8> {
    match rng.u32(..16) {
        0 => raw.truncate(rng.usize(..raw.len())),
        1 => raw.extend((0..rng.usize(..64)).map(|_| rng.u8(..))),
        2 | 3 => {
            let at = rng.usize(..raw.len());
            raw[at] ^= 1 << rng.u32(..8);
        }
        _ => {}
    }
    raw
}
