//! TLS at the menu, at the branch protocol and between branches: with a certificate that the test makes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use bank_tests::{
    Bank, Branch, Bridge, DEADLINE, Options, Transcript, client_command, replica_options, run_client, wait_until,
    wait_until_within,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tls::{Connector, Patience, Tunnel};

const PATIENCE: Patience = Patience { handshake: DEADLINE, write: DEADLINE, linger: Duration::from_secs(5) };
/// What half a handshake may cost, with room for a busy machine.
const HANDSHAKE_ENDS_WITHIN: Duration = Duration::from_secs(30);

/// A certificate for this machine's loopback that vouches for itself, and its key.
struct Certificate(TempDir);

impl Certificate {
    fn make() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_string(), "localhost".to_string()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("cert.pem")
    }

    /// Ports with TLS, and links by TLS.
    fn on(&self, options: Options) -> Options {
        let key = self.0.path().join("key.pem");
        let options = options.value("--tls-cert", self.path().display()).value("--tls-key", key.display());
        options.value("--tls-ca", self.path().display())
    }
}

/// Runs a command of the client against a branch, by TLS when there is a certificate to trust.
fn command(branch: &Branch, trusted: Option<&Certificate>, words: &[&str]) -> Transcript {
    let mut command = client_command();
    command.args(["--json", "--timeout", "20", "--port", &branch.port().to_string()]);
    command.arg("--key").arg(branch.key_path());
    if let Some(certificate) = trusted {
        command.arg("--tls-ca").arg(certificate.path());
    }
    let output = command.args(words).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Transcript { stdout: text(&output.stdout), stderr: text(&output.stderr), status: output.status.code() }
}

#[track_caller]
fn done(branch: &Branch, certificate: &Certificate, words: &[&str]) -> Value {
    let transcript = command(branch, Some(certificate), words);
    assert_eq!(transcript.status, Some(0), "{transcript:?}; the log:\n{}", branch.log().text());
    let answer: Value = serde_json::from_str(transcript.stdout.lines().next().unwrap()).unwrap();
    answer["result"].clone()
}

/// A connection by TLS to one of a branch's ports.
fn connect(port: u16, certificate: &Certificate) -> Tunnel {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    Connector::new(Some(&certificate.path())).unwrap().connect(stream, "127.0.0.1", PATIENCE).unwrap()
}

#[test]
fn the_menu_and_the_commands_go_over_tls() {
    let certificate = Certificate::make();
    let branch = Branch::start(certificate.on(Options::preloaded()));
    let (port, trusted) = (branch.menu_port().to_string(), certificate.path().display().to_string());
    let script = b"a\n1001\n1001\nb\n250.50\nf\nb\n";
    let transcript = run_client(&["--tls-ca", &trusted, "--menu-port", &port], script);
    assert_eq!(transcript.status, Some(0), "{transcript:?}");
    assert!(transcript.stdout.contains("1250.50"), "{transcript:?}");
    assert_eq!(done(&branch, &certificate, &["balance", "1001"])["balance"].to_string(), "1250.50");
    assert_eq!(
        done(&branch, &certificate, &["--host", "localhost", "deposit", "1001", "1"])["balance"].to_string(),
        "1251.50"
    );
    // A whole list of answers, more than one TLS record long.
    for _ in 0..2 {
        let rows = command(&branch, Some(&certificate), &["history"]);
        assert_eq!(rows.status, Some(0), "{rows:?}");
    }
}

