//! Name servers of this host and of its containers, each queried directly.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::has_own_network;
use crate::probe::docker::{Container, Docker};
use crate::probe::io::Root;
use crate::probe::io::resolv_conf::{self, NameServer, ResolvConf, ResolvFile};
use crate::probe::io::resolve::name_sources;
use crate::probe::names::nsswitch::{self, HostSources};
use crate::probe::names::query::{QueryLimits, QueryResult, Question, Transport, query_server};
use crate::probe::network::netns;
use crate::probe::systemd::Systemd;
use crate::probe::{Io, Memo, ProbeCx, ProbeError, blocking, docker, lag};

/// Timeout of reading one file.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Limit of names queried on every server: no server receives more than a handful of queries.
const MAX_NAMES: usize = 4;

/// Replies of one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// The server.
    pub server: NameServer,
    /// Queries and their results.
    pub asked: Vec<QueryResult>,
}

impl Answers {
    /// Queries over UDP.
    pub fn udp(&self) -> impl Iterator<Item = &QueryResult> {
        self.asked.iter().filter(|a| a.transport == Transport::Udp)
    }

    /// Query over TCP.
    #[must_use]
    pub fn tcp(&self) -> Option<&QueryResult> {
        self.asked.iter().find(|a| a.transport == Transport::Tcp)
    }

    /// Whether any query has a reply.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.udp().any(|a| a.code().is_some())
    }
}

/// resolv.conf of the host, and the replies of its servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostAnswers {
    /// The file.
    pub file: ResolvFile,
    /// The file of a container that would start now.
    pub for_containers: ResolvConf,
    /// Replies of the servers of the file, in its order.
    pub servers: Vec<Answers>,
}

/// Results for name servers, read once per run.
#[derive(Debug, Default)]
pub struct Resolvers {
    host: Memo<(Vec<String>, QueryLimits), Result<Arc<HostAnswers>, ProbeError>>,
    files: Memo<i32, Result<Arc<ResolvFile>, ProbeError>>,
    engine: Memo<(), Vec<String>>,
    alike: Memo<(), Arc<Vec<Vec<Arc<Container>>>>>,
}

impl ProbeCx {
    /// Responses of the name servers of this host.
    #[must_use]
    pub fn resolvers(&self) -> &Resolvers {
        self.shared.get()
    }

    /// Running containers with a network namespace of their own, grouped by networks and resolv.conf; sorted by name within each
    /// group. A container with an unreadable resolv.conf is in no group.
    pub async fn resolver_groups(&self) -> Arc<Vec<Vec<Arc<Container>>>> {
        let read = || async {
            let mut groups: Vec<(Arc<ResolvFile>, Vec<Arc<Container>>)> = Vec::new();
            let mut all = self.inspected(self.inventory.running().filter(|c| has_own_network(&c.network_mode))).await;
            all.sort_by(|a, b| a.name.cmp(&b.name));
            for container in all {
                let Some(pid) = container.pid() else { continue };
                let Ok(file) = self.resolvers().file_of(pid).await else { continue };
                let same = |(f, c): &(Arc<ResolvFile>, Vec<Arc<Container>>)| {
                    f.conf == file.conf && c[0].networks.keys().eq(container.networks.keys())
                };
                match groups.iter().position(same) {
                    Some(group) => groups[group].1.push(container),
                    None => groups.push((file, vec![container])),
                }
            }
            Arc::new(groups.into_iter().map(|(_, containers)| containers).collect())
        };
        self.resolvers().alike.get((), read).await
    }
}

impl Resolvers {
    /// Queries every server of this host's resolv.conf concurrently: over UDP for the root and for each of `names`, over TCP for
    /// the first of these.
    pub async fn host(&self, names: &[String], limits: QueryLimits) -> Result<Arc<HostAnswers>, ProbeError> {
        let read = || async {
            let file = file_of(None).await?;
            if file.state == resolv_conf::FileState::Denied {
                let (subject, from) = ("the name servers".to_owned(), resolv_conf::PATH.to_owned());
                return Err(ProbeError::Denied { subject, from, needs: crate::probe::needed_right().to_owned() });
            }
            let servers = query_all(None, &file.conf.used(), &questions(names), true, limits).await?;
            let conf = file.conf.clone();
            let read = move |io: &Io| resolv_conf::for_containers(io, &conf);
            let for_containers = blocking::run("the name servers", resolv_conf::PATH, READ_TIMEOUT, read).await?;
            Ok(Arc::new(HostAnswers { file, for_containers, servers }))
        };
        self.host.get((names.to_vec(), limits), || Box::pin(read())).await
    }

    /// resolv.conf of a process.
    pub async fn file_of(&self, pid: i32) -> Result<Arc<ResolvFile>, ProbeError> {
        self.files.get(pid, || async move { file_of(Some(pid)).await.map(Arc::new) }).await
    }

    /// `dns` of Docker's own configuration, which every container gets instead of the host's servers.
    pub async fn engine(&self, docker: Option<&Docker>, systemd: Option<&Systemd>) -> Vec<String> {
        let read = || async { servers_in(&docker::configuration(docker, systemd).await) };
        self.engine.get((), read).await
    }
}

/// Questions for the root, and for the first few of these names.
#[must_use]
pub fn questions(names: &[String]) -> Vec<Question> {
    std::iter::once(Question::Root).chain(names.iter().take(MAX_NAMES).cloned().map(Question::Address)).collect()
}

