//! File descriptors: a test with thousands of clients needs more than a shell usually grants.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets this process, and the branches that it starts from now on, have `wanted` open files.
///
/// # Panics
/// When the system's hard limit is below that.
pub fn raise_descriptor_limit(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    // No limit at all is `None`.
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let possible = limit.maximum.is_none_or(|maximum| maximum >= wanted);
    assert!(possible, "this test needs {wanted} open files, and the hard limit is {:?} (ulimit -Hn)", limit.maximum);
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }).unwrap();
}
