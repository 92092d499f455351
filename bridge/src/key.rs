//! The keys that may be proved to a branch, and how it is met. How their files are found and read is the protocol's.

use std::path::Path;

use protocol::key_file;
use protocol::proof::BranchKey;
use tls::Connector;

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
    /// The key of a file that was named: it must be there and be right.
    ///
    /// # Errors
    /// One sentence when it can't be read or holds no key.
    pub fn named(path: &Path) -> Result<Self, String> {
        let key = key_file::read(path)
            .map_err(|problem| format!("the key file {} can't be used ({problem}): check --key", path.display()))?;
        Ok(Self { found: vec![key], is_named: true, tls: None })
    }

    /// The keys of the usual places, as `bank-client` finds them.
    #[must_use]
    pub fn in_usual_places(database: Option<&Path>, program: Option<&Path>) -> Self {
        let found = key_file::in_usual_places(database, program).into_iter().map(|found| found.key).collect();
        Self { found, is_named: false, tls: None }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_named_key_must_be_there_and_right() {
        let path = std::env::temp_dir().join(format!("bank-bridge-named-{}.key", std::process::id()));
        assert!(Keys::named(&path).unwrap_err().contains("check --key"));
        fs::write(&path, "nothing").unwrap();
        assert!(Keys::named(&path).unwrap_err().contains("64 hexadecimal digits"));
        fs::write(&path, format!("{}\n", "ab".repeat(32))).unwrap();
        assert!(Keys::named(&path).unwrap().is_named);
        fs::remove_file(path).unwrap();
    }
}
