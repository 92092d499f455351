//! Who is at the other end of a connection that a proxy made, by its headers `X-Forwarded-For` and `X-Forwarded-Proto`.
//!
//! Anyone can write such a header, so it counts only from an address that was named by `--trust-proxy`.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The client of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// From where it asks.
    pub address: IpAddr,
    /// Whether it asked the proxy by HTTPS.
    pub is_https: bool,
}

/// The client of a request that came from `peer`.
#[must_use]
pub fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpAddr]) -> Client {
    let peer = peer.to_canonical();
    if !trusted.contains(&peer) {
        return Client { address: peer, is_https: false };
    }
    let last = |name: &HeaderName| headers.get_all(name).iter().next_back().and_then(|text| text.to_str().ok());
    let is_https = last(&FORWARDED_PROTO).is_some_and(|protocol| protocol.trim().eq_ignore_ascii_case("https"));
    // Each proxy adds at the end whom it was asked by; what stands before the first stranger is the stranger's word.
    let hops = headers.get_all(FORWARDED_FOR).iter().filter_map(|text| text.to_str().ok());
    let hops: Vec<_> = hops.flat_map(|text| text.split(',')).map(|hop| hop.trim().parse::<IpAddr>()).collect();
    let mut address = peer;
    for hop in hops.into_iter().rev() {
        let Ok(hop) = hop else { break };
        address = hop.to_canonical();
        if !trusted.contains(&address) {
            break;
        }
    }
    Client { address, is_https }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(peer: &str, headers: &[(&'static str, &str)], address: &str, is_https: bool) {
        let mut map = HeaderMap::new();
        for (name, text) in headers {
            map.append(*name, text.parse().unwrap());
        }
        let trusted = ["127.0.0.1".parse().unwrap(), "10.0.0.1".parse().unwrap()];
        let expected = Client { address: address.parse().unwrap(), is_https };
        assert_eq!(client(peer.parse().unwrap(), &map, &trusted), expected, "{peer} {headers:?}");
    }

    #[test]
    fn only_a_trusted_proxy_says_who_asks() {
        check("127.0.0.1", &[("x-forwarded-for", "203.0.113.7"), ("x-forwarded-proto", "https")], "203.0.113.7", true);
        check("192.0.2.1", &[("x-forwarded-for", "203.0.113.7"), ("x-forwarded-proto", "https")], "192.0.2.1", false);
        check("::ffff:127.0.0.1", &[("x-forwarded-for", "203.0.113.7")], "203.0.113.7", false);
        check("127.0.0.1", &[], "127.0.0.1", false);
    }

    #[test]
    fn what_a_client_wrote_before_the_proxy_is_not_believed() {
        check("127.0.0.1", &[("x-forwarded-for", "1.1.1.1, 203.0.113.7")], "203.0.113.7", false);
        check("127.0.0.1", &[("x-forwarded-for", "1.1.1.1, 203.0.113.7, 10.0.0.1")], "203.0.113.7", false);
        check("127.0.0.1", &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "203.0.113.7")], "203.0.113.7", false);
        check("127.0.0.1", &[("x-forwarded-for", "203.0.113.7, nonsense")], "127.0.0.1", false);
        check("127.0.0.1", &[("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")], "127.0.0.1", false);
    }
}
