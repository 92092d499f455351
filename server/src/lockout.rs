//! Wrong passwords: counted by account and by address, answered ever later, and locked after a few.
//!
//! A try during a pause or a lock is refused at once, without a look at the password and without a hash: it
//! costs nothing, counts nothing, and says how long is left. Whoever guesses gets a few tries a lock,
//! whoever mistypes gets in again by waiting. Nothing has to be unlocked by hand: every lock ends by itself.
//!
//! Kept true:
//! - account numbers that don't exist are counted like those that do, so a lock tells nothing about which is which;
//! - tries at the same account from loopback and from elsewhere are counted apart, so nobody on the network can
//!   lock the administrator out at the branch's own machine;
//! - guesses that are hashed at the same time gain nothing: a password that turns out right while
//!   its account or address has become paused is refused like all others;
//! - the memory is bounded: past [`LOCKOUT_ENTRIES`] the entry nearest to being free makes room.
//!
//! Left out: the counts are not on disk, so a restart forgets them. Someone who can restart the branch can
//! set passwords anyway.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use protocol::network::network_of;

use crate::limits::{
    ACCOUNT_LOCK_FROM, ACCOUNT_PAUSE_FROM, ADDRESS_LOCK_FROM, ADDRESS_PAUSE_FROM, LOCKOUT_ENTRIES, LOCKOUT_FORGET,
    LOCKOUT_LOCK, LOCKOUT_PAUSE_FIRST,
};

/// Where a try comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client that is connected from this address.
    Address(IpAddr),
    /// A program that asks for people elsewhere, whose addresses it alone knows: the bridge.
    OnBehalf,
}

/// The counts of wrong passwords.
#[derive(Debug, Default)]
pub struct Lockout {
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    accounts: Book<AccountKey>,
    addresses: Book<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct AccountKey {
    account_num: i64,
    is_loopback: bool,
}

impl Lockout {
    /// How long this try has to wait; `None` when it may be made.
    #[must_use]
    pub fn wait(&self, account_num: i64, origin: Origin, now: Instant) -> Option<Wait> {
        self.books.lock().wait(account_num, origin, now)
    }

