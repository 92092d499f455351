//! What `--host` names: an address, or a name that has one.

use std::net::{IpAddr, ToSocketAddrs as _};

use protocol::bare_host;
use protocol::io_words::IoWords;

/// An address, or the first address of a name such as `localhost`.
///
/// # Errors
/// That the name has none, in one sentence.
pub fn resolve_host(host: &str) -> Result<IpAddr, String> {
    let host = bare_host(host);
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let resolved = (host, 0).to_socket_addrs().map_err(|error| format!("--host {host}: {}", IoWords(&error)))?;
    let mut addresses: Vec<_> = resolved.map(|address| address.ip()).collect();
    // A name such as localhost may have both kinds of address; IPv4 is what people type and clients try first.
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.first().copied().ok_or_else(|| format!("--host {host}: the name has no address"))
}
