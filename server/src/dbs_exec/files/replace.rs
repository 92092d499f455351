//! Putting another database in the place of one: the old one or the new one, at whatever moment it is broken off.
//!
//! A database is several files, and no system call changes the names of several. So the change is first written down,
//! in one file that gets its name at once when it is whole: that is the moment from which the new database is the one.
//! Then the old files are moved aside one after another, and the new one takes the name. Whoever opens the database
//! under its lock finishes what is written down first ([`finish`]); each step may be taken again. A step that the
//! system refuses is taken back together with those before it.
//!
//! The log goes aside with its file, so what is kept is the whole old database, and no file ever stands beside the
//! other one's log.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::dbs_exec::files::database_file::{Companion, DatabaseFile, PRIVATE, beside, length};
use crate::dbs_exec::files::file_lock::FileLock;
use crate::dbs_exec::files::temporary_file::TemporaryFile;
use crate::dbs_exec::open_error::OpenError;

/// What is written down is found under the database's name with this ending.
const PLAN_ENDING: &str = ".replace";
/// How the file with what is written down begins.
const PLAN_HEAD: &[u8] = b"bank replace 1";

/// A change that is written down, or to be.
#[derive(Clone, Debug)]
struct Plan {
    /// The new database, in the same folder: one file that needs no other.
    replacement: PathBuf,
    /// Under which name the old one is kept.
    kept: PathBuf,
}

