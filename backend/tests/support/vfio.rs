//! A vfio-user client of our own, and the door it talks to in this process.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use e3k_regs::fields::RingWord;
use e3k_regs::packet::Writer;
use e3k_regs::{GpuVa, Reg};
use presil::doors::pci::Identity;
use presil::doors::vfio_user::{Door, VfioUserCounters};
use presil::shared_gpu::SharedGpu;
use presil_device::{Chip, Config, Defect, Defects};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::{PATIENCE, gpu};

pub const VERSION: u16 = 1;
pub const DMA_MAP: u16 = 2;
pub const DMA_UNMAP: u16 = 3;
pub const DEVICE_INFO: u16 = 4;
pub const REGION_INFO: u16 = 5;
pub const IRQ_INFO: u16 = 7;
pub const SET_IRQS: u16 = 8;
pub const REGION_READ: u16 = 9;
pub const REGION_WRITE: u16 = 10;
pub const RESET: u16 = 13;

pub const NO_REPLY: u32 = 1 << 4;

pub const BAR0: u32 = 0;
pub const BAR1: u32 = 1;
pub const CONFIG: u32 = 7;
pub const INTX: u32 = 0;
pub const MSI: u32 = 1;

/// Bytes of the guest's RAM, and the file that a client lends.
pub const RAM_BYTES: u64 = 4 << 20;

pub const EINVAL: i32 = 22;
pub const EEXIST: i32 = 17;
pub const ENOTSUP: i32 = 95;

/// Numbers as a message has them.
pub fn body(u32s: &[u32], u64s: &[u64]) -> Vec<u8> {
    let mut raw: Vec<u8> = u32s.iter().flat_map(|value| value.to_ne_bytes()).collect();
    raw.extend(u64s.iter().flat_map(|value| value.to_ne_bytes()));
    raw
}

pub fn access(region: u32, offset: u64, count: u32) -> Vec<u8> {
    let mut raw = offset.to_ne_bytes().to_vec();
    raw.extend(body(&[region, count], &[]));
    raw
}

pub fn version(major: u16, minor: u16, text: &[u8]) -> Vec<u8> {
    [&major.to_ne_bytes()[..], &minor.to_ne_bytes(), text].concat()
}

pub fn message(id: u16, command: u16, flags: u32, body: &[u8]) -> Vec<u8> {
    let bytes = 16 + u32::try_from(body.len()).unwrap();
    let mut raw = [id.to_ne_bytes(), command.to_ne_bytes()].concat();
    for field in [bytes, flags, 0] {
        raw.extend(field.to_ne_bytes());
    }
    raw.extend(body);
    raw
}

/// What the server answers.
#[derive(Debug)]
pub struct Reply {
    pub id: u16,
    pub command: u16,
    pub error: Option<i32>,
    pub body: Vec<u8>,
    pub fd: Option<OwnedFd>,
}

/// One client.
pub struct Client {
    pub stream: UnixStream,
    next_id: u16,
}

