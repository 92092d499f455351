//! Hostile clients of the branch protocol, the menu, the older client's port and TLS: one round of each kind.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bank_tests::{MenuConnection, frame, request};
use serde_json::{Value, json};

use super::world::{BATCH, GUESSED, Hostile, Hostility, KNOWN};

/// How long a client that reads nothing is left so.
const UNREAD_FOR: Duration = Duration::from_secs(3);

/// The kinds, by what they do.
pub const KINDS: [(&str, Hostility); 15] = [
    ("a byte now and then, at each port", slow_bytes),
    ("half frames", half_frames),
    ("huge lengths", huge_lengths),
    ("nonsense", nonsense),
    ("answers that are not read", unread_answers),
    ("menu pages that are not read", unread_menu),
    ("events that are not read", unread_events),
    ("wrong and right passwords", passwords),
    ("wrong and right passwords at menus", menu_passwords),
    ("refused batches of all or none", refused_batches),
    ("batches of failing requests", failing_batches),
    ("large lists", large_lists),
    ("many transfers at once", many_transfers),
    ("TLS that is broken off", broken_tls),
    ("connections that come and go", come_and_go),
];

/// Holds connections at each port of Mumbai that send one byte of something endless at a time.
fn slow_bytes(hostile: &mut Hostile<'_>) -> io::Result<()> {
    const HELD: usize = 64;
    let mumbai = &hostile.world.mumbai;
    let ports = [
        (mumbai.menu_port(), &b"aaaaaaaaaaaaaaaaaaaa"[..]),
        (mumbai.port(), b"\0\0\x40\0{\"action\":\""),
        (mumbai.lab_port(), b"7ffffffffffffff"),
        (hostile.world.bridge.port(), b"GET / HTTP/1.1\r\nX-Slow: "),
        (hostile.world.pune.port(), b"\x16\x03\x01\x01"),
    ];
    for (port, begin) in ports {
        let mut stream = hostile.connect(port)?;
        stream.write_all(begin)?;
        hostile.hold(stream, HELD);
    }
    // Those that were given up are no longer counted on.
    hostile.held().retain_mut(|stream| stream.write_all(b"a").is_ok());
    hostile.world.wait(Duration::from_millis(500));
    Ok(())
}

/// Begins frames, short and long, as a stranger and as a customer, and sends no more of them.
fn half_frames(hostile: &mut Hostile<'_>) -> io::Result<()> {
    const HELD: usize = 40;
    let header = |length: u32| length.to_be_bytes();
    let mut stranger = hostile.connect(hostile.world.mumbai.port())?;
    let (length, sent) = [(200, 50), (1 << 20, 100_000), (40_000, 39_999), (9, 0)][hostile.random.below(4) as usize];
    stranger.write_all(&header(length))?;
    stranger.write_all(&vec![b' '; sent])?;
    hostile.hold(stranger, HELD);
    if hostile.random.below(20) == 0 {
        let mut customer = hostile.customer()?;
        customer.send_bytes(&header(6 << 20))?;
        customer.send_bytes(&vec![b' '; 3 << 20])?;
        let stream = customer.inner().stream().try_clone()?;
        hostile.hold(stream, HELD);
    }
    hostile.world.wait(Duration::from_millis(100));
    Ok(())
}

/// Announces frames that nobody takes.
fn huge_lengths(hostile: &mut Hostile<'_>) -> io::Result<()> {
    let mut branch = hostile.branch()?;
    let length = (1 << 20) + 1 + hostile.random.below(u64::from(u32::MAX) - (2 << 20));
    branch.send_bytes(&u32::try_from(length).unwrap().to_be_bytes())?;
    assert_eq!(branch.receive()?.code(), "frame_too_long");
    hostile.world.wait(Duration::from_millis(20));
    Ok(())
}

