//! Frames of links, and links for which the system has no thread.

use crossbeam_channel::unbounded;
use protocol::frame::BATCH_FRAME_BYTES_MAX;
use protocol::{AccountNum, Money};
use two_phase_commit::{LEGS_MAX, Leg, Side, Transfer};

use super::connection::frame_body;
use super::*;
use crate::dbs_exec::DbsExec;
use crate::limits::LINK_FRAME_MESSAGES;

fn prepare(number: usize, legs: usize) -> StampedMessage {
    let leg = |index: usize| Leg {
        index: u32::try_from(index).unwrap(),
        branch: None,
        account: AccountNum::new(1_000_000_000).unwrap(),
        amount: Money::MAX,
        side: Side::Deposit,
    };
    let transfer = Transfer {
        txid: format!("Mumbai-{number}").parse().unwrap(),
        coordinator: Some(PeerAddr::new("Mumbai")),
        legs: (0..legs).map(leg).collect(),
        note: "".into(),
        by_program: false,
    };
    StampedMessage {
        message: Message::Prepare(Arc::new(transfer)),
        id: format!("Mumbai:{number}"),
        clock: VectorClock::new(),
    }
}

/// The bodies of the frames that all of these make.
fn bodies(messages: impl IntoIterator<Item = StampedMessage>) -> Vec<Vec<u8>> {
    let (sender, queued) = unbounded();
    messages.into_iter().for_each(|stamped| sender.send(stamped).unwrap());
    std::iter::from_fn(|| Some(frame_body(Some(queued.try_recv().ok()?), &queued))).collect()
}

#[test]
fn a_frame_of_many_long_messages_is_one_that_the_other_side_takes() {
    let bodies = bodies((0..LINK_FRAME_MESSAGES).map(|number| prepare(number, LEGS_MAX)));
    assert!(bodies.len() > 1 && bodies.iter().all(|body| body.len() < BATCH_FRAME_BYTES_MAX));
    let frames = bodies.iter().map(|body| serde_json::from_slice::<LinkFrame>(body).unwrap());
    let ids: Vec<String> = frames.flat_map(|frame| frame.messages).map(|stamped| stamped.id).collect();
    assert_eq!(ids, (0..LINK_FRAME_MESSAGES).map(|number| format!("Mumbai:{number}")).collect::<Vec<_>>());
}

#[test]
fn short_messages_share_a_frame_up_to_a_number() {
    let bodies = bodies((0..LINK_FRAME_MESSAGES + 1).map(|number| prepare(number, 1)));
    let counts = bodies.iter().map(|body| serde_json::from_slice::<LinkFrame>(body).unwrap().messages.len());
    assert_eq!(counts.collect::<Vec<_>>(), [LINK_FRAME_MESSAGES, 1]);
    let (_sender, nothing) = unbounded();
    assert_eq!(frame_body(None, &nothing), br#"{"messages":[]}"#, "a heartbeat");
}

/// Who is told of what can't be delivered.
struct Told(Mutex<Vec<String>>);

impl Inbox for Told {
    fn received(&self, _: &PeerAddr, _: Vec<StampedMessage>) {}

    fn undeliverable(&self, to: &PeerAddr, messages: Vec<StampedMessage>) {
        self.0.lock().extend(messages.iter().map(|stamped| format!("{} to {to}", stamped.id)));
    }

    fn linked(&self, _: &PeerAddr) {}

    fn met_itself(&self, _: &PeerAddr) {}
}

#[test]
fn without_a_thread_to_dial_with_what_waits_is_given_back_and_it_is_dialled_again_later() {
    let folder = tempfile::tempdir().unwrap();
    let dbs = Arc::new(DbsExec::open(&folder.path().join("bank.db"), |_| {}).unwrap());
    let directory = Arc::new(Directory::open(dbs).unwrap());
    let identity = Identity {
        name: "Mumbai".parse().unwrap(),
        port: 1,
        host: None,
        key: BranchKey::from_bytes([7; 32]),
        instance: "one".into(),
        tls: None,
        epoch: Epoch::new(1, ""),
        on_replaced: Arc::new(|_| {}),
    };
    // No machine has room for such a stack, so its threads can't be started.
    let links = Links::with_stacks(identity, directory, 1 << 60);
    let told = Arc::new(Told(Mutex::default()));
    let inbox: Arc<dyn Inbox> = Arc::clone(&told) as _;
    links.deliver_to(Arc::downgrade(&inbox));
    let delhi = PeerAddr::new("Delhi");
    links.send(&delhi, vec![prepare(1, 1)]);
    assert_eq!(*told.0.lock(), ["Mumbai:1 to Delhi"]);
    {
        let peers = links.peers.lock();
        let peer = &peers[&delhi];
        assert!(!peer.is_dialing && peer.failures == 1 && peer.not_before.is_some(), "it is tried again");
    }
    // Until then there is no point in waiting either.
    links.send(&delhi, vec![prepare(2, 1)]);
    assert_eq!(*told.0.lock(), ["Mumbai:1 to Delhi", "Mumbai:2 to Delhi"]);
    links.stop();
}
