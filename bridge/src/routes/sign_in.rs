//! Signing in and out, and who is.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::header;
use axum::response::Response;
use serde::Serialize;

use super::answer;
use super::place::{self, HERE};
use crate::bridge::Bridge;
use crate::error::Error;
use crate::guard::{Caller, check_login, login_num};
use crate::limits::SESSION_LIFE;
use crate::params::Params;
use crate::session::Found;
use crate::who::Who;

/// Who is signed in, for the page.
#[derive(Serialize)]
struct Session<'a> {
    signed_in: bool,
    role: Option<&'static str>,
    branch: Option<&'a str>,
    account: Option<String>,
    csrf: Option<&'a str>,
    teaching: bool,
    can_restart: bool,
    bank_name: &'a str,
    /// For whoever signs in.
    branches: Vec<&'a str>,
}

/// `GET /session`.
pub async fn session(
    State(bridge): State<Arc<Bridge>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Error> {
    told(&bridge, &caller.who, caller.session.as_ref().map(|(_, found)| found))
}

/// `POST /session`.
pub async fn sign_in(
    State(bridge): State<Arc<Bridge>>,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Response, Error> {
    let branch = match place::named(&bridge, &params, &HERE)? {
        Some(branch) => branch,
        None => bridge.branches.first()?,
    };
    let account = login_num(params.need("account")?)?;
    let password = params.need("password")?;
    let login = check_login(&bridge, caller.client.address, &branch, account, password, false).await?;
    // A new session at each sign-in: no token from before it is worth anything after it.
    if let Some((token, _)) = &caller.session {
        bridge.sessions.end(token);
    }
    let (token, found) = bridge.sessions.begin(login)?;
    let mut response = told(&bridge, &found.login.who, Some(&found))?;
    set_cookie(&mut response, &caller, &token, SESSION_LIFE.as_secs());
    Ok(response)
}

/// `DELETE /session`.
pub async fn sign_out(
    State(bridge): State<Arc<Bridge>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Error> {
    if let Some((token, _)) = &caller.session {
        bridge.sessions.end(token);
    }
    let who = if bridge.config.is_open { Who::Open } else { Who::Nobody };
    let mut response = told(&bridge, &who, None)?;
    set_cookie(&mut response, &caller, "", 0);
    Ok(response)
}

fn set_cookie(response: &mut Response, caller: &Caller, token: &str, seconds: u64) {
    let (name, secure) = (&caller.cookie, if caller.client.is_https { "; Secure" } else { "" });
    let cookie = format!("{name}={token}; HttpOnly; SameSite=Strict; Path=/; Max-Age={seconds}{secure}");
    if let Ok(cookie) = cookie.parse() {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
}

fn told(bridge: &Bridge, who: &Who, found: Option<&Found>) -> Result<Response, Error> {
    let (role, branch, account) = match who {
        Who::Nobody => (None, None, None),
        Who::Open => (Some("open"), None, None),
        Who::Administrator { branch } => (Some("administrator"), Some(branch.as_str()), None),
        Who::Customer { branch, account } => (Some("customer"), Some(branch.as_str()), Some(account.to_string())),
    };
    let branches = bridge.branches.all();
    answer::ok(&Session {
        signed_in: role.is_some(),
        role,
        branch,
        account,
        csrf: found.map(|found| found.csrf.as_str()),
        teaching: branches.iter().any(|branch| branch.state.is_teaching()),
        can_restart: branches.iter().any(|branch| bridge.can_restart(branch.name())),
        bank_name: &bridge.config.bank_name,
        branches: branches.iter().map(|branch| branch.name().as_str()).collect(),
    })
}
