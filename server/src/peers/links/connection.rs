//! One link: its place in the register, its writer, its reader.

use std::io::{self, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use protocol::frame::{BATCH_FRAME_BYTES_MAX, holds_whole_frame, push_frame, read_frame};
use protocol::{BranchName, Epoch};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use two_phase_commit::PeerAddr;

use super::{Links, PeerInfo, StampedMessage};
use crate::error::{Error, Result};
use crate::limits::{
    LINK_FRAME_BYTES, LINK_FRAME_MESSAGES, LINK_HEARTBEAT, LINK_QUEUE_MESSAGES, LINK_READ_BYTES, LINK_SILENCE,
    LINKS_PER_PEER, WRITE_TIMEOUT,
};

/// One frame of a link.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct LinkFrame {
    pub(super) messages: Vec<StampedMessage>,
    /// Why the link ends: the sentence for the other side's operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<String>,
}

/// The same, with its messages written already.
#[derive(Serialize)]
struct WrittenFrame {
    messages: Vec<Box<RawValue>>,
}

/// A link that is up, as the register has it.
pub(super) struct Up {
    pub(super) id: u64,
    /// Who is at the other end.
    pub(super) with: PeerInfo,
    /// Frames that have come, heartbeats too.
    pub(super) frames: Arc<AtomicU64>,
    pub(super) outgoing: Sender<StampedMessage>,
    pub(super) stream: Arc<TcpStream>,
}

/// A link's reading end.
pub(super) struct Link {
    pub(super) id: u64,
    /// The peer's epoch.
    pub(super) epoch: Epoch,
    pub(super) frames: Arc<AtomicU64>,
    pub(super) stream: Arc<TcpStream>,
}

impl Links {
    /// Puts a link into the register and starts its writer.
    pub(super) fn register(self: &Arc<Self>, to: &PeerAddr, with: PeerInfo, stream: TcpStream) -> Result<Link> {
        stream
            .set_read_timeout(Some(LINK_SILENCE))
            .and_then(|()| stream.set_write_timeout(Some(WRITE_TIMEOUT)))
            .map_err(|error| Error::Unreachable(format!("the link to {to} broke at once: {error}")))?;
        let stream = Arc::new(stream);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        // The bound is what a peer may lag behind by before messages to it are dropped and sent again later.
        let (outgoing, queued) = bounded(LINK_QUEUE_MESSAGES);
        let writer_stream = Arc::clone(&stream);
        self.spawn("link-write", move || write(&writer_stream, &queued))?;
        let mut peers = self.peers.lock();
        let peer = peers.entry(to.clone()).or_default();
        if peer.is_cut {
            // Between the dial and this moment a class has cut it.
            let _ = stream.shutdown(Shutdown::Both);
            return Err(Error::Unreachable(format!("the link to {to} is cut")));
        }
        for stamped in std::mem::take(&mut peer.waiting) {
            // The queue is as long as the waiting list may be.
            let _ = outgoing.try_send(stamped);
        }
        (peer.is_dialing, peer.failures, peer.not_before) = (false, 0, None);
        for rival in peer
            .up
            .iter()
            .filter(|up| up.is_rival_of(with.instance.as_deref()) || up.with.epoch.number < with.epoch.number)
        {
            // The branch was started again, or elsewhere, or was replaced by a promoted copy: nobody is at the other
            // end of this any more who is to be listened to.
            let _ = rival.stream.shutdown(Shutdown::Both);
        }
        let link = Link { id, epoch: with.epoch.clone(), frames: Arc::default(), stream: Arc::clone(&stream) };
        peer.up.push(Up { id, with, frames: Arc::clone(&link.frames), outgoing, stream });
        if peer.up.len() > LINKS_PER_PEER {
            // Both sides may have dialled at once, so two are right; more were left behind by restarts.
            let oldest = peer.up.remove(0);
            let _ = oldest.stream.shutdown(Shutdown::Both);
        }
        drop(peers);
        log::info!("link to {to}: up");
        if let Some(inbox) = self.inbox() {
            inbox.linked(to);
        }
        if let (Some(discoverer), Ok(name)) = (&*self.discoverer.lock(), to.as_str().parse()) {
            // A full channel means that it has enough to ask; it asks the others in turn.
            let _ = discoverer.try_send(name);
        }
        Ok(link)
    }

