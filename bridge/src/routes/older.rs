//! The paths of the older bridge, with its parameters, by form or JSON, and its answers. `branch` may stand in for
//! `host` and `port`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use axum::{Extension, body};
use protocol::answer::AccountLine;
use protocol::frame::FRAME_BYTES_MAX;
use protocol::request::{AccountAmount, Action, History, InterBranchTransfer, ListAccounts, LocalTransfer, OneAccount};

use super::answer;
use super::place::{self, DESTINATION, HERE, SOURCE};
use crate::branch::{Branch, Repeat, Reply};
use crate::bridge::Bridge;
use crate::error::Error;
use crate::guard::Caller;
use crate::limits::{LIST_ROWS, LIST_ROWS_DEFAULT, PAGE_ROWS, SEARCH_ROWS};
use crate::params::Params;

type Shared = State<Arc<Bridge>>;
/// Under which names a request gives an account.
pub(super) const ACCOUNT: &[&str] = &["account", "account_no"];

/// `POST /balance`.
pub async fn balance(
    State(bridge): Shared,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Reply, Error> {
    let branch = place::branch(&bridge, &caller.who, &params, &HERE)?;
    let account_no = place::account(&caller.who, &branch, &params, ACCOUNT)?;
    branch.call(Action::Balance, OneAccount { account_no }, Repeat::Read).await
}

/// `POST /deposit`.
pub async fn deposit(
    State(bridge): Shared,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Reply, Error> {
    cash(&bridge, &caller, &params, Action::Deposit).await
}

/// `POST /withdraw`.
pub async fn withdraw(
    State(bridge): Shared,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Reply, Error> {
    cash(&bridge, &caller, &params, Action::Withdraw).await
}

async fn cash(bridge: &Bridge, caller: &Caller, params: &Params, action: Action) -> Result<Reply, Error> {
    let branch = place::branch(bridge, &caller.who, params, &HERE)?;
    let account_no = place::account(&caller.who, &branch, params, ACCOUNT)?;
    let amount = params.amount()?;
    write(&branch, action, AccountAmount { account_no, amount }, Repeat::Write(params.request_id(&caller.who)?)).await
}

/// `POST /transfer`: within a branch, or between two by two-phase commit.
pub async fn transfer(
    State(bridge): Shared,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Reply, Error> {
    let source = place::branch(&bridge, &caller.who, &params, &SOURCE)?;
    let src_account_no = place::account(&caller.who, &source, &params, &["src_account", "src_account_no"])?;
    let destination = place::named(&bridge, &params, &DESTINATION)?.unwrap_or_else(|| Arc::clone(&source));
    let dest_account_no = params.account(&["dest_account", "dest_account_no"])?;
    let dest_account_no =
        dest_account_no.ok_or_else(|| Error::Input("the parameter dest_account is missing".into()))?;
    let amount = params.amount()?;
    let id = params.request_id(&caller.who)?;
    // A transfer to another branch may wait for it; what one person has waiting is bounded.
    let _place = if source.name() == destination.name() { None } else { Some(caller.quota.transfer().await?) };
    if source.name() == destination.name() {
        let order = LocalTransfer { src_account_no, dest_account_no, amount };
        return write(&source, Action::LocalTransfer, order, Repeat::Write(id)).await;
    }
    let address = destination.address();
    let order = InterBranchTransfer {
        src_account_no,
        dest_account_no,
        amount,
        dest_branch: Some(destination.name().clone()),
        dest_host: None,
        dest_port: None,
    };
    let reply = write(&source, Action::InterBranchTransfer, order.clone(), Repeat::Transfer(id.clone())).await;
    let Err(Error::Refused(error)) = &reply else { return reply };
    let is_by_address = match error.code.as_str() {
        // The source has never met the destination: tell it where that is. Nothing was begun, so the id is free.
        "branch_unreachable" => !is_known(&source, &destination).await,
        // The first request under this id may have been sent so.
        "request_id_reused" => true,
        _ => false,
    };
    if !is_by_address {
        return reply;
    }
    let order = InterBranchTransfer {
        dest_branch: None,
        dest_host: Some(address.host),
        dest_port: Some(address.port),
        ..order
    };
    write(&source, Action::InterBranchTransfer, order, Repeat::Transfer(id)).await
}

/// Whether one branch has another in its directory.
async fn is_known(source: &Arc<Branch>, destination: &Branch) -> bool {
    let known = source.read::<Vec<protocol::answer::Branch>>(Action::Branches, protocol::request::NoParams {}).await;
    known.is_ok_and(|(lines, _)| lines.iter().any(|line| line.name == destination.name().as_str()))
}

/// Sends a write, and has what watches the branch look at once.
pub(super) async fn write(
    branch: &Arc<Branch>,
    action: Action,
    params: impl serde::Serialize + Send + 'static,
    repeat: Repeat,
) -> Result<Reply, Error> {
    let reply = branch.call(action, params, repeat).await;
    branch.state.poke();
    reply
}

/// `POST /get_logs`.
pub async fn get_logs(
    State(bridge): Shared,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Response, Error> {
    let branch = place::branch(&bridge, &caller.who, &params, &HERE)?;
    place::only(&params, &["account", "account_no", "after", "limit"])?;
    let account_no = place::account_if_named(&caller.who, &params, ACCOUNT)?;
    if let Some(account) = account_no {
        crate::access::own_account(&caller.who, branch.name(), account)?;
    }
    let limit = params.parse::<usize>("limit")?.map(|limit| limit.clamp(1, LIST_ROWS));
    let after = params.parse("after")?;
    let bytes = caller.quota.answer(FRAME_BYTES_MAX >> 10).await?;
    let reply = branch.call(Action::GetLogs, History { account_no, after, limit }, Repeat::Read).await?;
    Ok(answer::long(&reply.result, reply.next.as_deref(), bytes))
}

/// `GET /list_accounts`: a page of them, or those whose number or name has the text `q`.
pub async fn list_accounts(
    State(bridge): Shared,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Response<body::Body>, Error> {
    place::only(&params, &["q", "after", "limit"])?;
    let branch = place::branch(&bridge, &caller.who, &params, &HERE)?;
    let bytes = caller.quota.answer(FRAME_BYTES_MAX >> 10).await?;
    let mut after = params.parse("after")?;
    let Some(text) = params.get("q").map(str::to_lowercase) else {
        let limit = params.parse::<usize>("limit")?.map(|limit| limit.clamp(1, LIST_ROWS));
        let reply = branch.call(Action::ListAccounts, ListAccounts { after, limit }, Repeat::Read).await?;
        return Ok(answer::long(&reply.result, reply.next.as_deref(), bytes));
    };
    let limit = params.limit(LIST_ROWS_DEFAULT, LIST_ROWS)?;
    let mut found: Vec<AccountLine> = Vec::new();
    let mut looked_at = 0;
    loop {
        let page = ListAccounts { after, limit: Some(PAGE_ROWS) };
        let (lines, next): (Vec<AccountLine>, _) = branch.read(Action::ListAccounts, page).await?;
        looked_at += lines.len();
        for line in lines {
            after = Some(line.account_no);
            if line.name.to_lowercase().contains(&text) || line.account_no.to_string().contains(&text) {
                found.push(line);
                if found.len() == limit {
                    break;
                }
            }
        }
        let is_end = next.is_none() && found.len() < limit;
        if is_end || found.len() == limit || looked_at >= SEARCH_ROWS {
            let after = after.filter(|_| !is_end).map(|after| answer::to_json(&after)).transpose()?;
            return Ok(answer::long(&answer::to_json(&found)?, after.as_deref(), bytes));
        }
    }
}
