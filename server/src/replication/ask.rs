//! Asking the other copies of this branch, all at the same time, and waiting a bounded time for their answers.
//!
//! Who doesn't answer in time counts as not answering. The thread that asked it ends by itself: each step of a dial
//! takes a bounded time.

use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use protocol::request::{Follow, Following};
use protocol::{Address, Epoch};

use super::dial::{DialError, Dialler};
use crate::limits::CLIENT_STACK_BYTES;

/// What another copy answered.
pub(super) type Told = (Address, Result<Following, DialError>);

/// Tells every copy in `others` what `params` say; returns what came back within `wait`.
pub(super) fn tell_copies(dialler: &Dialler, others: &[Address], params: &Follow, wait: Duration) -> Vec<Told> {
    let (answers, answered) = bounded(others.len());
    let mut asked = 0;
    for other in others {
        let (dialler, params, other, answers) = (dialler.clone(), params.clone(), other.clone(), answers.clone());
        let ask = move || {
            let told = dialler.tell(&other, &params);
            // Nobody may wait any more.
            let _ = answers.try_send((other, told));
        };
        match std::thread::Builder::new().name("ask-copy".into()).stack_size(CLIENT_STACK_BYTES).spawn(ask) {
            Ok(_) => asked += 1,
            Err(error) => log::warn!("there is no thread to ask another copy: {error}"),
        }
    }
    let deadline = Instant::now() + wait;
    (0..asked).map_while(|_| answered.recv_deadline(deadline).ok()).collect()
}

/// The epoch that another copy has heard of.
pub(super) fn heard_by(following: &Following) -> Epoch {
    Epoch::new(following.epoch, &following.epoch_id)
}
