//! The life of `presil serve`: listen, serve one QEMU at a time, end.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use presil_device::Config;
use vhost::vhost_user::{Error as VhostUserError, Listener};
use vhost_user_backend::{Error as DaemonError, VhostUserDaemon};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

use crate::control::{self, Questions};
use crate::life::Life;
use crate::shared_gpu::SharedGpu;
use crate::socket::{Socket, SocketError};
use crate::vhost_user::{Door, DoorCounters};

/// What a server does.
#[derive(Clone, Debug)]
pub struct Options {
    /// The GPU.
    pub config: Config,
    /// Where QEMU connects.
    pub vhost_user: PathBuf,
    /// Where questions are answered.
    pub control: Option<PathBuf>,
    /// Listen again when QEMU leaves.
    pub keep: bool,
}

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// One of the sockets.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// VRAM or a thread.
    #[error(
        "cannot power the GPU on ({0}): VRAM needs that much free memory (or swap) as the guest writes"
    )]
    PowerOn(io::Error),
    /// Threads or signals.
    #[error("cannot start: {0}")]
    Start(io::Error),
    /// QEMU had no guest memory to share.
    #[error("{}", crate::vhost_user::MEMORY_NOT_SHARED)]
    MemoryNotShared,
    /// The vhost-user connection failed in a way that is not QEMU's leaving.
    #[error("the vhost-user connection failed: {0}")]
    Connection(DaemonError),
}

/// Serves until QEMU has left, or with `keep` until a signal.
pub fn serve(options: Options) -> Result<(), ServerError> {
    let door_socket = Socket::listen(&options.vhost_user)?;
    let control_socket = options.control.as_deref().map(Socket::listen).transpose()?;
    let gpu = SharedGpu::start(options.config).map_err(ServerError::PowerOn)?;
    let life = Arc::new(Life::default());
    let counters = Arc::new(DoorCounters::default());

    let sockets = [Some(&door_socket), control_socket.as_ref()];
    let paths = sockets
        .into_iter()
        .flatten()
        .map(|socket| socket.path().to_owned());
    life.watch_signals(paths.collect())
        .map_err(ServerError::Start)?;
    if let Some(socket) = &control_socket {
        let questions = Questions {
            gpu: Arc::clone(&gpu),
            life: Arc::clone(&life),
            door: Arc::clone(&counters),
        };
        control::start(socket.listener(), questions).map_err(ServerError::Start)?;
    }

    tracing::info!("waiting for QEMU on {}", door_socket.path().display());
    loop {
        let outcome = serve_connection(&door_socket, &gpu, &life, &counters);
        if !life.detach() {
            // Somebody looked whether we listen.
            outcome?;
            continue;
        }
        report(&gpu, &counters);
        if !options.keep || life.is_ending() {
            return outcome;
        }
        if let Err(error) = outcome {
            tracing::error!("{error}");
        }
        gpu.power_cycle().map_err(ServerError::PowerOn)?;
        tracing::info!(
            "GPU power-cycled; waiting for QEMU on {}",
            door_socket.path().display()
        );
    }
}

/// Takes the next connection and serves it to its end.
fn serve_connection(
    socket: &Socket,
    gpu: &Arc<SharedGpu>,
    life: &Arc<Life>,
    counters: &Arc<DoorCounters>,
) -> Result<(), ServerError> {
    let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let door = Arc::new(Door::new(
        Arc::clone(gpu),
        Arc::clone(life),
        Arc::clone(counters),
        memory.clone(),
    ));
    let mut daemon = VhostUserDaemon::new("vhost-user".to_owned(), Arc::clone(&door), memory)
        .map_err(ServerError::Connection)?;
    let listener = socket.listener().try_clone().map_err(ServerError::Start)?;
    daemon
        .start(&mut Listener::from(listener))
        .map_err(ServerError::Connection)?;
    match daemon.wait() {
        _ if door.is_without_memory() => Err(ServerError::MemoryNotShared),
        Ok(())
        | Err(DaemonError::HandleRequest(
            VhostUserError::Disconnected | VhostUserError::PartialMessage,
        )) => Ok(()),
        Err(error) if !life.is_attached() => {
            tracing::warn!("somebody who does not speak vhost-user was sent away: {error}");
            Ok(())
        }
        Err(error) => Err(ServerError::Connection(error)),
    }
}

/// One line about what the guest did.
fn report(gpu: &SharedGpu, door: &DoorCounters) {
    let counted = gpu.enter().run(|gpu| gpu.counters());
    match counted {
        Ok(device) => tracing::info!(
            "QEMU left: {} register accesses in {} requests, {} copies, {} fills, {} fences, \
             {} events, {} faults, {} resets",
            device.register_reads + device.register_writes,
            door.requests.get(),
            device.copies,
            device.fills,
            device.fences,
            door.events.get(),
            device.faults,
            device.resets,
        ),
        Err(lost) => tracing::error!("QEMU left: {lost}"),
    }
}