    /// Reads from a registered link until it breaks, and takes it out of the register.
    pub(super) fn run(self: &Arc<Self>, peer: &PeerAddr, link: &Link) {
        let ended = self.read(peer, link);
        let _ = link.stream.shutdown(Shutdown::Both);
        if let Some(known) = self.peers.lock().get_mut(peer) {
            known.up.retain(|up| up.id != link.id);
        }
        if !self.stopping.load(Ordering::SeqCst) {
            match ended {
                Ok(()) => log::info!("link to {peer}: closed by the peer"),
                Err(error) => log::warn!("link to {peer}: broken: {error}"),
            }
        }
    }

    /// Hands over what comes: all whole frames that have arrived by then as one batch, which shares one commit.
    fn read(&self, peer: &PeerAddr, link: &Link) -> io::Result<()> {
        let name = peer.as_str().parse::<BranchName>().ok();
        let mut reader = io::BufReader::with_capacity(LINK_READ_BYTES, &*link.stream);
        let mut body = Vec::new();
        while read_frame(&mut reader, BATCH_FRAME_BYTES_MAX, &mut body).map_err(io::Error::other)? {
            link.frames.fetch_add(1, Ordering::Relaxed);
            let LinkFrame { mut messages, refused } = serde_json::from_slice(&body)?;
            if let Some(reason) = refused {
                log::error!("{peer} refuses the link: {reason}");
                return Ok(());
            }
            // What has come meanwhile is taken along: the busier the link, the more messages share a commit.
            while messages.len() < LINK_FRAME_MESSAGES && holds_whole_frame(reader.buffer()) {
                read_frame(&mut reader, BATCH_FRAME_BYTES_MAX, &mut body).map_err(io::Error::other)?;
                messages.append(&mut serde_json::from_slice::<LinkFrame>(&body)?.messages);
            }
            if self.stopping.load(Ordering::SeqCst) || self.is_cut(peer) {
                return Ok(());
            }
            // Asked for each frame: a copy may be promoted elsewhere while its old primary still talks.
            if name.as_ref().is_some_and(|name| !self.directory.deals_with(name, &link.epoch)) {
                return Err(io::Error::other("it was replaced by a promoted copy"));
            }
            if let Some(inbox) = self.inbox()
                && !messages.is_empty()
            {
                inbox.received(peer, messages);
            }
        }
        Ok(())
    }
}

/// Sends what is queued, as much of it in one frame as fits, until the queue or the connection is closed.
fn write(mut stream: &TcpStream, queued: &Receiver<StampedMessage>) {
    loop {
        let first = match queued.recv_timeout(LINK_HEARTBEAT) {
            Ok(stamped) => Some(stamped),
            // An empty frame says that this side is there.
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let mut frame = Vec::new();
        let body = frame_body(first, queued);
        let framed = push_frame(&mut frame, &body, BATCH_FRAME_BYTES_MAX);
        if framed.is_err() || stream.write_all(&frame).is_err() {
            break;
        }
    }
    // The reader finds the end and takes the link out of the register.
    let _ = stream.shutdown(Shutdown::Both);
}

/// The body of a frame that holds a message and those that wait behind it, up to [`LINK_FRAME_MESSAGES`] and until they
/// are [`LINK_FRAME_BYTES`] long: many long ones must not make a frame that the other side does not take.
pub(super) fn frame_body(first: Option<StampedMessage>, queued: &Receiver<StampedMessage>) -> Vec<u8> {
    let (mut messages, mut bytes) = (Vec::new(), 0);
    let mut next = first;
    while let Some(stamped) = next {
        let json = to_raw_value(&stamped).expect("a message is always JSON");
        bytes += json.get().len();
        messages.push(json);
        let is_full = messages.len() >= LINK_FRAME_MESSAGES || bytes >= LINK_FRAME_BYTES;
        next = if is_full { None } else { queued.try_recv().ok() };
    }
    serde_json::to_vec(&WrittenFrame { messages }).expect("messages are always JSON")
}
