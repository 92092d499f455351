//! Who answers: an answer is believed for the branch that gave it, not for the address that it came from.

use std::collections::BTreeMap;

use protocol::answer::Audit;
use protocol::{LegSum, Total};

use super::OUTSIDE;

/// The role of the copy that speaks for its branch.
const PRIMARY: &str = "primary";

/// Who was heard.
#[derive(Default)]
pub struct Heard {
    /// Each branch's audit, and the place of the source that gave it.
    pub audits: BTreeMap<String, (Audit, usize)>,
    /// Branches that were not heard, and why.
    pub missing: BTreeMap<String, String>,
    /// Copies that can't both be right.
    pub findings: Vec<String>,
}

/// Sorts the answers of the branches that were expected, each with its name and address, by who gave them.
#[must_use]
pub fn judge<'a>(answers: impl Iterator<Item = ((&'a str, &'a str), Result<Audit, String>)>) -> Heard {
    let mut heard = Heard::default();
    let mut strays = Vec::new();
    for (index, ((expected, address), answer)) in answers.enumerate() {
        let audit = match answer {
            Ok(audit) => audit,
            Err(error) => {
                heard.missing.insert(expected.to_string(), error);
                continue;
            }
        };
        let name = audit.branch.clone().unwrap_or_else(|| expected.to_string());
        let role = audit.role.as_deref().unwrap_or(PRIMARY);
        let is_expected = name == expected;
        if role != PRIMARY {
            let who = if is_expected { "a copy of it".to_string() } else { format!("a copy of {name}") };
            heard.missing.insert(
                expected.to_string(),
                format!("at {address} answers {who} that is no primary ({role}), and does not speak for the branch"),
            );
        } else if is_expected {
            heard.audits.insert(name, (audit, index));
        } else {
            heard.missing.insert(expected.to_string(), format!("at {address} answers the branch {name}"));
            strays.push((name, audit, index));
        }
    }
    for (name, audit, index) in strays {
        match heard.audits.get(&name) {
            Some((own, _)) if own.epoch != audit.epoch => {
                let epoch = |audit: &Audit| audit.epoch.map_or_else(|| "?".to_string(), |epoch| epoch.to_string());
                let (one, other) = (epoch(own), epoch(&audit));
                heard.findings.push(format!("two copies of {name} take orders, of the epochs {one} and {other}"));
            }
            // The same branch by two addresses is counted once.
            Some(_) => {}
            None => {
                heard.missing.remove(&name);
                heard.audits.insert(name, (audit, index));
            }
        }
    }
    heard.name_strangers();
    heard
}

impl Heard {
    /// Whoever has money of a branch by its books, and isn't known, is missing.
    fn name_strangers(&mut self) {
        let mut strangers = BTreeMap::new();
        for (name, (audit, _)) in &self.audits {
            let is_open = |peer: &str| {
                audit.due.get(peer).is_some_and(|due| *due != Total::ZERO)
                    || audit.leg_sums.get(peer).is_some_and(|sum| *sum != LegSum::ZERO)
            };
            let peers = audit.due.keys().filter(|peer| *peer != OUTSIDE && is_open(peer));
            for peer in peers.filter(|peer| !self.audits.contains_key(*peer) && !self.missing.contains_key(*peer)) {
                strangers
                    .insert(peer.clone(), format!("{name} has booked payments with it, and does not know where it is"));
            }
        }
        self.missing.extend(strangers);
    }
}
