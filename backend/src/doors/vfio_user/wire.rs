//! The layouts of vfio-user messages. All numbers are in the host's byte order.
//!
//! Every length is checked: a body is exactly as long as its fields, but for
//! the data behind those of a write.

use rustix::io::Errno;
use vfio_bindings::bindings::vfio;

use crate::doors::messages::{self, Fields, Outgoing};

/// Bytes of a message's header.
const HEADER_BYTES: usize = 16;
/// Most bytes that one access of a region moves.
pub(super) const MAX_DATA: usize = 64 << 10;
/// Bytes of the longest message: a write of [`MAX_DATA`] bytes.
const MAX_MESSAGE: usize = HEADER_BYTES + ACCESS_BYTES + MAX_DATA;
/// Bytes in front of the data of a region's access.
const ACCESS_BYTES: usize = 16;
/// Bytes of a region's description.
const REGION_INFO_BYTES: u32 = 32;

const TYPE_MASK: u32 = 0xf;
const REPLY: u32 = 1;
const NO_REPLY: u32 = 1 << 4;
const ERROR: u32 = 1 << 5;

/// What every message begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    id: u16,
    pub(super) command: u16,
    /// Of the whole message, in bytes.
    bytes: u32,
    flags: u32,
}

impl messages::Header for Header {
    const BYTES: usize = HEADER_BYTES;
    const MAX_MESSAGE: usize = MAX_MESSAGE;

    fn parse(raw: &[u8]) -> Option<Self> {
        let mut fields = Fields(raw.get(..HEADER_BYTES)?);
        Some(Self {
            id: fields.u16().ok()?,
            command: fields.u16().ok()?,
            bytes: fields.u32().ok()?,
            flags: fields.u32().ok()?,
        })
    }

    fn message_bytes(self) -> u64 {
        self.bytes.into()
    }

    fn is_command(self) -> bool {
        self.flags & TYPE_MASK == 0
    }
}

impl Header {
    pub(super) fn wants_reply(self) -> bool {
        self.flags & NO_REPLY == 0
    }

    /// The whole reply to a command that failed.
    pub(super) fn refusal(self, error: Errno) -> [u8; HEADER_BYTES] {
        let bytes = u32::try_from(HEADER_BYTES).unwrap_or(u32::MAX);
        self.answer(bytes, REPLY | ERROR, error.raw_os_error())
    }

    fn answer(self, bytes: u32, flags: u32, code: i32) -> [u8; HEADER_BYTES] {
        let mut raw = [0; HEADER_BYTES];
        let fields = self.id.to_ne_bytes().into_iter();
        let fields = fields
            .chain(self.command.to_ne_bytes())
            .chain(bytes.to_ne_bytes())
            .chain(flags.to_ne_bytes())
            .chain(code.to_ne_bytes());
        for (to, from) in raw.iter_mut().zip(fields) {
            *to = from;
        }
        raw
    }
}

/// A command and its fields.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Version { major: u16, minor: u16 },
    DmaMap(DmaMap),
    DmaUnmap(DmaUnmap),
    DeviceInfo,
    RegionInfo { index: u32 },
    IrqInfo { index: u32 },
    SetIrqs(SetIrqs<'a>),
    RegionRead(Access),
    RegionWrite(Access, &'a [u8]),
    Reset,
}

/// Memory that the device may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DmaMap {
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// In the file that comes with it, in bytes.
    pub(super) offset: u64,
    /// On the bus.
    pub(super) address: u64,
    pub(super) bytes: u64,
}

/// Memory that it may not use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DmaUnmap {
    pub(super) argsz: u32,
    pub(super) flags: u32,
    pub(super) address: u64,
    pub(super) bytes: u64,
}

impl DmaUnmap {
    /// Everything, whatever the address.
    pub(super) fn is_all(self) -> bool {
        self.flags & vfio::VFIO_DMA_UNMAP_FLAG_ALL != 0
    }
}

/// What is done to interrupts `start..start + count` of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SetIrqs<'a> {
    pub(super) index: u32,
    pub(super) start: u32,
    pub(super) count: u32,
    pub(super) action: IrqAction,
    pub(super) data: IrqData<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IrqAction {
    Mask,
    Unmask,
    Trigger,
}

/// To which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IrqData<'a> {
    /// All.
    None,
    /// Those whose byte is not 0.
    Bools(&'a [u8]),
    /// The message's descriptors are for them; none means to take theirs away.
    EventFds,
}

/// A place in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) region: u32,
    pub(super) offset: u64,
    /// At most [`MAX_DATA`] bytes.
    pub(super) count: usize,
}

impl<'a> Command<'a> {
    /// The command `number` with its body.
    ///
    /// # Errors
    /// `ENOTSUP`: there is no such command here. `EINVAL`: a length or a field cannot be.
    pub(super) fn parse(number: u16, body: &'a [u8]) -> Result<Self, Errno> {
        let mut fields = Fields(body);
        let command = match number {
            1 => fields.version()?,
            2 => Self::DmaMap(fields.dma_map()?),
            3 => Self::DmaUnmap(fields.dma_unmap()?),
            4 => {
                fields.skip(16)?;
                Self::DeviceInfo
            }
            5 => {
                fields.skip(8)?;
                let index = fields.u32()?;
                fields.skip(20)?;
                Self::RegionInfo { index }
            }
            7 => {
                fields.skip(8)?;
                let index = fields.u32()?;
                fields.skip(4)?;
                Self::IrqInfo { index }
            }
            8 => Self::SetIrqs(fields.set_irqs()?),
            9 => Self::RegionRead(fields.access()?),
            10 => {
                let access = fields.access()?;
                Self::RegionWrite(access, fields.rest(access.count)?)
            }
            13 => Self::Reset,
            _ => return Err(Errno::NOTSUP),
        };
        fields.end()?;
        Ok(command)
    }
}

