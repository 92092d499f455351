//! A machine that finds itself wrong stops the process, in whichever thread.

use std::thread;

use crossbeam_channel::{Receiver, unbounded};
use protocol::proof::BranchKey;
use protocol::{Epoch, TxId};

use super::*;
use crate::peers::directory::Directory;
use crate::peers::links::Identity;
use crate::transfer::host::ThisMachine;

/// An engine that has read its log, and what it says when it fails.
fn engine(folder: &tempfile::TempDir) -> (Arc<Engine>, Receiver<Error>) {
    let dbs = Arc::new(DbsExec::open(&folder.path().join("bank.db"), |_| {}).unwrap());
    let directory = Arc::new(Directory::open(Arc::clone(&dbs)).unwrap());
    let name: BranchName = "Mumbai".parse().unwrap();
    let identity = Identity {
        name: name.clone(),
        port: 1,
        host: None,
        key: BranchKey::from_bytes([7; 32]),
        instance: "one".into(),
        tls: None,
        epoch: Epoch::new(1, ""),
        on_replaced: Arc::new(|_| {}),
    };
    let links = Links::new(identity, directory);
    let (failed, told) = unbounded();
    let running_time = Arc::new(RunningTime::start(&dbs, 0).unwrap());
    let engine = Engine::at_rest(EngineParts {
        name,
        dbs,
        carrier: Box::new(Arc::clone(&links)),
        links,
        host: Box::new(ThisMachine::new()),
        running_time,
        sms: None,
        event_file: None,
        sync_replicas: 0,
        on_failure: Box::new(move |error| drop(failed.send(error.clone()))),
    });
    engine.carry_out_quietly(engine.ask_all(|site| site.recover([])));
    (engine, told)
}

#[test]
fn a_machine_that_panics_stops_the_process_whichever_thread_called_it() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, told) = engine(&folder);
    let txid: TxId = "T1".parse().unwrap();
    // Nothing was asked to be written, so the confirmation makes the machine panic.
    let calls: [fn(&Engine, &TxId); 2] = [
        |engine, txid| drop(engine.ask(|site| site.on_durable(Role::Participant, txid))),
        |engine, txid| drop(engine.ask_all(|site| vec![site.on_durable(Role::Coordinator, txid)])),
    ];
    for call in calls {
        assert!(thread::scope(|scope| scope.spawn(|| call(&engine, &txid)).join()).is_err());
        assert!(matches!(told.try_recv(), Ok(Error::Panicked(_))), "the process stops");
    }
    assert!(told.try_recv().is_err(), "and only then");
}
