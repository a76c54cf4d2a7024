//! What there is and what was done, in figures (section 21).

use super::accounts::Room;
use super::lru::PRIORITIES;
use super::mm::Mm;
use super::object::Object;
use super::state::State;
use super::world::World;
use crate::bo::page_vector::{PageVector, Ram};
use crate::bo::pool::SmallLock;
use crate::placement::SegmentId;
use core::fmt;
use e3k_regs::PAGE_SIZE;

/// What a manager has done since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Moves that moved no contents: there were none, or the pages stayed what they are.
    pub null_moves: u64,
    /// Those that cleared local memory.
    pub clears: u64,
    /// Those that the copy engine made.
    pub copies: u64,
    /// Stops on the way.
    pub stops: u64,
    /// CPU accesses to pages that were not mapped, and the pages that were mapped then.
    pub faults: u64,
    /// See `faults`.
    pub mapped_pages: u64,
    /// Transactions that let an older one go first.
    pub back_offs: u64,
    /// The longest wait for the GPU.
    pub longest_wait_ns: u64,
    /// Pages that were brought back when there was room (D-3).
    pub promoted_pages: u64,
    /// Pages that came back to a memory type soon after they had to leave it
    /// ([`Options::thrash_ns`](super::Options::thrash_ns)): memory is too small for
    /// what is used at once.
    pub thrashed_pages: u64,
}

/// What went in and out of a memory type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Buffers that had to leave.
    pub evictions: u64,
    /// Bytes of buffers that came.
    pub bytes_in: u64,
    /// Bytes of buffers that went elsewhere, whether they had to or not.
    pub bytes_out: u64,
    /// Requests that found too little free.
    pub refused_full: u64,
    /// Requests that found enough free, but not where and as they needed it.
    pub refused_fragmented: u64,
}

/// What is in a memory type, in bytes. `clients`, `kernel` and `free` are all there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeReport {
    /// Which one.
    pub segment: SegmentId,
    /// All of it; of SYSTEM, what is booked.
    pub capacity: u64,
    /// Booked on clients' accounts.
    pub clients: u64,
    /// Booked by the driver itself.
    pub kernel: u64,
    /// Not booked.
    pub free: u64,
    /// The part of `free` that the GPU still works on.
    pub fenced: u64,
    /// The longest run in `free` that nobody works on.
    pub longest_free_run: u64,
    /// The part of what is booked that is pinned.
    pub pinned: u64,
    /// The part of what is booked that nobody uses any more but the GPU.
    pub dying: u64,
    /// Buffers that may have to leave, by priority.
    pub evictable: [usize; PRIORITIES],
    /// What went in and out.
    pub traffic: Traffic,
}

/// Pages of RAM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RamReport {
    /// Those of clients' buffers.
    pub clients: u64,
    /// Those of the driver's own.
    pub kernel: u64,
    /// How many clients and the driver may have together
    /// ([`Mm::limit_ram`](super::Mm::limit_ram)).
    pub limit: u64,
    /// Those that wait in the pool, by kind in
    /// [`Lists::iter`](crate::bo::pool::Lists::iter).
    pub pooled: u64,
    /// How many may wait there.
    pub pool_limit: u64,
    /// Those whose contents are in the store: no RAM.
    pub swapped: u64,
}

/// All figures at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The memory types, in the order of their numbers.
    pub types: [TypeReport; SegmentId::COUNT],
    /// Pages of RAM.
    pub ram: RamReport,
    /// Buffers, those that are dying included.
    pub buffers: usize,
    /// Those that are pinned or swapped out.
    pub unevictable: usize,
    /// What was done.
    pub counters: Counters,
}

/// One line.
impl fmt::Display for TypeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Traffic {
            evictions,
            bytes_in,
            bytes_out,
            refused_full,
            refused_fragmented,
        } = self.traffic;
        write!(f, "{}: {} bytes", self.segment.name(), self.capacity)?;
        write!(f, ", clients {}, kernel {}", self.clients, self.kernel)?;
        write!(f, ", free {} (in use {},", self.free, self.fenced)?;
        write!(f, " longest run {})", self.longest_free_run)?;
        write!(f, ", pinned {}, dying {}", self.pinned, self.dying)?;
        write!(f, ", may leave {:?}, left {evictions}", self.evictable)?;
        write!(f, ", bytes in {bytes_in} and out {bytes_out}")?;
        write!(f, ", refused: full {refused_full}")?;
        write!(f, ", fragmented {refused_fragmented}")
    }
}

