//! The browsers of a class, as a bridge meets them: streams of `GET /events`, of which one is never read. What the
//! system would take for that one is kept small, so that the bridge soon finds it stalled.
//!
//! Two threads read all that comes of the others, and do nothing else with it: on another machine, where browsers
//! are, they would cost the branches nothing. How much they cost here can be asked for by their thread ids.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, SocketType};
use serde::Serialize;

use crate::processor_time;

/// Threads that read.
const READERS: usize = 2;
/// The pause between two looks at a stream: the bridge writes to each at most every 200 ms.
const READ_EVERY: Duration = Duration::from_millis(50);
/// How long the bridge may take to begin an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// What is read at once, in bytes.
const READ_BYTES: usize = 64 << 10;
/// What the system takes at most for the stream that is not read, in bytes.
const STALLED_BYTES: usize = 16 << 10;
/// The longest head of an answer, in bytes.
const HEAD_BYTES: usize = 8 << 10;

/// Open streams.
pub struct Browsers {
    stalled: TcpStream,
    stop: Arc<AtomicBool>,
    readers: Vec<(u32, JoinHandle<Result<Received, String>>)>,
}

/// What came of the streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Received {
    /// Streams that were read.
    pub streams: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Bytes of the one that got least.
    pub least_bytes: u64,
    /// Bytes that waited at the end for the one that is not read, in the system's buffers.
    pub stalled_bytes: u64,
}

impl Received {
    /// Adds those of other streams, or of another time.
    pub fn add(self, other: Self) -> Self {
        let least_bytes = if self.streams == 0 { other.least_bytes } else { self.least_bytes.min(other.least_bytes) };
        Self {
            streams: self.streams + other.streams,
            bytes: self.bytes + other.bytes,
            least_bytes,
            stalled_bytes: self.stalled_bytes.max(other.stalled_bytes),
        }
    }
}

impl Browsers {
    /// Opens so many streams, one of which is never read.
    ///
    /// # Errors
    /// One sentence when the bridge refuses one.
    pub fn open(bridge: SocketAddr, count: usize) -> Result<Self, String> {
        // It asks for all that the bridge has kept, so that much waits for it soon.
        let mut stalled = connect_narrow(bridge)?;
        request(&mut stalled, bridge, "/events?after=1")?;
        let mut lanes: Vec<Vec<TcpStream>> = (0..READERS).map(|_| Vec::new()).collect();
        for index in 1..count {
            lanes[index % READERS].push(open_stream(bridge)?);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let readers = lanes.into_iter().map(|lane| start_reader(lane, &stop)).collect::<Result<_, _>>()?;
        Ok(Self { stalled, stop, readers })
    }

    /// The threads that read.
    pub fn reader_ids(&self) -> impl Iterator<Item = u32> {
        self.readers.iter().map(|(id, _)| *id)
    }

    /// Closes the streams.
    ///
    /// # Errors
    /// One sentence when the bridge had closed one of them.
    pub fn close(self) -> Result<Received, String> {
        let stalled_bytes = waiting_bytes(&self.stalled)?;
        self.stop.store(true, Ordering::Relaxed);
        let mut sum = Received { stalled_bytes, ..Received::default() };
        for (_, reader) in self.readers {
            sum = sum.add(reader.join().unwrap_or_else(|_| Err("a thread that reads streams panicked".into()))?);
        }
        Ok(sum)
    }
}

fn connect(bridge: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(bridge).map_err(|error| failed(&error))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT)).map_err(|error| failed(&error))?;
    Ok(stream)
}

/// Connects with little room for what comes; the room has to be set before.
fn connect_narrow(bridge: SocketAddr) -> Result<TcpStream, String> {
    let socket = || -> rustix::io::Result<TcpStream> {
        let family = if bridge.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
        set_socket_recv_buffer_size(&socket, STALLED_BYTES)?;
        rustix::net::connect(&socket, &bridge)?;
        Ok(socket.into())
    };
    socket().map_err(|error| failed(&error.into()))
}

fn failed(error: &std::io::Error) -> String {
    format!("a stream of the bridge: {error}")
}

fn request(stream: &mut TcpStream, bridge: SocketAddr, path: &str) -> Result<(), String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {bridge}\r\nAccept: text/event-stream\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|error| failed(&error))
}

/// Opens a stream and reads the head of its answer.
fn open_stream(bridge: SocketAddr) -> Result<TcpStream, String> {
    let mut stream = connect(bridge)?;
    request(&mut stream, bridge, "/events")?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_BYTES {
            return Err("the bridge's answer begins with too long a head".into());
        }
        stream.read_exact(&mut byte).map_err(|error| failed(&error))?;
        head.extend_from_slice(&byte);
    }
    let head = String::from_utf8_lossy(&head);
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(format!("the bridge gives no stream: {}", head.lines().next().unwrap_or_default()));
    }
    stream.set_nonblocking(true).map_err(|error| failed(&error))?;
    Ok(stream)
}

