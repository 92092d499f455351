//! Which PostgreSQL servers a `postgres://…` means, and the password for them.
//!
//! The text is PostgreSQL's own connection string: several hosts, `target_session_attrs`, `sslmode`. A password is best
//! kept out of it, in the file that `PGPASSFILE` names or `~/.pgpass`, which PostgreSQL's own programs read as well: a
//! line `host:port:database:user:password` each, `*` for any, and nobody else may read the file.

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::shared_log::settings::LogUrl;

/// PostgreSQL's port when none is named.
const DEFAULT_PORT: u16 = 5432;

/// The servers, and how to log in there.
#[derive(Clone)]
pub struct Target {
    /// User, password, database.
    pub config: Config,
    /// Where a server may be.
    pub servers: Vec<(String, u16)>,
    /// Whether TLS is asked for: never, where the server has it, or always.
    pub ssl_mode: SslMode,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("servers", &self.servers).finish_non_exhaustive()
    }
}

impl Target {
    /// Reads a connection string, and the password file if it has no password.
    ///
    /// # Errors
    /// One sentence, without the text that it was given.
    pub fn read(url: &LogUrl) -> Result<Self, String> {
        if !url.secret().starts_with("postgres://") && !url.secret().starts_with("postgresql://") {
            return Err("--commit-log: it is not postgres://user@host/database".into());
        }
        // The library's error names the part that is wrong; a part may be the password.
        let mut config: Config =
            url.secret().parse().map_err(|_| "--commit-log: PostgreSQL would not understand this connection string")?;
        let mut servers = Vec::new();
        for (index, host) in config.get_hosts().iter().enumerate() {
            let port = config.get_ports().get(index).or(config.get_ports().first()).copied().unwrap_or(DEFAULT_PORT);
            match host {
                Host::Tcp(host) => servers.push((host.clone(), port)),
                Host::Unix(_) => return Err("--commit-log: name a host, not a folder with a socket".into()),
            }
        }
        if servers.is_empty() {
            return Err("--commit-log: it names no host".into());
        }
        let user = config.get_user().map(ToOwned::to_owned).ok_or("--commit-log: it names no user")?;
        let database = config.get_dbname().unwrap_or(&user).to_string();
        if config.get_password().is_none()
            && let Some(password) = find_password(&servers, &database, &user)?
        {
            config.password(password);
        }
        let ssl_mode = config.get_ssl_mode();
        // Each connection is dialled, and its TLS agreed on, before the library sees it.
        config.ssl_mode(SslMode::Disable);
        Ok(Self { config, servers, ssl_mode })
    }

    /// The servers, for people.
    #[must_use]
    pub fn name(&self) -> String {
        let servers: Vec<String> = self.servers.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        format!("PostgreSQL at {}", servers.join(", "))
    }
}

fn find_password(servers: &[(String, u16)], database: &str, user: &str) -> Result<Option<String>, String> {
    let named = std::env::var_os("PGPASSFILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    let is_named = named.is_some();
    let path = named.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".pgpass")));
    let Some(path) = path else { return Ok(None) };
    let failed = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
    let Ok(metadata) = path.metadata() else {
        return if is_named { Err(failed(&"PGPASSFILE names no file that can be read")) } else { Ok(None) };
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(failed(&"others may read this file of passwords: chmod 600"));
    }
    let text = std::fs::read_to_string(&path).map_err(|error| failed(&error))?;
    Ok(servers.iter().find_map(|(host, port)| {
        text.lines().find_map(|line| password_in(line, [host, &port.to_string(), database, user]))
    }))
}

/// The password of a line, if the line is for these four.
fn password_in(line: &str, wanted: [&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => fields.last_mut()?.extend(characters.next()),
            // The password is the rest of the line.
            ':' if fields.len() <= wanted.len() => fields.push(String::new()),
            other => fields.last_mut()?.push(other),
        }
    }
    let password = fields.pop().filter(|_| fields.len() == wanted.len())?;
    let is_meant = fields.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted);
    is_meant.then_some(password)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn a_line_of_the_password_file_is_for_whom_it_names() {
        let check = |line: &str, expected: Option<&str>| {
            let found = password_in(line, ["db1", "5432", "bank", "clerk"]);
            assert_eq!(found.as_deref(), expected, "{line}");
        };
        check("db1:5432:bank:clerk:secret", Some("secret"));
        check("*:*:*:*:with:colon", Some("with:colon"));
        check(r"*:*:*:clerk:a\:b\\c", Some(r"a:b\c"));
        check("db2:5432:bank:clerk:secret", None);
        check("# db1:5432:bank:clerk:secret", None);
        check("db1:5432:bank", None);
    }

    #[test]
    fn several_hosts_are_read_and_no_error_repeats_what_was_typed() {
        let read = |text: &str| Target::read(&LogUrl::from(OsString::from(text)));
        let target = read("postgres://clerk:secret@a:1,b:2,c/bank?target_session_attrs=read-write").unwrap();
        assert_eq!(target.name(), "PostgreSQL at a:1, b:2, c:5432");
        assert!(!format!("{target:?}").contains("secret"));
        for wrong in
            ["mysql://clerk:secret@a/bank", "postgres://clerk:secret@a:port/bank", "postgres://a?secret=secret"]
        {
            let error = read(wrong).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
