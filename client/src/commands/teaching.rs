//! Teaching: what a branch that runs with `--teaching` lets a class do to it.

use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use protocol::BranchName;
use protocol::request::{Action, NoParams};
use protocol::teaching::{Crash, Fault, How, LinkFault, PassTime, Stage, Step, StepMode};

use crate::commands::context::Context;
use crate::error::{ClientError, ExitStatus};
use crate::output::table;

pub(super) const STAGE_EXAMPLES: &str = "\
Examples:
  bank-client stage
  bank-client --port 9101 stage --json

It shows whether messages wait, which ones do, and which faults are set. The branch must run with --teaching.";

pub(super) const STEP_MODE_EXAMPLES: &str = "\
Examples:
  bank-client step-mode on
  bank-client step-mode off     delivers all that wait, in order

While it is on, every message to this branch waits, and the protocol's clock here stands still: nothing is sent again
and nothing times out until 'bank-client pass-time'. A transfer between two branches has messages both ways, so turn it
on at both.";

pub(super) const STEP_EXAMPLES: &str = "\
Examples:
  bank-client stage
  bank-client step 3 deliver
  bank-client step 3 drop
  bank-client step 3 duplicate            the branch receives it, and a copy goes on waiting
  bank-client step 3 delay --delay-ms 500";

pub(super) const PASS_TIME_EXAMPLES: &str = "\
Examples:
  bank-client pass-time 2s
  bank-client pass-time 300ms
  bank-client pass-time 1m";

pub(super) const FAULT_EXAMPLES: &str = "\
Examples:
  bank-client fault Delhi cut
  bank-client fault Delhi slow --delay-ms 700
  bank-client fault Delhi heal";

pub(super) const CRASH_EXAMPLES: &str = "\
Examples:
  bank-client crash now
  bank-client crash after-vote     at the next transfer that comes to that point
  bank-client crash never          disarms it

'bank-client stage' lists the points. A crash is a real one, as by 'kill -9': start the branch again as you did before.";

/// Whether something is to be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    /// Every message waits.
    On,
    /// Messages pass by themselves.
    Off,
}

/// Arguments of `step-mode`.
#[derive(Args, Debug)]
pub struct StepModeArguments {
    /// Whether messages wait
    switch: Switch,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum HowArgument {
    /// The branch receives it.
    Deliver,
    /// The branch never receives it.
    Drop,
    /// The branch receives it, and a copy goes on waiting.
    Duplicate,
    /// The branch receives it after the time of --delay-ms.
    Delay,
}

/// Arguments of `step`.
#[derive(Args, Debug)]
pub struct StepArguments {
    /// The message's number, as 'bank-client stage' shows it
    number: u64,
    /// What becomes of it
    how: HowArgument,
    /// For how long it is delayed, in milliseconds
    #[arg(long, alias = "delay_ms", value_name = "MILLISECONDS", required_if_eq("how", "delay"))]
    delay_ms: Option<u64>,
}

/// Arguments of `pass-time`.
#[derive(Args, Debug)]
pub struct PassTimeArguments {
    /// How far the protocol's clock goes on: 2s, 300ms or 1m
    time: ShortTime,
}

/// What is done to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FaultArgument {
    /// It is broken, and stays so until it is healed.
    Cut,
    /// Messages over it come late, by --delay-ms.
    Slow,
    /// It works as ever.
    Heal,
}

/// Arguments of `fault`.
#[derive(Args, Debug)]
pub struct FaultArguments {
    /// The branch at the other end of the link
    peer: BranchName,
    /// What is done to the link
    fault: FaultArgument,
    /// How long each message from there takes, in milliseconds
    #[arg(long, alias = "delay_ms", value_name = "MILLISECONDS", required_if_eq("fault", "slow"))]
    delay_ms: Option<u64>,
}

/// Arguments of `crash`.
#[derive(Args, Debug)]
pub struct CrashArguments {
    /// `now`, the name of a crash point, or `never`
    #[arg(value_name = "POINT")]
    at: String,
}

/// A time in the form `2s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortTime(Duration);

impl FromStr for ShortTime {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "a time is a whole number and a unit: 300ms, 2s or 1m";
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            _ => return Err(WRONG),
        };
        let number: u64 = number.parse().map_err(|_| WRONG)?;
        number.checked_mul(unit_ms).map(|time_ms| Self(Duration::from_millis(time_ms))).ok_or(WRONG)
    }
}

pub(super) fn stage(context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    context.ask(Action::Stage, &NoParams {}, |stage: Stage| {
        format!("{}\nCrash points: {}.", tell_stage(&stage), stage.crash_points.join(", "))
    })
}

pub(super) fn step_mode(arguments: &StepModeArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    context.ask(Action::StepMode, &StepMode { on: arguments.switch == Switch::On, lease: None }, |stage| {
        tell_stage(&stage)
    })
}

