//! A process of the server, without its sockets and threads: opened, asked, killed.

use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bank_server::bank::passwords::HashCost;
use bank_server::branch::outgoing::Outgoing;
use bank_server::branch::session::{After, BranchSession};
use bank_server::cli::arguments::Arguments;
use bank_server::cli::config::Config;
use bank_server::dbs_exec::Position;
use bank_server::node::{Core, Opened, Stop, Surroundings};
use bank_server::service::Service;
use bank_server::transfer::Engine;
use clap::Parser as _;
use crossbeam_channel::{Receiver, bounded};
use protocol::frame::{BATCH_FRAME_BYTES_MAX, read_frame};
use serde_json::Value;

use super::host::{SimulatedCarrier, SimulatedExchange, SimulatedHost, Station};

/// A server that runs.
pub struct Process {
    /// What it is made of.
    pub core: Box<Core>,
    /// Its place in the world.
    pub station: Arc<Station>,
    stop: Receiver<Stop>,
}

/// What a request was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The answer, as it is.
    pub body: Value,
    /// What becomes of the connection.
    pub becomes: Becomes,
    /// Where the log ended then.
    pub position: Option<Position>,
}

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Becomes {
    /// A connection, as before.
    Connection,
    /// A link between branches.
    Link,
    /// A stream to a replica.
    Stream,
    /// It is answered once the copy is open again in another role.
    Changed,
}

impl Process {
    /// Starts the server with this command line.
    ///
    /// `None` when it finds that another copy has replaced it.
    ///
    /// # Errors
    /// What it would print before it ends.
    pub fn start(
        arguments: &[String],
        port: u16,
        station: Arc<Station>,
        is_first: bool,
    ) -> Result<Option<Self>, String> {
        let arguments = Arguments::try_parse_from(arguments).map_err(|error| error.to_string())?;
        let config = Config::resolve(&arguments)?;
        let (stop, stopped) = bounded(64);
        let waiting = Arc::clone(&station);
        let exchange = SimulatedExchange { shared: Arc::clone(station.shared()), copy: station.copy() };
        let around = Surroundings {
            port,
            connector: None,
            hash_cost: HashCost::LEAST,
            host: Box::new(SimulatedHost(Arc::clone(&station))),
            carrier: Some(Box::new(SimulatedCarrier(Arc::clone(&station)))),
            exchange: Some(Arc::new(exchange)),
            event_file: None,
            wait_hook: Some(Box::new(move |wait| waiting.wait_for_replicas(wait))),
            shared_log: None,
            stop,
            // The panic that asks for it goes on, and the world sees to it that nothing of the process is used again.
            exit: |_| {},
        };
        match Core::open(&config, around, is_first)? {
            Opened::Open(core) => {
                station.shared().begin(port, station.copy(), &core.service);
                Ok(Some(Self { core, station, stop: stopped }))
            }
            Opened::Replaced(_) => Ok(None),
        }
    }

    /// Its part in the transfers.
    #[must_use]
    pub fn engine(&self) -> &Arc<Engine> {
        &self.core.service.engine
    }

    /// Why it wants to end, if it does.
    #[must_use]
    pub fn stop(&self) -> Option<Stop> {
        self.stop.try_recv().ok()
    }

    /// Asks it something over a connection of its own.
    #[must_use]
    pub fn ask(&self, request: &str) -> Answer {
        let (body, after) = answer(&self.core.service, request.as_bytes());
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let becomes = match after {
            After::GoOn | After::Watch(_) => Becomes::Connection,
            After::BecomeLink(_) => Becomes::Link,
            After::Replicate(_) => Becomes::Stream,
            After::ChangeRole(_) => Becomes::Changed,
        };
        Answer { body, becomes, position: self.core.dbs.position() }
    }

    /// Puts the database in order and ends, as on a signal.
    pub fn stop_cleanly(self) {
        self.core.dbs.close();
    }
}

impl Answer {
    /// The result, if it was carried out.
    #[must_use]
    pub fn result(&self) -> Option<&Value> {
        if self.body["status"] == "ok" { Some(&self.body["result"]) } else { None }
    }

    /// The error's code, if it was not.
    #[must_use]
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or("")
    }
}

/// Starts a server on a new database and stops it again; gives the database's file as it is then.
///
/// # Errors
/// What went wrong.
pub fn new_database(path: &Path, arguments: &[String], station: Arc<Station>) -> Result<Vec<u8>, String> {
    let process = Process::start(arguments, 1, station, true)?.ok_or("a new branch was replaced")?;
    process.stop_cleanly();
    std::fs::read(path).map_err(|error| error.to_string())
}

/// What a process answers to one request, over a connection of its own, and what the connection becomes.
pub(super) fn answer(service: &Service, request: &[u8]) -> (Vec<u8>, After) {
    let mut session = BranchSession::over(service, IpAddr::V4(Ipv4Addr::LOCALHOST), 0, a_stream());
    let mut frames = Vec::new();
    let mut outgoing = Outgoing::new(&mut frames);
    let answered = session.answer(&[request], false, &mut outgoing);
    let (_, after) = answered.and_then(|answered| outgoing.flush().map(|()| answered)).expect("memory takes it");
    drop(outgoing);
    let mut body = Vec::new();
    let is_whole = read_frame(&mut &frames[..], BATCH_FRAME_BYTES_MAX, &mut body);
    assert!(matches!(is_whole, Ok(true)), "a request has an answer");
    (body, after)
}

/// A session belongs to a connection, which a password that is changed closes. Nobody logs in here, so one does for all.
fn a_stream() -> Arc<TcpStream> {
    static STREAM: OnceLock<(Arc<TcpStream>, TcpListener)> = OnceLock::new();
    let (stream, _) = STREAM.get_or_init(|| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("this machine has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        (Arc::new(TcpStream::connect(address).expect("the listener is there")), listener)
    });
    Arc::clone(stream)
}
