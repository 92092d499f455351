//! Snapshots: a whole copy of the primary's database, sent in pieces, checked, and kept beside the replica's own
//! until it takes its place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use super::Replication;
use super::wire::ToReplica;
use crate::dbs_exec::{CopyState, LogDigest, check_copy};
use crate::limits::{LINK_HEARTBEAT, SNAPSHOT_CHUNK_BYTES};
use crate::replication::sender::push;

impl Replication {
    /// Makes a snapshot beside the database and sends it.
    pub(super) fn send_snapshot(self: &Arc<Self>, stream: &TcpStream, address: &str) -> io::Result<()> {
        log::info!("replica at {address} gets a snapshot");
        let path = self.path_beside(&format!(".outgoing-{}", address.replace([':', '[', ']'], "-")));
        let _deleted = DeleteOnDrop(path.clone());
        let beat_at = Mutex::new(Instant::now() + LINK_HEARTBEAT);
        let should_stop = || {
            let mut beat_at = beat_at.lock();
            if Instant::now() < *beat_at {
                return self.is_stopping();
            }
            *beat_at = Instant::now() + LINK_HEARTBEAT;
            let mut out = Vec::new();
            let beat = ToReplica::Beat { sequence: self.last_sequence(), members: Vec::new() };
            let is_gone = push(&beat, &mut out).and_then(|()| send(stream, &out)).is_err();
            is_gone || self.is_stopping()
        };
        let position = self.parts.dbs.copy_to(&path, &should_stop).map_err(io::Error::other)?;
        let mut file = File::open(&path)?;
        let (mut hasher, mut bytes) = (Sha256::new(), 0);
        let mut chunk = vec![0; SNAPSHOT_CHUNK_BYTES];
        let mut out = Vec::new();
        while !self.is_stopping() {
            let count = file.read(&mut chunk)?;
            out.clear();
            if count == 0 {
                push(&ToReplica::End { bytes, digest: hasher.finalize().into() }, &mut out)?;
                send(stream, &out)?;
                let sequence = position.map_or(0, |position| position.sequence);
                log::info!("replica at {address} was sent a snapshot of {bytes} bytes, up to group {sequence}");
                return Ok(());
            }
            hasher.update(&chunk[..count]);
            bytes += count as u64;
            push(&ToReplica::Chunk(chunk[..count].to_vec()), &mut out)?;
            send(stream, &out)?;
        }
        Ok(())
    }

    pub(super) fn path_beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.parts.dbs.path().as_os_str().to_owned();
        name.push(suffix);
        name.into()
    }
}

fn send(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes)
}

pub(super) struct DeleteOnDrop(pub PathBuf);

impl Drop for DeleteOnDrop {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = fs::remove_file(&self.0);
    }
}

/// A snapshot that is arriving.
pub(super) struct Incoming {
    path: PathBuf,
    file: File,
    hasher: Sha256,
    bytes: u64,
}

impl Incoming {
    /// Begins an empty file; what a broken try has left there goes.
    pub fn begin(path: PathBuf) -> io::Result<Self> {
        // Private whatever the umask, as the database that it becomes.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        Ok(Self { path, file, hasher: Sha256::new(), bytes: 0 })
    }

    /// Adds a piece.
    pub fn add(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.file.write_all(chunk)?;
        self.hasher.update(chunk);
        self.bytes += chunk.len() as u64;
        Ok(())
    }

    /// Checks what has come against what its sender says, and that it is a sound database of this branch. Returns the
    /// file, which is on disk, and its last group.
    pub fn finish(
        self,
        (bytes, digest): (u64, &LogDigest),
        branch: &str,
        primary: &str,
        replaced: &CopyState,
    ) -> Result<(PathBuf, i64), String> {
        if self.bytes != bytes || *digest != <LogDigest>::from(self.hasher.finalize()) {
            return Err(format!("the snapshot came damaged: {} bytes of {bytes}", self.bytes));
        }
        self.file.sync_all().map_err(|error| format!("{}: {error}", self.path.display()))?;
        let position = check_copy(&self.path, branch, primary, replaced)?;
        Ok((self.path, position.sequence))
    }
}
