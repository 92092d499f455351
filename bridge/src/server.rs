//! The sockets: accepts connections, bounds their number and their time, and ends them.
//!
//! axum's own loop sets no limit of time on the head of a request, so this one serves each connection itself. A
//! client that takes next to nothing of what is sent to it is cut off by `Patient`, so that it holds its place no longer.

use std::collections::HashMap;
use std::future::Future as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use protocol::network::network_of;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use crate::bridge::Bridge;
use crate::limits::{
    ACCEPT_PAUSE, CONNECTION_BUFFER_BYTES, CONNECTIONS, CONNECTIONS_PER_ADDRESS, CONNECTIONS_TURNED_AWAY, HEAD_TIMEOUT,
    HEADERS, SHUTDOWN_GRACE, STALL_BYTES, STALL_TIMEOUT, TURN_AWAY_TIME,
};

/// What a connection too many is told.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 86\r\n\
    Retry-After: 1\r\nConnection: close\r\n\r\n\
    {\"status\":\"error\",\"error\":\"too many connections; try again in a moment\",\"code\":\"busy\"}";

/// How many connections each address has, or each network of IPv6.
#[derive(Clone, Default)]
struct Addresses(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of an address's connections.
struct OfAddress {
    addresses: Addresses,
    network: IpAddr,
}

impl Addresses {
    /// Counts a connection, unless its address has too many. This machine's and a trusted proxy's may have all.
    fn count(&self, peer: SocketAddr, trusted: &[IpAddr]) -> Option<OfAddress> {
        let address = peer.ip().to_canonical();
        let is_shared = address.is_loopback() || trusted.contains(&address);
        let network = if is_shared { address } else { network_of(address) };
        let mut counts = self.0.lock();
        let count = counts.entry(network).or_insert(0);
        if *count >= CONNECTIONS_PER_ADDRESS && !is_shared {
            return None;
        }
        *count += 1;
        Some(OfAddress { addresses: self.clone(), network })
    }
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        let mut counts = self.addresses.0.lock();
        if let Some(count) = counts.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.network);
            }
        }
    }
}

/// Serves until the bridge stops, and then ends all connections within [`SHUTDOWN_GRACE`].
pub async fn serve(bridge: Arc<Bridge>, listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let turned_away = Arc::new(Semaphore::new(CONNECTIONS_TURNED_AWAY));
    let addresses = Addresses::default();
    let mut stopped = pin!(bridge.stop.reached());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stopped => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                log::warn!("a connection could not be accepted: {error}");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let place = addresses
            .count(peer, &bridge.config.trusted_proxies)
            .and_then(|of_address| Arc::clone(&places).try_acquire_owned().ok().map(|place| (place, of_address)));
        if let Some(place) = place {
            tokio::spawn(connection(Arc::clone(&bridge), stream, peer, router.clone(), place));
        } else if let Ok(place) = Arc::clone(&turned_away).try_acquire_owned() {
            tokio::spawn(async move {
                // Whoever does not read the answer in time goes without.
                let _ = timeout(TURN_AWAY_TIME, turn_away(stream)).await;
                drop(place);
            });
        }
    }
    drop(listener);
    // Each connection holds a place until it has ended.
    let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
    if timeout(SHUTDOWN_GRACE, places.acquire_many(all)).await.is_err() {
        log::warn!("requests under way were cut off");
    }
}

async fn connection(
    bridge: Arc<Bridge>,
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    place: (OwnedSemaphorePermit, OfAddress),
) {
    let open = Arc::clone(&bridge.metrics.connections);
    open.fetch_add(1, Ordering::Relaxed);
    if let Err(error) = stream.set_nodelay(true) {
        log::debug!("{peer}: {error}");
    }
    let service = tower_service(router, peer);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS)
        .max_buf_size(CONNECTION_BUFFER_BYTES)
        .serve_connection(TokioIo::new(Patient::new(stream)), service);
    let mut served = pin!(served);
    let outcome = tokio::select! {
        outcome = served.as_mut() => outcome,
        () = bridge.stop.reached() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = outcome {
        log::debug!("{peer}: {error}");
    }
    open.fetch_sub(1, Ordering::Relaxed);
    drop(place);
}

/// The router, told from where its requests come.
fn tower_service(
    router: Router,
    peer: SocketAddr,
) -> impl hyper::service::Service<
    Request<Incoming>,
    Response = axum::response::Response,
    Error = std::convert::Infallible,
    Future: Send,
> {
    let router = TowerToHyperService::new(router);
    hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        hyper::service::Service::call(&router, request)
    })
}

async fn turn_away(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(BUSY).await?;
    stream.shutdown().await?;
    // Closing with something unread would take the answer back.
    while stream.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}

/// A stream whose writes fail when less than [`STALL_BYTES`] of what waits are taken in [`STALL_TIMEOUT`].
struct Patient {
    stream: TcpStream,
    /// Runs from the first write that waits until all that waits is written.
    patience: Option<Patience>,
}

struct Patience {
    end: Pin<Box<Sleep>>,
    /// What was taken since it runs.
    taken: usize,
}

impl Patience {
    fn new() -> Self {
        Self { end: Box::pin(sleep_until(Instant::now() + STALL_TIMEOUT)), taken: 0 }
    }
}

impl Patient {
    fn new(stream: TcpStream) -> Self {
        Self { stream, patience: None }
    }

    fn watch(&mut self, context: &mut Context<'_>, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let (Poll::Ready(Ok(count)), Some(patience)) = (&poll, &mut self.patience) {
            patience.taken += count;
        }
        if poll.is_ready() && self.patience.is_none() {
            return poll;
        }
        let patience = self.patience.get_or_insert_with(Patience::new);
        while patience.end.as_mut().poll(context).is_ready() {
            if patience.taken < STALL_BYTES {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            // It is a slow line. It has as long again for as much.
            *patience = Patience::new();
        }
        poll
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when it has written all that it has.
        self.patience = None;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_of_ipv6_has_no_more_connections_than_one_address() {
        let addresses = Addresses::default();
        let neighbour = |number: usize| SocketAddr::new(format!("2001:db8::{number:x}").parse().unwrap(), 1);
        let held: Vec<_> =
            (0..2 * CONNECTIONS_PER_ADDRESS).map(|number| addresses.count(neighbour(number), &[])).collect();
        assert_eq!(held.iter().flatten().count(), CONNECTIONS_PER_ADDRESS);
        assert!(addresses.count(SocketAddr::new("2001:db8:0:1::1".parse().unwrap(), 1), &[]).is_some());
        let proxy = SocketAddr::new("2001:db8::ffff".parse().unwrap(), 1);
        assert!(addresses.count(proxy, &[proxy.ip()]).is_some(), "many people are behind a trusted proxy");
        drop(held);
        assert!(addresses.0.lock().is_empty());
    }

    #[test]
    fn the_busy_answer_says_its_length() {
        let text = std::str::from_utf8(BUSY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