/// resolv.conf of this host, or as process `pid` sees it.
pub async fn file_of(pid: Option<i32>) -> Result<ResolvFile, ProbeError> {
    let from = pid.map_or_else(|| resolv_conf::PATH.to_owned(), |pid| format!("{} of process {pid}", resolv_conf::PATH));
    let subject = "the name servers";
    blocking::run(subject, &from, READ_TIMEOUT, move |io| resolv_conf::read(io, pid))
        .await?
        .map_err(|e| ProbeError::of_process(subject, &from, &e))
}

/// The name servers to which queries of this host are forwarded: with systemd-resolved those behind its stub.
pub async fn upstreams() -> Result<ResolvConf, ProbeError> {
    let conf = file_of(None).await?.conf;
    let read = move |io: &Io| resolv_conf::for_containers(io, &conf);
    blocking::run("the name servers", resolv_conf::PATH, READ_TIMEOUT, read).await
}

/// Queries each of `servers` concurrently, from the network namespace of process `pid` or of this process.
pub async fn query_all(
    pid: Option<i32>,
    servers: &[NameServer],
    questions: &[Question],
    tcp: bool,
    limits: QueryLimits,
) -> Result<Vec<Answers>, ProbeError> {
    let mut jobs: Vec<(NameServer, Transport, Question)> = Vec::new();
    for server in servers {
        jobs.extend(questions.iter().map(|q| (server.clone(), Transport::Udp, q.clone())));
        jobs.extend(questions.first().filter(|_| tcp).map(|q| (server.clone(), Transport::Tcp, q.clone())));
    }
    let mut results = query_each(pid, jobs, limits).await?.into_iter();
    let per_server = questions.len() + usize::from(tcp && !questions.is_empty());
    Ok(servers.iter().map(|s| Answers { server: s.clone(), asked: results.by_ref().take(per_server).collect() }).collect())
}

/// Sends each of these queries concurrently; the results are in the same order.
pub async fn query_each(
    pid: Option<i32>,
    jobs: Vec<(NameServer, Transport, Question)>,
    limits: QueryLimits,
) -> Result<Vec<QueryResult>, ProbeError> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let silent =
        |results: &Result<Vec<QueryResult>, ProbeError>| results.as_ref().is_ok_and(|a| a.iter().any(QueryResult::is_silent));
    lag::retried(|| query_once(pid, jobs.clone(), limits), silent).await
}

async fn query_once(
    pid: Option<i32>,
    jobs: Vec<(NameServer, Transport, Question)>,
    limits: QueryLimits,
) -> Result<Vec<QueryResult>, ProbeError> {
    let from = pid.map_or_else(|| "the name servers".to_owned(), |pid| format!("the name servers of process {pid}"));
    let read = move |io: &Io| -> std::io::Result<Vec<QueryResult>> {
        let jobs: Vec<_> =
            jobs.into_iter().map(|(server, transport, question)| (server.socket(io), transport, question)).collect();
        // threads are created in the namespace of their creator
        std::thread::scope(|scope| {
            let run = |(at, transport, question): &(SocketAddr, Transport, Question)| {
                let (at, transport, question) = (*at, *transport, question.clone());
                std::thread::Builder::new()
                    .name("probe".to_owned())
                    .stack_size(512 << 10)
                    .spawn_scoped(scope, move || query_server(at, transport, &question, limits))
            };
            let threads = jobs.iter().map(run).collect::<std::io::Result<Vec<_>>>()?;
            let join = |t: std::thread::ScopedJoinHandle<'_, QueryResult>| {
                t.join().map_err(|_| std::io::Error::other("a query thread panicked"))
            };
            threads.into_iter().map(join).collect()
        })
    };
    netns::inside(pid, "answers", &from, limits.longest(), read).await
}

/// `hosts` of nsswitch.conf(5) with its modules, on this host or as process `pid` sees it.
pub async fn host_sources(pid: Option<i32>) -> Result<HostSources, ProbeError> {
    let read = move |io: &Io| nsswitch::read(io, pid);
    let subject = "the sources of names";
    blocking::run(subject, nsswitch::NSSWITCH, READ_TIMEOUT, read)
        .await?
        .map_err(|e| ProbeError::of_process(subject, nsswitch::NSSWITCH, &e))
}

/// `hosts` line of nsswitch.conf(5): sources of host names in libc, in order. Without the file it is `files dns`.
pub async fn hosts_line() -> Option<String> {
    name_sources(&read_text("/etc/nsswitch.conf").await?)
}

/// A small file of this host, or `None` if it does not exist or is not readable.
async fn read_text(path: &'static str) -> Option<String> {
    let read = |io: &Io| Some(String::from_utf8_lossy(&Root::own(io).ok()?.bytes(path, 1 << 20).ok()?).into_owned());
    blocking::run("the configuration", path, READ_TIMEOUT, read).await.ok().flatten()
}

pub(super) fn servers_in(daemon_json: &str) -> Vec<String> {
    let all: serde_json::Value = serde_json::from_str(daemon_json).unwrap_or_default();
    let dns = all.get("dns").and_then(serde_json::Value::as_array);
    dns.into_iter().flatten().filter_map(|s| s.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_in_daemon_json() {
        assert_eq!(servers_in(r#"{"dns": ["10.0.0.2", 5], "mtu": 1400}"#), ["10.0.0.2"]);
        assert!(servers_in("{}").is_empty() && servers_in("[").is_empty());
    }
}
