//! The threads that watch the branches: one asks how each is, one listens to what happens there.
//!
//! They tell what they see to the branch's `state` and to the store, and find further branches by those that they
//! watch. They own no money and no disk, so at the end they are told, their connections are broken, and one that a
//! connection attempt still holds up is left behind.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use protocol::Address;
use protocol::answer::Branch as BranchLine;
use protocol::connection::CallError;
use protocol::event::{Event, EventKind};
use protocol::frame::FrameError;
use protocol::io_words::IoWords;
use protocol::request::{Action, NoParams, Watch};
use protocol::teaching::Look;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::branch::{Branch, BranchConnection, find};
use crate::bridge::Bridge;
use crate::config::DEFAULT_BRANCH;
use crate::limits::{
    DISCOVERY_INTERVAL, STAGE_INTERVAL, STATUS_INTERVAL, STATUS_TIMEOUT, THREADS_GRACE, WATCH_EVENTS_PER_SECOND,
    WATCH_PAUSE,
};
use crate::store::{Happened, Topic};

/// Events that are taken in one go at most, before they are shown.
const EVENTS_AT_ONCE: usize = 64;

/// The threads.
#[derive(Default)]
pub struct Watchers {
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Watchers {
    /// Watches the branches that the bridge was told of; without any, looks for one at the usual place.
    ///
    /// # Errors
    /// One sentence when a thread can't be started.
    pub fn start(bridge: &Arc<Bridge>) -> Result<Arc<Self>, String> {
        let watchers = Arc::new(Self::default());
        for named in &bridge.config.branches {
            if let Some(branch) = bridge.branches.tell(&named.name, &named.address) {
                watchers.watch(bridge, &branch)?;
            }
        }
        if bridge.config.branches.is_empty() {
            let (bridge, all) = (Arc::clone(bridge), Arc::clone(&watchers));
            watchers.spawn("find-branch".into(), move || find_first(&bridge, &all))?;
        }
        let auditing = Arc::clone(bridge);
        watchers.spawn("auditor".into(), move || crate::auditor::run(&auditing))?;
        let checking = Arc::clone(bridge);
        watchers.spawn("logins".into(), move || crate::password_check::run(&checking))?;
        Ok(watchers)
    }

    /// Watches a branch from now on.
    ///
    /// # Errors
    /// One sentence when a thread can't be started.
    pub fn watch(self: &Arc<Self>, bridge: &Arc<Bridge>, branch: &Arc<Branch>) -> Result<(), String> {
        let (shared, asked, all) = (Arc::clone(bridge), Arc::clone(branch), Arc::clone(self));
        self.spawn(format!("ask-{}", branch.name()), move || Asker::new(&shared, &asked, &all).run())?;
        let (shared, heard) = (Arc::clone(bridge), Arc::clone(branch));
        self.spawn(format!("hear-{}", branch.name()), move || hear(&shared, &heard))
    }

    /// Waits for the threads, at most [`THREADS_GRACE`]. The bridge's stop must be set.
    pub fn end(&self, bridge: &Bridge) {
        for branch in bridge.branches.all() {
            branch.break_connections();
            branch.state.poke();
        }
        let deadline = Instant::now() + THREADS_GRACE;
        for thread in self.threads.lock().drain(..) {
            while !thread.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            if thread.is_finished() && thread.join().is_err() {
                log::error!("a thread that watched a branch had panicked");
            }
        }
    }

    fn spawn(&self, name: String, run: impl FnOnce() + Send + 'static) -> Result<(), String> {
        let thread = std::thread::Builder::new().name(name).spawn(run);
        self.threads.lock().push(thread.map_err(|error| format!("no thread for a branch: {error}"))?);
        Ok(())
    }
}

/// Asks the usual place for its name until it answers.
fn find_first(bridge: &Arc<Bridge>, watchers: &Arc<Watchers>) {
    let address = Address::from(DEFAULT_BRANCH);
    let mut is_told = false;
    while !bridge.stop.is_set() {
        match find(&address, bridge.branches.credentials()) {
            Ok((_, name)) => {
                learn(bridge, watchers, &name, &address);
                return;
            }
            Err(error) if !is_told => {
                log::warn!("no branch at {address} yet ({error}); it is asked again until there is one");
                is_told = true;
            }
            Err(_) => {}
        }
        if bridge.stop.wait(STATUS_INTERVAL) {
            return;
        }
    }
}

fn learn(bridge: &Arc<Bridge>, watchers: &Arc<Watchers>, name: &str, address: &Address) {
    let Ok(name) = name.parse() else { return };
    if let Some(branch) = bridge.branches.learn(&name, address)
        && let Err(error) = watchers.watch(bridge, &branch)
    {
        log::error!("{error}");
    }
}

/// Asks one branch how it is.
struct Asker<'a> {
    bridge: &'a Arc<Bridge>,
    branch: &'a Arc<Branch>,
    watchers: &'a Arc<Watchers>,
    connection: Option<(BranchConnection, u64)>,
    last_discovery: Option<Instant>,
}

