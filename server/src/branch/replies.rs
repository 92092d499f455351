//! The writing end of a connection, where two threads write: its client's own, and the one that answers commits.
//!
//! A request that was handed in is answered by the thread `answers`, for all clients, so that no client's thread is woken
//! only to write (`dbs_exec/handed_in.rs`). That thread must not wait for any of them. It writes what the socket takes at
//! once; what it does not take, and what still needs work that may take long, becomes a part of the *backlog*, which is
//! for the client's own thread. That one is woken, writes the backlog and waits for its client as long as a client may
//! take.
//!
//! Kept true:
//! - answers leave in the order of their requests: while there is a backlog, whatever comes is put behind it, and the
//!   client's own answers wait until nothing is under way;
//! - what is kept for a client is at most the answers to [`PIPELINE_REQUESTS`]: as long as it takes no answers, none of
//!   its further requests is worked on;
//! - each request that was handed in is counted down exactly once, also when its answer is lost to a panic.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use crate::limits::PIPELINE_REQUESTS;

/// Frames that are ready, or work that makes them and may take long.
pub enum Part {
    /// Whole frames.
    Frames(Vec<u8>),
    /// For the client's own thread.
    Work(Box<dyn FnOnce() -> Vec<u8> + Send>),
}

/// What ended a wait for input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// There is input, or its end.
    Input,
    /// There is a backlog.
    Backlog,
    /// The time is over.
    TimedOut,
}

/// The writing end.
pub struct Replies {
    stream: Arc<TcpStream>,
    state: Mutex<State>,
    changed: Condvar,
    /// Wakes the client's thread out of its wait for input; there once it has handed something in.
    bell: OnceLock<Option<OwnedFd>>,
}

struct State {
    /// Requests that were handed in and are not answered.
    under_way: usize,
    /// What the client's thread is to write, in order.
    backlog: VecDeque<Part>,
    /// The client's thread is writing.
    is_writing: bool,
    /// The client's thread sleeps until something changes.
    is_awaited: bool,
    /// The connection takes nothing any more.
    failed: Option<ErrorKind>,
    /// When the last answer was made.
    answered: Instant,
}

impl Replies {
    /// Nothing is under way.
    #[must_use]
    pub fn new(stream: Arc<TcpStream>) -> Arc<Self> {
        let state = State {
            under_way: 0,
            backlog: VecDeque::new(),
            is_writing: false,
            is_awaited: false,
            failed: None,
            answered: Instant::now(),
        };
        Arc::new(Self { stream, state: Mutex::new(state), changed: Condvar::new(), bell: OnceLock::new() })
    }

    /// Makes room for so many requests, and counts them. `None` when they can't be answered by another thread: the
    /// system has nothing left to wake this one with.
    ///
    /// # Errors
    /// The connection's: whoever doesn't take the answers gets no more work done.
    pub fn expect(self: &Arc<Self>, requests: usize) -> io::Result<Option<Expected>> {
        if self.bell().is_none() {
            return Ok(None);
        }
        let mut state = self.wait_until_at_most(PIPELINE_REQUESTS.saturating_sub(requests))?;
        state.under_way += requests;
        Ok(Some(Expected { replies: Arc::clone(self), requests }))
    }

    /// Waits until no more than so many requests are under way and the backlog is written.
    ///
    /// # Errors
    /// The connection's.
    pub fn wait(&self, most_under_way: usize) -> io::Result<()> {
        self.wait_until_at_most(most_under_way).map(drop)
    }

    /// Waits until nothing is under way any more, whether or not the client takes the answers.
    pub fn end(&self) {
        if self.wait(0).is_err() {
            let mut state = self.state.lock();
            while state.under_way > 0 {
                self.sleep(&mut state);
            }
        }
    }

