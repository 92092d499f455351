//! What every request passes first: is it meant for us, who makes it, may they. And what every answer carries.
//!
//! Who it is comes from HTTP Basic, or from the session's cookie; at an open bridge nobody has to say. A write that
//! comes with a cookie must carry the session's token too, because the browser adds the cookie by itself.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use protocol::AccountNum;
use protocol::answer::PasswordVersionOf;
use protocol::request::{CheckPassword, LoginNum};

use crate::access::{self, Access};
use crate::api;
use crate::branch::Branch;
use crate::bridge::Bridge;
use crate::error::Error;
use crate::logins::Login;
use crate::origin::port_of;
use crate::proxy::{self, Client};
use crate::quota::Quota;
use crate::session::{Found, basic, cookie_name, is_same};
use crate::who::Who;

/// The header with the session's token.
const CSRF_HEADER: &str = "x-csrf-token";

/// What every answer carries: nothing is fetched but from here, nobody frames the page, nothing leaks to others.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-embedder-policy"), "require-corp"),
];

/// Who makes this request, as handlers see it.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub who: Who,
    /// The password by which they are in; none for those who need or have none.
    pub login: Option<Arc<Login>>,
    /// The session's cookie, if there is one that lasts.
    pub session: Option<(String, Found)>,
    /// From where.
    pub client: Client,
    /// The name that the session's cookie has for their browser.
    pub cookie: String,
    /// What they have under way.
    pub quota: Arc<Quota>,
}

/// Lets a request pass, or answers it.
pub async fn guard(State(bridge): State<Arc<Bridge>>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    let path = head.extensions.get::<MatchedPath>().map(|path| path.as_str().to_string());
    let method = head.method.clone();
    let mut response = match admit(&bridge, &head, path.as_deref()).await {
        Ok(caller) => match caller.quota.request().await {
            Ok(place) => {
                head.extensions.insert(caller);
                let response = next.run(Request::from_parts(head, body)).await;
                drop(place);
                response
            }
            Err(error) => error.into_response(),
        },
        Err(error) => error.into_response(),
    };
    let headers = response.headers_mut();
    for (name, text) in HEADERS {
        headers.insert(name, HeaderValue::from_static(text));
    }
    // What is told to one person is kept by no one; the page's files say otherwise by themselves.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    bridge.metrics.answered(&method, path.as_deref(), response.status());
    response
}

async fn admit(bridge: &Arc<Bridge>, head: &Parts, path: Option<&str>) -> Result<Caller, Error> {
    bridge.origins.check(&head.method, &head.uri, &head.headers)?;
    let row = path.and_then(|path| api::access(&head.method, path));
    let peer = head.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let peer = peer.ok_or_else(|| Error::Internal("a request without an address".into()))?;
    let client = proxy::client(peer, &head.headers, &bridge.config.trusted_proxies);
    // What is not in the table is answered by the router: there is no such path, or not for this method.
    let Some(row) = row else { return Ok(caller(bridge, &head.headers, client, Who::Nobody, None)) };
    let caller = identify(bridge, &head.headers, client).await?;
    let is_write = head.method != Method::GET && head.method != Method::HEAD;
    // Signing in needs no token: it is for whoever has none that is right.
    let is_sign_in = head.method == Method::POST && path == Some("/session");
    if is_write && !is_sign_in {
        check_csrf(&caller, &head.headers)?;
    }
    if row != Access::Anyone {
        access::check(&caller.who, row)?;
    }
    Ok(caller)
}

fn check_csrf(caller: &Caller, headers: &HeaderMap) -> Result<(), Error> {
    let Some((_, found)) = &caller.session else { return Ok(()) };
    let mut given = headers.get_all(CSRF_HEADER).iter().map(|token| token.to_str().unwrap_or_default());
    // Two of them contradict each other, or might.
    let is_right = given.next().is_some_and(|token| is_same(token, &found.csrf)) && given.next().is_none();
    if is_right { Ok(()) } else { Err(Error::Csrf) }
}

fn caller(bridge: &Bridge, headers: &HeaderMap, client: Client, who: Who, login: Option<Arc<Login>>) -> Caller {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let quota = bridge.quotas.of(&who, client.address);
    Caller { who, login, session: None, client, cookie: cookie_name(port_of(host)), quota }
}

