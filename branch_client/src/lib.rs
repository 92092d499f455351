//! How programs call a branch: the client, the bridge, the benchmark, and branches one another.
//!
//! - [`mod@connect`]: a socket to a host, over TLS or not, in a bounded time;
//! - [`keys`]: the branch keys that may be proved, and where they are found;
//! - [`mod@open`]: a connection on which both sides have proved that they hold the key;
//! - [`caller`]: requests to one branch, sent again under their id when no answer comes;
//! - [`request_id`]: those ids;
//! - [`audit`]: the books of each branch, and of all against one another.
//!
//! Kept true:
//! - every step takes a bounded time, by the limits of whoever calls ([`TimeLimits`]);
//! - the branch proves the key first, so that a stranger at its address learns nothing;
//! - a request is sent again only in the same bytes and under the same id, so it is carried out once at most.
//!
//! Errors say what happened as data. What a person is told, and what to do next, is each program's to say: the flags that
//! mend it have other names there. Left out: requests sent ahead of their answers, which
//! [`protocol::connection::Connection`] does for who wants it; and where branches are, which one branch says of others.

pub mod audit;
pub mod caller;
pub mod connect;
pub mod keys;
pub mod open;
pub mod request_id;

pub use caller::{Caller, Cause, Request, Retry, Unanswered};
pub use connect::{ConnectError, TimeLimits, connect};
pub use keys::Keys;
pub use open::{Credentials, OpenError, Opened, open, prove};
pub use request_id::RequestId;
