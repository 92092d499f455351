//! Many requests in one: a file of JSON lines becomes batches of the largest size that a branch takes.
//!
//! Lines are checked here to be JSON objects, so that a slip is reported with its line number and before anything is
//! sent. Each batch is one write with an id of its own under the command's, so that the command can be repeated.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::Args;
use protocol::answer::Answer;
use protocol::frame::BATCH_FRAME_BYTES_MAX;
use protocol::request::{Action, BATCH_REQUESTS_MAX, Batch, RequestFrame};
use serde_json::value::RawValue;

use crate::branch::Reply;
use crate::commands::context::Context;
use crate::error::{ClientError, ExitStatus};
use crate::output::counted;

pub(super) const EXAMPLES: &str = "\
Examples:
  bank-client batch payments.jsonl
  bank-client batch --atomic payments.jsonl
  echo '{\"action\":\"deposit\",\"params\":{\"account_no\":\"1001\",\"amount\":5}}' | bank-client batch -

Each line is a request. Each is done or refused on its own; with --atomic all are done or none is. The exit status is
1 when any was refused.";

/// How much of a batch's frame is left to what surrounds its requests, in bytes.
const FRAME_RESERVE_BYTES: usize = 1024;
/// The most bytes that all requests of one batch have together, with their commas.
const REQUESTS_BYTES_MAX: usize = BATCH_FRAME_BYTES_MAX - FRAME_RESERVE_BYTES;

/// Arguments of `batch`.
#[derive(Args, Debug)]
pub struct BatchArguments {
    /// A file with one JSON request to a line; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Do all of them or none
    #[arg(long)]
    atomic: bool,
}

pub(super) fn run(arguments: &BatchArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let requests = if arguments.file == Path::new("-") {
        read_requests(io::stdin().lock())
    } else {
        File::open(&arguments.file).map_err(LineError::Read).and_then(|file| read_requests(BufReader::new(file)))
    };
    let requests = requests.map_err(|error| error.told(&arguments.file))?;
    let batches = split(&requests);
    if arguments.atomic && batches.len() > 1 {
        return Err(ClientError::Usage(format!(
            "an atomic batch has at most {BATCH_REQUESTS_MAX} requests and {REQUESTS_BYTES_MAX} bytes: leave --atomic \
             out, or split it"
        )));
    }
    let mut told = Told::default();
    for (number, batch) in batches.into_iter().enumerate() {
        let params = Batch { requests: batch.iter().map(AsRef::as_ref).collect(), atomic: arguments.atomic };
        let reply = context.send_order(Action::Batch, &params, number)?;
        if context.out.json {
            context.out.document(reply.body())?;
        }
        tell_batch(batch, &reply, context, &mut told)?;
    }
    if !context.out.json {
        context.out.text(&told.sum())?;
    }
    Ok(if told.refused == 0 { ExitStatus::AllDone } else { ExitStatus::Refused })
}

/// What came of the requests so far.
#[derive(Default)]
struct Told {
    done: usize,
    refused: usize,
}

impl Told {
    fn sum(&self) -> String {
        let all = counted(self.done + self.refused, "request", "requests");
        format!("{all}: {} done, {} refused.", self.done, self.refused)
    }
}