impl Client {
    pub fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, next_id: 7 }
    }

    pub fn send(&self, raw: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let slices = [IoSlice::new(raw)];
        let sent = sendmsg(&self.stream, &slices, &mut control, SendFlags::NOSIGNAL).unwrap();
        assert_eq!(sent, raw.len());
    }

    /// `None` when the server has hung up.
    pub fn receive(&self) -> Option<Reply> {
        let mut fd = None;
        let header = self.take(16, &mut fd)?;
        let u32_at = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
        let u16_at = |at: usize| u16::from_ne_bytes(header[at..at + 2].try_into().unwrap());
        let flags = u32_at(8);
        assert_eq!(flags & 0xF, 1, "a reply: {header:x?}");
        let bytes = usize::try_from(u32_at(4)).unwrap() - 16;
        let body = self.take(bytes, &mut fd).unwrap();
        let error = (flags & 0x20 != 0).then(|| i32::try_from(u32_at(12)).unwrap());
        assert!(error.is_none() || body.is_empty(), "an error has no body");
        Some(Reply {
            id: u16_at(0),
            command: u16_at(2),
            error,
            body,
            fd,
        })
    }

    fn take(&self, bytes: usize, fd: &mut Option<OwnedFd>) -> Option<Vec<u8>> {
        let mut raw = vec![0; bytes];
        let mut done = 0;
        while done < bytes {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut slices = [IoSliceMut::new(&mut raw[done..])];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let got = match recvmsg(&self.stream, &mut slices, &mut control, flags) {
                Ok(got) => got.bytes,
                Err(rustix::io::Errno::CONNRESET) => 0,
                Err(error) => panic!("no reply: {error}"),
            };
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    fd.get_or_insert(fds.last().unwrap());
                }
            }
            if got == 0 {
                assert_eq!(done, 0, "hung up inside a reply");
                return None;
            }
            done += got;
        }
        Some(raw)
    }

    /// One command and its reply, checked to belong together.
    pub fn ask(&mut self, command: u16, body: &[u8], fds: &[BorrowedFd<'_>]) -> Reply {
        self.next_id = self.next_id.wrapping_add(1);
        self.send(&message(self.next_id, command, 0, body), fds);
        let reply = self.receive().expect("a reply");
        assert_eq!((reply.id, reply.command), (self.next_id, command));
        reply
    }

    /// The same where only success or the errno counts.
    pub fn call(
        &mut self,
        command: u16,
        body: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<Vec<u8>, i32> {
        let reply = self.ask(command, body, fds);
        reply.error.map_or(Ok(reply.body), Err)
    }

    pub fn greet(&mut self) {
        let text = b"{\"capabilities\":{\"max_msg_fds\":8}}\0";
        let reply = self.call(VERSION, &version(0, 0, text), &[]).unwrap();
        assert_eq!(reply[..4], [0; 4]);
    }

    pub fn read_region(&mut self, region: u32, offset: u64, count: u32) -> Result<Vec<u8>, i32> {
        let reply = self.call(REGION_READ, &access(region, offset, count), &[])?;
        assert_eq!(reply[..16], access(region, offset, count));
        assert_eq!(reply.len(), 16 + count as usize);
        Ok(reply[16..].to_vec())
    }

    pub fn write_region(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), i32> {
        let count = u32::try_from(data.len()).unwrap();
        let request = [&access(region, offset, count), data].concat();
        let reply = self.call(REGION_WRITE, &request, &[])?;
        assert_eq!(reply, access(region, offset, count));
        Ok(())
    }

    pub fn dma_map(
        &mut self,
        flags: u32,
        offset: u64,
        at: u64,
        bytes: u64,
        file: Option<&File>,
    ) -> Result<(), i32> {
        let request = body(&[32, flags], &[offset, at, bytes]);
        let fds: Vec<_> = file.iter().map(|file| file.as_fd()).collect();
        self.call(DMA_MAP, &request, &fds)
            .map(|reply| assert!(reply.is_empty()))
    }

    pub fn dma_unmap(&mut self, flags: u32, at: u64, bytes: u64) -> Result<(), i32> {
        let request = body(&[24, flags], &[at, bytes]);
        let reply = self.call(DMA_UNMAP, &request, &[])?;
        assert_eq!(reply, request);
        Ok(())
    }

    pub fn set_irqs(
        &mut self,
        flags: u32,
        index: u32,
        count: u32,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), i32> {
        self.call(SET_IRQS, &body(&[20, flags, index, 0, count], &[]), fds)
            .map(|_| ())
    }

    pub fn config(&mut self, at: u64, bytes: u32) -> u32 {
        let mut raw = self.read_region(CONFIG, at, bytes).unwrap();
        raw.resize(4, 0);
        u32::from_le_bytes(raw.try_into().unwrap())
    }

    pub fn set_config(&mut self, at: u64, bytes: usize, value: u32) {
        self.write_region(CONFIG, at, &value.to_le_bytes()[..bytes])
            .unwrap();
    }

    pub fn read(&mut self, offset: u32) -> u32 {
        let raw = self.read_region(BAR0, offset.into(), 4).unwrap();
        u32::from_le_bytes(raw.try_into().unwrap())
    }

    pub fn write(&mut self, offset: u32, value: u32) {
        self.write_region(BAR0, offset.into(), &value.to_le_bytes())
            .unwrap();
    }
}

/// A memfd of this size.
pub fn memory(bytes: u64) -> File {
    let fd = memfd_create("ram", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&fd, bytes).unwrap();
    File::from(fd)
}

/// What a client is told interrupts by.
pub struct Signal(OwnedFd);

impl Signal {
    pub fn new() -> Self {
        Self(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap())
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// How often it was told, since the last look.
    pub fn take(&self) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(&self.0, &mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(_) => 0,
        }
    }

    /// Waits to be told.
    pub fn wait(&self) -> u64 {
        let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
        let time = Timespec {
            tv_sec: i64::try_from(PATIENCE.as_secs()).unwrap(),
            tv_nsec: 0,
        };
        assert_eq!(poll(&mut polled, Some(&time)).unwrap(), 1, "no interrupt");
        self.take()
    }
}

/// A GPU behind its door, and a client that has said hello.
pub struct Rig {
    pub gpu: Arc<SharedGpu>,
    pub counters: Arc<VfioUserCounters>,
    pub client: Client,
    pub ram: File,
    pub vram: Option<File>,
    server: Option<JoinHandle<()>>,
}

fn config(chip: Chip) -> Config {
    Config::new(chip, 1 << 30, 512 << 20, false).unwrap()
}

impl Rig {
    pub fn new() -> Self {
        Self::with(Identity::default(), Chip::Arise10c0)
    }

    pub fn with(identity: Identity, chip: Chip) -> Self {
        Self::unacquainted(identity, chip).acquainted()
    }

    /// With a GPU that is broken.
    pub fn broken<const N: usize>(defects: [Defect; N]) -> Self {
        let mut config = config(Chip::Arise10c0);
        config.defects = Defects::from(defects);
        Self::of(Identity::default(), config).acquainted()
    }

    fn acquainted(self) -> Self {
        let mut rig = self;
        rig.client.greet();
        let info = rig
            .client
            .ask(REGION_INFO, &body(&[32, 0, BAR1, 0], &[0, 0]), &[]);
        rig.vram = info.fd.map(File::from);
        rig
    }

    /// A client that has said nothing yet.
    pub fn unacquainted(identity: Identity, chip: Chip) -> Self {
        Self::of(identity, config(chip))
    }

    fn of(identity: Identity, config: Config) -> Self {
        let gpu = SharedGpu::start(config).unwrap();
        let counters = Arc::<VfioUserCounters>::default();
        let (client, server) = connect(&gpu, &counters, identity);
        Self {
            gpu,
            counters,
            client,
            ram: memory(RAM_BYTES),
            vram: None,
            server: Some(server),
        }
    }

    /// The next client, when the last has left.
    pub fn reconnect(&mut self) {
        self.next_stranger();
        self.client.greet();
    }

    /// The next client, which has said nothing yet.
    pub fn next_stranger(&mut self) {
        self.await_end();
        let (client, server) = connect(&self.gpu, &self.counters, Identity::default());
        self.client = client;
        self.server = Some(server);
    }

    /// Waits until the server has hung up.
    pub fn await_end(&mut self) {
        let _ = self.client.stream.shutdown(std::net::Shutdown::Write);
        self.server
            .take()
            .expect("a server")
            .join()
            .expect("no panic");
    }

    /// What firmware and a driver do: memory, bus master, RAM, an MSI, tables, ring 0.
    pub fn bring_up(&mut self, signal: &Signal) {
        self.client
            .dma_map(3, 0, 0, RAM_BYTES, Some(&self.ram))
            .unwrap();
        self.client.set_config(4, 2, 6);
        self.client
            .set_irqs(4 | 32, MSI, 1, &[signal.fd()])
            .unwrap();
        self.client.set_config(0x4A, 2, 0x81);
        self.start_gpu();
    }

    pub fn start_gpu(&mut self) {
        for (at, bytes) in gpu::tables() {
            self.put_vram(at, &bytes);
        }
        for (offset, value) in gpu::set_up() {
            self.client.write(offset, value);
        }
    }

    pub fn put_vram(&self, at: u64, bytes: &[u8]) {
        self.vram.as_ref().unwrap().write_all_at(bytes, at).unwrap();
    }

    pub fn submit(&mut self, build: impl Fn(&mut Writer<'_>)) {
        let tail = self.client.read(RingWord::Tail.offset(0));
        let raw = gpu::packets(build);
        self.put_vram(gpu::RING_AT + u64::from(tail), &raw);
        let end = tail + u32::try_from(raw.len()).unwrap();
        assert!(end < gpu::RING_BYTES, "these tests do not wrap");
        self.client.write(RingWord::Tail.offset(0), end);
    }

    /// Submits a fence to guest-physical address `at`, with an interrupt.
    pub fn submit_fence(&mut self, at: u64, value: u64) {
        self.submit(|writer| gpu::fence(writer, at, value, true));
    }

    pub fn ram_u64(&self, at: u64) -> u64 {
        let mut raw = [0; 8];
        self.ram.read_exact_at(&mut raw, at).unwrap();
        u64::from_le_bytes(raw)
    }

    /// Takes what has interrupted, as a handler does.
    pub fn latch(&mut self) -> u32 {
        self.client.write(Reg::BiuShadow.offset(), 0);
        self.client.read(Reg::AdvancedShadow.offset())
    }

    /// The last fault's sentence.
    pub fn last_fault(&self) -> String {
        let fault = self.gpu.enter().run(|gpu| gpu.faults().last().cloned());
        fault.unwrap().expect("a fault").to_string()
    }

    pub fn until_idle(&self) {
        until("the GPU's rest", || {
            !self.gpu.enter().run(|gpu| gpu.has_work()).unwrap()
        });
    }
}

/// Where [`fill_ram_for_long`] fills, and how much.
const FILLED_AT: u64 = 0x20_0000;
const FILLED_BYTES: usize = 0x20_0000;

/// Keeps the GPU busy with 4 GiB of fills of RAM; returns when the first has begun.
pub fn fill_ram_for_long(rig: &mut Rig) {
    rig.submit(|writer| {
        for _ in 0..2000 {
            writer.surface(0, GpuVa(gpu::RAM_VA + FILLED_AT), 16384, 32);
            writer.clear(16384, 32, 0x1234_5678);
        }
    });
    until("the first fill's beginning", || {
        let mut word = [0; 4];
        rig.ram.read_exact_at(&mut word, FILLED_AT).unwrap();
        word == 0x1234_5678_u32.to_le_bytes()
    });
}

/// Whatever was to stop it has stopped it.
pub fn assert_untouched(rig: &Rig, why: &str) {
    // What an access in flight wrote is overwritten; a later one would show.
    let zeros = vec![0; FILLED_BYTES];
    rig.ram.write_all_at(&zeros, FILLED_AT).unwrap();
    let mut found = vec![1; FILLED_BYTES];
    for _ in 0..50 {
        std::thread::yield_now();
        rig.ram.read_exact_at(&mut found, FILLED_AT).unwrap();
        assert!(found == zeros, "{why}");
    }
}

/// Waits for what another thread does.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "{what} does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn connect(
    gpu: &Arc<SharedGpu>,
    counters: &Arc<VfioUserCounters>,
    identity: Identity,
) -> (Client, JoinHandle<()>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let door = Door {
        gpu: Arc::clone(gpu),
        presence: Arc::default(),
        counters: Arc::clone(counters),
        identity,
        is_watched: true,
    };
    let server = std::thread::spawn(move || door.serve(theirs));
    (Client::new(ours), server)
}
