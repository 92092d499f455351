//! What the tables say of a transaction: whose its id is, what its coordinator decided, who decides it.

use super::*;
use crate::dbs_exec::DbsExec;

const OWN_ID: &str = "Mumbai-0123456789abcdef012";

fn mumbai() -> BranchName {
    "Mumbai".parse().unwrap()
}

fn txid(text: &str) -> TxId {
    text.parse().unwrap()
}

/// A database with these rows in the books: id, leg, kind, peer.
fn books(rows: &'static [(&str, i64, &str, &str)]) -> (tempfile::TempDir, DbsExec) {
    let folder = tempfile::tempdir().unwrap();
    let dbs = DbsExec::open(&folder.path().join("bank.db"), |_| {}).unwrap();
    dbs.execute(move |tx| {
        for (number, (txid, leg, kind, peer)) in (1_i64..).zip(rows) {
            tx.execute(
                "INSERT INTO transactions (transaction_id, from_account, to_account, amount, kind, date, txid, leg, peer, hash)
                 VALUES (?1, 1001, -10, 50, ?2, 0, ?3, ?4, ?5, zeroblob(32))",
                params![number, Kind::from_text(kind).map(Kind::number), *txid, *leg, *peer],
            )?;
        }
        Ok(())
    })
    .unwrap();
    (folder, dbs)
}

fn transfer(txid: &str, coordinator: Option<&str>) -> Transfer {
    let coordinator = coordinator.map(PeerAddr::new);
    Transfer { txid: txid.parse().unwrap(), coordinator, legs: vec![], note: "".into(), by_program: false }
}

#[test]
fn an_id_of_this_branch_has_its_name_and_19_digits() {
    for (text, is_own) in [
        (OWN_ID, true),
        ("Mumbai-0123456789abcdef01", false),
        ("Mumbai-0123456789abcdef0123", false),
        ("Mumbai-0123456789ABCDEF012", false),
        ("Mumbai0123456789abcdef0123", false),
        ("Mumbai-2-0123456789abcdef012", false),
        ("Mumbai-17", false),
        ("Delhi-0123456789abcdef012", false),
    ] {
        assert_eq!(is_own_id(&mumbai(), &txid(text)), is_own, "{text}");
    }
}

#[test]
fn the_books_tell_a_coordinator_what_it_decided_and_for_whom() {
    const FOREIGN: &str = "Delhi-0123456789abcdef012";
    let rows: &'static [_] = &[
        (OWN_ID, 0, "transfer_out", "Delhi"),
        (OWN_ID, 2, "transfer_out", "Pune"),
        (OWN_ID, -4, "settlement", "Pune"),
        (FOREIGN, 1, "transfer_in", "Delhi"),
        ("raw", 0, "transfer_out", "Delhi"),
    ];
    let (_folder, dbs) = books(rows);
    let booked = |id: &str| dbs.read(|reader| booked(reader, &mumbai(), &txid(id))).unwrap();
    // What a person has settled at Pune is committed with Pune no more.
    assert_eq!(booked(OWN_ID), Booked::Committed([PeerAddr::new("Delhi")].into()));
    // What stands under another's id was decided by another, whatever it looks like.
    for id in [FOREIGN, "raw", "Mumbai-ffffffffffffffff012"] {
        assert_eq!(booked(id), Booked::Nothing, "{id}");
    }
}

#[test]
fn what_is_booked_was_committed_whatever_the_log_says() {
    let (_folder, dbs) = books(&[("both", 1, "transfer_in", "Delhi")]);
    let settled = |id: &str, outcome| Record::Settled { txid: txid(id), outcome, by_hand: None };
    for record in [settled("both", Outcome::Aborted), settled("log", Outcome::Aborted)] {
        dbs.execute(move |tx| write(tx, &record, 0)).unwrap();
    }
    let on_disk = |id: &str| dbs.read(|reader| on_disk(reader, &txid(id))).unwrap();
    assert_eq!(on_disk("both"), OnDisk::Settled(Outcome::Committed));
    assert_eq!(on_disk("log"), OnDisk::Settled(Outcome::Aborted));
    assert_eq!(on_disk("neither"), OnDisk::Nothing);
}

#[test]
fn the_participant_takes_no_id_of_the_coordinator_and_none_that_has_ended() {
    let (_folder, dbs) = books(&[("booked", 1, "transfer_in", "outside")]);
    let begun = Record::Begun(transfer("begun", Some("Mumbai")).into());
    let aborted = Record::Settled { txid: txid("aborted"), outcome: Outcome::Aborted, by_hand: None };
    dbs.execute(move |tx| [&begun, &aborted].into_iter().try_for_each(|record| write(tx, record, 0))).unwrap();
    let refused = |id: &str, coordinator| {
        dbs.read(|reader| refuse_known(reader, &mumbai(), &transfer(id, coordinator)))
            .map_err(|error| error.code().to_string())
    };
    for coordinator in [None, Some("Delhi")] {
        for id in [OWN_ID, "begun", "booked"] {
            assert_eq!(refused(id, coordinator), Err("transaction_id_reused".into()), "{id}");
        }
        assert_eq!(refused("aborted", coordinator), Err("transaction_settled".into()));
        assert_eq!(refused("fresh", coordinator), Ok(()));
    }
    assert_eq!(refused(OWN_ID, Some("Mumbai")), Ok(()), "the coordinator's own hold");
}

#[test]
fn whoever_coordinated_is_known_as_long_as_there_are_rows() {
    let (_folder, dbs) = books(&[("old", 1, "transfer_in", "Delhi"), ("older", 1, "transfer_in", "outside")]);
    for (id, coordinator) in [("new", Some("Delhi")), ("raw", None)] {
        let record = Record::Prepared(transfer(id, coordinator).into());
        dbs.execute(move |tx| write(tx, &record, 0)).unwrap();
    }
    let found = |id: &str| dbs.read(|reader| coordinator_of(reader, &txid(id))).unwrap();
    let delhi = Some(PeerAddr::new("Delhi"));
    assert_eq!(["old", "older", "new", "raw", "never"].map(found), [delhi.clone(), None, delhi, None, None]);
}

#[test]
fn a_contradiction_is_kept_until_it_is_settled_and_the_reason_for_ever() {
    let (_folder, dbs) = books(&[]);
    let transfer = Arc::new(transfer(OWN_ID, Some("Mumbai")));
    let contradicted = Record::Contradicted {
        transfer: Arc::clone(&transfer),
        ours: Outcome::Committed,
        by: "Delhi".into(),
        refusal: Refusal::new(Refusal::NOT_PREPARED, "no such transaction is prepared here"),
    };
    let records = [Record::Begun(transfer), Record::Committed { txid: txid(OWN_ID) }, contradicted];
    let expected = records.to_vec();
    dbs.execute(move |tx| records.iter().try_for_each(|record| write(tx, record, 7))).unwrap();
    assert_eq!(dbs.read(|reader| coordinators(reader)).unwrap(), expected);
    let resolved =
        Record::Resolved { txid: txid(OWN_ID), outcome: Outcome::Aborted, reason: "told by telephone".into() };
    dbs.execute(move |tx| write(tx, &resolved, 8)).unwrap();
    assert!(dbs.read(|reader| coordinators(reader)).unwrap().is_empty());
    let reason = dbs.read(|reader| reader.query_opt("SELECT reason FROM settled_by_hand", params![], |row| row.get(0)));
    assert_eq!(reason, Ok(Some("told by telephone".to_string())));
}