/// Sends what is no request, no line and no TLS.
fn nonsense(hostile: &mut Hostile<'_>) -> io::Result<()> {
    let bytes: Vec<u8> = (0..2_000).map(|_| hostile.random.below(256) as u8).collect();
    let world = hostile.world;
    let ports = [world.mumbai.port(), world.mumbai.menu_port(), world.mumbai.lab_port(), world.pune.port()];
    for port in ports {
        let mut stream = hostile.connect(port)?;
        // It may have hung up after the first bytes.
        let _ = stream.write_all(&bytes);
        hostile.hold(stream, 40);
    }
    let mut branch = hostile.branch()?;
    for body in ["", "{", "null", r#"{"action":"status","params":[[[[[[[["#, "\u{1}"] {
        assert!(!branch.try_text(body)?.is_ok());
    }
    world.wait(Duration::from_millis(50));
    Ok(())
}

/// Asks for hundreds of long answers and reads none.
fn unread_answers(hostile: &mut Hostile<'_>) -> io::Result<()> {
    let customer = hostile.customer()?;
    let read = request("history", json!({"limit": 10_000}), None);
    // The branch stops reading before all of it is sent.
    let _ = customer.send_bytes(&frame(&read).repeat(500));
    hostile.world.wait(UNREAD_FOR);
    Ok(())
}

/// Logs in at the menu, and orders pages that it does not read.
fn unread_menu(hostile: &mut Hostile<'_>) -> io::Result<()> {
    let account = hostile.account().to_string();
    let mut menu = MenuConnection::over(hostile.connect(hostile.world.mumbai.menu_port())?);
    menu.turn()?;
    menu.log_in(&account, &account)?;
    let _ = menu.send_bytes("a\ne\n\n".repeat(20_000).as_bytes());
    hostile.world.wait(UNREAD_FOR);
    Ok(())
}

/// Watches from the first event on, as a careless operator, and reads none.
fn unread_events(hostile: &mut Hostile<'_>) -> io::Result<()> {
    let mut operator = hostile.branch()?;
    operator.prove(&hostile.world.mumbai.key()).map_err(io::Error::other)?;
    operator.send_text(&request("watch", json!({"after": 0, "follow": true}), None))?;
    let stream = operator.inner().stream().try_clone()?;
    hostile.hold(stream, 8);
    hostile.world.wait(UNREAD_FOR);
    Ok(())
}

/// Guesses, and then knows, over and over.
fn passwords(hostile: &mut Hostile<'_>) -> io::Result<()> {
    let mut branch = hostile.branch()?;
    let mut logins = Vec::new();
    for _ in 0..20 {
        let missing = 9_000 + hostile.random.below(1_000);
        for (account, password) in [(KNOWN, KNOWN.to_string()), (GUESSED, "guess".into()), (missing, "guess".into())] {
            logins.extend(frame(&request("login", json!({"account_no": account, "password": password}), None)));
        }
    }
    branch.send_bytes(&logins)?;
    (0..60).try_for_each(|_| branch.receive().map(drop))
}

fn menu_passwords(hostile: &mut Hostile<'_>) -> io::Result<()> {
    let mut menu = MenuConnection::over(hostile.connect(hostile.world.mumbai.menu_port())?);
    menu.turn()?;
    for (account, password) in [(GUESSED, "guess".to_string()), (KNOWN, KNOWN.to_string())] {
        let turn = menu.answers(&["a", &account.to_string(), &password])?;
        // Refused, there is a pause; let in, there is a menu with a way out.
        menu.answer(if turn.fail().is_some() { "" } else { "f" })?;
    }
    Ok(())
}

fn deposits(account: u64) -> Vec<Value> {
    vec![json!({"action": "deposit", "params": {"account_no": account, "amount": "0.01"}}); BATCH]
}

/// Ten thousand requests that happen all or none, and are refused at the last.
fn refused_batches(hostile: &mut Hostile<'_>) -> io::Result<()> {
    let account = hostile.account();
    let mut customer = hostile.branch()?;
    customer.try_ask("login", json!({"account_no": account, "password": account.to_string()}), None)?;
    let mut requests = deposits(account);
    requests.push(json!({"action": "withdraw", "params": {"account_no": account, "amount": 999_999_999}}));
    for _ in 0..5 {
        customer.try_ask("batch", json!({"requests": requests, "atomic": true}), None)?;
    }
    Ok(())
}