async fn identify(bridge: &Arc<Bridge>, headers: &HeaderMap, client: Client) -> Result<Caller, Error> {
    let mut authorizations = headers.get_all(header::AUTHORIZATION).iter();
    if let Some(authorization) = authorizations.next() {
        let login = authorization.to_str().ok().and_then(basic).filter(|_| authorizations.next().is_none());
        let (name, password) = login.ok_or(Error::NotSignedIn)?;
        let (branch, account) = login_place(bridge, &name)?;
        let login = check_login(bridge, client.address, &branch, account, &password, true).await?;
        return Ok(caller(bridge, headers, client, login.who.clone(), Some(login)));
    }
    let nobody = if bridge.config.is_open { Who::Open } else { Who::Nobody };
    let stranger = caller(bridge, headers, client, nobody, None);
    let token = cookie(headers, &stranger.cookie).map(ToOwned::to_owned);
    let Some((token, found)) = token.and_then(|token| bridge.sessions.find(&token).map(|found| (token, found))) else {
        return Ok(stranger);
    };
    let caller = caller(bridge, headers, client, found.login.who.clone(), Some(Arc::clone(&found.login)));
    Ok(Caller { session: Some((token, found)), ..caller })
}

/// The value of the cookie of this name, the first where there are several.
#[must_use]
pub fn cookie<'h>(headers: &'h HeaderMap, cookie: &str) -> Option<&'h str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == cookie).map(|(_, token)| token)
}

/// Branch and account of `0`, `1001` or `Mumbai/1001`; without a branch, the first.
fn login_place(bridge: &Bridge, name: &str) -> Result<(Arc<Branch>, LoginNum), Error> {
    let (branch, account) = match name.split_once('/') {
        // A wrong branch looks as a wrong password does: who is not signed in is told no more.
        Some((branch, account)) => (bridge.branches.by_name(branch).map_err(|_| Error::WrongLogin)?, account),
        None => (bridge.branches.first()?, name),
    };
    Ok((branch, login_num(account)?))
}

/// Who logs in: `0`, or an account's number.
///
/// # Errors
/// [`Error::WrongLogin`].
pub fn login_num(text: &str) -> Result<LoginNum, Error> {
    if text == "0" {
        return Ok(LoginNum::Administrator);
    }
    text.parse::<AccountNum>().map(LoginNum::Customer).map_err(|_| Error::WrongLogin)
}

/// Has the branch check a password, unless it was right a moment ago.
///
/// # Errors
/// [`Error::WrongLogin`], [`Error::TooManyLogins`], [`Error::Busy`], or that the branch can't be asked.
pub async fn check_login(
    bridge: &Arc<Bridge>,
    address: IpAddr,
    branch: &Arc<Branch>,
    account: LoginNum,
    password: &str,
    may_remember: bool,
) -> Result<Arc<Login>, Error> {
    let number = u64::try_from(account.as_i64()).unwrap_or(u64::MAX);
    let (name, passwords) = (branch.name(), &bridge.passwords);
    let was_right = || passwords.was_right(name, number, password).filter(|_| may_remember);
    if let Some(login) = was_right() {
        return Ok(login);
    }
    let _turn = passwords.turn(name, number).await?;
    // Someone with the same password may have been before us.
    if let Some(login) = was_right() {
        return Ok(login);
    }
    passwords.begin(address, name, number)?;
    let checked = branch.check_password(CheckPassword { account_no: account, password: password.to_string() }).await;
    match checked {
        Ok(reply) => {
            passwords.give_back(address, name, number);
            // A branch of an older version answers null.
            let told: Option<PasswordVersionOf> = reply.read(branch)?;
            let login = bridge.logins.add(name, account, told.and_then(|told| told.password_version));
            if may_remember {
                passwords.remember(name, number, password, &login);
            }
            Ok(login)
        }
        Err(Error::Refused(error)) if error.code == "wrong_login" => Err(Error::WrongLogin),
        Err(error) => {
            passwords.give_back(address, name, number);
            Err(error)
        }
    }
}
