//! The log on standard error, in which one cause is one line.
//!
//! What goes wrong for long is tried again by itself, many times a second when descriptors are used up, every few
//! seconds when a delivery is refused; and each try would have its line. Lines of one place in the code that say the
//! same but for numbers and ids are taken as one cause: the first few are written, the others counted, and the count
//! told when a window of time is over. Windows grow as long as it goes on, so a trouble of weeks fills no disk.
//!
//! What is asked for by `RUST_LOG=debug` is written as it comes.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use log::{Level, Log, Metadata, Record};

/// So many warnings or errors of one cause are written in one window.
const LINES_PER_WINDOW: u32 = 3;
/// So many of the other lines: news, of which many at once may be right.
const NEWS_PER_WINDOW: u32 = 50;
/// The first window of a cause.
const WINDOW_FIRST: Duration = Duration::from_secs(10);
/// The longest; each is twice as long as the one before, while it goes on.
const WINDOW_MAX: Duration = Duration::from_secs(600);
/// So many causes are told apart; beyond that, lines count by their place in the code alone.
const CAUSES_MAX: usize = 256;

/// Starts the log. `RUST_LOG` says what is shown; without it, news and whatever is worse.
///
/// # Panics
/// When it was started before.
pub fn start() {
    let inner = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).build();
    log::set_max_level(inner.filter());
    let logger = OnePerCause { inner, causes: Mutex::default() };
    log::set_boxed_logger(Box::new(logger)).expect("a program starts its log once");
}

struct OnePerCause {
    inner: env_logger::Logger,
    causes: Mutex<Causes>,
}

impl Log for OnePerCause {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.inner.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.inner.matches(record) {
            return;
        }
        let limit = match record.level() {
            Level::Error | Level::Warn => LINES_PER_WINDOW,
            Level::Info => NEWS_PER_WINDOW,
            Level::Debug | Level::Trace => return self.inner.log(record),
        };
        let place = (record.file_static().unwrap_or_default(), record.line().unwrap_or_default());
        let text = record.args().to_string();
        let (is_written, sums) = {
            // A thread that panicked while it held this has left nothing half done that matters to a log.
            let mut causes = self.causes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            (causes.admit(place, &text, limit, Instant::now()), causes.take_sums())
        };
        for sum in sums {
            // Without a standard error there is nobody to tell.
            let _ = writeln!(io::stderr(), "[{sum}]");
        }
        if is_written {
            self.inner.log(record);
        }
    }

    fn flush(&self) {
        self.inner.flush();
    }
}

/// Where in the code a line is written.
type Place = (&'static str, u32);

#[derive(Default)]
struct Causes {
    known: HashMap<(Place, String), Cause>,
    sums: Vec<String>,
}

struct Cause {
    since: Instant,
    window: Duration,
    written: u32,
    left_out: u64,
}

impl Causes {
    /// Whether a line is to be written.
    fn admit(&mut self, place: Place, text: &str, limit: u32, now: Instant) -> bool {
        self.end_windows(now);
        let mut key = (place, without_ids(text));
        if self.known.len() >= CAUSES_MAX && !self.known.contains_key(&key) {
            key.1.clear();
        }
        let cause =
            self.known.entry(key).or_insert(Cause { since: now, window: WINDOW_FIRST, written: 0, left_out: 0 });
        let is_written = cause.written < limit;
        if is_written {
            cause.written += 1;
        } else {
            cause.left_out += 1;
        }
        is_written
    }

    fn end_windows(&mut self, now: Instant) {
        let sums = &mut self.sums;
        self.known.retain(|(_, text), cause| {
            if now.saturating_duration_since(cause.since) < cause.window {
                return true;
            }
            if cause.left_out == 0 {
                return false;
            }
            let seconds = now.saturating_duration_since(cause.since).as_secs();
            sums.push(format!("{} more like it in {seconds} s: {text}", cause.left_out));
            let window = (cause.window * 2).min(WINDOW_MAX);
            // The sum was this window's line; the first ones said what there is to say.
            *cause = Cause { since: now, window, written: u32::MAX, left_out: 0 };
            true
        });
    }

    fn take_sums(&mut self) -> Vec<String> {
        std::mem::take(&mut self.sums)
    }
}

/// The text with every word that has a digit in it as `#`: ids, ports, amounts, times.
fn without_ids(text: &str) -> String {
    let is_part = |character: char| character.is_alphanumeric() || "-_.:".contains(character);
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|character| !is_part(character)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        out.push_str(if word.bytes().any(|byte| byte.is_ascii_digit()) { "#" } else { word });
        let next = after.find(is_part).unwrap_or(after.len());
        out.push_str(&after[..next]);
        rest = &after[next..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = ("here.rs", 7);

    #[test]
    fn the_first_lines_are_written_and_the_others_counted() {
        let begun = Instant::now();
        let mut causes = Causes::default();
        let mut admit = |text: &str, after_s: u64| {
            let is_written = causes.admit(PLACE, text, LINES_PER_WINDOW, begun + Duration::from_secs(after_s));
            (is_written, causes.take_sums())
        };
        for number in 0..3 {
            assert_eq!(admit(&format!("no descriptor for 127.0.0.1:{number}"), 0), (true, vec![]));
        }
        for _ in 0..40 {
            assert_eq!(admit("no descriptor for 127.0.0.1:9", 1), (false, vec![]));
        }
        assert_eq!(admit("another thing", 2), (true, vec![]), "another cause has its own lines");
        let sum = "40 more like it in 10 s: no descriptor for #".to_string();
        assert_eq!(admit("no descriptor for 127.0.0.1:9", 10), (false, vec![sum]));
        assert_eq!(admit("no descriptor for 127.0.0.1:9", 25), (false, vec![]), "its window is twice as long now");
        let sum = "2 more like it in 20 s: no descriptor for #".to_string();
        assert_eq!(admit("another thing", 30), (true, vec![sum]));
        assert_eq!(admit("no descriptor for 127.0.0.1:9", 80), (true, vec![]), "it had ended, and is news again");
    }

    #[test]
    fn causes_are_bounded() {
        let mut causes = Causes::default();
        let now = Instant::now();
        let word = |number: usize| "x".repeat(number + 1);
        let written = (0..CAUSES_MAX + 100).filter(|number| causes.admit(PLACE, &word(*number), 3, now)).count();
        assert_eq!(written, CAUSES_MAX + 3);
        assert_eq!(causes.known.len(), CAUSES_MAX + 1);
    }

    #[test]
    fn numbers_and_ids_make_no_other_cause() {
        assert_eq!(without_ids("transfer Mumbai-1a2b: Delhi says no (3 of 4)"), "transfer # Delhi says no (# of #)");
        assert_eq!(without_ids(""), "");
        assert_eq!(without_ids("क१ ख"), "क१ ख");
    }
}
