//! The life of `presil serve`: for each GPU, listen, serve one QEMU at a time, end.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::ScopedJoinHandle;

use presil_device::{BlockUse, Config, Counters, Gpu};
use serde_json::{Value, json};

use crate::control::conversation;
use crate::control::questions::Questions;
use crate::doors::eventfd_signal;
use crate::doors::pci::Identity;
use crate::doors::vfio_user::{self, VfioUserCounters};
use crate::doors::vhost_user::{self, ConnectionError, DoorCounters};
use crate::service::check::{Check, CheckOptions};
use crate::service::life::{Life, Presence, Verdict};
use crate::service::sandbox;
use crate::service::socket::{self, Access, PATIENCE, Socket, SocketError};
use crate::shared_gpu::{Lost, SharedGpu};
use crate::thread;

/// What a server does.
#[derive(Clone, Debug)]
pub struct Options {
    /// The GPUs, each with a door of its own.
    pub doors: Vec<DoorOptions>,
    /// What each of them is.
    pub config: Config,
    /// What those behind a vfio-user door say they are.
    pub identity: Identity,
    /// Where questions are answered.
    pub control: Vec<ControlOptions>,
    /// Who else may connect to the sockets.
    pub access: Access,
    /// Whether the server keeps only what it needs ([`sandbox`]).
    pub sandboxed: bool,
    /// Listen again when QEMU leaves.
    pub keep: bool,
    /// What the driver checker judges, if it is there.
    pub check: Option<CheckOptions>,
}

impl Options {
    /// Where sockets are made, and removed at the end.
    fn socket_folders(&self) -> impl Iterator<Item = &Path> {
        let doors = self.doors.iter().map(|door| &door.socket);
        let controls = self.control.iter().map(|control| &control.socket);
        doors.chain(controls).map(|socket| match socket.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        })
    }
}

/// One door.
#[derive(Clone, Debug)]
pub struct DoorOptions {
    /// How QEMU attaches.
    pub kind: DoorKind,
    /// Where it connects.
    pub socket: PathBuf,
}

/// One control socket.
#[derive(Clone, Debug)]
pub struct ControlOptions {
    /// Where it is.
    pub socket: PathBuf,
    /// The number of the only GPU that it answers for; `None` is all.
    pub gpu: Option<usize>,
}

/// How QEMU attaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoorKind {
    /// As a virtio device.
    VhostUser,
    /// As a PCI function.
    VfioUser,
}

impl DoorKind {
    /// As options and answers say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::VhostUser => "vhost-user",
            Self::VfioUser => "vfio-user",
        }
    }
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
    /// A vhost-user connection.
    #[error(transparent)]
    VhostUser(#[from] ConnectionError),
    /// A vfio-user connection.
    #[error("cannot take a connection: {0}")]
    Accept(io::Error),
    /// A panic, which is in the log.
    #[error("the thread of a GPU failed")]
    Failed,
}

/// One GPU and its door.
pub struct Served {
    /// The GPU.
    pub gpu: Arc<SharedGpu>,
    /// Whether QEMU is there.
    pub presence: Arc<Presence>,
    /// How it attaches.
    pub door: Door,
    /// Who judges the guest's driver.
    pub check: Option<Check>,
}

/// A door and what passed through it.
#[derive(Clone)]
pub enum Door {
    /// A virtio device.
    VhostUser(Arc<DoorCounters>),
    /// A PCI function.
    VfioUser(Arc<VfioUserCounters>, Identity),
}

impl Served {
    /// Powers a GPU on.
    pub fn start(
        config: Config,
        identity: Identity,
        door: &DoorOptions,
        life: &Arc<Life>,
        check: Option<&CheckOptions>,
    ) -> io::Result<Self> {
        let gpu = SharedGpu::start(config)?;
        Ok(Self {
            check: check.map(|check| Check::begin(check.clone(), &gpu)),
            gpu,
            presence: Arc::new(Presence::new(Arc::clone(life), door.socket.clone())),
            door: Door::new(door.kind, identity),
        })
    }

