//! What callers share, and how much of it one of them may have.
//!
//! An [`Allowance`] is a stated amount (of bytes, of places) of which each [`Owner`] gets a stated share at most. Who
//! asks for more than is left waits a stated time. So the whole has a bound whatever clients do, and none of them can
//! take it all: whoever wants a little finds it beside any one who wants everything.
//!
//! Left out: an order among those who wait. The shares see to it that one owner alone never makes the others wait.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use protocol::network::network_of;

/// Whose work something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The branch's own: what it owes to other branches, to its disk, to itself.
    Branch,
    /// Someone at this address, or in this network of IPv6, who has proved nothing.
    Stranger(IpAddr),
    /// The customer of this account, at any port; 0 is the administrator.
    Account(i64),
    /// Who holds the key, or is at an open branch: each connection by itself.
    Connection(u64),
}

impl Owner {
    /// Whoever is at this address and has proved nothing; all addresses of one network of IPv6 are one stranger's.
    #[must_use]
    pub fn stranger(address: IpAddr) -> Self {
        Self::Stranger(network_of(address))
    }
}

/// An amount that is shared.
///
/// Invariant: `used` is the sum of `by_owner`, and at most `total`; no entry of `by_owner` is 0 or above `share`.
#[derive(Debug)]
pub struct Allowance {
    total: usize,
    share: usize,
    books: Mutex<Books>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct Books {
    used: usize,
    by_owner: HashMap<Owner, usize>,
}

/// A part of an allowance, given back when dropped.
#[derive(Debug)]
pub struct Allowed {
    allowance: Arc<Allowance>,
    owner: Owner,
    amount: usize,
}

impl Allowance {
    /// So much in all, and so much for each owner.
    ///
    /// # Panics
    /// When a share is more than the whole.
    #[must_use]
    pub fn new(total: usize, share: usize) -> Arc<Self> {
        assert!(share <= total, "a share is a part of the whole");
        Arc::new(Self { total, share, books: Mutex::default(), freed: Condvar::new() })
    }

    /// Takes so much for an owner, and waits for it if need be. `None` when it is not free in time, or never.
    #[must_use]
    pub fn take(self: &Arc<Self>, owner: Owner, amount: usize, patience: Duration) -> Option<Allowed> {
        if amount > self.share {
            return None;
        }
        if amount == 0 {
            return Some(Allowed { allowance: Arc::clone(self), owner, amount });
        }
        let deadline = Instant::now() + patience;
        let mut books = self.books.lock();
        loop {
            let own = books.by_owner.get(&owner).copied().unwrap_or(0);
            if own + amount <= self.share && books.used + amount <= self.total {
                books.used += amount;
                *books.by_owner.entry(owner).or_default() += amount;
                return Some(Allowed { allowance: Arc::clone(self), owner, amount });
            }
            if self.freed.wait_until(&mut books, deadline).timed_out() {
                return None;
            }
        }
    }
}

impl Drop for Allowed {
    fn drop(&mut self) {
        let mut books = self.allowance.books.lock();
        books.used -= self.amount;
        if let Some(own) = books.by_owner.get_mut(&self.owner) {
            *own -= self.amount;
            if *own == 0 {
                books.by_owner.remove(&self.owner);
            }
        }
        drop(books);
        self.allowance.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn nobody_takes_more_than_a_share_and_all_together_no_more_than_there_is() {
        let allowance = Allowance::new(5, 2);
        let owners = [1, 2, 3].map(Owner::Account);
        assert!(allowance.take(owners[0], 3, NOW).is_none(), "more than a share is never given");
        let first = allowance.take(owners[0], 2, NOW).unwrap();
        assert!(allowance.take(owners[0], 1, NOW).is_none());
        let second = allowance.take(owners[1], 2, NOW).unwrap();
        assert!(allowance.take(owners[2], 2, NOW).is_none());
        let third = allowance.take(owners[2], 1, NOW).unwrap();
        drop(first);
        assert!(allowance.take(owners[2], 1, NOW).is_some());
        drop((second, third));
        let books = allowance.books.lock();
        assert_eq!((books.used, books.by_owner.len()), (0, 0));
    }

    #[test]
    fn who_waits_gets_what_is_given_back() {
        let allowance = Allowance::new(1, 1);
        let taken = allowance.take(Owner::Branch, 1, NOW).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| allowance.take(Owner::Account(1), 1, Duration::from_secs(30)).is_some());
            drop(taken);
            assert!(waiting.join().unwrap());
        });
    }
}
