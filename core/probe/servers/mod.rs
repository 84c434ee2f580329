//! Databases, caches and brokers: found by their processes, reached from where they are, logged in to with what is at hand.

mod cleartext;
mod connect;
mod files;
mod find;
#[cfg(any(test, feature = "fuzz"))]
pub(super) mod fuzz;
mod login;
mod peer;
pub mod postgres;
mod product;
pub mod rabbitmq;
pub mod redis;
mod run;
mod sockets;
mod tls;
pub mod web;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use connect::{Bounded, Stream, Way, open_way, user_of};
pub use files::{file_of, file_tail, files_of, may_write, modified_of, open_files};
pub(super) use find::parent_and_start;
pub use find::{Found, children_of, children_titles, folders_of, scan, state_of};
pub use login::{Login, Secret, libpq_server, secret_file};
pub(in crate::probe) use peer::served_by;
pub use product::{product_of, product_of_program, product_of_unit};
pub use run::run_for;
pub(super) use sockets::connections_of;
pub use sockets::{Socket, default_port, tcp_port};
pub use tls::Trust;
pub(super) use tls::over_tls;

use super::netns::NoConnection;
use super::{Memo, ProbeCx, ProbeError, blocking};
use crate::model::{Product, ServerRef, Target};

/// How long a connection may take: it is made on this machine or in its network.
const CONNECT: Duration = Duration::from_secs(1);

/// How long one answer may take. A server that needs longer for so little is stuck for its users too.
const ANSWER: Duration = Duration::from_secs(2);

/// Why there is no session with a server. All of it is evidence: only what *we* could not do is a [`ProbeError`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum NoSession {
    /// It does not run.
    NotRunning,
    /// It runs and listens nowhere.
    NotListening,
    /// Nobody answers the connection.
    Refused {
        /// Where.
        address: String,
    },
    /// The connection could not be made.
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        why: String,
    },
    /// It accepts, or its queue of connections is full, and no answer comes.
    Hung {
        /// Where.
        address: String,
        /// How long was waited, in milliseconds.
        after_ms: u64,
    },
    /// It closed the conversation.
    Closed {
        /// Where.
        address: String,
        /// What was seen.
        why: String,
    },
    /// It speaks something else.
    Garbage {
        /// Where.
        address: String,
        /// What the parser said.
        why: String,
    },
    /// It said no, in its own words.
    Rejected {
        /// Where.
        address: String,
        /// SQLSTATE, or the first word of the answer.
        code: String,
        /// The rest.
        message: String,
    },
    /// The peer of the connection is not proven to be it: its answers are not used, and it got no password.
    Unproven {
        /// Where.
        address: String,
        /// Whose process answers there, or why that cannot be known.
        why: String,
    },
    /// It wants a login that we do not have, or does not take the one we have.
    Login {
        /// Where.
        address: String,
        /// What it said.
        message: String,
        /// Where the login came from; none when there was none to try.
        tried: Option<String>,
    },
}

impl NoSession {
    /// Of two ways to one server, what says more of it: that nothing listens at one of them is the least.
    pub(super) fn or(self, earlier: Self) -> Self {
        if matches!(self, Self::Refused { .. }) && !matches!(earlier, Self::NotListening | Self::Refused { .. }) {
            earlier
        } else {
            self
        }
    }

    /// From a connection that could not be secured: a certificate that does not verify leaves open who answers.
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

    /// From a connection that could not be made.
    #[must_use]
    pub fn unconnected(address: String, why: NoConnection) -> Self {
        match why {
            NoConnection::Refused => Self::Refused { address },
            // the kernel completes connections for a process that does not take them: only a full queue or a lost packet times out
            NoConnection::Timeout => Self::Hung { address, after_ms: millis(CONNECT) },
            NoConnection::Other(why) => Self::Unreachable { address, why },
        }
    }

