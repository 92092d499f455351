//! Copies that are made under a temporary name, and removed when they never get their own.
//!
//! A process that is killed leaves its temporary file. The next one that makes one in the folder, or opens a database in it,
//! clears away those that are surely a bank's (by the name) and surely dead (nobody holds the lock on the file, and the
//! process in the name is gone).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, test_kill_process};

use crate::dbs_exec::files::database_file::{PRIVATE, beside, remove_database};
use crate::dbs_exec::files::file_lock::is_abandoned;
use crate::dbs_exec::open_error::OpenError;

/// How a temporary name goes on after the name it is to get, before the number of its process,
const INFIX: &str = ".bank-";
/// and how it ends.
const ENDING: &str = ".part";

/// A file that has not got its name yet; removed when it is dropped before that.
#[derive(Debug)]
pub struct TemporaryFile {
    path: PathBuf,
    /// Tells others that it is being made; also its way to the disk.
    file: File,
    is_published: bool,
}

impl TemporaryFile {
    /// Makes an empty one beside `to`.
    ///
    /// # Errors
    /// [`OpenError::Io`] when the folder can't be written.
    pub fn make(to: &Path) -> Result<Self, OpenError> {
        // SQLite reads some relative names as something else.
        let to = std::path::absolute(to)?;
        if let Some(folder) = to.parent() {
            sweep(folder);
        }
        let path = beside(&to, &format!("{INFIX}{}{ENDING}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(PRIVATE).open(&path)?;
        // Nobody else has it; where locks are not to be had, the number of the process must do.
        let _ = file.try_lock();
        Ok(Self { path, file, is_published: false })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(in crate::dbs_exec) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Gives it its name, durably, unless something has that name already.
    ///
    /// # Errors
    /// The system's.
    pub fn publish(mut self, path: &Path) -> io::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, &self.path, CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            // A file system that knows no such renaming.
            Err(Errno::INVAL | Errno::NOSYS) if path.symlink_metadata().is_err() => fs::rename(&self.path, path)?,
            Err(error) => return Err(error.into()),
        }
        self.is_published = true;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }

    /// It has its name by other means.
    pub fn mark_published(mut self) {
        self.is_published = true;
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if !self.is_published {
            // The sentence that the operator gets says what went wrong before.
            let _ = remove_database(&self.path);
        }
    }
}

/// Clears away what killed processes have left in a folder.
pub(in crate::dbs_exec) fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(process_of);
        let Some(process) = process else { continue };
        let path = entry.path();
        if (process == std::process::id() || !is_running(process)) && is_abandoned(&path) {
            match remove_database(&path) {
                Ok(()) => log::info!("{}, which a process that was killed has left, is removed", path.display()),
                Err(error) => log::warn!("{} is left of a process that was killed: {error}", path.display()),
            }
        }
    }
}

/// The number of the process in a temporary name.
fn process_of(name: &str) -> Option<u32> {
    let (_, number) = name.strip_suffix(ENDING)?.rsplit_once(INFIX)?;
    number.parse().ok()
}

/// Whether there is a process with this number.
pub(in crate::dbs_exec) fn is_running(process: u32) -> bool {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    // One that may not be sent a signal is there.
    pid.is_some_and(|pid| test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_file_of_a_dead_process_is_removed_and_no_other_file() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let living = TemporaryFile::make(&at("living.db")).unwrap();
        // No process has a number above the kernel's largest, 2^22.
        for name in
            ["a.db.bank-99999999.part", "a.db.bank-99999999.part-journal", "a.db.99999999.part", "b.db", "c.part"]
        {
            fs::write(at(name), "").unwrap();
        }
        fs::write(at("d.db.bank-1.part"), "").unwrap();
        sweep(directory.path());
        let mut left: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        let own = living.path().file_name().unwrap().to_owned();
        let mut expected =
            vec![own, "a.db.99999999.part".into(), "b.db".into(), "c.part".into(), "d.db.bank-1.part".into()];
        expected.sort();
        assert_eq!(left, expected);
        drop(living);
        assert!(!at("living.db").exists());
    }

    #[test]
    fn a_temporary_file_takes_no_name_that_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let to = directory.path().join("copy.db");
        fs::write(&to, "there").unwrap();
        TemporaryFile::make(&to).unwrap().publish(&to).unwrap_err();
        assert_eq!(fs::read_to_string(&to).unwrap(), "there");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "the temporary file is gone");
        fs::remove_file(&to).unwrap();
        TemporaryFile::make(&to).unwrap().publish(&to).unwrap();
        assert!(to.exists());
    }
}
