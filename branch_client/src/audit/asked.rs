//! The books of a branch that is asked for them by requests.

use std::fmt;

use protocol::TxId;
use protocol::answer::{Audit, HistoryLine, Pending, Status};
use protocol::request::{Action, History, NoParams};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Books;

/// A way to ask one branch what changes nothing.
pub trait Ask: Send {
    /// Why there is no answer.
    type Error: fmt::Display;

    /// Asks. Returns the result, and where a list goes on.
    ///
    /// # Errors
    /// When the branch refuses, gives no answer, or one of other types.
    fn read<R: DeserializeOwned, N: DeserializeOwned>(
        &mut self,
        action: Action,
        params: &impl Serialize,
    ) -> Result<(R, Option<N>), Self::Error>;
}

impl<A: Ask> Books for A {
    fn audit(&mut self) -> Result<Audit, String> {
        let (audit, _) = self.read::<Audit, i64>(Action::Audit, &NoParams {}).map_err(|error| error.to_string())?;
        if audit.branch.is_some() && audit.role.is_some() {
            return Ok(audit);
        }
        // An older program says only in its status who it is.
        let (status, _) = self.read::<Status, i64>(Action::Status, &NoParams {}).map_err(|error| error.to_string())?;
        Ok(Audit { branch: Some(status.name), role: Some(status.role), epoch: status.epoch, ..audit })
    }

    fn history(&mut self, below: Option<i64>, rows: usize) -> Result<(Vec<HistoryLine>, Option<i64>), String> {
        let params = History { after: below, limit: Some(rows), ..History::default() };
        self.read(Action::History, &params).map_err(|error| error.to_string())
    }

    fn pending(&mut self) -> Result<Vec<Pending>, String> {
        #[derive(Serialize)]
        struct Page {
            #[serde(skip_serializing_if = "Option::is_none")]
            after: Option<TxId>,
        }
        let (mut rows, mut page) = (Vec::new(), Page { after: None });
        loop {
            let (more, after) =
                self.read::<Vec<Pending>, _>(Action::ListPending, &page).map_err(|error| error.to_string())?;
            rows.extend(more);
            page.after = after;
            if page.after.is_none() {
                return Ok(rows);
            }
        }
    }
}
