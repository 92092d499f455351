//! What is handed in is committed and settled without its thread, in order, whoever leads.

use std::sync::mpsc;

use super::*;

#[test]
fn everybody_hears_of_their_work_once_beside_those_who_wait() {
    const OWNERS: i64 = 6;
    const EACH: i64 = 100;
    let directory = tempfile::tempdir().unwrap();
    let dbs = Arc::new(open(&directory));
    thread::scope(|scope| {
        for owner in 0..OWNERS {
            let dbs = &dbs;
            scope.spawn(move || {
                let (heard, hear) = mpsc::channel();
                for index in 0..EACH {
                    let number = -10 - owner * EACH - index;
                    let heard = heard.clone();
                    let then = Box::new(move |results: Vec<Result<i64>>| heard.send(results).unwrap());
                    let led = dbs.execute_then(Owner::Account(owner), vec![insert_own_account(number)], then);
                    // Who has led is told here, and may still be ahead of the thread that tells of what was before.
                    if let Some((results, then)) = led {
                        dbs.execute(|_| Ok(())).unwrap();
                        assert_eq!(results, [Ok(number)]);
                        then(results);
                    }
                    if index % 7 == 0 {
                        assert_eq!(dbs.execute(|tx| Ok(tx.next_transaction_id())), Ok(1));
                    }
                }
                let mut all: Vec<i64> = (0..EACH).map(|_| hear.recv().unwrap()[0].clone().unwrap()).collect();
                all.sort_unstable_by_key(|number| -number);
                assert_eq!(all, (0..EACH).map(|index| -10 - owner * EACH - index).collect::<Vec<_>>());
            });
        }
    });
    assert_eq!(count_own_accounts(&dbs), OWNERS * EACH);
}

/// Holds the writer, hands in so many inserts as one owner, and lets go. Returns what is heard, in order.
fn hand_in_behind(dbs: &Arc<DbsExec>, numbers: std::ops::Range<i64>) -> mpsc::Receiver<Vec<Result<i64>>> {
    let (heard, hear) = mpsc::channel();
    let (holds, held) = bounded(0);
    let (go_on, may_go_on) = bounded::<()>(0);
    thread::scope(|scope| {
        scope.spawn(move || {
            let leading = dbs.execute(move |_| {
                holds.send(()).unwrap();
                let _ = may_go_on.recv();
                Ok(())
            });
            leading.unwrap();
        });
        held.recv().unwrap();
        for number in numbers {
            let heard = heard.clone();
            let then = Box::new(move |results: Vec<Result<i64>>| heard.send(results).unwrap());
            let led = dbs.execute_then(Owner::Account(1), vec![insert_own_account(number)], then);
            assert!(led.is_none(), "another thread leads");
        }
        drop(go_on);
    });
    hear
}

#[test]
fn what_nobody_waits_for_is_committed_and_told_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let dbs = Arc::new(open(&directory));
    for round in 0..20 {
        let last = -10 - round * 50;
        let hear = hand_in_behind(&dbs, last - 49..last + 1);
        let told: Vec<_> = hear.iter().map(|results| results[0].clone().unwrap()).collect();
        assert_eq!(told.len(), 50);
        assert!(told.is_sorted(), "{told:?}");
    }
    assert_eq!(count_own_accounts(&dbs), 1_000);
}

#[test]
fn a_close_lets_what_was_handed_in_finish_or_refuses_it_and_everybody_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let dbs = Arc::new(open(&directory));
    let hear = hand_in_behind(&dbs, -59..-9);
    dbs.close();
    let told: Vec<_> = hear.iter().flatten().collect();
    assert_eq!(told.len(), 50);
    let done = told.iter().filter(|result| result.is_ok()).count();
    assert!(told.iter().all(|result| result.is_ok() || *result == Err(Error::Stopping)), "{told:?}");
    let late = dbs.execute_then(Owner::Account(1), vec![insert_own_account(-100)], Box::new(drop));
    assert_eq!(late.unwrap().0, [Err(Error::Stopping)]);
    drop(dbs);
    assert_eq!(count_own_accounts(&open(&directory)), done as i64);
}

#[test]
fn a_panic_over_one_result_leaves_the_others_theirs() {
    let directory = tempfile::tempdir().unwrap();
    let dbs = Arc::new(open(&directory));
    let _first = hand_in_behind(&dbs, -10..-9);
    let (heard, hear) = mpsc::channel();
    let (holds, held) = bounded(0);
    let (go_on, may_go_on) = bounded::<()>(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            dbs.execute(move |_| {
                holds.send(()).unwrap();
                let _ = may_go_on.recv();
                Ok(())
            })
            .unwrap();
        });
        held.recv().unwrap();
        let spoiled: Then<i64> = Box::new(|_| panic!("one client's answer"));
        assert!(dbs.execute_then(Owner::Account(1), vec![insert_own_account(-20)], spoiled).is_none());
        let then: Then<i64> = Box::new(move |results| heard.send(results).unwrap());
        assert!(dbs.execute_then(Owner::Account(2), vec![insert_own_account(-21)], then).is_none());
        drop(go_on);
    });
    assert_eq!(hear.recv().unwrap(), [Ok(-21)]);
    assert_eq!(count_own_accounts(&dbs), 3);
}
