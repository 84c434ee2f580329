//! Connection tests: the kernel's tables first, then a plain connection on which nothing is sent.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::probe::io::http;
use crate::probe::io::http::HttpError;
use crate::probe::io::resolve::in_hosts;
use crate::probe::names;
use crate::probe::names::Lookup;
use crate::probe::needs::{Consumer, DependencyCache};
use crate::probe::network;
use crate::probe::network::netns;
use crate::probe::network::netns::ConnectError;
use crate::probe::proc::files::file_of;
use crate::probe::{ProbeCx, ProbeError, blocking};

/// Timeout of a connection within this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Timeout of a scrape. Prometheus itself waits 10 s by default.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(3);

/// Limit of a response body, in bytes.
const MAX_BODY_BYTES: usize = 4 << 10;

/// Result of a connection attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "why")]
pub enum ConnectResult {
    /// The connection was established.
    Connected,
    /// Connection refused: no listener, or rejected by a firewall.
    Refused,
    /// No reply before the timeout.
    Timeout,
    /// No route.
    NoRoute(String),
    /// Another error, such as an unknown host.
    Failed(String),
}

impl ConnectResult {
    /// For display.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Connected => "connected".to_owned(),
            Self::Refused => "refused".to_owned(),
            Self::Timeout => format!("no answer in {} s", CONNECT_TIMEOUT.as_secs()),
            Self::NoRoute(why) | Self::Failed(why) => why.clone(),
        }
    }
}

/// Response of a scraped endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "value")]
pub enum ScrapeResult {
    /// Status, and whether the body is an HTML page.
    Status(u16, bool),
    /// No response before the timeout.
    Timeout,
    /// The connection was closed without a response.
    Closed,
    /// Not an HTTP response.
    NotHttp,
}

impl ProbeCx {
    /// Connects from process `pid` (or this one) to `at`; each pair is tried once per run.
    pub async fn reach(&self, pid: Option<i32>, at: SocketAddr) -> Result<ConnectResult, ProbeError> {
        let connect = || async move {
            Ok(match netns::connect_as(pid, at, CONNECT_TIMEOUT).await? {
                Ok(_) => ConnectResult::Connected,
                Err(ConnectError::Refused) => ConnectResult::Refused,
                Err(ConnectError::Timeout) => ConnectResult::Timeout,
                // ENETUNREACH: the kernel's own text, independent of the locale
                Err(ConnectError::Other(why)) if why.contains("Network is unreachable") => ConnectResult::NoRoute(plain(&why)),
                Err(ConnectError::Other(why)) => ConnectResult::Failed(plain(&why)),
            })
        };
        // processes of one namespace reach the same
        let namespace = self.network_namespace(pid).await;
        let key = namespace.unwrap_or_else(|| format!("process {}", pid.unwrap_or(0)));
        self.shared.get::<DependencyCache>().reached.get((key, at), || Box::pin(connect())).await
    }

    /// The network namespace of process `pid`, or of this process: `net:[4026531992]`. `None` if it is not readable.
    async fn network_namespace(&self, pid: Option<i32>) -> Option<String> {
        let read = || async move {
            let process = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
            let path = format!("/proc/{process}/ns/net");
            let link = path.clone();
            let read = blocking::run("the network namespace", &path, CONNECT_TIMEOUT, move |io| io.read_link(link));
            Some(read.await.ok()?.ok()?.to_string_lossy().into_owned())
        };
        self.shared.get::<DependencyCache>().namespaces.get(pid, read).await
    }

    /// Whether this host has the address; its interfaces are read once per run.
    pub async fn is_own_address(&self, address: IpAddr) -> bool {
        let read = || async { network::view(None, Vec::new()).await.ok().map(Arc::new) };
        let view = self.shared.get::<DependencyCache>().own.get((), read).await;
        view.is_some_and(|own| own.has(address))
    }

    /// `/etc/hosts` as process `pid` sees it; read once per run, empty if it does not exist or is not readable.
    pub async fn hosts_file(&self, pid: i32) -> Arc<str> {
        let read = || async move {
            let from = format!("/etc/hosts of process {pid}");
            let text = blocking::run("the hosts file", &from, CONNECT_TIMEOUT, move |io| file_of(io, pid, "/etc/hosts"));
            Arc::from(text.await.ok().flatten().unwrap_or_default())
        };
        self.shared.get::<DependencyCache>().hosts.get(pid, read).await
    }

    /// The addresses of a name in `/etc/hosts` as process `pid` sees it.
    pub async fn in_hosts_file(&self, pid: i32, name: &str) -> Vec<IpAddr> {
        in_hosts(&self.hosts_file(pid).await, name)
    }

    /// Lookup of a name as process `pid` performs it; once per run.
    pub async fn lookup_as(&self, pid: i32, name: &str) -> Result<Lookup, ProbeError> {
        let resolve = || async move {
            // without access to the namespace, the lookup would look like a name server that does not reply
            let namespace = format!("/proc/{pid}/ns/net");
            let path = namespace.clone();
            blocking::run("the network namespace", &namespace, CONNECT_TIMEOUT, move |io| io.metadata(path).map(drop))
                .await?
                .map_err(|e| ProbeError::io("the network namespace", namespace, &e))?;
            let lookups = names::look_up(pid, vec![name.to_owned()]).await?;
            Ok(lookups.into_iter().next().unwrap_or(Lookup::NoSuchName))
        };
        self.shared.get::<DependencyCache>().lookups.get((pid, name.to_owned()), || Box::pin(resolve())).await
    }

    /// Requests an endpoint as the scraping consumer does.
    pub async fn scrape(
        &self,
        consumer: &Consumer,
        at: SocketAddr,
        authority: &str,
        path: &str,
    ) -> Result<ScrapeResult, ProbeError> {
        let Ok(stream) = netns::connect_as(Some(consumer.pid), at, CONNECT_TIMEOUT).await? else {
            return Ok(ScrapeResult::Closed);
        };
        Ok(match http::get(stream, authority, path, MAX_BODY_BYTES, SCRAPE_TIMEOUT).await {
            Ok(answer) => {
                let beginning = answer.body.trim_start().to_ascii_lowercase();
                ScrapeResult::Status(answer.status, beginning.starts_with("<!doctype") || beginning.starts_with("<html"))
            }
            Err(HttpError::Timeout) => ScrapeResult::Timeout,
            Err(HttpError::Closed(_)) => ScrapeResult::Closed,
            Err(HttpError::NotHttp(_)) => ScrapeResult::NotHttp,
        })
    }
}

/// `Network is unreachable (os error 101)` without its number.
fn plain(why: &str) -> String {
    why.split(" (os error").next().unwrap_or(why).to_owned()
}
