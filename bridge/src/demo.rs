//! `bank-bridge demo`: a whole bank on this machine, for a lecture. Three branches, their customers, and the bridge.
//!
//! Everything is kept in one folder, and a second start finds it as it was. One demo runs in a folder at a time: a lock
//! says so. The branches are real processes ([`crate::supervisor`]), started with `--teaching`, and end with this one,
//! which ends by a signal or with its terminal.

use std::fs::{self, File, TryLockError};
use std::io::{self, IsTerminal as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use branch_client::{Credentials, Keys};
use protocol::answer::{AccountLine, Created};
use protocol::connection::CallError;
use protocol::key_file::KEY_FILE;
use protocol::request::{Action, CreateAccount, LIST_ROWS_DEFAULT, ListAccounts};
use protocol::{AccountNum, BranchName, Money, NamedAddress};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Signal, getpid, kill_process};

use crate::arguments::{DEMO_FOLDER, DemoArguments, ServeArguments};
use crate::branch::find;
use crate::bridge::Restarter;
use crate::config::Config;
use crate::supervisor::{Ports, Supervisor};

/// The file that is locked as long as a demo runs in its folder. A folder without it is none of ours.
const LOCK_FILE: &str = "demo.lock";
/// What the page calls the bank.
const BANK_NAME: &str = "The Demo Bank";
/// The number of each branch's first customer beside the two that every branch makes itself.
const FIRST_ACCOUNT: u64 = 1003;

