//! Who has a password hashed next: a bounded queue before the hashing threads.
//!
//! A hash takes tens of milliseconds of a core by design, so it is the dearest thing that a client can order, and the
//! one that is rationed. Each account and each address owes what it has ordered lately: a hash adds to its *debt*, and
//! time takes that away again.
//!
//! Kept true:
//! - whoever owes least is next, also beside others who order much; who has waited long owes less;
//! - an account, and an address beyond this machine, whose debt is too large is refused without a hash, whether its
//!   passwords are right or wrong;
//! - when the queue is full, whoever owes most leaves it, not whoever comes last;
//! - what waits for a client whose connection has ended is taken out of the queue.
//!
//! Whoever holds the key owes too, and so goes after the others, but is never refused for it: an operator opens a class
//! of forty accounts in one batch.

use std::collections::HashMap;
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::allowance::Owner;
use crate::limits::{
    HASH_ACCOUNT_BURST, HASH_ACCOUNT_INTERVAL, HASH_ADDRESS_BURST, HASH_ADDRESS_INTERVAL, HASH_DEBTORS, HASH_GONE_AFTER,
};
use crate::lockout::{Origin, Wait};

/// Who wants a password hashed.
#[derive(Clone, Copy, Debug)]
pub struct Orderer<'s> {
    /// Whose work it is: the account whose password it is, or the connection of an operator.
    pub owner: Owner,
    /// From where, if that is to be counted.
    pub address: Option<IpAddr>,
    /// The connection whose end ends the work.
    pub connection: Option<&'s TcpStream>,
}

impl<'s> Orderer<'s> {
    /// The branch itself, at its start or at rest.
    pub const BRANCH: Orderer<'static> = Orderer { owner: Owner::Branch, address: None, connection: None };

    /// Someone who gives an account's password.
    #[must_use]
    pub fn of_account(account_num: i64, origin: Origin, connection: Option<&'s TcpStream>) -> Self {
        let address = match origin {
            // At the branch's own machine many are behind one address: the bridge, a class's scripts.
            Origin::Address(address) if !address.to_canonical().is_loopback() => Some(address),
            Origin::Address(_) | Origin::OnBehalf => None,
        };
        Self { owner: Owner::Account(account_num), address, connection }
    }

    /// Whether nobody waits any more for what was ordered so long ago.
    ///
    /// Whoever has closed only the sending half of the connection still reads, and looks the same from here. So that
    /// counts only when there is a crowd, and it is told as such.
    #[must_use]
    pub fn has_gone(&self, ordered: Instant) -> bool {
        let Some(connection) = self.connection.filter(|_| ordered.elapsed() >= HASH_GONE_AFTER) else { return false };
        let mut looked = [PollFd::new(connection, PollFlags::RDHUP)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ended = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        poll(&mut looked, Some(&at_once)).is_ok() && looked[0].revents().intersects(ended)
    }
}

/// What everyone owes.
///
/// A debt is kept as the instant at which it will be paid off, which is all that the generic cell rate algorithm
/// (ITU-T I.371) needs: each hash moves it on by an interval.
#[derive(Debug, Default)]
pub struct Debts {
    paid_off: HashMap<Owner, Instant>,
}

impl Debts {
    /// Counts an order. Returns the debt of whoever has ordered it, before it.
    ///
    /// # Errors
    /// How long it has to wait, when it owes too much.
    pub fn charge(&mut self, orderer: &Orderer<'_>, now: Instant) -> Result<Duration, Wait> {
        let account = match orderer.owner {
            Owner::Branch => return Ok(Duration::ZERO),
            Owner::Account(_) | Owner::Stranger(_) => HASH_ACCOUNT_INTERVAL * HASH_ACCOUNT_BURST,
            Owner::Connection(_) => Duration::MAX,
        };
        let address = orderer.address.map(Owner::stranger);
        let owed = self.owed(orderer.owner, now);
        let owed_by_address = address.map_or(Duration::ZERO, |address| self.owed(address, now));
        let beyond = owed.saturating_sub(account);
        let beyond = beyond.max(owed_by_address.saturating_sub(HASH_ADDRESS_INTERVAL * HASH_ADDRESS_BURST));
        if !beyond.is_zero() {
            return Err(Wait::new(beyond));
        }
        self.add(orderer.owner, HASH_ACCOUNT_INTERVAL, now);
        if let Some(address) = address {
            self.add(address, HASH_ADDRESS_INTERVAL, now);
        }
        Ok(owed + owed_by_address)
    }

