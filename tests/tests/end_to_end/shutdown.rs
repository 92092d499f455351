//! SIGINT and SIGTERM: everybody is told, nothing that was acknowledged is lost, and it takes no two seconds.

use std::io::{BufRead as _, BufReader, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bank_tests::{Branch, Ending, MenuConnection, Options, Turn, audit, server_command, wait_for, wait_until};
use rustix::process::Signal;

/// What the design promises.
const STOP_TIME_MAX: Duration = Duration::from_secs(2);
const GOODBYE: &str = "@EXIT The bank is closing. Goodbye.\n";
const SESSIONS: usize = 32;

/// Signals the branch, and checks that it ends in time with status 0.
#[track_caller]
fn stop(branch: &mut Branch, signal: Signal) {
    let start = Instant::now();
    branch.signal(signal);
    let status = branch.wait();
    let taken = start.elapsed();
    assert_eq!(status.code(), Some(0), "{}", branch.log().text());
    assert!(taken < STOP_TIME_MAX, "it took {taken:?}: {}", branch.log().text());
    audit(branch.database_path()).assert_clean();
}

#[test]
fn clients_are_told_at_every_prompt() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut branch = Branch::start(Options::preloaded());
        let mut clients = vec![branch.menu(), branch.menu(), branch.log_in("1001", "1001"), branch.log_in("0", "root")];
        clients[1].answers(&["a", "1001"]).unwrap();
        let mut depositing = branch.log_in("1001", "1001");
        depositing.answer("b").unwrap();
        let mut pausing = branch.log_in("1002", "1002");
        pausing.answers(&["b", "10"]).unwrap().expect_done();
        clients.extend([depositing, pausing]);
        stop(&mut branch, signal);
        for client in &mut clients {
            assert_eq!(client.rest(), GOODBYE);
        }
        assert_eq!(branch.database().balance_paise(1002), 101_000);
    }
}

#[test]
fn half_a_line_is_not_carried_out_and_its_sender_is_told() {
    let mut branch = Branch::start(Options::preloaded());
    let mut client = branch.log_in("1001", "1001");
    client.answer("b").unwrap();
    client.send_bytes(b"500").unwrap();
    stop(&mut branch, Signal::TERM);
    assert_eq!(client.rest(), GOODBYE);
    assert_eq!(branch.database().balance_paise(1001), 100_000);
}

#[test]
fn a_client_that_reads_nothing_does_not_hold_it_up() {
    let mut branch = Branch::start(Options::preloaded());
    let mut stalled: Vec<_> = (0..4).map(|_| MenuConnection::connect(branch.menu_port()).unwrap()).collect();
    for client in &mut stalled {
        fill(client.stream());
    }
    let mut reading = branch.menu();
    stop(&mut branch, Signal::INT);
    assert_eq!(reading.rest(), GOODBYE);
}

/// Asks so much without reading an answer that the server can send no more, and so takes no more either.
fn fill(stream: &TcpStream) {
    let mut stream = stream;
    // The write that fails is the sign that both directions are full.
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    while stream.write_all(&b"x\n".repeat(4_096)).is_ok() {}
}

#[test]
fn under_load_each_client_is_told_and_what_was_acknowledged_is_there() {
    let mut branch = Branch::start(Options::preloaded());
    let (port, done) = (branch.menu_port(), AtomicUsize::new(0));
    let logged_in = AtomicUsize::new(0);
    let deposit = |session: usize| {
        let mut menu = MenuConnection::open(port).unwrap();
        menu.log_in("1001", "1001").unwrap();
        logged_in.fetch_add(1, Ordering::SeqCst);
        let mut acknowledged = Vec::new();
        for paise in (0..).map(|round| (round * SESSIONS + session) as u64 + 1) {
            let amount = format!("{}.{:02}", paise / 100, paise % 100);
            let Some(mut turn) = answer_unless_closed(&mut menu, "b") else { break };
            if !is_goodbye(&turn) {
                let Some(outcome) = answer_unless_closed(&mut menu, &amount) else { break };
                turn = outcome;
            }
            if turn.done().is_some() {
                acknowledged.push(paise);
                done.fetch_add(1, Ordering::SeqCst);
            }
            if is_goodbye(&turn) || answer_unless_closed(&mut menu, "").is_none_or(|turn| is_goodbye(&turn)) {
                break;
            }
        }
        acknowledged
    };
    let acknowledged: Vec<u64> = thread::scope(|scope| {
        let deposit = &deposit;
        let sessions: Vec<_> = (0..SESSIONS).map(|session| scope.spawn(move || deposit(session))).collect();
        wait_until("everybody is at work", || logged_in.load(Ordering::SeqCst) == SESSIONS);
        let before = done.load(Ordering::SeqCst);
        wait_until("deposits are made", || done.load(Ordering::SeqCst) > before + 200);
        stop(&mut branch, Signal::TERM);
        sessions.into_iter().flat_map(|session| session.join().unwrap()).collect()
    });
    let there = branch.database().deposits(1001);
    let lost: Vec<_> = acknowledged.iter().filter(|paise| !there.contains_key(&paise.cast_signed())).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    assert_eq!(there.len(), acknowledged.len(), "carried out, and nobody was told");
}

/// Gives an answer; `None` when the branch had hung up before it came, and had said goodbye.
fn answer_unless_closed(menu: &mut MenuConnection, line: &str) -> Option<Turn> {
    if menu.send(line).is_ok() {
        return Some(menu.turn().unwrap());
    }
    assert!(menu.rest().ends_with(GOODBYE), "it hung up without a goodbye");
    None
}

fn is_goodbye(turn: &Turn) -> bool {
    assert!(turn.ending != Ending::Exit || turn.text().ends_with(GOODBYE), "{}", turn.text());
    turn.ending == Ending::Exit
}

#[test]
fn a_branch_that_shall_ends_with_its_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = server_command();
    command.args(["--port", "0", "--menu-port", "0", "--preload", "--until-input-ends", "--db"]);
    command.arg(folder.path().join("bank.db"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().starts_with("menu on ")), "it runs as long as there is somebody");
    assert!(child.try_wait().unwrap().is_none());
    drop(child.stdin.take());
    assert_eq!(wait_for("the branch ends", || child.try_wait().unwrap()).code(), Some(0));
    audit(&folder.path().join("bank.db")).assert_clean();
}
