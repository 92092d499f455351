//! One session with a PostgreSQL server that can be written: dialled, logged in, and asked within limits of time.
//!
//! The library is asynchronous; this file is where that ends. A session has a small runtime of its own, which runs only
//! while a call waits, in the thread that calls. A call that takes too long is given up with its session: nothing is
//! left behind that could still speak for this process, but for what the server has received already.

use std::future::poll_fn;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tls::{Connector, Patience};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::config::SslMode;
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Statement};

use super::target::Target;
use crate::limits::{LOG_CONNECT, LOG_TRY, TLS_LINGER, WRITE_TIMEOUT};

/// What asks a server for TLS: its length, and a number that is no version of the protocol.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// What each session begins with. A limit of time at the server would end a wait for its synchronous standby, and
/// PostgreSQL then calls a commit done that only one machine has. The schema is named, so that no other can come before.
const SETTINGS: &str = "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
    SET search_path = public; \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')";

/// How a call failed.
#[derive(Debug)]
pub enum Failed {
    /// The server's answer is an error, and the transaction is undone.
    Answered {
        /// PostgreSQL's five characters.
        code: String,
        /// In words.
        text: String,
    },
    /// There is no answer, or none to rely on.
    Unknown(String),
}

/// A session.
pub struct Session {
    // Before the runtime, in which it lives.
    client: Client,
    /// Prepared once: it is executed for every group.
    pub append: Option<Statement>,
    runtime: Runtime,
    /// Whether the server has warned since the last call began.
    has_warned: Arc<AtomicBool>,
}

impl Session {
    /// Tries each server in turn, and takes the first that can be written.
    ///
    /// # Errors
    /// What the last of them said; nothing was sent that changes anything.
    pub fn open(target: &Target, connector: Option<&Connector>, process: &str) -> Result<Self, String> {
        let mut trouble = String::new();
        for (host, port) in &target.servers {
            match Self::open_at(target, connector, process, (host, *port)) {
                Ok(session) => return Ok(session),
                Err(text) => trouble = format!("{host}:{port}: {text}"),
            }
        }
        Err(trouble)
    }

    fn open_at(
        target: &Target,
        connector: Option<&Connector>,
        process: &str,
        (host, port): (&str, u16),
    ) -> Result<Self, String> {
        let stream = dial(host, port, target.ssl_mode, connector)?;
        stream.set_nonblocking(true).map_err(|error| error.to_string())?;
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let mut config = target.config.clone();
        config.application_name(format!("bank {process}"));
        let has_warned = Arc::new(AtomicBool::new(false));
        let warned = Arc::clone(&has_warned);
        let connect = async {
            let stream = tokio::net::TcpStream::from_std(stream).map_err(|error| error.to_string())?;
            let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(|error| tell(&error))?;
            tokio::spawn(drive(connection, warned));
            client.batch_execute(SETTINGS).await.map_err(|error| tell(&error))?;
            let row = client.query_one("SELECT pg_is_in_recovery()", &[]).await.map_err(|error| tell(&error))?;
            if row.get(0) { Err("it is a standby, which takes no writes".to_string()) } else { Ok(client) }
        };
        let connected = runtime.block_on(async { tokio::time::timeout(LOG_CONNECT, connect).await });
        let client = connected.map_err(|_| "it does not answer in time".to_string())??;
        Ok(Self { client, append: None, runtime, has_warned })
    }

    /// Whether the server has closed it.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs a call, at most so long. After anything but an answer the session is of no use any more.
    ///
    /// # Errors
    /// [`Failed`].
    pub fn call<T>(
        &self,
        limit: Duration,
        call: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, Failed> {
        self.has_warned.store(false, Ordering::SeqCst);
        let called = self.runtime.block_on(async { tokio::time::timeout(limit, call(&self.client)).await });
        let called = called.map_err(|_| Failed::Unknown("it does not answer in time".into()))?;
        let answer = called.map_err(|error| match error.as_db_error() {
            // A fatal error ends the session; what was under way may have been committed before it.
            Some(answer) if answer.severity() == "ERROR" => {
                Failed::Answered { code: answer.code().code().to_string(), text: tell(&error) }
            }
            Some(_) | None => Failed::Unknown(tell(&error)),
        })?;
        // Such as: the wait for the synchronous standby was cancelled, and the commit is on one machine alone.
        if self.has_warned.load(Ordering::SeqCst) {
            return Err(Failed::Unknown("the server answered with a warning".into()));
        }
        Ok(answer)
    }

    /// The statement that appends, prepared on this session.
    ///
    /// # Errors
    /// [`Failed`]; nothing was changed.
    pub fn prepare_append(&mut self, sql: &str) -> Result<Statement, Failed> {
        if let Some(append) = &self.append {
            return Ok(append.clone());
        }
        let append = self.call(LOG_TRY, async |client| client.prepare(sql).await)?;
        self.append = Some(append.clone());
        Ok(append)
    }
}

/// Moves what comes and goes, and notes the server's warnings.
async fn drive(
    mut connection: Connection<tokio::net::TcpStream, tokio_postgres::tls::NoTlsStream>,
    warned: Arc<AtomicBool>,
) {
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        match message {
            Ok(AsyncMessage::Notice(notice)) if notice.severity() == "WARNING" => {
                log::warn!("PostgreSQL warns: {}", notice.message());
                warned.store(true, Ordering::SeqCst);
            }
            Ok(_) => {}
            // Whoever waits for an answer is told.
            Err(_) => return,
        }
    }
}

/// An error and its cause, in one line.
fn tell(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(answer), _) => format!("{} ({})", answer.message(), answer.code().code()),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

/// Connects to a server, over TLS if that is wanted and there is a connector.
fn dial(host: &str, port: u16, ssl_mode: SslMode, connector: Option<&Connector>) -> Result<TcpStream, String> {
    let deadline = Instant::now() + LOG_CONNECT;
    let mut trouble = "the name has no address".to_string();
    for address in (host, port).to_socket_addrs().map_err(|error| error.to_string())? {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => {
                // A row and its answer are one exchange each; neither is to wait for the other's acknowledgement.
                stream.set_nodelay(true).map_err(|error| error.to_string())?;
                return encrypt(stream, host, ssl_mode, connector);
            }
            Err(error) => trouble = error.to_string(),
        }
    }
    Err(trouble)
}

fn encrypt(
    mut stream: TcpStream,
    host: &str,
    ssl_mode: SslMode,
    connector: Option<&Connector>,
) -> Result<TcpStream, String> {
    let connector = match (ssl_mode, connector) {
        (SslMode::Disable, _) => return Ok(stream),
        (_, Some(connector)) => connector,
        // `prefer`, the default, takes what there is.
        (SslMode::Prefer, None) => return Ok(stream),
        (_, None) => return Err("sslmode asks for TLS: name the server's authority with --tls-ca".into()),
    };
    let failed = |error: std::io::Error| format!("TLS: {error}");
    stream.set_read_timeout(Some(LOG_CONNECT)).map_err(failed)?;
    stream.write_all(&SSL_REQUEST).map_err(failed)?;
    let mut answer = [0];
    stream.read_exact(&mut answer).map_err(failed)?;
    if answer != *b"S" {
        // Whoever names an authority means it.
        return Err("it has no TLS, and --tls-ca was given: say sslmode=disable if that is right".into());
    }
    let patience = Patience { handshake: LOG_CONNECT, write: WRITE_TIMEOUT, linger: TLS_LINGER };
    connector.connect(stream, host, patience).and_then(|tunnel| tunnel.inside()).map_err(failed)
}
