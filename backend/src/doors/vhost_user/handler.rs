//! What a client asks for, message by message.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use vm_memory::mmap::MmapRegion;
use vm_memory::{FileOffset, GuestAddress, GuestAddressSpace, GuestMemoryMmap, GuestRegionMmap};

use super::channel::Channel;
use super::vring::{RingsAt, Vring};
use super::wire::{self, Header, Outgoing, Region, Request, Rings, VringFd};
use super::{Door, FEATURES, PROTOCOL_FEATURES, QUEUES, REPLY_ACK, RINGS_ARE_ENABLED_BY_MESSAGE};
use crate::doors::lent::{self, LentEvent, LentMemory, MAX_ADDRESS_SPACE, PAGE_BYTES};
use crate::doors::messages::Message;

/// Why a request is not obeyed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Of another feature, or of none.
    #[error("it is not spoken here")]
    Unknown,
    /// Not as the protocol has it.
    #[error("its version, length, a field or the number of its descriptors is invalid")]
    Malformed,
    /// With these bits.
    #[error("features {0:#x} were not offered")]
    Features(u64),
    /// Queues are numbered from 0.
    #[error("there is no queue {0}")]
    NoQueue(u32),
    /// Of a queue's size or the places of its rings.
    #[error("{0}")]
    Queue(#[from] virtio_queue::Error),
    /// A ring in the client's own address space.
    #[error("no guest memory is at {0:#x}")]
    NoMemory(u64),
    /// What it should have been.
    #[error("its descriptor is no {0}")]
    Kind(&'static str),
    /// It is not mapped, or not all of it.
    #[error("guest memory: {0}")]
    Memory(String),
}

impl From<Errno> for Refused {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOTSUP => Self::Unknown,
            _ => Self::Malformed,
        }
    }
}

/// What a client has set up.
pub(super) struct Handler {
    door: Arc<Door>,
    protocol_features: u64,
    regions: Vec<Region>,
    queues: [Queue; QUEUES],
}

struct Queue {
    vring: Vring,
    kick: Option<OwnedFd>,
    /// It may hold something that no kick will tell of: it has just been started,
    /// or a share of it was served.
    due: bool,
}

/// What the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// What was put in the reply.
    Reply,
    /// That it was done, if it wants to know.
    Done,
}

impl Handler {
    pub(super) fn new(door: Arc<Door>) -> Result<Self, virtio_queue::Error> {
        Ok(Self {
            door,
            protocol_features: 0,
            regions: Vec::new(),
            queues: [Queue::new()?, Queue::new()?],
        })
    }

    /// Does what a message says. Says whether `reply` holds a message to send.
    pub(super) fn obey(
        &mut self,
        message: Message<'_, Header>,
        reply: &mut Outgoing,
    ) -> (bool, Result<(), Refused>) {
        let header = message.header;
        reply.clear();
        let obeyed = self.try_obey(message, reply);
        let is_acknowledged = header.needs_reply() && self.protocol_features & REPLY_ACK != 0;
        match obeyed {
            Ok(Answer::Reply) => (true, Ok(())),
            Ok(Answer::Done) => {
                reply.u64s(&[0]);
                (is_acknowledged, Ok(()))
            }
            Err(why) => {
                reply.clear();
                reply.u64s(&[1]);
                (is_acknowledged, Err(why))
            }
        }
    }

