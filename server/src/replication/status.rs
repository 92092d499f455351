//! What `status` says of replicas.

use protocol::Epoch;
use protocol::answer::{Lag, ReplicaLine, Replication as Answer};
use std::time::{Duration, Instant};

use super::{ReceiverState, Replication, StreamState};
use crate::dbs_exec::CopyRole;
use crate::error::Error;
use crate::limits::STANDBY_AWAY_MS;
use crate::shared_log::Member;

/// What `status` has beside the branch's own counters.
#[derive(Debug)]
pub struct ReplicationStatus {
    /// The epoch.
    pub epoch: Option<Epoch>,
    /// How far this replica is behind.
    pub lag: Option<Lag>,
    /// The rest.
    pub replication: Option<Answer>,
}

impl Replication {
    /// This copy's part in replication; nothing where there never was a replica.
    #[must_use]
    pub fn status(&self) -> ReplicationStatus {
        let copy_state = self.parts.dbs.copy_state();
        if self.role == CopyRole::Primary && !copy_state.is_logging {
            return ReplicationStatus { epoch: None, lag: None, replication: None };
        }
        let sequence = self.last_sequence();
        let mut answer = Answer {
            state: self.role.as_str().to_string(),
            sequence,
            primary: None,
            trouble: None,
            sync_replicas: self.parts.dbs.feed().needed() as u64,
            replicas: Vec::new(),
            promotion: None,
        };
        let lag = match self.role {
            CopyRole::Replica => {
                let lag = self.fill_replica(&mut answer);
                Some(lag)
            }
            CopyRole::Primary => {
                self.fill_primary(&mut answer);
                None
            }
            CopyRole::Fenced => {
                let refusal = copy_state.refusal();
                if let Some(Error::Fenced { is_conflict: true, .. }) = refusal {
                    answer.state = "conflict".into();
                }
                answer.trouble = refusal.map(|refusal| refusal.to_string());
                None
            }
        };
        ReplicationStatus { epoch: Some(copy_state.epoch), lag, replication: Some(answer) }
    }

    fn fill_replica(&self, answer: &mut Answer) -> Lag {
        let receiver = self.receiver.lock();
        answer.state = match receiver.state {
            ReceiverState::Connecting => "connecting",
            ReceiverState::Snapshot => "snapshot",
            ReceiverState::Following => "following",
            ReceiverState::Diverged => "diverged",
        }
        .into();
        answer.primary = receiver.primary.as_ref().map(ToString::to_string);
        answer.trouble.clone_from(&receiver.last_error);
        // Who is not connected can't know how far the primary has come.
        let heard = receiver.heard_sequence.filter(|_| receiver.state == ReceiverState::Following);
        let behind = heard.map(|heard| heard.saturating_sub(answer.sequence).max(0));
        Lag { sequence: behind, seconds: receiver.had_all.map(|had_all| lag_seconds(had_all, behind == Some(0))) }
    }

    /// The processes that share the commit log with this owner, as it has heard of them.
    fn standbys(&self, sequence: i64) -> Vec<ReplicaLine> {
        let Some(shared) = &self.parts.shared_log else { return Vec::new() };
        let members = self.members.lock();
        let others = members.iter().filter(|member| member.id != shared.store().id());
        let line = |member: &Member| {
            let seconds = member.silent_ms.unsigned_abs() / 1_000;
            let is_there = member.silent_ms < STANDBY_AWAY_MS;
            let behind = sequence.saturating_sub(member.sequence).max(0);
            ReplicaLine {
                address: member.address.clone(),
                state: if is_there { "following" } else { "away" }.into(),
                lag: is_there.then_some(Lag { sequence: Some(behind), seconds: Some(seconds) }),
            }
        };
        others.map(line).collect()
    }

    fn fill_primary(&self, answer: &mut Answer) {
        let mut lines: Vec<ReplicaLine> = Vec::new();
        for (address, stream) in &*self.streams.lock() {
            let lag = (stream.state != StreamState::Away && stream.state != StreamState::Snapshot).then(|| {
                let behind = answer.sequence.saturating_sub(stream.acknowledged).max(0);
                Lag { sequence: Some(behind), seconds: Some(lag_seconds(stream.had_all, behind == 0)) }
            });
            let state = match stream.state {
                StreamState::Snapshot => "snapshot",
                StreamState::CatchingUp => "catching up",
                StreamState::Following => "following",
                StreamState::Away => "away",
            };
            lines.push(ReplicaLine { address: address.clone(), state: state.into(), lag });
        }
        for address in self.parts.expected.iter().map(ToString::to_string) {
            if !lines.iter().any(|line| line.address == address) {
                lines.push(ReplicaLine { address, state: "away".into(), lag: None });
            }
        }
        lines.extend(self.standbys(answer.sequence));
        let feed = self.parts.dbs.feed();
        let is_waiting = feed.needed() > 0 && (feed.in_sync() < feed.needed());
        answer.state = match lines.iter().any(|line| line.lag.is_some()) {
            _ if is_waiting => "waiting for replicas",
            true => "shipping",
            false => "alone",
        }
        .into();
        answer.replicas = lines;
        answer.promotion = self.promotion().ok().flatten();
    }
}

/// How long ago a copy had everything; beats come every second, so one that is up to date has 0.
fn lag_seconds(had_all: Instant, is_current: bool) -> u64 {
    let since = had_all.elapsed();
    if is_current && since < Duration::from_secs(3) { 0 } else { since.as_secs() }
}
