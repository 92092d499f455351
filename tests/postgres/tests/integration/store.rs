//! The log itself: who may append, and what becomes of a row whose answer is lost.

use std::ffi::OsString;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bank_server::dbs_exec::{LogRow, Position, RemoteLog as _};
use bank_server::error::Error;
use bank_server::shared_log::postgres::PostgresStore;
use bank_server::shared_log::settings::LogUrl;
use bank_server::shared_log::{SharedLog, Tried};
use bank_tests::{Random, SetOnDrop, wait_until};
use postgres_tests::{Cut, Proxy, Server};

/// Changes of the owner, so that many of them fall into the middle of another's append.
const CLAIMS: usize = 200;

fn open(url: &str, address: &str) -> Arc<SharedLog> {
    let url = LogUrl::from(OsString::from(url));
    SharedLog::new(Box::new(PostgresStore::new(&url, "Mumbai".into(), address.into(), None).unwrap()))
}

/// Begins a log with one row; what its snapshot holds is nobody's concern here.
fn begin(log: &SharedLog) -> LogRow {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = folder.path().join("snapshot");
    fs::write(&snapshot, "books").unwrap();
    let row = LogRow::after(None, 1, 0, vec![1]);
    assert!(log.store().begin(1, &row, &snapshot).unwrap());
    row
}

fn all_rows(log: &SharedLog) -> Vec<LogRow> {
    let mut rows: Vec<LogRow> = Vec::new();
    loop {
        let next = log.store().rows_after(rows.last().map_or(0, |row| row.position.sequence), 4_000).unwrap();
        if next.is_empty() {
            return rows;
        }
        rows.extend(next);
    }
}

/// Checks that rows are numbered from 1 without a gap, each standing on the one before, and epochs never going back.
fn assert_chained(rows: &[LogRow]) {
    let mut before: Option<&Position> = None;
    for row in rows {
        assert!(row.follows(before), "row {} stands on another", row.position.sequence);
        assert!(before.is_none_or(|before| before.epoch <= row.position.epoch));
        before = Some(&row.position);
    }
}

/// Claims the branch, whoever owns it, and says after which row of which epoch.
fn claim(log: &SharedLog) -> (i64, Position) {
    loop {
        let view = log.store().view().unwrap();
        let owner = view.owner.unwrap();
        if owner.id == log.store().id() {
            return (owner.epoch, log.store().position_at(view.last).unwrap().unwrap());
        }
        log.store().claim(&owner, 0).unwrap();
    }
}

