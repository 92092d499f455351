//! The keys that may be proved to a branch. How their files are found and read is the protocol's.

use std::path::{Path, PathBuf};

use protocol::key_file::{self, FoundKey};

/// The keys that may be proved to a branch.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// No two of them are the same.
    pub found: Vec<FoundKey>,
    /// Whether the one key was named, so that nothing else will do.
    pub is_named: bool,
}

impl Keys {
    /// The key of a file that was named by `--key`: it must be there and be right.
    ///
    /// # Errors
    /// One sentence when it can't be read or holds no key.
    pub fn named(path: &Path) -> Result<Self, String> {
        let key = key_file::read(path)
            .map_err(|problem| format!("the key file {} can't be used ({problem}): check --key", path.display()))?;
        Ok(Self { found: vec![FoundKey { path: PathBuf::from(path), key }], is_named: true })
    }

    /// The keys of the usual places.
    #[must_use]
    pub fn in_usual_places(database: Option<&Path>, program: Option<&Path>) -> Self {
        Self { found: key_file::in_usual_places(database, program), is_named: false }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_named_key_must_be_there_and_right() {
        let path = std::env::temp_dir().join(format!("branch-client-named-{}.key", std::process::id()));
        let problem = || Keys::named(&path).unwrap_err();
        assert!(problem().contains("check --key"), "{}", problem());
        fs::write(&path, "nothing").unwrap();
        assert!(problem().contains("64 hexadecimal digits"), "{}", problem());
        fs::write(&path, format!("{}\n", "ab".repeat(32))).unwrap();
        assert!(Keys::named(&path).unwrap().is_named);
        fs::remove_file(path).unwrap();
    }
}