pub(super) fn step(arguments: &StepArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let how = match arguments.how {
        HowArgument::Deliver => How::Deliver,
        HowArgument::Drop => How::Drop,
        HowArgument::Duplicate => How::Duplicate,
        HowArgument::Delay => How::Delay,
    };
    let params = Step { number: arguments.number, how, delay_ms: arguments.delay_ms };
    send_once(Action::Step, &params, context)
}

pub(super) fn pass_time(arguments: &PassTimeArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let milliseconds = u64::try_from(arguments.time.0.as_millis()).unwrap_or(u64::MAX);
    send_once(Action::PassTime, &PassTime { milliseconds }, context)
}

pub(super) fn fault(arguments: &FaultArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let fault = match arguments.fault {
        FaultArgument::Cut => LinkFault::Cut,
        FaultArgument::Slow => LinkFault::Slow,
        FaultArgument::Heal => LinkFault::Heal,
    };
    let params = Fault { peer: arguments.peer.clone(), fault, delay_ms: arguments.delay_ms, lease: None };
    context.ask(Action::Fault, &params, |stage| tell_stage(&stage))
}

pub(super) fn crash(arguments: &CrashArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    send_once(Action::Crash, &Crash { at: arguments.at.clone(), lease: None }, context)
}

/// Sends what must not be done twice. The connection's end instead of an answer means that the branch has crashed: at
/// once, or because what was let through brought it to an armed point.
fn send_once(
    action: Action,
    params: &impl serde::Serialize,
    context: &mut Context<'_>,
) -> Result<ExitStatus, ClientError> {
    let patience = context.branch.timeout();
    match context.branch.ask_once(action, params, None, patience)? {
        Some(reply) => context.out.answer(&reply, |stage| tell_stage(&stage)),
        None if context.out.json => {
            context.out.document(br#"{"status":"ok","result":null}"#).map(|()| ExitStatus::AllDone)
        }
        None => {
            context.out.text("The branch has crashed. Start it again as you did before.")?;
            Ok(ExitStatus::AllDone)
        }
    }
}

/// What waits, and what is broken.
fn tell_stage(stage: &Stage) -> String {
    let mut lines = vec![if stage.step_mode {
        format!("Step mode is on; the protocol's clock stands at {} ms.", stage.protocol_clock_ms)
    } else {
        "Step mode is off: messages pass by themselves.".into()
    }];
    if stage.waiting.is_empty() {
        lines.push("No message waits.".into());
    } else {
        let rows = stage.waiting.iter().map(|waiting| {
            let due = if waiting.due_unix_ms.is_some() { "by itself, later" } else { "" };
            [waiting.number.to_string(), waiting.from.clone(), waiting.text.clone(), due.into()]
        });
        lines.push(table(["Number", "From", "Message", "Delivered"], &[0], rows));
    }
    for fault in &stage.faults {
        lines.push(match fault.fault {
            LinkFault::Cut => format!("The link to {} is cut.", fault.peer),
            LinkFault::Slow => {
                format!("Messages from {} come {} ms late.", fault.peer, fault.delay_ms.unwrap_or_default())
            }
            LinkFault::Heal => format!("The link to {} works.", fault.peer),
        });
    }
    if let Some(point) = &stage.crash_at {
        lines.push(format!("It will crash at the point {point}."));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_numbers_with_a_unit() {
        let check = |text: &str, expected_ms: Option<u64>| {
            let expected = expected_ms.map(|time_ms| ShortTime(Duration::from_millis(time_ms)));
            assert_eq!(text.parse::<ShortTime>().ok(), expected, "{text}");
        };
        check("2s", Some(2_000));
        check("300ms", Some(300));
        check("1m", Some(60_000));
        for wrong in ["", "2", "s", "-2s", "1.5s", "2 s", "2h", "99999999999999999999s", "18446744073709551615m"] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_stage_tells_what_waits_and_what_is_broken() {
        let json = r#"{"step_mode":true,"protocol_clock_ms":1200,"waiting":[{"number":3,"id":"Mumbai:17","from":"Mumbai",
            "to":"Delhi","message":"prepare","text":"prepare T 50.00","txid":"T","due_unix_ms":null}],
            "faults":[{"peer":"Pune","fault":"cut"},{"peer":"Agra","fault":"slow","delay_ms":700}],"crash_at":"after-vote",
            "crash_points":["before-prepared","after-vote"]}"#;
        let told = tell_stage(&serde_json::from_str(json).unwrap());
        let expected = "\
Step mode is on; the protocol's clock stands at 1200 ms.
Number  From    Message          Delivered
-------------------------------------------
     3  Mumbai  prepare T 50.00  -
The link to Pune is cut.
Messages from Agra come 700 ms late.
It will crash at the point after-vote.";
        assert_eq!(told, expected);
    }
}
