//! The socket that a tunnel is: bytes both ways at once, time limits, ends, and who is let in.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tls::{Acceptor, Connector, Patience, Tunnel};

const PATIENCE: Patience =
    Patience { handshake: Duration::from_secs(20), write: Duration::from_secs(20), linger: Duration::from_millis(200) };

/// A certificate for these names that signs itself, and its key, as files.
fn certificate(names: &[&str]) -> TempDir {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    folder
}

fn acceptor(folder: &TempDir) -> Acceptor {
    Acceptor::new(&folder.path().join("cert.pem"), &folder.path().join("key.pem")).unwrap()
}

fn connector(folder: &TempDir) -> Connector {
    Connector::new(Some(&folder.path().join("cert.pem"))).unwrap()
}

/// Two sockets that are connected.
fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, client)
}

/// A tunnel's two sides.
fn tunnel() -> (Tunnel, Tunnel) {
    let folder = certificate(&["127.0.0.1"]);
    let (acceptor, connector) = (acceptor(&folder), connector(&folder));
    let (server, client) = sockets();
    let accepting = thread::spawn(move || acceptor.accept(server, PATIENCE).unwrap());
    let client = connector.connect(client, "127.0.0.1", PATIENCE).unwrap();
    (accepting.join().unwrap(), client)
}

#[test]
fn much_goes_both_ways_at_once_and_arrives_as_it_was() {
    const BYTES: usize = 8 << 20;
    let sides = tunnel();
    let pattern = |seed: usize| -> Vec<u8> { (0..BYTES).map(|at| ((at * 31 + at / 251 + seed) % 256) as u8).collect() };
    thread::scope(|scope| {
        for (seed, side) in [&sides.0, &sides.1].into_iter().enumerate() {
            let (mut writer, mut reader) = (side.inside().unwrap(), side.inside().unwrap());
            scope.spawn(move || writer.write_all(&pattern(seed)).unwrap());
            scope.spawn(move || {
                let mut read = vec![0; BYTES];
                reader.read_exact(&mut read).unwrap();
                assert!(read == pattern(1 - seed), "what side {seed} read is not what was written");
            });
        }
    });
}

#[test]
fn what_was_written_before_the_end_arrives_and_then_the_end() {
    let (server, client) = tunnel();
    let mut inside = client.inside().unwrap();
    inside.write_all(b"the last words").unwrap();
    drop(inside);
    client.finish();
    let mut read = String::new();
    server.inside().unwrap().read_to_string(&mut read).unwrap();
    assert_eq!(read, "the last words");
}

#[test]
fn what_comes_together_with_the_end_of_the_handshake_is_not_lost() {
    // Whether it comes together is up to the threads; in a hundred tries it does.
    for _ in 0..100 {
        let folder = certificate(&["127.0.0.1"]);
        let (acceptor, connector) = (acceptor(&folder), connector(&folder));
        let (server, client) = sockets();
        let asking = thread::spawn(move || {
            let tunnel = connector.connect(client, "127.0.0.1", PATIENCE).unwrap();
            tunnel.inside().unwrap().write_all(b"at once").unwrap();
            tunnel
        });
        let tunnel = acceptor.accept(server, PATIENCE).unwrap();
        let mut inside = tunnel.inside().unwrap();
        inside.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut read = [0; 7];
        inside.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"at once");
        asking.join().unwrap();
    }
}

#[test]
fn one_direction_can_be_shut_and_the_other_goes_on() {
    let (server, client) = tunnel();
    let (mut server_side, mut client_side) = (server.inside().unwrap(), client.inside().unwrap());
    client_side.write_all(b"a question").unwrap();
    client_side.shutdown(Shutdown::Write).unwrap();
    let mut question = String::new();
    server_side.read_to_string(&mut question).unwrap();
    server_side.write_all(question.to_uppercase().as_bytes()).unwrap();
    server.finish();
    let mut answer = String::new();
    client_side.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "A QUESTION");
}

#[test]
fn a_read_ends_at_its_time_limit_and_nothing_is_lost_by_that() {
    let (server, client) = tunnel();
    let mut reader = server.inside().unwrap();
    reader.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
    let kind = reader.read(&mut [0; 8]).unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{kind}");
    reader.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client.inside().unwrap().write_all(b"late").unwrap();
    let mut read = [0; 4];
    reader.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"late");
}

#[test]
fn a_peer_that_never_ends_its_side_is_left_after_a_moment() {
    let folder = certificate(&["127.0.0.1"]);
    let acceptor = acceptor(&folder);
    let (server, client) = sockets();
    let watched = server.try_clone().unwrap();
    let accepting = thread::spawn(move || acceptor.accept(server, PATIENCE).unwrap());
    let peer = connector(&folder).connect(client, "127.0.0.1", PATIENCE).unwrap();
    accepting.join().unwrap().finish();
    // Our network side is shut for reading too: a read there gives the end at once, whatever the peer sends.
    let deadline = Instant::now() + Duration::from_secs(20);
    watched.set_nonblocking(true).unwrap();
    while !matches!(watched.peek(&mut [0]), Ok(0)) {
        assert!(Instant::now() < deadline, "the connection was left open");
        thread::sleep(Duration::from_millis(5));
    }
    drop(peer);
}

#[test]
fn half_a_handshake_takes_no_longer_than_it_may() {
    let folder = certificate(&["127.0.0.1"]);
    let (server, mut client) = sockets();
    // The head of a record that never comes.
    client.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
    let begun = Instant::now();
    let patience = Patience { handshake: Duration::from_millis(100), ..PATIENCE };
    let error = acceptor(&folder).accept(server, patience).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn only_a_certificate_that_is_trusted_and_names_the_host_will_do() {
    let (own, other, elsewhere) =
        (certificate(&["127.0.0.1"]), certificate(&["127.0.0.1"]), certificate(&["delhi.bank"]));
    let check = |shown: &TempDir, trusted: &TempDir, host: &str, expected: bool| {
        let acceptor = acceptor(shown);
        let (server, client) = sockets();
        let accepting = thread::spawn(move || acceptor.accept(server, PATIENCE).is_ok());
        let connected = connector(trusted).connect(client, host, PATIENCE);
        assert_eq!(connected.is_ok(), expected, "{host}: {connected:?}");
        drop(connected);
        accepting.join().unwrap();
    };
    check(&own, &own, "127.0.0.1", true);
    check(&elsewhere, &elsewhere, "delhi.bank", true);
    check(&own, &other, "127.0.0.1", false);
    check(&elsewhere, &elsewhere, "127.0.0.1", false);
    check(&own, &own, "delhi.bank", false);
}

#[test]
fn files_that_hold_nothing_of_use_are_named() {
    let (folder, other) = (certificate(&["127.0.0.1"]), certificate(&["127.0.0.1"]));
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let missing = folder.path().join("missing.pem");
    for (cert, key) in
        [(&missing, &key), (&cert, &missing), (&key, &key), (&cert, &cert), (&cert, &other.path().join("key.pem"))]
    {
        let error = Acceptor::new(cert, key).unwrap_err().to_string();
        assert!(error.contains(".pem: "), "{error}");
    }
    assert!(Connector::new(Some(&key)).unwrap_err().to_string().contains("key.pem"));
    assert!(Connector::new(None).is_ok());
}
