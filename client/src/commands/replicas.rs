//! Replicas: making one the primary, making a copy a replica, ordering a new copy.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use protocol::answer::{Promotion, Status};
use protocol::request::{Action, Demote, NoParams, Promote};
use protocol::{Address, Epoch};
use serde::de::IgnoredAny;

use crate::commands::context::Context;
use crate::error::{ClientError, ExitStatus};

pub(super) const PROMOTE_EXAMPLES: &str = "\
Examples:
  bank-client --port 9200 promote
  bank-client --host replica.example --port 9200 promote --yes

The copy becomes the primary under a higher epoch; transfers that were in doubt are finished by it, and the other
branches follow it. The old primary, when it is back, takes no writes: bank-client demote makes it a replica. Without
--yes the order is refused while the primary answers, while there is more than this copy has, and at a copy that was
replaced or that contradicts another one.";

pub(super) const DEMOTE_EXAMPLES: &str = "\
Examples:
  bank-client --port 9100 demote --to 127.0.0.1:9200

A primary first waits until the copy there has all that it has committed, and stays the primary when that takes too
long; then promote the copy. If a copy has group commits that its new primary does not have, it says how many and follows
only after bank-client resync, which takes a new copy and keeps the old file.";

/// How long is waited for a copy to say how it gets on in its new role.
const SETTLE: Duration = Duration::from_secs(10);
/// How often it is asked.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Arguments of `promote`.
#[derive(Args, Debug)]
pub struct PromoteArguments {
    /// Also when the primary still answers, when there is more than this copy has, or when it was replaced: what only
    /// the others have is lost
    #[arg(long)]
    yes: bool,
}

/// Arguments of `demote`.
#[derive(Args, Debug)]
pub struct DemoteArguments {
    /// The copy to follow
    #[arg(long, value_name = "HOST:PORT")]
    to: Address,
}

pub(super) fn promote(arguments: &PromoteArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let params = Promote { force: arguments.yes };
    context.ask(Action::Promote, &params, |promotion: Promotion| {
        format!("This copy is the primary now.\n{}", tell_promotion(&promotion))
    })
}

/// What a promotion may have lost, as far as the promoted copy knows.
pub(super) fn tell_promotion(promotion: &Promotion) -> String {
    let Promotion { epoch, epoch_id, after_sequence, heard_sequence, silent_seconds, at } = promotion;
    let epoch = Epoch::new(*epoch, epoch_id);
    let mut text = format!("Epoch {epoch} began at {at} after group {after_sequence} of the old primary.");
    match heard_sequence.map(|heard| heard - after_sequence) {
        Some(missing) if missing > 0 => {
            text.push_str(&format!(
                " Of its groups at least the {missing} that it was heard to have after that are not here."
            ));
        }
        Some(_) | None => {}
    }
    if let Some(silent) = silent_seconds {
        text.push_str(&format!(" It had been silent for {silent} s; what it committed in that time is not here."));
    }
    text
}

pub(super) fn demote(arguments: &DemoteArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let to = arguments.to.to_string();
    let demoted = context.ask(Action::Demote, &Demote { to: to.clone() }, |_: IgnoredAny| {
        format!("This copy is a replica of {to} now.")
    })?;
    if demoted == ExitStatus::AllDone && !context.out.json {
        tell_how_it_gets_on(context)?;
    }
    Ok(demoted)
}

pub(super) fn resync(context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let ordered = context.ask(Action::Resync, &NoParams {}, |_: IgnoredAny| {
        "A new copy of the primary's books is ordered; the old file is kept beside it.".to_string()
    })?;
    if ordered == ExitStatus::AllDone && !context.out.json {
        tell_how_it_gets_on(context)?;
    }
    Ok(ordered)
}

/// Waits a while until the replica follows, or says why it does not.
fn tell_how_it_gets_on(context: &mut Context<'_>) -> Result<(), ClientError> {
    let deadline = Instant::now() + SETTLE;
    loop {
        // It closes and opens everything, so it may be away for a moment.
        let status =
            context.branch.again().ask(Action::Status, &NoParams {}).and_then(|reply| reply.result::<Status>());
        let replication = status.ok().and_then(|status| status.replication);
        match replication.as_ref().map(|replication| replication.state.as_str()) {
            Some("following") => return context.out.text("It follows."),
            Some("diverged") => {
                let why = replication.and_then(|replication| replication.trouble).unwrap_or_default();
                return context.out.text(&format!(
                    "It does not follow: {why}.\nbank-client resync takes a new copy and keeps the old file."
                ));
            }
            Some(_) | None if Instant::now() >= deadline => {
                return context.out.text("It does not follow yet; bank-client status says how it gets on.");
            }
            Some(_) | None => thread::sleep(ASK_EVERY),
        }
    }
}
