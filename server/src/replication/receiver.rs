//! The replica's end of a stream: it executes what comes, in order, and says what it has made durable.
//!
//! One thread dials the primary, again and again, and goes on where the log ends. Frames that have come together are
//! executed in one transaction, so a replica that is behind catches up faster than the primary goes on.

use std::io::{self, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::Address;
use protocol::frame::{holds_whole_frame, read_frame};
use protocol::request::{Action, Replicate, Replicating};

use crate::bank::Bank;
use crate::dbs_exec::{ApplyError, LogRow, newest_version};
use crate::error::Error;
use crate::limits::{
    APPLY_BYTES, DIAL_BACKOFF_FIRST, DIAL_BACKOFF_MAX, LINK_READ_BYTES, LINK_SILENCE, MEMBERS, SNAPSHOT_SILENCE,
    STREAM_FRAME_BYTES,
};
use crate::replication::dial::DialError;
use crate::replication::handshake::{is_same, to_wire};
use crate::replication::snapshot::Incoming;
use crate::replication::wire::{Check, ToReplica, push_acknowledge};
use crate::replication::{ReceiverState, Reopen, Replication};

/// Why following ended for now.
pub(super) enum Ended {
    /// It is tried again.
    Again(String),
    /// The books here are not the primary's.
    Diverged(String),
    /// A snapshot is there: everything is opened again.
    Reopening,
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Again(error.to_string())
    }
}

impl From<DialError> for Ended {
    fn from(error: DialError) -> Self {
        Self::Again(error.to_string())
    }
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Again(error.to_string())
    }
}

impl Replication {
    /// Follows the primary until the replica has another role, or its books turn out to be others.
    pub(super) fn receive(self: &Arc<Self>) {
        let mut back_off = DIAL_BACKOFF_FIRST;
        while !self.is_stopping() && !self.parts.dbs.is_closed() {
            if self.receiver.lock().state == ReceiverState::Diverged {
                self.wait(Duration::MAX);
                back_off = DIAL_BACKOFF_FIRST;
                continue;
            }
            let begun = Instant::now();
            match self.receive_once() {
                Ended::Reopening => return,
                Ended::Diverged(text) => self.diverge(&text),
                Ended::Again(text) => {
                    if self.is_stopping() {
                        return;
                    }
                    self.note_away(&text);
                    if begun.elapsed() > DIAL_BACKOFF_MAX * 2 {
                        back_off = DIAL_BACKOFF_FIRST;
                    }
                    self.wait(back_off);
                    back_off = (back_off * 2).min(DIAL_BACKOFF_MAX);
                }
            }
        }
    }

    pub(super) fn wait(&self, wait: Duration) {
        let mut receiver = self.receiver.lock();
        if self.is_stopping() {
            return;
        }
        if wait == Duration::MAX {
            if receiver.state == ReceiverState::Diverged {
                self.woken.wait(&mut receiver);
            }
        } else {
            self.woken.wait_for(&mut receiver, wait);
        }
    }

    pub(super) fn note_away(&self, text: &str) {
        let mut receiver = self.receiver.lock();
        if receiver.last_error.as_deref() != Some(text) {
            log::warn!("the primary cannot be followed: {text}");
        }
        receiver.stream = None;
        if receiver.state != ReceiverState::Diverged {
            receiver.state = ReceiverState::Connecting;
            receiver.last_error = Some(text.to_string());
        }
    }

    /// Stops here, for good, until somebody orders a new copy.
    pub(super) fn diverge(&self, text: &str) {
        if self.parts.dbs.is_closed() {
            return;
        }
        log::error!("this replica follows no longer: {text}");
        log::error!("bank-client resync has it take a new copy of the primary's books and keep the old file");
        if let Err(error) = self.parts.dbs.change_copy_state(|copy_state| copy_state.diverged = Some(text.to_string()))
        {
            log::error!("that could not be noted: {error}");
        }
        let mut receiver = self.receiver.lock();
        receiver.stream = None;
        receiver.state = ReceiverState::Diverged;
        receiver.last_error = Some(text.to_string());
    }

