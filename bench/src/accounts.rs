//! The benchmark's accounts at a branch.

use std::net::SocketAddr;

use protocol::AccountNum;
use protocol::answer::Answer;
use protocol::connection::Connection;
use protocol::proof::BranchKey;
use protocol::request::{Action, Batch, CreateAccount, write_request};
use serde_json::value::RawValue;

use crate::load::connect;
use crate::workload::{OPENING_BALANCE, account_num};

/// Accounts opened by one request.
const OPENINGS_PER_BATCH: u64 = 5_000;
/// What a branch says to a number that it has already.
const EXISTS: &str = "account_exists";

/// Makes the first `accounts` of the benchmark's accounts, unless the branch has them.
///
/// # Errors
/// One sentence when the branch can't be reached or refuses.
pub fn open_accounts(address: SocketAddr, key: Option<&BranchKey>, accounts: u64) -> Result<(), String> {
    let mut connection = Connection::new(connect(address, key)?);
    for first in (0..accounts).step_by(OPENINGS_PER_BATCH as usize) {
        let requests = (first..accounts.min(first + OPENINGS_PER_BATCH)).map(|index| {
            let params = CreateAccount {
                account_no: AccountNum::new(account_num(index)),
                name: "Bench".into(),
                balance: Some(OPENING_BALANCE.into()),
                ..CreateAccount::default()
            };
            let request = write_request(Action::CreateAccount, &params, None)?;
            serde_json::from_slice::<Box<RawValue>>(&request)
        });
        let requests = requests.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        let batch = Batch { requests: requests.iter().map(AsRef::as_ref).collect(), atomic: false };
        let answers: Vec<Answer> = connection
            .call(Action::Batch, &batch, None)
            .map_err(|error| format!("accounts could not be opened: {error}"))?;
        for answer in answers {
            match answer.result() {
                Ok(_) => {}
                Err(error) if error.code == EXISTS => {}
                Err(error) => return Err(format!("an account could not be opened: {error}")),
            }
        }
    }
    Ok(())
}
