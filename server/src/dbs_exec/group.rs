//! Who leads the next commit, and what goes with it: the queue of waiting operations.
//!
//! A thread enters the queue with its *submission* (one or more operations). If nobody leads, it leads;
//! else it sleeps. The leader takes a group of what waits, commits it in one SQLite transaction, and then
//! hands the lead to a thread that waits *before* it wakes its own group. So there is always exactly one leader while
//! anything waits, no thread polls, and each sleeper is woken once: with its results, or with the lead.
//!
//! ```text
//! thread A  enter ─ leads ─ [ commit A ]
//! thread B       enter ─ sleeps ········ lead! ─ [ commit B, C, D ]
//! thread C         enter ─ sleeps ······························ done
//! thread D            enter ─ sleeps ··························· done
//! ```
//!
//! A submission may also be handed in: its thread does not sleep, it goes back to its client, and says what is to be
//! done with the results ([`Then`](super::submission::Then)). Such a submission can't be woken to lead. When one is next, the lead goes to the
//! *committer*, which keeps it as long as anything waits (`handed_in.rs`).
//!
//! ```text
//! thread A  enter ─ leads ─ [ commit A ] ─ answers A ─ reads from its client
//! thread B      enter ─ reads from its client          committer  [ commit B, C, D ]
//! thread C        enter ─ reads from its client        answers                     answers B, C, D
//! thread D          enter ─ reads from its client
//! ```
//!
//! # Whose turn it is
//!
//! Groups are filled by turns: each [`Owner`] gives one submission, then each one more, while they fit. A submission
//! counts as the requests in it, so a batch of ten thousand that happen all or none counts as ten thousand. One that is
//! longer than a whole group makes a group by itself, and every other group is of short ones. So whoever asks for
//! little waits for at most one long submission of somebody else, however many wait and whoever sends them. What the
//! branch writes for itself (the records of transfers under way) goes before all clients.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::allowance::Owner;
use crate::dbs_exec::submission::Work;
use crate::error::{Error, Result};
use crate::limits::{GROUP_OPERATIONS, QUEUE_OPERATIONS_SHARE};

/// The submissions that wait for a commit.
///
/// Invariants: somebody leads whenever anything waits; while a leader has not taken its group, its submission is in
/// `leader`; `turns` names each owner in `clients` once, and none of their lists is empty; `operations` is the sum of
/// all weights that wait.
#[derive(Default)]
pub struct Queue {
    leader: Option<Arc<dyn Work>>,
    /// The branch's own, oldest first.
    own: VecDeque<Arc<dyn Work>>,
    clients: HashMap<Owner, Waiting>,
    turns: VecDeque<Owner>,
    /// Submissions for which nobody waits: they go along with the next group.
    lazy: Vec<Arc<dyn Work>>,
    operations: usize,
    is_led: bool,
    /// Whether a long submission is next, if one waits: the group before was of short ones.
    is_long_next: bool,
}

/// What one owner has waiting, oldest first.
#[derive(Default)]
struct Waiting {
    submissions: VecDeque<Arc<dyn Work>>,
    operations: usize,
}

impl Queue {
    /// Adds a submission. `Ok(true)` tells the caller to lead now.
    ///
    /// # Errors
    /// [`Error::Busy`] when more than `limit` operations would wait, or more than its owner's share. Whoever has
    /// nothing waiting is let in with a short one all the same: others' many must not keep it out.
    pub fn enter(&mut self, submission: Arc<dyn Work>, limit: usize) -> Result<bool> {
        let (owner, weight) = (submission.owner(), submission.weight());
        // The branch has no share: its own bounds keep its work small, and turning it away would stall transfers.
        let own_operations = match owner {
            Owner::Branch => 0,
            Owner::Stranger(_) | Owner::Account(_) | Owner::Connection(_) => {
                self.clients.get(&owner).map_or(0, |waiting| waiting.operations)
            }
        };
        // However full others have made the queue, one short submission of each owner has a place: a client that asks
        // for one thing at a time is never told that the bank is busy because of somebody else.
        let is_modest = owner != Owner::Branch && own_operations == 0 && weight <= GROUP_OPERATIONS;
        // An empty queue takes anything, so a submission longer than the whole queue is carried out alone, not never.
        let is_full = self.operations > 0 && self.operations + weight > limit && !is_modest;
        if is_full || (own_operations > 0 && own_operations + weight > QUEUE_OPERATIONS_SHARE) {
            return Err(Error::Busy);
        }
        self.operations += weight;
        if !self.is_led {
            // Nobody is there who could take it along. Its submission is kept apart, not queued: a leader always
            // commits its own, so it never leads and then has to wait for another.
            self.is_led = true;
            self.leader = Some(submission);
            return Ok(true);
        }
        match owner {
            Owner::Branch => self.own.push_back(submission),
            Owner::Stranger(_) | Owner::Account(_) | Owner::Connection(_) => {
                let waiting = self.clients.entry(owner).or_default();
                if waiting.submissions.is_empty() {
                    self.turns.push_back(owner);
                }
                waiting.operations += weight;
                waiting.submissions.push_back(submission);
            }
        }
        Ok(false)
    }

