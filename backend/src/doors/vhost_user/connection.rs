//! One client's connection, from its arrival to its end.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};

use super::handler::{Handler, Refused};
use super::wire::{Header, Outgoing};
use super::{Door, DoorCounters, QUEUES};
use crate::doors::lent;
use crate::doors::messages::{Broken, Connection};
use crate::doors::system_memory::{self, MEMORY_NOT_SHARED};
use crate::service::life::Presence;
use crate::shared_gpu::SharedGpu;

/// Why a connection was not served to a good end.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// QEMU had no guest memory to share.
    #[error("{MEMORY_NOT_SHARED}")]
    MemoryNotShared,
    /// It asked for what it may not.
    #[error("vhost-user request {request} was refused: {why}")]
    Refused {
        /// Its number.
        request: u32,
        /// What is wrong with it.
        why: Refused,
    },
    /// It failed in a way that is not QEMU's leaving.
    #[error("the vhost-user connection failed: {0}")]
    Broken(String),
    /// The host had no descriptor or no memory for it.
    #[error("cannot serve a vhost-user connection: {0}")]
    Host(#[from] io::Error),
}

impl From<Broken> for ConnectionError {
    fn from(error: Broken) -> Self {
        Self::Broken(error.to_string())
    }
}

/// Takes the next connection of `listener` and serves it to its end. Whoever
/// says nothing that vhost-user knows for the time of `patience` is sent away
/// when somebody else waits.
pub fn serve(
    listener: &UnixListener,
    gpu: &Arc<SharedGpu>,
    presence: &Arc<Presence>,
    counters: &Arc<DoorCounters>,
    patience: Duration,
) -> Result<(), ConnectionError> {
    let (stream, _) = listener.accept()?;
    serve_client(stream, Some(listener), gpu, presence, counters, patience)
}

/// The same for a connection that is there already; others wait at `listener`.
pub fn serve_client(
    stream: UnixStream,
    listener: Option<&UnixListener>,
    gpu: &Arc<SharedGpu>,
    presence: &Arc<Presence>,
    counters: &Arc<DoorCounters>,
    patience: Duration,
) -> Result<(), ConnectionError> {
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let door = Arc::new(Door::new(
        Arc::clone(gpu),
        Arc::clone(presence),
        Arc::clone(counters),
        memory.clone(),
    ));
    let handler = Handler::new(Arc::clone(&door)).map_err(io::Error::other)?;
    let find = move |at| system_memory::find(&memory.memory(), at);
    lent::end_when_memory_is_gone(gpu, &stream, presence.socket(), find)?;
    let ended = Connection::new(stream)
        .map_err(Into::into)
        .and_then(|connection| {
            let mut client = Client {
                connection,
                handler,
                listener,
                presence,
                hurry_at: Instant::now().checked_add(patience),
            };
            client.converse()
        });
    gpu.set_client(None);
    door.retire();
    match ended {
        _ if door.is_without_memory() => Err(ConnectionError::MemoryNotShared),
        Err(error) if !presence.is_attached() => {
            tracing::warn!("a client that does not speak vhost-user is disconnected: {error}");
            Ok(())
        }
        ended => ended,
    }
}

struct Client<'a> {
    connection: Connection<Header>,
    handler: Handler,
    /// Where others wait.
    listener: Option<&'a UnixListener>,
    presence: &'a Presence,
    /// When somebody who has said nothing so far has to make room for others.
    hurry_at: Option<Instant>,
}

/// What there is to do.
#[derive(Default)]
struct News {
    message: bool,
    kicks: [bool; QUEUES],
    somebody_waits: bool,
}

impl Client<'_> {
    /// Serves messages and kicks, in turns, until the client leaves.
    fn converse(&mut self) -> Result<(), ConnectionError> {
        let mut reply = Outgoing::new();
        loop {
            let news = self.wait()?;
            if news.message && !self.answer(&mut reply)? {
                return Ok(());
            }
            if news.somebody_waits && !self.presence.is_attached() {
                tracing::warn!("a client that has sent nothing is disconnected: another one waits");
                return Ok(());
            }
            self.handler.serve(news.kicks);
        }
    }

    /// Receives and answers one message; `false` when the client has left.
    fn answer(&mut self, reply: &mut Outgoing) -> Result<bool, ConnectionError> {
        let message = match self.connection.receive() {
            Ok(Some(message)) => message,
            Ok(None) | Err(Broken::Truncated) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let header = message.header;
        let (is_due, obeyed) = self.handler.obey(message, reply);
        if is_due && !self.connection.send(reply.reply_to(header), None)? {
            return Ok(false);
        }
        let request = header.request;
        obeyed.map_err(|why| ConnectionError::Refused { request, why })?;
        Ok(true)
    }

    /// Waits for something to do; with something to do already only looks.
    fn wait(&self) -> io::Result<News> {
        let has_begun = self.connection.has_begun();
        let is_strange = !self.presence.is_attached();
        let left = self
            .hurry_at
            .filter(|_| is_strange)
            .map(|at| at.saturating_duration_since(Instant::now()));
        let hurry = self
            .listener
            .filter(|_| left.is_some_and(|left| left.is_zero()));
        let time = if has_begun || self.handler.is_due() {
            Some(Duration::ZERO)
        } else {
            left.filter(|left| !left.is_zero())
        };
        // What is not waited for stands for the client itself, which ends it all.
        let client = self.connection.as_fd();
        let kicks = self.handler.kicks();
        let watch = |fd, is_wanted| {
            let events = if is_wanted {
                PollFlags::IN
            } else {
                PollFlags::empty()
            };
            PollFd::from_borrowed_fd(fd, events)
        };
        let [requests, events] = kicks.map(|kick| watch(kick.unwrap_or(client), kick.is_some()));
        let others = watch(hurry.map_or(client, AsFd::as_fd), hurry.is_some());
        let mut polled = [watch(client, true), requests, events, others];
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        match poll(&mut polled, time.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(News::default()),
            Err(error) => return Err(error.into()),
        }
        let [client, requests, events, others] = polled.map(|it| !it.revents().is_empty());
        let [has_requests, has_events] = kicks.map(|kick| kick.is_some());
        Ok(News {
            message: client || has_begun,
            kicks: [requests && has_requests, events && has_events],
            somebody_waits: others && hurry.is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use presil_device::{Chip, Config};

    use super::*;

    #[test]
    fn somebody_who_says_nothing_goes_when_somebody_else_waits_and_not_before() {
        let config = Config::new(Chip::Arise10c0, 1 << 30, 512 << 20, true).unwrap();
        let gpu = SharedGpu::start(config).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gpu");
        let listener = UnixListener::bind(&path).unwrap();
        let mut silent = UnixStream::connect(&path).unwrap();
        let presence = Arc::default();
        std::thread::scope(|scope| {
            let served = scope.spawn(|| {
                let patience = Duration::from_millis(1);
                serve(&listener, &gpu, &presence, &Arc::default(), patience)
            });
            let time = Timespec::try_from(Duration::from_millis(200)).unwrap();
            let mut polled = [PollFd::new(&silent, PollFlags::IN)];
            assert_eq!(poll(&mut polled, Some(&time)).unwrap(), 0, "it is alone");
            let _waiting = UnixStream::connect(&path).unwrap();
            assert_eq!(silent.read(&mut [0]).unwrap(), 0);
            served.join().unwrap().unwrap();
        });
        assert!(!presence.detach());
    }
}
