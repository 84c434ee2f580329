//! Databases, caches and brokers: discovery by process, connections from the server's own network namespace, and the available
//! logins.

pub mod celery;
mod celery_schedule;
mod cleartext;
mod connect;
mod find;
#[cfg(any(test, feature = "fuzz"))]
pub(super) mod fuzz;
pub mod identity;
mod login;
pub mod metrics;
mod peer;
pub mod postgres;
mod postgres_rows;
pub mod prometheus;
pub mod rabbitmq;
pub mod rabbitmq_data;
mod rabbitmq_json;
pub mod redis;
pub mod redis_acl;
mod redis_info;
pub mod redis_master;
mod sockets;
mod tls;
pub mod web;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::probe::product::default_port;
pub use connect::{Bounded, ConnectAddr, Stream, open_connection, user_of};
pub use find::{FoundServer, scan};
pub use login::{Login, Secret, libpq_server, secret_file};
pub(in crate::probe) use peer::served_by;
pub(super) use sockets::connections_of;
pub use sockets::{Socket, tcp_port};
pub use tls::Trust;
pub(super) use tls::over_tls;

use super::{Memo, ProbeCx, ProbeError, blocking};
use crate::model::address::join;
use crate::model::{Object, Product, ServerRef};
use crate::probe::network::netns::ConnectError;

/// Timeout of connect(2): a server is on this machine or in its network.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Timeout of one reply. A server that needs longer for so little is stuck for its users too.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// Reasons for having no session with a server. All of them are evidence: only failures of opsctl itself are [`ProbeError`]s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum SessionError {
    /// The process does not run.
    NotRunning,
    /// The process runs and has no listening socket.
    NotListening,
    /// Connection refused.
    Refused {
        /// Address.
        address: String,
    },
    /// The connection failed for another reason.
    Unreachable {
        /// Address.
        address: String,
        /// Reason.
        why: String,
    },
    /// The connection is accepted, or waits in a full queue, and no reply is received.
    Hung {
        /// Address.
        address: String,
        /// Time waited, in milliseconds.
        after_ms: u64,
    },
    /// The server closed the connection.
    Closed {
        /// Address.
        address: String,
        /// Error of the connection.
        why: String,
    },
    /// The reply is of another protocol.
    Garbage {
        /// Address.
        address: String,
        /// Error of the parser.
        why: String,
    },
    /// The server rejected the session with an error message.
    Rejected {
        /// Address.
        address: String,
        /// SQLSTATE, or the first word of the reply.
        code: String,
        /// Rest of the message.
        message: String,
    },
    /// The peer of the connection is not proven to be the server: its replies are not used, and it receives no password.
    Unproven {
        /// Address.
        address: String,
        /// Owner of the process that accepted the connection, or the reason why it is unknown.
        why: String,
    },
    /// Authentication is required and opsctl has no login, or the login was rejected.
    Login {
        /// Address.
        address: String,
        /// Message of the server.
        message: String,
        /// Source of the login, or `None` if there was none to try.
        tried: Option<String>,
    },
}

impl SessionError {
    /// The more informative of two failures of one server; a refused connection is the least informative.
    pub(super) fn or(self, earlier: Self) -> Self {
        if matches!(self, Self::Refused { .. }) && !matches!(earlier, Self::NotListening | Self::Refused { .. }) {
            earlier
        } else {
            self
        }
    }

    /// From a failed TLS handshake. With a certificate that does not verify, the identity of the server is unproven.
    pub(super) fn insecure(address: String, error: &std::io::Error) -> Self {
        let why = error.to_string();
        if why.contains("invalid peer certificate") {
            Self::Unproven { address, why }
        } else if error.kind() == std::io::ErrorKind::InvalidData && error.get_ref().is_none_or(|e| !is_of_tls(e)) {
            Self::Garbage { address, why }
        } else if error.get_ref().is_some_and(is_of_tls) {
            Self::Closed { address, why: format!("TLS: {why}") }
        } else {
            Self::Closed { address, why }
        }
    }

    /// From a failed connection attempt.
    #[must_use]
    pub fn unconnected(address: String, why: ConnectError) -> Self {
        match why {
            ConnectError::Refused => Self::Refused { address },
            // the kernel completes connections before the process accepts them: only a full queue or a lost packet times out
            ConnectError::Timeout => Self::Hung { address, after_ms: millis(CONNECT_TIMEOUT) },
            ConnectError::Other(why) => Self::Unreachable { address, why },
        }
    }

