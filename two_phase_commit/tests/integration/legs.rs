//! What is checked of a transfer's legs before anything is promised, and the table of a coordinator's states.

use protocol::{AccountNum, Money};
use two_phase_commit::{CoordinatorState, LEGS_MAX, Leg, Outcome, PeerAddr, Side, Transfer, TransferError};

fn leg(index: usize, branch: Option<&str>, paise: i64, side: Side) -> Leg {
    Leg {
        index: index.try_into().unwrap(),
        branch: branch.map(PeerAddr::new),
        account: AccountNum::new(1001).unwrap(),
        amount: Money::from_paise(paise).unwrap(),
        side,
    }
}

fn transfer(legs: Vec<Leg>) -> Transfer {
    Transfer { txid: "t-1".parse().unwrap(), coordinator: None, legs, note: "".into(), by_program: false }
}

/// One payer, and as many receivers as make `count` legs.
fn split(count: usize, branch: Option<&str>) -> Transfer {
    let receivers = count - 1;
    let paid = leg(0, None, receivers.try_into().unwrap(), Side::Withdraw);
    let received = (1..count).map(|index| leg(index, branch, 1, Side::Deposit));
    transfer(std::iter::once(paid).chain(received).collect())
}

#[test]
fn a_transfer_has_legs_but_no_more_than_its_bound() {
    for (legs, expected) in [
        (2, Ok(())),
        (LEGS_MAX - 1, Ok(())),
        (LEGS_MAX, Ok(())),
        (LEGS_MAX + 1, Err(TransferError::TooManyLegs)),
        (LEGS_MAX + 2, Err(TransferError::TooManyLegs)),
    ] {
        assert_eq!(split(legs, None).check_whole(), expected, "{legs} legs");
        assert_eq!(split(legs, None).check_part(), expected, "{legs} legs");
    }
    assert_eq!(transfer(Vec::new()).check_whole(), Err(TransferError::NoLegs));
    assert_eq!(transfer(Vec::new()).check_part(), Err(TransferError::NoLegs));
}

#[test]
fn a_whole_transfer_makes_and_loses_nothing() {
    let of = |paid, received| {
        transfer(vec![leg(0, None, paid, Side::Withdraw), leg(1, Some("Delhi"), received, Side::Deposit)]).check_whole()
    };
    assert_eq!(of(100, 100), Ok(()));
    assert_eq!(of(100, 99), Err(TransferError::Unbalanced));
    assert_eq!(of(99, 100), Err(TransferError::Unbalanced));
    // Without a payer, the amount of nobody is not the amount of somebody.
    assert_eq!(transfer(vec![leg(0, None, 1, Side::Deposit)]).check_whole(), Err(TransferError::Unbalanced));
}

#[test]
fn a_participant_promises_nothing_for_another_branch() {
    assert_eq!(split(2, Some("Delhi")).check_part(), Err(TransferError::Elsewhere));
    let same = vec![leg(3, None, 1, Side::Deposit), leg(3, None, 1, Side::Deposit)];
    assert_eq!(transfer(same).check_part(), Err(TransferError::SameIndex));
    assert_eq!(transfer(vec![leg(0, None, 0, Side::Deposit)]).check_part(), Err(TransferError::ZeroAmount));
}

#[test]
fn a_decision_is_never_taken_back() {
    use CoordinatorState::{Aborting, Committing, Delivering, Ended, Ending, Noting, Resolving, Retracting, Voting};
    let committed = [Delivering, Ending, Ended, Noting(Outcome::Committed), Resolving(Outcome::Committed)];
    let aborted = [Aborting, Retracting, Noting(Outcome::Aborted), Resolving(Outcome::Aborted)];
    for state in committed {
        for other in aborted.into_iter().chain([Voting]) {
            assert!(!state.may_become(other) && !other.may_become(state), "{state:?} and {other:?}");
        }
    }
    // What is on its way to the disk may only arrive there.
    assert!(Committing.may_become(Delivering) && !Committing.may_become(Aborting) && !Committing.may_become(Voting));
}
