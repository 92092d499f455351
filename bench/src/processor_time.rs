//! Who has had the processors: time used by a process, by a thread of this one, and by the whole machine, as Linux
//! tells it (proc(5)).

use std::fs::read_to_string;
use std::path::Path;

/// A tick of proc(5) in milliseconds: `USER_HZ` is 100 on every machine that this runs on.
const TICK_MS: u64 = 10;

/// Milliseconds that a process of that number has used, with all its threads.
///
/// # Errors
/// One sentence when there is none.
pub fn of_process(id: u32) -> Result<u64, String> {
    read(format!("/proc/{id}/stat"), used)
}

/// Milliseconds that a thread of this process has used.
///
/// # Errors
/// One sentence when there is none of that number.
pub fn of_thread(id: u32) -> Result<u64, String> {
    read(format!("/proc/self/task/{id}/stat"), used)
}

/// Milliseconds that the machine's processors were not idle since it was started. Those count that another machine
/// on the same hardware took.
///
/// # Errors
/// One sentence when the system doesn't say.
pub fn of_machine() -> Result<u64, String> {
    read("/proc/stat", busy)
}

/// The number of the thread that asks.
///
/// # Errors
/// One sentence when the system doesn't say.
pub fn own_thread() -> Result<u32, String> {
    let link = std::fs::read_link("/proc/thread-self").map_err(|error| format!("/proc/thread-self: {error}"))?;
    let number = link.file_name().and_then(|number| number.to_str()).and_then(|number| number.parse().ok());
    number.ok_or_else(|| format!("/proc/thread-self is {}", link.display()))
}

fn read(path: impl AsRef<Path>, figure: impl Fn(&str) -> Option<u64>) -> Result<u64, String> {
    let path = path.as_ref();
    let text = read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    figure(&text).ok_or_else(|| format!("{} says no processor time", path.display()))
}

/// User and system time of a `stat`. The name before them may hold anything, but it ends with the last bracket.
fn used(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) * TICK_MS)
}

/// All of the first line but what was idle or waited for a disk (fourth and fifth), and what guests used, which is
/// in the first two already (ninth and tenth).
fn busy(stat: &str) -> Option<u64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
    let fields: Vec<u64> = fields.map(|field| field.parse().ok()).collect::<Option<_>>()?;
    let busy = fields.iter().enumerate().filter(|(index, _)| !matches!(index, 3 | 4)).map(|(_, ticks)| ticks);
    Some(busy.sum::<u64>() * TICK_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stand_where_proc_says() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194304 100 0 0 0 7 3 0 0 20 0 4 0 100 1000 50";
        assert_eq!(used(stat), Some(100));
        assert_eq!(used("42 (cut off"), None);
        assert_eq!(busy("cpu  1 2 3 1000 2000 4 5 6 7 8\ncpu0 1"), Some(210));
        assert_eq!(busy("intr 5"), None);
    }

    #[test]
    fn this_thread_is_part_of_this_process_and_of_the_machine() {
        let thread = of_thread(own_thread().unwrap()).unwrap();
        let process = of_process(std::process::id()).unwrap();
        assert!(thread <= process && process <= of_machine().unwrap());
    }
}
