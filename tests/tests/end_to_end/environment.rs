//! Variables of the environment: what is wrong is told by the variable's name, what is foreign or empty is none, and
//! switches understand the usual words; the same in all programs.

use std::process::Output;

use bank_tests::clean_command;

/// Runs a program, with a command line that ends at once, under one variable.
fn run(program: &str, arguments: &[&str], variable: &str, value: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let command = &mut clean_command(program);
    let Output { status, stderr, .. } =
        command.current_dir(folder.path()).args(arguments).env(variable, value).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn a_wrong_value_is_told_with_its_variable() {
    for (program, variable, value) in [
        ("bank-server", "BANK_PORT", "x"),
        ("bank-server", "BANK_TEACHING", "perhaps"),
        ("bank-server", "BANK_PEERS", "Delhi=127.0.0.1:9101,nonsense"),
        ("bank-client", "BANK_TIMEOUT", "soon"),
        ("bank-client", "BANK_JSON", "perhaps"),
        ("bank-bridge", "BANK_BRIDGE_PORT", "70000"),
        ("bank-bridge", "BANK_BRIDGE_OPEN", "perhaps"),
    ] {
        let (status, stderr) = run(program, &[], variable, value);
        assert_eq!(status, Some(64), "{program} {variable}={value}: {stderr}");
        let named = format!("The value is that of the environment variable {variable}.");
        assert!(stderr.contains(&named), "{program} {variable}={value}: {stderr}");
    }
    let (status, stderr) = run("bank-server", &["--host", "0.0.0.0"], "BANK_OPEN", "yes");
    assert!(status == Some(64) && stderr.contains("(set in the environment: BANK_OPEN)"), "{stderr}");
}

#[test]
fn a_flag_wins_over_its_variable_whatever_that_holds() {
    // The port is right, and nobody is there; so it is not the variable that is complained of.
    let (status, stderr) = run("bank-client", &["--port", "1", "--timeout", "2", "status"], "BANK_PORT", "x");
    assert!(status == Some(2) && stderr.contains("no bank answers at 127.0.0.1:1"), "{stderr}");
}

#[test]
fn what_a_container_platform_injects_is_ignored_with_a_warning() {
    let arguments = ["--timeout", "2", "--host", "127.0.0.1", "--menu-port", "1"];
    let (status, stderr) = run("bank-client", &arguments, "BANK_PORT", "tcp://10.0.0.7:9100");
    assert!(status == Some(2) && stderr.contains("warning: BANK_PORT=tcp://10.0.0.7:9100 is ignored"), "{stderr}");
}

#[test]
fn switches_understand_the_usual_words_and_an_empty_variable_is_none() {
    // What is switched on is refused for that address, what is off is not: then the unknown host is what is wrong.
    for (value, is_on) in [
        ("1", true),
        ("true", true),
        ("yes", true),
        ("on", true),
        ("0", false),
        ("false", false),
        ("no", false),
        ("off", false),
        ("OFF", false),
        ("", false),
    ] {
        for variable in ["BANK_OPEN", "BANK_TEACHING"] {
            let arguments = ["--host", "0.0.0.0", "--tls-cert", "none", "--tls-key", "none", "--lab-port", "1"];
            let (status, stderr) = run("bank-server", &arguments, variable, value);
            assert_eq!(status, Some(64), "{variable}={value}: {stderr}");
            assert_eq!(stderr.contains("loopback address only"), is_on, "{variable}={value}: {stderr}");
        }
    }
    let (status, stderr) = run("bank-client", &["--port", "1", "status"], "BANK_TIMEOUT", "");
    assert!(status == Some(2), "{stderr}");
}