#[test]
fn two_owners_at_once_leave_no_gap_and_no_double_number_and_lose_nothing_that_was_appended() {
    let server = Server::start();
    let begun = begin(&open(&server.url(), "127.0.0.1:1"));
    let (is_over, claimed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let appended = thread::scope(|scope| {
        let owners: Vec<_> = (1..=3)
            .map(|process| {
                let (url, mut random) = (server.url(), Random::from_environment());
                let (is_over, claimed) = (&is_over, &claimed);
                scope.spawn(move || {
                    let log = open(&url, &format!("127.0.0.1:{process}"));
                    let (mut appended, mut claims) = (Vec::new(), 0);
                    while !is_over.load(Ordering::SeqCst) {
                        let (epoch, mut last) = claim(&log);
                        log.claimed(std::time::Instant::now());
                        claims += 1;
                        claimed.fetch_add(1, Ordering::SeqCst);
                        // Until another has claimed it, in the middle of whatever this one is at.
                        loop {
                            let row = LogRow::after(Some(&last), epoch, 0, vec![process; 100]);
                            match log.append(&last, &row) {
                                Ok(()) => {
                                    appended.push(row.position);
                                    last = row.position;
                                }
                                Err(error) => {
                                    assert!(matches!(Error::from(error), Error::NotPrimary { .. }));
                                    break;
                                }
                            }
                            if is_over.load(Ordering::SeqCst) {
                                break;
                            }
                        }
                        thread::sleep(Duration::from_millis(random.below(30)));
                    }
                    (appended, claims)
                })
            })
            .collect();
        let over = SetOnDrop(&is_over);
        wait_until("the log has changed its owner often", || claimed.load(Ordering::SeqCst) >= CLAIMS);
        drop(over);
        owners.into_iter().map(|owner| owner.join().unwrap()).collect::<Vec<_>>()
    });
    let rows = all_rows(&open(&server.url(), "127.0.0.1:9"));
    assert_eq!(rows[0], begun);
    assert_chained(&rows);
    let claims: usize = appended.iter().map(|(_, claims)| claims).sum();
    for position in appended.iter().flat_map(|(appended, _)| appended) {
        let index = usize::try_from(position.sequence - 1).unwrap();
        assert_eq!(rows[index].position, *position, "what was appended is there");
    }
    println!("{} rows, {claims} claims", rows.len());
    assert!(claims > 10 && rows.len() > 50, "hardly anything happened");
}

#[test]
fn a_row_whose_exchange_is_cut_at_any_byte_is_in_the_log_once() {
    let server = Server::start();
    let proxy = Proxy::before(server.port());
    let log = open(&Server::url_at(proxy.port()), "127.0.0.1:1");
    let mut last = begin(&log).position;
    for direction in [Cut::Sent, Cut::Received] {
        let mut cuts = 0;
        loop {
            // The session is there, so what is cut is the exchange of this row.
            let warm = LogRow::after(Some(&last), 1, 0, vec![0]);
            log.append(&last, &warm).unwrap();
            last = warm.position;
            let row = LogRow::after(Some(&last), 1, 0, vec![7; 30]);
            proxy.cut_after(direction, cuts);
            log.append(&last, &row).unwrap_or_else(|error| panic!("cut at {cuts} of {direction:?}: {error:?}"));
            last = row.position;
            if !proxy.has_cut() {
                break;
            }
            assert!(!log.is_deposed());
            cuts += 1;
        }
        println!("{direction:?}: cut at each of {cuts} bytes");
        assert!(cuts > 20, "the whole exchange was cut, byte by byte");
    }
    let rows = all_rows(&log);
    assert_chained(&rows);
    assert_eq!(rows.last().unwrap().position, last);
}

#[test]
fn an_owner_that_was_replaced_while_its_answer_was_lost_is_told_what_became_of_its_row() {
    let server = Server::start();
    let proxy = Proxy::before(server.port());
    let (one, other) = (open(&Server::url_at(proxy.port()), "127.0.0.1:1"), open(&server.url(), "127.0.0.1:2"));
    let begun = begin(&one).position;
    let warm = LogRow::after(Some(&begun), 1, 0, vec![0]);
    one.append(&begun, &warm).unwrap();
    // The row arrives, its answer doesn't, and before the owner asks, another has claimed the branch.
    let row = LogRow::after(Some(&warm.position), 1, 0, vec![1]);
    proxy.cut_after(Cut::Received, 0);
    assert!(matches!(one.store().append(&warm.position, &row), Tried::Unknown(_)));
    assert!(proxy.has_cut());
    let (epoch, last) = claim(&other);
    assert_eq!((epoch, last), (2, row.position));
    assert_eq!(one.append(&warm.position, &row), Ok(()), "it is in the log");
    assert!(one.is_deposed());
    let next = LogRow::after(Some(&row.position), 1, 0, vec![2]);
    let refused = one.append(&row.position, &next).map_err(Error::from);
    assert_eq!(refused, Err(Error::NotPrimary { primary: Some("127.0.0.1:2".into()) }));
}

#[test]
fn a_log_that_comes_back_older_takes_nothing_from_an_owner_that_has_more() {
    let server = Server::start();
    let log = open(&server.url(), "127.0.0.1:1");
    let mut last = begin(&log).position;
    for _ in 0..3 {
        let row = LogRow::after(Some(&last), 1, 0, vec![0]);
        log.append(&last, &row).unwrap();
        last = row.position;
    }
    server.sql("bank", "DELETE FROM bank_commit_log WHERE sequence > 2");
    let row = LogRow::after(Some(&last), 1, 0, vec![0]);
    assert_eq!(log.append(&last, &row).map_err(Error::from), Err(Error::NotPrimary { primary: None }));
    assert_eq!(all_rows(&log).len(), 2);
}