    /// Counts a try that was made: whether the password was right.
    ///
    /// A right one lets the account's count begin anew. The address's goes on, or whoever has an account of
    /// their own could try all others.
    ///
    /// # Errors
    /// When other tries have meanwhile paused the account or the address: this one does not count, and what
    /// it found must not be told.
    pub fn settle(&self, account_num: i64, origin: Origin, is_right: bool, now: Instant) -> Result<(), Wait> {
        let mut books = self.books.lock();
        if let Some(wait) = books.wait(account_num, origin, now) {
            return Err(wait);
        }
        let key = account_key(account_num, origin);
        if is_right {
            books.accounts.entries.remove(&key);
            return Ok(());
        }
        if books.accounts.count(key, now, ACCOUNT_PAUSE_FROM, ACCOUNT_LOCK_FROM) {
            log::warn!("account {account_num} is locked for {}: too many wrong passwords", Wait(LOCKOUT_LOCK));
        }
        if let Some(address) = address_key(origin)
            && books.addresses.count(address, now, ADDRESS_PAUSE_FROM, ADDRESS_LOCK_FROM)
        {
            log::warn!("log-ins from {address} are locked for {}: too many wrong passwords", Wait(LOCKOUT_LOCK));
        }
        Ok(())
    }
}

impl Books {
    fn wait(&self, account_num: i64, origin: Origin, now: Instant) -> Option<Wait> {
        let account = self.accounts.wait(&account_key(account_num, origin), now);
        let address = address_key(origin).and_then(|address| self.addresses.wait(&address, now));
        account.max(address).map(Wait)
    }
}

/// The time until the next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait(Duration);

impl Wait {
    /// So long.
    #[must_use]
    pub const fn new(time: Duration) -> Self {
        Self(time)
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded up: who waits so long is let in.
        let seconds = self.0.as_secs() + u64::from(self.0.subsec_nanos() > 0);
        match (seconds, seconds.div_ceil(60)) {
            (1, _) => f.write_str("1 second"),
            (..120, _) => write!(f, "{seconds} seconds"),
            (_, minutes) => write!(f, "{minutes} minutes"),
        }
    }
}

#[derive(Debug)]
struct Book<K> {
    entries: HashMap<K, Entry>,
}

impl<K> Default for Book<K> {
    fn default() -> Self {
        Self { entries: HashMap::new() }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    wrong: u32,
    last: Instant,
    free_from: Instant,
}

impl Entry {
    fn is_forgotten(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= LOCKOUT_FORGET
    }
}

impl<K: Hash + Eq + Copy> Book<K> {
    fn wait(&self, key: &K, now: Instant) -> Option<Duration> {
        let left = self.entries.get(key)?.free_from.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Counts one more; `true` when that locks.
    fn count(&mut self, key: K, now: Instant, pause_from: u32, lock_from: u32) -> bool {
        if !self.entries.contains_key(&key) {
            self.make_room(now);
        }
        let entry = self.entries.entry(key).or_insert(Entry { wrong: 0, last: now, free_from: now });
        if entry.is_forgotten(now) {
            entry.wrong = 0;
        }
        entry.wrong = entry.wrong.saturating_add(1);
        entry.last = now;
        let is_locked = entry.wrong >= lock_from;
        let pause = match entry.wrong.checked_sub(pause_from) {
            None => Duration::ZERO,
            Some(_) if is_locked => LOCKOUT_LOCK,
            Some(doublings) => LOCKOUT_PAUSE_FIRST * 2u32.saturating_pow(doublings),
        };
        entry.free_from = entry.free_from.max(now + pause);
        is_locked
    }

    fn make_room(&mut self, now: Instant) {
        if self.entries.len() < LOCKOUT_ENTRIES {
            return;
        }
        self.entries.retain(|_, entry| !entry.is_forgotten(now));
        if self.entries.len() < LOCKOUT_ENTRIES {
            return;
        }
        // Those with the least to lose go first, so a flood of new addresses or numbers frees no locked one early.
        let first = self.entries.iter().min_by_key(|(_, entry)| (entry.free_from, entry.wrong)).map(|(key, _)| *key);
        if let Some(first) = first {
            self.entries.remove(&first);
        }
    }
}

fn account_key(account_num: i64, origin: Origin) -> AccountKey {
    let is_loopback = match origin {
        Origin::Address(address) => address.to_canonical().is_loopback(),
        Origin::OnBehalf => false,
    };
    AccountKey { account_num, is_loopback }
}

fn address_key(origin: Origin) -> Option<IpAddr> {
    match origin {
        Origin::OnBehalf => None,
        Origin::Address(address) => Some(network_of(address)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NEAR: Origin = Origin::Address(IpAddr::V6(Ipv6Addr::LOCALHOST));

    fn far(last: u8) -> Origin {
        Origin::Address(IpAddr::from([192, 0, 2, last]))
    }

    fn text(wait: Option<Wait>) -> String {
        wait.map_or_else(String::new, |wait| wait.to_string())
    }

    /// Wrong passwords one after the other, each as soon as it is let in; gives when the last one was tried.
    fn guess(lockout: &Lockout, account_num: i64, origin: Origin, mut now: Instant, tries: u32) -> Instant {
        for _ in 0..tries {
            if let Some(Wait(left)) = lockout.wait(account_num, origin, now) {
                now += left;
            }
            lockout.settle(account_num, origin, false, now).unwrap();
        }
        now
    }

    #[test]
    fn pauses_grow_and_then_the_account_is_locked_until_the_lock_ends_by_itself() {
        let (lockout, mut now) = (Lockout::default(), Instant::now());
        let mut waits = Vec::new();
        for number in 1..=ACCOUNT_LOCK_FROM {
            now = guess(&lockout, 1001, far(u8::try_from(number).unwrap()), now, 1);
            waits.push(text(lockout.wait(1001, far(200), now)));
        }
        assert_eq!(waits, ["", "", "", "", "1 second", "2 seconds", "4 seconds", "5 minutes"]);
        assert_eq!(lockout.wait(1002, far(1), now), None, "other accounts are not meant");
        assert_eq!(text(lockout.wait(1001, far(1), now + LOCKOUT_LOCK - SECOND / 2)), "1 second");
        let after = now + LOCKOUT_LOCK;
        assert_eq!(lockout.wait(1001, far(1), after), None);
        // One more wrong one locks again; the right one forgets them all.
        lockout.settle(1001, far(1), false, after).unwrap();
        assert_eq!(text(lockout.wait(1001, far(1), after)), "5 minutes");
        let after = after + LOCKOUT_LOCK;
        lockout.settle(1001, far(1), true, after).unwrap();
        assert_eq!(lockout.wait(1001, far(1), after), None);
        lockout.settle(1001, far(1), false, after).unwrap();
        assert_eq!(lockout.wait(1001, far(1), after), None);
    }

    #[test]
    fn an_address_that_tries_many_accounts_is_locked_everywhere_and_others_are_not() {
        let (lockout, now) = (Lockout::default(), Instant::now());
        let mut tried = now;
        for number in 0..ADDRESS_LOCK_FROM {
            tried = guess(&lockout, 5000 + i64::from(number), far(7), tried, 1);
            // A right password in between does not help.
            let _ = lockout.settle(1001, far(7), true, tried);
        }
        assert_eq!(text(lockout.wait(1001, far(7), tried)), "5 minutes");
        assert_eq!(lockout.wait(1001, far(8), tried), None);
        assert_eq!(lockout.wait(1001, Origin::OnBehalf, tried), None);
    }

    #[test]
    fn the_network_does_not_lock_the_branches_own_machine_out() {
        let (lockout, now) = (Lockout::default(), Instant::now());
        let now = guess(&lockout, 0, Origin::OnBehalf, now, ACCOUNT_LOCK_FROM);
        assert!(lockout.wait(0, far(1), now).is_some());
        assert_eq!(lockout.wait(0, NEAR, now), None);
        assert_eq!(lockout.wait(0, Origin::Address("::ffff:127.0.0.1".parse().unwrap()), now), None);
    }

    #[test]
    fn a_try_that_others_overtook_finds_nothing_out() {
        let (lockout, now) = (Lockout::default(), Instant::now());
        // Many guesses are being hashed; they settle one after the other, the right one last.
        for _ in 0..ACCOUNT_PAUSE_FROM {
            assert_eq!(lockout.settle(1001, far(1), false, now), Ok(()));
        }
        for is_right in [false, true] {
            assert_eq!(lockout.settle(1001, far(1), is_right, now), Err(Wait(SECOND)));
        }
        assert_eq!(lockout.settle(1001, far(1), true, now + SECOND), Ok(()));
    }

    #[test]
    fn wrong_passwords_are_forgotten_after_a_quiet_time() {
        let (lockout, now) = (Lockout::default(), Instant::now());
        let now = guess(&lockout, 1001, far(1), now, ACCOUNT_PAUSE_FROM - 1) + LOCKOUT_FORGET;
        lockout.settle(1001, far(1), false, now).unwrap();
        assert_eq!(lockout.wait(1001, far(1), now), None);
    }

    #[test]
    fn a_flood_is_bounded_and_frees_nobody_who_is_locked() {
        let (lockout, now) = (Lockout::default(), Instant::now());
        let now = guess(&lockout, 1001, Origin::OnBehalf, now, ACCOUNT_LOCK_FROM);
        for number in 0..LOCKOUT_ENTRIES + 100 {
            let address = Origin::Address(IpAddr::V4(u32::try_from(number).unwrap().into()));
            lockout.settle(i64::try_from(2_000 + number).unwrap(), address, false, now).unwrap();
        }
        let books = lockout.books.lock();
        assert_eq!(books.accounts.entries.len(), LOCKOUT_ENTRIES);
        assert_eq!(books.addresses.entries.len(), LOCKOUT_ENTRIES);
        drop(books);
        assert!(lockout.wait(1001, Origin::OnBehalf, now).is_some());
    }

    #[test]
    fn neighbours_in_one_network_of_ipv6_are_one_address() {
        let key = |text: &str| address_key(Origin::Address(text.parse().unwrap()));
        assert_eq!(key("2001:db8:1:2:aaaa::1"), key("2001:db8:1:2:bbbb::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
    }
}
