//! File descriptors: a test with thousands of clients needs more than a shell usually grants.

/// Lets this process, and the branches that it starts from now on, have as many open files as the system allows: other
/// tests of this process hold theirs at the same time.
///
/// # Panics
/// When that is below `wanted`.
pub fn raise_descriptor_limit(wanted: u64) {
    // No limit at all is `None`.
    let limit = command_line::descriptors::raise_limit();
    let is_enough = limit.is_none_or(|limit| limit >= wanted);
    assert!(is_enough, "this test needs {wanted} open files, and the hard limit is {limit:?} (ulimit -Hn)");
}
