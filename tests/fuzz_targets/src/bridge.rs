//! A request at the HTTP bridge: its parameters, its cookies, and the headers that say who asks from where.
//!
//! The input is a request as it is written, with `\n` at the end of each line: method and target, headers, an empty
//! line, the body. What is no HTTP never gets there, and is passed over here.

use std::cell::LazyCell;

use axum::body::Body;
use axum::extract::FromRequest as _;
use axum::http::{HeaderMap, Request, header};
use bank_bridge::guard::{cookie, login_num};
use bank_bridge::origin::{Origins, port_of};
use bank_bridge::params::Params;
use bank_bridge::proxy;
use bank_bridge::request_id::RequestId;
use bank_bridge::session::{Sessions, basic, cookie_name};
use bank_bridge::who::Who;
use tokio::runtime::{Builder, Runtime};

/// Names that handlers ask for.
const NAMES: [&str; 8] = ["account", "account_no", "amount", "branch", "host", "limit", "port", "request_id"];

thread_local! {
    static RUNTIME: LazyCell<Runtime> = const {
        LazyCell::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime of one thread is made"))
    };
}

/// Reads one request.
///
/// # Panics
/// When parameters are taken that contradict each other, or are something else in another form.
pub fn run(bytes: &[u8]) {
    let Some((request, body)) = parse(bytes) else { return };
    headers(&request);
    let duplicate = has_duplicate(&request, body);
    let Some(params) = read(request) else { return };
    assert!(!duplicate, "a parameter that is given twice was taken: {params:?}");
    let _ = params.only(&NAMES);
    if let Ok(amount) = params.amount() {
        let money = amount.get().expect("it was looked at");
        assert!(!money.is_zero() && params.get("amount").and_then(|text| text.parse().ok()) == Some(money));
    }
    if let Ok(Some(account)) = params.account(&["account", "account_no"]) {
        for name in ["account", "account_no"] {
            assert!(params.get(name).is_none_or(|text| text.parse() == Ok(account)), "two accounts: {params:?}");
        }
    }
    assert!(params.limit(10, 100).is_ok_and(|limit| (1..=100).contains(&limit)) || params.get("limit").is_some());
    if let Ok(id) = params.request_id(&Who::Administrator { branch: "Mumbai".parse().expect("it is a name") }) {
        assert!(id.sent().len() <= 128 && id.sent().is_ascii());
        assert_ne!(id.sent(), RequestId::operator(id.given().to_string()).sent(), "a person's id is the person's");
    }
    as_json(&params);
}

/// Method, target, headers and body.
fn parse(bytes: &[u8]) -> Option<(Request<Body>, &[u8])> {
    let (mut rest, mut lines) = (bytes, Vec::new());
    loop {
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            lines.push(rest);
            rest = &[];
            break;
        };
        let line = &rest[..end];
        rest = &rest[end + 1..];
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let (first, headers) = lines.split_first()?;
    let (method, target) = std::str::from_utf8(first).ok()?.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(target);
    for line in headers {
        let colon = line.iter().position(|byte| *byte == b':')?;
        request = request.header(&line[..colon], line[colon + 1..].trim_ascii());
    }
    Some((request.body(Body::from(rest.to_vec())).ok()?, rest))
}

fn read(request: Request<Body>) -> Option<Params> {
    RUNTIME.with(|runtime| runtime.block_on(Params::from_request(request, &()))).ok()
}

/// Whether a plain look at the query and a form's body finds a name twice. Names that are written in another way than
/// as they are count for nothing here.
fn has_duplicate(request: &Request<Body>, body: &[u8]) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let form = if kind == "application/x-www-form-urlencoded" && request.method() == "POST" {
        std::str::from_utf8(body).unwrap_or_default()
    } else {
        ""
    };
    let pairs = request.uri().query().unwrap_or_default().split('&').chain(form.split('&'));
    let names: Vec<&str> = pairs.map(|pair| pair.split('=').next().unwrap_or_default()).collect();
    NAMES.iter().any(|name| names.iter().filter(|other| *other == name).count() > 1)
}

/// What was taken is the same as JSON.
fn as_json(params: &Params) {
    let given = NAMES.iter().filter_map(|name| Some(((*name).to_string(), params.get(name)?.into())));
    let object: serde_json::Map<String, serde_json::Value> = given.collect();
    let body = serde_json::to_vec(&object).expect("an object of texts is written");
    let request = Request::post("/").header(header::CONTENT_TYPE, "application/json");
    let again = read(request.body(Body::from(body)).expect("it is a request")).expect("what was taken is taken");
    for name in NAMES {
        assert_eq!(again.get(name), params.get(name), "{name}");
    }
}

/// Everything about a request that is not a parameter.
fn headers(request: &Request<Body>) {
    let headers: &HeaderMap = request.headers();
    let listen = "127.0.0.1:5000".parse().expect("it is an address");
    let origins = Origins::new(listen, &["bank.example".to_string()]);
    let allowed = origins.check(request.method(), request.uri(), headers).is_ok();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    assert!(!allowed || host.is_some_and(|host| !host.is_empty()), "a request that names no host was let in");
    let name = cookie_name(host.map_or(0, port_of));
    if let Some(token) = cookie(headers, &name) {
        assert!(!token.contains(';') && Sessions::default().find(token).is_none());
    }
    for authorization in headers.get_all(header::AUTHORIZATION) {
        if let Some((name, _)) = authorization.to_str().ok().and_then(basic) {
            let _ = login_num(&name);
        }
    }
    let peer = [127, 0, 0, 1].into();
    let untrusted = proxy::client(peer, headers, &[]);
    assert!(untrusted.address == peer && !untrusted.is_https, "a stranger's word counts");
    let _ = proxy::client(peer, headers, &[peer]);
}