    fn try_obey(
        &mut self,
        message: Message<'_, Header>,
        reply: &mut Outgoing,
    ) -> Result<Answer, Refused> {
        let Message {
            header,
            body,
            mut fds,
        } = message;
        let request = Request::parse(header.request, body)?;
        if !header.is_of_our_version() || fds.len() != request.fds() {
            return Err(Refused::Malformed);
        }
        match request {
            Request::GetFeatures => {
                self.door.greet();
                reply.u64s(&[FEATURES]);
                return Ok(Answer::Reply);
            }
            Request::GetProtocolFeatures => {
                reply.u64s(&[PROTOCOL_FEATURES]);
                return Ok(Answer::Reply);
            }
            Request::GetQueueNum => {
                reply.u64s(&[QUEUES as u64]);
                return Ok(Answer::Reply);
            }
            Request::GetConfig(span) => {
                let bytes = self.door.config(span.offset, span.bytes);
                reply.u32s(&[span.offset, span.bytes, span.flags]);
                reply.put(&bytes);
                return Ok(Answer::Reply);
            }
            Request::GetShmemConfig => {
                reply.shmem_config(self.door.window_bytes());
                return Ok(Answer::Reply);
            }
            Request::GetVringBase(vring) => {
                let base = self.stop_queue(vring.queue)?;
                reply.u32s(&[vring.queue, base.into()]);
                return Ok(Answer::Reply);
            }
            Request::SetFeatures(features) => self.set_features(features)?,
            Request::SetProtocolFeatures(features) => {
                offered(features, PROTOCOL_FEATURES)?;
                self.protocol_features = features;
            }
            Request::SetOwner => self.forget()?,
            Request::SetMemTable(regions) => self.set_memory(regions, fds)?,
            Request::SetVringNum(wire::Vring { queue, value }) => {
                self.queue(queue)?.vring.set_size(value)?;
            }
            Request::SetVringAddr(rings) => self.set_rings(rings)?,
            Request::SetVringBase(wire::Vring { queue, value }) => {
                let base = u16::try_from(value).map_err(|_| Refused::Malformed)?;
                self.queue(queue)?.vring.set_base(base);
            }
            Request::SetVringKick(VringFd { queue, .. }) => {
                let event = fds.pop().map(event).transpose()?;
                let door = Arc::clone(&self.door);
                let queue = self.queue(queue)?;
                let _nobody = door.wait_for_queues();
                queue.vring.set_ready(event.is_some());
                queue.kick = event;
                queue.due = true;
            }
            Request::SetVringCall(VringFd { queue, .. }) => {
                let event = fds.pop().map(LentEvent::new).transpose();
                let event = event.map_err(|_| Refused::Kind(EVENTFD))?;
                self.queue(queue)?.vring.set_call(event);
            }
            // Nothing is ever told by it.
            Request::SetVringErr(VringFd { queue, .. }) => _ = self.queue(queue)?,
            Request::SetVringEnable(wire::Vring { queue, value }) => {
                let enabled = match value {
                    0 => false,
                    1 => true,
                    _ => return Err(Refused::Malformed),
                };
                let door = Arc::clone(&self.door);
                let queue = self.queue(queue)?;
                let _nobody = door.wait_for_queues();
                queue.vring.set_enabled(enabled);
                queue.due = enabled;
            }
            Request::SetBackendReqFd => {
                let fd = fds.pop().ok_or(Refused::Malformed)?;
                let channel = Channel::new(fd);
                let channel = channel.map_err(|_| Refused::Kind("local stream socket"))?;
                self.door.set_channel(channel);
            }
            Request::SetConfig(span, data) => self.door.set_config(span.offset, data),
        }
        Ok(Answer::Done)
    }

    /// What a queue's driver wakes this side by, if it is served at all.
    pub(super) fn kicks(&self) -> [Option<BorrowedFd<'_>>; QUEUES] {
        self.queues.each_ref().map(|queue| {
            let kick = queue.kick.as_ref().filter(|_| queue.vring.is_running());
            kick.map(std::os::fd::AsFd::as_fd)
        })
    }

    /// Whether [`Self::serve`] has something to do without a kick.
    pub(super) fn is_due(&self) -> bool {
        self.queues.iter().any(|queue| queue.due)
    }

    /// Takes the kicks that there are, and serves a share of what is due.
    pub(super) fn serve(&mut self, kicked: [bool; QUEUES]) {
        for (index, (queue, kicked)) in self.queues.iter_mut().zip(kicked).enumerate() {
            let kicked = kicked && queue.take_kick();
            if kicked {
                self.door.counters.kicks.add(1);
            }
            if kicked || queue.due {
                queue.due = self.door.serve_queue(index, &queue.vring);
            }
        }
    }

    fn queue(&mut self, index: u32) -> Result<&mut Queue, Refused> {
        let place = usize::try_from(index).ok();
        let queue = place.and_then(|place| self.queues.get_mut(place));
        queue.ok_or(Refused::NoQueue(index))
    }

    fn set_features(&mut self, features: u64) -> Result<(), Refused> {
        offered(features, FEATURES)?;
        if features & RINGS_ARE_ENABLED_BY_MESSAGE == 0 {
            for queue in &self.queues {
                queue.vring.set_enabled(true);
            }
        }
        self.door.begin();
        Ok(())
    }

    /// A device begins, on a connection that may have had another before: QEMU
    /// keeps a chardev when a device is taken away from it. It has said already
    /// what the new one can do, and lent a new channel.
    fn forget(&mut self) -> Result<(), Refused> {
        self.door.stop();
        self.door.forget_memory();
        self.regions = Vec::new();
        self.queues = [Queue::new()?, Queue::new()?];
        Ok(())
    }

    fn stop_queue(&mut self, index: u32) -> Result<u16, Refused> {
        self.queue(index)?;
        self.door.stop();
        let queue = self.queue(index)?;
        queue.vring.set_ready(false);
        queue.vring.set_call(None);
        queue.kick = None;
        Ok(queue.vring.base())
    }

    fn set_memory(&mut self, regions: Vec<Region>, fds: Vec<OwnedFd>) -> Result<(), Refused> {
        let table = map(&regions, fds)?;
        self.regions = regions;
        self.door.set_memory(table);
        // What was kicked before there was memory.
        for queue in &mut self.queues {
            queue.due = true;
        }
        Ok(())
    }

