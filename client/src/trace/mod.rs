//! `trace`: one transfer between branches, message by message, from what all its branches remember.
//!
//! - `gather` asks the branches for their events;
//! - `order` puts the events of all of them into one line that no cause comes after its effect in;
//! - `story` pairs what was sent with what was received and finds the commit point;
//! - `ladder`, `mermaid` and `shiviz` draw it.
//!
//! Branches keep events in memory alone, and the last some thousands: what a branch saw before its last start is
//! known only from the other side, and the drawing says so.

mod gather;
mod ladder;
mod mermaid;
mod order;
mod shiviz;
mod story;

#[cfg(test)]
mod tests;

use clap::{Args, ValueEnum};
use protocol::TxId;
use protocol::event::Event;
use serde::Serialize;

use crate::commands::Session;
use crate::error::{ClientError, ExitStatus};

use gather::Gathered;
use ladder::Glyphs;
use story::Story;

pub const EXAMPLES: &str = "\
Examples:
  bank-client trace Mumbai-17
  bank-client trace Mumbai-17 --ascii
  bank-client trace Mumbai-17 --format mermaid
  bank-client trace Mumbai-17 --format shiviz > transfer.log   for https://bestchai.bitbucket.io/shiviz/

Branches remember their latest events only, and none from before their last start.";

/// Arguments of `trace`.
#[derive(Args, Debug)]
pub struct TraceArguments {
    /// The transfer's id, as the transfer's answer and the history show it
    txid: TxId,
    /// What to draw
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Draw with ASCII characters alone
    #[arg(long)]
    ascii: bool,
}

/// What to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A ladder diagram for a terminal.
    Text,
    /// A log for `ShiViz`, which draws and compares runs.
    Shiviz,
    /// A Mermaid sequence diagram, for a page of Markdown.
    Mermaid,
    /// The events themselves, in order.
    Json,
}

/// Gathers the events of a transfer and draws them.
///
/// # Errors
/// When the branch that is asked can't be reached or refuses. Another one is only noted.
pub fn run(arguments: &TraceArguments, session: &mut Session<'_>) -> Result<ExitStatus, ClientError> {
    let gathered = gather::gather(session.branch.again(), &arguments.txid)?;
    let format = if session.out.json { Format::Json } else { arguments.format };
    let is_empty = gathered.events.is_empty();
    if format == Format::Json {
        let json = serde_json::to_vec(&document(gathered)).map_err(|error| ClientError::Output(error.into()))?;
        session.out.document(&json)?;
        return Ok(if is_empty { ExitStatus::Refused } else { ExitStatus::AllDone });
    }
    if is_empty {
        return Err(ClientError::NothingToTrace { txid: arguments.txid.to_string(), outcome: gathered.outcome });
    }
    session.out.text(&draw(format, arguments.ascii, gathered))?;
    Ok(ExitStatus::AllDone)
}

fn draw(format: Format, ascii: bool, gathered: Gathered) -> String {
    let gathered = in_order(gathered);
    match format {
        Format::Text => {
            let glyphs = if ascii { &Glyphs::ASCII } else { &Glyphs::UNICODE };
            ladder::draw(&Story::new(&gathered), glyphs)
        }
        Format::Mermaid => mermaid::draw(&Story::new(&gathered)),
        Format::Shiviz => shiviz::write(&gathered.events),
        // The caller writes this one as one document; for completeness it is the same here.
        Format::Json => serde_json::to_string(&document(gathered)).unwrap_or_default(),
    }
}

fn in_order(gathered: Gathered) -> Gathered {
    Gathered { events: order::in_order(gathered.events), ..gathered }
}

/// The trace as one JSON document.
#[derive(Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
struct Document {
    txid: TxId,
    outcome: Option<String>,
    branches: Vec<gather::Witness>,
    events: Vec<Event>,
}

fn document(gathered: Gathered) -> Document {
    let Gathered { txid, outcome, witnesses, events } = in_order(gathered);
    Document { txid, outcome, branches: witnesses, events }
}
