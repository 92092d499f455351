//! What the system holds between two ends of a connection over loopback: bytes sent and not taken, taken and not read.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::slice;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, SocketType};

use crate::wait::wait_until;

/// The room that the system gives to what comes for a client by [`connect_narrow`], in bytes.
const NARROW_BYTES: usize = 4 << 10;
/// Looks in a row that find the same, until it is believed that nothing flows any more.
const SAME_LOOKS: u32 = 50;

/// Connects a client that the system takes little for while it does not read.
#[must_use]
pub fn connect_narrow(port: u16) -> TcpStream {
    // The room has to be set before connecting.
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    set_socket_recv_buffer_size(&socket, NARROW_BYTES).unwrap();
    rustix::net::connect(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
    socket.into()
}

/// Whether an established connection of this port holds bytes that have come and nobody has read.
#[must_use]
pub fn has_unread_bytes(port: u16) -> bool {
    connections().any(|one| one.local == port && one.is_established && one.unread > 0)
}

/// What is held for a client that reads nothing, once no more is taken for it: bytes that were sent to it and have not
/// got there.
#[must_use]
pub fn held_for(client: &TcpStream) -> u64 {
    held_for_all(slice::from_ref(client))
}

/// The same for several, once something is held for each and no more is taken for any. They are looked at together: a
/// branch waits for none of them longer than it waits for one.
#[must_use]
pub fn held_for_all(clients: &[TcpStream]) -> u64 {
    let ports: BTreeSet<u16> = clients.iter().map(|client| client.local_addr().unwrap().port()).collect();
    let (mut last, mut looks) = (0, 0);
    wait_until("no more is taken for the client", || {
        let held: Vec<u64> = connections()
            .filter(|one| ports.contains(&one.remote))
            .map(|one| one.unsent)
            .filter(|held| *held > 0)
            .collect();
        // The system writes the table in pieces while connections come and go, so one can be missing from a look.
        if held.len() < ports.len() {
            return false;
        }
        let sum = held.iter().sum();
        looks = if sum == last { looks + 1 } else { 0 };
        last = sum;
        looks == SAME_LOOKS
    });
    last
}

struct Queues {
    local: u16,
    remote: u16,
    is_established: bool,
    unsent: u64,
    unread: u64,
}

/// The connections of the system's table: a number, both places, the state, and both queues.
fn connections() -> impl Iterator<Item = Queues> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let lines: Vec<_> = table.lines().skip(1).map(|line| queues(line).unwrap()).collect();
    lines.into_iter()
}

fn queues(line: &str) -> Option<Queues> {
    let port = |place: &str| u16::from_str_radix(place.rsplit_once(':')?.1, 16).ok();
    let bytes = |hex: &str| u64::from_str_radix(hex, 16).ok();
    let mut fields = line.split_whitespace().skip(1);
    let (local, remote) = (port(fields.next()?)?, port(fields.next()?)?);
    let is_established = fields.next()? == "01";
    let (unsent, unread) = fields.next()?.split_once(':')?;
    Some(Queues { local, remote, is_established, unsent: bytes(unsent)?, unread: bytes(unread)? })
}