impl Plan {
    fn read(file: &DatabaseFile) -> io::Result<Option<Self>> {
        let bytes = match fs::read(file.beside(PLAN_ENDING)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut parts = bytes.split(|&byte| byte == 0);
        let (head, replacement, kept) = (parts.next(), parts.next(), parts.next());
        match (head, replacement, kept) {
            (Some(PLAN_HEAD), Some(replacement), Some(kept)) if !replacement.is_empty() && !kept.is_empty() => {
                let in_folder = |name: &[u8]| file.folder().join(OsStr::from_bytes(name));
                Ok(Some(Self { replacement: in_folder(replacement), kept: in_folder(kept) }))
            }
            // Its name was given to it whole, so this is not a crash's work; to guess what was meant could lose the
            // newer bank.
            _ => Err(io::Error::other(format!("{} is damaged", file.beside(PLAN_ENDING).display()))),
        }
    }

    /// Writes it down, durably.
    fn write(&self, file: &DatabaseFile) -> io::Result<()> {
        let (path, replacement) = (file.beside(PLAN_ENDING), file.beside(".replace.part"));
        let mut out = file.open_beside(&replacement)?;
        out.set_len(0)?;
        for part in [PLAN_HEAD, last_name(&self.replacement), last_name(&self.kept)] {
            out.write_all(part)?;
            out.write_all(&[0])?;
        }
        out.sync_all()?;
        fs::rename(&replacement, &path)?;
        file.sync_folder()
    }
}

/// Whether a change of this database was broken off.
pub(in crate::dbs_exec) fn is_interrupted(file: &DatabaseFile) -> bool {
    file.beside(PLAN_ENDING).exists()
}

/// Finishes a change that was broken off, under the database's lock. Returns where the old one is kept.
pub(in crate::dbs_exec) fn finish(file: &DatabaseFile) -> io::Result<Option<PathBuf>> {
    let Some(plan) = Plan::read(file)? else { return Ok(None) };
    // The new database still has its temporary name: what is left to do is done.
    if plan.replacement.exists() {
        carry_out(file, &plan, &mut Vec::new())?;
    } else if !file.exists() && plan.kept.exists() {
        // Somebody has removed the new database: the old one is what is left.
        for companion in Companion::ALL {
            let kept = beside(&plan.kept, companion.ending());
            if kept.exists() {
                fs::rename(kept, file.companion(companion))?;
            }
        }
        fs::rename(&plan.kept, file.path())?;
        remove_plan(file)?;
        return Err(io::Error::other(
            "a restore was broken off and its new database is gone: the old one is back in its place, start again",
        ));
    }
    // Without its replacement, and with a database, the change was done, but for this.
    remove_plan(file)?;
    Ok(Some(plan.kept))
}

/// Locks the database, so that it can be replaced; a change that was broken off is finished first.
///
/// # Errors
/// [`OpenError`]: it is in use, or its files can't be used.
pub fn lock_to_replace(file: &DatabaseFile) -> Result<FileLock, OpenError> {
    let mut lock = FileLock::acquire_name(file)?;
    finish(file)?;
    lock.lock_file(file)?;
    Ok(lock)
}

/// Puts a replacement in the place of a database, as `replace` does. The lock is the database's.
///
/// # Errors
/// As `replace`.
pub fn replace_database(
    file: &DatabaseFile,
    _lock: &FileLock,
    replacement: TemporaryFile,
    kept: &Path,
) -> Result<bool, String> {
    let replaced = replace(file, replacement.path(), kept);
    // What is written down still needs it, or it has its name by now.
    if replaced.is_ok() || is_interrupted(file) {
        replacement.mark_published();
    }
    replaced
}

/// Puts the database at `replacement`, which is one file on disk in the same folder, in the place of `file`, under its lock.
/// The old one, if there is one, is kept as `kept`; returns whether there was. Owner, group and mode stay the old one's.
///
/// # Errors
/// One sentence; the old database is in its place then, or the next start finishes the change, and the sentence says
/// so.
pub(in crate::dbs_exec) fn replace(file: &DatabaseFile, replacement: &Path, kept: &Path) -> Result<bool, String> {
    let failed = |error: io::Error| format!("{} could not be replaced: {error}", file.path().display());
    let had_old = file.exists();
    take_after(file, replacement).map_err(failed)?;
    let plan = Plan { replacement: replacement.to_path_buf(), kept: kept.to_path_buf() };
    let mut moved = Vec::new();
    let done = plan.write(file).and_then(|()| carry_out(file, &plan, &mut moved));
    if let Err(error) = done {
        let undone = moved.iter().rev().try_for_each(|(from, to): &(PathBuf, PathBuf)| fs::rename(to, from));
        return match undone.and_then(|()| remove_plan(file)) {
            Ok(()) => Err(failed(error)),
            Err(undo) => Err(format!(
                "{} could not be replaced ({error}), nor put back ({undo}): the next start of the branch finishes the change to the new database",
                file.path().display()
            )),
        };
    }
    // It is done whether or not this succeeds: the next start removes what is written down.
    if let Err(error) = remove_plan(file) {
        log::warn!("{} could not be removed: {error}", file.beside(PLAN_ENDING).display());
    }
    make_private(kept);
    Ok(had_old)
}

/// Moves the old files aside, and the new one in their place. `moved` are the names that were changed.
fn carry_out(file: &DatabaseFile, plan: &Plan, moved: &mut Vec<(PathBuf, PathBuf)>) -> io::Result<()> {
    let mut kept = plan.kept.clone();
    // Somebody has made another database under the name since the change was broken off: neither is lost.
    for number in 2.. {
        if !kept.exists() || !file.exists() {
            break;
        }
        kept = beside(&plan.kept, &format!("-{number}"));
    }
    let mut rename = |from: PathBuf, to: PathBuf| -> io::Result<()> {
        fs::rename(&from, &to)?;
        moved.push((from, to));
        Ok(())
    };
    for companion in Companion::ALL {
        let from = file.companion(companion);
        match length(&from)? {
            None => {}
            // Nothing is in it that would be missed.
            Some(0) => fs::remove_file(from)?,
            Some(_) => rename(from, beside(&kept, companion.ending()))?,
        }
    }
    if file.exists() {
        rename(file.path().to_path_buf(), kept)?;
    }
    // On disk before the next step, so that no order of the disk's own leaves the new file beside the old log.
    file.sync_folder()?;
    rename(plan.replacement.clone(), file.path().to_path_buf())?;
    file.sync_folder()
}

fn remove_plan(file: &DatabaseFile) -> io::Result<()> {
    for path in [file.beside(PLAN_ENDING), file.beside(".replace.part")] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    file.sync_folder()
}

/// Gives the new file the owner, the group and the mode of the database that it replaces.
fn take_after(file: &DatabaseFile, replacement: &Path) -> io::Result<()> {
    let opened = File::open(replacement)?;
    let (owner, group) = file.owner()?;
    let made = opened.metadata()?;
    let is_root = rustix::process::geteuid().is_root();
    if file.exists() {
        if (made.uid(), made.gid()) != (owner, group) {
            std::os::unix::fs::fchown(&opened, Some(owner), Some(group)).map_err(|error| {
                io::Error::new(error.kind(), format!("it belongs to user {owner} and group {group}, and the new one can't be given to them ({error}); run this as that user"))
            })?;
        }
        let mode = fs::metadata(file.path())?.permissions().mode() & 0o770;
        fs::set_permissions(replacement, fs::Permissions::from_mode(mode))?;
    } else if is_root {
        file.give_to_owner(&opened)?;
    }
    opened.sync_all()
}

/// What was kept may have been readable by others under an older program's umask.
fn make_private(kept: &Path) {
    for path in [kept.to_path_buf(), beside(kept, "-wal"), beside(kept, "-journal")] {
        if path.exists()
            && let Err(error) = fs::set_permissions(&path, fs::Permissions::from_mode(PRIVATE))
        {
            log::warn!("{}: {error}", path.display());
        }
    }
    // An index of the log, which SQLite makes anew.
    let _ = fs::remove_file(beside(kept, "-shm"));
}

fn last_name(path: &Path) -> &[u8] {
    path.file_name().map_or(b"", OsStr::as_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with the old database in two files and a replacement.
    fn folder() -> (tempfile::TempDir, DatabaseFile, PathBuf, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let file = DatabaseFile::resolve(&directory.path().join("bank.db")).unwrap();
        fs::write(file.path(), "old").unwrap();
        fs::write(file.beside("-wal"), "old log").unwrap();
        let (replacement, kept) = (file.beside(".part"), file.beside(".before"));
        fs::write(&replacement, "new").unwrap();
        (directory, file, replacement, kept)
    }

    fn is_new(file: &DatabaseFile, kept: &Path) {
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "new");
        assert!(!file.beside("-wal").exists() && !is_interrupted(file));
        assert_eq!(fs::read_to_string(kept).unwrap(), "old");
        assert_eq!(fs::read_to_string(beside(kept, "-wal")).unwrap(), "old log");
    }

    #[test]
    fn a_change_keeps_the_old_files_together() {
        let (_directory, file, replacement, kept) = folder();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(replace(&file, &replacement, &kept), Ok(true));
        is_new(&file, &kept);
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_change_that_is_broken_off_after_any_step_is_finished() {
        for steps in 0..=4 {
            let (_directory, file, replacement, kept) = folder();
            let plan = Plan { replacement: replacement.clone(), kept: kept.clone() };
            plan.write(&file).unwrap();
            let names = [
                (file.beside("-wal"), beside(&kept, "-wal")),
                (file.path().to_path_buf(), kept.clone()),
                (replacement, file.path().to_path_buf()),
            ];
            for (from, to) in names.iter().take(steps) {
                fs::rename(from, to).unwrap();
            }
            assert!(is_interrupted(&file));
            assert_eq!(finish(&file).unwrap(), Some(kept.clone()));
            is_new(&file, &kept);
            assert_eq!(finish(&file).unwrap(), None);
        }
    }

    #[test]
    fn a_change_that_is_refused_is_taken_back() {
        let (_directory, file, replacement, kept) = folder();
        // The log can be moved, and what stands for the journal can't: there is a folder with something in it.
        fs::create_dir(file.beside("-journal")).unwrap();
        fs::create_dir_all(beside(&kept, "-journal").join("x")).unwrap();
        assert!(replace(&file, &replacement, &kept).unwrap_err().contains("could not be replaced"));
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "old");
        assert_eq!(fs::read_to_string(file.beside("-wal")).unwrap(), "old log");
        assert!(replacement.exists() && !is_interrupted(&file));
    }

    #[test]
    fn a_database_made_meanwhile_is_kept_too() {
        let (_directory, file, replacement, kept) = folder();
        Plan { replacement, kept: kept.clone() }.write(&file).unwrap();
        fs::rename(file.beside("-wal"), beside(&kept, "-wal")).unwrap();
        fs::rename(file.path(), &kept).unwrap();
        fs::write(file.path(), "an older program's").unwrap();
        finish(&file).unwrap();
        is_new(&file, &kept);
        assert_eq!(fs::read_to_string(beside(&kept, "-2")).unwrap(), "an older program's");
    }
}
