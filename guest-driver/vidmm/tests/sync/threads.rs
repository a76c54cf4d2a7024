//! A host of [`vidmm::sync::portable`] with threads, of whatever library.

/// A host over the locks of one library. Time is what the test says.
macro_rules! threads {
    ($vis:vis $name:ident, $($library:ident)::+, $passes:expr) => {
        /// Threads of a library.
        $vis mod $name {
            use $($library)::+::{Condvar, Mutex, MutexGuard};
            use std::sync::Arc;
            use std::sync::PoisonError;
            use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
            use vidmm::sync::Deadline;
            use vidmm::sync::portable::{Host, Monitor};
            use vidmm::{Patience, Wake};

            /// How long, in nanoseconds, somebody sleeps who will look again whatever happens.
            const LOOKS: std::ops::Range<u64> = 1000..1 << 60;

            fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
                mutex.lock().unwrap_or_else(PoisonError::into_inner)
            }

            /// Counts the reasons to look again.
            struct Gate {
                reasons: Mutex<u64>,
                more: Condvar,
            }

            impl Gate {
                fn open(&self) {
                    *lock(&self.reasons) += 1;
                    self.more.notify_all();
                }
            }

            struct World {
                now_ns: AtomicU64,
                signal: AtomicBool,
                // Never held where the library may change threads.
                gates: std::sync::Mutex<Vec<std::sync::Weak<Gate>>>,
            }

            /// Where time is what somebody says; clones are the same.
            #[derive(Clone)]
            $vis struct Threads(Arc<World>);

            impl Default for Threads {
                fn default() -> Self {
                    Self::new()
                }
            }

            impl Threads {
                /// At the time 0.
                $vis fn new() -> Self {
                    Self(Arc::new(World {
                        now_ns: AtomicU64::new(0),
                        signal: AtomicBool::new(false),
                        gates: std::sync::Mutex::new(Vec::new()),
                    }))
                }

                /// The time, in nanoseconds.
                $vis fn now_ns(&self) -> u64 {
                    self.0.now_ns.load(Ordering::SeqCst)
                }

                /// Time passes, for everybody who waits; in nanoseconds.
                $vis fn advance(&self, ns: u64) {
                    self.0.now_ns.fetch_add(ns, Ordering::SeqCst);
                    self.look_again();
                }

                /// Everybody has a signal to handle, or nobody.
                $vis fn set_signal(&self, pending: bool) {
                    self.0.signal.store(pending, Ordering::SeqCst);
                    self.look_again();
                }

                fn look_again(&self) {
                    let gates: Vec<_> = {
                        let mut gates = self.0.gates.lock().unwrap();
                        gates.retain(|gate| gate.strong_count() > 0);
                        gates.iter().filter_map(std::sync::Weak::upgrade).collect()
                    };
                    for gate in gates {
                        gate.open();
                    }
                }
            }

            impl Host for Threads {
                type Monitor<T: 'static> = Watched<T>;

                fn monitor<T: 'static>(&self, value: T) -> Watched<T> {
                    let gate = Arc::new(Gate {
                        reasons: Mutex::new(0),
                        more: Condvar::new(),
                    });
                    self.0.gates.lock().unwrap().push(Arc::downgrade(&gate));
                    Watched {
                        value: Mutex::new(value),
                        gate,
                        host: self.clone(),
                    }
                }
            }

            /// A value behind a lock, and a gate for those who wait.
            $vis struct Watched<T> {
                value: Mutex<T>,
                gate: Arc<Gate>,
                host: Threads,
            }

            impl<T> Monitor<T> for Watched<T> {
                fn with<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
                    change(&mut lock(&self.value))
                }

                fn wake(&self) {
                    self.gate.open();
                }

                fn wait<R>(
                    &self,
                    patience: Patience,
                    deadline: Deadline,
                    mut look: impl FnMut(&mut T) -> Option<R>,
                ) -> Result<R, Wake> {
                    loop {
                        let seen = *lock(&self.gate.reasons);
                        if let Some(found) = self.with(&mut look) {
                            return Ok(found);
                        }
                        let world = &*self.host.0;
                        if world.signal.load(Ordering::SeqCst) && patience == Patience::UntilSignal
                        {
                            return Err(Wake::Interrupted);
                        }
                        let now = self.host.now_ns();
                        if now >= deadline.0 {
                            return Err(Wake::TimedOut);
                        }
                        let passes: Option<fn() -> bool> = $passes;
                        let left = deadline.0 - now;
                        if let Some(passes) = passes.filter(|_| LOOKS.contains(&left)) {
                            if passes() {
                                world.now_ns.fetch_max(deadline.0, Ordering::SeqCst);
                            }
                            continue;
                        }
                        let mut reasons = lock(&self.gate.reasons);
                        while *reasons == seen {
                            reasons = self
                                .gate
                                .more
                                .wait(reasons)
                                .unwrap_or_else(PoisonError::into_inner);
                        }
                    }
                }
            }
        }
    };
}