    /// What happened since power-on, and where the guest used more than the model has.
    pub fn counted(&self) -> Result<(Counters, Vec<BlockUse>), Lost> {
        let mut session = self.gpu.enter();
        session.run(|gpu| (gpu.counters(), gpu.undeclared().collect()))
    }

    /// Whether its PCI function is a bus master; a virtio device does not say.
    pub(crate) fn bus_master(&self, gpu: &Gpu) -> Option<bool> {
        (self.door.kind() == DoorKind::VfioUser).then(|| gpu.bus_master())
    }
}

impl Door {
    fn new(kind: DoorKind, identity: Identity) -> Self {
        match kind {
            DoorKind::VhostUser => Self::VhostUser(Arc::default()),
            DoorKind::VfioUser => Self::VfioUser(Arc::default(), identity),
        }
    }

    /// Of which kind it is.
    pub fn kind(&self) -> DoorKind {
        match self {
            Self::VhostUser(_) => DoorKind::VhostUser,
            Self::VfioUser(..) => DoorKind::VfioUser,
        }
    }

    /// What passed through.
    pub fn counters(&self) -> serde_json::Result<Value> {
        match self {
            Self::VhostUser(counters) => serde_json::to_value(&**counters),
            Self::VfioUser(counters, _) => serde_json::to_value(&**counters),
        }
    }

    /// The same in a few words.
    fn summary(&self) -> String {
        match self {
            Self::VhostUser(counters) => format!(
                "{} requests, {} events",
                counters.requests.get(),
                counters.events.get()
            ),
            Self::VfioUser(counters, _) => {
                format!("{} MSIs, {} INTx", counters.msi.get(), counters.intx.get())
            }
        }
    }
}

/// Serves until every QEMU has left, or with `keep` until a signal; what the driver
/// checker found meanwhile.
pub fn serve(options: &Options) -> Result<Verdict, ServerError> {
    if options.sandboxed {
        sandbox::enter_files(options.socket_folders());
    }
    eventfd_signal::prepare().map_err(|error| ServerError::Start(error.into()))?;
    let life = Arc::new(Life::default());
    let start = |door: &DoorOptions| {
        let (config, check) = (options.config.clone(), options.check.as_ref());
        Served::start(config, options.identity, door, &life, check)
    };
    let gpus = options
        .doors
        .iter()
        .map(start)
        .collect::<io::Result<Vec<_>>>();
    let gpus: Arc<[Served]> = gpus.map_err(ServerError::PowerOn)?.into();

    // Not before: a seed takes seconds of a busy host, and QEMU gives a vfio-user
    // server that listens five to answer.
    let sockets = options
        .doors
        .iter()
        .map(|door| Socket::listen(&door.socket, options.access))
        .collect::<Result<Vec<_>, _>>()?;
    let controls = options
        .control
        .iter()
        .map(|control| Socket::listen(&control.socket, options.access))
        .collect::<Result<Vec<_>, _>>()?;
    let all = sockets.iter().chain(&controls);
    life.watch_signals(all.map(|socket| socket.file().clone()).collect())
        .map_err(ServerError::Start)?;
    for (socket, control) in controls.iter().zip(&options.control) {
        let gpus = Arc::clone(&gpus);
        let questions = match control.gpu {
            Some(number) => Questions::only(gpus, number),
            None => Questions::new(gpus),
        };
        conversation::start(socket, questions).map_err(ServerError::Start)?;
    }

    if options.sandboxed {
        sandbox::enter_calls();
    }
    let serve = |(number, (served, socket)): (usize, (&Served, Socket))| {
        let ended = thread::contain("the GPU's thread", || {
            serve_gpu(served, number, &socket, &life, options.keep)
        });
        ended.unwrap_or(Err(ServerError::Failed))
    };
    std::thread::scope(|scope| {
        let started: Vec<_> = gpus
            .iter()
            .zip(sockets)
            .enumerate()
            .map(|numbered| scope.spawn(move || serve(numbered)))
            .collect();
        let ends = started.into_iter().map(ScopedJoinHandle::join);
        ends.map(|end| end.unwrap_or(Err(ServerError::Failed)))
            .fold(Ok(()), Result::and)
    })?;
    Ok(life.verdict())
}

