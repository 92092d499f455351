//! Events of the branch as they happen, one to a line.

use clap::Args;
use protocol::TxId;
use protocol::event::Event;
use protocol::request::{Action, Watch};
use teaching::trace::tell_event;

use crate::commands::context::Context;
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

pub(super) fn run(arguments: &WatchArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let follow = !arguments.no_follow;
    let params = Watch { after: arguments.after, txid: arguments.txid.clone(), follow };
    let Context { branch, out, .. } = context;
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
    format!("{}:{:<6} {:<24} {}", event.branch, event.number, txid, tell_event(&event.kind))
}
