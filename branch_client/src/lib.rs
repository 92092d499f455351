//! How programs call a branch, and the audit over all branches.
//!
//! - [`audit`]: the books of each branch, and of all against one another.

pub mod audit;
