//! Finds the branch key. It owns where a key is looked for and how its file is read; the proof is the protocol's.
//!
//! A key that is named must be there and be right. Without a name the usual places are tried, because the commands
//! need no password on the machine where a branch runs; a folder may hold another bank's key, so all that are found
//! are candidates. A key is never shown.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use protocol::proof::BranchKey;

use crate::error::ClientError;

/// What a branch names the file.
const KEY_FILE_NAME: &str = "bank.key";
/// More than a key file holds, so that a wrong file, or a device, is not read to its end.
const KEY_FILE_BYTES_MAX: u64 = 1024;

/// A key and where it was found.
#[derive(Clone, Debug)]
pub struct FoundKey {
    /// The file.
    pub path: PathBuf,
    /// Its key.
    pub key: BranchKey,
}

/// The keys that may be proved to a branch.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// No two of them are the same.
    pub found: Vec<FoundKey>,
    /// Whether the one key was named, so that nothing else will do.
    pub is_named: bool,
}

impl Keys {
    /// The key of a file that was named.
    ///
    /// # Errors
    /// `Usage` when it can't be read or holds no key.
    pub fn named(path: &Path) -> Result<Self, ClientError> {
        let key = read(path).map_err(|problem| {
            ClientError::Usage(format!("the key file {} can't be used ({problem}): check --key", path.display()))
        })?;
        Ok(Self { found: vec![FoundKey { path: path.to_path_buf(), key }], is_named: true })
    }

    /// The keys of the usual places. A file that can't be read or holds no key is passed over.
    #[must_use]
    pub fn in_usual_places(database: Option<&Path>, program: Option<&Path>) -> Self {
        let mut found: Vec<FoundKey> = Vec::new();
        for path in usual_places(database, program) {
            if let Ok(key) = read(&path)
                && found.iter().all(|other| other.key != key)
            {
                found.push(FoundKey { path, key });
            }
        }
        Self { found, is_named: false }
    }
}

/// The current directory, beside the database, beside the program, and where a build's program was built from.
fn usual_places(database: Option<&Path>, program: Option<&Path>) -> Vec<PathBuf> {
    let mut places = vec![PathBuf::from(KEY_FILE_NAME)];
    places.extend(database.map(|database| database.with_file_name(KEY_FILE_NAME)));
    if let Some(folder) = program.and_then(Path::parent) {
        places.push(folder.join(KEY_FILE_NAME));
        let build = folder.ancestors().find(|ancestor| ancestor.ends_with("target")).and_then(Path::parent);
        places.extend(build.map(|top| top.join(KEY_FILE_NAME)));
    }
    places
}

fn read(path: &Path) -> io::Result<BranchKey> {
    let mut text = String::new();
    fs::File::open(path)?.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text)?;
    text.parse().map_err(|error: protocol::proof::KeyError| io::Error::new(ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("bank-client-key-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_named_key_must_be_there_and_right() {
        let folder = folder("named");
        let path = folder.join("my.key");
        let problem = |path: &Path| Keys::named(path).unwrap_err().to_string();
        assert!(problem(&path).contains("check --key"), "{}", problem(&path));
        fs::write(&path, "nothing").unwrap();
        assert!(problem(&path).contains("64 hexadecimal digits"), "{}", problem(&path));
        fs::write(&path, format!("{}\n", "ab".repeat(32))).unwrap();
        let keys = Keys::named(&path).unwrap();
        assert!(keys.is_named);
        assert_eq!(keys.found[0].key, BranchKey::from_bytes([0xab; 32]));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn keys_are_found_beside_the_database_and_the_program_each_once() {
        let folder = folder("usual");
        let (database, program) = (folder.join("bank.db"), folder.join("target/debug/bank-client"));
        fs::create_dir_all(folder.join("target/debug")).unwrap();
        let find = || Keys::in_usual_places(Some(&database), Some(&program));
        let before = find().found.len();
        fs::write(folder.join(KEY_FILE_NAME), "ab".repeat(32)).unwrap();
        assert_eq!(find().found.len(), before + 1, "one file, found in two ways");
        fs::write(folder.join("target/debug/bank.key"), "cd".repeat(32)).unwrap();
        assert_eq!(find().found.len(), before + 2);
        fs::write(folder.join("target/debug/bank.key"), "damaged").unwrap();
        assert_eq!(find().found.len(), before + 1);
        assert!(!find().is_named);
        fs::remove_dir_all(folder).unwrap();
    }
}