    /// Why there is no answer, in words; for questions that were asked in a conversation that had begun well.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Hung { after_ms, .. } => format!("no answer within {} s", after_ms / 1000),
            Self::Closed { why, .. } => format!("it closed the conversation: {why}"),
            Self::Garbage { why, .. } => format!("what came is no answer: {why}"),
            Self::Rejected { message, .. } | Self::Login { message, .. } => message.clone(),
            Self::Unreachable { why, .. } => why.clone(),
            Self::Unproven { why, .. } => format!("its identity is not proven: {why}"),
            Self::Refused { .. } => "it takes no connection".to_owned(),
            Self::NotListening => "it listens nowhere".to_owned(),
            Self::NotRunning => "it does not run".to_owned(),
        }
    }

    /// One line for checks that cannot say anything without a session; `up` is the code of the check that can.
    #[must_use]
    pub fn skip(&self, up: &str) -> ProbeError {
        let why = match self {
            Self::NotRunning => "it does not run",
            Self::NotListening => "it listens nowhere",
            Self::Login { .. } => "it wants a login that opsctl does not have",
            Self::Unproven { .. } => "its identity is not proven",
            Self::Rejected { .. } => "it takes no questions",
            _ => "it does not answer",
        };
        ProbeError::Skip(format!("{why}: see {up}"))
    }
}

