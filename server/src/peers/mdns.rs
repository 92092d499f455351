//! mDNS (`--mdns`): the branch tells the local network its name and port, and meets those of its bank that do.
//!
//! Which bank a branch is of shows by a fingerprint of the key, so that strangers are passed over without a
//! word. The fingerprint proves nothing, for anyone can repeat it: whoever is heard of is dialled, and only the proof
//! of the key and the name said then count, as everywhere in [`crate::peers::discovery`].
//!
//! A branch that listens on loopback is announced there alone, and one that listens at an address, on that
//! address's network. Where multicast isn't available the log says so, and the branch goes on without.
//! (RFC 6762, multicast DNS; RFC 6763, DNS-based service discovery.)

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mdns_sd::{DaemonEvent, IfKind, Receiver, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo};
use protocol::proof::BranchKey;
use protocol::{Address, BranchName};
use sha2::{Digest as _, Sha256};
use two_phase_commit::PeerAddr;

use crate::limits::{BRANCHES, DISCOVERY_INTERVAL, MDNS_ADDRESSES, MDNS_GOODBYE, MDNS_SILENCE};
use crate::peers::links::Links;

/// The kind of service that a branch is, in DNS-SD's terms.
const SERVICE: &str = "_bank-branch._tcp.local.";
/// The TXT entry with the fingerprint of the bank's key.
const TXT_BANK: &str = "bank";
/// The TXT entry with the branch's name.
const TXT_NAME: &str = "name";
/// Bytes of the fingerprint: enough to tell banks apart, and no help in guessing 32 random bytes.
const FINGERPRINT_BYTES: usize = 8;

/// The announcement; taken back by [`Mdns::stop`].
pub struct Mdns {
    daemon: ServiceDaemon,
    full_name: String,
}

impl Mdns {
    /// Announces the branch that listens at `listening`, and meets others from now on, until the links are stopped.
    ///
    /// # Errors
    /// What the operating system or the network refuses.
    pub fn start(links: &Arc<Links>, listening: SocketAddr, key: &BranchKey) -> Result<Self, mdns_sd::Error> {
        let daemon = ServiceDaemon::new()?;
        let info = announcement(links.own_name(), listening, key)?;
        let full_name = info.get_fullname().to_string();
        if !listening.ip().is_unspecified() {
            let kind = match listening.ip() {
                ip if ip.is_loopback() && ip.is_ipv4() => IfKind::LoopbackV4,
                ip if ip.is_loopback() => IfKind::LoopbackV6,
                ip => IfKind::Addr(ip),
            };
            daemon.disable_interface(IfKind::All)?;
            daemon.enable_interface(kind)?;
        }
        let monitor = daemon.monitor()?;
        let heard = daemon.browse(SERVICE)?;
        daemon.register(info)?;
        let listener = Listener { links: Arc::clone(links), bank: fingerprint(key), heard: BTreeMap::new() };
        if let Err(error) = links.spawn("mdns", move || listener.run(&heard, &monitor)) {
            log::warn!("nobody is heard by mDNS: {error}");
        }
        Ok(Self { daemon, full_name })
    }

    /// Takes the announcement back, so that others need not find out by trying.
    pub fn stop(self) {
        // What can't be said any more expires by itself.
        if let Ok(done) = self.daemon.unregister(&self.full_name) {
            let _ = done.recv_timeout(MDNS_GOODBYE);
        }
        if let Ok(done) = self.daemon.shutdown() {
            let _ = done.recv_timeout(MDNS_GOODBYE);
        }
    }
}

fn announcement(name: &BranchName, listening: SocketAddr, key: &BranchKey) -> Result<ServiceInfo, mdns_sd::Error> {
    // Two branches of one name, and two banks on one network, must not fight over a name in DNS.
    let unique = format!("{name}-{}-{}", std::process::id(), listening.port());
    let entries = [(TXT_BANK, fingerprint(key)), (TXT_NAME, name.to_string())];
    let host = format!("bank-{}.local.", unique.to_lowercase().replace(['_', '.'], "-"));
    if listening.ip().is_unspecified() {
        return Ok(ServiceInfo::new(SERVICE, &unique, &host, "", listening.port(), &entries[..])?.enable_addr_auto());
    }
    ServiceInfo::new(SERVICE, &unique, &host, listening.ip(), listening.port(), &entries[..])
}