fn tell_batch(
    batch: &[Box<RawValue>],
    reply: &Reply,
    context: &mut Context<'_>,
    told: &mut Told,
) -> Result<(), ClientError> {
    let answers: Vec<Answer> = match reply.result() {
        Ok(answers) => answers,
        Err(_) if context.out.json => {
            told.refused += batch.len();
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let mut lines = String::new();
    for (answer, request) in answers.iter().zip(batch) {
        let number = told.done + told.refused + 1;
        let result = answer.result();
        match &result {
            Ok(_) => told.done += 1,
            Err(_) => told.refused += 1,
        }
        if !context.out.json {
            lines.push_str(&tell_answer(number, request, result));
            lines.push('\n');
        }
    }
    context.out.text(&lines)
}

fn tell_answer(number: usize, request: &RawValue, result: Result<&str, protocol::answer::AnswerError>) -> String {
    let action = RequestFrame::parse(request.get().as_bytes())
        .and_then(|frame| frame.action())
        .map_or_else(|_| "request".to_string(), |action| action.to_string());
    match result {
        Ok(result) => format!("{number}. {action}: {result}"),
        Err(error) => format!("{number}. {action} REFUSED: {error}"),
    }
}

/// Parts the requests into batches, in order. None without requests.
fn split(requests: &[Box<RawValue>]) -> Vec<&[Box<RawValue>]> {
    let mut batches = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, request) in requests.iter().enumerate() {
        let more = request.get().len() + 1;
        if index > start && (index - start == BATCH_REQUESTS_MAX || bytes + more > REQUESTS_BYTES_MAX) {
            batches.push(&requests[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += more;
    }
    if start < requests.len() {
        batches.push(&requests[start..]);
    }
    batches
}

/// Why there are no requests in a file.
enum LineError {
    /// It can't be read.
    Read(io::Error),
    /// A line, from 1, is no request.
    Line(usize, String),
}

impl LineError {
    fn told(self, file: &Path) -> ClientError {
        let name = if file == Path::new("-") { "standard input".into() } else { file.display().to_string() };
        match self {
            Self::Read(error) => ClientError::Usage(format!("{name} can't be read: {error}")),
            Self::Line(number, problem) => ClientError::Usage(format!("line {number} of {name}: {problem}")),
        }
    }
}

/// Blank lines are passed over, and so is the mark that editors of some systems put before a text.
fn read_requests(reader: impl BufRead) -> Result<Vec<Box<RawValue>>, LineError> {
    let mut requests = Vec::new();
    for (index, line) in reader.lines().enumerate() {
        let line = line.map_err(LineError::Read)?;
        let line = if index == 0 { line.strip_prefix('\u{feff}').unwrap_or(&line) } else { &line };
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let not_a_request = |problem: String| LineError::Line(index + 1, problem);
        RequestFrame::parse(line.as_bytes()).map_err(|error| not_a_request(error.to_string()))?;
        requests.push(RawValue::from_string(line.to_string()).map_err(|error| not_a_request(error.to_string()))?);
    }
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(padding: usize) -> Box<RawValue> {
        RawValue::from_string(format!(r#"{{"action":"status","padding":"{}"}}"#, "x".repeat(padding))).unwrap()
    }

    #[test]
    fn lines_are_requests_and_a_wrong_one_is_named() {
        let text = "{\"action\":\"status\"}\n\n  {\"action\":\"audit\"}\r\n";
        assert_eq!(read_requests(text.as_bytes()).map_err(|_| ()).unwrap().len(), 2);
        let marked = format!("\u{feff}{text}");
        assert_eq!(read_requests(marked.as_bytes()).map_err(|_| ()).unwrap().len(), 2);
        for wrong in [
            "{\"action\":\"status\"}\n\u{feff}{\"action\":\"status\"}",
            "{\"action\":\"status\"}\nnope\n",
            "{\"action\":\"status\"}\n[1]",
            "{\"action\":\"status\"}\n{}",
        ] {
            let error = read_requests(wrong.as_bytes()).err().unwrap().told(Path::new("-"));
            assert!(error.to_string().starts_with("line 2 of standard input: "), "{error}");
        }
    }

    #[test]
    fn batches_keep_to_the_limits_and_the_order() {
        let sizes = |requests: &[Box<RawValue>]| split(requests).iter().map(|batch| batch.len()).collect::<Vec<_>>();
        assert!(sizes(&[]).is_empty());
        let many: Vec<_> = (0..BATCH_REQUESTS_MAX + 1).map(|_| request(0)).collect();
        assert_eq!(sizes(&many), [BATCH_REQUESTS_MAX, 1]);
        let large: Vec<_> = (0..3).map(|_| request(REQUESTS_BYTES_MAX / 2 - 100)).collect();
        assert_eq!(sizes(&large), [2, 1]);
        let frame = Batch { requests: large[..2].iter().map(AsRef::as_ref).collect(), atomic: true };
        let id = "x".repeat(protocol::request::REQUEST_ID_BYTES_MAX);
        let body = protocol::request::write_request(Action::Batch, &frame, Some(&id)).unwrap();
        assert!(body.len() <= BATCH_FRAME_BYTES_MAX);
    }

    #[test]
    fn each_answer_is_told_with_its_number_and_action() {
        let deposit = RawValue::from_string(r#"{"action":"deposit","params":{}}"#.into()).unwrap();
        assert_eq!(tell_answer(3, &deposit, Ok(r#"{"balance":5.00}"#)), r#"3. deposit: {"balance":5.00}"#);
        let refusal =
            protocol::answer::AnswerError { code: "x".into(), text: "no such account".into(), known_epoch: None };
        assert_eq!(tell_answer(4, &deposit, Err(refusal)), "4. deposit REFUSED: no such account");
        assert_eq!(Told { done: 1, refused: 2 }.sum(), "3 requests: 1 done, 2 refused.");
    }
}