/// Requests each of which fails by itself, after others that don't.
fn failing_batches(hostile: &mut Hostile<'_>) -> io::Result<()> {
    let account = hostile.account();
    let mut customer = hostile.branch()?;
    customer.try_ask("login", json!({"account_no": account, "password": account.to_string()}), None)?;
    let mut requests = deposits(account);
    for request in requests.iter_mut().skip(1).step_by(2) {
        *request = json!({"action": "withdraw", "params": {"account_no": account, "amount": 999_999_999}});
    }
    for _ in 0..5 {
        customer.try_ask("batch", json!({"requests": requests}), None)?;
    }
    Ok(())
}

/// A list of millions in one frame, and the longest list that there is.
fn large_lists(hostile: &mut Hostile<'_>) -> io::Result<()> {
    let mut customer = hostile.customer()?;
    let many = format!(r#"{{"action":"batch","params":{{"requests":[{}1]}}}}"#, "1,".repeat((4 << 20) - 100));
    customer.try_text(&many)?;
    customer.try_ask("history", json!({"limit": 10_000}), None)?;
    let deep = format!(r#"{{"action":"history","params":{}1{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
    customer.try_text(&deep)?;
    Ok(())
}

/// Splits of a hundred parts each, many at a time, to another branch.
fn many_transfers(hostile: &mut Hostile<'_>) -> io::Result<()> {
    const AT_ONCE: usize = 20;
    let account = hostile.account();
    let mut customer = hostile.branch()?;
    customer.try_ask("login", json!({"account_no": account, "password": account.to_string()}), None)?;
    let leg = json!({"account_no": account, "dest_branch": "Delhi", "amount": "0.01"});
    let split = request("split_transfer", json!({"src_account_no": account, "legs": vec![leg; 100]}), None);
    customer.send_bytes(&frame(&split).repeat(AT_ONCE))?;
    (0..AT_ONCE).try_for_each(|_| customer.receive().map(drop))
}

/// Handshakes that end in the middle, are nonsense, or are followed by nothing.
fn broken_tls(hostile: &mut Hostile<'_>) -> io::Result<()> {
    const HELD: usize = 30;
    let world = hostile.world;
    for port in [world.pune.port(), world.pune.menu_port()] {
        for bytes in [&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..], b"\x16\x03\x01\0\x05xxxxx", b"\x16", b"hello"] {
            let mut stream = hostile.connect(port)?;
            stream.write_all(bytes)?;
            if hostile.random.below(2) == 0 {
                hostile.hold(stream, HELD);
            }
        }
        // A whole handshake, and nothing after it.
        drop(world.by_tls(port)?);
    }
    world.wait(Duration::from_millis(50));
    Ok(())
}

/// Connects and hangs up, in all ways: at once, after the first words, with a reset.
fn come_and_go(hostile: &mut Hostile<'_>) -> io::Result<()> {
    let world = hostile.world;
    let mumbai = &world.mumbai;
    let ports = [mumbai.port(), mumbai.menu_port(), mumbai.lab_port(), world.bridge.port(), world.pune.port()];
    for port in ports {
        let mut stream = hostile.connect(port)?;
        match hostile.random.below(3) {
            0 => {}
            1 => first_words(&mut stream),
            // Hanging up with something unread is a reset.
            _ => stream.write_all(b"a")?,
        }
    }
    world.wait(Duration::from_millis(2));
    Ok(())
}

/// Reads what comes at once, if anything does.
fn first_words(stream: &mut TcpStream) {
    let within = stream.set_read_timeout(Some(Duration::from_millis(50)));
    if within.is_ok() {
        // Silence or the end: it goes in any case.
        let _ = stream.read(&mut [0; 256]);
    }
}
