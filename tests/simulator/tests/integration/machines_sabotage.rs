//! The proof that the judge can see: with each rule broken in turn, the simulator finds a violation.

use simulator::machines::{Broken, run};

/// How many seeds a broken rule may take to be found.
const SEEDS: u64 = 400;

/// Runs seeds until the judge sees what this breach does, and asserts that it is the breach that it saw.
fn check(broken: Broken, effect: &str) {
    let seen = |seed: &u64| run(*seed, Some(broken), false).violation.is_some_and(|text| text.contains(effect));
    let Some(seed) = (0..SEEDS).find(seen) else { panic!("{broken:?} is not seen in {SEEDS} seeds") };
    assert_eq!(run(seed, None, false).violation, None, "seed {seed} is right when the rule is kept");
}

#[test]
fn a_ledger_that_keeps_no_hold_is_seen() {
    check(Broken::NoHold, "is wrong");
}

#[test]
fn a_vote_before_its_record_is_durable_is_seen() {
    check(Broken::VoteBeforeDurable, "not_prepared");
}

#[test]
fn a_participant_that_decides_by_timer_is_seen() {
    check(Broken::DecideByTimer, "has settled it otherwise");
}

#[test]
fn a_coordinator_that_forgets_before_the_acknowledgement_is_seen() {
    check(Broken::ForgetBeforeAcknowledgement, "aborted, which is not so");
}

#[test]
fn a_coordinator_that_presumes_abort_during_recovery_is_seen() {
    check(Broken::PresumeAbortDuringRecovery, "aborted, which is not so");
}

#[test]
fn a_participant_without_tombstones_is_seen() {
    check(Broken::NoTombstone, "whose abort it has acknowledged");
}
