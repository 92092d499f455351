//! File descriptors: a test with thousands of clients needs more than a shell usually grants.

use std::sync::{Mutex, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Reading the limit and setting it is one step, whichever tests run side by side.
static RAISING: Mutex<()> = Mutex::new(());

/// Lets this process, and the branches that it starts from now on, have `wanted` open files more than before: other
/// tests of this process hold theirs at the same time.
///
/// # Panics
/// When the system's hard limit is below `wanted`.
pub fn raise_descriptor_limit(wanted: u64) {
    let _raising = RAISING.lock().unwrap_or_else(PoisonError::into_inner);
    let limit = getrlimit(Resource::Nofile);
    // No limit at all is `None`.
    let Some(current) = limit.current else { return };
    let possible = limit.maximum.is_none_or(|maximum| maximum >= wanted);
    assert!(possible, "this test needs {wanted} open files, and the hard limit is {:?} (ulimit -Hn)", limit.maximum);
    let raised = limit.maximum.map_or(current + wanted, |maximum| maximum.min(current + wanted));
    setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum }).unwrap();
}
