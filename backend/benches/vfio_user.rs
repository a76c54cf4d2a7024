//! What a register access through the vfio-user door costs, beside the same
//! through the server of the crate `vfio_user`: `cargo bench -p presil`. One
//! client (the crate's), one GPU model; only who serves the socket differs.
//! Not run by the tests.
#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::unwrap_used, reason = "a benchmark may fail by panicking")]

mod support;

use std::fs::File;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use e3k_regs::Reg;
use presil::doors::pci::Identity;
use presil::doors::vfio_user::Door;
use presil::shared_gpu::SharedGpu;
use presil_device::{Chip, Config, Width};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use support::timing::measure;
use vfio_bindings::bindings::vfio;
use vfio_user::{Client, DmaMapFlags, DmaUnmapFlags, Server, ServerBackend, ServerRegion};

const BAR0: u32 = vfio::VFIO_PCI_BAR0_REGION_INDEX;
const CONFIG: u32 = vfio::VFIO_PCI_CONFIG_REGION_INDEX;
/// Stored, and without effect.
const REGISTER: Reg = Reg::EngineResetHigh;

fn gpu() -> Arc<SharedGpu> {
    let config = Config::new(Chip::Arise10c0, 1 << 30, 512 << 20, false).unwrap();
    SharedGpu::start(config).unwrap()
}

/// The GPU as a backend of the crate's server, with no more than registers.
struct Registers(Arc<SharedGpu>);

impl ServerBackend for Registers {
    fn region_read(&mut self, _: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        let offset = u32::try_from(offset).map_err(io::Error::other)?;
        let read = self.0.enter().run(|gpu| gpu.read(offset, Width::B4));
        let value = read.map_err(io::Error::other)?.to_le_bytes();
        data.copy_from_slice(&value[..4]);
        Ok(())
    }

    fn region_write(&mut self, _: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = u32::try_from(offset).map_err(io::Error::other)?;
        let value = u32::from_le_bytes(data.try_into().map_err(io::Error::other)?);
        let mut session = self.0.enter();
        let written = session.run(|gpu| gpu.write(offset, Width::B4, value.into()));
        written.map_err(io::Error::other)
    }

    fn dma_map(
        &mut self,
        _: DmaMapFlags,
        _: u64,
        _: u64,
        _: u64,
        _: Option<File>,
    ) -> io::Result<()> {
        Ok(())
    }

    fn dma_unmap(&mut self, _: DmaUnmapFlags, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn set_irqs(&mut self, _: u32, _: u32, _: u32, _: u32, _: Vec<File>) -> io::Result<()> {
        Ok(())
    }
}

/// Our server on a socket, on a core of its own choice.
fn serve_ours(path: &Path, core: usize) -> Client {
    let listener = UnixListener::bind(path).unwrap();
    let door = Door {
        gpu: gpu(),
        presence: Arc::default(),
        counters: Arc::default(),
        identity: Identity::default(),
        is_watched: false,
    };
    std::thread::spawn(move || {
        stay_on(core);
        door.serve(listener.accept().unwrap().0);
    });
    let mut client = Client::new(path).unwrap();
    // Memory enable: without it registers read all ones.
    client.region_write(CONFIG, 4, &[2, 0]).unwrap();
    client
}

fn serve_crates(path: &Path, core: usize) -> Client {
    let access = vfio::VFIO_REGION_INFO_FLAG_READ | vfio::VFIO_REGION_INFO_FLAG_WRITE;
    let bar0 = ServerRegion {
        region_info: vfio::vfio_region_info {
            argsz: u32::try_from(size_of::<vfio::vfio_region_info>()).unwrap(),
            flags: access,
            index: BAR0,
            size: e3k_regs::register::BAR0_BYTES.into(),
            ..Default::default()
        },
        sparse_areas: Vec::new(),
        mmap_fd: None,
    };
    let server = Server::new(path, true, Vec::new(), vec![bar0]).unwrap();
    let mut registers = Registers(gpu());
    std::thread::spawn(move || {
        stay_on(core);
        server.run(&mut registers).unwrap();
    });
    Client::new(path).unwrap()
}

fn stay_on(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).unwrap();
}

/// A read and a write of one register.
fn round_trips(
    group: &mut BenchmarkGroup<'_, WallTime>,
    who: &str,
    client: &mut Client,
) -> [Duration; 2] {
    let at = REGISTER.offset().into();
    let value = 0x1234_5678_u32.to_le_bytes();
    let write = measure(group, &format!("register write, {who}"), || {
        client.region_write(BAR0, at, &value).unwrap();
    });
    let mut read = [0; 4];
    let took = measure(group, &format!("register read, {who}"), || {
        client.region_read(BAR0, at, &mut read).unwrap();
    });
    assert_eq!(read, value, "what was written");
    [took, write]
}

fn servers(criterion: &mut Criterion) {
    let allowed = sched_getaffinity(None).unwrap();
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    let first = cores.next().unwrap();
    for (place, core) in [("same core", Some(first)), ("two cores", cores.next())] {
        let Some(core) = core else {
            println!("{place}: there is only one");
            continue;
        };
        stay_on(first);
        let directory = tempfile::tempdir().unwrap();
        let mut ours = serve_ours(&directory.path().join("ours"), core);
        let mut crates = serve_crates(&directory.path().join("crates"), core);
        let mut group = criterion.benchmark_group(format!("vfio-user, {place}"));
        let ours = round_trips(&mut group, "presil", &mut ours);
        let crates = round_trips(&mut group, "vfio_user 0.1.7", &mut crates);
        for ((what, ours), crates) in ["read", "write"].iter().zip(ours).zip(crates) {
            println!(
                "{place}: register {what} {ours:?}, {:.2} of the crate's {crates:?}",
                ours.div_duration_f64(crates)
            );
        }
    }
}

criterion_group!(benches, servers);
criterion_main!(benches);
