//! The built program with a script on its standard input: transcript, messages and exit statuses.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use crate::server::Step::{Hear, HearEnd, Say};
use crate::server::{Server, Step};

fn client() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bank-client"));
    for name in ["BANK_HOST", "BANK_MENU_PORT", "BANK_TIMEOUT", "BANK_COLOR", "NO_COLOR"] {
        command.env_remove(name);
    }
    command.env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn talk(steps: Vec<Step>, input: &[u8]) -> Output {
    let mut server = Server::start(steps);
    let mut command = client();
    command.args(["--menu-port", &server.port.to_string()]);
    let output = run(command, input);
    server.finish();
    output
}

#[track_caller]
fn check(output: &Output, status: i32, shown: &str, told: &str) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!(text(&output.stdout), shown);
    assert!(text(&output.stderr).contains(told), "{:?}", text(&output.stderr));
    assert_eq!(told.is_empty(), output.stderr.is_empty(), "{:?}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(status));
}

#[test]
fn a_session_that_was_carried_out() {
    let steps = vec![
        Say("@CLEAR\nBank of Mumbai\n@PROMPT Account: \n"),
        Hear("1001\n"),
        Say("@PASS Password: \n"),
        Hear("1001\n"),
        Say("@DONE Welcome\n@PAUSE Press Enter \n"),
        Hear("\n"),
        Say("@PROMPT Your choice: \n"),
        Hear("f\n"),
        Say("@EXIT Goodbye\n"),
    ];
    let transcript =
        "Bank of Mumbai\nAccount: 1001\nPassword: ********\nWelcome\nPress Enter \nYour choice: f\nGoodbye\n";
    check(&talk(steps, b"\xef\xbb\xbf1001\r\n1001\r\nf\r\n"), 0, transcript, "");
}

#[test]
fn a_refusal_and_an_input_that_ends() {
    let steps = vec![
        Say("@PROMPT Amount: \n"),
        Hear("-5\n"),
        Say("@FAIL An amount has no sign\n@PROMPT Amount: \n"),
        HearEnd,
        Say("Logged out\n"),
    ];
    check(&talk(steps, b"-5"), 1, "Amount: -5\nAn amount has no sign\nAmount: \nLogged out\n", "");
}

#[test]
fn a_server_that_vanishes() {
    let steps = vec![Say("@PROMPT Amount: \n"), Hear("5\n")];
    check(&talk(steps, b"5\n6\n"), 2, "Amount: 5\n", "closed the connection without a goodbye");
}

#[test]
fn a_server_that_falls_silent() {
    let mut server = Server::start(vec![Say("Welcome\n"), HearEnd]);
    let mut command = client();
    command.env("BANK_MENU_PORT", server.port.to_string()).env("BANK_TIMEOUT", "1");
    check(&run(command, b""), 2, "Welcome\n", "said nothing for 1s");
    server.finish();
}

#[test]
fn nobody_listens() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut command = client();
    command.args(["--host", "127.0.0.1", "--menu-port", &port]);
    let told = format!("no bank answers at 127.0.0.1:{port}: start one with 'make run-server'");
    check(&run(command, b""), 2, "", &told);
}

#[test]
fn wrong_command_lines_have_status_64_and_a_hint() {
    for arguments in [&["--colour", "auto"][..], &["--menu-port", "0"], &["--timeout", "soon"], &["deposit"]] {
        let mut command = client();
        command.args(arguments);
        check(&run(command, b""), 64, "", "--help");
    }
    let mut command = client();
    command.env("BANK_MENU_PORT", "many");
    check(&run(command, b""), 64, "", "--menu-port");
}

#[test]
fn help_names_every_flag_variable_and_status() {
    let mut command = client();
    command.arg("--help");
    let output = run(command, b"");
    let help = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    for word in ["--host", "--menu-port", "--timeout", "--color", "BANK_HOST", "BANK_MENU_PORT", "BANK_TIMEOUT", "64"] {
        assert!(help.contains(word), "{word} in {help}");
    }
}

#[test]
fn a_closed_output_ends_quietly() {
    let mut server = Server::start(vec![Say("Welcome\n@PROMPT a? \n")]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = client();
    command.args(["--menu-port", &server.port.to_string()]).stdout(writer);
    check(&run(command, b""), 141, "", "");
    server.finish();
}

#[test]
fn an_output_that_is_full_is_told() {
    let mut server = Server::start(vec![Say("Welcome\n@PROMPT a? \n")]);
    let mut command = client();
    let full = File::options().write(true).open("/dev/full").unwrap();
    command.args(["--menu-port", &server.port.to_string()]).stdout(full);
    check(&run(command, b""), 74, "", "standard output can't be written");
    server.finish();
}
