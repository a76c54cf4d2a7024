//! The client's other socket: on it this side asks, and the client answers.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, Shutdown, SocketType, recvmsg, sendmsg, shutdown,
};

use super::wire::{Header, Outgoing};
use crate::doors::messages::{Fields, Header as _};

/// The request to map a file into a shared memory region.
const SHMEM_MAP: u32 = 9;
/// Its flag: writable.
const WRITABLE: u64 = 1;
/// Bytes of the answer: a header and a number that is 0 if it was done.
const ANSWER_BYTES: usize = Header::BYTES + 8;

/// A socket that a client lent. One request at a time.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// # Errors
    /// `EINVAL`: it is no local stream socket.
    pub(super) fn new(fd: OwnedFd) -> Result<Self, Errno> {
        // Asked of the kernel: of a file that is no socket it asks nothing.
        let is_ours = socket_domain(&fd) == Ok(AddressFamily::UNIX)
            && socket_type(&fd) == Ok(SocketType::STREAM);
        is_ours.then_some(Self(fd)).ok_or(Errno::INVAL)
    }

    /// Whoever waits for an answer gets none.
    pub(super) fn close(&self) {
        // The client may have done it.
        let _ = shutdown(&self.0, Shutdown::Both);
    }

    /// Asks for the first `bytes` bytes of `file` as the window, and waits for the
    /// answer, until [`Self::close`].
    pub(super) fn map(&self, bytes: u64, file: &File) -> io::Result<()> {
        let mut message = Outgoing::new();
        // Region 0, and its padding.
        message.u64s(&[0, 0, 0, bytes, WRITABLE]);
        self.send(message.request(SHMEM_MAP), file)?;
        let answer = self.receive()?;
        let header = Header::parse(&answer).filter(|it| {
            it.request == SHMEM_MAP && !it.is_command() && it.message_bytes() == answer.len() as u64
        });
        let refused = answer
            .get(Header::BYTES..)
            .and_then(|it| Fields(it).u64().ok());
        match (header, refused) {
            (Some(_), Some(0)) => Ok(()),
            (Some(_), Some(_)) => Err(io::Error::other("it was refused")),
            _ => Err(io::Error::other("the answer makes no sense")),
        }
    }

    fn send(&self, mut message: &[u8], file: &File) -> io::Result<()> {
        let fds = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        while !message.is_empty() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(&self.0, &[IoSlice::new(message)], &mut control, flags) {
                Ok(sent) => {
                    message = message.get(sent..).unwrap_or_default();
                    control.clear();
                }
                Err(Errno::AGAIN | Errno::INTR) => self.wait(PollFlags::OUT)?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn receive(&self) -> io::Result<[u8; ANSWER_BYTES]> {
        let mut answer = [0; ANSWER_BYTES];
        let mut done = 0;
        while let Some(room) = answer.get_mut(done..).filter(|room| !room.is_empty()) {
            // No room for descriptors: none are taken.
            let mut control = RecvAncillaryBuffer::new(&mut []);
            let flags = RecvFlags::DONTWAIT;
            match recvmsg(&self.0, &mut [IoSliceMut::new(room)], &mut control, flags) {
                Ok(received) if received.bytes == 0 => {
                    return Err(io::Error::other("there was no answer"));
                }
                Ok(received) => done += received.bytes,
                Err(Errno::AGAIN | Errno::INTR) => self.wait(PollFlags::IN)?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(answer)
    }

    /// Waits as long as the socket lives.
    fn wait(&self, events: PollFlags) -> io::Result<()> {
        match poll(&mut [PollFd::new(&self.0, events)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    fn file() -> File {
        tempfile::tempfile().unwrap()
    }

    #[test]
    fn a_map_is_asked_for_and_its_answer_believed() {
        for (answer, expected) in [
            ([9_u32, 1 | 4, 8, 0, 0], true),
            ([9, 1 | 4, 8, 1, 0], false),
            ([9, 1 | 4, 9, 0, 0], false),
            ([9, 1, 8, 0, 0], false),
            ([10, 1 | 4, 8, 0, 0], false),
        ] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let channel = Channel::new(ours.into()).unwrap();
            let raw: Vec<u8> = answer.iter().flat_map(|it| it.to_ne_bytes()).collect();
            theirs.write_all(&raw).unwrap();
            assert_eq!(
                channel.map(0x1234_0000, &file()).is_ok(),
                expected,
                "{answer:?}"
            );
            let mut asked = [0; 52];
            theirs.read_exact(&mut asked).unwrap();
            let words: Vec<u64> = asked[12..]
                .chunks_exact(8)
                .map(|it| u64::from_ne_bytes(it.try_into().unwrap()))
                .collect();
            assert_eq!(asked[..12], [9, 0, 0, 0, 9, 0, 0, 0, 40, 0, 0, 0]);
            assert_eq!(words, [0, 0, 0, 0x1234_0000, 1]);
        }
    }

    #[test]
    fn who_waits_for_an_answer_is_woken_by_the_end() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let channel = Channel::new(ours.into()).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| channel.map(4096, &file()));
            theirs.read_exact(&mut [0; 52]).unwrap();
            channel.close();
            assert!(waiting.join().unwrap().is_err());
        });
    }

    #[test]
    fn who_cannot_even_ask_is_woken_by_the_end() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut filler = ours.try_clone().unwrap();
        filler.set_nonblocking(true).unwrap();
        while filler.write(&[0; 4096]).is_ok() {}
        let channel = Channel::new(ours.into()).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| channel.map(4096, &file()));
            channel.close();
            assert!(waiting.join().unwrap().is_err());
        });
        drop(theirs);
    }

    #[test]
    fn nothing_but_a_local_stream_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let others: [OwnedFd; 4] = [
            file().into(),
            UnixDatagram::unbound().unwrap().into(),
            std::net::TcpListener::bind("127.0.0.1:0").unwrap().into(),
            std::io::pipe().unwrap().0.into(),
        ];
        for other in others {
            assert_eq!(Channel::new(other).err(), Some(Errno::INVAL));
        }
        // One that is not connected is of no use, and delays nobody.
        let channel = Channel::new(listener.into()).unwrap();
        assert!(channel.map(4096, &file()).is_err());
    }
}
