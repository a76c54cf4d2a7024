//! One client's connection, from its arrival to its end.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use vhost::vhost_user::{Error as VhostUserError, Listener};
use vhost_user_backend::{Error as DaemonError, VhostUserDaemon};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EventFd};

use super::{Door, DoorCounters, END};
use crate::life::Presence;
use crate::shared_gpu::SharedGpu;
use crate::system_memory::MEMORY_NOT_SHARED;
use crate::thread;

type Daemon = VhostUserDaemon<Arc<Door>>;

/// Why a connection was not served to a good end.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// QEMU had no guest memory to share.
    #[error("{MEMORY_NOT_SHARED}")]
    MemoryNotShared,
    /// It failed in a way that is not QEMU's leaving, or could not be taken.
    #[error("the vhost-user connection failed: {0}")]
    Daemon(DaemonError),
    /// The host had no descriptor or no thread for it.
    #[error("cannot serve a vhost-user connection: {0}")]
    Host(#[from] io::Error),
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
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let door = Arc::new(Door::new(
        Arc::clone(gpu),
        Arc::clone(presence),
        Arc::clone(counters),
        memory.clone(),
    ));
    let end = EventFd::new(EFD_CLOEXEC)?;
    let mut daemon = Daemon::new("vhost-user".to_owned(), Arc::clone(&door), memory)
        .map_err(ConnectionError::Daemon)?;
    let _end = EndThread::of(&daemon, &end)?;
    daemon
        .start(&mut Listener::from(listener.try_clone()?))
        .map_err(ConnectionError::Daemon)?;
    let over = watch(&daemon, listener, presence, patience)?;
    if let Some(client) = daemon.shutdown_handle() {
        gpu.set_client(Some(Box::new(move || client.shutdown())));
    }
    let ended = daemon.wait();
    gpu.set_client(None);
    door.retire();
    drop(over);
    match ended {
        _ if door.is_without_memory() => Err(ConnectionError::MemoryNotShared),
        Ok(())
        | Err(DaemonError::HandleRequest(
            VhostUserError::Disconnected | VhostUserError::PartialMessage,
        )) => Ok(()),
        Err(error) if !presence.is_attached() => {
            tracing::warn!("somebody who does not speak vhost-user was sent away: {error}");
            Ok(())
        }
        Err(error) => Err(ConnectionError::Daemon(error)),
    }
}

/// Sends a client away that is silent for the time of `patience`, as soon as
/// somebody else waits for the GPU. A silent one alone does no harm: a QEMU that
/// has its device added later says nothing before. The end of what is returned
/// ends this.
fn watch(
    daemon: &Daemon,
    listener: &UnixListener,
    presence: &Arc<Presence>,
    patience: Duration,
) -> io::Result<UnixStream> {
    let client = daemon.shutdown_handle();
    let presence = Arc::clone(presence);
    let listener = listener.try_clone()?;
    let (over, end) = UnixStream::pair()?;
    thread::spawn("patience", move || {
        let waited = poll_for(&mut [PollFd::new(&end, PollFlags::IN)], Some(patience));
        if waited || presence.is_attached() {
            return;
        }
        let mut both = [
            PollFd::new(&end, PollFlags::IN),
            PollFd::new(&listener, PollFlags::IN),
        ];
        poll_for(&mut both, None);
        let is_over = !both[0].revents().is_empty();
        if let Some(client) = client.filter(|_| !is_over && !presence.is_attached()) {
            tracing::warn!("somebody who said nothing was sent away: somebody else waits");
            client.shutdown();
        }
    })?;
    Ok(over)
}

/// Waits until something happens to one of them; `false` when the time is over.
fn poll_for(fds: &mut [PollFd<'_>], time: Option<Duration>) -> bool {
    let time = time.and_then(|time| Timespec::try_from(time).ok());
    loop {
        match poll(fds, time.as_ref()) {
            Err(Errno::INTR) => {}
            happened => return happened.is_ok_and(|number| number != 0),
        }
    }
}

/// Ends the thread that serves the daemon's queues, which the daemon's own end
/// waits for: so this goes first, and the event last. (What the crate itself
/// has for that leaves a descriptor open with every connection.)
struct EndThread<'a>(&'a EventFd);

impl<'a> EndThread<'a> {
    fn of(daemon: &Daemon, event: &'a EventFd) -> io::Result<Self> {
        for thread in daemon.get_epoll_handlers() {
            thread.register_listener(event.as_raw_fd(), EventSet::IN, END.into())?;
        }
        Ok(Self(event))
    }
}

impl Drop for EndThread<'_> {
    fn drop(&mut self) {
        // It is written once, and has room.
        let _ = self.0.write(1);
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
            let time = Some(Duration::from_millis(200));
            let hung_up = poll_for(&mut [PollFd::new(&silent, PollFlags::IN)], time);
            assert!(!hung_up, "it is alone");
            let _waiting = UnixStream::connect(&path).unwrap();
            assert_eq!(silent.read(&mut [0]).unwrap(), 0);
            served.join().unwrap().unwrap();
        });
        assert!(!presence.detach());
    }
}
