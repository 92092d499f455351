//! What is handed out for running the bank elsewhere, tried as far as a test can: the image's health check against a
//! real branch, every variable against the programs' own help, the units by systemd's checker where it is installed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bank_tests::{Branch, Options, program};

const PROGRAMS: [&str; 3] = ["bank-server", "bank-client", "bank-bridge"];

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = top().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files of `deploy` with one of these endings.
fn deployed(endings: &[&str]) -> Vec<PathBuf> {
    let files = fs::read_dir(top().join("deploy")).unwrap().map(|entry| entry.unwrap().path());
    let fits = |path: &PathBuf| path.extension().is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted));
    let mut found: Vec<_> = files.filter(fits).collect();
    found.sort();
    found
}

fn help_of(name: &str) -> String {
    String::from_utf8(Command::new(program(name)).arg("--help").output().unwrap().stdout).unwrap()
}

/// The names of the form `BANK_…` in a text.
fn variables(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
    words.filter(|word| word.starts_with("BANK_") && word.len() > 5).map(ToString::to_string).collect()
}

#[test]
fn every_variable_that_is_set_is_one_that_a_program_knows() {
    let mut known: BTreeSet<String> = PROGRAMS.iter().flat_map(|name| variables(&help_of(name))).collect();
    known.insert("BANK_ADMIN_PASSWORD".into());
    let mut files = deployed(&["service", "env"]);
    files.extend(["deploy/Dockerfile", "deploy/compose.yaml", "docs/several-machines.md"].map(PathBuf::from));
    assert!(files.len() > 6, "{files:?}");
    for file in files {
        let unknown: Vec<_> = variables(&read(&file)).difference(&known).cloned().collect();
        assert!(unknown.is_empty(), "{}: {unknown:?}", file.display());
    }
}

#[test]
fn the_image_asks_a_branch_for_its_health_and_notices_when_it_is_gone() {
    let dockerfile = read("deploy/Dockerfile");
    let check = dockerfile.split("HEALTHCHECK").nth(1).unwrap().split("CMD").nth(1).unwrap().lines().next().unwrap();
    let words: Vec<String> = serde_json::from_str(check.trim()).unwrap();
    let mut branch = Branch::start(Options::preloaded());
    let ask = |host: &str, port: u16| -> Output {
        let mut command = Command::new(program(&words[0]));
        command.args(&words[1..]).env("BANK_PORT", port.to_string()).env("BANK_HOST", host).output().unwrap()
    };
    for host in ["0.0.0.0", "127.0.0.1"] {
        let healthy = ask(host, branch.port());
        assert!(healthy.status.success(), "{host}: {healthy:?}");
    }
    let port = branch.port();
    branch.kill9();
    assert!(!ask("0.0.0.0", port).status.success());
    // One that speaks TLS alone, with a certificate that nobody here trusts, has answered.
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["bank.example".to_string()]).unwrap();
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let options = Options::empty().value("--tls-cert", certificate.display()).value("--tls-key", key.display());
    let branch = Branch::start(options);
    let healthy = ask("127.0.0.1", branch.port());
    assert!(healthy.status.success(), "{healthy:?}");
}

#[test]
fn beyond_loopback_a_branch_asks_for_the_administrators_password() {
    let options = || Options::empty().value("--host", "0.0.0.0");
    let failure = Branch::try_start(options()).map(drop).expect_err("it started");
    assert!(failure.stderr.contains("BANK_ADMIN_PASSWORD"), "{failure:?}");
    // As the image and the units start it, with the key elsewhere than beside the database.
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("shared.key");
    let options = options().variable("BANK_ADMIN_PASSWORD", "not root").variable("BANK_KEY", key.display());
    let branch = Branch::start(options);
    assert!(key.exists() && !branch.key_path().exists());
    assert!(branch.menu().log_in("0", "root").is_err());
    branch.menu().log_in("0", "not root").unwrap();
}

#[test]
fn the_units_start_programs_that_are_built_and_are_right_in_systemds_eyes() {
    let folder = tempfile::tempdir().unwrap();
    let mut units = Vec::new();
    for path in deployed(&["service", "timer"]) {
        let mut text = read(&path);
        for line in text.lines().filter_map(|line| line.strip_prefix("ExecStart=")) {
            let started = Path::new(line.split(' ').next().unwrap()).file_name().unwrap().to_str().unwrap();
            assert!(PROGRAMS.contains(&started), "{}: {line}", path.display());
        }
        for name in PROGRAMS {
            text = text.replace(&format!("/usr/local/bin/{name}"), &program(name).display().to_string());
        }
        let name = path.file_name().unwrap().to_str().unwrap().replace('@', "@Mumbai");
        let unit = folder.path().join(name);
        fs::write(&unit, text).unwrap();
        units.push(unit);
    }
    let Ok(checked) = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(&units).output() else {
        println!("skipped: there is no systemd-analyze here");
        return;
    };
    assert!(checked.status.success() && checked.stderr.is_empty(), "{}", String::from_utf8_lossy(&checked.stderr));
}