/// What stands for the key in public.
fn fingerprint(key: &BranchKey) -> String {
    let digest = Sha256::digest(format!("the bank of the branch key {}", key.to_text()));
    digest[..FINGERPRINT_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A branch that was heard of.
struct Heard {
    name: BranchName,
    addresses: Vec<Address>,
}

struct Listener {
    links: Arc<Links>,
    bank: String,
    /// By the name in DNS. At most [`BRANCHES`].
    heard: BTreeMap<String, Heard>,
}

impl Listener {
    fn run(mut self, events: &Receiver<ServiceEvent>, monitor: &Receiver<DaemonEvent>) {
        let mut watch = Watch { silent_until: Some(Instant::now() + MDNS_SILENCE) };
        let mut next_round = Instant::now() + DISCOVERY_INTERVAL;
        while !self.links.is_stopping() {
            watch.look(monitor);
            // Short enough for a stop to be noticed, and for the monitor.
            match events.recv_timeout(Duration::from_millis(250)) {
                Ok(ServiceEvent::ServiceResolved(service)) => self.hear(&service),
                Ok(ServiceEvent::ServiceRemoved(_, full_name)) => drop(self.heard.remove(&full_name)),
                // The search itself, and names whose addresses are not known yet.
                Ok(_) => {}
                Err(_) if events.is_disconnected() => return,
                Err(_) => {}
            }
            if Instant::now() >= next_round {
                self.heard.values().for_each(|heard| self.meet(heard));
                next_round = Instant::now() + DISCOVERY_INTERVAL;
            }
        }
    }

    fn hear(&mut self, service: &ResolvedService) {
        if service.txt_properties.get_property_val_str(TXT_BANK) != Some(&self.bank) {
            return log::debug!("mDNS: {} is of another bank", service.fullname);
        }
        let name = service.txt_properties.get_property_val_str(TXT_NAME).and_then(|name| name.parse().ok());
        let Some(name) = name.filter(|name| name != self.links.own_name()) else { return };
        let mut addresses: Vec<_> = service.addresses.iter().map(mdns_sd::ScopedIp::to_ip_addr).collect();
        addresses.sort_by_key(|ip| (ip.is_ipv6(), *ip));
        let at = |ip: std::net::IpAddr| Address::from((ip, service.port));
        let heard = Heard { name, addresses: addresses.into_iter().take(MDNS_ADDRESSES).map(at).collect() };
        self.meet(&heard);
        if self.heard.len() < BRANCHES || self.heard.contains_key(&service.fullname) {
            self.heard.insert(service.fullname.clone(), heard);
        }
    }

    fn meet(&self, heard: &Heard) {
        if self.links.is_up(&PeerAddr::from(&heard.name)) == Some(true) {
            return;
        }
        for address in &heard.addresses {
            match self.links.name_at(address) {
                Ok(found) => return log::info!("branch {found} at {address} was found by mDNS"),
                Err(error) => log::debug!("mDNS told of branch {} at {address}: {error}", heard.name),
            }
        }
    }
}

/// Notices when nothing can be announced.
struct Watch {
    silent_until: Option<Instant>,
}

impl Watch {
    fn look(&mut self, monitor: &Receiver<DaemonEvent>) {
        for event in monitor.try_iter() {
            match event {
                DaemonEvent::Announce(_, interface) if self.silent_until.is_some() => {
                    log::info!("this branch is announced by mDNS: {interface}");
                    self.silent_until = None;
                }
                DaemonEvent::Error(error) => log::warn!("mDNS: {error}"),
                // Repetitions, answers, and changes of the machine's addresses, which the daemon follows.
                _ => {}
            }
        }
        if self.silent_until.is_some_and(|until| Instant::now() >= until) {
            log::warn!("mDNS: no network here carries multicast; other branches are found by --peers");
            self.silent_until = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_tells_banks_apart_and_not_their_keys() {
        let (one, other) = (BranchKey::from_bytes([1; 32]), BranchKey::from_bytes([2; 32]));
        assert_eq!(fingerprint(&one), fingerprint(&one.clone()));
        assert_ne!(fingerprint(&one), fingerprint(&other));
        assert_eq!(fingerprint(&one).len(), 2 * FINGERPRINT_BYTES);
        assert!(!one.to_text().contains(&fingerprint(&one)));
    }

    #[test]
    fn any_branch_name_can_be_announced() {
        let key = BranchKey::from_bytes([1; 32]);
        for name in ["Mumbai", "a", "North_West.2", &"x".repeat(protocol::ids::BRANCH_NAME_BYTES_MAX)] {
            for listening in ["127.0.0.1:9100", "0.0.0.0:65535", "[::1]:9100"] {
                let info = announcement(&name.parse().unwrap(), listening.parse().unwrap(), &key).unwrap();
                assert_eq!(info.get_property_val_str(TXT_NAME), Some(name));
                assert!(info.get_fullname().len() < 255, "{}", info.get_fullname());
            }
        }
    }
}
