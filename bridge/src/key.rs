//! Finds the branch key. It owns where a key is looked for and how its file is read; the proof is the protocol's.
//!
//! A key that is named must be there and be right. Without a name the usual places are tried, as `bank-client` does;
//! a folder may hold another bank's key, so all that are found are candidates. A key is never shown.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use protocol::proof::BranchKey;
use tls::Connector;

/// What a branch names the file.
const KEY_FILE_NAME: &str = "bank.key";
/// More than a key file holds, so that a wrong file, or a device, is not read to its end.
const KEY_FILE_BYTES_MAX: u64 = 1024;

/// The keys that may be proved to a branch, and how it is met.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// No two of them are the same.
    pub found: Vec<BranchKey>,
    /// Whether the one key was named, so that nothing else will do.
    pub is_named: bool,
    /// For branches that speak TLS: they are met by nothing else then.
    pub tls: Option<Connector>,
}

impl Keys {
    /// The key of a file that was named.
    ///
    /// # Errors
    /// One sentence when it can't be read or holds no key.
    pub fn named(path: &Path) -> Result<Self, String> {
        let key = read(path)
            .map_err(|problem| format!("the key file {} can't be used ({problem}): check --key", path.display()))?;
        Ok(Self { found: vec![key], is_named: true, tls: None })
    }

    /// The keys of the usual places. A file that can't be read or holds no key is passed over.
    #[must_use]
    pub fn in_usual_places(database: Option<&Path>, program: Option<&Path>) -> Self {
        let mut found: Vec<BranchKey> = Vec::new();
        for path in usual_places(database, program) {
            if let Ok(key) = read(&path)
                && !found.contains(&key)
            {
                found.push(key);
            }
        }
        Self { found, is_named: false, tls: None }
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

    #[test]
    fn a_named_key_must_be_there_and_right_and_others_are_found() {
        let folder = std::env::temp_dir().join(format!("bank-bridge-key-{}", std::process::id()));
        fs::create_dir_all(folder.join("target/debug")).unwrap();
        let path = folder.join(KEY_FILE_NAME);
        assert!(Keys::named(&path).unwrap_err().contains("check --key"));
        fs::write(&path, "nothing").unwrap();
        assert!(Keys::named(&path).unwrap_err().contains("64 hexadecimal digits"));
        fs::write(&path, format!("{}\n", "ab".repeat(32))).unwrap();
        assert!(Keys::named(&path).unwrap().is_named);
        let program = folder.join("target/debug/bank-bridge");
        let found = Keys::in_usual_places(Some(&folder.join("bank.db")), Some(&program)).found;
        assert_eq!(found.iter().filter(|key| **key == BranchKey::from_bytes([0xab; 32])).count(), 1);
        fs::remove_dir_all(folder).unwrap();
    }
}
