//! What this copy is to be: from the command line at the start, and by order while it runs.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use protocol::answer::Promotion;
use protocol::request::{Demote, Follow, Following, Promote};
use protocol::{Address, Epoch, EpochOrder};

use super::ask::{heard_by, tell_copies};
use super::dial::{DialError, Dialler};
use super::handshake::is_same;
use super::standby::{COMMIT_LOG, begin_to_share};
use super::{ReceiverState, Replication};
use crate::cli::config::ReplicationSettings;
use crate::clock::{iso_utc, unix_ms_now};
use crate::dbs_exec::{CopyRole, CopyState, DbsExec, EpochStart, Position, PromotionOrder};
use crate::error::{Error, Result};
use crate::limits::{
    COPIES_ASKED_AT_START, COPIES_ASKED_FOR_PROMOTION, HAND_OVER_LOOK, HAND_OVER_WAIT, PRIMARY_SILENCE,
};
use crate::peers::links::is_here;

/// Makes the database what the command line says that it is: once, at the start of the process. Where the commit log is
/// elsewhere, whoever owned the branch before begins as the others do.
///
/// # Errors
/// A database error.
pub fn settle_role(dbs: &DbsExec, settings: &ReplicationSettings, is_first: bool, is_log_shared: bool) -> Result<()> {
    if is_log_shared {
        return begin_to_share(dbs, is_first);
    }
    if !is_first {
        return Ok(());
    }
    dbs.keep_log(i64::try_from(settings.log_mib.saturating_mul(1 << 20)).unwrap_or(i64::MAX));
    let copy_state = dbs.copy_state();
    if copy_state.started_with.as_deref() == Some(COMMIT_LOG) {
        // What it wrote by itself would be in no other process's books.
        log::error!(
            "this copy's commit log is elsewhere, and --commit-log was not given: it takes no writes; bank-client promote --yes makes it a branch of its own"
        );
        return dbs.change_copy_state(|copy_state| {
            copy_state.begin_to_follow("");
            copy_state.started_with = None;
        });
    }
    let Some(primary) = settings.replica_of.as_ref().map(ToString::to_string) else { return Ok(()) };
    let is_as_before = copy_state.started_with.as_ref() == Some(&primary);
    match copy_state.role {
        // What it has become since was by a promotion, or is for a person to settle.
        CopyRole::Primary | CopyRole::Fenced
            if is_as_before && (copy_state.role == CopyRole::Primary || copy_state.is_in_conflict()) =>
        {
            log::warn!(
                "--replica-of {primary} is passed over: this copy was promoted since (epoch {}); bank-client demote --to makes it a replica again",
                copy_state.epoch.number
            );
            return Ok(());
        }
        // It may have been told of another primary since.
        CopyRole::Replica if is_as_before => return Ok(()),
        CopyRole::Primary | CopyRole::Replica | CopyRole::Fenced => {}
    }
    dbs.change_copy_state(|copy_state| {
        copy_state.begin_to_follow(&primary);
        copy_state.started_with = Some(primary.clone());
    })
}

/// Asks the other copies whether one of them is of a higher epoch, or of another of the same number, and tells them of
/// this one. `true` when this primary was replaced: it is fenced then.
///
/// Done before a primary opens its listeners: one that comes back after another was promoted in its place takes no
/// write, if any other copy can be reached.
///
/// # Errors
/// A database error.
pub fn is_replaced(dbs: &DbsExec, dialler: &Dialler, port: u16, expected: &[Address]) -> Result<bool> {
    let copy_state = dbs.copy_state();
    if copy_state.role != CopyRole::Primary || !copy_state.is_logging {
        return Ok(false);
    }
    let name = &dialler.branch;
    let Epoch { number: epoch, id: epoch_id } = copy_state.epoch.clone();
    let params = Follow { branch: name.clone(), port, epoch, epoch_id };
    let others = other_copies(dbs, &copy_state, port, expected)?;
    let told = tell_copies(dialler, &others, &params, COPIES_ASKED_AT_START);
    let against = told.iter().filter_map(|(_, told)| told.as_ref().ok()).map(heard_by).filter(|heard| {
        let contradicts = match heard.stands_to(&copy_state.epoch) {
            EpochOrder::Newer | EpochOrder::Conflict => true,
            EpochOrder::Same | EpochOrder::Older => false,
        };
        contradicts && copy_state.epoch.may_become(heard)
    });
    let Some(heard) = against.max_by_key(|heard| heard.number) else { return Ok(false) };
    log::error!("another copy of branch {name} was promoted (epoch {}): this one takes no writes", heard.number);
    dbs.fence(&heard)?;
    Ok(true)
}

