//! What `bank-server` does with a database that no server has open: `passwd` and `audit`.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::process::ExitCode;
use std::sync::Arc;

use super::audit::audit_at_rest;
use crate::bank::customer::{CustomerError, NewPassword};
use crate::bank::hashing::Orderer;
use crate::bank::passwords::HashCost;
use crate::bank::{Bank, BankSettings};
use crate::cli::arguments::DatabaseArguments;
use crate::cli::report::Report;
use crate::dbs_exec::{ChainHead, DbsExec, OpenError, Opening, ReadOnlyDatabase, Reader};
use crate::replication::COMMIT_LOG;
use crate::service::audit;
use command_line::echo::{Echo as _, TerminalEcho};
use command_line::streams::write_patiently;
use protocol::Money;
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::iterator::Signals;

/// Sets the password of an account, or of the administrator for 0.
///
/// # Errors
/// One sentence for the operator.
pub fn passwd(database: &DatabaseArguments, account: u64) -> Result<ExitCode, String> {
    let bank = open_at_rest(database)?;
    let who = if account == 0 { "the administrator".to_string() } else { format!("account {account}") };
    let password = read_new_password(&who)?;
    check_new_password(&password).map_err(|error| error.to_string())?;
    let number = i64::try_from(account).map_err(|_| protocol::IdError::AccountNum.to_string())?;
    bank.set_password(number, &password, Orderer::BRANCH).map_err(|error| error.to_string())?;
    let done = format!("the password of {who} is changed");
    let mut report = Report::default();
    report.line(&done);
    Ok(report.print(&done, ExitCode::SUCCESS))
}

/// Audits the books, the hash chain and the file, and changes nothing, in the folder neither. The head of the chain is
/// printed for who keeps it elsewhere.
///
/// # Errors
/// One sentence for the operator, when there could be no audit.
pub fn audit(database: &DatabaseArguments, json: bool, expected: Option<ChainHead>) -> Result<ExitCode, String> {
    let path = database.path();
    let trouble = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let database = ReadOnlyDatabase::open_newest(&path).map_err(|error| trouble(&error))?;
    if database.is_served() {
        return Err(trouble(&OpenError::InUse(path.clone())));
    }
    let audited = database.read(|reader| Ok((Bank::name_in(reader)?, audit_at_rest(reader, expected)?)));
    let (name, audit) = audited.map_err(|error| trouble(&error))?;
    let name = name.ok_or_else(|| trouble(&"no branch was ever opened with this database"))?;
    let verdict = if audit.ok { "the books are clean" } else { "the books are NOT clean" };
    let mut report = Report::default();
    if json {
        report.line(serde_json::to_string(&audit).map_err(|error| error.to_string())?);
    } else {
        for finding in &audit.findings {
            report.line(format_args!("finding: {finding}"));
        }
        report.line(format_args!("branch        {name}"));
        report.line(format_args!("transactions  {}", audit.transactions));
        report.line(format_args!("balances      Rs {}", audit.balances));
        report.line(format_args!("sent, net     Rs {}", audit.in_transit));
        report.line(format_args!("paid in       Rs {}", audit.paid_in));
        report.line(format_args!("paid out      Rs {}", audit.paid_out));
        report.line(format_args!("suspense      Rs {}", audit.suspense));
        if let Some(head) = &audit.chain_head {
            report.line(format_args!("chain head    {}:{}", head.transaction_id, head.hash));
        }
        report.line(verdict);
    }
    let status = if audit.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    Ok(report.print(&format!("the audit is done, and {verdict}"), status))
}

/// Whether a password may be set.
///
/// # Errors
/// What is wrong with it, in one sentence.
pub fn check_new_password(password: &str) -> Result<(), CustomerError> {
    password.parse::<NewPassword>().map(|_| ())
}

/// Opens an existing database under the name that it has.
fn open_at_rest(database: &DatabaseArguments) -> Result<Bank, String> {
    let path = database.path();
    let trouble = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let opening = Opening { must_exist: true, judge: &judge_books, remote_log: None };
    let dbs = Arc::new(DbsExec::open_as(&path, &opening, |_| {}).map_err(|error| trouble(&error))?);
    if dbs.copy_state().started_with.as_deref() == Some(COMMIT_LOG) {
        return Err(trouble(
            &"its commit log is elsewhere, so nothing is written here alone: use the menu, or BANK_ADMIN_PASSWORD",
        ));
    }
    let stored = Bank::stored_name(&dbs).map_err(|error| trouble(&error))?;
    let name = stored.ok_or_else(|| trouble(&"no branch was ever opened with this database"))?;
    Bank::open(dbs, BankSettings { name, opening_balance: Money::ZERO, hash_cost: HashCost::OWASP }, None)
        .map_err(|error| trouble(&error))
}

/// What is wrong with books that come of a database and a log of which nobody knows whether they belong together.
///
/// # Errors
/// [`crate::error::Error::Database`] when SQLite fails.
pub fn judge_books(reader: &Reader<'_>) -> crate::error::Result<Vec<String>> {
    Ok(audit::audit(reader)?.findings)
}

fn read_new_password(who: &str) -> Result<String, String> {
    let trouble = |error: io::Error| format!("the password could not be read: {error}");
    if !io::stdin().is_terminal() {
        return read_line().map_err(trouble);
    }
    guard_echo().map_err(trouble)?;
    let password = ask_hidden(&format!("New password of {who}: ")).map_err(trouble)?;
    let again = ask_hidden("The same again: ").map_err(trouble)?;
    if password == again { Ok(password) } else { Err("the two passwords differ; nothing was changed".into()) }
}

fn ask_hidden(question: &str) -> io::Result<String> {
    let mut echo = TerminalEcho::default();
    echo.hide()?;
    let answer = write_patiently(&mut io::stderr().lock(), question.as_bytes()).and_then(|()| read_line());
    echo.restore()?;
    answer
}

fn read_line() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_string())
}

/// Gives the terminal back with its echo on when a signal ends or stops the program while a password is typed.
fn guard_echo() -> io::Result<()> {
    let original = tcgetattr(io::stdin())?;
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP])?;
    let restore = move || {
        for signal in signals.forever() {
            let hidden = tcgetattr(io::stdin());
            // Where the terminal is gone nothing is to be given back.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &original);
            let _ = signal_hook::low_level::emulate_default_handler(signal);
            // Only a stop comes back here; the question is still open.
            if let Ok(hidden) = hidden {
                let _ = tcsetattr(io::stdin(), OptionalActions::Now, &hidden);
            }
        }
    };
    std::thread::Builder::new().name("echo".into()).spawn(restore).map(drop)
}
