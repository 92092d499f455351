//! How a branch is to be started.

use std::path::PathBuf;

/// A branch's flags and variables, beside those that the harness sets (`--port`, `--menu-port`, `--db`).
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) flags: Vec<String>,
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) database: Option<PathBuf>,
    pub(crate) has_lab: bool,
    pub(crate) crash_at: Option<String>,
    pub(crate) program: Option<PathBuf>,
    pub(crate) user: Option<u32>,
}

impl Options {
    /// A branch named Mumbai without any account.
    #[must_use]
    pub fn empty() -> Self {
        let flags = vec!["--name".into(), "Mumbai".into()];
        Self { flags, variables: Vec::new(), database: None, has_lab: false, crash_at: None, program: None, user: None }
    }

    /// A branch named Mumbai with the sample accounts 1001 and 1002, Rs 1000.00 in each.
    #[must_use]
    pub fn preloaded() -> Self {
        Self::empty().flag("--preload")
    }

    /// A branch without a single flag of its own, not even a name.
    #[must_use]
    pub fn bare() -> Self {
        Self { flags: Vec::new(), ..Self::empty() }
    }

    /// A branch of this name with the sample accounts 1001 and 1002, Rs 1000.00 in each.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::bare().value("--name", name).flag("--preload")
    }

    /// Killing itself at this point of a transfer. Once: started again, it does not.
    #[must_use]
    pub fn crash_at(mut self, point: &str) -> Self {
        self.crash_at = Some(point.into());
        self
    }

    /// With one more argument.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// With one more flag and its value.
    #[must_use]
    pub fn value(self, flag: &str, value: impl ToString) -> Self {
        self.flag(flag).flag(value.to_string())
    }

    /// With an environment variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl ToString) -> Self {
        self.variables.push((name.into(), value.to_string()));
        self
    }

    /// On this database instead of one in a folder of its own.
    #[must_use]
    pub fn database(mut self, path: impl Into<PathBuf>) -> Self {
        self.database = Some(path.into());
        self
    }

    /// With the older client's port open, on a port of its own choosing.
    #[must_use]
    pub fn lab(mut self) -> Self {
        self.has_lab = true;
        self.value("--lab-port", 0)
    }

    /// Run from this copy of the program, as this user: only root can ask for that.
    #[must_use]
    pub fn as_user(mut self, program: impl Into<PathBuf>, user: u32) -> Self {
        self.program = Some(program.into());
        self.user = Some(user);
        self
    }
}
