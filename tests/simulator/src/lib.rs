//! The bank on a seeded clock, network and set of disks.
//!
//! Everything that chance decides is drawn from one seed: how many branches there are, what is asked of them, how the
//! network treats each message, which process dies between which two steps, and what its disk had got hold of. So a run
//! that went wrong is run again by its seed. There are two simulators:
//!
//! - [`bank`] drives the server's own code, on real SQLite files, and is the one that judges the branch as it is;
//! - [`machines`] drives the two machines of `two_phase_commit` alone, a hundred times as fast.
//!
//! What both leave out: sockets and threads (the tests with real processes have those).

pub mod bank;
pub mod machines;
pub mod rng;
pub mod trace;

use std::cell::Cell;
use std::sync::Once;

thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
}

/// Has a panic in this thread say which seed it came of: whoever finds itself wrong doesn't know.
///
/// A process that is meant to die unwinds silently.
pub fn say_which_seed(seed: u64) {
    static HOOK: Once = Once::new();
    SEED.set(seed);
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<bank::host::Crash>().is_none() {
                eprintln!("seed {}:", SEED.get());
                before(info);
            }
        }));
    });
}
