//! Events of the branch as they happen, one to a line.

use clap::Args;
use protocol::TxId;
use protocol::event::{Event, EventKind};
use protocol::request::{Action, Watch};

use crate::commands::Session;
use crate::error::{ClientError, ExitStatus};

pub(super) const EXAMPLES: &str = "\
Examples:
  bank-client watch
  bank-client watch --txid Mumbai-17 --json
  bank-client watch --no-follow

It goes on until Ctrl-C, unless --no-follow ends it after what is in the branch's memory.";

/// Arguments of `watch`.
#[derive(Args, Debug)]
pub struct WatchArguments {
    /// Only events with numbers above this one
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    /// Only events of this transfer
    #[arg(long, value_name = "TXID")]
    txid: Option<TxId>,
    /// End after the events that are in memory
    #[arg(long)]
    no_follow: bool,
}

pub(super) fn run(arguments: &WatchArguments, session: &mut Session<'_>) -> Result<ExitStatus, ClientError> {
    let follow = !arguments.no_follow;
    let params = Watch { after: arguments.after, txid: arguments.txid.clone(), follow };
    let Session { branch, out, .. } = session;
    let mut status = ExitStatus::AllDone;
    let patience = if follow { None } else { Some(branch.timeout()) };
    branch.stream(Action::Watch, &params, patience, |reply| {
        if out.json {
            out.document(reply.body())?;
            let goes_on = matches!(reply.json(), Ok(json) if json != "null");
            if !reply.is_ok() {
                status = ExitStatus::Refused;
            }
            return Ok(goes_on);
        }
        match reply.result::<Option<Event>>()? {
            Some(event) => out.text(&line(&event)).map(|()| true),
            None => Ok(false),
        }
    })?;
    Ok(status)
}

/// An event on one line.
fn line(event: &Event) -> String {
    let txid = event.txid.as_ref().map_or("-", TxId::as_str);
    format!("{}:{:<6} {:<24} {}", event.branch, event.number, txid, tell_kind(&event.kind))
}

/// What happened, in words.
pub fn tell_kind(kind: &EventKind) -> String {
    match kind {
        EventKind::Sent { to, text, .. } => format!("sent to {to}: {text}"),
        EventKind::Received { from, text, .. } => format!("received from {from}: {text}"),
        EventKind::Recorded { record, forced: true } => format!("on disk: {record}"),
        EventKind::Recorded { record, forced: false } => format!("recorded: {record}"),
        EventKind::State { role, from, to } => format!("{role}: {from} -> {to}"),
        EventKind::Moved { account, amount, what } => format!("account {account}: {amount} {}", what.name()),
        EventKind::Lost { from, text, .. } => format!("lost on its way from {from}: {text}"),
        EventKind::Asked { text } => format!("a client asks: {text}"),
        EventKind::Answered { text } => format!("the client is told: {text}"),
        EventKind::Note { text } => text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_in_words() {
        let check = |json: &str, expected: &str| {
            assert_eq!(tell_kind(&serde_json::from_str(json).unwrap()), expected);
        };
        check(r#"{"sent":{"to":"Delhi","message":"vote","text":"vote yes","id":"Pune:3"}}"#, "sent to Delhi: vote yes");
        check(r#"{"recorded":{"record":"prepared","forced":true}}"#, "on disk: prepared");
        check(r#"{"state":{"role":"participant","from":"a","to":"b"}}"#, "participant: a -> b");
        check(r#"{"moved":{"account":"1001","amount":50.00,"what":"held"}}"#, "account 1001: 50.00 held");
    }
}
