//! Who has set what for how long: a setting whose holder has not renewed its lease in time is taken back.
//!
//! A bridge or a client that drives a lesson may be killed in its middle, and then nobody takes back what it has set:
//! every transfer would wait for a step that nobody takes. What a person sets has no lease, and stays.
//!
//! Invariant: a setting has one holder at most, the last who made it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use protocol::BranchName;
use protocol::teaching::Lease;

/// One thing that can be set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// Messages wait.
    StepMode,
    /// The link to this branch is cut or slow.
    Fault(BranchName),
    /// A crash point is armed.
    CrashPoint,
}

/// The settings that are held by a lease. At most one for each setting that there is.
#[derive(Debug, Default)]
pub struct Leases {
    held: BTreeMap<Setting, Held>,
}

#[derive(Debug)]
struct Held {
    holder: String,
    until: Instant,
}

impl Leases {
    /// Notes by whom a setting was made; without a lease, that nobody has to renew it.
    pub fn set(&mut self, setting: Setting, lease: Option<&Lease>, now: Instant) {
        match lease {
            Some(lease) => {
                self.held.insert(setting, Held { holder: lease.holder.clone(), until: end(lease, now) });
                self.renew(lease, now);
            }
            None => {
                self.held.remove(&setting);
            }
        }
    }

    /// The holder is still there.
    pub fn renew(&mut self, lease: &Lease, now: Instant) {
        for held in self.held.values_mut().filter(|held| held.holder == lease.holder) {
            held.until = end(lease, now);
        }
    }

    /// Takes the settings whose holder has not been heard of in time.
    pub fn take_ended(&mut self, now: Instant) -> Vec<Setting> {
        self.held.extract_if(.., |_, held| held.until <= now).map(|(setting, _)| setting).collect()
    }
}

fn end(lease: &Lease, now: Instant) -> Instant {
    now + Duration::from_secs(lease.seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str) -> Lease {
        Lease { holder: holder.into(), seconds: 20 }
    }

    #[test]
    fn what_is_not_renewed_ends_and_what_a_person_sets_stays() {
        let (mut leases, begin) = (Leases::default(), Instant::now());
        let after = |seconds| begin + Duration::from_secs(seconds);
        let fault = Setting::Fault("Delhi".parse().unwrap());
        leases.set(Setting::StepMode, Some(&lease("one")), begin);
        leases.set(fault.clone(), Some(&lease("one")), begin);
        leases.set(Setting::CrashPoint, Some(&lease("other")), begin);
        leases.renew(&lease("one"), after(15));
        assert_eq!(leases.take_ended(after(20)), [Setting::CrashPoint]);
        leases.set(fault.clone(), None, after(30));
        assert_eq!(leases.take_ended(after(35)), [Setting::StepMode], "the link is cut by a person now");
        assert!(leases.take_ended(after(1_000)).is_empty());
    }

    #[test]
    fn the_last_who_sets_it_holds_it() {
        let (mut leases, begin) = (Leases::default(), Instant::now());
        leases.set(Setting::StepMode, Some(&lease("one")), begin);
        leases.set(Setting::StepMode, Some(&lease("other")), begin + Duration::from_secs(10));
        assert!(leases.take_ended(begin + Duration::from_secs(20)).is_empty());
        assert_eq!(leases.take_ended(begin + Duration::from_secs(30)), [Setting::StepMode]);
    }
}
