//! Does a connection come about? Asked of the kernel's table first, then with a bare connection, on which nothing is sent.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Consumer;
use crate::probe::http::{self, NoAnswer};
use crate::probe::names::{self, Looked};
use crate::probe::netns::{self, NoConnection};
use crate::probe::{ProbeCx, ProbeError, blocking};

/// How long a connection may take: it is made on this machine.
const CONNECT: Duration = Duration::from_secs(1);

/// How long a page may take. Prometheus itself waits 10 s by default.
const ANSWER: Duration = Duration::from_secs(3);

/// What of a page is kept, in bytes.
const KEEP: usize = 4 << 10;

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "why")]
pub enum Reached {
    /// It was made.
    Connected,
    /// Nobody listens, or a firewall says so.
    Refused,
    /// Nothing came back.
    Timeout,
    /// There is no way there.
    NoRoute(String),
    /// Anything else, such as a host that nobody is.
    Failed(String),
}

impl Reached {
    /// For people.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Connected => "connected".to_owned(),
            Self::Refused => "refused".to_owned(),
            Self::Timeout => format!("no answer in {} s", CONNECT.as_secs()),
            Self::NoRoute(why) | Self::Failed(why) => why.clone(),
        }
    }
}

/// What a page that is scraped answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "value")]
pub enum Answered {
    /// A status; whether the body is a page for people.
    Status(u16, bool),
    /// Nothing in time.
    Timeout,
    /// The connection was closed without an answer.
    Closed,
    /// It does not speak HTTP.
    NotHttp,
}

impl ProbeCx {
    /// Whether process `pid` (or this one) gets a connection to `at`; each is tried once per run.
    pub async fn reach(&self, pid: Option<i32>, at: SocketAddr) -> Result<Reached, ProbeError> {
        let connect = || async move {
            Ok(match netns::connect_as(pid, at, CONNECT).await? {
                Ok(_) => Reached::Connected,
                Err(NoConnection::Refused) => Reached::Refused,
                Err(NoConnection::Timeout) => Reached::Timeout,
                // ENETUNREACH: the kernel's own words, without its locale
                Err(NoConnection::Other(why)) if why.contains("Network is unreachable") => Reached::NoRoute(plain(&why)),
                Err(NoConnection::Other(why)) => Reached::Failed(plain(&why)),
            })
        };
        self.needs.reached.get((pid, at), || Box::pin(connect())).await
    }

    /// What a name means to process `pid`; asked once per run.
    pub async fn looked_up(&self, pid: i32, name: &str) -> Result<Looked, ProbeError> {
        let look = || async move {
            // a namespace that we may not enter would look like a name server that does not answer
            let namespace = format!("/proc/{pid}/ns/net");
            let path = namespace.clone();
            blocking::run("the network namespace", &namespace, CONNECT, move |io| io.metadata(path).map(drop))
                .await?
                .map_err(|e| ProbeError::io("the network namespace", namespace, &e))?;
            let looked = names::look_up(pid, vec![name.to_owned()]).await?;
            Ok(looked.into_iter().next().unwrap_or(Looked::NoSuchName))
        };
        self.needs.looked.get((pid, name.to_owned()), || Box::pin(look())).await
    }

    /// Asks for a page as a consumer that scrapes it does.
    pub async fn scrape(&self, consumer: &Consumer, at: SocketAddr, authority: &str, path: &str) -> Result<Answered, ProbeError> {
        let Ok(stream) = netns::connect_as(Some(consumer.pid), at, CONNECT).await? else { return Ok(Answered::Closed) };
        Ok(match http::get(stream, authority, path, KEEP, ANSWER).await {
            Ok(answer) => {
                let beginning = answer.body.trim_start().to_ascii_lowercase();
                Answered::Status(answer.status, beginning.starts_with("<!doctype") || beginning.starts_with("<html"))
            }
            Err(NoAnswer::Timeout) => Answered::Timeout,
            Err(NoAnswer::Closed(_)) => Answered::Closed,
            Err(NoAnswer::NotHttp(_)) => Answered::NotHttp,
        })
    }
}

/// `Network is unreachable (os error 101)` without its number.
fn plain(why: &str) -> String {
    why.split(" (os error").next().unwrap_or(why).to_owned()
}