    /// Adds a submission for which nobody waits. Does not make anyone lead.
    pub fn add_lazy(&mut self, submission: Arc<dyn Work>) {
        self.lazy.push(submission);
    }

    /// Whether something waits for the next group to take it along.
    pub fn has_lazy(&self) -> bool {
        !self.lazy.is_empty()
    }

    /// Takes the leader's submission, about as many others as one commit should carry beside it, and all for which
    /// nobody waits, which come first: they were there before.
    pub fn take_group(&mut self) -> Vec<Arc<dyn Work>> {
        let leader = self.leader.take().expect("a leader's submission waits until it takes its group");
        let mut operations = leader.weight();
        // Its commit is long enough already; what went along would wait for all of it.
        let is_alone = leader.owner() != Owner::Branch && operations > GROUP_OPERATIONS;
        let mut group = std::mem::take(&mut self.lazy);
        group.push(leader);
        // Next what the branch itself has: other branches wait for it with their money held.
        while let Some(next) = self.own.front()
            && operations + next.weight() <= GROUP_OPERATIONS
        {
            operations += next.weight();
            group.extend(self.own.pop_front());
        }
        // Clients find a place also beside much of the branch's own: a quarter of a group is theirs in any case.
        let mut capacity = GROUP_OPERATIONS.saturating_sub(operations).max(GROUP_OPERATIONS / 4);
        if is_alone {
            capacity = 0;
        }
        // What doesn't fit is first the next time, so that it is not passed over for ever.
        let mut passed_over = VecDeque::new();
        while capacity > 0
            && let Some(owner) = self.turns.pop_front()
        {
            match self.take_from(owner, capacity) {
                Some(taken) => {
                    capacity -= taken.weight();
                    operations += taken.weight();
                    group.push(taken);
                }
                None => passed_over.push_back(owner),
            }
        }
        passed_over.append(&mut self.turns);
        self.turns = passed_over;
        self.operations -= operations;
        group
    }

    /// Takes the oldest submission of an owner who was taken out of the turns, if it is at most so heavy; then the
    /// owner's turn comes last, if there is more.
    fn take_from(&mut self, owner: Owner, weight_max: usize) -> Option<Arc<dyn Work>> {
        let waiting = self.clients.get_mut(&owner)?;
        let taken = waiting.submissions.pop_front_if(|next| next.weight() <= weight_max)?;
        waiting.operations -= taken.weight();
        if waiting.submissions.is_empty() {
            self.clients.remove(&owner);
        } else {
            self.turns.push_back(owner);
        }
        Some(taken)
    }

    /// Hands the lead on to a submission's thread, if any waits.
    pub fn hand_on(&mut self) -> Next {
        match self.choose_next() {
            Some(next) if next.is_awaited() => {
                next.lead();
                Next::Woken
            }
            Some(_) => Next::Unattended,
            None => Next::Nobody,
        }
    }

    /// Keeps the lead for the calling thread, if anything waits.
    pub fn keep_lead(&mut self) -> bool {
        self.choose_next().is_some()
    }

    /// Chooses the submission that the next group begins with: the branch's own before clients', and a long one after
    /// each group of short ones.
    fn choose_next(&mut self) -> Option<Arc<dyn Work>> {
        // Long and short ones take turns: neither many short ones nor many long ones ever hold the other kind up for
        // more than one group.
        let long = self.turns.iter().position(|owner| self.is_long(*owner));
        let short = self.turns.iter().position(|owner| !self.is_long(*owner));
        let has_short = !self.own.is_empty() || short.is_some();
        let next = match (long, has_short) {
            (Some(long), has_short) if self.is_long_next || !has_short => {
                self.is_long_next = false;
                self.take_turn(long)
            }
            (Some(_) | None, _) => {
                self.is_long_next = true;
                match (self.own.pop_front(), short) {
                    (Some(own), _) => Some(own),
                    (None, Some(short)) => self.take_turn(short),
                    (None, None) => None,
                }
            }
        };
        // It stays the leader's from here to its take_group, so nobody else can take it along meanwhile.
        self.leader.clone_from(&next);
        // With nothing there, the next to enter leads at once.
        self.is_led = next.is_some();
        next
    }

