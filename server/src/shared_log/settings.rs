//! Where a shared log is, as it was typed. It may have a password in it, so it is shown nowhere as it is.

use std::ffi::OsString;
use std::fmt;

/// A `postgres://…`, as the command line or the environment has it.
#[derive(Clone, PartialEq, Eq)]
pub struct LogUrl(String);

impl From<OsString> for LogUrl {
    /// Takes any text: what is wrong with it is said later, by who doesn't repeat it.
    fn from(text: OsString) -> Self {
        Self(text.to_string_lossy().into_owned())
    }
}

impl fmt::Debug for LogUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogUrl(…)")
    }
}

impl LogUrl {
    /// The text, for who connects by it.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_it_is_not_shown() {
        let url = LogUrl::from(OsString::from("postgres://bank:secret@db/bank"));
        assert!(!format!("{url:?}").contains("secret") && url.secret().contains("secret"));
    }
}
