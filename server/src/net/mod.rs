//! The sockets of a branch: listening, accepting and counting clients, TLS. What is said over them is for `menu` and
//! `branch`.

pub mod accept;
pub mod listeners;
pub mod tls;
