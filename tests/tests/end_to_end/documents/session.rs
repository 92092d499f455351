//! One page's session: a folder, ports, a shell, and terminals in which branches go on.
//!
//! The page's ports stand for free ones. The programs get those of the page's defaults by their variables, so that a
//! command without `--port` asks what the page means. `make` is asked what it would run, and that is run without the
//! building, which the test has done.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use bank_tests::{DEADLINE, HeldPort, clean_command, program, wait_until};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use super::compare::Values;
use super::page::{Block, Run};
use super::top;

/// The pages' ports.
const PORTS: [&str; 9] = ["9100", "9101", "9102", "9200", "1069", "1070", "1071", "1079", "5000"];
/// What stands before a port, in commands and in what is printed.
const BEFORE_A_PORT: [&str; 5] = [":", "port ", "port=", "PORT=", "-d port="];
/// The last line of a command's output, and its end.
const END: &str = "-- end of a command of the documents --";
/// The prompts whose answers a session at the menu shows.
const PROMPTS: [&str; 5] =
    ["Your choice", "Account number", "Password", "Amount in Rs", "Receiver (1002, Delhi/1002 or host:port/1002)"];

/// A page's session.
pub struct Session {
    folder: TempDir,
    ports: BTreeMap<&'static str, HeldPort>,
    values: Values,
    terminals: BTreeMap<String, Terminal>,
    shell: Shell,
}

/// What goes on beside the shell; killed when dropped.
struct Terminal {
    process: Child,
    output: Receiver<String>,
}

/// The page's shell.
struct Shell {
    process: Child,
    input: ChildStdin,
    output: Receiver<String>,
}

impl Session {
    /// A session in a folder of its own.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("bank-documents-").tempdir().unwrap();
        let programs = program("bank-server").parent().unwrap().to_path_buf();
        fs::create_dir(folder.path().join("target")).unwrap();
        symlink(&programs, folder.path().join("target/debug")).unwrap();
        let ports: BTreeMap<_, _> = PORTS.into_iter().map(|port| (port, HeldPort::pick())).collect();
        let mut command = shell_command(folder.path(), &ports);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let input = process.stdin.take().unwrap();
        let output = lines_of(process.stdout.take().unwrap());
        let shell = Shell { process, input, output };
        Self { folder, ports, values: Values::default(), terminals: BTreeMap::new(), shell }
    }

    /// Runs a block and compares what it prints with what it shows.
    pub fn run(&mut self, block: &Block) {
        if let Some(name) = &block.needs
            && !self.shell.ask(&format!("command -v {name}")).1
        {
            println!("{}: passed over, since there is no {name} here", block.place);
            return;
        }
        self.values.vary(&block.vary);
        if let Some(name) = &block.kills {
            self.terminals.remove(name).unwrap_or_else(|| panic!("{}: {name} does not run", block.place));
        }
        if let Some(condition) = &block.until {
            let condition = self.own(condition);
            wait_until(&format!("{}: {condition}", block.place), || self.shell.ask(&condition).1);
        }
        match &block.run {
            Run::InShell => self.run_in_shell(block),
            Run::Stays(terminal) => self.run_in_terminal(block, terminal),
            Run::Menu { password } => self.answer_the_menu(block, password),
            Run::Not => {}
        }
    }

    fn run_in_shell(&mut self, block: &Block) {
        for command in block.commands() {
            let own = self.own(&command.text);
            let own = if block.enters { format!("yes '' | {own}") } else { own };
            let (printed, _) = self.shell.ask(&own);
            let printed = self.as_on_the_page(printed);
            let fits = self.values.fit(&command.shown, &printed);
            assert!(fits, "{}", difference(&block.place, &command.text, &command.shown, &printed));
        }
    }

    fn run_in_terminal(&mut self, block: &Block, name: &str) {
        if let Some(mut before) = self.terminals.remove(name) {
            before.interrupt();
        }
        let mut commands = block.commands();
        let last = commands.pop().expect("a command stays");
        for command in commands {
            let own = self.own(&command.text);
            self.shell.ask(&own);
        }
        let script = self.own(&script_of(&last.text));
        let mut command = shell_command(self.folder.path(), &self.ports);
        command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (lines, output) = mpsc::channel();
        send_lines(process.stdout.take().unwrap(), lines.clone());
        send_lines(process.stderr.take().unwrap(), lines);
        let terminal = Terminal { process, output };
        let begin = Instant::now();
        let mut printed = Vec::new();
        loop {
            if self.values.fit_among(&last.shown, &self.as_on_the_page(printed.clone())) {
                break;
            }
            let left = DEADLINE.saturating_sub(begin.elapsed());
            let Ok(line) = terminal.output.recv_timeout(left) else {
                let printed = self.as_on_the_page(printed);
                panic!("{}", difference(&block.place, &last.text, &last.shown, &printed));
            };
            printed.push(line);
        }
        self.terminals.insert(name.to_string(), terminal);
    }

    fn answer_the_menu(&mut self, block: &Block, password: &str) {
        let mut answers = String::new();
        for line in &block.lines {
            if let Some((prompt, answer)) = line.rsplit_once(": ")
                && PROMPTS.contains(&prompt)
            {
                answers.push_str(if answer == "********" { password } else { answer });
                answers.push('\n');
            }
        }
        fs::write(self.folder.path().join("answers.txt"), answers).unwrap();
        let (printed, _) = self.shell.ask("bank-client < answers.txt");
        let printed = self.as_on_the_page(printed);
        let shown: Vec<String> = [vec!["…".to_string()], block.lines.clone()].concat();
        assert!(self.values.fit(&shown, &printed), "{}", difference(&block.place, "bank-client", &shown, &printed));
    }

    /// A command of the page with this run's ids and ports.
    fn own(&self, command: &str) -> String {
        let mut own = self.values.put_into(command);
        for (shown, port) in &self.ports {
            own = replace_port(&own, shown, &port.number().to_string());
        }
        own
    }

    /// What was printed with the page's ports.
    fn as_on_the_page(&self, printed: Vec<String>) -> Vec<String> {
        let mut lines = printed;
        for (shown, port) in &self.ports {
            let real = port.number().to_string();
            lines = lines.iter().map(|line| replace_port(line, &real, shown)).collect();
        }
        lines
    }
}

