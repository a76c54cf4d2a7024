//! Where a CPU keeps what it has not written to memory: its caches, for memory that is
//! mapped write-back, and its write-combining buffers.

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;
/// Bytes of a line, of caches and of write-combining buffers.
const LINE: usize = 64;
const LINE_BYTES: u64 = LINE as u64;
/// Lines that are combined at once.
const BUFFERS: usize = 8;

/// What the caches hold of a page; bit n is its n-th line of 64 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Lines that a load of the CPU is answered from.
    pub held: u64,
    /// Of these, those that memory does not have yet.
    pub dirty: u64,
    /// Of these, those under which the GPU has written since, without a snoop.
    pub stale: u64,
}

/// Lines that bytes of a page are in.
pub(crate) fn lines_of(at: usize, len: usize) -> u64 {
    let lines = (at + len).div_ceil(LINE) - at / LINE;
    first_bits(lines)
        .checked_shl(u32::try_from(at / LINE).unwrap_or(64))
        .unwrap_or(0)
}

fn first_bits(count: usize) -> u64 {
    let bit = 1u64.checked_shl(u32::try_from(count).unwrap_or(64));
    bit.map_or(u64::MAX, |bit| bit - 1)
}

/// The lines of a mask, as ranges of bytes of their page.
fn each(mut lines: u64) -> impl Iterator<Item = std::ops::Range<usize>> {
    std::iter::from_fn(move || {
        let first = lines.trailing_zeros();
        let more = lines.checked_shr(first)?.trailing_ones();
        lines &= !(first_bits(more as usize) << first);
        Some(first as usize * LINE..(first + more) as usize * LINE)
    })
}

/// The caches of all CPUs together, page by page.
pub(crate) struct Caches {
    bytes: Vec<u8>,
    lines: Vec<Lines>,
}

impl Caches {
    pub(crate) fn new(pages: usize) -> Self {
        Self {
            bytes: vec![0; pages * PAGE],
            lines: vec![Lines::default(); pages],
        }
    }

    pub(crate) fn lines(&self, page: usize) -> Lines {
        self.lines[page]
    }

    /// The bytes of the line at `at` that memory, all of it, does not have: bit n is the
    /// n-th.
    pub(crate) fn ahead(&self, page: usize, at: usize, memory: &[u8]) -> u64 {
        if self.lines[page].dirty & lines_of(at, 1) == 0 {
            return 0;
        }
        let line = page * PAGE + at - at % LINE;
        let pairs = self.bytes[line..].iter().zip(&memory[line..]);
        let differ = (0..LINE).zip(pairs).filter(|(_, (held, has))| held != has);
        differ.fold(0, |mask, (n, _)| mask | 1 << n)
    }

    fn page(&mut self, page: usize) -> (&mut [u8], &mut Lines) {
        let bytes = &mut self.bytes[page * PAGE..][..PAGE];
        (bytes, &mut self.lines[page])
    }

    /// Lines come from memory, those that are held already excepted.
    pub(crate) fn fetch(&mut self, page: usize, lines: u64, memory: &[u8]) {
        let (bytes, held) = self.page(page);
        for line in each(lines & !held.held) {
            bytes[line.clone()].copy_from_slice(&memory[line]);
        }
        held.held |= lines;
    }

    /// The CPU loads. Lines that it should not have found are returned.
    pub(crate) fn load(&mut self, page: usize, at: usize, buf: &mut [u8], memory: &[u8]) -> u64 {
        let lines = lines_of(at, buf.len());
        self.fetch(page, lines, memory);
        let (bytes, held) = self.page(page);
        buf.copy_from_slice(&bytes[at..][..buf.len()]);
        held.stale & lines
    }

    /// The CPU stores.
    pub(crate) fn store(&mut self, page: usize, at: usize, buf: &[u8], memory: &[u8]) {
        let lines = lines_of(at, buf.len());
        let end = at + buf.len();
        let first = lines_of(at, usize::from(!at.is_multiple_of(LINE)));
        let last = lines_of(end, usize::from(!end.is_multiple_of(LINE)));
        self.fetch(page, (first | last) & lines, memory);
        let (bytes, held) = self.page(page);
        bytes[at..end].copy_from_slice(buf);
        held.held |= lines;
        held.dirty |= lines;
        held.stale &= !lines | first | last;
    }

    /// Lines that are dirty go to memory, and stay held. Those that went over what the
    /// GPU had written are returned.
    pub(crate) fn write_back(&mut self, page: usize, lines: u64, memory: &mut [u8]) -> u64 {
        let (bytes, held) = self.page(page);
        let dirty = lines & held.dirty;
        for line in each(dirty) {
            memory[line.clone()].copy_from_slice(&bytes[line]);
        }
        held.dirty &= !dirty;
        let over = dirty & held.stale;
        held.stale &= !dirty;
        over
    }

