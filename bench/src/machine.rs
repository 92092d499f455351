//! What a measurement was made on, for those who compare it with another.

use std::fs::{File, read_to_string};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::latency::Latencies;

/// Forced writes that are measured.
const FORCED_WRITES: u32 = 200;
/// The bytes of each.
const FORCED_WRITE_BYTES: usize = 4_096;

/// The machine and the disk.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Cores that this process may use.
    pub cores: usize,
    /// The processor's own name.
    pub processor: String,
    /// The operating system and its release.
    pub system: String,
    /// The file system under the databases.
    pub file_system: String,
    /// Half of the forced writes of a page took no longer, in microseconds.
    pub forced_write_us: u64,
}

impl Machine {
    /// Looks at this machine, and at the disk under `folder`.
    ///
    /// # Errors
    /// One sentence when nothing can be written there.
    pub fn look(folder: &Path) -> Result<Self, String> {
        let forced_write = forced_write(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            processor: processor(&read_to_string("/proc/cpuinfo").unwrap_or_default()),
            system: format!(
                "{} {}",
                std::env::consts::OS,
                read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim()
            ),
            file_system: file_system(folder, &read_to_string("/proc/mounts").unwrap_or_default()),
            forced_write_us: u64::try_from(forced_write.as_micros()).unwrap_or(u64::MAX),
        })
    }
}

fn processor(cpuinfo: &str) -> String {
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_string(), |(_, name)| name.trim().to_string())
}

/// The type of the file system that is mounted nearest above `folder`.
fn file_system(folder: &Path, mounts: &str) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    let nearest = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let point = Path::new(fields.next()?);
            folder.starts_with(point).then_some((point.components().count(), fields.next()?))
        })
        // Of two on one point the later one is on top, and max_by_key gives the last.
        .max_by_key(|(depth, _)| *depth);
    nearest.map_or("unknown", |(_, kind)| kind).to_string()
}

/// What it takes to append a page to a file and force it to the disk.
fn forced_write(folder: &Path) -> std::io::Result<Duration> {
    let file = tempfile::NamedTempFile::new_in(folder)?;
    let mut writer: &File = file.as_file();
    let mut latencies = Latencies::new();
    for _ in 0..FORCED_WRITES {
        let begun = Instant::now();
        writer.write_all(&[1; FORCED_WRITE_BYTES])?;
        writer.sync_data()?;
        latencies.record(begun.elapsed(), 1);
    }
    Ok(Duration::from_micros(latencies.latency().p50_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\nproc /proc proc rw 0 0\n";
        assert_eq!(file_system(Path::new("/"), mounts), "ext4");
        assert_eq!(file_system(Path::new("/tmp"), mounts), "tmpfs");
        assert_eq!(file_system(Path::new("/tmpx/absent"), mounts), "ext4");
        assert_eq!(file_system(Path::new("/"), ""), "unknown");
    }

    #[test]
    fn this_machine_has_a_core_and_a_disk() {
        let machine = Machine::look(&std::env::temp_dir()).unwrap();
        assert!(machine.cores >= 1 && !machine.processor.is_empty(), "{machine:?}");
        assert_eq!(processor("model name\t: A B\n"), "A B");
    }
}
