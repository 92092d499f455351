//! Which file a name means, and the files that belong to it.
//!
//! A database has several names (relative, through symbolic links, also ones that lead nowhere yet), SQLite reads some
//! names as something else (`file:` URIs, `:memory:`), and its log, its shared memory and our lock stand beside it. So
//! a name is resolved once, to the absolute path of a plain file, and everything that opens, locks, moves or makes one
//! of these files starts from that path.
//!
//! Files that are made here can be read by their owner alone, whatever the umask; SQLite gives its own the same mode.
//! Made by the superuser they belong to whom the database belongs to, or else its folder: a service that runs as
//! another user must be able to open what a command of the administrator has left.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::dbs_exec::open_error::OpenError;

/// Symbolic links in a row before it counts as a circle, as the kernel has it.
const LINKS: usize = 40;
/// Who may read and write a file that is made here.
pub(in crate::dbs_exec) const PRIVATE: u32 = 0o600;

/// A database's file, which need not exist.
#[derive(Clone, Debug)]
pub struct DatabaseFile {
    path: PathBuf,
}

/// What SQLite keeps beside a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dbs_exec) enum Companion {
    /// The write-ahead log: commits that are not in the file yet.
    Log,
    /// The shared memory of those who have it open: an index of the log, made anew when it is missing.
    SharedMemory,
    /// The rollback journal: what a broken-off transaction has overwritten in the file.
    Journal,
}

impl Companion {
    /// All of them, in the order in which they are moved.
    pub(in crate::dbs_exec) const ALL: [Self; 3] = [Self::Log, Self::Journal, Self::SharedMemory];

    pub(in crate::dbs_exec) const fn ending(self) -> &'static str {
        match self {
            Self::Log => "-wal",
            Self::SharedMemory => "-shm",
            Self::Journal => "-journal",
        }
    }
}

impl DatabaseFile {
    /// Follows the links of a name.
    ///
    /// # Errors
    /// [`OpenError::Unusable`] when it names something else than a plain file, [`OpenError::Io`] when its folder isn't
    /// there or may not be looked into.
    pub fn resolve(named: &Path) -> Result<Self, OpenError> {
        // An absolute path stays as it is: it takes the place of what it is joined to.
        let mut path = std::env::current_dir()?.join(named);
        for _ in 0..LINKS {
            let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(OpenError::Unusable("the name of a database is needed, and this is none".into()));
            };
            // Only the folder: the last name may lead nowhere yet, and its own links are followed one by one below.
            path = folder.canonicalize()?.join(name);
            match fs::symlink_metadata(&path) {
                // A relative target counts from the link's folder.
                Ok(found) if found.is_symlink() => {
                    let target = fs::read_link(&path)?;
                    path.pop();
                    path.push(target);
                }
                Ok(found) if found.is_file() => return Ok(Self { path }),
                // SQLite might open a device or a pipe, and wait in it.
                Ok(found) => return Err(OpenError::Unusable(format!("this is {}, and no file", kind(&found)))),
                // A name that leads nowhere yet: here a database may be made.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self { path }),
                Err(error) => return Err(error.into()),
            }
        }
        Err(OpenError::Unusable("its symbolic links lead in a circle".into()))
    }

    /// The absolute path, without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is such a file.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Whether a log stands beside it, with something in it.
    #[must_use]
    pub fn has_log(&self) -> bool {
        length(&self.companion(Companion::Log)).is_ok_and(|length| length.is_some_and(|length| length > 0))
    }

    /// The folder that it is in.
    pub(in crate::dbs_exec) fn folder(&self) -> &Path {
        self.path.parent().expect("an absolute path of a file has a folder")
    }

    /// The name of a file beside it: `bank.db` with `.x` gives `bank.db.x`.
    #[must_use]
    pub fn beside(&self, ending: &str) -> PathBuf {
        beside(&self.path, ending)
    }

    pub(in crate::dbs_exec) fn companion(&self, companion: Companion) -> PathBuf {
        self.beside(companion.ending())
    }

    /// The owner and the group that a file made beside it should have, where this process may say so.
    pub(in crate::dbs_exec) fn owner(&self) -> io::Result<(u32, u32)> {
        let found = match fs::metadata(&self.path) {
            Ok(found) => found,
            // Of a database that is to be made, the folder tells whose it will be.
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::metadata(self.folder())?,
            Err(error) => return Err(error),
        };
        Ok((found.uid(), found.gid()))
    }

    /// Opens a file beside it for reading and writing, and makes it when it isn't there. A link is not followed: what
    /// it leads to was not meant.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open_beside(&self, path: &Path) -> io::Result<File> {
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let make =
            OpenOptions::new().read(true).write(true).create_new(true).mode(PRIVATE).custom_flags(flags).open(path);
        match make {
            Ok(file) => {
                self.give_to_owner(&file)?;
                Ok(file)
            }
            // It was there, or somebody else was quicker. Its owner and mode stay.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes an empty database file, private whatever the umask.
    pub(in crate::dbs_exec) fn make(&self) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&self.path)?;
        self.give_to_owner(&file)
    }

    /// Lets a new file belong to whom it should, where that is another user and this is the superuser.
    pub(in crate::dbs_exec) fn give_to_owner(&self, file: &File) -> io::Result<()> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let (owner, group) = self.owner()?;
        let made = file.metadata()?;
        if (made.uid(), made.gid()) == (owner, group) {
            return Ok(());
        }
        fchown(file, Some(owner), Some(group))
    }

    /// Takes from others, who are neither the owner nor of its group, what an older program's umask has given them.
    pub(in crate::dbs_exec) fn shut_out_others(&self) {
        for path in [self.path.clone(), self.companion(Companion::Log), self.companion(Companion::SharedMemory)] {
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            let mode = found.permissions().mode();
            // The group keeps what it had: an operator may have given it on purpose.
            if !found.is_file() || mode & 0o007 == 0 {
                continue;
            }
            match fs::set_permissions(&path, fs::Permissions::from_mode(mode & 0o770)) {
                // Told because whoever has read it until now can't be made to forget.
                Ok(()) => log::warn!(
                    "{} was open to every user of this machine; now to its owner and group alone",
                    path.display()
                ),
                // Another user owns it. That is no reason not to open the bank.
                Err(_) => log::warn!("{} is open to every user of this machine (chmod o= ends that)", path.display()),
            }
        }
    }

    /// Forces names that were changed in the folder to disk.
    pub(in crate::dbs_exec) fn sync_folder(&self) -> io::Result<()> {
        File::open(self.folder())?.sync_all()
    }
}

