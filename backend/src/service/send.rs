//! Sending to somebody who may not read.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, send, sendmsg};

/// Sends all of `bytes`, and with the first of them `fd`. The other end has
/// `patience` to take them, in however many pieces it does. `false`: it has left.
///
/// # Errors
/// `TimedOut`: it did not take them; or what the kernel says.
pub(crate) fn send_all(
    stream: &UnixStream,
    bytes: &[u8],
    mut fd: Option<BorrowedFd<'_>>,
    patience: Duration,
) -> io::Result<bool> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let mut rest = bytes;
    // Of a clock only when there is no room: mostly there is.
    let mut end = None;
    while !rest.is_empty() {
        let sent = match fd {
            Some(fd) => send_with(stream, rest, fd, flags),
            None => send(stream, rest, flags),
        };
        match sent {
            Ok(bytes) => {
                rest = rest.get(bytes..).unwrap_or_default();
                fd = None;
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let end = *end.get_or_insert_with(|| Instant::now() + patience);
                await_room(stream, end, patience)?;
            }
            // With the second, it left something unread.
            Err(Errno::PIPE | Errno::CONNRESET) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

fn send_with(
    stream: &UnixStream,
    bytes: &[u8],
    fd: BorrowedFd<'_>,
    flags: SendFlags,
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(stream, &[IoSlice::new(bytes)], &mut control, flags)
}

fn await_room(stream: &UnixStream, end: Instant, patience: Duration) -> io::Result<()> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        let why = format!("what was sent was not read within {patience:?}");
        return Err(io::Error::new(io::ErrorKind::TimedOut, why));
    }
    let time = Timespec::try_from(left).ok();
    let mut polled = [PollFd::new(stream, PollFlags::OUT)];
    match poll(&mut polled, time.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// More than any socket holds.
    const MANY: usize = 64 << 20;
    const SHORT: Duration = Duration::from_millis(200);

    #[test]
    fn patience_is_for_all_that_is_sent_and_not_for_each_piece_that_is_read() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        std::thread::scope(|scope| {
            // It takes something all the time, and needs minutes for all.
            scope.spawn(move || {
                while theirs.read(&mut [0; 4096]).is_ok_and(|bytes| bytes != 0) {
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
            let sent = send_all(&ours, &vec![0; MANY], None, SHORT);
            assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::TimedOut);
            drop(ours);
        });
    }

    #[test]
    fn whoever_leaves_with_something_unread_has_left() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut polled = [PollFd::new(&theirs, PollFlags::IN)];
                poll(&mut polled, None).unwrap();
                drop(theirs);
            });
            let long = Duration::from_mins(1);
            assert!(!send_all(&ours, &vec![0; MANY], None, long).unwrap());
        });
    }

    #[test]
    fn all_arrives_at_a_reader_and_the_descriptor_once() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let bytes: Vec<u8> = (0..1 << 20).map(|n: u32| n.to_le_bytes()[1]).collect();
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut read = Vec::new();
                theirs.read_to_end(&mut read).unwrap();
                read
            });
            let fd = std::os::fd::AsFd::as_fd(&ours)
                .try_clone_to_owned()
                .unwrap();
            let fd = Some(std::os::fd::AsFd::as_fd(&fd));
            assert!(send_all(&ours, &bytes, fd, Duration::from_mins(1)).unwrap());
            ours.shutdown(std::net::Shutdown::Both).unwrap();
            assert_eq!(reader.join().unwrap(), bytes);
        });
    }
}