/// Serves one GPU to one QEMU after another.
fn serve_gpu(
    served: &Served,
    number: usize,
    socket: &Socket,
    life: &Arc<Life>,
    keep: bool,
) -> Result<(), ServerError> {
    let path = socket.path().display();
    tracing::info!("waiting for QEMU on {path}");
    loop {
        let outcome = match &served.door {
            Door::VhostUser(counters) => {
                let (listener, presence) = (socket.listener(), &served.presence);
                let serve =
                    || vhost_user::serve(listener, &served.gpu, presence, counters, PATIENCE);
                let served = thread::contain("the vhost-user door", serve);
                served.unwrap_or(Ok(())).map_err(Into::into)
            }
            Door::VfioUser(counters, identity) => {
                serve_vfio_user(socket, served, counters, *identity)
            }
        };
        if !served.presence.is_attached() {
            // Nobody has come, or somebody who only looked.
            if let Err(error) = outcome {
                socket::pause(socket.path(), &error);
            }
            continue;
        }
        report(served);
        if let Some(check) = &served.check
            && check.end(&served.gpu, number)
        {
            life.note_reports();
        }
        // Not before: a signal ends a server that nobody is attached to.
        served.presence.detach();
        if !keep && !life.is_ending() {
            return outcome;
        }
        if let Err(error) = &outcome {
            tracing::error!("{error}");
        }
        life.end_after_last(outcome.is_err());
        if life.is_ending() {
            return outcome;
        }
        while let Err(error) = served.gpu.power_cycle() {
            socket::pause(socket.path(), &ServerError::PowerOn(error));
        }
        if let Some(check) = &served.check {
            check.begin_anew(&served.gpu);
        }
        tracing::info!("GPU power-cycled; waiting for QEMU on {path}");
    }
}

/// Takes the next connection and serves it to its end.
fn serve_vfio_user(
    socket: &Socket,
    served: &Served,
    counters: &Arc<VfioUserCounters>,
    identity: Identity,
) -> Result<(), ServerError> {
    let (stream, _) = socket.listener().accept().map_err(ServerError::Accept)?;
    let door = vfio_user::Door {
        is_watched: served.check.is_some(),
        gpu: Arc::clone(&served.gpu),
        presence: Arc::clone(&served.presence),
        counters: Arc::clone(counters),
        identity,
    };
    thread::contain("the vfio-user door", || door.serve(stream));
    Ok(())
}

/// What the guest did: a line, and one for each block of BAR0 in which it used
/// more than the model has.
fn report(served: &Served) {
    let socket = served.presence.socket().display();
    let (device, undeclared) = match served.counted() {
        Ok(counted) => counted,
        Err(lost) => {
            tracing::error!("QEMU left {socket}: {lost}");
            return;
        }
    };
    tracing::info!(
        "QEMU left {socket}: {} register accesses, {} copies, {} fills, {} fences, {} faults, \
         {} resets; {}",
        device.register_reads + device.register_writes,
        device.copies,
        device.fills,
        device.fences,
        device.faults,
        device.resets,
        served.door.summary(),
    );
    for used in undeclared {
        tracing::info!(
            "registers that are plain storage, {:#07x} {}: {} reads and {} writes of {} words",
            used.start,
            used.block,
            used.reads,
            used.writes,
            used.words,
        );
    }
}

/// What `info` tells of a GPU.
pub(crate) fn describe(served: &Served) -> Value {
    let config = served.gpu.config();
    json!({
        "presil": env!("CARGO_PKG_VERSION"),
        "door": served.door.kind().name(),
        "socket": served.presence.socket().display().to_string(),
        "chip": config.chip.name(),
        "vendor_id": config.chip.vendor_id(),
        "device_id": config.chip.device_id(),
        "vram_bytes": config.vram_bytes,
        "visible_bytes": config.visible_bytes,
        "vram_seed": config.vram_seed,
        "attached": served.presence.is_attached(),
        "lost": served.gpu.is_lost(),
    })
}
