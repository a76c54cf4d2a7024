//! Saving a GPU, and making one from what was saved. docs/state-format.md
//! describes the file.

use crate::biu::{Biu, InterruptSink};
use crate::config::Config;
use crate::csp::Csp;
use crate::gpu::Gpu;
use crate::index::index;
use crate::memory::Vram;
use crate::mmu::Mxu;
use crate::power::Power;
use crate::saved::{self, Damage, ensure};
use crate::storage::Storage;
use crc32fast::Hasher;
use e3k_regs::{PAGE_SIZE, VramOffset};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::io::{self, Read, Write};

const MAGIC: [u8; 8] = *b"e3kstate";
/// Raised with every change of what is saved.
const VERSION: u32 = 6;
/// More than any state needs; the largest TLBs take 15 MiB.
const BLOCKS_MAX: u64 = 64 << 20;
/// VRAM is looked through in pieces of this size, aligned to it.
const PIECE: u64 = 1 << 20;
const PAGE: usize = index(PAGE_SIZE);

/// Why no GPU was made.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Reading failed.
    #[error("the saved state cannot be read: {0}")]
    Io(io::Error),
    /// The end comes too early.
    #[error("the saved state is not whole: it ends too early")]
    Truncated,
    /// It is something else.
    #[error("this is no saved GPU: it starts with {found:02x?}, expected {MAGIC:02x?}")]
    Foreign {
        /// Its first bytes.
        found: [u8; 8],
    },
    /// Another version of presil wrote it.
    #[error("the saved state has format {found}; this presil reads only format {VERSION}")]
    Version {
        /// The file's version.
        found: u32,
    },
    /// The blocks cannot be that long.
    #[error(
        "the saved state is damaged: {found} bytes of registers, expected at most {BLOCKS_MAX}"
    )]
    TooLong {
        /// Their length.
        found: u64,
    },
    /// The blocks are not what a GPU has.
    #[error("the saved state is damaged: {0}")]
    Blocks(#[from] serde_json::Error),
    /// The blocks say what no GPU can be.
    #[error("the saved state is damaged: {what}")]
    Unsound {
        /// What it says, and what could be.
        what: String,
    },
    /// No memory, or no address space, for its VRAM.
    #[error("VRAM could not be made: {0}")]
    Vram(io::Error),
    /// A piece of VRAM lies where none can.
    #[error(
        "the saved state is damaged: {length:#x} bytes of VRAM at {offset:#x}, expected whole pages \
         from {from:#x} up to {vram_bytes:#x}"
    )]
    Extent {
        /// Where in VRAM.
        offset: u64,
        /// How long.
        length: u64,
        /// The end of the piece before.
        from: u64,
        /// The end of VRAM.
        vram_bytes: u64,
    },
    /// The sum over everything is not the one at the end.
    #[error("the saved state is damaged: its CRC-32 is {computed:#010x}, expected {stored:#010x}")]
    Checksum {
        /// Of what was read.
        computed: u32,
        /// What the end says.
        stored: u32,
    },
}

impl From<io::Error> for RestoreError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::Truncated
        } else {
            Self::Io(error)
        }
    }
}

impl Gpu {
    /// Saves everything: registers, TLBs, rings and what is in flight, VRAM,
    /// history, counters and clock. System memory is the machine's and not
    /// part of it. VRAM must not be written meanwhile.
    ///
    /// # Errors
    /// Writing failed, or VRAM could not be read.
    pub fn save(&self, to: &mut impl Write) -> io::Result<()> {
        let Self {
            storage,
            biu,
            mxu,
            csp,
            power,
            watch: _,
        } = self;
        let blocks = serde_json::to_vec(&saved::Gpu {
            config: mxu.config().save(),
            counters: mxu.counters,
            registers: storage.save(),
            interrupts: biu.save(),
            crossbar: mxu.save(),
            command_processor: csp.save(),
            power: power.save(),
        })?;
        let mut to = Summed::new(to);
        to.write_all(&MAGIC)?;
        to.write_all(&VERSION.to_le_bytes())?;
        to.write_all(&(blocks.len() as u64).to_le_bytes())?;
        to.write_all(&blocks)?;
        save_vram(self.vram(), &mut to)?;
        let sum = to.sum.finalize();
        to.inner.write_all(&sum.to_le_bytes())?;
        to.inner.flush()
    }

    /// Makes the GPU that was saved. It goes on exactly as that one would,
    /// once it has the machine's memory again ([`Self::set_memory`]). A line
    /// that was up is up, without a call of `interrupts`: see
    /// [`Self::interrupt_pending`]. Nothing behind the state is read.
    pub fn restore(
        interrupts: Box<dyn InterruptSink>,
        from: &mut impl Read,
    ) -> Result<Self, RestoreError> {
        let mut from = Summed::new(from);
        let saved = serde_json::from_slice(&blocks(&mut from)?)?;
        let gpu = Self::of(saved, interrupts)?;
        restore_vram(gpu.vram(), &mut from)?;
        let computed = from.sum.clone().finalize();
        let stored = u32::from_le_bytes(from.array()?);
        if computed != stored {
            return Err(RestoreError::Checksum { computed, stored });
        }
        Ok(gpu)
    }