/// The path with something added to its last name.
pub(in crate::dbs_exec) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// How long a file is; nothing when there is none.
pub(in crate::dbs_exec) fn length(path: &Path) -> io::Result<Option<u64>> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Deletes a database of ours and what SQLite may have left beside it.
pub fn remove_database(path: &Path) -> io::Result<()> {
    let companions = Companion::ALL.map(|companion| beside(path, companion.ending()));
    // The database last: as long as it is there, what is left beside it is known to be its own.
    for file in companions.iter().map(PathBuf::as_path).chain([path]) {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn kind(found: &Metadata) -> &'static str {
    let kind = found.file_type();
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_name_of_a_file_leads_to_one_path() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().canonicalize().unwrap();
        fs::create_dir(folder.join("sub")).unwrap();
        symlink("sub/../real.db", folder.join("first")).unwrap();
        symlink(folder.join("first"), folder.join("sub/second")).unwrap();
        symlink("sub", folder.join("folder")).unwrap();
        let resolved = |name: &str| DatabaseFile::resolve(&folder.join(name)).map(|file| file.path);
        // First while the file is still missing, then when it is there.
        for _ in 0..2 {
            for name in ["real.db", "first", "sub/second", "folder/second", "sub/../real.db", "folder/../real.db"] {
                assert_eq!(resolved(name).unwrap(), folder.join("real.db"), "{name}");
            }
            fs::write(folder.join("real.db"), "").unwrap();
        }
        assert_eq!(resolved("file:x.db?mode=memory").unwrap(), folder.join("file:x.db?mode=memory"));
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        symlink("b", directory.path().join("a")).unwrap();
        symlink("a", directory.path().join("b")).unwrap();
        for (name, expected) in [("a", "circle"), (".", "a folder"), ("..", "none"), ("/dev/null", "a device")] {
            let error = DatabaseFile::resolve(&directory.path().join(name)).unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
    }
}