    fn receive_once(self: &Arc<Self>) -> Ended {
        match self.connect_and_receive() {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    fn connect_and_receive(self: &Arc<Self>) -> Result<std::convert::Infallible, Ended> {
        let dbs = &self.parts.dbs;
        let (primary, wants_snapshot) = {
            let receiver = self.receiver.lock();
            (receiver.primary.clone(), receiver.wants_snapshot)
        };
        let primary =
            primary.ok_or_else(|| Ended::Again("no primary is known; start it with --replica-of host:port".into()))?;
        let position = dbs.position();
        if position.is_none() && !wants_snapshot && Bank::stored_name(dbs)?.is_some() {
            return Err(Ended::Diverged(format!(
                "this database has books of its own, which never followed the primary at {primary}"
            )));
        }
        let mut connection = self.parts.dialler.dial(&primary)?;
        let copy_state = dbs.copy_state();
        let heard = copy_state.heard;
        let params = Replicate {
            branch: self.parts.dialler.branch.clone(),
            port: self.parts.port,
            heard_epoch: heard.number,
            heard_epoch_id: heard.id,
            position: position.filter(|_| !wants_snapshot).map(|last| to_wire(&last, &copy_state.epoch)),
            version: newest_version(),
        };
        let granted: Replicating =
            connection.call(Action::Replicate, &params, None).map_err(|error| DialError::of(&primary, error))?;
        let stream = Arc::new(connection.into_stream());
        self.receiver.lock().stream = Some(Arc::clone(&stream));
        match granted.mode.as_str() {
            "log" => self.receive_log(&primary, &granted, &stream),
            "snapshot" => self.take_snapshot(&primary, &stream, wants_snapshot),
            _ => Err(Ended::Diverged(self.tell_difference(&primary, &granted)?)),
        }
    }

    /// How this log differs from the primary's: by what was committed here after another copy was promoted, if so.
    fn tell_difference(&self, primary: &Address, granted: &Replicating) -> Result<String, Ended> {
        let Some(last) = self.parts.dbs.position() else { return Ok("there is nothing in common".into()) };
        if let Some(common) = &granted.common
            && is_same(common, self.parts.dbs.position_at(common.sequence)?.as_ref())
        {
            return Ok(format!(
                "this copy has {} group commits after group {} that the primary at {primary} does not have: they were committed here and not there before that one was promoted (epoch {})",
                last.sequence - common.sequence,
                common.sequence,
                granted.epoch
            ));
        }
        Ok(format!(
            "the running digest after group {} is not the one that the primary at {primary} has: the two logs are not of one branch, or one of them was changed",
            last.sequence
        ))
    }

    fn receive_log(
        self: &Arc<Self>,
        primary: &Address,
        granted: &Replicating,
        stream: &TcpStream,
    ) -> Result<std::convert::Infallible, Ended> {
        let last = self.parts.dbs.position().map_or(0, |last| last.sequence);
        log::info!("following the primary at {primary} from group {last} on, it is at {}", granted.sequence);
        self.note_heard(granted.sequence, last);
        {
            let mut receiver = self.receiver.lock();
            receiver.state = ReceiverState::Following;
            receiver.last_error = None;
        }
        stream.set_read_timeout(Some(LINK_SILENCE))?;
        let mut reader = BufReader::with_capacity(LINK_READ_BYTES, stream);
        let mut writer = stream;
        let mut body = Vec::new();
        let mut out = Vec::new();
        push_acknowledge(&mut out, last);
        writer.write_all(&out)?;
        loop {
            let mut frame = self.next_frame(&mut reader, &mut body)?;
            // Groups that have come together share a transaction.
            let mut rows: Vec<LogRow> = Vec::new();
            let mut bytes = 0;
            let mut other = None;
            loop {
                match frame {
                    ToReplica::Groups(groups) => {
                        bytes += groups.iter().map(|row| row.body.len()).sum::<usize>();
                        rows.extend(groups.into_iter().map(Arc::unwrap_or_clone));
                    }
                    frame => {
                        other = Some(frame);
                        break;
                    }
                }
                if bytes >= APPLY_BYTES || !holds_whole_frame(reader.buffer()) {
                    break;
                }
                frame = self.next_frame(&mut reader, &mut body)?;
            }
            if !rows.is_empty() {
                self.execute(&rows)?;
            }
            match other {
                Some(ToReplica::Beat { sequence, members }) => self.note_beat(sequence, &members),
                Some(ToReplica::Check(check)) => self.compare(&check)?,
                Some(ToReplica::Groups(_) | ToReplica::Chunk(_) | ToReplica::End { .. }) => {
                    return Err(Ended::Again("the primary sent a piece of a snapshot nobody asked for".into()));
                }
                None => {}
            }
            out.clear();
            push_acknowledge(&mut out, self.parts.dbs.position().map_or(0, |last| last.sequence));
            writer.write_all(&out)?;
        }
    }

    fn next_frame(&self, reader: &mut impl io::Read, body: &mut Vec<u8>) -> Result<ToReplica, Ended> {
        if self.is_stopping() || !read_frame(reader, STREAM_FRAME_BYTES, body).map_err(io::Error::other)? {
            return Err(Ended::Again("the primary ended the stream".into()));
        }
        ToReplica::read(body).map_err(|error| Ended::Again(error.to_string()))
    }

    pub(super) fn execute(&self, rows: &[LogRow]) -> Result<(), Ended> {
        match self.parts.dbs.apply(rows) {
            Ok(last) => {
                let heard = rows.last().map_or(last, |row| row.position.sequence);
                self.note_heard(heard, last);
                Ok(())
            }
            Err(ApplyError::Gap(text)) => {
                log::error!("the primary's stream is refused: {text}");
                Err(Ended::Again(text))
            }
            Err(ApplyError::Diverged(text)) => Err(Ended::Diverged(text)),
            Err(ApplyError::Failed(error)) => Err(error.into()),
        }
    }

    /// Compares a slice of a table with the primary's, as both were after the same group.
    fn compare(&self, check: &Check) -> Result<(), Ended> {
        if self.parts.dbs.position().map(|last| last.sequence) != Some(check.sequence) {
            return Err(Ended::Again("a comparison came at the wrong place".into()));
        }
        let Check { table, after, limit, .. } = check;
        let slice = self.parts.dbs.read(|reader| {
            let tables = reader.shared_tables()?;
            let found = tables.iter().find(|found| found.name == *table);
            found.map(|found| reader.slice(found, after.as_deref(), *limit)).transpose()
        })?;
        let Some(slice) = slice else {
            return Err(Ended::Diverged(format!("the primary has a table {table}, and this replica has none")));
        };
        if (slice.rows, slice.digest) == (check.rows, check.digest) {
            return Ok(());
        }
        Err(Ended::Diverged(format!(
            "the table {table} is not the primary's after group {}: it has {} rows from {} to {} there, and here {} from {} to {}, and they differ",
            check.sequence, check.rows, check.keys.0, check.keys.1, slice.rows, slice.first, slice.last
        )))
    }

    pub(super) fn note_heard(&self, heard: i64, last: i64) {
        let mut receiver = self.receiver.lock();
        let heard = receiver.heard_sequence.unwrap_or(0).max(heard);
        receiver.heard_sequence = Some(heard);
        receiver.heard_at = Some(Instant::now());
        if last >= heard {
            receiver.had_all = Some(Instant::now());
        }
    }

    fn note_beat(&self, sequence: i64, members: &[String]) {
        let last = self.parts.dbs.position().map_or(0, |last| last.sequence);
        self.note_heard(sequence, last);
        let known = self.parts.dbs.members().unwrap_or_default();
        if known != members
            && members.len() <= MEMBERS
            && let Err(error) = self.parts.dbs.set_members(members)
        {
            log::warn!("the other replicas could not be noted: {error}");
        }
    }

    fn take_snapshot(
        self: &Arc<Self>,
        primary: &Address,
        stream: &TcpStream,
        is_ordered: bool,
    ) -> Result<std::convert::Infallible, Ended> {
        log::info!("taking a snapshot from the primary at {primary}");
        {
            let mut receiver = self.receiver.lock();
            receiver.state = ReceiverState::Snapshot;
            receiver.last_error = None;
        }
        stream.set_read_timeout(Some(SNAPSHOT_SILENCE))?;
        let mut reader = BufReader::with_capacity(LINK_READ_BYTES, stream);
        let mut incoming = Incoming::begin(self.path_beside(".incoming"))?;
        let mut body = Vec::new();
        loop {
            match self.next_frame(&mut reader, &mut body)? {
                ToReplica::Chunk(chunk) => incoming.add(&chunk)?,
                ToReplica::Beat { .. } => {}
                ToReplica::End { bytes, digest } => {
                    let (branch, copy_state) = (self.parts.dialler.branch.as_str(), self.parts.dbs.copy_state());
                    let finished = incoming.finish((bytes, &digest), branch, &primary.to_string(), &copy_state);
                    let (copy, sequence) = finished.map_err(Ended::Again)?;
                    log::info!("the snapshot is here and sound, up to group {sequence}");
                    // Not beside a promotion, which stands on the present file.
                    self.claim_end()?;
                    (self.parts.reopen)(Reopen::Snapshot { copy, keep_old: is_ordered });
                    return Err(Ended::Reopening);
                }
                ToReplica::Groups(_) | ToReplica::Check(_) => {
                    return Err(Ended::Again("the primary sent groups in the middle of a snapshot".into()));
                }
            }
        }
    }
}