    /// With VRAM of zeros.
    fn of(saved: saved::Gpu, interrupts: Box<dyn InterruptSink>) -> Result<Self, RestoreError> {
        let saved::Gpu {
            config,
            counters,
            registers,
            interrupts: lines,
            crossbar,
            command_processor,
            power,
        } = saved;
        let config = Config::restore(config).map_err(|error| Damage::new(error.to_string()))?;
        ensure(counters.is_sound(), || {
            "a counter that no GPU reaches".into()
        })?;
        let mut mxu = Mxu::new(config, None).map_err(RestoreError::Vram)?;
        mxu.counters = counters;
        mxu.restore(crossbar)?;
        Ok(Self {
            storage: Storage::restore(registers)?,
            biu: Biu::restore(lines, interrupts),
            mxu,
            csp: Csp::restore(command_processor)?,
            power: Power::restore(power),
            watch: None,
        })
    }
}

impl From<Damage> for RestoreError {
    fn from(damage: Damage) -> Self {
        Self::Unsound {
            what: damage.to_string(),
        }
    }
}

/// The head of the file, and the blocks as text.
fn blocks(from: &mut Summed<impl Read>) -> Result<Vec<u8>, RestoreError> {
    let found = from.array()?;
    if found != MAGIC {
        return Err(RestoreError::Foreign { found });
    }
    let found = u32::from_le_bytes(from.array()?);
    if found != VERSION {
        return Err(RestoreError::Version { found });
    }
    let found = u64::from_le_bytes(from.array()?);
    if found > BLOCKS_MAX {
        return Err(RestoreError::TooLong { found });
    }
    // Grows with what is really there.
    let mut blocks = vec![];
    if from.take(found).read_to_end(&mut blocks)? as u64 != found {
        return Err(RestoreError::Truncated);
    }
    Ok(blocks)
}

/// Writes the pages that are not all zeros, in runs of at most [`PIECE`].
fn save_vram(vram: &Vram, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; index(PIECE)];
    let mut at = 0;
    while let Some(start) = next_data(vram, at)? {
        let end = seek(vram.file(), SeekFrom::Hole(start))?;
        at = start;
        while at < end {
            let piece = &mut buffer[..index((end - at).min(PIECE - at % PIECE))];
            vram.read(VramOffset(at), piece).map_err(io::Error::other)?;
            let (pages, _) = piece.as_chunks::<PAGE>();
            for run in pages.chunk_by(|one, next| is_zero(one) == is_zero(next)) {
                let bytes = run.as_flattened();
                if !run.first().is_none_or(is_zero) {
                    to.write_all(&at.to_le_bytes())?;
                    to.write_all(&(bytes.len() as u64).to_le_bytes())?;
                    to.write_all(bytes)?;
                }
                at += bytes.len() as u64;
            }
        }
    }
    to.write_all(&[0; 16])
}

/// Where the next touched page is, at or behind `at`.
fn next_data(vram: &Vram, at: u64) -> io::Result<Option<u64>> {
    match seek(vram.file(), SeekFrom::Data(at)) {
        Ok(start) => Ok(Some(start)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_zero(page: &[u8; PAGE]) -> bool {
    *page == [0; PAGE]
}

/// Fills VRAM, which is all zeros, in ascending order.
fn restore_vram(vram: &Vram, from: &mut Summed<impl Read>) -> Result<(), RestoreError> {
    let mut buffer = vec![0; index(PIECE)];
    let (mut end, vram_bytes) = (0, vram.bytes());
    loop {
        let [offset, length] = [from.array()?, from.array()?].map(u64::from_le_bytes);
        if (offset, length) == (0, 0) {
            return Ok(());
        }
        let error = RestoreError::Extent {
            offset,
            length,
            from: end,
            vram_bytes,
        };
        let whole = offset.is_multiple_of(PAGE_SIZE) && length.is_multiple_of(PAGE_SIZE);
        if !whole || offset < end || !(1..=PIECE).contains(&length) {
            return Err(error);
        }
        let piece = &mut buffer[..index(length)];
        from.read_exact(piece)?;
        // Refuses what does not lie in VRAM entirely.
        if vram.write(VramOffset(offset), piece).is_err() {
            return Err(error);
        }
        end = offset + length;
    }
}

/// A reader or writer that sums up what goes through it.
struct Summed<T> {
    inner: T,
    sum: Hasher,
}

impl<T> Summed<T> {
    fn new(inner: T) -> Self {
        Self {
            inner,
            sum: Hasher::new(),
        }
    }
}

impl<T: Read> Summed<T> {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl<T: Read> Read for Summed<T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.sum.update(buf.get(..read).unwrap_or_default());
        Ok(read)
    }
}

impl<T: Write> Write for Summed<T> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buf)?;
        self.sum.update(buf.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
