//! Which copy of a branch is its primary: people who promote one, at a good time or not, who have a primary hand over, and
//! who put it all right in the end. What a promotion may have lost of what was promised is noted as a setback.

use bank_server::dbs_exec::CopyRole;

use super::copies::Setback;
use super::world::{Fault, World};

impl World {
    /// A person makes a replica the primary, at a good time or not.
    pub(super) fn promote_something(&mut self) {
        let replicas: Vec<usize> =
            (0..self.copies.len()).filter(|copy| self.role_of(*copy) == Some(CopyRole::Replica)).collect();
        if replicas.is_empty() {
            return;
        }
        let copy = replicas[self.rng.index(replicas.len())];
        let branch = self.copies[copy].branch;
        let others: Vec<usize> =
            (0..self.copies.len()).filter(|other| self.copies[*other].branch == branch && *other != copy).collect();
        let down_ms = 1_000 + self.rng.below(20_000);
        match self.rng.below(10) {
            // The primary is gone for a while.
            0..5 => {
                for other in &others {
                    if self.role_of(*other) == Some(CopyRole::Primary) {
                        self.kill(*other);
                        self.copies[*other].start_ms = Some(self.now_ms + down_ms);
                    }
                }
            }
            // The copies don't hear one another.
            5..9 => others.iter().for_each(|other| self.shared.cut(copy, *other)),
            _ => {}
        }
        let force = self.rng.chance(800);
        self.promote(copy, force);
        if self.rng.chance(300)
            && let Some(other) = others.iter().find(|other| self.role_of(**other) == Some(CopyRole::Replica))
        {
            self.promote(*other, true);
        }
    }