/// A branch of the demo.
struct DemoBranch {
    name: &'static str,
    ports: Ports,
    /// Beside Asha Rao and Vikram Shah, whom every branch has.
    customers: [(&'static str, Money); 4],
}

const BRANCHES: [DemoBranch; 3] = [
    DemoBranch {
        name: "Mumbai",
        ports: Ports { branch: 9100, menu: 1069 },
        customers: [
            ("Meera Joshi", Money::from_rupees(2_500)),
            ("Rohan Desai", Money::from_rupees(4_000)),
            ("Fatima Shaikh", Money::from_rupees(12_750)),
            ("Suresh Patil", Money::from_rupees(600)),
        ],
    },
    DemoBranch {
        name: "Delhi",
        ports: Ports { branch: 9101, menu: 1070 },
        customers: [
            ("Anjali Verma", Money::from_rupees(3_200)),
            ("Harpreet Singh", Money::from_rupees(8_900)),
            ("Kabir Khanna", Money::from_rupees(1_450)),
            ("Nisha Gupta", Money::from_rupees(5_000)),
        ],
    },
    DemoBranch {
        name: "Pune",
        ports: Ports { branch: 9102, menu: 1071 },
        customers: [
            ("Sneha Kulkarni", Money::from_rupees(7_300)),
            ("Omkar Deshmukh", Money::from_rupees(2_100)),
            ("Priya Nair", Money::from_rupees(950)),
            ("Imran Sayyed", Money::from_rupees(6_400)),
        ],
    },
];

/// Runs the demo until SIGINT or SIGTERM, or forgets it.
///
/// # Errors
/// One sentence when it can't start.
pub fn run(arguments: &DemoArguments) -> Result<(), String> {
    if arguments.forget {
        return forget(&arguments.dir);
    }
    let folder = &arguments.dir;
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let _lock = lock(folder)?;
    let port = if arguments.any_ports { 0 } else { arguments.port };
    // Before anything is started: the branches would only have to be stopped again.
    check_port(port)?;
    let branches = BRANCHES.iter().map(|branch| {
        let ports = if arguments.any_ports { Ports::default() } else { branch.ports };
        (branch.name(), ports)
    });
    let supervisor = Arc::new(Supervisor::new(folder, branches)?);
    let outcome = start_and_serve(&supervisor, folder, port, arguments);
    supervisor.end();
    outcome
}

fn start_and_serve(
    supervisor: &Arc<Supervisor>,
    folder: &Path,
    port: u16,
    arguments: &DemoArguments,
) -> Result<(), String> {
    supervisor.start()?;
    // The first branch has made it for all.
    let keys = Keys::named(&folder.join(KEY_FILE))?;
    open_accounts(supervisor, &Credentials { keys, tls: None })?;
    let named =
        |(name, ports): (&BranchName, Ports)| NamedAddress { name: name.clone(), address: Supervisor::address(ports) };
    let serve = ServeArguments {
        host: Ipv4Addr::LOCALHOST.to_string(),
        port,
        branch: supervisor.started().map(named).collect(),
        tls_ca: None,
        key: Some(folder.join(KEY_FILE)),
        open: false,
        allow_host: Vec::new(),
        trust_proxy: Vec::new(),
        bank_name: BANK_NAME.into(),
        assets: arguments.assets.clone(),
    };
    let config = Config::resolve(&serve)?;
    let watched = Arc::clone(supervisor);
    let watching = thread::Builder::new().name("supervisor".into()).spawn(move || watched.watch());
    watching.map_err(|error| format!("there is no thread for the branches: {error}"))?;
    end_with_terminal()?;
    say(&introduction(supervisor, folder));
    let restarter: Arc<dyn Restarter> = Arc::<Supervisor>::clone(supervisor);
    crate::serve(config, Some(restarter))
}

/// Opens the customers' accounts that are not there yet. An account that a class has closed stays closed.
fn open_accounts(supervisor: &Supervisor, credentials: &Credentials) -> Result<(), String> {
    for (branch, (name, ports)) in BRANCHES.iter().zip(supervisor.started()) {
        let failed = |error: &dyn std::fmt::Display| format!("branch {name}: {error}");
        let (mut connection, _) = find(&Supervisor::address(ports), credentials).map_err(|error| failed(&error))?;
        let all = ListAccounts { after: None, limit: Some(LIST_ROWS_DEFAULT) };
        let open: Vec<AccountLine> =
            connection.call(Action::ListAccounts, &all, None).map_err(|error| failed(&error))?;
        for (number, (customer, balance)) in (FIRST_ACCOUNT..).zip(branch.customers) {
            let account = AccountNum::new(number).expect("the numbers above are small");
            if open.iter().any(|line| line.account_no == account) {
                continue;
            }
            let params = CreateAccount {
                account_no: Some(account),
                name: customer.into(),
                balance: Some(balance.into()),
                aadhar_num: None,
                phone_num: None,
                sms: None,
                password: Some(number.to_string()),
            };
            let request_id = format!("demo {name} {number}");
            let created: Result<Created, CallError> =
                connection.call(Action::CreateAccount, &params, Some(&request_id));
            match created {
                Ok(_) => {}
                // Opened by an earlier demo and closed since.
                Err(CallError::Refused(refusal)) if refusal.code == "account_exists" => {}
                Err(error) => return Err(failed(&error)),
            }
        }
    }
    Ok(())
}

/// What stands on the screen before the bridge says where it is.
fn introduction(supervisor: &Supervisor, folder: &Path) -> String {
    let mut text = String::from("The demo bank is open.\n\n");
    for (name, Ports { branch, menu }) in supervisor.started() {
        text += &format!("  {name:<8} branch port {branch:<6} menu port {menu:<6} (bank-client --menu-port {menu})\n");
    }
    let forgets = match folder == Path::new(DEMO_FOLDER) {
        true => "make demo-clean".to_string(),
        false => format!("bank-bridge demo --dir {} --forget", folder.display()),
    };
    text += &format!(
        "\nOpen the address below in a browser and sign in as the administrator (account 0, password root) or as a \
         customer\n(accounts 1001 to 1006 of each branch; the password is the number). Everything is kept in {}, the \
         branches' logs too;\n`{forgets}` forgets it. Ctrl-C ends it all.\n\n",
        folder.display()
    );
    text
}

fn say(text: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        log::warn!("standard output is closed: {error}");
    }
}

/// Ends the demo, as SIGTERM does, when its terminal goes away. The system tells that to the terminal's first process
/// alone; if that is `make`, which waits for us, we would wait for each other, with the ports taken.
fn end_with_terminal() -> Result<(), String> {
    if !io::stdin().is_terminal() {
        return Ok(());
    }
    let watch = || {
        let stdin = io::stdin();
        // No event is asked for, so only the end of the terminal is told; what is typed there is left alone.
        let mut terminal = [PollFd::new(&stdin, PollFlags::empty())];
        let told = loop {
            match poll(&mut terminal, None) {
                Err(Errno::INTR) => {}
                told => break told,
            }
        };
        let ended = told.and_then(|_| kill_process(getpid(), Signal::TERM));
        if let Err(error) = ended {
            log::warn!("the terminal is not watched: {error}");
        }
    };
    let spawned = thread::Builder::new().name("terminal".into()).spawn(watch);
    spawned.map(drop).map_err(|error| format!("there is no thread for the terminal: {error}"))
}

/// Locks the folder for this process.
fn lock(folder: &Path) -> Result<File, String> {
    let path = folder.join(LOCK_FILE);
    let file = File::create(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(format!("a demo runs in {} already", folder.display())),
        Err(TryLockError::Error(error)) => Err(format!("{}: {error}", path.display())),
    }
}

/// Deletes the folder of a demo that does not run.
fn forget(folder: &Path) -> Result<(), String> {
    if !folder.exists() {
        return Ok(());
    }
    if !folder.join(LOCK_FILE).exists() {
        return Err(format!("{} was not made by a demo, and is left alone", folder.display()));
    }
    let _lock = lock(folder)?;
    fs::remove_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

fn check_port(port: u16) -> Result<(), String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address)
        .map(drop)
        .map_err(|error| format!("port {port} for the bridge: {error}; name another with --port, or 0 for any"))
}

impl DemoBranch {
    fn name(&self) -> BranchName {
        self.name.parse().expect("the names above are branch names")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_branches_and_their_customers_are_what_a_bank_takes() {
        for branch in &BRANCHES {
            assert_eq!(branch.name().as_str(), branch.name);
            assert!(branch.customers.iter().all(|(name, _)| name.split(' ').count() == 2));
        }
    }

    #[test]
    fn only_a_demo_that_does_not_run_is_forgotten() {
        let folder = std::env::temp_dir().join(format!("bank-demo-test-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert!(forget(&folder).unwrap_err().contains("left alone"));
        let held = lock(&folder).unwrap();
        assert!(lock(&folder).unwrap_err().contains("runs in"));
        assert!(forget(&folder).unwrap_err().contains("runs in"));
        drop(held);
        forget(&folder).unwrap();
        assert!(!folder.exists());
        forget(&folder).unwrap();
    }
}