fn start_reader(
    streams: Vec<TcpStream>,
    stop: &Arc<AtomicBool>,
) -> Result<(u32, JoinHandle<Result<Received, String>>), String> {
    let (tell, told) = mpsc::channel();
    let stop = Arc::clone(stop);
    let read = move || {
        // Whoever started this waits for it.
        let _ = tell.send(processor_time::own_thread());
        read_all(streams, &stop)
    };
    let thread = std::thread::Builder::new().name("browsers".into()).spawn(read);
    let thread = thread.map_err(|error| format!("no thread for streams: {error}"))?;
    let id = told.recv().map_err(|_| "a thread that reads streams ended at once")??;
    Ok((id, thread))
}

/// Reads what comes until it is told to stop.
fn read_all(mut streams: Vec<TcpStream>, stop: &AtomicBool) -> Result<Received, String> {
    let mut counts = vec![0_u64; streams.len()];
    let mut buffer = vec![0; READ_BYTES];
    while !stop.load(Ordering::Relaxed) {
        for (stream, count) in streams.iter_mut().zip(&mut counts) {
            *count += read_some(stream, &mut buffer)?;
        }
        std::thread::sleep(READ_EVERY);
    }
    Ok(Received {
        streams: counts.len() as u64,
        bytes: counts.iter().sum(),
        least_bytes: counts.iter().copied().min().unwrap_or(0),
        stalled_bytes: 0,
    })
}

/// Reads what has come. Returns how much that is.
fn read_some(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<u64, String> {
    let mut count = 0;
    loop {
        match stream.read(buffer) {
            Ok(0) => return Err("the bridge closed a stream that was read".into()),
            Ok(bytes) => {
                count += bytes as u64;
                if bytes < buffer.len() {
                    return Ok(count);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(count),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(&error)),
        }
    }
}

/// What waits for a stream at both of its ends on this machine.
fn waiting_bytes(stream: &TcpStream) -> Result<u64, String> {
    let port = stream.local_addr().map_err(|error| failed(&error))?.port();
    let path = "/proc/net/tcp";
    let connections = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    Ok(connections.lines().filter_map(|line| queued_bytes(line, port)).sum())
}

/// What is queued at one end of a connection of that port, by its line of `/proc/net/tcp`.
fn queued_bytes(line: &str, port: u16) -> Option<u64> {
    let mut fields = line.split_whitespace().skip(1);
    let (local, remote, _state, queues) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let is_of = |place: &str| place.rsplit_once(':').is_some_and(|(_, hex)| u16::from_str_radix(hex, 16) == Ok(port));
    let (sent, received) = queues.split_once(':')?;
    let bytes = |hex| u64::from_str_radix(hex, 16).ok();
    (is_of(local) || is_of(remote)).then(|| Some(bytes(sent)? + bytes(received)?)).flatten()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn all_but_one_are_read_and_the_one_is_seen_to_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = mpsc::channel::<()>();
        let server = std::thread::spawn(move || {
            let answer = |_| {
                let mut stream = listener.accept().unwrap().0;
                let mut request = [0; 512];
                assert!(stream.read(&mut request).unwrap() > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n0123456789").unwrap();
                stream
            };
            let streams: Vec<_> = (0..4).map(answer).collect();
            // Held open until the client has closed.
            assert!(ended.recv().is_err());
            drop(streams);
        });
        let browsers = Browsers::open(address, 4).unwrap();
        assert_eq!(browsers.reader_ids().count(), READERS);
        let received = browsers.close().unwrap();
        drop(end);
        server.join().unwrap();
        assert_eq!(received.streams, 3);
        assert!(received.stalled_bytes >= 10, "{received:?}");
    }

    #[test]
    fn a_bridge_that_refuses_is_no_bridge_that_is_measured() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let _stalled = listener.accept().unwrap();
            let mut stream = listener.accept().unwrap().0;
            stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").unwrap();
        });
        let error = Browsers::open(address, 2).err().unwrap();
        server.join().unwrap();
        assert!(error.contains("503"), "{error}");
    }

    #[test]
    fn queues_are_those_of_the_connection() {
        let line = "   1: 0100007F:1388 0100007F:D431 01 00001000:00000010 00:00000000 00000000 0 0 1 1";
        assert_eq!(queued_bytes(line, 0xD431), Some(0x1010));
        assert_eq!(queued_bytes(line, 5000), Some(0x1010));
        assert_eq!(queued_bytes(line, 0xD432), None);
        assert_eq!(queued_bytes("  sl  local_address rem_address   st tx_queue rx_queue", 1), None);
    }
}
