//! The whole pair, `bank-server` and `bank-client`, as transcripts: each file of `golden_pair/` is named for
//! what it claims.
//!
//! ```text
//! # a comment
//! server --preload        flags of the branch beside its name Mumbai; `server none` is no branch at all
//! client --timeout 5      flags of the client beside the port
//! > line                  one line of the script; `>` alone is an empty one, `\x07` and the like are bytes
//! >* 10000 x              a line of 10000 times x
//! ```
//!
//! After the first empty line stands what came of it: the client's standard output, what it wrote to standard
//! error, and its exit status. `UPDATE_GOLDEN=1` writes that anew. What differs from run to run is made equal
//! first: dates and ports. After each script the branch must stop with status 0 and its books must be clean.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;

use bank_tests::{Branch, Options, Transcript, audit, run_client};

/// A date as the tables show it, of the same width as a real one.
const DATE: &str = "YYYY-MM-DDThh:mm:ss.mmmZ";

/// What a file says is to be done.
#[derive(Default)]
struct Script {
    /// Flags of the branch; `None` for no branch.
    server: Option<Vec<String>>,
    client: Vec<String>,
    input: Vec<u8>,
}

#[test]
fn every_transcript_is_what_the_pair_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden_pair");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 15, "only {} files", files.len());
    // Two at a time: most of the time of one goes to hashing passwords, which takes a core.
    let (left, right) = files.split_at(files.len() / 2);
    let wrong: Vec<String> = thread::scope(|scope| {
        let run =
            |files| scope.spawn(move || Vec::from_iter(<[PathBuf]>::iter(files).filter_map(|file| differs(file))));
        let halves = [run(left), run(right)];
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}\nUPDATE_GOLDEN=1 writes the transcripts anew.", wrong.join("\n"));
}

/// Runs a file; gives its difference, or writes it anew.
fn differs(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).unwrap();
    let (head, expected) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
    let outcome = run(&parse(head));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(file, format!("{head}\n\n{outcome}")).unwrap();
        return None;
    }
    let line = outcome.lines().zip(expected.lines()).position(|(is, should)| is != should);
    let line = line.unwrap_or(outcome.lines().count().min(expected.lines().count()));
    let show = |text: &str| text.lines().nth(line).unwrap_or("(nothing more)").to_string();
    (outcome != expected).then(|| {
        format!(
            "{}: line {} after the script is\n  {}\nand should be\n  {}",
            file.display(),
            line + 1,
            show(&outcome),
            show(expected)
        )
    })
}

fn parse(head: &str) -> Script {
    let words = |text: &str| text.split_whitespace().map(ToString::to_string).collect();
    let mut script = Script { server: Some(vec!["--preload".to_string()]), ..Script::default() };
    for line in head.lines() {
        if let Some(repeated) = line.strip_prefix(">* ") {
            let (count, what) = repeated.split_once(' ').unwrap();
            script.input.extend(what.repeat(count.parse().unwrap()).bytes().chain(*b"\n"));
        } else if let Some(answer) = line.strip_prefix('>') {
            script.input.extend(unescape(answer.strip_prefix(' ').unwrap_or(answer)));
            script.input.push(b'\n');
        } else if let Some(flags) = line.strip_prefix("server") {
            script.server = (flags.trim() != "none").then(|| words(flags));
        } else if let Some(flags) = line.strip_prefix("client") {
            script.client = words(flags);
        } else {
            assert!(line.starts_with('#'), "what is {line:?}?");
        }
    }
    script
}

/// Takes `\x07` for that byte.
fn unescape(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).unwrap());
        bytes.extend_from_slice(rest.as_bytes());
    }
    bytes
}

fn run(script: &Script) -> String {
    match &script.server {
        None => {
            // A port that was free a moment ago, and at which nobody listens now.
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            outcome(&run_against(port, script), port)
        }
        Some(flags) => {
            let options = flags.iter().fold(Options::empty(), |options, flag| options.flag(flag));
            let mut branch = Branch::start(options);
            let transcript = run_against(branch.menu_port(), script);
            assert_eq!(branch.stop(), Some(0), "{}", branch.log().text());
            audit(branch.database_path()).assert_clean();
            outcome(&transcript, branch.menu_port())
        }
    }
}

fn run_against(port: u16, script: &Script) -> Transcript {
    let port = port.to_string();
    let mut arguments: Vec<&str> = script.client.iter().map(String::as_str).collect();
    if !arguments.contains(&"--menu-port") {
        arguments.extend(["--menu-port", port.as_str()]);
    }
    run_client(&arguments, &script.input)
}

fn outcome(transcript: &Transcript, port: u16) -> String {
    let mut text = transcript.stdout.clone();
    for line in transcript.stderr.lines() {
        text.push_str(&format!("standard error: {line}\n"));
    }
    let status = transcript.status.map_or("by a signal".to_string(), |status| status.to_string());
    text.push_str(&format!("exit status: {status}\n"));
    without_ports(&without_dates(&text.replace(&format!(":{port}"), ":PORT")))
}

/// Puts as many `#` in the place of the digits of each other port.
fn without_ports(text: &str) -> String {
    const HOST: &str = "127.0.0.1:";
    let mut parts = text.split(HOST);
    let mut result = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let digits = part.chars().take_while(char::is_ascii_digit).count();
        result.push_str(HOST);
        result.push_str(&"#".repeat(digits));
        result.push_str(&part[digits..]);
    }
    result
}

/// Puts [`DATE`] in the place of each date.
fn without_dates(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('T').and_then(|from| find_date(rest, from)) {
        result.push_str(&rest[..start]);
        result.push_str(DATE);
        rest = &rest[start + DATE.len()..];
    }
    result + rest
}

/// Where the first date begins, looking at each `T` from `from` on.
fn find_date(text: &str, from: usize) -> Option<usize> {
    text[from..].match_indices('T').find_map(|(offset, _)| {
        let start = (from + offset).checked_sub(DATE.find('T')?)?;
        let date = text.get(start..start + DATE.len())?;
        let fits = |(is, pattern): (char, char)| match pattern {
            'T' | 'Z' | '-' | ':' | '.' => is == pattern,
            _ => is.is_ascii_digit(),
        };
        date.chars().zip(DATE.chars()).all(fits).then_some(start)
    })
}

#[test]
fn dates_are_made_equal() {
    let shown = "The T 2026-11-22T01:34:59.123Z and 2026-11-22T01:34:59.124Z, not 2026-1T.";
    assert_eq!(without_dates(shown), format!("The T {DATE} and {DATE}, not 2026-1T."));
}
