//! The vfio-user door: the GPU as a PCI function of QEMU's `vfio-user-pci`.
//! What the guest sees is docs/pci-function.md.
//!
//! One thread serves one client: it receives a message, does what it says and
//! replies, so messages take effect in their order. The GPU's lock is held for
//! one register access at a time, and waits for one slice of the engine's work
//! at most. Whatever a client sends ends its own connection at worst.
//!
//! The server sends no messages of its own: guest memory without a descriptor
//! (`DMA_READ`, `DMA_WRITE`) is out of reach.

mod config_space;
mod counters;
mod dma;
mod function;
mod interrupts;
mod lent_files;
mod page_by_page;
mod wire;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::io::Errno;

use self::dma::{ANNOUNCED_RANGES, Dma};
use self::function::Function;
use self::wire::{Command, Header, MAX_DATA, Reply};
use crate::doors::lent::{self, LentEvent, LentMemory};
use crate::doors::messages::{Broken, Connection, Message};
use crate::doors::pci::Identity;
use crate::service::life::Presence;
use crate::shared_gpu::SharedGpu;

pub use self::counters::VfioUserCounters;

/// The version of the protocol.
const MAJOR: u16 = 0;
const MINOR: u16 = 1;

/// What a connection needs.
#[derive(Clone)]
pub struct Door {
    /// The GPU behind it.
    pub gpu: Arc<SharedGpu>,
    /// Whether somebody is there.
    pub presence: Arc<Presence>,
    /// What passes through.
    pub counters: Arc<VfioUserCounters>,
    /// What the function says it is.
    pub identity: Identity,
    /// Somebody watches the GPU and is to hear what is unmapped for DMA.
    pub is_watched: bool,
}

impl Door {
    /// Serves one client until it leaves. Shutting another handle of `stream`
    /// down ends it, too.
    pub fn serve(&self, stream: UnixStream) {
        let mut client = Client {
            door: self,
            dma: Arc::new(Dma::new(&self.gpu.vram())),
            function: None,
        };
        let dma = Arc::clone(&client.dma);
        let socket = self.presence.socket();
        let find = move |at| dma.find(at);
        let talk = |connection| client.converse(connection);
        let served = lent::end_when_memory_is_gone(&self.gpu, &stream, socket, find)
            .map_err(Broken::from)
            .and_then(|()| Connection::new(stream).and_then(talk));
        self.gpu.set_client(None);
        if let Err(error) = served {
            tracing::warn!("vfio-user connection given up: {error}");
        }
    }
}

/// One client.
struct Client<'a> {
    door: &'a Door,
    dma: Arc<Dma>,
    /// From the client's VERSION on.
    function: Option<Function>,
}

impl Client<'_> {
    fn converse(&mut self, mut connection: Connection<Header>) -> Result<(), Broken> {
        let refused = &self.door.counters.refused;
        let mut reply = Reply::new();
        while let Some(message) = connection.receive()? {
            let header = message.header;
            reply.clear();
            let obeyed = self.obey(message, &mut reply);
            if let Err(error) = obeyed {
                refused.add(1);
                tracing::debug!("vfio-user command {} refused: {error}", header.command);
            }
            if header.wants_reply() {
                let has_taken_it = match obeyed {
                    Ok(fd) => connection.send(reply.finish(header), fd)?,
                    Err(error) => connection.send(&header.refusal(error), None)?,
                };
                if !has_taken_it {
                    return Ok(());
                }
            }
            if self.function.is_none() {
                return Err(Broken::Stranger);
            }
        }
        Ok(())
    }

    /// Does what a command says; the descriptor that goes with the reply.
    fn obey(
        &mut self,
        message: Message<'_, Header>,
        reply: &mut Reply,
    ) -> Result<Option<BorrowedFd<'_>>, Errno> {
        let Message { header, body, fds } = message;
        let command = Command::parse(header.command, body)?;
        if let Command::Version { major, minor } = command {
            self.greet(major, minor, reply)?;
            return Ok(None);
        }
        let function = self.function.as_mut().ok_or(Errno::INVAL)?;
        match command {
            Command::Version { .. } => {}
            Command::DmaMap(request) => {
                self.door.counters.dma_maps.add(1);
                let file = only(fds)?.map(LentMemory::new).transpose()?;
                function.dma.map(request, file)?;
            }
            Command::DmaUnmap(request) => {
                self.door.counters.dma_unmaps.add(1);
                function.dma_unmap(request)?;
                reply.dma_unmap(request);
            }
            Command::DeviceInfo => reply.device_info(),
            Command::RegionInfo { index } => {
                let (bytes, flags) = function.region(index).ok_or(Errno::INVAL)?;
                reply.region_info(index, flags, bytes);
                return Ok(function.mappable(index));
            }
            Command::IrqInfo { index } => {
                let (flags, count) = interrupts::kind(index).ok_or(Errno::INVAL)?;
                reply.irq_info(index, flags, count);
            }
            Command::SetIrqs(request) => {
                let event = only(fds)?.map(LentEvent::new).transpose()?;
                function.set_irqs(request, event)?;
            }
            Command::RegionRead(access) => {
                function.read(access, reply.access(access, access.count))?;
            }
            Command::RegionWrite(access, data) => {
                function.write(access, data)?;
                reply.access(access, 0);
            }
            Command::Reset => function.device_reset(),
        }
        Ok(None)
    }

    /// The first command: who speaks this protocol has a function from here on.
    fn greet(&mut self, major: u16, minor: u16, reply: &mut Reply) -> Result<(), Errno> {
        if major != MAJOR || self.function.is_some() {
            return Err(Errno::INVAL);
        }
        let capabilities = serde_json::json!({ "capabilities": {
            "max_msg_fds": 1,
            "max_data_xfer_size": MAX_DATA,
            "max_dma_maps": ANNOUNCED_RANGES,
        }});
        reply.version(MAJOR, minor.min(MINOR), &capabilities.to_string());
        let door = self.door;
        door.presence.attach();
        let counters = Arc::clone(&door.counters);
        self.function = Some(Function::new(
            Arc::clone(&door.gpu),
            door.identity,
            counters,
            Arc::clone(&self.dma),
            door.is_watched,
        ));
        Ok(())
    }
}

/// The one descriptor that a message may have.
fn only(mut fds: Vec<OwnedFd>) -> Result<Option<OwnedFd>, Errno> {
    let fd = fds.pop();
    if fds.is_empty() {
        Ok(fd)
    } else {
        Err(Errno::INVAL)
    }
}
