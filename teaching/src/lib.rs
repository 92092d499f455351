//! What a class sees of a bank: lessons that drive real branches, and one transfer drawn from the events of all of them.
//!
//! [`lessons`] and [`trace`] know nothing of one another. Both are functions of what they are handed: there is no socket
//! and no thread in here. Whoever holds connections to the branches, the client or the bridge, asks them, and shows what
//! comes of it. What a branch does in teaching mode (faults, steps, crash points) is the server's.

pub mod lessons;
pub mod trace;
