//! Whether the open files are still the ones under their names.
//!
//! An open file outlives its name: a branch whose database was removed, or replaced by another file, would go on
//! acknowledging into a file that nobody will ever find. So the names are looked at after each commit, before its
//! clients are answered, and once a second. The same for the log, which holds the newest commits, and for the shared
//! memory: a program that finds none makes one of its own, and no longer sees the locks of this one. A database that
//! has become shorter was cut, or written over in place.

use protocol::io_words::IoWords;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use crate::dbs_exec::files::database_file::{Companion, DatabaseFile};
use crate::dbs_exec::open_error::OpenError;
use crate::limits::FILE_LOOK;

/// The files as they were opened.
#[derive(Debug)]
pub struct FileWatch {
    database: Watched,
    log: Watched,
    shared_memory: Watched,
    /// The longest that the database was seen, in bytes. It never becomes shorter by itself.
    length: AtomicU64,
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The database's file: what was written since can't be saved.
    Database(String),
    /// A file beside it: what is in the log can still be moved into the database.
    Beside(String),
}

impl FileWatch {
    /// Notes which files are open now.
    pub fn new(file: &DatabaseFile) -> Result<Self, OpenError> {
        let watched = |path: PathBuf| -> io::Result<Watched> {
            let found = fs::metadata(&path)?;
            Ok(Watched { path, device: found.dev(), inode: found.ino() })
        };
        Ok(Self {
            database: watched(file.path().to_path_buf())?,
            log: watched(file.companion(Companion::Log))?,
            shared_memory: watched(file.companion(Companion::SharedMemory))?,
            length: AtomicU64::new(0),
        })
    }

    /// Looks at the names.
    ///
    /// # Errors
    /// What is wrong, in one sentence.
    pub fn check(&self) -> Result<(), Lost> {
        let length = self.database.check().map_err(Lost::Database)?;
        let longest = self.length.fetch_max(length, Ordering::SeqCst);
        if length < longest {
            return Err(Lost::Database(format!(
                "{} was cut from {longest} to {length} bytes while it was open",
                self.database.path.display()
            )));
        }
        // The database first: where it is lost, the state of its log is no news.
        self.log.check().and_then(|_| self.shared_memory.check()).map(drop).map_err(Lost::Beside)
    }
}

impl Watched {
    /// Returns the file's length.
    fn check(&self) -> Result<u64, String> {
        let path: &Path = &self.path;
        match fs::metadata(path) {
            // By device and inode: the name alone would be true of any file that was put there.
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => Ok(found.len()),
            Ok(_) => Err(format!("{} was replaced by another file while it was open", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(format!("{} was removed or renamed while it was open", path.display()))
            }
            // A folder that was locked away, a disk that is gone: whatever the reason, nobody finds there what is
            // written.
            Err(error) => Err(format!("{} can no longer be looked at ({})", path.display(), IoWords(&error))),
        }
    }
}

/// The thread that looks once a second.
pub struct FileWatcher {
    alive: Mutex<Option<Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl FileWatcher {
    /// Starts the thread, which tells `on_lost` once.
    pub fn start(watch: Arc<FileWatch>, on_lost: impl FnOnce(&Lost) + Send + 'static) -> Result<Self, OpenError> {
        // Nothing is ever sent: the end is that the sender is dropped.
        let (alive, ended) = bounded(0);
        let run = move || {
            while ended.recv_timeout(FILE_LOOK) == Err(RecvTimeoutError::Timeout) {
                if let Err(lost) = watch.check() {
                    // Once: the branch stops, and there is nothing left to watch.
                    return on_lost(&lost);
                }
            }
        };
        let thread = std::thread::Builder::new().name("file-watch".into()).spawn(run)?;
        Ok(Self { alive: Mutex::new(Some(alive)), thread: Mutex::new(Some(thread)) })
    }

    /// Ends and joins the thread, before the files are closed.
    pub fn stop(&self) {
        drop(self.alive.lock().take());
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            log::error!("the thread that watches the files had panicked");
        }
    }
}

impl Drop for FileWatcher {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found when this was done to the files.
    fn after(change: impl FnOnce(&DatabaseFile)) -> Result<(), Lost> {
        let directory = tempfile::tempdir().unwrap();
        let file = DatabaseFile::resolve(&directory.path().join("bank.db")).unwrap();
        for ending in ["", "-wal", "-shm"] {
            fs::write(file.beside(ending), "0123").unwrap();
        }
        let watch = FileWatch::new(&file).unwrap();
        assert_eq!(watch.check(), Ok(()));
        change(&file);
        watch.check()
    }

    #[test]
    fn a_file_that_is_no_longer_the_one_under_its_name_is_noticed() {
        let said = |lost: Result<(), Lost>| match lost.unwrap_err() {
            Lost::Database(text) | Lost::Beside(text) => text,
        };
        assert!(said(after(|file| fs::remove_file(file.path()).unwrap())).contains("removed"));
        assert!(said(after(|file| fs::remove_file(file.beside("-shm")).unwrap())).contains("removed"));
        assert!(said(after(|file| fs::write(file.path(), "0").unwrap())).contains("cut from 4 to 1 bytes"));
        let replaced = said(after(|file| {
            fs::write(file.beside(".other"), "0123").unwrap();
            fs::rename(file.beside(".other"), file.beside("-wal")).unwrap();
        }));
        assert!(replaced.contains("-wal was replaced"), "{replaced}");
        assert_eq!(after(|file| fs::write(file.path(), "012345").unwrap()), Ok(()));
        assert_eq!(after(|file| fs::write(file.beside("-wal"), "").unwrap()), Ok(()), "the log begins anew");
    }
}