    /// Orders a promotion.
    pub(super) fn promote(&mut self, copy: usize, force: bool) {
        let is_primary = |other: &usize| {
            self.copies[*other].branch == self.copies[copy].branch
                && !self.shared.is_cut(copy, *other)
                && self.role_of(*other) == Some(CopyRole::Primary)
        };
        let has_primary = (0..self.copies.len()).any(|other| is_primary(&other));
        let has_all = self.has_all(copy);
        let body = format!(r#"{{"action":"promote","params":{{"force":{force}}}}}"#);
        let answer = self.enter(copy, |process| process.ask(&body));
        let epoch = answer.and_then(|answer| answer.result().and_then(|result| result["epoch"].as_i64()));
        let is_done = epoch.is_some();
        self.note(copy, "is promoted", &format!("force {force}: {is_done}"));
        if is_done && !force && has_primary {
            self.judge.accuse(format!("a copy of {} was promoted while its primary answers", self.name_of(copy)));
        }
        if let Some(epoch) = epoch {
            let branch = self.copies[copy].branch;
            let rivals = (0..self.copies.len()).filter(|other| self.copies[*other].branch == branch && *other != copy);
            let rivals = rivals.collect();
            if !has_all {
                self.setbacks.push(Setback { branch, at_ms: self.now_ms, rivals, of_ms: None });
            }
            let newest = self.newest_epochs.entry(branch).or_default();
            *newest = (*newest).max(epoch);
            self.handed_over.remove(&branch);
            self.serving[branch] = copy;
        }
    }

    /// Whether a copy has all that its branch has promised: the primary has handed over to it, or every replica must have
    /// a write before anybody is told of it, and the copy is of the newest epoch.
    fn has_all(&self, copy: usize) -> bool {
        let branch = self.copies[copy].branch;
        let (sync, replicas) = (self.config.sync_replicas[branch], self.config.replicas[branch]);
        let is_newest = self.position_of(copy).is_some_and(|last| last.epoch >= self.newest_epoch(branch));
        let is_handed_over = self.handed_over.get(&branch).is_some_and(|copies| copies.contains(&copy));
        is_handed_over || (sync == replicas && is_newest)
    }

    fn newest_epoch(&self, branch: usize) -> i64 {
        self.newest_epochs.get(&branch).copied().unwrap_or(1)
    }

    /// A person has a primary become a replica of one of its replicas, which is to be promoted then. What was promised is
    /// all there, or the primary stays what it is.
    pub(super) fn hand_over(&mut self) {
        let pairs: Vec<(usize, usize)> = (0..self.copies.len())
            .flat_map(|primary| (0..self.copies.len()).map(move |replica| (primary, replica)))
            .filter(|(primary, replica)| self.copies[*primary].branch == self.copies[*replica].branch)
            .filter(|(primary, replica)| {
                self.role_of(*primary) == Some(CopyRole::Primary) && self.role_of(*replica) == Some(CopyRole::Replica)
            })
            .collect();
        if pairs.is_empty() {
            return;
        }
        let (primary, replica) = pairs[self.rng.index(pairs.len())];
        let branch = self.copies[primary].branch;
        let epoch =
            self.copies[primary].process.as_ref().map_or(0, |process| process.core.dbs.copy_state().epoch.number);
        let to = format!("127.0.0.1:{}", self.copies[replica].port);
        let answer = self.ask(primary, &format!(r#"{{"action":"demote","params":{{"to":"{to}"}}}}"#));
        if answer.is_none_or(|answer| answer.result().is_none()) {
            return;
        }
        // One that was replaced, and has not heard of it, has nothing to hand over.
        if epoch == self.newest_epoch(branch) {
            self.handed_over.insert(branch, [primary, replica]);
        }
        let by_ms = 1 + self.rng.below(2_000);
        self.later(by_ms, Fault::PromoteCopy(replica));
    }

    /// A primary loses its replicas, and whoever needs a hand there gets it; soon one of them is promoted.
    pub(super) fn strand(&mut self, looks: u64) {
        let doubtful: Vec<usize> = (0..self.copies.len()).filter(|copy| self.in_doubt_at(*copy) > 0).collect();
        if doubtful.is_empty() && looks > 0 {
            self.later(self.config.tick_ms, Fault::Strand(looks - 1));
            return;
        }
        let primaries: Vec<usize> = (0..self.copies.len())
            .filter(|copy| self.role_of(*copy) == Some(CopyRole::Primary))
            .filter(|copy| self.config.replicas[self.copies[*copy].branch] > 0)
            .collect();
        if primaries.is_empty() {
            return;
        }
        // The one that is in doubt, or the one that is about to decide, or any.
        let own_doubt = doubtful.into_iter().find(|copy| primaries.contains(copy)).filter(|_| self.rng.chance(500));
        let deciding = primaries.iter().copied().find(|copy| self.decides_at(*copy)).filter(|_| self.rng.chance(800));
        let copy = own_doubt.or(deciding).unwrap_or(primaries[self.rng.index(primaries.len())]);
        let branch = self.copies[copy].branch;
        for other in 0..self.copies.len() {
            if self.copies[other].branch == branch && other != copy {
                self.shared.cut(copy, other);
            }
        }
        if self.rng.chance(500) {
            self.resolve_at(copy);
        }
        let by_ms = 500 + self.rng.below(6_000);
        self.later(by_ms, Fault::PromoteOf(branch));
    }

    /// A person promotes a replica of a branch, whose primary is ended, or can't be reached.
    pub(super) fn promote_of(&mut self, branch: usize) {
        let copies = (0..self.copies.len()).filter(|copy| self.copies[*copy].branch == branch);
        let (primaries, others): (Vec<usize>, Vec<usize>) =
            copies.partition(|copy| self.role_of(*copy) == Some(CopyRole::Primary));
        let replicas: Vec<usize> =
            others.into_iter().filter(|copy| self.role_of(*copy) == Some(CopyRole::Replica)).collect();
        if replicas.is_empty() {
            return;
        }
        if self.rng.chance(700) {
            for primary in primaries {
                self.kill(primary);
                self.copies[primary].start_ms = Some(self.now_ms + 1_000 + self.rng.below(20_000));
            }
        }
        let copy = replicas[self.rng.index(replicas.len())];
        self.promote(copy, true);
    }

    /// Whether votes are awaited at a copy.
    fn decides_at(&mut self, copy: usize) -> bool {
        self.shown_at(copy).iter().any(|(_, state)| state == "deciding")
    }

    /// In the second phase people see to it that each branch has one primary, and that the other copies follow it.
    pub(super) fn put_copies_right(&mut self) -> Option<String> {
        for branch in 0..self.names.len() {
            let copies: Vec<usize> =
                (0..self.copies.len()).filter(|copy| self.copies[*copy].branch == branch).collect();
            if copies.len() == 1 {
                continue;
            }
            let primaries: Vec<usize> =
                copies.iter().copied().filter(|copy| self.role_of(*copy) == Some(CopyRole::Primary)).collect();
            match primaries[..] {
                [] => {
                    // Of two that contradict one another a person chooses one.
                    let fenced = copies.iter().copied().find(|copy| self.role_of(*copy) == Some(CopyRole::Fenced));
                    let copy = fenced.or(copies.first().copied())?;
                    self.promote(copy, true);
                    // The branches' own time begins when all of them are there.
                    self.healed_ms = self.now_ms;
                    return Some(format!("{} has no primary", self.names[branch]));
                }
                [primary] => {
                    self.serving[branch] = primary;
                    let to = format!("127.0.0.1:{}", self.copies[primary].port);
                    let body = format!(r#"{{"action":"demote","params":{{"to":"{to}"}}}}"#);
                    for copy in copies.iter().copied().filter(|copy| *copy != primary) {
                        if self.role_of(copy) != Some(CopyRole::Replica) || self.primary_of(copy) != Some(primary) {
                            self.enter(copy, |process| process.ask(&body));
                            self.note(copy, "is demoted", "");
                            self.healed_ms = self.now_ms;
                            return Some(format!("copy {copy} of {} is no replica yet", self.names[branch]));
                        }
                        if self.position_of(copy) != self.position_of(primary) {
                            return Some(format!("copy {copy} of {} is behind", self.names[branch]));
                        }
                    }
                }
                // They hear of one another, and then neither goes on, or one.
                [_, _, ..] => {
                    self.healed_ms = self.now_ms;
                    return Some(format!("{} has several primaries", self.names[branch]));
                }
            }
        }
        None
    }
}
