//! The branch key's file: its name, how it is read, and where the programs that ask branches look for it.
//!
//! Without a name the usual places are tried, because commands need no password on the machine where a branch runs;
//! a folder may hold another bank's key, so all that are found are candidates. A key is never shown.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use crate::proof::{BranchKey, KeyError};

/// The file's name, beside a branch's database.
pub const KEY_FILE: &str = "bank.key";
/// More than a key file holds, in bytes, so that a wrong file, or a device, is not read to its end.
const KEY_FILE_BYTES_MAX: u64 = 1024;

/// A key and where it was found.
#[derive(Clone, Debug)]
pub struct FoundKey {
    /// The file.
    pub path: PathBuf,
    /// Its key.
    pub key: BranchKey,
}

/// Reads a key.
///
/// # Errors
/// When the file can't be read; `InvalidData` when it holds no key.
pub fn read(path: &Path) -> io::Result<BranchKey> {
    let mut text = String::new();
    File::open(path)?.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text)?;
    // An editor that saved the file may have put its mark before the text.
    text.strip_prefix('\u{feff}')
        .unwrap_or(&text)
        .parse()
        .map_err(|error: KeyError| io::Error::new(ErrorKind::InvalidData, error))
}

/// The keys of the usual places, each once: the current directory, beside the database, beside the program, and where
/// a build's program was built from. A file that can't be read or holds no key is passed over.
#[must_use]
pub fn in_usual_places(database: Option<&Path>, program: Option<&Path>) -> Vec<FoundKey> {
    let mut found: Vec<FoundKey> = Vec::new();
    for path in usual_places(database, program) {
        if let Ok(key) = read(&path)
            && found.iter().all(|other| other.key != key)
        {
            found.push(FoundKey { path, key });
        }
    }
    found
}

fn usual_places(database: Option<&Path>, program: Option<&Path>) -> Vec<PathBuf> {
    let mut places = vec![PathBuf::from(KEY_FILE)];
    places.extend(database.map(|database| database.with_file_name(KEY_FILE)));
    if let Some(folder) = program.and_then(Path::parent) {
        places.push(folder.join(KEY_FILE));
        let build = folder.ancestors().find(|ancestor| ancestor.ends_with("target")).and_then(Path::parent);
        places.extend(build.map(|top| top.join(KEY_FILE)));
    }
    places
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("bank-key-file-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_file_holds_one_key_and_nothing_else() {
        let folder = folder("read");
        let path = folder.join("my.key");
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::NotFound);
        fs::write(&path, "nothing").unwrap();
        let error = read(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(error.to_string().contains("64 hexadecimal digits"), "{error}");
        fs::write(&path, "ab".repeat(100_000)).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::InvalidData);
        fs::write(&path, format!("\u{feff}{}\r\n", "ab".repeat(32))).unwrap();
        assert_eq!(read(&path).unwrap(), BranchKey::from_bytes([0xab; 32]));
        fs::write(&path, format!("{}\n", "ab".repeat(32))).unwrap();
        assert_eq!(read(&path).unwrap(), BranchKey::from_bytes([0xab; 32]));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn keys_are_found_beside_the_database_and_the_program_each_once() {
        let folder = folder("usual");
        let (database, program) = (folder.join("bank.db"), folder.join("target/debug/bank-client"));
        fs::create_dir_all(folder.join("target/debug")).unwrap();
        let find = || in_usual_places(Some(&database), Some(&program)).len();
        let before = find();
        fs::write(folder.join(KEY_FILE), "ab".repeat(32)).unwrap();
        assert_eq!(find(), before + 1, "one file, found in two ways");
        fs::write(folder.join("target/debug/bank.key"), "cd".repeat(32)).unwrap();
        assert_eq!(find(), before + 2);
        fs::write(folder.join("target/debug/bank.key"), "damaged").unwrap();
        assert_eq!(find(), before + 1);
        fs::remove_dir_all(folder).unwrap();
    }
}