/// A line for each memory type, one for RAM, one for what was done.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for it in &self.types {
            writeln!(f, "{it}")?;
        }
        let RamReport {
            clients,
            kernel,
            limit,
            pooled,
            pool_limit,
            swapped,
        } = self.ram;
        write!(
            f,
            "pages of RAM: clients {clients}, kernel {kernel} of {limit}"
        )?;
        writeln!(f, ", pool {pooled} of {pool_limit}, swapped out {swapped}")?;
        let done = self.counters;
        write!(f, "buffers {}, {} stay", self.buffers, self.unevictable)?;
        write!(
            f,
            "; moves: null {}, clears {}",
            done.null_moves, done.clears
        )?;
        write!(f, ", copies {}, stops {}", done.copies, done.stops)?;
        write!(f, "; faults {} of {} pages", done.faults, done.mapped_pages)?;
        write!(f, "; back-offs {}", done.back_offs)?;
        write!(f, "; longest wait {} ns", done.longest_wait_ns)?;
        write!(f, "; pages promoted {}", done.promoted_pages)?;
        writeln!(f, ", thrashed {}", done.thrashed_pages)
    }
}

impl<W: World + 'static> Mm<W> {
    /// All figures. It looks at every buffer: for people, not for every job.
    pub fn report(&self) -> Report {
        let pool = self.world.ram().pool();
        let (pooled, pool_limit) = pool.with(|pool| (pool.pages() as u64, pool.limit() as u64));
        self.state.with(|state| Report {
            types: SegmentId::TYPES.map(|segment| state.type_report(segment)),
            ram: RamReport {
                pooled,
                pool_limit,
                limit: state.ram_limit as u64,
                ..state.ram_report()
            },
            buffers: state.objects.len(),
            unevictable: state.lru.unevictable(),
            counters: state.counters,
        })
    }
}

impl<W: World + 'static> State<W> {
    pub(super) fn type_report(&self, segment: SegmentId) -> TypeReport {
        let sum = |which: fn(&Object<W>) -> bool| {
            let all = self.objects.iter().filter(|(_, object)| which(object));
            let rooms = all.filter_map(|(_, object)| object.resource.as_ref());
            let here = rooms.filter(|room| room.segment() == segment);
            here.map(|room| room.bytes()).sum()
        };
        let usage = self.manager(segment).usage();
        let free = self.free_stats(segment);
        let bytes = |pages: u64| pages.saturating_mul(PAGE_SIZE);
        let all = self.accounts.clients(segment);
        TypeReport {
            segment,
            capacity: free.map_or(usage, |_| self.manager(segment).capacity()),
            clients: all.map(|(_, balance)| balance.booked).sum(),
            kernel: self.accounts.kernel(segment),
            free: free.map_or(0, |free| bytes(free.avail)),
            fenced: free.map_or(0, |free| bytes(free.fenced)),
            longest_free_run: free.map_or(0, |free| bytes(free.largest_free_run)),
            pinned: sum(|object| object.pins > 0),
            dying: sum(|object| object.dying),
            evictable: self.lru.lengths(segment as usize).unwrap_or_default(),
            traffic: self.traffic[segment as usize],
        }
    }

    fn ram_report(&self) -> RamReport {
        let mut ram = RamReport::default();
        for (_, object) in self.objects.iter() {
            let held = object.all_held() as u64;
            let stored = object.vector.as_ref().map_or(0, PageVector::stored);
            ram.swapped += stored as u64;
            let room = object.resource.as_ref();
            match room.and_then(Room::owner) {
                Some(_) => ram.clients += held,
                None => ram.kernel += held,
            }
        }
        ram
    }
}