impl<'a> Fields<'a> {
    /// Nothing that the client can do is needed, so its capabilities are only
    /// looked at for their form.
    fn version(&mut self) -> Result<Command<'a>, Errno> {
        let (major, minor) = (self.u16()?, self.u16()?);
        let text = std::mem::take(&mut self.0);
        if !text.is_empty() {
            let (end, json) = text.split_last().ok_or(Errno::INVAL)?;
            let is_object =
                serde_json::from_slice(json).is_ok_and(|it: serde_json::Value| it.is_object());
            if *end != 0 || !is_object {
                return Err(Errno::INVAL);
            }
        }
        Ok(Command::Version { major, minor })
    }

    fn dma_map(&mut self) -> Result<DmaMap, Errno> {
        self.skip(4)?;
        let flags = self.u32()?;
        let readable = flags & vfio::VFIO_DMA_MAP_FLAG_READ != 0;
        let writable = flags & vfio::VFIO_DMA_MAP_FLAG_WRITE != 0;
        if flags & !(vfio::VFIO_DMA_MAP_FLAG_READ | vfio::VFIO_DMA_MAP_FLAG_WRITE) != 0 {
            return Err(Errno::INVAL);
        }
        Ok(DmaMap {
            readable,
            writable,
            offset: self.u64()?,
            address: self.u64()?,
            bytes: self.u64()?,
        })
    }

    fn dma_unmap(&mut self) -> Result<DmaUnmap, Errno> {
        let unmap = DmaUnmap {
            argsz: self.u32()?,
            flags: self.u32()?,
            address: self.u64()?,
            bytes: self.u64()?,
        };
        if unmap.flags & !vfio::VFIO_DMA_UNMAP_FLAG_ALL != 0 {
            return Err(Errno::INVAL);
        }
        Ok(unmap)
    }

    fn set_irqs(&mut self) -> Result<SetIrqs<'a>, Errno> {
        self.skip(4)?;
        let (flags, index, start, count) = (self.u32()?, self.u32()?, self.u32()?, self.u32()?);
        let action = match flags & vfio::VFIO_IRQ_SET_ACTION_TYPE_MASK {
            vfio::VFIO_IRQ_SET_ACTION_MASK => IrqAction::Mask,
            vfio::VFIO_IRQ_SET_ACTION_UNMASK => IrqAction::Unmask,
            vfio::VFIO_IRQ_SET_ACTION_TRIGGER => IrqAction::Trigger,
            _ => return Err(Errno::INVAL),
        };
        let data = match flags & !vfio::VFIO_IRQ_SET_ACTION_TYPE_MASK {
            vfio::VFIO_IRQ_SET_DATA_NONE => IrqData::None,
            vfio::VFIO_IRQ_SET_DATA_BOOL => {
                let count = usize::try_from(count).map_err(|_| Errno::INVAL)?;
                IrqData::Bools(self.rest(count)?)
            }
            vfio::VFIO_IRQ_SET_DATA_EVENTFD => IrqData::EventFds,
            _ => return Err(Errno::INVAL),
        };
        Ok(SetIrqs {
            index,
            start,
            count,
            action,
            data,
        })
    }

    fn access(&mut self) -> Result<Access, Errno> {
        let (offset, region, count) = (self.u64()?, self.u32()?, self.u32()?);
        let count = usize::try_from(count)
            .ok()
            .filter(|count| *count <= MAX_DATA);
        Ok(Access {
            region,
            offset,
            count: count.ok_or(Errno::INVAL)?,
        })
    }
}

/// A reply to a command that succeeded.
pub(super) type Reply = Outgoing<Header>;

impl Reply {
    /// The whole message, with the header in its place.
    pub(super) fn finish(&mut self, request: Header) -> &[u8] {
        let bytes = u32::try_from(HEADER_BYTES + self.body_bytes()).unwrap_or(u32::MAX);
        self.behind(request.answer(bytes, REPLY, 0))
    }

    pub(super) fn version(&mut self, major: u16, minor: u16, capabilities: &str) {
        self.put(&major.to_ne_bytes()).put(&minor.to_ne_bytes());
        self.put(capabilities.as_bytes()).put(&[0]);
    }

    pub(super) fn dma_unmap(&mut self, request: DmaUnmap) {
        self.u32s(&[request.argsz, request.flags]);
        self.u64s(&[request.address, request.bytes]);
    }

    pub(super) fn device_info(&mut self) {
        let flags = vfio::VFIO_DEVICE_FLAGS_PCI | vfio::VFIO_DEVICE_FLAGS_RESET;
        self.u32s(&[
            16,
            flags,
            vfio::VFIO_PCI_NUM_REGIONS,
            vfio::VFIO_PCI_NUM_IRQS,
        ]);
    }

    pub(super) fn region_info(&mut self, index: u32, flags: u32, bytes: u64) {
        self.u32s(&[REGION_INFO_BYTES, flags, index, 0])
            .u64s(&[bytes, 0]);
    }

    pub(super) fn irq_info(&mut self, index: u32, flags: u32, count: u32) {
        self.u32s(&[16, flags, index, count]);
    }

    /// Repeats the request; of a read with room for the bytes, which it gives.
    pub(super) fn access(&mut self, access: Access, room: usize) -> &mut [u8] {
        let count = u32::try_from(access.count).unwrap_or(u32::MAX);
        self.u64s(&[access.offset]).u32s(&[access.region, count]);
        self.room(room)
    }
}
