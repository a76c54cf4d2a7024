//! Hosts with threads: the machine's own, shuttle's and loom's.

#[macro_use]
#[path = "threads.rs"]
mod threads;

threads!(pub(crate) machine, std::sync, None);
// So much time may pass before anything else happens, or may not.
threads!(
    pub(crate) shuttled,
    shuttle::sync,
    Some(|| {
        use shuttle::rand::Rng;
        shuttle::thread::yield_now();
        shuttle::rand::thread_rng().gen_range(0..4) == 0
    })
);

/// Loom's threads, without time: every order of steps is tried.
pub(crate) mod loomed {
    use loom::sync::{Condvar, Mutex};
    use vidmm::sync::Deadline;
    use vidmm::sync::portable::{Host, Monitor};
    use vidmm::{Patience, Wake};

    pub(crate) struct Threads;

    impl Host for Threads {
        type Monitor<T: 'static> = Watched<T>;

        fn monitor<T: 'static>(&self, value: T) -> Watched<T> {
            Watched(Mutex::new(value), Condvar::new())
        }
    }

    pub(crate) struct Watched<T>(Mutex<T>, Condvar);

    impl<T> Monitor<T> for Watched<T> {
        fn with<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
            change(&mut self.0.lock().unwrap())
        }

        fn wake(&self) {
            self.1.notify_all();
        }

        fn wait<R>(
            &self,
            _: Patience,
            _: Deadline,
            mut look: impl FnMut(&mut T) -> Option<R>,
        ) -> Result<R, Wake> {
            let mut value = self.0.lock().unwrap();
            loop {
                if let Some(found) = look(&mut value) {
                    return Ok(found);
                }
                value = self.1.wait(value).unwrap();
            }
        }
    }
}
