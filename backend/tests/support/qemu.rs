//! A stand-in for QEMU: the vhost-user messages it sends, in its order.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Instant;

use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserMMap};
use vhost::vhost_user::{
    Frontend, FrontendReqHandler, HandlerResult, VhostUserFrontend, VhostUserFrontendReqHandler,
};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::PATIENCE;
use super::guest::{Guest, QUEUE_SIZE, RAM_BYTES, Ring};

/// Where guest memory is in the address space of the process we pretend to be.
const OUR_ADDRESS: u64 = 0x7000_0000_0000;
/// Guest-physical address of the VRAM window.
pub const WINDOW_AT: u64 = 0x10_0000_0000;

/// A request to map, as QEMU sees it.
pub struct Map {
    pub len: u64,
    pub file_offset: u64,
    pub window_offset: u64,
    pub flags: u64,
    pub file: File,
}

impl Map {
    /// Writes VRAM as the guest's CPU would through the window.
    pub fn write(&self, at: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, at).unwrap();
    }

    pub fn read(&self, at: u64, bytes: usize) -> Vec<u8> {
        let mut buf = vec![0; bytes];
        self.file.read_exact_at(&mut buf, at).unwrap();
        buf
    }
}

struct Mapper {
    maps: Sender<Map>,
    /// Answers only when told to by `release`, as a busy QEMU does.
    held: Arc<AtomicBool>,
    release: std::sync::Mutex<Receiver<()>>,
    refuse: Arc<AtomicBool>,
}

impl VhostUserFrontendReqHandler for Mapper {
    fn shmem_map(&self, request: &VhostUserMMap, fd: &dyn AsRawFd) -> HandlerResult<u64> {
        // SAFETY: the caller keeps the descriptor open during this call.
        let fd = unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) };
        let map = Map {
            len: request.len,
            file_offset: request.fd_offset,
            window_offset: request.shm_offset,
            flags: request.flags,
            file: File::from(fd.try_clone_to_owned()?),
        };
        self.maps.send(map).map_err(io::Error::other)?;
        if self.held.load(Ordering::SeqCst) {
            let release = self.release.lock().expect("one thread");
            release.recv().map_err(io::Error::other)?;
        }
        if self.refuse.load(Ordering::SeqCst) {
            return Err(io::Error::other("refused on purpose"));
        }
        Ok(0)
    }
}

struct Fd(RawFd);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

/// Ends the thread that takes requests: it has the other end itself, too.
pub struct Channel(OwnedFd);

impl Drop for Channel {
    fn drop(&mut self) {
        // The server may have ended it.
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }
}

/// Gives the server a socket to ask at, and answers there.
fn lend_channel(frontend: &mut Frontend, mapper: Arc<Mapper>) -> Channel {
    let mut requests = FrontendReqHandler::new(mapper).unwrap();
    requests.set_reply_ack_flag(true);
    frontend
        .set_backend_request_fd(&Fd(requests.get_tx_raw_fd()))
        .unwrap();
    // SAFETY: `requests` is there and owns it.
    let socket = unsafe { BorrowedFd::borrow_raw(requests.as_raw_fd()) };
    let channel = Channel(socket.try_clone_to_owned().unwrap());
    std::thread::spawn(move || {
        // A refused map is an error of the handler, not of the channel.
        loop {
            match requests.handle_request() {
                Ok(_) | Err(vhost::vhost_user::Error::ReqHandlerError(_)) => {}
                Err(_) => return,
            }
        }
    });
    channel
}

/// One QEMU, attached.
pub struct Qemu {
    pub frontend: Frontend,
    pub features: u64,
    pub protocol_features: u64,
    pub guest: Guest,
    pub maps: Receiver<Map>,
    pub hold_maps: Arc<AtomicBool>,
    pub refuse_maps: Arc<AtomicBool>,
    pub release_map: Sender<()>,
    /// Where the server's requests come in, as long as it is not dropped.
    pub channel: Channel,
    mapper: Arc<Mapper>,
    kicks: [EventFd; 2],
    calls: [EventFd; 2],
    /// The configuration space as it was last read or written.
    blob: [u8; 256],
}

impl Qemu {
    /// Connects and negotiates as QEMU does when its device is created.
    pub fn attach(socket: &Path) -> Self {
        let mut frontend = Frontend::connect(socket, 2).unwrap();
        let features = frontend.get_features().unwrap();
        let protocol_features = frontend.get_protocol_features().unwrap();
        frontend.set_protocol_features(protocol_features).unwrap();
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        assert_eq!(frontend.get_queue_num().unwrap(), 2);

        let (maps_in, maps) = mpsc::channel();
        let (release_map, release) = mpsc::channel();
        let hold_maps = Arc::new(AtomicBool::new(false));
        let refuse_maps = Arc::new(AtomicBool::new(false));
        let mapper = Arc::new(Mapper {
            maps: maps_in,
            held: Arc::clone(&hold_maps),
            release: release.into(),
            refuse: Arc::clone(&refuse_maps),
        });
        let channel = lend_channel(&mut frontend, Arc::clone(&mapper));
        frontend.set_owner().unwrap();
        let event = || EventFd::new(EFD_NONBLOCK).unwrap();
        Self {
            frontend,
            features,
            protocol_features: protocol_features.bits(),
            guest: Guest::new(),
            maps,
            hold_maps,
            refuse_maps,
            release_map,
            channel,
            mapper,
            kicks: [event(), event()],
            calls: [event(), event()],
            blob: [0; 256],
        }
    }

