//! What a command has at hand: the branch, the way to tell its answer, and the id of its writes.

use branch_client::RequestId;
use protocol::actions::{Action, Kind};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::branch::{Branch, Reply};
use crate::error::{ClientError, ExitStatus};
use crate::output::Output;
use crate::surroundings::{Input, Style};

/// Rows of a list, and where it goes on.
type Page<T, N> = (Vec<T>, Option<N>);

/// What a command has at hand.
pub struct Context<'w> {
    /// The branch that is asked.
    pub branch: Branch,
    /// Where the answer goes.
    pub out: Output<'w>,
    /// The id of the command's writes.
    pub id: RequestId,
    /// Whether a person or a script gives what is asked for.
    pub input: Input,
    /// Which escape sequences may be written.
    pub style: Style,
    /// How the program's command line is described, from which a shell's completions are made.
    pub description: fn() -> clap::Command,
}

impl Context<'_> {
    /// Asks and shows the answer.
    pub(super) fn ask<T: DeserializeOwned>(
        &mut self,
        action: Action,
        params: &impl Serialize,
        tell: impl FnOnce(T) -> String,
    ) -> Result<ExitStatus, ClientError> {
        let reply = self.branch.ask(action, params)?;
        if action.kind() == Kind::Control && reply.is_ok() {
            self.out.done = Some(action.name().into());
        }
        self.out.answer(&reply, tell)
    }

    /// Asks for a page of a list; with `--json` it is shown as it came. Returns its rows and where the list goes on, or
    /// `None` when a refusal was shown.
    pub(super) fn page<T: DeserializeOwned, N: DeserializeOwned>(
        &mut self,
        action: Action,
        params: &impl Serialize,
    ) -> Result<Option<Page<T, N>>, ClientError> {
        let reply = self.branch.ask(action, params)?;
        if self.out.json {
            self.out.document(reply.body())?;
            if !reply.is_ok() {
                return Ok(None);
            }
        }
        Ok(Some((reply.result()?, reply.next()?)))
    }

    /// Sends a write under the command's id and shows the answer.
    pub(super) fn order<T: DeserializeOwned>(
        &mut self,
        action: Action,
        params: &impl Serialize,
        tell: impl FnOnce(T) -> String,
    ) -> Result<ExitStatus, ClientError> {
        let reply = self.send_order(action, params, 0)?;
        self.out.answer(&reply, tell)
    }

    /// Sends the command's write of that number.
    pub(super) fn send_order(
        &mut self,
        action: Action,
        params: &impl Serialize,
        number: usize,
    ) -> Result<Reply, ClientError> {
        let reply = self.branch.order(action, params, &self.id.of_write(number), self.id.as_str())?;
        if reply.is_ok() {
            self.out.done = Some(format!("{}, request id {}", action.name(), self.id));
        }
        Ok(reply)
    }
}