#[test]
fn a_client_without_tls_is_told_what_to_do_and_closed() {
    let certificate = Certificate::make();
    let branch = Branch::start(certificate.on(Options::preloaded()));
    let told = command(&branch, None, &["balance", "1001"]);
    assert_ne!(told.status, Some(0));
    assert!(told.stderr.contains("this port speaks TLS: give bank-client --tls"), "{told:?}");
    // At the menu the bank speaks first, so a client without TLS waits a moment.
    let port = branch.menu_port().to_string();
    let told = run_client(&["--menu-port", &port], b"a\n1001\n1001\n");
    assert!(told.stdout.contains("This menu speaks TLS: connect with bank-client --tls. Goodbye."), "{told:?}");
    assert_ne!(told.status, Some(0));
    // And one with TLS at a branch without is told as well.
    let plain = Branch::start(Options::preloaded());
    let told = command(&plain, Some(&certificate), &["balance", "1001"]);
    assert_eq!(told.status, Some(2), "{told:?}");
    assert!(told.stderr.contains("no TLS comes about with"), "{told:?}");
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_not_spoken_to() {
    let (shown, trusted) = (Certificate::make(), Certificate::make());
    let branch = Branch::start(shown.on(Options::preloaded()));
    let told = command(&branch, Some(&trusted), &["balance", "1001"]);
    assert_eq!(told.status, Some(2), "{told:?}");
    assert!(told.stderr.contains("no TLS comes about with") && told.stderr.contains("--tls-ca"), "{told:?}");
}

#[test]
fn certificates_are_read_again_on_sighup_and_bad_ones_are_not_taken() {
    let (certificate, renewed) = (Certificate::make(), Certificate::make());
    let branch = Branch::start(certificate.on(Options::preloaded()));
    let files = ["cert.pem", "key.pem"].map(|name| (certificate.0.path().join(name), renewed.0.path().join(name)));
    let balance = |trusted: &Certificate| command(&branch, Some(trusted), &["balance", "1001"]).status;
    assert_eq!((balance(&certificate), balance(&renewed)), (Some(0), Some(2)));
    let before = fs::read(&files[0].0).unwrap();
    for (ours, new) in &files {
        fs::copy(new, ours).unwrap();
    }
    branch.signal(Signal::HUP);
    wait_until("the new certificate", || balance(&renewed) == Some(0));
    // A certificate to which the key does not belong changes nothing.
    fs::write(&files[0].0, before).unwrap();
    branch.signal(Signal::HUP);
    wait_until("the complaint", || branch.log().text().contains("the old ones stay"));
    assert_eq!(balance(&renewed), Some(0));
    // Without TLS there is nothing to read again, and nothing else happens.
    let plain = Branch::start(Options::preloaded());
    plain.signal(Signal::HUP);
    wait_until("the signal to be taken", || plain.log().text().contains("no certificates to read again"));
    plain.connect().ask("status", json!({})).ok();
}

#[test]
fn branches_pay_one_another_over_tls() {
    let (certificate, bank) = (Certificate::make(), Bank::new());
    let mumbai = bank.start("Mumbai", certificate.on(Options::named("Mumbai")));
    let peers = format!("Mumbai=127.0.0.1:{}", mumbai.port());
    let delhi = bank.start("Delhi", certificate.on(Options::named("Delhi").value("--peers", peers)));
    let paid = done(&delhi, &certificate, &["transfer", "1001", "Mumbai/1002", "40"]);
    assert_eq!(paid["delivery"], json!("done"), "{paid}");
    // Mumbai knows Delhi's address by the link that Delhi has made.
    done(&mumbai, &certificate, &["transfer", "1001", "Delhi/1002", "15"]);
    assert_eq!(done(&mumbai, &certificate, &["balance", "1002"])["balance"].to_string(), "1040.00");
    let audit = command(&mumbai, Some(&certificate), &["audit", "--all"]);
    assert_eq!(audit.status, Some(0), "{audit:?}");
    // One that knows no TLS is told by its log, and nothing of it is paid.
    let pune = bank.start("Pune", Options::named("Pune"));
    let params = json!({"src_account_no": 1001, "dest_account_no": 1002, "amount": 1, "dest_host": "127.0.0.1",
        "dest_port": mumbai.port()});
    let refused = pune.connect().ask("inter_branch_transfer", params);
    refused.refused("branch_unreachable");
    assert!(refused.text.contains("this port speaks TLS"), "{}", refused.text);
    assert_eq!(pune.connect().balance(1001), "1000.00");
}

#[test]
fn a_replica_follows_and_the_bridge_asks_over_tls() {
    let certificate = Certificate::make();
    let bank = Bank::new();
    let mumbai = bank.start("Mumbai", certificate.on(Options::named("Mumbai")));
    let replica = bank.start("replica", certificate.on(replica_options("Mumbai", &mumbai)));
    done(&mumbai, &certificate, &["deposit", "1001", "5.25"]);
    wait_until_within(DEADLINE, "the replica has the deposit", || {
        let balance = command(&replica, Some(&certificate), &["balance", "1001"]);
        balance.stdout.contains("1005.25")
    });
    let trusted = certificate.path().display().to_string();
    let bridge = Bridge::start(&[("Mumbai", &mumbai)], &["--open", "--tls-ca", &trusted]);
    let answer = bridge.form("/balance", "branch=Mumbai&account=1001");
    assert!(answer.text.contains("1005.25"), "{}", answer.text);
}

#[test]
fn half_a_handshake_costs_a_bounded_time_and_nobody_else_waits() {
    let certificate = Certificate::make();
    let branch = Branch::start(certificate.on(Options::preloaded()));
    let mut halves: Vec<_> =
        [branch.port(), branch.menu_port()].map(|port| TcpStream::connect(("127.0.0.1", port)).unwrap()).into();
    for half in &mut halves {
        // The head of a record, and the beginning of its body.
        half.write_all(&[0x16, 3, 1, 2, 0, 1, 0]).unwrap();
        half.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    }
    assert_eq!(done(&branch, &certificate, &["balance", "1001"])["balance"].to_string(), "1000.00");
    for half in &mut halves {
        wait_until_within(HANDSHAKE_ENDS_WITHIN, "the branch gives up", || match half.read(&mut [0; 64]) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
        });
    }
}

