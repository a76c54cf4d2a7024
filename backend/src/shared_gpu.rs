//! The GPU as several threads share it: one fair lock, one engine thread.
//!
//! Whoever wants the GPU takes the turn first and the GPU second, and gives
//! the turn back as soon as it has the GPU. The engine does the same for each
//! slice of its work, so a register access waits at most for the slice that is
//! running, also when a ring never ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use presil_device::{Config, Gpu, NoInterrupts, Vram};

use crate::sigbus;
use crate::thread;

/// What the engine may spend before it lets others in ([`Gpu::step`]).
const SLICE: u32 = 64 << 10;

/// The model has failed and is gone; see [`SharedGpu`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the GPU is lost: the model failed, only a new presil process brings it back")]
pub struct Lost;

/// How a port takes interrupts to the guest now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Way {
    /// Its name.
    pub kind: &'static str,
    /// Why it takes none; `None`: it does.
    pub closed: Option<&'static str>,
}

/// Takes the GPU's interrupts to the guest.
pub trait InterruptPort: Send {
    /// An enabled interrupt source is waiting. Latches and sends it if the
    /// guest can take it, and else leaves it where it is: the port is asked
    /// again after the next access.
    fn deliver(&mut self, gpu: &mut Gpu);

    /// How it would take the interrupts of `gpu`, for whoever asks.
    fn way(&self, _gpu: &Gpu) -> Way {
        Way {
            kind: "a port",
            closed: None,
        }
    }
}

/// Sends whoever lent the guest's memory away, and says why: it was missing at this
/// address of this process. It must neither wait nor use the GPU.
pub(crate) type SendAway = Box<dyn Fn(usize) + Send>;

/// The GPU, shared by doors, the engine thread and the control socket.
///
/// A panic inside the model makes the GPU *lost*: it never runs again, every
/// [`Session::run`] answers [`Lost`], and the process lives on, because QEMU
/// would not survive its end.
pub struct SharedGpu {
    config: Config,
    turn: Mutex<()>,
    machine: Mutex<Machine>,
    work: Condvar,
    lost: AtomicBool,
    /// When the GPU's clock began.
    started: Instant,
    #[cfg(test)]
    slices: std::sync::atomic::AtomicU64,
}

struct Machine {
    gpu: Option<Gpu>,
    vram: Arc<Vram>,
    port: Option<Box<dyn InterruptPort>>,
    client: Option<SendAway>,
    /// The engine rests, whatever there is to do.
    held: bool,
    /// The engine's thread sleeps, and no clock will wake it.
    asleep: bool,
}

impl Machine {
    fn has_work(&self) -> bool {
        !self.held && self.gpu.as_ref().is_some_and(Gpu::has_work)
    }

    /// When the next enabled vertical blank is due, by the GPU's clock; `None`
    /// where nobody takes interrupts.
    fn next_vsync(&self) -> Option<u64> {
        self.port.as_ref()?;
        self.gpu.as_ref().and_then(Gpu::next_vsync)
    }
}

/// Interrupts need no call: after every access the [`Session`] looks itself.
fn power_on(config: &Config) -> io::Result<Gpu> {
    Gpu::new(config, Box::new(NoInterrupts))
}

impl SharedGpu {
    /// Powers a GPU on and starts its engine thread, which lives as long as
    /// the process.
    pub fn start(config: Config) -> io::Result<Arc<Self>> {
        sigbus::install()?;
        let gpu = power_on(&config)?;
        let shared = Arc::new(Self {
            config,
            turn: Mutex::new(()),
            machine: Mutex::new(Machine {
                vram: Arc::clone(gpu.vram()),
                gpu: Some(gpu),
                port: None,
                client: None,
                held: false,
                asleep: false,
            }),
            work: Condvar::new(),
            lost: AtomicBool::new(false),
            started: Instant::now(),
            #[cfg(test)]
            slices: std::sync::atomic::AtomicU64::new(0),
        });
        let engine = Arc::clone(&shared);
        thread::spawn("engine", move || engine.run_engine())?;
        Ok(shared)
    }