/// Where other copies are, or may be.
fn other_copies(dbs: &DbsExec, copy_state: &CopyState, port: u16, expected: &[Address]) -> Result<Vec<Address>> {
    let noted = dbs.members()?;
    let noted = noted.iter().chain(&copy_state.promoted_from).chain(&copy_state.primary);
    let mut others: Vec<Address> = noted.filter_map(|address| address.parse().ok()).collect();
    others.extend_from_slice(expected);
    others.retain(|other| !is_here(other, port));
    others.sort();
    others.dedup();
    Ok(others)
}

/// What this copy knows that speaks against its promotion, when it is asked for.
struct Against {
    /// One sentence; none when nothing speaks against it.
    why: Option<Error>,
    /// The highest number of an epoch that another copy has heard of.
    heard_elsewhere: i64,
}

impl Replication {
    /// Makes this copy the primary. What is given with the promotion gets something when it is open as that.
    ///
    /// Without `force` it does so only when nothing that can be known speaks against it. The other copies are asked at
    /// this moment: what was last heard of a primary says nothing of one that has just come back.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is the primary or has no copy, and, without `force`, when it was replaced, its primary
    /// answers, or there is more than it has; [`Error::Diverged`].
    pub fn promote(&self, params: &Promote) -> Result<(Promotion, Receiver<()>)> {
        if self.role == CopyRole::Primary {
            return Err(Error::Invalid("this copy is the primary".into()));
        }
        if self.parts.shared_log.is_some() {
            return Err(self.begin_log_anew(params.force)?);
        }
        let (heard_sequence, silent) = {
            let receiver = self.receiver.lock();
            (receiver.heard_sequence, receiver.heard_at.map(|heard_at| heard_at.elapsed()))
        };
        let against = self.speaks_against_promotion(!params.force)?;
        if let Some(why) = against.why.filter(|_| !params.force) {
            return Err(why);
        }
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|error| Error::Database(format!("no randomness: {error}")))?;
        let order = PromotionOrder {
            now_unix_ms: unix_ms_now(),
            salt,
            heard_elsewhere: against.heard_elsewhere,
            heard_sequence,
            silent_ms: silent.and_then(|silent| i64::try_from(silent.as_millis()).ok()),
        };
        self.claim_end()?;
        let began = self.parts.dbs.promote(&order).inspect_err(|_| self.ending.store(false, Ordering::SeqCst))?;
        log::warn!(
            "this copy is the primary of branch {} now: epoch {}, after group {}",
            self.parts.dialler.branch,
            began.epoch,
            began.after_sequence
        );
        Ok((tell_promotion(&began), self.change_role()))
    }

    /// Where the commit log is elsewhere, the store says who owns the branch. All that a person may order is that a log
    /// that was lost begins anew with the books of this copy. Returns what is answered.
    fn begin_log_anew(&self, force: bool) -> Result<Error> {
        let is_diverged = self.receiver.lock().state == ReceiverState::Diverged;
        if !is_diverged || !force {
            return Ok(Error::Invalid(
                "the commit log says who owns this branch: stop the owner, and a process that stands by takes over"
                    .into(),
            ));
        }
        self.parts.dbs.change_copy_state(|copy_state| {
            copy_state.diverged = None;
            copy_state.started_with = None;
        })?;
        let mut receiver = self.receiver.lock();
        receiver.state = ReceiverState::Connecting;
        receiver.last_error = None;
        drop(receiver);
        self.interrupt();
        Ok(Error::Invalid(
            "this copy begins the log anew if the store has none of this branch; status shows what has come of it"
                .into(),
        ))
    }

    /// What speaks against the promotion of this copy: by what it has heard, and by what the others say now. What it
    /// knows by itself is enough when nobody insists.
    fn speaks_against_promotion(&self, is_enough: bool) -> Result<Against> {
        let dbs = &self.parts.dbs;
        let copy_state = dbs.copy_state();
        let sequence = dbs.position().map_or(0, |last| last.sequence);
        let why = self.knows_against_promotion(&copy_state, sequence);
        let mut against = Against { why, heard_elsewhere: 0 };
        if against.why.is_some() && is_enough {
            return Ok(against);
        }
        let others = other_copies(dbs, &copy_state, self.parts.port, &self.parts.expected)?;
        for (address, told) in tell_copies(&self.parts.dialler, &others, &self.question(), COPIES_ASKED_FOR_PROMOTION) {
            let Ok(told) = told else { continue };
            let heard = heard_by(&told);
            if !copy_state.heard.may_become(&heard) {
                log::warn!("the copy at {address} speaks of epoch {heard}, which is not believed");
                continue;
            }
            against.heard_elsewhere = against.heard_elsewhere.max(heard.number);
            let why = if told.role == "primary" && heard.number >= copy_state.epoch.number {
                Some(format!(
                    "the primary at {address} answers (epoch {}): stop it first, or repeat the order with --yes: what it commits from now on is lost",
                    heard.number
                ))
            } else if heard.number > copy_state.epoch.number {
                Some(format!(
                    "the copy at {address} has heard of epoch {}, and this one is of epoch {}: promote one of that epoch, or repeat the order with --yes",
                    heard.number, copy_state.epoch.number
                ))
            } else {
                let more = told
                    .position
                    .filter(|theirs| theirs.epoch == copy_state.epoch.number && theirs.sequence > sequence);
                more.map(|theirs| format!("the copy at {address} has group commits up to {}, and this one up to {sequence}: promote that one, or repeat the order with --yes: what is missing here is lost", theirs.sequence))
            };
            against.why = against.why.or(why.map(Error::Invalid));
        }
        Ok(against)
    }

    /// What speaks against the promotion by what this copy has heard.
    fn knows_against_promotion(&self, copy_state: &CopyState, sequence: i64) -> Option<Error> {
        let invalid = |text: String| Some(Error::Invalid(format!("{text}, or repeat the order with --yes")));
        if copy_state.role == CopyRole::Fenced {
            return invalid(format!(
                "this copy takes no writes because another one was promoted (epoch {}): make it a replica of that with bank-client demote --to host:port",
                copy_state.heard.number
            ));
        }
        let receiver = self.receiver.lock();
        if receiver.state == ReceiverState::Diverged {
            return Some(Error::Diverged(
                "this replica's books are not its primary's; promote another one, or repeat the order with --yes"
                    .into(),
            ));
        }
        let is_heard = receiver.heard_at.is_some_and(|heard_at| heard_at.elapsed() < PRIMARY_SILENCE);
        if receiver.state == ReceiverState::Following && is_heard {
            let primary = receiver.primary.as_ref().map_or_else(String::new, |primary| format!(" at {primary}"));
            return Some(Error::Invalid(format!(
                "the primary{primary} still answers; stop it first, or repeat the order with --yes: what it commits from now on is lost"
            )));
        }
        let missing = receiver.heard_sequence.unwrap_or(0).saturating_sub(sequence);
        if missing > 0 {
            return invalid(format!(
                "the primary was heard to have {missing} group commits that this copy does not have: promote one that has them"
            ));
        }
        if receiver.wants_snapshot {
            return invalid("a new copy of the primary's books is ordered here and has not come: wait for it".into());
        }
        if copy_state.heard.number > copy_state.epoch.number {
            return invalid(format!(
                "this copy has heard of epoch {}, and has nothing of it: promote one that has",
                copy_state.heard.number
            ));
        }
        None
    }

    /// Makes this copy a replica of the copy at an address. A primary that has not been replaced first hands over to that
    /// copy: it commits nothing more, and waits a bounded time for it to have all that it has committed. Clients and
    /// other branches were told of that, and would be told otherwise by a copy that lacks it.
    ///
    /// # Errors
    /// [`Error::Invalid`] when that is no address of a copy of this branch, or the copy there has not got the end of the
    /// log in time: then this copy stays the primary.
    pub fn demote(&self, params: &Demote) -> Result<Receiver<()>> {
        if self.parts.shared_log.is_some() {
            return Err(Error::Invalid(
                "the commit log says who owns this branch: stop this process, and one that stands by takes over".into(),
            ));
        }
        let to: Address = params.to.parse()?;
        if is_here(&to, self.parts.port) {
            return Err(Error::Invalid("that is this copy itself; name another one".into()));
        }
        // Whoever is there must be this branch; whether it is the primary shows when it is followed.
        let theirs = self.ask_copy(&to, COPIES_ASKED_FOR_PROMOTION);
        let theirs = theirs.map_err(|error| Error::Invalid(format!("that is no primary to follow: {error}")))?;
        self.claim_end()?;
        let (dbs, primary) = (&self.parts.dbs, to.to_string());
        let demoted = match self.role == CopyRole::Primary && self.may_succeed(&theirs) {
            true => dbs.hand_over(&primary, |end| self.wait_until_it_has(&to, end)),
            false => dbs.demote(&primary),
        };
        demoted.inspect_err(|error| {
            self.ending.store(false, Ordering::SeqCst);
            log::warn!("this copy does not become a replica of {to}: {error}");
        })?;
        log::warn!("this copy of branch {} is a replica of {to} now", self.parts.dialler.branch);
        Ok(self.change_role())
    }

    /// Whether a copy can take the place of this primary. One that is a primary itself, or has heard of one that was
    /// promoted, shows that this one was replaced: what only this one has is lost then, and told when it follows.
    fn may_succeed(&self, theirs: &Following) -> bool {
        let is_replaced = match heard_by(theirs).stands_to(&self.parts.dbs.copy_state().epoch) {
            EpochOrder::Newer | EpochOrder::Conflict => true,
            EpochOrder::Same | EpochOrder::Older => theirs.role == CopyRole::Primary.as_str(),
        };
        !is_replaced
    }

    /// Waits until the copy at an address has the log up to its end.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it has another log, or doesn't get there in time, [`Error::Stopping`].
    fn wait_until_it_has(&self, to: &Address, end: Option<Position>) -> Result<()> {
        let stays = |why: String| Err(Error::Invalid(format!("{why}: this copy stays the primary")));
        let Some(end) = end else {
            return stays(format!("no copy follows this one, so the one at {to} can't take its place"));
        };
        let deadline = Instant::now() + HAND_OVER_WAIT;
        let mut is_last = false;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let missing = match self.ask_copy(to, left.max(HAND_OVER_LOOK)).map(|theirs| theirs.position) {
                Ok(Some(theirs)) if is_same(&theirs, Some(&end)) => return Ok(()),
                Ok(Some(theirs)) if theirs.sequence >= end.sequence => {
                    return stays(format!("the copy at {to} has another log than this one"));
                }
                Ok(Some(theirs)) => format!("lacks {} group commits", end.sequence - theirs.sequence),
                Ok(None) => "has no copy of the books".into(),
                Err(error) => format!("does not say what it has ({error})"),
            };
            if self.parts.dbs.feed().is_stopping() {
                return Err(Error::Stopping);
            }
            if is_last || left.is_zero() {
                let seconds = HAND_OVER_WAIT.as_secs();
                return stays(format!("the copy at {to} still {missing} after {seconds} s"));
            }
            is_last = !self.parts.dbs.feed().let_replicas_go_on(HAND_OVER_LOOK);
        }
    }

    /// Asks the copy at an address what it is, and waits so long for the answer.
    fn ask_copy(&self, address: &Address, wait: Duration) -> Result<Following, DialError> {
        let told = tell_copies(&self.parts.dialler, std::slice::from_ref(address), &self.question(), wait);
        let silent = || Err(DialError::Unreachable(format!("{address} does not answer")));
        told.into_iter().next().map_or_else(silent, |(_, told)| told)
    }

    /// What asks another copy what it is, and says nothing: no primary has epoch 0, so nobody takes this for the word of
    /// one.
    fn question(&self) -> Follow {
        let branch = self.parts.dialler.branch.clone();
        Follow { branch, port: self.parts.port, epoch: 0, epoch_id: String::new() }
    }

    /// Has this replica take a new copy of the primary's books, whatever it has. The old file is kept.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is no replica.
    pub fn resync(&self) -> Result<()> {
        if self.role != CopyRole::Replica {
            return Err(Error::Invalid(format!("this copy is no replica but {}", self.role.as_str())));
        }
        // On disk, so that a restart in the middle does not forget the order.
        self.parts.dbs.change_copy_state(|copy_state| {
            copy_state.diverged = None;
            copy_state.wants_snapshot = true;
        })?;
        let mut receiver = self.receiver.lock();
        receiver.wants_snapshot = true;
        receiver.state = ReceiverState::Connecting;
        receiver.last_error = None;
        drop(receiver);
        log::warn!("a new copy of the primary's books is ordered");
        self.interrupt();
        Ok(())
    }

    /// How this copy became the primary, if it was promoted.
    pub(super) fn promotion(&self) -> Result<Option<Promotion>> {
        let epoch = self.parts.dbs.copy_state().epoch.number;
        Ok(self.parts.dbs.epochs()?.iter().find(|began| began.epoch.number == epoch).map(tell_promotion))
    }
}

fn tell_promotion(began: &EpochStart) -> Promotion {
    let silent = began.silent_ms.and_then(|silent| u64::try_from(silent).ok());
    Promotion {
        epoch: began.epoch.number,
        epoch_id: began.epoch.id.clone(),
        after_sequence: began.after_sequence,
        heard_sequence: began.heard_sequence,
        silent_seconds: silent.map(|silent| Duration::from_millis(silent).as_secs()),
        at: iso_utc(began.began_unix_ms),
    }
}