    fn wait_until_at_most(&self, under_way: usize) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state.lock();
        loop {
            if let Some(failed) = state.failed {
                return Err(failed.into());
            }
            if let Some(part) = state.backlog.pop_front() {
                state.is_writing = true;
                let written = MutexGuard::unlocked(&mut state, || self.write(part));
                state.is_writing = false;
                if let Err(error) = written {
                    state.fail(error.kind());
                    return Err(error);
                }
            } else if state.under_way <= under_way {
                return Ok(state);
            } else {
                self.sleep(&mut state);
            }
        }
    }

    fn sleep(&self, state: &mut MutexGuard<'_, State>) {
        state.is_awaited = true;
        self.changed.wait(state);
        state.is_awaited = false;
    }

    fn write(&self, part: Part) -> io::Result<()> {
        let frames = match part {
            Part::Frames(frames) => frames,
            Part::Work(work) => work(),
        };
        (&*self.stream).write_all(&frames)
    }

    /// Whether something is under way, or in the backlog.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let state = self.state.lock();
        state.under_way > 0 || !state.backlog.is_empty()
    }

    /// Since when the client has had all its answers; none while something is under way.
    #[must_use]
    pub fn at_rest_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        (state.under_way == 0 && state.backlog.is_empty()).then_some(state.answered)
    }

    /// Waits for input from the client, or for a backlog.
    ///
    /// # Errors
    /// The system's.
    pub fn wait_for_input(&self, limit: Duration) -> io::Result<Woken> {
        let limit = Timespec::try_from(limit).map_err(|_| ErrorKind::InvalidInput)?;
        let bell = self.bell();
        let mut ends = vec![PollFd::new(&*self.stream, PollFlags::IN)];
        ends.extend(bell.map(|bell| PollFd::new(bell, PollFlags::IN)));
        match poll(&mut ends, Some(&limit)) {
            Ok(0) => return Ok(Woken::TimedOut),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if let (Some(bell), Some(rung)) = (bell, ends.get(1))
            && !rung.revents().is_empty()
        {
            // It counts; a read sets it back. Nobody else reads it, so there is something to read.
            let _ = rustix::io::read(bell, &mut [0; 8]);
            return Ok(Woken::Backlog);
        }
        Ok(Woken::Input)
    }

    fn bell(&self) -> Option<&OwnedFd> {
        let made = self.bell.get_or_init(|| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok());
        made.as_ref()
    }

    /// Answers so many requests; never waits.
    fn answer(&self, part: Part, requests: usize) {
        let mut state = self.state.lock();
        state.under_way -= requests;
        state.answered = Instant::now();
        if state.failed.is_none() {
            let left = if state.backlog.is_empty() && !state.is_writing { self.send(part) } else { Ok(Some(part)) };
            match left {
                Ok(left) => state.backlog.extend(left),
                Err(kind) => state.fail(kind),
            }
        }
        self.tell(state);
    }

    /// Wakes the client's thread, wherever it sleeps, when there is something for it.
    fn tell(&self, state: MutexGuard<'_, State>) {
        let (is_awaited, has_backlog) = (state.is_awaited, !state.backlog.is_empty());
        drop(state);
        if is_awaited {
            self.changed.notify_one();
        } else if has_backlog && let Some(bell) = self.bell() {
            // A full counter has rung already.
            let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
        }
    }

    /// Gives the socket what it takes at once, and returns the rest.
    fn send(&self, part: Part) -> Result<Option<Part>, ErrorKind> {
        let Part::Frames(mut frames) = part else { return Ok(Some(part)) };
        let mut sent = 0;
        while sent < frames.len() {
            match send(&*self.stream, &frames[sent..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    frames.drain(..sent);
                    return Ok(Some(Part::Frames(frames)));
                }
                Err(error) => return Err(io::Error::from(error).kind()),
            }
        }
        Ok(None)
    }
}

impl State {
    fn fail(&mut self, kind: ErrorKind) {
        self.failed.get_or_insert(kind);
        self.backlog.clear();
    }
}

/// Requests that were handed in. Dropped unanswered, it ends the connection: its client would wait for ever.
pub struct Expected {
    replies: Arc<Replies>,
    requests: usize,
}

impl Expected {
    /// Answers them.
    pub fn answer(mut self, part: Part) {
        self.replies.answer(part, std::mem::take(&mut self.requests));
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        if self.requests > 0 {
            let mut state = self.replies.state.lock();
            state.under_way -= self.requests;
            state.fail(ErrorKind::BrokenPipe);
            // The client's thread finds the end of its input.
            let _ = self.replies.stream.shutdown(std::net::Shutdown::Both);
            self.replies.tell(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A connection whose client is at the other end.
    fn connection() -> (Arc<Replies>, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        let near = TcpStream::from(OwnedFd::from(near));
        near.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        (Replies::new(Arc::new(near)), far)
    }

    fn read(client: &mut UnixStream, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        client.read_exact(&mut read).unwrap();
        read
    }

    #[test]
    fn what_the_socket_does_not_take_is_the_clients_threads_and_all_stays_in_order() {
        const BYTES: usize = 1 << 20;
        let (replies, mut client) = connection();
        let mut expected: Vec<Expected> = (0..4).map(|_| replies.expect(1).unwrap().unwrap()).collect();
        let mut next = |part| expected.remove(0).answer(part);
        // Nobody reads, and none of these waits.
        next(Part::Frames(vec![1; BYTES]));
        next(Part::Work(Box::new(|| vec![2; BYTES])));
        next(Part::Frames(vec![3; BYTES]));
        assert_eq!(replies.wait_for_input(Duration::from_secs(30)).unwrap(), Woken::Backlog);
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| [1, 2, 3, 4].map(|_| read(&mut client, BYTES)));
            let waiting = scope.spawn(|| replies.wait(0));
            next(Part::Frames(vec![4; BYTES]));
            waiting.join().unwrap().unwrap();
            let pieces = reading.join().unwrap();
            assert!((1..).zip(pieces).all(|(byte, piece)| piece.iter().all(|read| *read == byte)));
        });
        assert!(!replies.is_busy() && replies.at_rest_since().is_some());
    }

    #[test]
    fn who_takes_nothing_in_time_gets_no_more_work_done() {
        let (replies, _client) = connection();
        let expected = replies.expect(PIPELINE_REQUESTS).unwrap().unwrap();
        assert!(replies.at_rest_since().is_none());
        expected.answer(Part::Frames(vec![1; 1 << 20]));
        assert!(replies.expect(1).is_err());
        assert!(replies.wait(0).is_err() && replies.state.lock().backlog.is_empty());
        replies.end();
    }

    #[test]
    fn an_answer_that_is_lost_ends_the_connection_and_nobody_waits_for_it() {
        let (replies, mut client) = connection();
        let expected = replies.expect(2).unwrap().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| replies.wait(0));
            drop(expected);
            assert!(waiting.join().unwrap().is_err());
        });
        replies.end();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn no_more_than_a_pipeline_is_under_way() {
        let (replies, _client) = connection();
        let all = replies.expect(PIPELINE_REQUESTS).unwrap().unwrap();
        std::thread::scope(|scope| {
            let one_more = scope.spawn(|| replies.expect(1).unwrap().unwrap());
            assert_eq!(replies.state.lock().under_way, PIPELINE_REQUESTS);
            all.answer(Part::Frames(vec![1]));
            one_more.join().unwrap().answer(Part::Frames(vec![2]));
        });
        assert!(!replies.is_busy());
    }
}
