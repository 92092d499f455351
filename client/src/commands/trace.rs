//! `trace`: one transfer between branches, message by message, from what all its branches remember.

use clap::{Args, ValueEnum};
use protocol::TxId;
use teaching::trace::{self, Diagram, Glyphs};

use crate::commands::context::Context;
use crate::error::{ClientError, ExitStatus};
use crate::gather::gather;

pub(super) const EXAMPLES: &str = "\
Examples:
  bank-client trace Mumbai-17
  bank-client trace Mumbai-17 --ascii
  bank-client trace Mumbai-17 --format mermaid
  bank-client trace Mumbai-17 --format shiviz > transfer.log   for https://bestchai.bitbucket.io/shiviz/

Branches remember their latest events only, also over a restart; a crash can lose the last ones before it.";

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
pub(super) fn run(arguments: &TraceArguments, context: &mut Context<'_>) -> Result<ExitStatus, ClientError> {
    let transfer = gather(context.branch.again(), &arguments.txid)?;
    let format = if context.out.json { Format::Json } else { arguments.format };
    let is_empty = transfer.events().is_empty();
    if is_empty && format != Format::Json {
        let outcome = transfer.outcome().map(str::to_string);
        return Err(ClientError::NothingToTrace { txid: arguments.txid.to_string(), outcome });
    }
    let glyphs = if arguments.ascii { &Glyphs::ASCII } else { &Glyphs::UNICODE };
    match format {
        Format::Text => context.out.text(&trace::text(&Diagram::new(&transfer), glyphs))?,
        Format::Mermaid => context.out.text(&trace::mermaid(&Diagram::new(&transfer)))?,
        Format::Shiviz => context.out.text(&trace::shiviz(transfer.events()))?,
        Format::Json => {
            let json = serde_json::to_vec(&transfer).map_err(|error| ClientError::Output(error.into()))?;
            context.out.document(&json)?;
        }
    }
    Ok(if is_empty { ExitStatus::Refused } else { ExitStatus::AllDone })
}
