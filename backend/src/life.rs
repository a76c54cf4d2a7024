//! When the process ends: never under a running guest unless told twice.

use std::path::PathBuf;
use std::process::exit;
use std::sync::Arc;

use parking_lot::Mutex;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::thread;

/// Whether a QEMU is attached and whether the user wants us to end.
#[derive(Default)]
pub struct Life {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    attached: bool,
    ending: bool,
    /// Removed when a signal ends the process.
    sockets: Vec<PathBuf>,
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
    pub fn watch_signals(self: &Arc<Self>, sockets: Vec<PathBuf>) -> std::io::Result<()> {
        self.state.lock().sockets = sockets;
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let life = Arc::clone(self);
        thread::spawn("signals", move || {
            for _ in signals.forever() {
                life.obey_signal();
            }
        })
    }

    /// QEMU is here.
    pub fn attach(&self) {
        let mut state = self.state.lock();
        if !state.attached {
            state.attached = true;
            tracing::info!("QEMU attached");
        }
    }

    /// The connection is over. Says whether it had been QEMU's.
    pub fn detach(&self) -> bool {
        std::mem::take(&mut self.state.lock().attached)
    }

    /// Whether QEMU is attached.
    pub fn is_attached(&self) -> bool {
        self.state.lock().attached
    }

    /// Whether the user has asked us to end.
    pub fn is_ending(&self) -> bool {
        self.state.lock().ending
    }

    fn answer_signal(&self) -> Answer {
        let mut state = self.state.lock();
        let told_before = std::mem::replace(&mut state.ending, true);
        match (state.attached, told_before) {
            (false, _) => Answer::End,
            (true, false) => Answer::WaitForQemu,
            (true, true) => Answer::EndUnderGuest,
        }
    }

    fn obey_signal(&self) {
        match self.answer_signal() {
            Answer::End => {
                tracing::info!("no guest is attached; ending");
                self.end(0);
            }
            Answer::WaitForQemu => tracing::warn!(
                "a guest is attached and QEMU would abort without this server: it ends when QEMU \
                 leaves. Signal again to end at once"
            ),
            Answer::EndUnderGuest => {
                tracing::error!("ending at once; QEMU will abort its guest");
                self.end(1);
            }
        }
    }

    fn end(&self, code: i32) -> ! {
        for socket in &self.state.lock().sockets {
            let _ = std::fs::remove_file(socket);
        }
        exit(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_ends_a_server_without_guest() {
        assert_eq!(Life::default().answer_signal(), Answer::End);
    }

    #[test]
    fn with_a_guest_only_the_second_signal_ends() {
        let life = Life::default();
        life.attach();
        assert_eq!(life.answer_signal(), Answer::WaitForQemu);
        assert!(life.is_ending());
        assert_eq!(life.answer_signal(), Answer::EndUnderGuest);
    }

    #[test]
    fn when_qemu_has_left_a_signal_ends_well_again() {
        let life = Life::default();
        life.attach();
        assert_eq!(life.answer_signal(), Answer::WaitForQemu);
        assert!(life.detach());
        assert_eq!(life.answer_signal(), Answer::End);
        assert!(!life.detach());
    }
}
