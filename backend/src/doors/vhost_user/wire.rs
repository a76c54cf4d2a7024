//! The layouts of vhost-user messages (QEMU's `docs/interop/vhost-user.rst`). All
//! numbers are in the host's byte order.

use rustix::io::Errno;

use crate::doors::messages::{self, Fields, MAX_FDS};

/// Bytes of a message's header.
const HEADER_BYTES: usize = 12;
/// Bytes of the longest message; QEMU's longest are the configuration space and
/// a memory table of [`MAX_REGIONS`].
const MAX_MESSAGE: usize = 4096;

/// Most regions of a memory table, each with a descriptor: what the protocol has
/// without `CONFIGURE_MEM_SLOTS`.
pub(super) const MAX_REGIONS: usize = MAX_FDS;
/// Shared memory regions that a reply has room for.
const SHMEM_REGIONS: usize = 256;

const VERSION: u32 = 1;
const VERSION_MASK: u32 = 3;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;
/// In a message with a queue's number: no descriptor comes.
const NO_FD: u64 = 1 << 8;

/// What every message begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) request: u32,
    flags: u32,
    /// Bytes behind it.
    bytes: u32,
}

impl messages::Header for Header {
    const BYTES: usize = HEADER_BYTES;
    const MAX_MESSAGE: usize = MAX_MESSAGE;

    fn parse(raw: &[u8]) -> Option<Self> {
        let mut fields = Fields(raw.get(..HEADER_BYTES)?);
        Some(Self {
            request: fields.u32().ok()?,
            flags: fields.u32().ok()?,
            bytes: fields.u32().ok()?,
        })
    }

    fn message_bytes(self) -> u64 {
        u64::from(self.bytes) + HEADER_BYTES as u64
    }

    fn is_command(self) -> bool {
        self.flags & REPLY == 0
    }
}

impl Header {
    pub(super) fn is_of_our_version(self) -> bool {
        self.flags & VERSION_MASK == VERSION
    }

    /// Whether the sender waits for a word when this is done.
    pub(super) fn needs_reply(self) -> bool {
        self.flags & NEED_REPLY != 0
    }
}

/// A request and its fields.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request<'a> {
    GetFeatures,
    SetFeatures(u64),
    /// Also what gives the ownership back: either way nothing is left of before.
    SetOwner,
    SetMemTable(Vec<Region>),
    SetVringNum(Vring),
    SetVringAddr(Rings),
    SetVringBase(Vring),
    GetVringBase(Vring),
    SetVringKick(VringFd),
    SetVringCall(VringFd),
    SetVringErr(VringFd),
    GetProtocolFeatures,
    SetProtocolFeatures(u64),
    GetQueueNum,
    SetVringEnable(Vring),
    SetBackendReqFd,
    GetConfig(ConfigSpan),
    SetConfig(ConfigSpan, &'a [u8]),
    GetShmemConfig,
}

/// A piece of guest memory, in the file that comes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// Guest-physical address.
    pub(super) guest: u64,
    pub(super) bytes: u64,
    /// Address in the client's own address space, which it names rings by.
    pub(super) client: u64,
    /// In the file, in bytes.
    pub(super) offset: u64,
}

/// A queue and a number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vring {
    pub(super) queue: u32,
    pub(super) value: u32,
}

/// Where a queue's rings are, in the client's own address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rings {
    pub(super) queue: u32,
    pub(super) descriptors: u64,
    pub(super) used: u64,
    pub(super) available: u64,
}

/// A queue, and whether a descriptor comes for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VringFd {
    pub(super) queue: u32,
    pub(super) has_fd: bool,
}

/// A part of the configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConfigSpan {
    pub(super) offset: u32,
    pub(super) bytes: u32,
    pub(super) flags: u32,
}

impl<'a> Request<'a> {
    /// Request `number` with its body.
    ///
    /// # Errors
    /// `ENOTSUP`: there is no such request here. `EINVAL`: a length or a field cannot be.
    pub(super) fn parse(number: u32, body: &'a [u8]) -> Result<Self, Errno> {
        let mut fields = Fields(body);
        let request = match number {
            1 => Self::GetFeatures,
            2 => Self::SetFeatures(fields.u64()?),
            3 | 4 => Self::SetOwner,
            5 => Self::SetMemTable(fields.mem_table()?),
            8 => Self::SetVringNum(fields.vring()?),
            9 => Self::SetVringAddr(fields.rings()?),
            10 => Self::SetVringBase(fields.vring()?),
            11 => Self::GetVringBase(fields.vring()?),
            12 => Self::SetVringKick(fields.vring_fd()?),
            13 => Self::SetVringCall(fields.vring_fd()?),
            14 => Self::SetVringErr(fields.vring_fd()?),
            15 => Self::GetProtocolFeatures,
            16 => Self::SetProtocolFeatures(fields.u64()?),
            17 => Self::GetQueueNum,
            18 => Self::SetVringEnable(fields.vring()?),
            21 => Self::SetBackendReqFd,
            24 => Self::GetConfig(fields.config()?.0),
            25 => {
                let (span, data) = fields.config()?;
                Self::SetConfig(span, data)
            }
            44 => Self::GetShmemConfig,
            _ => return Err(Errno::NOTSUP),
        };
        fields.end()?;
        Ok(request)
    }

    /// Descriptors that must come with it.
    pub(super) fn fds(&self) -> usize {
        match self {
            Self::SetMemTable(regions) => regions.len(),
            Self::SetVringKick(to) | Self::SetVringCall(to) | Self::SetVringErr(to) => {
                usize::from(to.has_fd)
            }
            Self::SetBackendReqFd => 1,
            _ => 0,
        }
    }
}