    fn owed(&self, debtor: Owner, now: Instant) -> Duration {
        self.paid_off.get(&debtor).map_or(Duration::ZERO, |paid_off| paid_off.saturating_duration_since(now))
    }

    fn add(&mut self, debtor: Owner, interval: Duration, now: Instant) {
        if self.paid_off.len() >= HASH_DEBTORS && !self.paid_off.contains_key(&debtor) {
            self.paid_off.retain(|_, paid_off| *paid_off > now);
            let least = self.paid_off.iter().min_by_key(|(_, paid_off)| **paid_off).map(|(debtor, _)| *debtor);
            if let Some(least) = least.filter(|_| self.paid_off.len() >= HASH_DEBTORS) {
                self.paid_off.remove(&least);
            }
        }
        let paid_off = self.paid_off.entry(debtor).or_insert(now);
        *paid_off = (*paid_off).max(now) + interval;
    }
}

/// What waits, with its debts.
#[derive(Debug)]
pub struct Line<J> {
    waiting: Vec<Place<J>>,
    next_ticket: u64,
    places: usize,
}

#[derive(Debug)]
struct Place<J> {
    ticket: u64,
    debt: Duration,
    since: Instant,
    job: J,
}

impl<J> Place<J> {
    /// What it is ordered by: what is owed, less the time waited, many times over, so that nobody waits for ever.
    fn urgency(&self, now: Instant) -> (Duration, Instant) {
        (self.debt.saturating_sub(now.saturating_duration_since(self.since) * 5), self.since)
    }
}

impl<J> Line<J> {
    /// An empty line with so many places.
    #[must_use]
    pub fn new(places: usize) -> Self {
        Self { waiting: Vec::new(), next_ticket: 0, places }
    }

