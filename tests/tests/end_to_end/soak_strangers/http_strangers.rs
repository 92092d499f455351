//! Hostile clients of the bridge: one round of each kind.

use std::io::{self, Write};
use std::time::Duration;

use bank_tests::{FORM, JSON, Request, SignedIn};

use super::world::{GUESSED, Hostile, Hostility, KNOWN};

/// The kinds, by what they do.
pub const KINDS: [(&str, Hostility); 6] = [
    ("HTTP: cookies, headers and bodies", cookies_and_bodies),
    ("HTTP: requests in pieces", pieces),
    ("HTTP: answers that are not read", unread_answers),
    ("HTTP: events that are not read", unread_events),
    ("HTTP: wrong and right passwords", passwords),
    ("HTTP: Basic at each request", basic),
];

/// Signs in as a hostile customer, from where a hostile client comes.
fn sign_in(hostile: &mut Hostile<'_>) -> io::Result<(SignedIn, u64)> {
    let account = hostile.account();
    let form = format!("branch=Mumbai&account={account}&password={account}");
    let response = hostile.world.bridge.request("POST", "/session").body(FORM, &form).try_send()?;
    let csrf = response.json["result"]["csrf"].as_str().ok_or(io::ErrorKind::PermissionDenied)?.to_string();
    let cookie = response.header("set-cookie").and_then(|cookie| cookie.split(';').next()).unwrap_or_default();
    Ok((SignedIn { cookie: cookie.to_string(), csrf }, account))
}

fn status(request: Request) -> io::Result<u16> {
    Ok(request.try_send()?.status())
}

/// Heads and bodies as long as they may be, and longer.
fn cookies_and_bodies(hostile: &mut Hostile<'_>) -> io::Result<()> {
    let (session, account) = sign_in(hostile)?;
    let bridge = &hostile.world.bridge;
    let get = || bridge.request("GET", "/session");
    let post = || bridge.request("POST", "/deposit").session(&session);
    for size in [4_000, 15_000, 60_000] {
        status(get().header("Cookie", &format!("{}={}", session.cookie, "x".repeat(size))))?;
        status(get().header("X-Long", &"x".repeat(size)))?;
        status(post().body(FORM, &format!("branch=Mumbai&account={account}&amount=0.01&note={}", "x".repeat(size))))?;
        status(post().body(JSON, &format!("{{\"a\":{}", "[".repeat(size))))?;
    }
    let many = (0..100).fold(get(), |request, number| request.header(&format!("Cookie{number}"), &session.cookie));
    status(many)?;
    let cookies: Vec<String> = (0..800).map(|number| format!("c{number}={number}")).collect();
    status(get().header("Cookie", &cookies.join("; ")))?;
    let fields: Vec<String> = (0..500).map(|number| format!("f{number}=1")).collect();
    status(post().body(FORM, &fields.join("&")))?;
    status(bridge.request("POST", "/deposit").header("Cookie", &session.cookie).body(FORM, "amount=1"))?;
    status(get().host("evil.example"))?;
    status(get().header("Origin", "http://evil.example"))?;
    Ok(())
}

/// Requests of which the rest never comes, or comes in pieces.
fn pieces(hostile: &mut Hostile<'_>) -> io::Result<()> {
    const HELD: usize = 64;
    let port = hostile.world.bridge.port();
    let heads = [
        "POST /session HTTP/1.1\r\nContent-Length: 16000\r\n\r\naccount=".to_string(),
        "GET /session HTTP/1.1\r\nX-A: ".to_string(),
        format!("POST /deposit HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\naaa"),
        format!("POST /session HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 999999999999\r\n\r\n"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_string(),
    ];
    for head in heads {
        let mut stream = hostile.connect(port)?;
        stream.write_all(head.as_bytes())?;
        hostile.hold(stream, HELD);
    }
    hostile.held().retain_mut(|stream| stream.write_all(b"a").is_ok());
    hostile.world.wait(Duration::from_millis(200));
    Ok(())
}

/// Long lists, many of them in one connection, of which none is read.
fn unread_answers(hostile: &mut Hostile<'_>) -> io::Result<()> {
    let (session, _) = sign_in(hostile)?;
    let bridge = &hostile.world.bridge;
    let page = bridge.request("GET", "/history?limit=10000").session(&session).text();
    let file = bridge.request("GET", "/history?format=csv").session(&session).text();
    for asked in [page.repeat(50), file] {
        let mut stream = hostile.connect(bridge.port())?;
        // The bridge stops reading before all of it is sent.
        let _ = stream.write_all(asked.as_bytes());
        hostile.hold(stream, 8);
    }
    hostile.world.wait(Duration::from_secs(2));
    Ok(())
}

/// Streams of events that are not read.
fn unread_events(hostile: &mut Hostile<'_>) -> io::Result<()> {
    let (session, _) = sign_in(hostile)?;
    let asked = hostile.world.bridge.request("GET", "/events?after=0").session(&session).text();
    for _ in 0..4 {
        let mut stream = hostile.connect(hostile.world.bridge.port())?;
        stream.write_all(asked.as_bytes())?;
        hostile.hold(stream, 24);
    }
    hostile.world.wait(Duration::from_secs(1));
    Ok(())
}

/// Guesses, and then knows, over and over, each time for a new session.
fn passwords(hostile: &mut Hostile<'_>) -> io::Result<()> {
    for (account, password) in [(GUESSED, "guess".to_string()), (KNOWN, KNOWN.to_string()), (9_999, "guess".into())] {
        let form = format!("branch=Mumbai&account={account}&password={password}");
        status(hostile.world.bridge.request("POST", "/session").body(FORM, &form))?;
    }
    Ok(())
}

/// A script that says who it is at each request.
fn basic(hostile: &mut Hostile<'_>) -> io::Result<()> {
    for (account, password) in [(KNOWN, KNOWN.to_string()), (GUESSED, "guess".into()), (KNOWN, KNOWN.to_string())] {
        let request = hostile.world.bridge.request("POST", "/deposit").basic(&account.to_string(), &password);
        status(request.body(FORM, &format!("branch=Mumbai&account={account}&amount=0.01")))?;
    }
    Ok(())
}