    fn is_long(&self, owner: Owner) -> bool {
        let next = self.clients.get(&owner).and_then(|waiting| waiting.submissions.front());
        next.is_some_and(|next| next.weight() > GROUP_OPERATIONS)
    }

    fn take_turn(&mut self, position: usize) -> Option<Arc<dyn Work>> {
        let owner = self.turns.remove(position)?;
        self.take_from(owner, usize::MAX)
    }
}

/// Who leads the next group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nobody: nothing waits.
    Nobody,
    /// The thread of the submission that is next; it was woken.
    Woken,
    /// No thread waits for the submission that is next: somebody else has to lead.
    Unattended,
}

#[cfg(test)]
mod tests {
    use crate::dbs_exec::submission::Submission;
    use crate::dbs_exec::tx::Tx;

    use super::*;

    fn submission(owner: Owner, weight: usize) -> Arc<dyn Work> {
        Arc::new(Submission::new(owner, weight, vec![|_: &mut Tx<'_>| Ok(())]))
    }

    /// The owners and weights of the next group.
    fn group(queue: &mut Queue) -> Vec<(Owner, usize)> {
        let taken = queue.take_group().iter().map(|work| (work.owner(), work.weight())).collect();
        queue.hand_on();
        taken
    }

    const A: Owner = Owner::Account(1);
    const B: Owner = Owner::Account(2);
    const BYSTANDER: Owner = Owner::Account(3);
    const LONG: usize = GROUP_OPERATIONS + 1;

    #[test]
    fn who_asks_for_little_waits_for_one_long_submission_at_most() {
        let mut queue = Queue::default();
        assert_eq!(queue.enter(submission(A, LONG), usize::MAX), Ok(true));
        for owner in [A, B, A, B] {
            assert_eq!(queue.enter(submission(owner, LONG), usize::MAX), Ok(false));
        }
        assert_eq!(group(&mut queue), [(A, LONG)]);
        assert_eq!(queue.enter(submission(BYSTANDER, 1), usize::MAX), Ok(false));
        // The lead was handed on before the bystander came.
        assert_eq!(group(&mut queue), [(A, LONG)]);
        assert_eq!(group(&mut queue), [(BYSTANDER, 1)]);
        queue.enter(submission(BYSTANDER, 1), usize::MAX).unwrap();
        assert_eq!(group(&mut queue), [(B, LONG)]);
        assert_eq!(group(&mut queue), [(BYSTANDER, 1)]);
        assert_eq!((group(&mut queue), group(&mut queue)), (vec![(A, LONG)], vec![(B, LONG)]));
        assert!(!queue.is_led && queue.operations == 0 && queue.clients.is_empty() && queue.turns.is_empty());
    }

    #[test]
    fn groups_are_filled_by_turns_and_what_did_not_fit_comes_next() {
        let mut queue = Queue::default();
        queue.enter(submission(A, 1), usize::MAX).unwrap();
        for _ in 0..4 {
            queue.enter(submission(A, GROUP_OPERATIONS / 2), usize::MAX).unwrap();
        }
        queue.enter(submission(B, GROUP_OPERATIONS / 2), usize::MAX).unwrap();
        queue.enter(submission(BYSTANDER, 1), usize::MAX).unwrap();
        queue.enter(submission(Owner::Branch, 1), usize::MAX).unwrap();
        let half = GROUP_OPERATIONS / 2;
        assert_eq!(group(&mut queue), [(A, 1), (Owner::Branch, 1), (A, half), (BYSTANDER, 1)]);
        assert_eq!(group(&mut queue), [(B, half), (A, half)]);
        assert_eq!(group(&mut queue), [(A, half), (A, half)]);
        assert!(!queue.is_led);
    }

    #[test]
    fn nobody_is_kept_out_by_others_and_nobody_fills_the_queue() {
        let mut queue = Queue::default();
        queue.enter(submission(A, 1), usize::MAX).unwrap();
        queue.enter(submission(A, QUEUE_OPERATIONS_SHARE), 10_000_000).unwrap();
        assert_eq!(queue.enter(submission(A, 1), 10_000_000), Err(Error::Busy));
        assert_eq!(queue.enter(submission(B, LONG), 10), Err(Error::Busy));
        assert_eq!(queue.enter(submission(B, 1), 10), Ok(false));
        assert_eq!(queue.enter(submission(B, 1), 10), Err(Error::Busy));
        assert_eq!(queue.enter(submission(Owner::Branch, 1), usize::MAX), Ok(false));
    }
}
