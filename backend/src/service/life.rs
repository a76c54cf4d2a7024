//! When the process ends: never under a running guest unless told twice.

use std::path::{Path, PathBuf};
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::service::log_flood;
use crate::service::socket::SocketFile;
use crate::thread;

/// Whether QEMUs are attached and whether the user wants us to end.
#[derive(Default)]
pub struct Life {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// GPUs that a QEMU is attached to.
    attached: usize,
    ending: bool,
    /// The driver checker has reports.
    reported: bool,
    /// Removed when a signal ends the process.
    sockets: Vec<SocketFile>,
}

/// What the driver checker says of all that has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No report, or no checker.
    Silent,
    /// There are reports.
    Reports,
}

impl Verdict {
    /// As a process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Silent => 0,
            Self::Reports => 3,
        }
    }
}

/// What a signal leads to.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Nobody is attached: end well.
    End,
    /// Ending now would abort the VM.
    WaitForQemu,
    /// Told twice.
    EndUnderGuest,
}

impl Life {
    /// Handles SIGINT and SIGTERM from now on; a signal that ends the process
    /// removes `sockets`.
    pub fn watch_signals(self: &Arc<Self>, sockets: Vec<SocketFile>) -> std::io::Result<()> {
        self.state.lock().sockets = sockets;
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let life = Arc::clone(self);
        thread::spawn("signals", move || {
            for _ in signals.forever() {
                life.obey_signal();
            }
        })
        .map(|_| ())
    }

    /// Whether the user has asked us to end.
    pub fn is_ending(&self) -> bool {
        self.state.lock().ending
    }

    /// A guest has left: ends the process if it was told to and no guest is
    /// left. GPUs that no guest has come to would keep it waiting.
    pub fn end_after_last(&self, failed: bool) {
        if self.is_over() {
            self.end(failed);
        }
    }

    /// The driver checker has reports.
    pub(crate) fn note_reports(&self) {
        self.state.lock().reported = true;
    }

    /// What it has said so far.
    pub(crate) fn verdict(&self) -> Verdict {
        if self.state.lock().reported {
            Verdict::Reports
        } else {
            Verdict::Silent
        }
    }

    fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.ending && state.attached == 0
    }

    fn answer_signal(&self) -> Answer {
        let mut state = self.state.lock();
        let told_before = std::mem::replace(&mut state.ending, true);
        match (state.attached != 0, told_before) {
            (false, _) => Answer::End,
            (true, false) => Answer::WaitForQemu,
            (true, true) => Answer::EndUnderGuest,
        }
    }

    fn obey_signal(&self) {
        match self.answer_signal() {
            Answer::End => {
                tracing::info!("no guest is attached; ending");
                self.end(false);
            }
            Answer::WaitForQemu => tracing::warn!(
                "a guest is attached and QEMU would abort without this server: it ends when QEMU \
                 leaves. Signal again to end at once"
            ),
            Answer::EndUnderGuest => {
                tracing::error!("ending at once; QEMU will abort its guest");
                self.end(true);
            }
        }
    }

    fn end(&self, failed: bool) -> ! {
        for socket in &self.state.lock().sockets {
            socket.remove();
        }
        log_flood::tell_rest();
        exit(if failed {
            1
        } else {
            self.verdict().code().into()
        })
    }
}

/// Whether a QEMU is attached to one GPU.
#[derive(Default)]
pub struct Presence {
    life: Arc<Life>,
    /// Where it attaches.
    socket: PathBuf,
    attached: AtomicBool,
}

impl Presence {
    /// Nobody is there yet.
    pub fn new(life: Arc<Life>, socket: PathBuf) -> Self {
        Self {
            life,
            socket,
            attached: AtomicBool::new(false),
        }
    }

    /// QEMU is here.
    pub fn attach(&self) {
        if !self.attached.swap(true, Ordering::AcqRel) {
            self.life.state.lock().attached += 1;
            tracing::info!("QEMU attached to {}", self.socket.display());
        }
    }

    /// The connection is over. Says whether it had been QEMU's.
    pub fn detach(&self) -> bool {
        let was = self.attached.swap(false, Ordering::AcqRel);
        if was {
            self.life.state.lock().attached -= 1;
        }
        was
    }

    /// Where it attaches.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether QEMU is attached.
    pub fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_ends_a_server_without_guest() {
        assert_eq!(Life::default().answer_signal(), Answer::End);
    }

    fn gpus(number: usize) -> (Arc<Life>, Vec<Presence>) {
        let life = Arc::new(Life::default());
        let presence = || Presence::new(Arc::clone(&life), PathBuf::new());
        let presences = std::iter::repeat_with(presence).take(number).collect();
        (life, presences)
    }

    #[test]
    fn with_a_guest_only_the_second_signal_ends() {
        let (life, gpus) = gpus(1);
        gpus[0].attach();
        assert_eq!(life.answer_signal(), Answer::WaitForQemu);
        assert!(life.is_ending());
        assert_eq!(life.answer_signal(), Answer::EndUnderGuest);
    }

    #[test]
    fn when_qemu_has_left_a_signal_ends_well_again() {
        let (life, gpus) = gpus(1);
        gpus[0].attach();
        assert_eq!(life.answer_signal(), Answer::WaitForQemu);
        assert!(gpus[0].detach());
        assert_eq!(life.answer_signal(), Answer::End);
        assert!(!gpus[0].detach());
    }

    #[test]
    fn of_several_gpus_the_last_guest_counts() {
        let (life, gpus) = gpus(2);
        for gpu in &gpus {
            gpu.attach();
            gpu.attach();
        }
        assert!(gpus[0].detach());
        assert!(gpus[1].is_attached() && !gpus[0].is_attached());
        assert_eq!(life.answer_signal(), Answer::WaitForQemu);
        assert!(!life.is_over());
        assert!(gpus[1].detach());
        assert!(life.is_over());
        assert_eq!(life.answer_signal(), Answer::End);
    }
}
