//! Random bytes from the system, for challenges and request ids.

use std::io;

use crate::error::ClientError;

/// Fills `bytes`.
///
/// # Errors
/// `System` when the system gives none.
pub fn fill(bytes: &mut [u8]) -> Result<(), ClientError> {
    getrandom::fill(bytes).map_err(|error| ClientError::System(io::Error::other(error.to_string())))
}