    /// What the GPU was made of.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// VRAM, which also a lost GPU still has.
    pub fn vram(&self) -> Arc<Vram> {
        Arc::clone(&self.enter().machine.vram)
    }

    /// Whether the model has failed. Never waits.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Waits for the GPU, at most for one slice of the engine's work and for
    /// those who asked before.
    pub fn enter(&self) -> Session<'_> {
        let turn = self.turn.lock();
        let machine = self.machine.lock();
        MutexGuard::unlock_fair(turn);
        Session {
            shared: self,
            machine,
            _scope: sigbus::Scope::enter(),
        }
    }

    /// Sets how to end the connection of the client that lends the guest's
    /// memory, should that be gone when it is used; `None` when it has left.
    pub(crate) fn set_client(&self, send_away: Option<SendAway>) {
        self.enter().machine.client = send_away;
    }

    /// Sets where interrupts go, or with `None` that nobody takes them.
    pub fn set_interrupt_port(&self, port: Option<Box<dyn InterruptPort>>) {
        self.enter().machine.port = port;
    }

    /// Takes the power away and gives it back: new registers, new VRAM. A lost
    /// GPU stays lost.
    pub fn power_cycle(&self) -> io::Result<()> {
        let mut session = self.enter();
        if session.machine.gpu.is_some() {
            let gpu = power_on(&self.config)?;
            session.machine.vram = Arc::clone(gpu.vram());
            session.machine.gpu = Some(gpu);
        }
        Ok(())
    }

    fn run_engine(&self) {
        loop {
            let mut session = self.enter();
            if session.machine.has_work() {
                #[cfg(test)]
                self.slices.fetch_add(1, Ordering::Relaxed);
                // A lost GPU has no work: the next round rests.
                let _ = session.run(|gpu| gpu.step(SLICE));
            } else {
                session.rest();
            }
        }
    }
}

/// The GPU while nobody else has it. Its end delivers interrupts and wakes the
/// engine where there is something to do.
pub struct Session<'a> {
    shared: &'a SharedGpu,
    machine: MutexGuard<'a, Machine>,
    _scope: sigbus::Scope,
}