    /// Puts a job into the line. Returns its ticket, and whoever had to leave for it.
    ///
    /// # Errors
    /// The job itself, when the line is full of those who owe less.
    pub fn enter(&mut self, job: J, debt: Duration, now: Instant) -> Result<(u64, Option<J>), J> {
        let mut left = None;
        if self.waiting.len() >= self.places {
            let last = (0..self.waiting.len()).max_by_key(|index| self.waiting[*index].urgency(now));
            match last {
                Some(last) if self.waiting[last].urgency(now) > (debt, now) => {
                    left = Some(self.waiting.swap_remove(last).job);
                }
                Some(_) | None => return Err(job),
            }
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.push(Place { ticket, debt, since: now, job });
        Ok((ticket, left))
    }

    /// Takes whoever is next.
    pub fn next(&mut self, now: Instant) -> Option<J> {
        let next = (0..self.waiting.len()).min_by_key(|index| self.waiting[*index].urgency(now))?;
        Some(self.waiting.swap_remove(next).job)
    }

    /// Takes a job out of the line; `None` when it has been taken already.
    pub fn leave(&mut self, ticket: u64) -> Option<J> {
        let index = self.waiting.iter().position(|place| place.ticket == ticket)?;
        Some(self.waiting.swap_remove(index).job)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// One of the addresses of 2001:db8::/64.
    fn neighbour(number: u64) -> IpAddr {
        IpAddr::from((0x2001_0db8_u128 << 96 | u128::from(number)).to_be_bytes())
    }

    fn by(owner: Owner, address: Option<IpAddr>) -> Orderer<'static> {
        Orderer { owner, address, connection: None }
    }

    #[test]
    fn an_account_and_an_address_are_refused_when_they_owe_too_much_and_an_operator_is_not() {
        let (mut debts, now) = (Debts::default(), Instant::now());
        let account = by(Owner::Account(1001), None);
        let served = (0..1_000).filter(|_| debts.charge(&account, now).is_ok()).count();
        assert_eq!(served, HASH_ACCOUNT_BURST as usize + 1);
        assert!(debts.charge(&by(Owner::Account(1002), None), now).is_ok(), "others are not meant");
        assert!(debts.charge(&account, now + HASH_ACCOUNT_INTERVAL).is_ok(), "time pays it off");
        let address = Some(IpAddr::from([192, 0, 2, 1]));
        let served = (2_000..9_000).filter(|number| debts.charge(&by(Owner::Account(*number), address), now).is_ok());
        assert_eq!(served.count(), HASH_ADDRESS_BURST as usize + 1);
        let in_one_network = |number: u64| by(Owner::Account(number.cast_signed()), Some(neighbour(number)));
        let served = (10_000..19_000).filter(|number| debts.charge(&in_one_network(*number), now).is_ok());
        assert_eq!(served.count(), HASH_ADDRESS_BURST as usize + 1, "one network of IPv6 is one address");
        let operator = by(Owner::Connection(1), None);
        assert!((0..1_000).all(|_| debts.charge(&operator, now).is_ok()));
        assert_eq!(debts.charge(&operator, now).unwrap(), HASH_ACCOUNT_INTERVAL * 1_000);
    }

    #[test]
    fn debtors_are_bounded() {
        let (mut debts, now) = (Debts::default(), Instant::now());
        let heavy = by(Owner::Account(0), None);
        for _ in 0..HASH_ACCOUNT_BURST {
            debts.charge(&heavy, now).unwrap();
        }
        for number in 1..HASH_DEBTORS as i64 + 100 {
            debts.charge(&by(Owner::Account(number), None), now).unwrap();
        }
        assert_eq!(debts.paid_off.len(), HASH_DEBTORS);
        assert_eq!(debts.owed(Owner::Account(0), now), HASH_ACCOUNT_INTERVAL * HASH_ACCOUNT_BURST);
    }

    #[test]
    fn whoever_owes_least_is_next_and_whoever_owes_most_leaves_a_full_line() {
        let (mut line, now) = (Line::new(3), Instant::now());
        for (name, debt) in [("much", 30), ("some", 10), ("little", 1)] {
            assert!(line.enter(name, SECOND * debt, now).is_ok());
        }
        assert_eq!(line.enter("more", SECOND * 40, now), Err("more"));
        let (ticket, left) = line.enter("nothing", Duration::ZERO, now).unwrap();
        assert_eq!(left, Some("much"));
        assert_eq!(line.leave(ticket), Some("nothing"));
        assert_eq!((line.next(now), line.leave(ticket)), (Some("little"), None));
        // Waiting pays off too.
        line.enter("fresh", SECOND, now + SECOND * 10).unwrap();
        assert_eq!(line.next(now + SECOND * 10), Some("some"));
        assert_eq!((line.next(now), line.next(now)), (Some("fresh"), None));
    }

    #[test]
    fn a_connection_that_has_ended_is_seen_behind_what_it_has_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        let orderer = Orderer { owner: Owner::Branch, address: None, connection: Some(&server) };
        let long_ago = Instant::now().checked_sub(HASH_GONE_AFTER).unwrap();
        assert!(!orderer.has_gone(long_ago));
        std::io::Write::write_all(&mut &client, b"unread").unwrap();
        drop(client);
        let deadline = Instant::now() + SECOND * 30;
        while !orderer.has_gone(long_ago) {
            assert!(Instant::now() < deadline);
        }
        assert!(!orderer.has_gone(Instant::now()), "without a crowd everyone is served");
    }
}
