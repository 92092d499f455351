//! PostgreSQL's disk is full: the branch says that nothing was changed, and goes on when there is space again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bank_tests::{Bank, wait_until};
use postgres_tests::{Server, process, wait_for_owner};
use serde_json::json;

/// A file system of a stated size, in memory; only root can have one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, mib: u32) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(at);
        mount.output().is_ok_and(|output| output.status.success()).then(|| Self(at.into()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy"]).arg(&self.0).output();
    }
}

#[test]
fn a_full_disk_at_postgresql_is_a_refusal_and_no_loss() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(folder.path(), 120) else {
        println!("SKIPPED (only root can mount a small disk): a_full_disk_at_postgresql_is_a_refusal_and_no_loss");
        return;
    };
    let (bank, mut server) = (Bank::new(), Server::start_in(folder.path()));
    let branch = bank.start("one", process("Mumbai", &server.url()));
    wait_for_owner(&[&branch]);
    branch.connect().ask("deposit", json!({"account_no": 1001, "amount": 1})).ok();
    let filler = folder.path().join("filler");
    let full = Command::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", filler.display())).output();
    assert!(!full.unwrap().status.success(), "the disk is full");
    let mut connection = branch.connect();
    connection.wait_at_most(bank_tests::DEADLINE);
    let mut taken = 1_001_i64;
    let mut refused = String::new();
    // What PostgreSQL has reserved before is used up first.
    for _ in 0..20_000 {
        match connection.try_ask("deposit", json!({"account_no": 1001, "amount": 1}), None) {
            Ok(reply) if reply.is_ok() => taken += 1,
            Ok(reply) => {
                refused = reply.code().to_string();
                break;
            }
            Err(error) => {
                refused = error.to_string();
                break;
            }
        }
    }
    println!("refused: {refused}, after {taken}");
    assert!(!refused.is_empty(), "nothing was refused");
    fs::remove_file(filler).unwrap();
    // It ends itself where its own log has no space.
    if server.has_ended() {
        server.restart();
    }
    wait_until("deposits are taken again", || {
        branch.replication().is_some()
            && branch.connect().ask_once("after", "deposit", json!({"account_no": 1001, "amount": 1})).is_ok()
    });
    let balance: i64 = branch.connect().balance(1001).trim_end_matches(".00").parse().unwrap();
    // What was refused with an unknown outcome, if it was, is there or not; all else is known.
    assert!(balance == taken + 1 || (refused == "outcome_unknown" && balance == taken + 2), "{balance}, {taken}");
    assert_eq!(branch.connect().ask("audit", json!({})).ok()["ok"], true);
}