/// Whether an error is one of TLS itself, not of the connection below it.
fn is_of_tls(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.is::<rustls::Error>()
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// A server with what only this process may know about it.
#[derive(Debug, Clone)]
pub struct Known {
    /// What everybody may know.
    pub server: ServerRef,
    /// Where it listens.
    pub sockets: Vec<Socket>,
    /// It shares this process's network namespace; `None` where that cannot be seen or it does not run.
    pub is_local: Option<bool>,
    /// How to log in, from the configuration.
    pub login: Option<Login>,
    /// Its processes and configuration, when it is an nginx that runs.
    pub nginx: Option<Result<Arc<super::nginx::Nginx>, ProbeError>>,
}

impl Known {
    /// The host name that its certificate should have.
    fn host(&self) -> &str {
        let named = self.login.as_ref().and_then(|l| l.host.as_deref());
        named.or(self.server.address.as_ref().map(|(host, _)| host.as_str())).unwrap_or("localhost")
    }

    /// What has to prove it behind TLS, where TLS is wanted. A process that was found is proven by itself, and often has a certificate of
    /// its own making; only PostgreSQL's `sslmode` says explicitly that the certificate counts.
    fn trust(&self) -> Option<&Trust> {
        let wanted = self.login.as_ref().and_then(|l| l.tls.as_ref());
        let explicit = matches!(self.server.product, Product::Postgres | Product::Pgbouncer);
        if self.server.process.is_some() && !explicit { wanted.map(|_| &Trust::Encrypted) } else { wanted }
    }

    /// Whether it is the server that clients on this host reach at the loopback's `port` without naming a host.
    fn is_at_default(&self, port: u16) -> bool {
        let loopback = |host: &str| matches!(host, "localhost" | "127.0.0.1" | "::1");
        match &self.server.address {
            Some((host, at)) => loopback(host) && *at == port,
            None => self.is_local == Some(true) && self.server.container.is_none() && tcp_port(&self.sockets) == Some(port),
        }
    }
}

type Sessions<S> = Memo<String, Result<Result<Arc<S>, NoSession>, ProbeError>>;

/// The servers of this host and the one connection to each.
#[derive(Default)]
pub struct Servers {
    known: HashMap<String, Known>,
    redis: Sessions<redis::Session>,
    postgres: Sessions<postgres::Session>,
    rabbitmq: Sessions<rabbitmq::Session>,
    pages: web::Pages,
    pub(super) nginx_tests: Memo<String, super::nginx::Tested>,
}

impl Servers {
    /// Without connections yet.
    #[must_use]
    pub fn new(known: Vec<Known>) -> Self {
        Self { known: known.into_iter().map(|k| (k.server.id.clone(), k)).collect(), ..Self::default() }
    }

    /// The server that a target stands for.
    pub fn known(&self, target: &Target) -> Result<&Known, ProbeError> {
        let known = self.known.get(&target.id).ok_or_else(|| ProbeError::Skip("it no longer exists".to_owned()))?;
        match &known.server.untrusted {
            Some(why) => Err(ProbeError::Untrusted { server: known.server.name.clone(), why: why.clone() }),
            None => Ok(known),
        }
    }
}

impl ProbeCx {
    /// The session with a Redis server; one for all checks of a run.
    pub async fn redis(&self, target: &Target) -> Result<Result<Arc<redis::Session>, NoSession>, ProbeError> {
        let known = self.servers.known(target)?;
        let open = || async { Ok(Box::pin(redis::open(known, self)).await?.map(Arc::new)) };
        self.servers.redis.get(target.id.clone(), open).await
    }

    /// The session with a PostgreSQL server (or a PgBouncer); one for all checks of a run.
    pub async fn postgres(&self, target: &Target) -> Result<Result<Arc<postgres::Session>, NoSession>, ProbeError> {
        let known = self.servers.known(target)?;
        let open = || async { Ok(Box::pin(postgres::open(known, self, None)).await?.map(Arc::new)) };
        self.servers.postgres.get(target.id.clone(), open).await
    }

    /// The session with a RabbitMQ node; one for all checks of a run.
    pub async fn rabbitmq(&self, target: &Target) -> Result<Result<Arc<rabbitmq::Session>, NoSession>, ProbeError> {
        let known = self.servers.known(target)?;
        let open = || async { Ok(Box::pin(rabbitmq::open(known, self)).await?.map(Arc::new)) };
        self.servers.rabbitmq.get(target.id.clone(), open).await
    }

    /// The environment a server was started with, held in memory only: its container's, or its process's.
    pub(super) async fn environment_of(&self, server: &ServerRef) -> Vec<String> {
        if let (Some(id), Some(docker)) = (&server.container, &self.docker) {
            return docker.environment(id).await.unwrap_or_default();
        }
        let Some(process) = server.process else { return Vec::new() };
        let from = format!("process {}", process.pid);
        let read = blocking::run("an environment", &from, CONNECT, move |io| {
            io.read_lossy(format!("/proc/{}/environ", process.pid)).unwrap_or_default()
        });
        let environ = read.await.unwrap_or_default();
        let environ: Vec<String> = environ.split('\0').filter(|e| e.contains('=')).map(str::to_owned).collect();
        self.redactor.learn_environment(environ.iter().map(String::as_str));
        environ
    }
}

/// The ways to a server, in the order they are tried.
async fn ways(known: &Known) -> Result<Vec<Way>, NoSession> {
    let inside = known.server.process.map(|p| p.pid);
    if let Some((host, port)) = &known.server.address {
        if host.starts_with('/') {
            let path = std::path::Path::new(host).join(format!(".s.PGSQL.{port}"));
            return Ok(vec![Way { socket: Socket::Unix(path), inside: None, user: None }]);
        }
        let address = format!("{host}:{port}");
        let (name, at) = (host.clone(), *port);
        let resolved = blocking::run("a host name", host, CONNECT, move |io| io.look_up(&name, at)).await;
        return match resolved {
            Ok(Ok(found)) => Ok(found.into_iter().map(|a| Way { socket: Socket::Tcp(a), inside: None, user: None }).collect()),
            Ok(Err(e)) => Err(NoSession::Unreachable { address, why: format!("looking its name up: {e}") }),
            Err(_) => Err(NoSession::Unreachable { address, why: "looking its name up: no answer".to_owned() }),
        };
    }
    if inside.is_none() {
        return Err(NoSession::NotRunning);
    }
    if known.sockets.is_empty() {
        return Err(NoSession::NotListening);
    }
    Ok(known.sockets.iter().map(|socket| Way { socket: socket.clone(), inside, user: None }).collect())
}
