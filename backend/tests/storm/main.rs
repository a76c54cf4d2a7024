//! Clients that say anything, one after another, at the door of a running
//! server, and a well-behaved one beside them at another door of the same
//! process: it must not notice, and nothing of theirs may stay behind.
//!
//! `PRESIL_STORM_SECONDS` makes a storm last so long (else it has [`SESSIONS`]
//! sessions), `PRESIL_STORM_SEED` repeats one. `scripts/fuzz doors SECONDS` sets
//! the first.
#![allow(
    clippy::expect_used,
    clippy::similar_names,
    reason = "a test fails by panicking; a ring is not an rng"
)]

#[path = "../support/mod.rs"]
mod support;

mod line;
mod vfio_grammar;
mod vhost_grammar;

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use e3k_regs::Reg;
use fastrand::Rng;
use support::qemu::Qemu;
use support::server::Server;
use support::vfio::Client;

/// Sessions of a storm that is not told how long to last.
const SESSIONS: u64 = 600;

/// How long a storm lasts.
enum Length {
    Sessions(u64),
    Until(Instant),
}

impl Length {
    fn from_environment() -> Self {
        std::env::var("PRESIL_STORM_SECONDS").map_or(Self::Sessions(SESSIONS), |seconds| {
            let seconds = seconds.parse().expect("PRESIL_STORM_SECONDS is a number");
            Self::Until(Instant::now() + Duration::from_secs(seconds))
        })
    }

    fn is_over(&self, sessions: u64) -> bool {
        match self {
            Self::Sessions(all) => sessions >= *all,
            Self::Until(end) => Instant::now() >= *end,
        }
    }
}

/// What a process has.
#[derive(Debug)]
struct Belongings {
    files: usize,
    threads: usize,
    mappings: usize,
    /// Anonymous memory in use, in KiB.
    anonymous: usize,
    /// Address space, in KiB.
    address_space: usize,
}

impl Belongings {
    fn of(pid: u32) -> Self {
        let folder = Path::new("/proc").join(pid.to_string());
        let entries = |name| fs::read_dir(folder.join(name)).expect("it runs").count();
        let status = fs::read_to_string(folder.join("status")).expect("it runs");
        let field = |name: &str| -> usize {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number.expect(name).parse().expect(name)
        };
        let maps = fs::read_to_string(folder.join("maps")).expect("it runs");
        Self {
            files: entries("fd"),
            threads: entries("task"),
            mappings: maps.lines().count(),
            anonymous: field("RssAnon:"),
            address_space: field("VmSize:"),
        }
    }

    /// Whether nothing was kept. An allocator keeps arenas of threads that once
    /// ran (64 MiB of addresses and a few mappings each, eight for each processor
    /// at most), so these have room; what a storm's sessions lend and make is
    /// many times that.
    fn is_like(&self, before: &Self) -> bool {
        self.files <= before.files
            && self.threads <= before.threads
            && self.mappings <= before.mappings + 64
            && self.anonymous <= before.anonymous + (64 << 10)
            && self.address_space <= before.address_space + (4 << 20)
    }
}

/// Somebody who uses the other GPU as one should.
struct Neighbour {
    client: Client,
    turn: u32,
}

impl Neighbour {
    fn at(socket: &Path) -> Self {
        let mut client = Client::new(UnixStream::connect(socket).expect("it listens"));
        client.greet();
        // Registers answer from here on.
        client.set_config(4, 2, 2);
        Self { client, turn: 0 }
    }

    /// Whether its GPU still does what it is told.
    fn check(&mut self) {
        self.turn += 1;
        let value = self.turn << 4 & 0x0FFF_FFF0;
        self.client.write(Reg::PtInvAddr.offset(), value);
        assert_eq!(self.client.read(Reg::PtInvAddr.offset()), value);
    }
}

/// One storm of sessions at a `server`'s first door; `visit` comes there as one should.
fn storm<V>(server: &mut Server, session: fn(&mut Rng, &Path), visit: fn(&Path) -> V) {
    let seed = std::env::var("PRESIL_STORM_SEED").ok();
    let seed = seed.map_or(0x5EED, |seed| {
        seed.parse().expect("PRESIL_STORM_SEED is a number")
    });
    let length = Length::from_environment();
    let mut neighbour = Neighbour::at(&server.dir.path().join("other"));
    // With one guest that is served: a door that nobody is at yet may not be ready.
    let visitor = visit(&server.socket());
    let before = Belongings::of(server.pid());
    drop(visitor);
    let mut sessions = 0;
    while !length.is_over(sessions) {
        let mut rng = Rng::with_seed(seed + sessions);
        // What repeats a session that fails.
        println!("session {sessions}: PRESIL_STORM_SEED={}", seed + sessions);
        session(&mut rng, &server.socket());
        neighbour.check();
        assert!(server.is_running());
        sessions += 1;
    }
    println!("{sessions} sessions; before: {before:?}");
    let end = Instant::now() + support::PATIENCE;
    loop {
        let now = Belongings::of(server.pid());
        if now.is_like(&before) {
            break;
        }
        assert!(Instant::now() < end, "it keeps {now:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    neighbour.check();
}

const OPTIONS: [&str; 7] = [
    "--keep",
    "--vram",
    "1G",
    "--visible",
    "256M",
    "--vfio-user",
    "other",
];

#[test]
fn a_storm_at_the_vfio_user_door_leaves_nothing_behind() {
    let visit = |socket: &Path| Neighbour::at(socket);
    storm(
        &mut Server::start_pci(&OPTIONS),
        vfio_grammar::session,
        visit,
    );
}

#[test]
fn a_storm_at_the_vhost_user_door_leaves_nothing_behind() {
    let visit = |socket: &Path| {
        let mut qemu = Qemu::attach(socket);
        qemu.start();
        qemu
    };
    storm(&mut Server::start(&OPTIONS), vhost_grammar::session, visit);
}
