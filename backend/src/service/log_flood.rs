//! Keeps what a client or guest can repeat from filling the log.

use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::io::Write;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::thread;

/// Lines of one kind (of one place in the source) in a [`WINDOW`].
const LINES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);

/// The log is the process's, and so is what was left out of it.
static KINDS: LazyLock<Mutex<Kinds>> = LazyLock::new(Mutex::default);

/// Passes so many lines of each kind, and says how many it has left out, and of what
/// kind, when their time is over, and at the latest at the end ([`tell_rest`]).
/// Debug and trace are for somebody who wants all.
pub(crate) struct FloodGate;

#[derive(Default)]
struct Kinds {
    kinds: HashMap<Identifier, Kind>,
    /// A thread waits for the end of a window.
    watched: bool,
}

struct Kind {
    since: Instant,
    lines: u32,
    left_out: u64,
    /// The last of those.
    like: String,
}

/// Lines that were left out: so many like this one.
type LeftOut = (u64, String);

impl Kind {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            lines: 0,
            left_out: 0,
            like: String::new(),
        }
    }

    /// Whether a line passes.
    fn judge(&mut self, now: Instant) -> bool {
        if self.is_over(now) {
            self.since = now;
            self.lines = 0;
        }
        let passes = self.lines < LINES;
        if passes {
            self.lines += 1;
        } else {
            self.left_out += 1;
        }
        passes
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }

    fn take(&mut self) -> Option<LeftOut> {
        let left_out = std::mem::take(&mut self.left_out);
        (left_out != 0).then(|| (left_out, std::mem::take(&mut self.like)))
    }
}

impl Kinds {
    /// What was left out in windows that are over.
    fn over(&mut self, now: Instant) -> Vec<LeftOut> {
        let over = self.kinds.values_mut().filter(|kind| kind.is_over(now));
        over.filter_map(Kind::take).collect()
    }

    /// Whether somebody is to look for the end of a window from now on.
    fn needs_watch(&mut self) -> bool {
        let waits = self.kinds.values().any(|kind| kind.left_out != 0);
        waits && !std::mem::replace(&mut self.watched, true)
    }
}

/// Tells of all that was left out and not told of: the process ends.
pub(crate) fn tell_rest() {
    let rest: Vec<_> = KINDS
        .lock()
        .kinds
        .values_mut()
        .filter_map(Kind::take)
        .collect();
    tell(rest);
}

fn tell(left_out: Vec<LeftOut>) {
    for (number, like) in left_out {
        // Standard error may be closed.
        let _ = writeln!(
            std::io::stderr(),
            "presil: {number} more lines were left out like: {like}"
        );
    }
}

/// Tells of windows as they end, until nothing is left out any more.
fn watch() {
    loop {
        // Every window that is open now is over then.
        std::thread::sleep(WINDOW);
        let mut kinds = KINDS.lock();
        let over = kinds.over(Instant::now());
        kinds.watched = false;
        let goes_on = kinds.needs_watch();
        drop(kinds);
        tell(over);
        if !goes_on {
            return;
        }
    }
}

/// The sentence of an event.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            // Writing to a string cannot fail.
            let _ = write!(self.0, "{value:?}");
        }
    }
}

impl<S: Subscriber> Layer<S> for FloodGate {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        if *event.metadata().level() > Level::INFO {
            return true;
        }
        let now = Instant::now();
        let mut kinds = KINDS.lock();
        let kind = kinds.kinds.entry(event.metadata().callsite());
        let kind = kind.or_insert_with(|| Kind::new(now));
        let passes = kind.judge(now);
        let before = passes.then(|| kind.take()).flatten();
        if !passes {
            let mut message = Message(std::mem::take(&mut kind.like));
            message.0.clear();
            event.record(&mut message);
            kind.like = message.0;
        }
        let is_to_watch = kinds.needs_watch();
        drop(kinds);
        tell(before.into_iter().collect());
        // Without a thread the next line tells, or the end.
        if is_to_watch && thread::spawn("log", watch).is_err() {
            KINDS.lock().watched = false;
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted_and_what_follows_it_passes() {
        let start = Instant::now();
        let mut kind = Kind::new(start);
        assert!((0..LINES).all(|_| kind.judge(start)));
        assert_eq!(kind.take(), None);
        assert!((0..1000).all(|_| !kind.judge(start + WINDOW / 2)));
        assert!(kind.judge(start + WINDOW));
        assert_eq!(kind.take().map(|(number, _)| number), Some(1000));
        assert_eq!(kind.take(), None);
    }

    #[test]
    fn what_was_left_out_is_told_when_the_window_ends_though_nothing_follows() {
        let start = Instant::now();
        let mut kinds = Kinds::default();
        let (quiet, flood) = (Kind::new(start), Kind::new(start));
        let mut all = [quiet, flood];
        assert!(all[0].judge(start));
        for _ in 0..LINES + 7 {
            all[1].judge(start);
        }
        all[1].like = "the last".to_owned();
        for (kind, event) in all.into_iter().zip(events()) {
            kinds.kinds.insert(event, kind);
        }
        assert!(kinds.needs_watch());
        assert!(!kinds.needs_watch(), "somebody watches");
        assert_eq!(kinds.over(start + WINDOW / 2), []);
        assert_eq!(kinds.over(start + WINDOW), [(7, "the last".to_owned())]);
        assert_eq!(kinds.over(start + WINDOW), []);
        kinds.watched = false;
        assert!(!kinds.needs_watch(), "nothing is left");
    }

    /// Two places in a source.
    fn events() -> [Identifier; 2] {
        struct Place(u8);
        impl tracing::callsite::Callsite for Place {
            fn set_interest(&self, _: tracing::subscriber::Interest) {}
            fn metadata(&self) -> &tracing::Metadata<'_> {
                unreachable!("{}: only its address is asked for", self.0)
            }
        }
        static PLACES: [Place; 2] = [Place(0), Place(1)];
        let [first, second] = &PLACES;
        [
            tracing::callsite::Identifier(first),
            tracing::callsite::Identifier(second),
        ]
    }
}
