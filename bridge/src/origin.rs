//! Whether a request is meant for this bridge and comes from its own page.
//!
//! A page anywhere can make a browser send requests here, and a name that anyone owns can be made to lead here
//! (DNS rebinding). So the Host must be one of ours, a request that says it comes from another origin is refused,
//! and so is one that the browser marks as cross-site. Programs that are no browsers send neither mark.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, Method, Uri, header};

use crate::error::Error;

/// The header by which browsers say how far away the page is that made the request (W3C Fetch Metadata).
const FETCH_SITE: &str = "sec-fetch-site";
/// And what for.
const FETCH_MODE: &str = "sec-fetch-mode";

/// Under which names the bridge may be asked for.
#[derive(Clone, Debug)]
pub struct Origins {
    listen: SocketAddr,
    names: Vec<String>,
}

impl Origins {
    /// The names of a bridge that listens there, and further ones.
    #[must_use]
    pub fn new(listen: SocketAddr, names: &[String]) -> Self {
        Self { listen, names: names.iter().map(|name| name.trim_matches(['[', ']']).to_ascii_lowercase()).collect() }
    }

    /// Whether a request may be answered.
    ///
    /// # Errors
    /// [`Error::Foreign`], saying why not.
    pub fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Error> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok());
        let (Some(host), None) = (host, hosts.next()) else {
            return Err(Error::Foreign("the request must name one Host"));
        };
        let is_meant = uri.authority().is_none_or(|authority| authority.as_str().eq_ignore_ascii_case(host));
        if !is_meant || !self.is_ours(host) {
            return Err(Error::Foreign("the Host is none of this bridge's (bank-bridge --allow-host)"));
        }
        if let Some(origin) = headers.get(header::ORIGIN) {
            let is_own = origin.to_str().is_ok_and(|origin| {
                let place = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
                place.is_some_and(|place| place.eq_ignore_ascii_case(host))
            });
            if !is_own {
                return Err(Error::Foreign("the request comes from another site's page"));
            }
        }
        let mark = |name: &str| headers.get(name).and_then(|mark| mark.to_str().ok()).unwrap_or_default();
        let is_from_elsewhere = matches!(mark(FETCH_SITE), "cross-site" | "same-site");
        // Following a link to the page is fine.
        let is_visit = *method == Method::GET && mark(FETCH_MODE) == "navigate" && uri.path() == "/";
        if is_from_elsewhere && !is_visit {
            return Err(Error::Foreign("the request comes from another site's page"));
        }
        Ok(())
    }

    fn is_ours(&self, host: &str) -> bool {
        let (name, port) = split(host);
        let is_loopback_only = self.listen.ip().is_loopback();
        let named = self.names.contains(&name);
        if is_loopback_only {
            let is_this_machine = name == "localhost" || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
            return (is_this_machine && port == Some(self.listen.port())) || (named && !is_this_machine);
        }
        // Beyond loopback the port may be a proxy's or a container's. No one's name can be made to be an address.
        named || name == "localhost" || name.parse::<IpAddr>().is_ok()
    }
}

/// The port of a Host.
#[must_use]
pub fn port_of(host: &str) -> u16 {
    split(host).1.unwrap_or_default()
}

/// Name and port; without one it is HTTP's.
fn split(host: &str) -> (String, Option<u16>) {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') && (!name.contains(':') || name.ends_with(']')) => {
            (name, port.parse().ok())
        }
        Some(_) | None => (host, Some(80)),
    };
    (name.trim_matches(['[', ']']).to_ascii_lowercase(), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listen: &str, headers: &[(&'static str, &str)]) -> bool {
        let origins = Origins::new(listen.parse().unwrap(), &["127.0.0.1".into(), "bank.example".into()]);
        let mut map = HeaderMap::new();
        for (name, text) in headers {
            map.append(*name, text.parse().unwrap());
        }
        origins.check(&Method::POST, &Uri::from_static("/deposit"), &map).is_ok()
    }

    const LOOPBACK: &str = "127.0.0.1:5000";
    const EVERYWHERE: &str = "0.0.0.0:5000";

    #[test]
    fn the_host_must_be_ours() {
        for host in ["127.0.0.1:5000", "localhost:5000", "LOCALHOST:5000", "[::1]:5000", "bank.example"] {
            assert!(check(LOOPBACK, &[("host", host)]), "{host}");
        }
        for host in
            ["evil.example:5000", "127.0.0.1", "127.0.0.1:5001", "127.0.0.1.evil.example:5000", "", "10.0.0.1:5000"]
        {
            assert!(!check(LOOPBACK, &[("host", host)]), "{host}");
        }
        assert!(!check(LOOPBACK, &[]), "without a host");
        assert!(!check(LOOPBACK, &[("host", LOOPBACK), ("host", LOOPBACK)]), "with two");
        for host in ["10.0.0.1:5000", "localhost:8080", "bank.example:8443", "[fe80::1]:80"] {
            assert!(check(EVERYWHERE, &[("host", host)]), "{host}");
        }
        assert!(!check(EVERYWHERE, &[("host", "evil.example:5000")]));
    }

    #[test]
    fn another_sites_page_is_refused() {
        let host = ("host", LOOPBACK);
        assert!(check(LOOPBACK, &[host, ("origin", "http://127.0.0.1:5000"), ("sec-fetch-site", "same-origin")]));
        assert!(check(LOOPBACK, &[host, ("sec-fetch-site", "none")]));
        for origin in ["http://evil.example", "null", "http://127.0.0.1:5001", "http://localhost:5000", "file://"] {
            assert!(!check(LOOPBACK, &[host, ("origin", origin)]), "{origin}");
        }
        assert!(!check(LOOPBACK, &[host, ("sec-fetch-site", "cross-site")]));
        assert!(!check(LOOPBACK, &[host, ("sec-fetch-site", "same-site")]), "another port of this machine");
    }

    #[test]
    fn a_link_to_the_page_may_be_followed() {
        let origins = Origins::new(LOOPBACK.parse().unwrap(), &[]);
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, LOOPBACK.parse().unwrap());
        headers.insert(FETCH_SITE, "cross-site".parse().unwrap());
        headers.insert(FETCH_MODE, "navigate".parse().unwrap());
        let visit =
            |method: Method, path: &'static str| origins.check(&method, &Uri::from_static(path), &headers).is_ok();
        assert!(visit(Method::GET, "/"));
        assert!(!visit(Method::POST, "/") && !visit(Method::GET, "/audit"));
        assert!(!visit(Method::GET, "http://evil.example/"), "a request line that names another host");
    }
}
