//! The branch key: made at the first start, kept beside the database unless `--key` says otherwise, shared by all
//! branches of a bank.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use protocol::key_file::{KEY_FILE, read};
use protocol::proof::{BranchKey, PROOF_BYTES};

/// Where the key of a database is: `bank.key` in the same folder.
#[must_use]
pub fn key_path(db: &Path) -> PathBuf {
    db.with_file_name(KEY_FILE)
}

/// Reads the key, or makes one that only this user can read.
///
/// # Errors
/// One sentence for the operator.
pub fn find_or_make(path: &Path) -> Result<BranchKey, String> {
    let trouble = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    match read(path) {
        Ok(key) => Ok(key),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path).map_err(|error| trouble(&error)),
        Err(error) => Err(trouble(&error)),
    }
}

/// Writes a new key under another name first and then links it into place: of two branches that start at
/// the same time in one folder, both get the same whole key.
fn make(path: &Path) -> io::Result<BranchKey> {
    let mut bytes = [0; PROOF_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let key = BranchKey::from_bytes(bytes);
    let draft = path.with_extension(format!("key.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(format!("{}\n", key.to_text()).as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Ok(()) => {
            log::info!("a new branch key was made: {}; copy it to the bank's other branches", path.display());
            Ok(key)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = key_path(&directory.path().join("bank.db"));
        let key = find_or_make(&path).unwrap();
        assert_eq!(find_or_make(&path), Ok(key));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_spoiled_key_is_refused_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bank.key");
        fs::write(&path, "spoiled").unwrap();
        assert!(find_or_make(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "spoiled");
    }
}
