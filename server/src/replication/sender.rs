//! The primary's end of a stream: groups out, acknowledgements in.
//!
//! One thread sends (the connection's own), one reads. A replica that follows closely is served from the feed's tail;
//! one that is behind gets the log from the disk, in large frames. Now and then, when everything was sent, the replica
//! is asked to compare some rows. A replica that says nothing for a while is given up; it comes back by itself.

use std::io::{self, BufReader, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use protocol::frame::read_frame;

use crate::dbs_exec::{LogRow, SharedTable, Value};
use crate::error::Result;
use crate::limits::{
    CHECK_INTERVAL, CHECK_ROWS, CLIENT_STACK_BYTES, LINK_HEARTBEAT, LINK_SILENCE, MEMBERS, SEND_BYTES, SEND_PAUSE,
    STREAM_FRAME_BYTES, SYNC_STEP_GROUPS,
};
use crate::replication::handshake::{GrantedStream, members};
use crate::replication::wire::{Check, ToReplica, read_acknowledge};
use crate::replication::{ReplicaStream, Replication, StreamState};

/// What one stream has sent and what it is to look at next.
struct Progress {
    sent: i64,
    beat_at: Instant,
    check_at: Instant,
    cursor: Cursor,
}

/// Where comparing goes on.
#[derive(Default)]
struct Cursor {
    table: usize,
    after: Option<Vec<Value>>,
}

impl Replication {
    /// Serves a replica on its connection until one of the two ends it.
    ///
    /// # Errors
    /// The connection's.
    pub fn serve_replica(self: &Arc<Self>, granted: &GrantedStream, stream: &TcpStream) -> io::Result<()> {
        let connection = self.next_stream.fetch_add(1, Ordering::Relaxed);
        let address = &granted.address;
        self.remember(address);
        let Some(from) = granted.from else {
            self.note_stream(address, connection, StreamState::Snapshot, 0);
            let sent = self.send_snapshot(stream, address);
            // The replica comes back with what it has taken.
            self.note_stream_ended(address, connection);
            return sent;
        };
        log::info!("replica at {address} follows from group {from}");
        self.note_stream(address, connection, StreamState::CatchingUp, from);
        self.parts.dbs.feed().connected(address, connection, from);
        let ended = self.send_log(from, address, connection, stream);
        self.parts.dbs.feed().disconnected(address, connection);
        self.note_stream_ended(address, connection);
        if !self.is_stopping() {
            match &ended {
                Ok(()) => log::warn!("replica at {address} is away"),
                Err(error) => log::warn!("replica at {address} is away: {error}"),
            }
        }
        Ok(())
    }

    fn send_log(self: &Arc<Self>, from: i64, address: &str, connection: u64, stream: &TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(LINK_SILENCE))?;
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = std::thread::Builder::new().name("send-read".into()).stack_size(CLIENT_STACK_BYTES);
            let reading = reader.spawn_scoped(scope, || {
                let read = self.read_acknowledgements(address, connection, stream);
                is_over.store(true, Ordering::SeqCst);
                // The sender finds a closed connection.
                let _ = stream.shutdown(Shutdown::Both);
                read
            })?;
            let sent = self.send_groups(from, stream, &is_over);
            is_over.store(true, Ordering::SeqCst);
            let _ = stream.shutdown(Shutdown::Both);
            let read = reading.join().unwrap_or_else(|_| Err(io::Error::other("its reader panicked")));
            sent.and(read)
        })
    }

    fn send_groups(self: &Arc<Self>, from: i64, mut stream: &TcpStream, is_over: &AtomicBool) -> io::Result<()> {
        let now = Instant::now();
        let mut progress =
            Progress { sent: from, beat_at: now, check_at: now + CHECK_INTERVAL, cursor: Cursor::default() };
        let mut out = Vec::new();
        while !is_over.load(Ordering::SeqCst) && !self.is_stopping() {
            out.clear();
            let is_all_sent = self.push_groups(&mut progress, &mut out)?;
            if is_all_sent && Instant::now() >= progress.check_at {
                self.push_check(&mut progress, &mut out)?;
            }
            if Instant::now() >= progress.beat_at {
                let sequence = self.last_sequence();
                push(&ToReplica::Beat { sequence, members: members(self) }, &mut out)?;
                progress.beat_at = Instant::now() + LINK_HEARTBEAT;
            }
            if !out.is_empty() {
                stream.write_all(&out)?;
                if self.parts.dbs.feed().needed() == 0 {
                    // Nobody waits for the replica: groups that come meanwhile share its next transaction.
                    std::thread::sleep(SEND_PAUSE);
                }
                continue;
            }
            let until = progress.beat_at.min(progress.check_at).saturating_duration_since(Instant::now());
            self.parts.dbs.feed().wait_for_more(progress.sent, until.max(Duration::from_millis(1)));
        }
        Ok(())
    }

    /// Adds the next groups, if there are some. `true` when they were all.
    fn push_groups(&self, progress: &mut Progress, out: &mut Vec<u8>) -> io::Result<bool> {
        let dbs = &self.parts.dbs;
        let rows = match dbs.feed().after(progress.sent, SEND_BYTES) {
            Some(rows) => rows,
            None => {
                let found = dbs.log_after(progress.sent, SEND_BYTES).map_err(io::Error::other)?;
                let found = found.ok_or_else(|| io::Error::other("the log no longer reaches back to it"))?;
                found.into_iter().map(Arc::new).collect()
            }
        };
        let Some(last) = rows.last() else { return Ok(true) };
        progress.sent = last.position.sequence;
        push(&ToReplica::Groups(rows), out)?;
        Ok(progress.sent >= self.last_sequence())
    }

    /// Adds a comparison of the next slice, after the groups up to the instant of which the slice is.
    fn push_check(&self, progress: &mut Progress, out: &mut Vec<u8>) -> io::Result<()> {
        progress.check_at = Instant::now() + CHECK_INTERVAL;
        let (sent, cursor) = (progress.sent, &mut progress.cursor);
        let looked: Result<Option<(Vec<LogRow>, Check)>> = self.parts.dbs.read(|reader| {
            let Some(last) = reader.last_position()? else { return Ok(None) };
            let rows = match reader.log_after(sent, SEND_BYTES)? {
                Some(rows) if last.sequence == rows.last().map_or(sent, |row| row.position.sequence) => rows,
                // It has fallen behind meanwhile; another time.
                Some(_) | None => return Ok(None),
            };
            let tables: Vec<SharedTable> = reader.shared_tables()?;
            let Some(table) = tables.get(cursor.table % tables.len().max(1)) else { return Ok(None) };
            let after = cursor.after.take();
            let slice = reader.slice(table, after.as_deref(), CHECK_ROWS)?;
            cursor.after.clone_from(&slice.last_key);
            if cursor.after.is_none() {
                cursor.table = (cursor.table + 1) % tables.len().max(1);
            }
            let check = Check {
                sequence: last.sequence,
                table: table.name.clone(),
                after,
                limit: CHECK_ROWS,
                rows: slice.rows,
                digest: slice.digest,
                keys: (slice.first, slice.last),
            };
            Ok(Some((rows, check)))
        });
        let Some((rows, check)) = looked.map_err(io::Error::other)? else { return Ok(()) };
        progress.sent = check.sequence;
        if !rows.is_empty() {
            push(&ToReplica::Groups(rows.into_iter().map(Arc::new).collect()), out)?;
        }
        push(&ToReplica::Check(check), out)
    }

    fn read_acknowledgements(&self, address: &str, connection: u64, stream: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        let mut body = Vec::new();
        while read_frame(&mut reader, STREAM_FRAME_BYTES, &mut body).map_err(io::Error::other)? {
            let sequence = read_acknowledge(&body).map_err(io::Error::other)?;
            if sequence > self.last_sequence() {
                return Err(io::Error::other("it acknowledges what was never sent"));
            }
            self.parts.dbs.feed().acknowledged(address, connection, sequence);
            self.note_acknowledged(address, connection, sequence);
        }
        Ok(())
    }

    /// Waits until each replica that follows has all there is, at most so long: after a planned end of this primary one
    /// of them can take its place, and nothing that was promised is missing there.
    pub(super) fn wait_for_replicas(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let last = self.last_sequence();
        let is_behind = |stream: &ReplicaStream| match stream.state {
            StreamState::Following | StreamState::CatchingUp => stream.acknowledged < last,
            StreamState::Snapshot | StreamState::Away => false,
        };
        while self.streams.lock().values().any(is_behind) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(super) fn last_sequence(&self) -> i64 {
        self.parts.dbs.position().map_or(0, |last| last.sequence)
    }

    /// Notes a replica's address for good: after a restart it is asked whether it was promoted.
    fn remember(self: &Arc<Self>, address: &str) {
        let mut known = self.parts.dbs.members().unwrap_or_default();
        if known.iter().any(|known| known == address) || known.len() >= MEMBERS {
            return;
        }
        known.push(address.to_string());
        if let Err(error) = self.parts.dbs.set_members(&known) {
            log::warn!("the replica at {address} could not be noted: {error}");
        }
    }

    fn note_stream(&self, address: &str, connection: u64, state: StreamState, acknowledged: i64) {
        let stream = ReplicaStream { connection, state, acknowledged, had_all: Instant::now() };
        self.streams.lock().insert(address.to_string(), stream);
    }

    fn note_acknowledged(&self, address: &str, connection: u64, sequence: i64) {
        let last = self.last_sequence();
        if let Some(stream) = self.streams.lock().get_mut(address).filter(|stream| stream.connection == connection) {
            stream.acknowledged = sequence;
            if sequence >= last {
                stream.had_all = Instant::now();
            }
            let is_close = sequence + SYNC_STEP_GROUPS >= last;
            stream.state = if is_close { StreamState::Following } else { StreamState::CatchingUp };
        }
    }

    fn note_stream_ended(&self, address: &str, connection: u64) {
        if let Some(stream) = self.streams.lock().get_mut(address).filter(|stream| stream.connection == connection) {
            stream.state = StreamState::Away;
        }
    }
}

pub(super) fn push(frame: &ToReplica, out: &mut Vec<u8>) -> io::Result<()> {
    frame.push(out).map_err(io::Error::other)
}
