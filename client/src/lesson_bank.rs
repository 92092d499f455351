//! The bank as a lesson needs it: the branches that run with `--teaching`, each by a connection of its own.
//!
//! A request whose connection turns out to be gone is sent once more by a new one, because a branch that was started
//! again left the old one behind. A branch that a lesson has killed is started by a person, who is told so here; a
//! signal ends that wait. What the lesson sets at the branches is held by a lease, which a thread renews: were this
//! program killed, the branches would let go of it by themselves.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use branch_client::RequestId;
use protocol::BranchName;
use protocol::answer::AnswerError;
use protocol::event::Event;
use protocol::request::{Action, NoParams};
use protocol::teaching::{Lease, Look, Stage};
use serde_json::{Value, json};
use teaching::lessons::{self, Answered, Bank, Failure};

use crate::branch::{Branch, Reply};
use crate::error::{BranchError, ClientError};
use crate::peers;

/// How long a person has to start a branch again.
const RESTART_DEADLINE: Duration = Duration::from_secs(600);
/// How often it is looked whether the branch is back.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a branch may take to answer whether it is there.
const UP_PATIENCE: Duration = Duration::from_secs(3);
/// How long the answer to a transfer is waited for: longer than a branch lets a client wait while messages do.
const TRANSFER_PATIENCE: Duration = Duration::from_secs(660);

/// How long what the lesson has set outlives this program when it is killed,
const LEASE: Duration = Duration::from_secs(20);
/// and how often that time begins anew.
const RENEW_EVERY: Duration = Duration::from_secs(4);

/// The branches of a lesson.
pub struct LessonBank {
    /// In the order in which they take part, the branch that was asked first.
    names: Vec<BranchName>,
    branches: RefCell<BTreeMap<BranchName, Branch>>,
    interrupted: Arc<AtomicUsize>,
    recorded: Recorded,
    lease: Lease,
    /// The thread that renews the lease ends when this does.
    _renewing: SyncSender<()>,
}

/// What the older systems' scratch bank did, for whoever draws it.
pub type Recorded = Arc<Mutex<Vec<Event>>>;

impl LessonBank {
    /// Finds the branches by one of them. A signal's number in `interrupted` ends every wait for a person.
    ///
    /// # Errors
    /// When that branch can't be reached, or does not run with `--teaching`.
    pub fn find(mut asked: Branch, interrupted: Arc<AtomicUsize>) -> Result<Self, ClientError> {
        let _: Stage = asked.ask(Action::Stage, &NoParams {})?.result()?;
        let mut names = Vec::new();
        let mut branches = BTreeMap::new();
        for peer in peers::all(asked)? {
            // What is no name of a branch can't be asked for under it.
            let Ok(name) = peer.name.parse::<BranchName>() else { continue };
            names.push(name.clone());
            branches.insert(name, peer.branch);
        }
        // Any text that no other program has will do.
        let id = RequestId::draw().map_err(ClientError::System)?;
        let lease = Lease { holder: format!("client-{id}"), seconds: LEASE.as_secs() };
        let renewing = renew(branches.values().map(Branch::again).collect(), lease.clone())?;
        let branches = RefCell::new(branches);
        Ok(Self { names, branches, interrupted, recorded: Recorded::default(), lease, _renewing: renewing })
    }

    /// Where the scratch bank's events are kept.
    pub fn recorded(&self) -> Recorded {
        Arc::clone(&self.recorded)
    }

    fn fresh(&self, name: &BranchName) -> Result<Branch, Failure> {
        let branches = self.branches.borrow();
        let branch = branches.get(name).ok_or_else(|| {
            Failure::refused("no_such_branch", format!("no branch {name} is known to the branch that was asked"))
        })?;
        Ok(branch.again())
    }

    fn once(
        &self,
        name: &BranchName,
        action: Action,
        params: &Value,
        request_id: Option<&str>,
    ) -> Result<Option<Reply>, Failure> {
        let mut branches = self.branches.borrow_mut();
        let branch = branches.get_mut(name).ok_or_else(|| {
            Failure::refused("no_such_branch", format!("no branch {name} is known to the branch that was asked"))
        })?;
        let patience = branch.timeout();
        branch.ask_once(action, params, request_id, patience).map_err(failure)
    }
}

impl Bank for LessonBank {
    fn branches(&self) -> Result<Vec<BranchName>, Failure> {
        let is_teaching =
            |name: &&BranchName| self.is_up(name) && self.call(name, Action::Stage, &json!({}), None).is_ok();
        Ok(self.names.iter().filter(is_teaching).cloned().collect())
    }