    /// What QEMU says when its device was taken away and another is added on the
    /// same chardev.
    pub fn readd(&mut self) {
        assert_eq!(self.frontend.get_features().unwrap(), self.features);
        self.channel = lend_channel(&mut self.frontend, Arc::clone(&self.mapper));
        self.frontend.set_owner().unwrap();
        self.blob = [0; 256];
    }

    /// The guest sets `DRIVER_OK` with empty queues: start, and wait for READY.
    pub fn start(&mut self) -> Map {
        self.guest.reset();
        self.begin();
        self.set_memory(None);
        self.start_queues();
        let map = self
            .maps
            .recv_timeout(PATIENCE)
            .expect("a map is asked for");
        self.await_ready();
        map
    }

    /// The first message of a start.
    pub fn begin(&mut self) {
        self.frontend.set_features(self.features).unwrap();
    }

    /// The memory table: RAM and, where QEMU has it mapped, the VRAM window.
    pub fn set_memory(&mut self, window: Option<&Map>) {
        let mut regions = vec![self.ram()];
        if let Some(map) = window {
            regions.push(VhostUserMemoryRegionInfo {
                guest_phys_addr: WINDOW_AT,
                memory_size: map.len,
                userspace_addr: OUR_ADDRESS + WINDOW_AT,
                mmap_offset: 0,
                mmap_handle: map.file.as_raw_fd(),
            });
        }
        self.frontend.set_mem_table(&regions).unwrap();
    }

    /// RAM in that table.
    pub fn ram(&self) -> VhostUserMemoryRegionInfo {
        VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: RAM_BYTES,
            userspace_addr: OUR_ADDRESS,
            mmap_offset: 0,
            mmap_handle: self.guest.file().as_raw_fd(),
        }
    }

    pub fn start_queues(&mut self) {
        for queue in [0, 1] {
            let ring = Ring::of(queue);
            let config = VringConfigData {
                queue_max_size: 1024,
                queue_size: QUEUE_SIZE,
                flags: 0,
                desc_table_addr: OUR_ADDRESS + ring.table,
                used_ring_addr: OUR_ADDRESS + ring.used,
                avail_ring_addr: OUR_ADDRESS + ring.available,
                log_addr: None,
            };
            self.frontend.set_vring_num(queue, QUEUE_SIZE).unwrap();
            self.frontend
                .set_vring_base(queue, self.guest.base(queue))
                .unwrap();
            self.frontend.set_vring_addr(queue, &config).unwrap();
            self.frontend
                .set_vring_kick(queue, &self.kicks[queue])
                .unwrap();
            self.frontend
                .set_vring_call(queue, &self.calls[queue])
                .unwrap();
        }
        for queue in [0, 1] {
            self.frontend.set_vring_enable(queue, true).unwrap();
        }
    }

    /// A reset, or the pause of the whole VM.
    pub fn stop(&mut self) {
        for queue in [0, 1] {
            self.frontend.set_vring_enable(queue, false).unwrap();
        }
        for queue in [0, 1] {
            let base = self.frontend.get_vring_base(queue).unwrap();
            self.guest.set_base(queue, u16::try_from(base).unwrap());
        }
    }

    pub fn config(&mut self) -> Vec<u8> {
        let flags = VhostUserConfigFlags::empty();
        let blob = self
            .frontend
            .get_config(0, 256, flags, &[0; 256])
            .unwrap()
            .1;
        self.blob.copy_from_slice(&blob);
        blob
    }

    /// The guest writes a word of the configuration space: all of it is sent.
    pub fn set_config_word(&mut self, at: usize, value: u32) {
        self.blob[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self.frontend
            .set_config(0, VhostUserConfigFlags::empty(), &self.blob)
            .unwrap();
    }

    pub fn ready(&mut self) -> u32 {
        u32::from_le_bytes(self.config()[0x0C..0x10].try_into().unwrap())
    }

    /// Polls READY as a driver does; its epoch.
    pub fn await_ready(&mut self) -> u32 {
        let end = Instant::now() + PATIENCE;
        loop {
            let ready = self.ready();
            if ready != 0 {
                return ready;
            }
            assert!(Instant::now() < end, "READY stays 0");
        }
    }

    pub fn kick(&self, queue: usize) {
        self.kicks[queue].write(1).unwrap();
    }

    /// Waits for a call of `queue` until it has `used` used elements in all.
    pub fn await_used(&self, queue: usize, used: u16) {
        let end = Instant::now() + PATIENCE;
        while self.guest.used_index(queue) != used {
            assert!(
                Instant::now() < end,
                "queue {queue}: {used} elements are not used"
            );
            self.await_call(queue);
        }
    }

    fn await_call(&self, queue: usize) {
        let call = &self.calls[queue];
        // SAFETY: `call` is open as long as this borrow.
        let fd = unsafe { BorrowedFd::borrow_raw(call.as_raw_fd()) };
        let mut polled = [rustix::event::PollFd::from_borrowed_fd(
            fd,
            rustix::event::PollFlags::IN,
        )];
        let time = rustix::event::Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        rustix::event::poll(&mut polled, Some(&time)).unwrap();
        // Nothing to read means that the second is over.
        let _ = call.read();
    }

    /// Calls of `queue` that nobody has looked at.
    pub fn was_called(&self, queue: usize) -> bool {
        self.calls[queue].read().is_ok()
    }

    /// Serves one chain of `queue`; bytes used.
    pub fn exchange(&mut self, queue: usize, chain: &[super::guest::Buffer]) -> u32 {
        let used = self.guest.offer(queue, chain);
        self.kick(queue);
        self.await_used(queue, used);
        self.guest.used_bytes(queue, used)
    }
}