#[test]
fn who_is_connected_by_tls_is_told_when_the_branch_stops() {
    let certificate = Certificate::make();
    let mut branch = Branch::start(certificate.on(Options::preloaded()));
    let tunnel = connect(branch.menu_port(), &certificate);
    let mut menu = tunnel.inside().unwrap();
    menu.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut said = String::new();
    while !said.contains("@PROMPT") {
        let mut bytes = [0; 512];
        let count = menu.read(&mut bytes).unwrap();
        said.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    assert_eq!(branch.stop(), Some(0));
    menu.read_to_string(&mut said).unwrap();
    assert!(said.contains("@EXIT The bank is closing. Goodbye."), "{said}");
}

#[test]
fn what_is_no_certificate_or_fits_nothing_is_refused_at_the_start() {
    let (certificate, other) = (Certificate::make(), Certificate::make());
    let cert = certificate.path().display().to_string();
    let refused = |options: Options, status: i32, expected: &str| {
        let failure = Branch::try_start(options).map(drop).expect_err("it started");
        assert_eq!(failure.status, Some(status), "{failure:?}");
        assert!(failure.stderr.contains(expected), "{expected:?} in {failure:?}");
    };
    refused(Options::preloaded().value("--tls-cert", &cert), 64, "--tls-key");
    refused(certificate.on(Options::preloaded()).value("--lab-port", 0), 64, "--lab-port");
    let key = |certificate: &Certificate| certificate.0.path().join("key.pem").display().to_string();
    for (cert, key) in [(&cert, &key(&other)), (&key(&certificate), &cert), (&"none.pem".to_string(), &cert)] {
        refused(Options::preloaded().value("--tls-cert", cert).value("--tls-key", key), 1, ".pem: ");
    }
    refused(Options::preloaded().value("--tls-ca", "none.pem"), 1, "none.pem: ");
}

#[test]
fn a_branch_that_can_be_overheard_says_so() {
    let beyond = || Options::empty().value("--host", "0.0.0.0").variable("BANK_ADMIN_PASSWORD", "not root");
    let warning = "this branch listens beyond this machine without TLS";
    assert!(Branch::start(beyond()).log().text().contains(warning));
    let certificate = Certificate::make();
    assert!(!Branch::start(certificate.on(beyond())).log().text().contains(warning));
    assert!(!Branch::start(Options::empty()).log().text().contains(warning));
}