impl Shell {
    /// Runs a command to its end: what it printed, and whether it succeeded.
    fn ask(&mut self, command: &str) -> (Vec<String>, bool) {
        let quoted = command.replace('\'', r"'\''");
        writeln!(self.input, "eval '{quoted}' </dev/null 2>&1; echo \"{END}$?\"").unwrap();
        let begin = Instant::now();
        let mut printed = Vec::new();
        loop {
            let left = DEADLINE.saturating_sub(begin.elapsed());
            let line = self.output.recv_timeout(left);
            let line = line.unwrap_or_else(|error| panic!("{command}: {error} after {printed:#?}"));
            match line.split_once(END) {
                Some((before, status)) => {
                    if !before.is_empty() {
                        printed.push(before.to_string());
                    }
                    return (printed, status == "0");
                }
                None => printed.push(line),
            }
        }
    }
}

impl Terminal {
    /// Presses Ctrl-C and waits for the end.
    fn interrupt(&mut self) {
        // It may have ended by itself, as after a crash that the page has ordered.
        let _ = kill_process_group(Pid::from_child(&self.process), Signal::INT);
        wait_until("what was interrupted ends", || self.process.try_wait().unwrap().is_some());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.process), Signal::KILL);
        let _ = self.process.wait();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.shell.process), Signal::KILL);
        let _ = self.shell.process.wait();
    }
}

/// A shell in the page's folder, in a group of its own, with the page's default ports.
fn shell_command(folder: &Path, ports: &BTreeMap<&str, HeldPort>) -> Command {
    let port = |shown: &str| ports[shown].number().to_string();
    let programs = program("bank-server");
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", programs.parent().unwrap().display());
    // None of the developer's own variables may reach the programs; the shell itself is no program of ours.
    let mut command = Command::new("bash");
    for variable in clean_command("bank-server").get_envs().filter(|(_, value)| value.is_none()) {
        command.env_remove(variable.0);
    }
    command.arg("--norc").current_dir(folder).process_group(0).env("PATH", path).env("COLUMNS", "200");
    command.env("BANK_PORT", port("9100")).env("BANK_MENU_PORT", port("1069")).env("BANK_BRIDGE_PORT", port("5000"));
    command.env("BANK_BRANCH", format!("Mumbai=127.0.0.1:{}", port("9100")));
    command
}

/// What runs in a terminal: the command itself, or what `make` would run but for the building.
fn script_of(command: &str) -> String {
    let Some(target) = command.strip_prefix("make ") else {
        return format!("exec {command}");
    };
    let mut make = Command::new("make");
    make.args(["-n", "--no-print-directory", "-C"]).arg(top()).arg("PROGRAMS=target/debug");
    let arguments = target.split_whitespace();
    let output = make.args(arguments).output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    let script = String::from_utf8(output.stdout).unwrap();
    script.lines().filter(|line| !line.starts_with("cargo ")).collect::<Vec<_>>().join("\n")
}

/// The lines of an output, which is read to its end so that nobody is held up.
fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (lines, received) = mpsc::channel();
    send_lines(output, lines);
    received
}

fn send_lines(output: impl Read + Send + 'static, lines: mpsc::Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // Nobody listens once the page is at its end.
            let _ = lines.send(line);
        }
    });
}

/// Replaces a port where the text means one.
fn replace_port(text: &str, from: &str, to: &str) -> String {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some(place) = rest.find(from) {
        let (before, after) = (&rest[..place], &rest[place + from.len()..]);
        replaced.push_str(before);
        let is_port = BEFORE_A_PORT.iter().any(|mark| replaced.ends_with(mark))
            && !after.starts_with(|c: char| c.is_ascii_alphanumeric());
        replaced.push_str(if is_port { to } else { from });
        rest = after;
    }
    replaced + rest
}

fn difference(place: &str, command: &str, shown: &[String], printed: &[String]) -> String {
    let (shown, printed) = (shown.join("\n"), printed.join("\n"));
    format!("{place}: what {command:?} prints is not what is shown.\n--- shown\n{shown}\n--- printed\n{printed}\n---")
}