impl<'a> Asker<'a> {
    fn new(bridge: &'a Arc<Bridge>, branch: &'a Arc<Branch>, watchers: &'a Arc<Watchers>) -> Self {
        Self { bridge, branch, watchers, connection: None, last_discovery: None }
    }

    fn run(mut self) {
        let mut last_status: Option<Instant> = None;
        while !self.bridge.stop.is_set() {
            let is_due = last_status.is_none_or(|last| last.elapsed() >= STATUS_INTERVAL);
            let is_lively = self.branch.state.is_teaching() && self.branch.state.is_up();
            match self.ask(is_due || !is_lively) {
                Ok(()) => {}
                Err(cause) => self.silent(&cause),
            }
            if is_due || !is_lively {
                last_status = Some(Instant::now());
            }
            let is_staged = self.branch.state.snapshot().stage.is_some();
            self.branch.state.wait(if is_staged { STAGE_INTERVAL } else { STATUS_INTERVAL });
        }
        self.hang_up();
    }

    fn ask(&mut self, wants_status: bool) -> Result<(), String> {
        if wants_status {
            let status: Value = self.call(Action::Status, &NoParams {})?;
            if self.branch.state.answered(status) {
                log::info!("branch {} is up at {}", self.branch.name(), self.branch.address());
            }
            crate::auditor::tell(self.bridge);
        }
        if self.branch.state.is_teaching() {
            let stage: Box<RawValue> = self.call(Action::Stage, &Look { lease: Some(self.bridge.lease()) })?;
            tell_stage(self.bridge, self.branch, Some(stage.get()));
        }
        if self.last_discovery.is_none_or(|last| last.elapsed() >= DISCOVERY_INTERVAL) {
            self.last_discovery = Some(Instant::now());
            self.discover()?;
        }
        Ok(())
    }

    fn discover(&mut self) -> Result<(), String> {
        let lines: Vec<BranchLine> = self.call(Action::Branches, &NoParams {})?;
        let told_by = self.branch.address();
        for line in lines.into_iter().filter(|line| line.name != self.branch.name().as_str()) {
            // Where a link leads, the branch has proved itself; elsewhere it once was, which says nothing of one that is
            // known here already.
            let is_sure = line.state == "up" || !self.bridge.branches.is_known(&line.name);
            if let Ok(address) = line.address.parse::<Address>()
                && is_sure
            {
                learn(self.bridge, self.watchers, &line.name, &address.told_by(&told_by));
            }
        }
        Ok(())
    }

    fn call<R: serde::de::DeserializeOwned>(&mut self, action: Action, params: &impl Serialize) -> Result<R, String> {
        if self.connection.is_none() {
            let connection = self.branch.open()?;
            connection.stream().set_read_timeout(Some(STATUS_TIMEOUT)).map_err(|error| IoWords(&error).to_string())?;
            let number = self.branch.register(&connection);
            self.connection = Some((connection, number));
        }
        let Some((connection, _)) = &mut self.connection else { return Err("no connection".into()) };
        let answer = connection.call(action, params, None);
        answer.map_err(|error| {
            match error {
                // It has answered; the connection is as good as before.
                CallError::Refused(_) => {}
                CallError::Stranger | CallError::Closed | CallError::Frame(_) | CallError::Json(_) => self.hang_up(),
            }
            error.to_string()
        })
    }

