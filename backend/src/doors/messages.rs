//! One client's socket, of either door: whole messages in, with the descriptors
//! that came with them; replies out. One system call each, as a rule.

use std::io::{self, IoSliceMut};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

use crate::service::send::send_all;
use crate::service::socket::PATIENCE;

/// Most descriptors that are taken from one client ahead; no message needs more.
pub(crate) const MAX_FDS: usize = 8;

/// What every message of a protocol begins with.
pub(crate) trait Header: Copy {
    /// Bytes of it.
    const BYTES: usize;
    /// Bytes of the longest message, its header with it.
    const MAX_MESSAGE: usize;

    /// The header that `raw` begins with, if it is there.
    fn parse(raw: &[u8]) -> Option<Self>;

    /// Bytes of the whole message, as it says.
    fn message_bytes(self) -> u64;

    /// Whether it is a message of its own, and no reply to one.
    fn is_command(self) -> bool;
}

/// Why a connection is given up: what follows cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("a message of {bytes} bytes: expected {least} to {most}")]
    Length {
        bytes: u64,
        least: usize,
        most: usize,
    },
    #[error("the connection ended inside a message")]
    Truncated,
    #[error("nothing was said for {} seconds", PATIENCE.as_secs())]
    Silent,
    #[error("the first command is not a VERSION that is spoken here")]
    Stranger,
    #[error("a reply to nothing that was asked")]
    UnexpectedReply,
    #[error(
        "descriptors were lost: they were more than {MAX_FDS}, or too many files are open here \
         (ulimit -n)"
    )]
    LostDescriptors,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Errno> for Broken {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

/// A client's socket and what was read from it ahead.
pub(crate) struct Connection<H> {
    stream: UnixStream,
    buffer: Box<[u8]>,
    /// The part of `buffer` that was received and not given out.
    start: usize,
    end: usize,
    /// Descriptors that no message has taken yet, and where in `buffer` the
    /// bytes end that they came with. They belong to the last message that
    /// begins there: the kernel never adds bytes behind those of descriptors.
    fds: Vec<OwnedFd>,
    fds_end: usize,
    /// It has sent a message, and may be silent from now on.
    known: bool,
    /// Since when a message is on its way that is not whole yet.
    begun: Option<Instant>,
    protocol: PhantomData<H>,
}

/// A command as it came.
pub(crate) struct Message<'a, H> {
    pub(crate) header: H,
    pub(crate) body: &'a [u8],
    pub(crate) fds: Vec<OwnedFd>,
}

impl<H: Header> Connection<H> {
    pub(crate) fn new(stream: UnixStream) -> Result<Self, Broken> {
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            buffer: vec![0; H::MAX_MESSAGE].into(),
            start: 0,
            end: 0,
            fds: Vec::new(),
            fds_end: 0,
            known: false,
            begun: None,
            protocol: PhantomData,
        })
    }

    /// Whether the next message has begun to come, so that [`Self::receive`] does
    /// not wait for a client that has nothing to say.
    pub(crate) fn has_begun(&self) -> bool {
        self.start != self.end
    }

    /// Waits for the next command; `None` when the client has left.
    pub(crate) fn receive(&mut self) -> Result<Option<Message<'_, H>>, Broken> {
        let (header, bytes) = loop {
            let received = self.buffer.get(self.start..self.end).unwrap_or_default();
            if let Some(header) = H::parse(received) {
                let bytes = length(header)?;
                if received.len() >= bytes {
                    break (header, bytes);
                }
            }
            self.hurry(PATIENCE)?;
            if !self.fill()? {
                let clean = self.start == self.end;
                return if clean {
                    Ok(None)
                } else {
                    Err(Broken::Truncated)
                };
            }
        };
        if !header.is_command() {
            return Err(Broken::UnexpectedReply);
        }
        // Not at each message: that would be a system call more.
        if !std::mem::replace(&mut self.known, true) || self.begun.take().is_some() {
            self.stream.set_read_timeout(None)?;
        }
        let body = self.start + H::BYTES;
        self.start += bytes;
        let fds = if self.start >= self.fds_end {
            std::mem::take(&mut self.fds)
        } else {
            Vec::new()
        };
        Ok(Some(Message {
            header,
            body: self.buffer.get(body..self.start).unwrap_or_default(),
            fds,
        }))
    }

    /// A message that has begun has `patience` to become whole, however many
    /// pieces it comes in.
    fn hurry(&mut self, patience: Duration) -> Result<(), Broken> {
        if self.start == self.end {
            return Ok(());
        }
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let left = patience
            .checked_sub(begun.elapsed())
            .ok_or(Broken::Silent)?;
        // A time of nothing would be none.
        self.stream
            .set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        Ok(())
    }

    /// Receives what is there, or waits for something; `false` at the end.
    fn fill(&mut self) -> Result<bool, Broken> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.fds_end = self.fds_end.saturating_sub(self.start);
        self.start = 0;
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let flags = RecvFlags::CMSG_CLOEXEC;
            match recvmsg(
                &self.stream,
                &mut [IoSliceMut::new(room)],
                &mut control,
                flags,
            ) {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(false),
                Err(Errno::AGAIN) => return Err(Broken::Silent),
                Err(error) => return Err(error.into()),
            }
        };
        self.end += received.bytes;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
                self.fds_end = self.end;
            }
        }
        if self.fds.len() > MAX_FDS || received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(Broken::LostDescriptors);
        }
        Ok(received.bytes != 0)
    }

    /// Sends one message, with a descriptor or without. `false`: the client has left.
    pub(crate) fn send(&self, message: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<bool, Broken> {
        Ok(send_all(&self.stream, message, fd, PATIENCE)?)
    }
}