impl Session<'_> {
    /// Lets `body` use the GPU, whose clock stands still meanwhile. A panic in it loses the GPU.
    pub fn run<R>(&mut self, body: impl FnOnce(&mut Gpu) -> R) -> Result<R, Lost> {
        let gpu = self.machine.gpu.as_mut().ok_or(Lost)?;
        let now = self.shared.started.elapsed().as_nanos();
        let result = thread::contain("the GPU model", || {
            gpu.set_clock(u64::try_from(now).unwrap_or(u64::MAX));
            body(gpu)
        });
        if result.is_none() {
            self.lose();
        }
        result.ok_or(Lost)
    }

    /// Keeps the engine from working, or lets it go on. When this returns with
    /// `hold`, no slice of work runs.
    pub fn hold_engine(&mut self, hold: bool) {
        self.machine.held = hold;
    }

    /// Whether the engine is kept from working.
    pub fn engine_is_held(&self) -> bool {
        self.machine.held
    }

    /// How interrupts reach the guest; `None`: nobody takes them.
    pub fn interrupt_way(&self) -> Option<Way> {
        let port = self.machine.port.as_ref()?;
        Some(port.way(self.machine.gpu.as_ref()?))
    }

    fn lose(&mut self) {
        self.shared.lost.store(true, Ordering::Release);
        let failed = self.machine.gpu.take();
        thread::contain("dropping the failed GPU", || drop(failed));
        tracing::error!("the GPU is lost; registers read all ones until presil is started anew");
    }

    fn settle(&mut self) {
        if let Some(mut port) = self.machine.port.take() {
            // A lost GPU has nothing to deliver.
            let _ = self.run(|gpu| {
                if gpu.interrupt_pending() {
                    port.deliver(gpu);
                }
            });
            self.machine.port = Some(port);
        }
        self.wake_engine();
        self.judge_client();
    }

    /// Sends the client away whose memory was missing, at once: after a sleep of
    /// the engine it might be the next one that is there.
    fn judge_client(&mut self) {
        if let Some(at) = sigbus::take_lost()
            && let Some(send_away) = self.machine.client.take()
        {
            send_away(at);
        }
    }

    fn wake_engine(&self) {
        let machine = &self.machine;
        if machine.has_work() || machine.asleep && machine.next_vsync().is_some() {
            self.shared.work.notify_one();
        }
    }

    /// The engine's sleep, until a session leaves work behind or a frame ends.
    fn rest(&mut self) {
        self.settle();
        if let Some(at) = self.machine.next_vsync() {
            let end = self.shared.started + Duration::from_nanos(at);
            self.shared.work.wait_until(&mut self.machine, end);
        } else {
            self.machine.asleep = true;
            self.shared.work.wait(&mut self.machine);
            self.machine.asleep = false;
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}

#[cfg(test)]
mod tests {
    use e3k_regs::fields::{AdvancedInterrupts, RingAddress, RingWord};
    use e3k_regs::packet::Writer;
    use e3k_regs::{Chip, GpuVa, Reg, VramOffset};
    use presil_device::{Latched, Width};
    use std::sync::mpsc;

    use super::*;

    const RING_BYTES: u32 = 0x4_0000;
    const FENCE_AT: GpuVa = GpuVa(0x10_0000);

    fn start() -> Arc<SharedGpu> {
        let config = Config::new(Chip::Arise10c0, 1 << 30, 512 << 20, true).unwrap();
        SharedGpu::start(config).unwrap()
    }

    fn write(gpu: &mut Gpu, offset: u32, value: u32) {
        gpu.write(offset, Width::B4, value.into());
    }

    /// A running ring at VRAM offset 0 (translation is off after power-on)
    /// that holds `dwords`, and enabled fence interrupts.
    fn start_ring(shared: &SharedGpu, dwords: &[u32]) {
        let bytes: Vec<u8> = dwords
            .iter()
            .flat_map(|dword| dword.to_le_bytes())
            .collect();
        shared.vram().write(VramOffset(0), &bytes).unwrap();
        let fence = AdvancedInterrupts::new().with_fence(true).into_bits();
        let kickoff = RingAddress::new().with_kickoff(true).into_bits();
        let setup = shared.enter().run(|gpu| {
            write(gpu, Reg::AdvancedEnable.offset(), fence);
            gpu.write(Reg::AdapterControl.offset(), Width::B1, 1);
            write(gpu, RingWord::Size.offset(0), RING_BYTES);
            write(gpu, RingWord::Address.offset(0), kickoff);
        });
        assert_eq!(setup, Ok(()));
    }

    fn ring_doorbell(shared: &SharedGpu, tail: u32) -> Result<(), Lost> {
        shared
            .enter()
            .run(|gpu| write(gpu, RingWord::Tail.offset(0), tail))
    }

    fn fence_program() -> (Vec<u32>, u32) {
        let mut buffer = [0; 64];
        let mut writer = Writer::new(&mut buffer);
        writer.fence(FENCE_AT, 0x1122_3344_5566_7788, true);
        let len = writer.len();
        (buffer[..len].to_vec(), u32::try_from(4 * len).unwrap())
    }

    /// Waits for what another thread does.
    fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < end, "{what} did not happen");
            std::thread::yield_now();
        }
    }

    struct SendLatched(mpsc::Sender<Latched>);

    impl InterruptPort for SendLatched {
        fn deliver(&mut self, gpu: &mut Gpu) {
            self.0.send(gpu.latch_interrupts()).unwrap();
        }
    }

    #[test]
    fn a_doorbell_wakes_the_engine_and_its_interrupt_finds_the_port() {
        let shared = start();
        let (sender, latched) = mpsc::channel();
        shared.set_interrupt_port(Some(Box::new(SendLatched(sender))));
        let (program, tail) = fence_program();
        start_ring(&shared, &program);
        ring_doorbell(&shared, tail).unwrap();
        let latched = latched.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(
            latched.advanced,
            AdvancedInterrupts::new().with_fence(true).into_bits()
        );
        let mut fence = [0; 8];
        shared
            .vram()
            .read(VramOffset(FENCE_AT.0), &mut fence)
            .unwrap();
        assert_eq!(u64::from_le_bytes(fence), 0x1122_3344_5566_7788);
    }

    #[test]
    fn a_held_engine_does_nothing_until_it_is_let_go() {
        let (held, free) = (start(), start());
        let (program, tail) = fence_program();
        for shared in [&held, &free] {
            start_ring(shared, &program);
        }
        let has_work = |shared: &SharedGpu| shared.enter().run(|gpu| gpu.has_work()).unwrap();
        held.enter().hold_engine(true);
        let slices = held.slices.load(Ordering::Relaxed);
        ring_doorbell(&held, tail).unwrap();
        // As long as it takes an engine that nobody holds to do the same many times.
        for _ in 0..500 {
            free.enter()
                .run(|gpu| {
                    write(gpu, RingWord::Tail.offset(0), 0);
                    write(gpu, RingWord::Head.offset(0), 0);
                })
                .unwrap();
            ring_doorbell(&free, tail).unwrap();
            eventually("the other's work", || !has_work(&free));
        }
        assert!(has_work(&held));
        assert_eq!(held.slices.load(Ordering::Relaxed), slices);
        held.enter().hold_engine(false);
        eventually("the work", || !has_work(&held));
    }

    #[test]
    fn a_register_access_under_an_endless_ring_waits_for_about_a_slice() {
        let shared = start();
        start_ring(&shared, &[]);
        ring_doorbell(&shared, RING_BYTES - 4).unwrap();
        eventually("the engine's start", || {
            shared.slices.load(Ordering::Relaxed) > 0
        });
        let mut waited: Vec<u64> = (0..301)
            .map(|_| {
                let seen = shared.slices.load(Ordering::Relaxed);
                eventually("a slice", || shared.slices.load(Ordering::Relaxed) != seen);
                let before = shared.slices.load(Ordering::Relaxed);
                let mut session = shared.enter();
                let after = shared.slices.load(Ordering::Relaxed);
                // The ring of zeros never ends: its reader is sent back to the beginning.
                session
                    .run(|gpu| write(gpu, RingWord::Head.offset(0), 0))
                    .unwrap();
                after - before
            })
            .collect();
        waited.sort_unstable();
        assert!(
            shared.enter().run(|gpu| gpu.has_work()).unwrap(),
            "the ring ended"
        );
        // The median: this thread may lose its processor now and then.
        assert!(waited[150] <= 2, "slices waited for: {waited:?}");
    }

    #[test]
    fn a_panic_in_the_model_loses_the_gpu_and_nothing_else() {
        let shared = start();
        let mut session = shared.enter();
        assert_eq!(session.run(|_| -> u32 { panic!("on purpose") }), Err(Lost));
        assert_eq!(session.run(|gpu| gpu.read(0, Width::B4)), Err(Lost));
        drop(session);
        assert!(shared.is_lost());
        shared.power_cycle().unwrap();
        assert!(shared.is_lost(), "only a new process brings it back");
        assert_eq!(shared.vram().bytes(), 1 << 30);
    }

    #[test]
    fn vertical_blanks_come_by_themselves_while_they_are_enabled() {
        let shared = start();
        let (sender, latched) = mpsc::channel();
        shared.set_interrupt_port(Some(Box::new(SendLatched(sender))));
        // The engine may sleep already, and wakes for it.
        let enable = |sources: u32| {
            let set = shared.enter().run(|gpu| {
                write(gpu, Reg::BiuEnable.offset(), sources);
                gpu.write(Reg::AdapterControl.offset(), Width::B1, 1);
            });
            assert_eq!(set, Ok(()));
        };
        for _ in 0..2 {
            enable(1);
            for _ in 0..3 {
                let blank = latched.recv_timeout(Duration::from_secs(20)).unwrap();
                assert_eq!((blank.biu, blank.advanced), (1, 0));
            }
            enable(0);
        }
    }

    #[test]
    fn where_nobody_takes_interrupts_the_engine_sleeps_through_vertical_blanks() {
        let shared = start();
        let enabled = shared
            .enter()
            .run(|gpu| write(gpu, Reg::BiuEnable.offset(), 1));
        assert_eq!(enabled, Ok(()));
        eventually("the engine's sleep", || shared.enter().machine.asleep);
        let (sender, _latched) = mpsc::channel();
        shared.set_interrupt_port(Some(Box::new(SendLatched(sender))));
        eventually("its waking", || !shared.enter().machine.asleep);
        shared.set_interrupt_port(None);
        eventually("its sleep again", || shared.enter().machine.asleep);
    }

    /// Meets missing memory, and leaves nothing that would wake the engine.
    struct LosingPort;

    impl InterruptPort for LosingPort {
        fn deliver(&mut self, gpu: &mut Gpu) {
            write(gpu, Reg::BiuEnable.offset(), 0);
            gpu.latch_interrupts();
            sigbus::tests::meet_missing_memory();
        }
    }

    #[test]
    fn a_client_whose_memory_is_missing_goes_before_the_engine_sleeps() {
        let shared = start();
        let (sender, gone) = mpsc::channel();
        let send_away = move |_| sender.send(()).unwrap();
        shared.set_client(Some(Box::new(send_away)));
        shared.set_interrupt_port(Some(Box::new(LosingPort)));
        // As the engine does whose frame ends just before it sleeps. Nothing wakes it.
        std::thread::spawn(move || {
            let mut session = shared.enter();
            let enabled = session.run(|gpu| {
                write(gpu, Reg::BiuEnable.offset(), 1);
                gpu.write(Reg::AdapterControl.offset(), Width::B1, 1);
            });
            assert_eq!(enabled, Ok(()));
            eventually("a blank", || {
                session.run(|gpu| gpu.interrupt_pending()).unwrap()
            });
            session.rest();
        });
        gone.recv_timeout(Duration::from_secs(20)).unwrap();
    }

    struct PanickingPort;

    impl InterruptPort for PanickingPort {
        fn deliver(&mut self, _: &mut Gpu) {
            panic!("on purpose");
        }
    }

    #[test]
    fn a_panic_on_the_engine_thread_loses_the_gpu_too() {
        let shared = start();
        shared.set_interrupt_port(Some(Box::new(PanickingPort)));
        let (program, tail) = fence_program();
        start_ring(&shared, &program);
        ring_doorbell(&shared, tail).unwrap();
        eventually("the loss", || shared.is_lost());
        assert_eq!(ring_doorbell(&shared, 0), Err(Lost));
    }

    #[test]
    fn a_power_cycle_clears_registers_and_vram() {
        let shared = start();
        start_ring(&shared, &[1, 2, 3]);
        shared.power_cycle().unwrap();
        let size = shared
            .enter()
            .run(|gpu| gpu.read(RingWord::Size.offset(0), Width::B4));
        assert_eq!(size, Ok(0));
        let mut word = [1; 4];
        shared.vram().read(VramOffset(0), &mut word).unwrap();
        assert_eq!(word, [0; 4]);
    }
}