    fn silent(&mut self, cause: &str) {
        self.hang_up();
        if self.bridge.stop.is_set() {
            return;
        }
        if self.branch.state.silent() {
            log::warn!("branch {} at {} is down: {cause}", self.branch.name(), self.branch.address());
            self.branch.break_connections();
        }
        self.last_discovery = None;
        tell_stage(self.bridge, self.branch, None);
        crate::auditor::tell(self.bridge);
    }

    fn hang_up(&mut self) {
        if let Some((_, number)) = self.connection.take() {
            self.branch.forget(number);
        }
    }
}

/// Tells those who watch how the stage of a branch stands, if that is news.
pub fn tell_stage(bridge: &Bridge, branch: &Branch, stage: Option<&str>) {
    let is_news = branch.state.staged(stage.map(ToOwned::to_owned));
    if is_news {
        let json = format!(r#"{{"branch":"{}","stage":{}}}"#, branch.name(), stage.unwrap_or("null"));
        bridge.store.say(Topic::Stage(branch.name().to_string()), &json);
    }
}

/// Listens to what happens at one branch, and goes on where it was when the connection breaks.
fn hear(bridge: &Arc<Bridge>, branch: &Arc<Branch>) {
    let mut after = None;
    while !bridge.stop.is_set() {
        // Whether the branch is there is the other thread's business, and its log line.
        if let Ok(connection) = branch.open() {
            let number = branch.register(&connection);
            if let Err(error) = hear_until_it_breaks(bridge, branch, connection, &mut after) {
                log::debug!("the events of {}: {error}", branch.name());
            }
            branch.forget(number);
        }
        if bridge.stop.wait(WATCH_PAUSE) {
            return;
        }
    }
}

fn hear_until_it_breaks(
    bridge: &Arc<Bridge>,
    branch: &Arc<Branch>,
    mut connection: BranchConnection,
    after: &mut Option<u64>,
) -> Result<(), CallError> {
    let watch = Watch { after: *after, txid: None, follow: true };
    connection.send(Action::Watch, &watch, None)?;
    let mut events = Vec::new();
    let mut second = (Instant::now(), 0);
    loop {
        // Wait for one, and take along those that have come with it.
        connection.stream().set_read_timeout(None).map_err(|error| CallError::Frame(FrameError::Io(error)))?;
        events.push(next(&mut connection)?);
        while events.len() < EVENTS_AT_ONCE && has_more(&connection) {
            events.push(next(&mut connection)?);
        }
        *after = events.last().map(|happened| happened.event.number).or(*after);
        second = pace(second, u32::try_from(events.len()).unwrap_or(u32::MAX));
        note(bridge, branch, &events);
        bridge.store.happened(std::mem::take(&mut events));
    }
}

fn next(connection: &mut BranchConnection) -> Result<Happened, CallError> {
    let answer = connection.receive()?;
    let json = answer.result().map_err(CallError::Refused)?;
    let event: Event = serde_json::from_str(json).map_err(CallError::Json)?;
    Ok(Happened { event, json: json.into() })
}

/// Whether a byte has come already.
fn has_more(connection: &BranchConnection) -> bool {
    let stream = connection.stream();
    let is_set = stream.set_nonblocking(true).is_ok();
    let has_more = is_set && matches!(stream.peek(&mut [0]), Ok(1..));
    stream.set_nonblocking(false).is_ok() && has_more
}

/// Rests when a branch has more to tell than is listened to.
fn pace((began, count): (Instant, u32), more: u32) -> (Instant, u32) {
    let elapsed = began.elapsed();
    if elapsed >= Duration::from_secs(1) {
        return (Instant::now(), more);
    }
    if count + more < WATCH_EVENTS_PER_SECOND {
        return (began, count + more);
    }
    std::thread::sleep(Duration::from_secs(1) - elapsed);
    (Instant::now(), 0)
}

/// Has asked what these events may have changed: money here, and what waits at a branch in step mode.
fn note(bridge: &Bridge, branch: &Branch, events: &[Happened]) {
    let mut is_moved = false;
    for happened in events {
        match &happened.event.kind {
            EventKind::Sent { to, .. } => {
                if let Ok(receiver) = bridge.branches.by_name(to)
                    && receiver.state.is_teaching()
                {
                    receiver.state.poke();
                }
            }
            EventKind::Moved { .. } => is_moved = true,
            _ => {}
        }
    }
    if is_moved {
        branch.state.moved();
    }
}