    /// Lines are forgotten, whatever they held.
    pub(crate) fn invalidate(&mut self, page: usize, lines: u64) {
        let (_, held) = self.page(page);
        held.held &= !lines;
        held.dirty &= !lines;
        held.stale &= !lines;
    }

    /// Memory has changed under what is held.
    pub(crate) fn written_under(&mut self, page: usize, lines: u64) {
        let (_, held) = self.page(page);
        held.stale |= lines & held.held;
    }

    /// Who had the page before has written all of it, and memory has seen nothing of it.
    pub(crate) fn leave_dirty(&mut self, page: usize, value: u8) {
        let (bytes, held) = self.page(page);
        bytes.fill(value);
        (held.held, held.dirty, held.stale) = (u64::MAX, u64::MAX, 0);
    }
}

/// A line that is being combined.
struct Pending {
    /// Address of its first byte.
    at: u64,
    bytes: [u8; LINE],
    /// Which bytes were stored.
    stored: u64,
}

impl Pending {
    fn drain(&self, memory: &mut impl FnMut(u64, &[u8])) {
        for run in bytes(self.stored) {
            memory(self.at + run.start as u64, &self.bytes[run]);
        }
    }
}

/// Runs of bytes of a line.
fn bytes(stored: u64) -> impl Iterator<Item = std::ops::Range<usize>> {
    each(stored).map(|run| run.start / LINE..run.end / LINE)
}

/// Stores to write-combined memory that have not left the CPU. Which line goes when
/// another one needs its buffer is no order that anybody could rely on.
pub(crate) struct WriteBuffer {
    lines: Vec<Pending>,
    random: Random,
}

impl WriteBuffer {
    pub(crate) const fn new() -> Self {
        Self {
            lines: Vec::new(),
            random: Random(1),
        }
    }

    /// The CPU stores.
    pub(crate) fn store(&mut self, at: u64, data: &[u8], mut memory: impl FnMut(u64, &[u8])) {
        let (mut at, mut data) = (at, data);
        while !data.is_empty() {
            let within = usize::try_from(at % LINE_BYTES).unwrap_or(0);
            let (here, rest) = data.split_at(data.len().min(LINE - within));
            let line = self.line(at - at % LINE_BYTES, &mut memory);
            line.bytes[within..][..here.len()].copy_from_slice(here);
            line.stored |= first_bits(here.len()) << within;
            at += here.len() as u64;
            data = rest;
        }
    }

    /// The buffer of a line.
    fn line(&mut self, at: u64, memory: &mut impl FnMut(u64, &[u8])) -> &mut Pending {
        let found = self.lines.iter().position(|line| line.at == at);
        let index = found.unwrap_or_else(|| {
            let fresh = Pending {
                at,
                bytes: [0; LINE],
                stored: 0,
            };
            if self.lines.len() < BUFFERS {
                self.lines.push(fresh);
                return self.lines.len() - 1;
            }
            let victim = self.random.below(BUFFERS);
            std::mem::replace(&mut self.lines[victim], fresh).drain(memory);
            victim
        });
        &mut self.lines[index]
    }

    /// The CPU loads what memory has, but its own stores it sees.
    pub(crate) fn load(&self, at: u64, buf: &mut [u8]) {
        let end = at + buf.len() as u64;
        let near = |line: &&Pending| line.at < end && line.at + LINE_BYTES > at;
        for line in self.lines.iter().filter(near) {
            for run in bytes(line.stored) {
                for byte in run {
                    let place = (line.at + byte as u64).checked_sub(at);
                    let place = place.and_then(|place| usize::try_from(place).ok());
                    if let Some(to) = place.and_then(|place| buf.get_mut(place)) {
                        *to = line.bytes[byte];
                    }
                }
            }
        }
    }

    /// Everything goes to memory.
    pub(crate) fn drain(&mut self, mut memory: impl FnMut(u64, &[u8])) {
        for line in self.lines.drain(..) {
            line.drain(&mut memory);
        }
    }

    /// Some line goes to memory.
    pub(crate) fn drain_one(&mut self, random: u64, mut memory: impl FnMut(u64, &[u8])) {
        if let Some(n) = usize::try_from(random >> 32)
            .ok()
            .and_then(|n| n.checked_rem(self.lines.len()))
        {
            self.lines.swap_remove(n).drain(&mut memory);
        }
    }
}

/// Numbers that nobody expects, the same ones each time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 32).unwrap_or(0) % end
    }
}

pub(crate) fn mix(x: u64) -> u64 {
    let x = (x ^ x >> 31).wrapping_mul(0x7fb5_d329_728e_a185);
    (x ^ x >> 27).wrapping_mul(0x81da_def4_bc2d_d44d)
}