    fn set_rings(&mut self, rings: Rings) -> Result<(), Refused> {
        let at = RingsAt {
            descriptors: self.guest_address(rings.descriptors)?,
            available: self.guest_address(rings.available)?,
            used: self.guest_address(rings.used)?,
        };
        let table = self.door.memory.memory();
        self.queue(rings.queue)?.vring.set_rings(&table, at)?;
        Ok(())
    }

    /// The guest-physical address of an address in the client's own address space.
    fn guest_address(&self, client: u64) -> Result<GuestAddress, Refused> {
        let place = |region: &Region| {
            let offset = client.checked_sub(region.client)?;
            (offset < region.bytes).then(|| GuestAddress(region.guest + offset))
        };
        let found = self.regions.iter().find_map(place);
        found.ok_or(Refused::NoMemory(client))
    }
}

impl Queue {
    fn new() -> Result<Self, virtio_queue::Error> {
        Ok(Self {
            vring: Vring::new()?,
            kick: None,
            due: false,
        })
    }

    fn take_kick(&mut self) -> bool {
        match self.kick.as_ref().map(lent::take) {
            Some(Ok(kicked)) => kicked,
            None => false,
            Some(Err(error)) => {
                tracing::debug!("a kick cannot be read, and is not waited for: {error}");
                self.kick = None;
                false
            }
        }
    }
}

const EVENTFD: &str = "eventfd";

fn event(fd: OwnedFd) -> Result<OwnedFd, Refused> {
    let is_event = lent::is_event(&fd);
    is_event.then_some(fd).ok_or(Refused::Kind(EVENTFD))
}

fn offered(features: u64, offered: u64) -> Result<(), Refused> {
    match features & !offered {
        0 => Ok(()),
        others => Err(Refused::Features(others)),
    }
}

/// Maps a table that was looked at before: so far nothing was taken that others may need.
fn map(regions: &[Region], fds: Vec<OwnedFd>) -> Result<GuestMemoryMmap, Refused> {
    let refused = |why: String| Refused::Memory(why);
    let mut taken = 0_u64;
    let mut files = Vec::new();
    for (region, fd) in regions.iter().zip(fds) {
        let file = LentMemory::new(fd).map_err(|_| Refused::Kind("memory"))?;
        let is_held = file.holds(region.offset, region.bytes);
        if !is_held.map_err(|error| refused(error.to_string()))? {
            return Err(refused(lent::TOO_SHORT.to_owned()));
        }
        let ends = [region.guest, region.client].map(|at| at.checked_add(region.bytes));
        if region.bytes == 0 || ends.contains(&None) {
            return Err(Refused::Malformed);
        }
        taken = taken.saturating_add(region.bytes);
        let file = file.into_file();
        let page = lent::page_bytes(&file).map_err(|error| refused(error.to_string()))?;
        if page != PAGE_BYTES && !region.bytes.is_multiple_of(page) {
            let bytes = region.bytes;
            let why = format!("{bytes:#x} bytes of a file whose pages are of {page:#x} each");
            return Err(refused(why));
        }
        files.push((region, file));
    }
    if taken > MAX_ADDRESS_SPACE {
        let why = format!("{taken} bytes: at most {MAX_ADDRESS_SPACE} for one client");
        return Err(refused(why));
    }
    files.sort_by_key(|(region, _)| region.guest);
    let mut mapped = Vec::new();
    for (region, file) in files {
        let bytes = usize::try_from(region.bytes).map_err(|_| Refused::Malformed)?;
        let place = FileOffset::new(file, region.offset);
        let here = MmapRegion::from_file(place, bytes);
        let here = here.map_err(|error| refused(error.to_string()))?;
        let there = GuestRegionMmap::new(here, GuestAddress(region.guest));
        mapped.push(there.ok_or(Refused::Malformed)?);
    }
    GuestMemoryMmap::from_regions(mapped).map_err(|error| refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::super::tests::started_door;
    use super::*;
    use crate::doors::messages::Header as _;

    #[test]
    fn a_queue_is_not_said_to_be_stopped_while_an_event_may_still_be_written_to_it() {
        let (gpu, door) = started_door();
        let mut handler = Handler::new(Arc::new(door)).unwrap();
        let disable = [1_u32, 0].map(u32::to_ne_bytes).concat();
        let no_kick = 0x101_u64.to_ne_bytes().to_vec();
        for (request, body) in [(18_u32, disable), (12, no_kick)] {
            let raw = [request, 1, 8].map(u32::to_ne_bytes).concat();
            let (sender, answered) = mpsc::channel();
            std::thread::scope(|scope| {
                let busy = gpu.enter();
                scope.spawn(|| {
                    let message = Message {
                        header: Header::parse(&raw).unwrap(),
                        body: &body,
                        fds: Vec::new(),
                    };
                    let (_, obeyed) = handler.obey(message, &mut Outgoing::new());
                    sender.send(obeyed).unwrap();
                });
                let early = answered.recv_timeout(Duration::from_millis(200));
                assert!(early.is_err(), "request {request}");
                drop(busy);
                answered.recv().unwrap().unwrap();
            });
        }
    }
}