impl<'a> Fields<'a> {
    fn mem_table(&mut self) -> Result<Vec<Region>, Errno> {
        let number = usize::try_from(self.u32()?).map_err(|_| Errno::INVAL)?;
        self.skip(4)?;
        if number > MAX_REGIONS {
            return Err(Errno::INVAL);
        }
        let region = |fields: &mut Self| {
            Ok(Region {
                guest: fields.u64()?,
                bytes: fields.u64()?,
                client: fields.u64()?,
                offset: fields.u64()?,
            })
        };
        (0..number).map(|_| region(self)).collect()
    }

    fn vring(&mut self) -> Result<Vring, Errno> {
        Ok(Vring {
            queue: self.u32()?,
            value: self.u32()?,
        })
    }

    fn rings(&mut self) -> Result<Rings, Errno> {
        let (queue, _flags) = (self.u32()?, self.u32()?);
        let (descriptors, used, available, _log) =
            (self.u64()?, self.u64()?, self.u64()?, self.u64()?);
        Ok(Rings {
            queue,
            descriptors,
            used,
            available,
        })
    }

    fn vring_fd(&mut self) -> Result<VringFd, Errno> {
        let word = self.u64()?;
        Ok(VringFd {
            queue: u32::try_from(word & !NO_FD).map_err(|_| Errno::INVAL)?,
            has_fd: word & NO_FD == 0,
        })
    }

    /// The data, or the room for it in a question.
    fn config(&mut self) -> Result<(ConfigSpan, &'a [u8]), Errno> {
        let span = ConfigSpan {
            offset: self.u32()?,
            bytes: self.u32()?,
            flags: self.u32()?,
        };
        let bytes = usize::try_from(span.bytes).map_err(|_| Errno::INVAL)?;
        Ok((span, self.rest(bytes)?))
    }
}

/// A message of this side: a reply, or a request on the client's other socket.
pub(super) type Outgoing = messages::Outgoing<Header>;

impl Outgoing {
    /// One shared memory region of `bytes` bytes.
    pub(super) fn shmem_config(&mut self, bytes: u64) {
        self.u32s(&[1, 0]).u64s(&[bytes]);
        self.u64s(&[0; SHMEM_REGIONS - 1]);
    }

    /// The whole message, a reply to `request`.
    pub(super) fn reply_to(&mut self, request: Header) -> &[u8] {
        self.finish(request.request, REPLY)
    }

    /// The whole message, a request that is to be answered.
    pub(super) fn request(&mut self, number: u32) -> &[u8] {
        self.finish(number, NEED_REPLY)
    }

    fn finish(&mut self, request: u32, flags: u32) -> &[u8] {
        let bytes = u32::try_from(self.body_bytes()).unwrap_or(u32::MAX);
        let fields = [request, VERSION | flags, bytes];
        self.behind(fields.into_iter().flat_map(u32::to_ne_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_but_the_right_one_is_refused() {
        let table = |regions: u32| [&regions.to_ne_bytes()[..], &[0; 4 + 32 * 3]].concat();
        let config = |bytes: u32| {
            let span = [0, bytes, 0].map(u32::to_ne_bytes).concat();
            [&span[..], &[7; 20]].concat()
        };
        let right = [
            (1, vec![]),
            (2, vec![0; 8]),
            (3, vec![]),
            (4, vec![]),
            (5, table(3)),
            (8, vec![0; 8]),
            (9, vec![0; 40]),
            (10, vec![0; 8]),
            (11, vec![0; 8]),
            (12, vec![0; 8]),
            (13, vec![0; 8]),
            (14, vec![0; 8]),
            (15, vec![]),
            (16, vec![0; 8]),
            (17, vec![]),
            (18, vec![0; 8]),
            (21, vec![]),
            (24, config(20)),
            (25, config(20)),
            (44, vec![]),
        ];
        for number in 0..100 {
            let known = right.iter().find(|(it, _)| *it == number);
            let Some((_, body)) = known else {
                assert_eq!(Request::parse(number, &[]), Err(Errno::NOTSUP), "{number}");
                continue;
            };
            assert!(Request::parse(number, body).is_ok(), "{number}");
            let longer = [&body[..], &[0]].concat();
            for wrong in (0..body.len()).map(|end| &body[..end]).chain([&longer[..]]) {
                let refused = Request::parse(number, wrong);
                assert_eq!(
                    refused,
                    Err(Errno::INVAL),
                    "{number} of {} bytes",
                    wrong.len()
                );
            }
        }
    }

    #[test]
    fn no_table_has_more_regions_than_descriptors_can_come() {
        for (regions, expected) in [(8, true), (9, false), (u32::MAX, false)] {
            let number = usize::try_from(regions).unwrap().min(9);
            let body = [&regions.to_ne_bytes()[..], &vec![0; 4 + 32 * number]].concat();
            assert_eq!(Request::parse(5, &body).is_ok(), expected, "{regions}");
        }
    }

    #[test]
    fn queues_are_numbered_in_all_bits_but_the_one_that_says_there_is_no_descriptor() {
        let to = |queue, has_fd| Ok(Request::SetVringKick(VringFd { queue, has_fd }));
        let words = [
            (1_u64, to(1, true)),
            (0x101, to(1, false)),
            (0x201, to(0x201, true)),
            (1 << 40, Err(Errno::INVAL)),
        ];
        for (word, expected) in words {
            assert_eq!(
                Request::parse(12, &word.to_ne_bytes()),
                expected,
                "{word:#x}"
            );
        }
    }
}