    /// The reason in words, for requests within an established session.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Hung { after_ms, .. } => format!("no answer within {} s", after_ms / 1000),
            Self::Closed { why, .. } => format!("it closed the connection: {why}"),
            Self::Garbage { why, .. } => format!("invalid reply: {why}"),
            Self::Rejected { message, .. } | Self::Login { message, .. } => message.clone(),
            Self::Unreachable { why, .. } => why.clone(),
            Self::Unproven { why, .. } => format!("its identity is not proven: {why}"),
            Self::Refused { .. } => "it refuses connections".to_owned(),
            Self::NotListening => "it has no listening socket".to_owned(),
            Self::NotRunning => "it does not run".to_owned(),
        }
    }

    /// One line for checks that need a session; `up` is the code of the check that reports the reason.
    #[must_use]
    pub fn skip(&self, up: &str) -> ProbeError {
        let why = match self {
            Self::NotRunning => "it does not run",
            Self::NotListening => "it has no listening socket",
            Self::Login { .. } => "it requires a login that opsctl does not have",
            Self::Unproven { .. } => "its identity is not proven",
            Self::Rejected { .. } => "it rejects queries",
            _ => "it does not answer",
        };
        ProbeError::Skip(format!("{why}: see {up}"))
    }
}

/// Whether an error is one of TLS rather than of the transport.
fn is_of_tls(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.is::<rustls::Error>()
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// A server, with facts that stay within this process.
#[derive(Debug, Clone)]
pub struct ServerHandle {
    /// The part that may be recorded and shown.
    pub server: ServerRef,
    /// Listening sockets.
    pub sockets: Vec<Socket>,
    /// Whether the server shares the network namespace of this process; `None` if unknown or not running.
    pub is_local: Option<bool>,
    /// Its descriptors are not readable (another user): it may listen on other sockets than these.
    pub hidden: bool,
    /// Login from the configuration.
    pub login: Option<Login>,
    /// Processes and configuration of a running nginx.
    pub nginx: Option<Result<Arc<super::nginx::Nginx>, ProbeError>>,
}

impl ServerHandle {
    /// Host name that the certificate should contain.
    fn host(&self) -> &str {
        let named = self.login.as_ref().and_then(|l| l.host.as_deref());
        named.or(self.server.address.as_ref().map(|(host, _)| host.as_str())).unwrap_or("localhost")
    }

    /// Proof of identity that TLS has to provide, where TLS is required. A discovered process is proven by itself and often has a
    /// self-signed certificate; only PostgreSQL's `sslmode` states explicitly that the certificate counts.
    fn trust(&self) -> Option<&Trust> {
        let required = self.login.as_ref().and_then(|l| l.tls.as_ref());
        let explicit = matches!(self.server.product, Product::Postgres | Product::Pgbouncer);
        if self.server.process.is_some() && !explicit { required.map(|_| &Trust::Encrypted) } else { required }
    }

    /// Whether clients on this host reach this server at the loopback's `port` without naming a host.
    fn is_at_default(&self, port: u16) -> bool {
        let loopback = |host: &str| matches!(host, "localhost" | "127.0.0.1" | "::1");
        match &self.server.address {
            Some((host, at)) => loopback(host) && *at == port,
            None => self.is_local == Some(true) && self.server.container.is_none() && tcp_port(&self.sockets) == Some(port),
        }
    }
}

type Sessions<S> = Memo<String, Result<Result<Arc<S>, SessionError>, ProbeError>>;

/// The servers of this host, with one connection to each.
#[derive(Default)]
pub struct Servers {
    known: HashMap<String, ServerHandle>,
    redis: Sessions<redis::Session>,
    postgres: Sessions<postgres::Session>,
    rabbitmq: Sessions<rabbitmq::Session>,
    responses: web::Responses,
}

impl Servers {
    /// Creates the set without connections.
    #[must_use]
    pub fn new(known: Vec<ServerHandle>) -> Self {
        Self { known: known.into_iter().map(|k| (k.server.id.clone(), k)).collect(), ..Self::default() }
    }

    /// The server of a target.
    pub fn known(&self, target: &Object) -> Result<&ServerHandle, ProbeError> {
        let known = self.known.get(&target.id).ok_or_else(|| ProbeError::Skip("it no longer exists".to_owned()))?;
        match &known.server.untrusted {
            Some(why) => Err(ProbeError::Untrusted { server: known.server.name.clone(), why: why.clone() }),
            None => Ok(known),
        }
    }
}

impl ProbeCx {
    /// Databases, caches and brokers, with one connection to each.
    #[must_use]
    pub fn servers(&self) -> &Servers {
        self.shared.get()
    }

    /// The nginx of a target as read by discovery; the error is the reason for its absence.
    pub fn nginx(&self, target: &Object) -> Result<Arc<super::nginx::Nginx>, ProbeError> {
        match &self.servers().known(target)?.nginx {
            Some(Ok(nginx)) => Ok(nginx.clone()),
            Some(Err(e)) => Err(e.clone()),
            None => Err(ProbeError::Skip("it does not run: see nginx.stopped".to_owned())),
        }
    }

    /// Session with a Redis server; shared by all checks of a run.
    pub async fn redis(&self, target: &Object) -> Result<Result<Arc<redis::Session>, SessionError>, ProbeError> {
        let known = self.servers().known(target)?;
        let open = || async { Ok(Box::pin(redis::open(known, self)).await?.map(Arc::new)) };
        self.servers().redis.get(target.id.clone(), open).await
    }

    /// Session with a PostgreSQL server (or a PgBouncer); shared by all checks of a run.
    pub async fn postgres(&self, target: &Object) -> Result<Result<Arc<postgres::Session>, SessionError>, ProbeError> {
        let known = self.servers().known(target)?;
        let open = || async { Ok(Box::pin(postgres::open(known, self, None)).await?.map(Arc::new)) };
        self.servers().postgres.get(target.id.clone(), open).await
    }

    /// Session with a RabbitMQ node; shared by all checks of a run.
    pub async fn rabbitmq(&self, target: &Object) -> Result<Result<Arc<rabbitmq::Session>, SessionError>, ProbeError> {
        let known = self.servers().known(target)?;
        let open = || async { Ok(Box::pin(rabbitmq::open(known, self)).await?.map(Arc::new)) };
        self.servers().rabbitmq.get(target.id.clone(), open).await
    }

    /// Initial environment of a server, held in memory only: that of its container, or of its process.
    pub(super) async fn environment_of(&self, server: &ServerRef) -> Vec<String> {
        if let (Some(id), Some(docker)) = (&server.container, &self.docker) {
            return docker.environment(id).await.unwrap_or_default();
        }
        let Some(process) = server.process else { return Vec::new() };
        let from = format!("process {}", process.pid);
        let read = blocking::run("an environment", &from, CONNECT_TIMEOUT, move |io| {
            io.read_lossy(format!("/proc/{}/environ", process.pid)).unwrap_or_default()
        });
        let environ = read.await.unwrap_or_default();
        let environ: Vec<String> = environ.split('\0').filter(|e| e.contains('=')).map(str::to_owned).collect();
        self.redactor.learn_environment(environ.iter().map(String::as_str));
        environ
    }
}

/// The listening sockets of a server are not readable by this user.
fn hidden_sockets(name: &str) -> SessionError {
    let why = format!("its listening sockets: permission denied; needs {}", super::needed_right());
    SessionError::Unproven { address: name.to_owned(), why }
}

/// Addresses of a server, in the order in which they are tried.
async fn connect_addrs(known: &ServerHandle) -> Result<Vec<ConnectAddr>, SessionError> {
    let inside = known.server.process.map(|p| p.pid);
    if let Some((host, port)) = &known.server.address {
        if host.starts_with('/') {
            let path = std::path::Path::new(host).join(format!(".s.PGSQL.{port}"));
            return Ok(vec![ConnectAddr { socket: Socket::Unix(path), inside: None, user: None }]);
        }
        let address = join(host, *port);
        let (name, at) = (host.clone(), *port);
        let resolved = blocking::run("a host name", host, CONNECT_TIMEOUT, move |io| io.look_up(&name, at)).await;
        return match resolved {
            Ok(Ok(found)) => {
                Ok(found.into_iter().map(|a| ConnectAddr { socket: Socket::Tcp(a), inside: None, user: None }).collect())
            }
            Ok(Err(e)) => Err(SessionError::Unreachable { address, why: format!("name lookup: {e}") }),
            Err(_) => Err(SessionError::Unreachable { address, why: "name lookup: no answer".to_owned() }),
        };
    }
    if inside.is_none() {
        return Err(SessionError::NotRunning);
    }
    if known.sockets.is_empty() {
        return Err(if known.hidden { hidden_sockets(&known.server.name) } else { SessionError::NotListening });
    }
    Ok(known.sockets.iter().map(|socket| ConnectAddr { socket: socket.clone(), inside, user: None }).collect())
}
