//! One client's connection, from its arrival to its end.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

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
/// says nothing that vhost-user knows for the time of `patience` is sent away.
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
    let over = watch(&daemon, presence, patience)?;
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

/// Sends a client away that is silent for too long: nobody else can have the
/// GPU meanwhile. The end of the sender ends this.
fn watch(daemon: &Daemon, presence: &Arc<Presence>, patience: Duration) -> io::Result<Sender<()>> {
    let client = daemon.shutdown_handle();
    let presence = Arc::clone(presence);
    let (over, end) = mpsc::channel();
    thread::spawn("patience", move || {
        let silent = end.recv_timeout(patience) == Err(RecvTimeoutError::Timeout);
        if let Some(client) = client.filter(|_| silent && !presence.is_attached()) {
            tracing::warn!("somebody who said nothing was sent away");
            client.shutdown();
        }
    })?;
    Ok(over)
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
    use std::os::unix::net::UnixStream;

    use presil_device::{Chip, Config};

    use super::*;

    #[test]
    fn somebody_who_says_nothing_is_sent_away() {
        let config = Config::new(Chip::Arise10c0, 1 << 30, 512 << 20, true).unwrap();
        let gpu = SharedGpu::start(config).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gpu");
        let listener = UnixListener::bind(&path).unwrap();
        let mut silent = UnixStream::connect(&path).unwrap();
        let presence = Arc::default();
        serve(
            &listener,
            &gpu,
            &presence,
            &Arc::default(),
            Duration::from_millis(1),
        )
        .unwrap();
        assert!(!presence.detach());
        assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    }
}