    fn call(&self, branch: &BranchName, action: Action, params: &Value, request_id: Option<&str>) -> Answered {
        let params = &*lessons::leased(action, params, &self.lease);
        let first = self.once(branch, action, params, request_id)?;
        let reply = match first {
            Some(reply) => Some(reply),
            None => self.once(branch, action, params, request_id)?,
        };
        let reply = reply.ok_or_else(|| Failure::unreachable(format!("{branch} ended the connection")))?;
        read(&reply)
    }

    fn begin(&self, branch: &BranchName, params: &Value) -> Receiver<Answered> {
        let (answer, answers) = mpsc::sync_channel(1);
        let params = params.clone();
        let fresh = self.fresh(branch);
        // A thread that the system refuses drops its end of the channel, as a connection's end does.
        let _ = thread::Builder::new().name("transfer".into()).spawn(move || {
            let asked = fresh.and_then(|mut branch| {
                branch.ask_once(lessons::transfer_action(&params), &params, None, TRANSFER_PATIENCE).map_err(failure)
            });
            let answered = match asked {
                Ok(Some(reply)) => read(&reply),
                Ok(None) => return,
                Err(failure) => Err(failure),
            };
            // A lesson that is over listens no more.
            let _ = answer.send(answered);
        });
        answers
    }

    fn restart(&self, branch: &BranchName) -> Result<(), String> {
        if self.is_up(branch) {
            return Ok(());
        }
        let not_started = || Err(format!("{branch} was not started again: start it, and its transfers settle"));
        if self.interrupted.load(Ordering::SeqCst) != 0 {
            return not_started();
        }
        let address = self.branches.borrow().get(branch).map(|branch| branch.address().to_string()).unwrap_or_default();
        eprintln!(
            "bank-client: {branch} has crashed. Start it again at {address}, with the command in its terminal or from \
             the dashboard; waiting for it, at most {} minutes.",
            RESTART_DEADLINE.as_secs() / 60
        );
        let start = Instant::now();
        while start.elapsed() < RESTART_DEADLINE {
            if self.is_up(branch) {
                return Ok(());
            }
            if self.interrupted.load(Ordering::SeqCst) != 0 {
                return Err(format!(
                    "{branch} was not started again: start it, and its transfers settle by themselves"
                ));
            }
            thread::sleep(LOOK_EVERY);
        }
        Err(format!("{branch} did not come back within {} minutes", RESTART_DEADLINE.as_secs() / 60))
    }

    fn is_up(&self, branch: &BranchName) -> bool {
        let Ok(mut fresh) = self.fresh(branch) else { return false };
        matches!(fresh.ask_once(Action::Status, &NoParams {}, None, UP_PATIENCE), Ok(Some(reply)) if reply.is_ok())
    }

    fn record(&self, events: Vec<Event>) {
        // Nothing that holds it can panic, so it is never poisoned; were it, the events were whole all the same.
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner).extend(events);
    }
}

/// Renews the lease at every branch until the sender is dropped. The thread is not joined: it may wait for a branch that
/// does not answer, and the end of the program ends it.
fn renew(mut branches: Vec<Branch>, lease: Lease) -> Result<SyncSender<()>, ClientError> {
    // Nothing is ever sent.
    let (alive, ended) = mpsc::sync_channel(0);
    let look = Look { lease: Some(lease) };
    let work = move || {
        while ended.recv_timeout(RENEW_EVERY) == Err(RecvTimeoutError::Timeout) {
            for branch in &mut branches {
                // One that has crashed has nothing set, and is asked again in a moment.
                let _ = branch.ask_once(Action::Stage, &look, None, UP_PATIENCE);
            }
        }
    };
    thread::Builder::new().name("lease".into()).spawn(work).map_err(ClientError::System)?;
    Ok(alive)
}

/// A branch's result as a JSON value, amounts digit for digit.
fn read(reply: &Reply) -> Answered {
    let json = reply.json().map_err(failure)?;
    serde_json::from_str(json).map_err(|error| Failure::unreachable(format!("an answer can't be read: {error}")))
}

fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::Branch(BranchError::Refused { error: AnswerError { code, text, .. }, hint: None }) => {
            Failure::refused(code, text)
        }
        other => Failure::unreachable(other.to_string()),
    }
}
