//! Twice as much as local memory holds, used over and over: what the GPU copies for it,
//! against what least-recently-used needs at least.
#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use presil_device::{Chip, Config};
use presil_tests::manager::Managed;
use std::collections::{HashSet, VecDeque};
use vidmm::placement::{Flags, Place};
use vidmm::vm::SpaceId;
use vidmm::{Blit, BoId, Options, SegmentId};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// Pages of local memory that are left for the buffers.
const LOCAL: u64 = 12 * MIB / PAGE;
/// Pages of the buffers, in turn.
const SIZES: [u64; 4] = [512, 128, 384, 256];
const VISIBLE: SegmentId = SegmentId::LocalVisible;

/// A buffer, in a process of its own.
struct Buffer {
    space: SpaceId,
    bo: BoId,
    pages: u64,
}

/// Local memory as a list: nobody leaves but the one that was used least recently, and
/// only when there is no room.
#[derive(Default)]
struct Optimum {
    here: VecDeque<usize>,
    pages: u64,
    before: HashSet<usize>,
    moved_pages: u64,
}

impl Optimum {
    fn uses(&mut self, n: usize, buffers: &[Buffer]) {
        if let Some(at) = self.here.iter().position(|here| *here == n) {
            self.here.remove(at);
        } else {
            while self.pages + buffers[n].pages > LOCAL {
                let leaves = buffers[self.here.pop_front().unwrap()].pages;
                self.pages -= leaves;
                self.moved_pages += leaves;
            }
            self.pages += buffers[n].pages;
            // The first time there is nothing to bring.
            if !self.before.insert(n) {
                self.moved_pages += buffers[n].pages;
            }
        }
        self.here.push_back(n);
    }
}

/// A GPU of whose local memory everything but [`LOCAL`] is pinned, and buffers of twice
/// as much.
fn set_up() -> (Managed, Vec<Buffer>) {
    let config = Config::new(Chip::Arise10c0, 256 * MIB, 32 * MIB, true).unwrap();
    let options = Options {
        snoop_bytes: 64 * MIB,
        unsnoop_bytes: 64 * MIB,
        ..Options::default()
    };
    let gpu = Managed::new(&config, options).unwrap();
    let mm = &gpu.mm;
    for (segment, left) in [(VISIBLE, LOCAL), (SegmentId::LocalInvisible, 0)] {
        let free = mm.report().types[segment as usize].free / PAGE;
        let taken = gpu
            .create(free - left, &[Place::anywhere(segment, Flags::NONE)])
            .unwrap();
        let reservation = mm.reservation(taken).unwrap();
        gpu.with(|set| {
            set.lock(&reservation, 1)?;
            mm.pin(set, taken)
        })
        .unwrap();
    }
    let world = mm.world();
    let mut buffers = Vec::new();
    let mut sizes = SIZES.into_iter().cycle();
    while buffers.iter().map(|it: &Buffer| it.pages).sum::<u64>() < 2 * LOCAL {
        let pages = sizes.next().unwrap();
        let space = world.start_process(&gpu.mm).unwrap();
        let bo = gpu.create(pages, &[]).unwrap();
        let at = world.private_zone();
        world
            .map(mm, space, at, pages * PAGE, (bo, 0), &Managed::ctx())
            .unwrap();
        buffers.push(Buffer { space, bo, pages });
    }
    gpu.run();
    (gpu, buffers)
}

/// A job that needs the buffer in local memory: it writes the page of this round.
fn uses(gpu: &Managed, buffer: &Buffer, page: u64, pattern: u32) {
    let (mm, world) = (&gpu.mm, gpu.mm.world());
    let fill = Blit::Fill {
        at: world.private_zone().add(page * PAGE),
        bytes: PAGE,
        pattern,
    };
    let places = [Place::anywhere(VISIBLE, Flags::NONE)];
    world
        .run(
            mm,
            buffer.space,
            vec![fill],
            &mut Managed::ctx(),
            |set, bo, ctx| mm.validate(set, bo, &places, ctx),
        )
        .unwrap();
    // What was read is free for others.
    gpu.run();
    mm.reap();
}

/// What the GPU has copied for these uses, and what it had to, in pages.
fn copied(pattern: impl Fn(usize, usize) -> Vec<usize>) -> (u64, u64) {
    const ROUNDS: usize = 4;
    let (gpu, buffers) = set_up();
    let mm = &gpu.mm;
    let before = (gpu.bytes_copied(), mm.report());
    let mut optimum = Optimum::default();
    let mut last = vec![[0; ROUNDS]; buffers.len()];
    let mut number = 0;
    let all = (0..ROUNDS).flat_map(|round| {
        let in_turn = pattern(buffers.len(), round).into_iter();
        in_turn.map(move |n| (round, n))
    });
    for (round, n) in all {
        number += 1;
        last[n][round] = number;
        optimum.uses(n, &buffers);
        uses(&gpu, &buffers[n], round as u64, number);
    }
    let copied = gpu.bytes_copied() - before.0;
    // All that has moved the GPU has copied, and nothing went twice.
    let traffic = |segment: SegmentId| {
        let [now, then] = [mm.report(), before.1].map(|it| it.types[segment as usize].traffic);
        (
            now.bytes_in - then.bytes_in,
            now.bytes_out - then.bytes_out,
            now.evictions - then.evictions,
        )
    };
    let (bytes_in, bytes_out, evictions) = traffic(VISIBLE);
    let came_first: u64 = optimum.before.iter().map(|n| buffers[*n].pages).sum();
    assert_eq!(copied, bytes_in - came_first * PAGE + bytes_out);
    assert!(evictions > buffers.len() as u64, "{evictions}");
    for segment in [SegmentId::LocalInvisible, SegmentId::System] {
        assert_eq!(traffic(segment), (0, 0, 0), "{segment:?}");
    }
    assert_eq!(mm.report().counters.stops, before.1.counters.stops);
    for (buffer, last) in buffers.iter().zip(&last) {
        let words = gpu.words(buffer.bo).unwrap();
        assert_eq!(words[..ROUNDS], *last);
    }
    assert_eq!(gpu.machine.ram().violations(), [""; 0]);
    (copied / PAGE, optimum.moved_pages)
}

fn assert_near(uses: &str, (copied, optimum): (u64, u64)) {
    assert!(optimum > 2 * LOCAL, "{uses}: it is a load, {optimum} pages");
    assert!(
        copied * 10 <= optimum * 12,
        "{uses}: {copied} pages copied, {optimum} were needed"
    );
}

#[test]
fn a_stream_of_twice_local_memory_moves_what_least_recently_used_must() {
    let stream = |buffers: usize, _| (0..buffers).collect();
    assert_near("one after the other", copied(stream));
    // Every second use is of a small set, which stays.
    let hot = |buffers: usize, _| (0..buffers).flat_map(|n| [n, n % 2]).collect();
    assert_near("with a set that stays", copied(hot));
    // In no order, another in each round.
    let scattered = |buffers: usize, round: usize| {
        let mut state = 7 + round as u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % buffers
        };
        (0..buffers).map(|_| next()).collect()
    };
    assert_near("in no order", copied(scattered));
}