impl<H> AsFd for Connection<H> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The bytes of the whole message.
fn length<H: Header>(header: H) -> Result<usize, Broken> {
    let (least, most) = (H::BYTES, H::MAX_MESSAGE);
    let bytes = header.message_bytes();
    usize::try_from(bytes)
        .ok()
        .filter(|bytes| (least..=most).contains(bytes))
        .ok_or(Broken::Length { bytes, least, most })
}

/// What is left of a message's body. All numbers are in the host's byte order.
/// Whatever does not fit is `EINVAL`.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], Errno> {
        let (field, rest) = self.0.split_first_chunk().ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(*field)
    }

    pub(crate) fn rest(&mut self, bytes: usize) -> Result<&'a [u8], Errno> {
        let (data, rest) = self.0.split_at_checked(bytes).ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(data)
    }

    pub(crate) fn skip(&mut self, bytes: usize) -> Result<(), Errno> {
        self.rest(bytes).map(|_| ())
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Errno> {
        self.take().map(u16::from_ne_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Errno> {
        self.take().map(u32::from_ne_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Errno> {
        self.take().map(u64::from_ne_bytes)
    }

    /// Nothing may be left: a body is exactly as long as its fields.
    pub(crate) fn end(&self) -> Result<(), Errno> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Errno::INVAL)
        }
    }
}

/// A message of this side: its body, behind room for its header. All numbers are in
/// the host's byte order.
#[derive(Debug)]
pub(crate) struct Outgoing<H> {
    raw: Vec<u8>,
    protocol: PhantomData<H>,
}

impl<H: Header> Outgoing<H> {
    pub(crate) fn new() -> Self {
        Self {
            raw: vec![0; H::BYTES],
            protocol: PhantomData,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.raw.truncate(H::BYTES);
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.raw.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u32s(&mut self, values: &[u32]) -> &mut Self {
        for value in values {
            self.put(&value.to_ne_bytes());
        }
        self
    }

    pub(crate) fn u64s(&mut self, values: &[u64]) -> &mut Self {
        for value in values {
            self.put(&value.to_ne_bytes());
        }
        self
    }

    /// So many zeros, to be written over.
    pub(crate) fn room(&mut self, bytes: usize) -> &mut [u8] {
        let start = self.raw.len();
        self.raw.resize(start + bytes, 0);
        self.raw.get_mut(start..).unwrap_or_default()
    }

    /// Bytes of the body so far.
    pub(crate) fn body_bytes(&self) -> usize {
        self.raw.len() - H::BYTES
    }

    /// The whole message, with `header` in its place.
    pub(crate) fn behind(&mut self, header: impl IntoIterator<Item = u8>) -> &[u8] {
        for (to, from) in self.raw.iter_mut().zip(header) {
            *to = from;
        }
        &self.raw
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A protocol of messages of eight bytes.
    #[derive(Clone, Copy)]
    struct Eight;

    impl Header for Eight {
        const BYTES: usize = 8;
        const MAX_MESSAGE: usize = 8;

        fn parse(raw: &[u8]) -> Option<Self> {
            (raw.len() >= 8).then_some(Self)
        }

        fn message_bytes(self) -> u64 {
            8
        }

        fn is_command(self) -> bool {
            true
        }
    }

    #[test]
    fn only_a_stranger_has_to_hurry() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let watched = theirs.try_clone().unwrap();
        let mut connection = Connection::<Eight>::new(theirs).unwrap();
        assert_eq!(watched.read_timeout().unwrap(), Some(PATIENCE));
        watched
            .set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        assert!(matches!(connection.receive(), Err(Broken::Silent)));
        ours.write_all(&[0; 8]).unwrap();
        assert!(connection.receive().unwrap().is_some());
        assert_eq!(watched.read_timeout().unwrap(), None);
    }

    #[test]
    fn patience_is_for_a_message_and_not_for_each_of_its_bytes() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut connection = Connection::<Eight>::new(theirs).unwrap();
        connection.known = true;
        ours.write_all(&[0; 4]).unwrap();
        assert!(connection.fill().unwrap());
        connection.hurry(PATIENCE).unwrap();
        let begun = connection.begun.unwrap();
        ours.write_all(&[0; 4]).unwrap();
        assert!(connection.fill().unwrap());
        connection.hurry(PATIENCE).unwrap();
        assert_eq!(connection.begun, Some(begun), "not from the last byte on");
        let late = connection.hurry(Duration::ZERO);
        assert!(matches!(late, Err(Broken::Silent)));
    }
}
