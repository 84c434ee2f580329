//! What a RabbitMQ node says: its greeting on the AMQP port, then its management API, or its own command line where that is not on.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::login::{Login, Secret, password, variable};
use super::peer::{Reached, reach};
use super::{ANSWER, CONNECT, Known, NoSession, Socket, Trust, Way, millis, run_for, tls, ways};
use crate::model::quantity;
use crate::probe::http::{self, NoAnswer};
use crate::probe::io::Root;
use crate::probe::{Io, Memo, ProbeCx, ProbeError, blocking, process};
use std::sync::Arc;

/// Ports that are not AMQP: management, metrics, between nodes and for their tools, epmd, streams, MQTT, STOMP.
const OTHERS: &[u16] = &[15671, 15672, 15691, 15692, 25672, 35672, 4369, 5551, 5552, 1883, 8883, 61613, 61614];

/// Where the management API listens.
const MANAGEMENT: &[(u16, bool)] = &[(15672, false), (15671, true)];

/// `AMQP` 0-9-1: what a client says first.
const GREETING: &[u8] = b"AMQP\x00\x00\x09\x01";

/// Largest answer of the API that is read, in bytes.
const LARGEST: usize = 1 << 20;

/// Erlang's programs start its port mapper where none runs, and leave it running: looking must not change what runs.
const NO_DAEMON: (&str, &str) = ("ERL_AFLAGS", "-start_epmd false");

/// How long the node's own tools may take: they start a virtual machine.
const TOOLS: Duration = Duration::from_secs(5);

/// A session: the node has greeted us.
#[derive(Debug)]
pub struct Session {
    /// Where it greeted.
    pub address: String,
    /// `3.10.8`; empty when it did not say.
    pub version: String,
    facts: Memo<(), Result<Arc<Facts>, NoFacts>>,
}

/// Why there are no facts beyond the greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoFacts {
    /// The management API wants another login; what it said, and where ours came from.
    Login(String),
    /// Neither the API nor its tools answer; why.
    Unavailable(String),
}

/// What is known of the node and its cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// `the management API`, `rabbitmqctl`.
    pub source: String,
    /// All nodes of the cluster.
    pub nodes: Vec<Node>,
    /// Its queues, the longest first.
    pub queues: Vec<Queue>,
    /// Connections that are not let publish: name and user.
    pub blocked: Vec<String>,
    /// The ends of all connections: `10.0.0.3:40112`.
    pub clients: Vec<String>,
    /// Where it writes its log.
    pub log_files: Vec<String>,
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// `rabbit@host`.
    pub name: String,
    /// It is up.
    pub running: bool,
    /// Its memory is above the watermark: publishers are blocked.
    pub mem_alarm: bool,
    /// Its disk is below the limit: publishers are blocked.
    pub disk_free_alarm: bool,
    /// Bytes.
    pub mem_used: u64,
    /// Bytes.
    pub mem_limit: u64,
    /// Bytes.
    pub disk_free: u64,
    /// Bytes.
    pub disk_free_limit: u64,
    /// File descriptors.
    pub fd_used: u64,
    /// Their limit.
    pub fd_total: u64,
    /// Sockets.
    pub sockets_used: u64,
    /// Their limit.
    pub sockets_total: u64,
    /// Nodes it does not see although they are up.
    pub partitions: Vec<String>,
    /// Where it keeps its data.
    pub db_dir: String,
}

/// A queue.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Its virtual host.
    pub vhost: String,
    /// Messages that wait.
    #[serde(rename = "messages_ready")]
    pub ready: u64,
    /// Messages given out and not acknowledged.
    #[serde(rename = "messages_unacknowledged")]
    pub unacked: u64,
    /// Who takes from it.
    pub consumers: u64,
    /// `running`, `down`, `minority`, …
    pub state: String,
}

/// What a consumer says of itself, as far as it is needed.
#[derive(Deserialize)]
struct ConsumerOf {
    queue: QueueName,
}

#[derive(Deserialize)]
struct QueueName {
    name: String,
    vhost: String,
}

#[derive(Deserialize)]
struct Paged {
    items: Vec<Queue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ConnectionOf {
    name: String,
    user: String,
    state: String,
}

/// Connects to the AMQP port and hears the greeting.
pub(super) async fn open(known: &Known, _cx: &ProbeCx) -> Result<Result<Session, NoSession>, ProbeError> {
    let ways = match ways(known).await {
        Ok(ways) => ways,
        Err(why) => return Ok(Err(why)),
    };
    let port = |way: &Way| match &way.socket {
        Socket::Tcp(address) => address.port(),
        Socket::Unix(_) => 0,
    };
    let mut ways: Vec<Way> = ways.into_iter().filter(|w| !OTHERS.contains(&port(w)) && port(w) != 0).collect();
    ways.sort_by_key(|w| (port(w) != 5672, port(w)));
    let mut last = NoSession::NotListening;
    for way in &ways {
        let trust = known.trust().cloned().or_else(|| (port(way) == 5671).then_some(Trust::Encrypted));
        last = match greet(way, known, trust.as_ref()).await? {
            // a wildcard of IPv6 may take no connection of IPv4, or another server's may stand first
            Err(why @ (NoSession::Refused { .. } | NoSession::Unproven { .. })) => why.or(last),
            other => return Ok(other),
        };
    }
    Ok(Err(last))
}

async fn greet(way: &Way, known: &Known, trust: Option<&Trust>) -> Result<Result<Session, NoSession>, ProbeError> {
    let address = way.address();
    let stream = match reach(way, known, trust).await? {
        Ok(Reached { stream, .. }) => stream,
        Err(why) => return Ok(Err(why)),
    };
    let greeting = async {
        let mut stream = match trust {
            Some(trust) => tls::over_tls(stream, known.host(), trust).await?,
            None => stream,
        };
        stream.write_all(GREETING).await?;
        let mut header = [0; 7];
        stream.read_exact(&mut header).await?;
        let size = u32::from_be_bytes([header[3], header[4], header[5], header[6]]);
        let mut body = vec![0; usize::try_from(size.min(64 << 10)).unwrap_or(0)];
        if header[0] == 1 {
            stream.read_exact(&mut body).await?;
        }
        Ok::<_, std::io::Error>((header, body))
    };
    match tokio::time::timeout(ANSWER, greeting).await {
        Err(_) => Ok(Err(NoSession::Hung { address, after_ms: millis(ANSWER) })),
        Ok(Err(e)) => Ok(Err(NoSession::Closed { address, why: e.to_string() })),
        Ok(Ok((header, body))) => {
            let seen = || format!("it begins with {:?}", String::from_utf8_lossy(&header));
            let session = |version| Session { address: address.clone(), version, facts: Memo::default() };
            Ok(greeted(header, &body).map(session).ok_or_else(|| NoSession::Garbage { address: address.clone(), why: seen() }))
        }
    }
}

/// A frame (type 1, channel 0) with the method 10.10, `Connection.Start`; its server properties hold the version as a long string.
pub(super) fn greeted(header: [u8; 7], body: &[u8]) -> Option<String> {
    if header[0] != 1 || header[1..3] != [0, 0] || !body.starts_with(&[0, 10, 0, 10]) {
        return None;
    }
    let key = b"\x07versionS";
    let at = body.windows(key.len()).position(|w| w == key).map(|i| i + key.len());
    let version = at.and_then(|at| {
        let length = usize::try_from(u32::from_be_bytes(body.get(at..at + 4)?.try_into().ok()?)).ok()?;
        Some(String::from_utf8_lossy(body.get(at + 4..(at + 4).checked_add(length)?)?).into_owned())
    });
    Some(version.unwrap_or_default())
}

impl Session {
    /// Nodes, queues and connections; read once.
    pub async fn facts(&self, known: &Known, cx: &ProbeCx) -> Result<Arc<Facts>, NoFacts> {
        let read = || async {
            let no_api = match by_api(known, cx).await {
                Ok(facts) => return Ok(Arc::new(facts)),
                Err(why) => why,
            };
            match (Box::pin(by_tools(known, cx)).await, no_api) {
                (Ok(facts), _) => Ok(Arc::new(facts)),
                (Err(_), NoFacts::Login(why)) => Err(NoFacts::Login(why)),
                (Err(no_tools), NoFacts::Unavailable(no_api)) => Err(NoFacts::Unavailable(format!("{no_api}; {no_tools}"))),
            }
        };
        Box::pin(self.facts.get((), read)).await
    }
}

/// One request after the other, each on a connection of its own: never two at once.
async fn by_api(known: &Known, cx: &ProbeCx) -> Result<Facts, NoFacts> {
    let ways = ways(known).await.map_err(|_| NoFacts::Unavailable("it is not there".to_owned()))?;
    let at = |way: &Way| match (&way.socket, known.server.address.is_some()) {
        // a server that was named by its AMQP address has its API beside it
        (Socket::Tcp(address), true) => {
            let mut api = *address;
            api.set_port(MANAGEMENT[0].0);
            Some((Way { socket: Socket::Tcp(api), ..way.clone() }, false))
        }
        (Socket::Tcp(address), false) => {
            MANAGEMENT.iter().find(|(port, _)| *port == address.port()).map(|(_, tls)| (way.clone(), *tls))
        }
        (Socket::Unix(_), _) => None,
    };
    let mut last =
        NoFacts::Unavailable("its management API is not on (`rabbitmq-plugins enable rabbitmq_management`)".to_owned());
    let login = login(known, cx).await.map_err(|e| NoFacts::Unavailable(e.to_string()))?;
    for (way, tls) in ways.iter().filter_map(at) {
        let trust = known.trust().cloned().or_else(|| tls.then_some(Trust::Encrypted));
        let api = Api { way, trust, login: &login, known };
        match api.get("/api/nodes").await {
            Ok(nodes) => return api.facts(nodes).await,
            // the same server answers over each of its addresses, or none of them
            Err(why) => last = if matches!(last, NoFacts::Login(_)) { last } else { why },
        }
    }
    Err(last)
}

struct Api<'a> {
    way: Way,
    trust: Option<Trust>,
    login: &'a Login,
    known: &'a Known,
}

impl Api<'_> {
    async fn facts(&self, nodes: Vec<Node>) -> Result<Facts, NoFacts> {
        let columns = "name,vhost,messages_ready,messages_unacknowledged,consumers,state";
        let queues: Paged =
            self.get(&format!("/api/queues?page=1&page_size=200&sort=messages&sort_reverse=true&columns={columns}")).await?;
        let mut queues = queues.items;
        // statistics are up to five seconds old; the list of consumers is not
        if queues.iter().any(|q| q.consumers == 0 && q.ready > 0)
            && let Ok(consumers) = self.get::<Vec<ConsumerOf>>("/api/consumers").await
        {
            for queue in queues.iter_mut().filter(|q| q.consumers == 0) {
                let of = consumers.iter().filter(|c| c.queue.name == queue.name && c.queue.vhost == queue.vhost).count();
                queue.consumers = u64::try_from(of).unwrap_or(u64::MAX);
            }
        }
        let connections: Vec<ConnectionOf> = self.get("/api/connections?columns=name,user,state").await.unwrap_or_default();
        let clients = connections.iter().filter_map(|c| Some(c.name.split_once(" -> ")?.0.to_owned())).collect();
        let blocked = connections.into_iter().filter(|c| matches!(c.state.as_str(), "blocked" | "blocking"));
        Ok(Facts {
            source: "the management API".to_owned(),
            nodes,
            queues,
            blocked: blocked.map(|c| format!("{} ({})", c.name, c.user)).collect(),
            clients,
            log_files: Vec::new(),
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, NoFacts> {
        let unavailable = |why: String| NoFacts::Unavailable(format!("its management API at {}: {why}", self.way.address()));
        let Reached { stream, doubt } = match reach(&self.way, self.known, self.trust.as_ref()).await {
            Ok(Ok(reached)) => reached,
            Ok(Err(why)) => return Err(unavailable(why.words())),
            Err(e) => return Err(unavailable(e.to_string())),
        };
        let stream = if let Some(trust) = &self.trust {
            let shaken = tokio::time::timeout(ANSWER, tls::over_tls(stream, self.known.host(), trust)).await;
            let shaken = shaken.map_err(|_| unavailable(format!("no handshake within {} s", ANSWER.as_secs())))?;
            shaken.map_err(|e| unavailable(format!("TLS: {e}")))?
        } else {
            stream
        };
        // basic authentication sends the password as it is; the usual one is no secret
        if let Some(doubt) = doubt.filter(|_| self.login.password.is_some() && !self.trust.as_ref().is_some_and(Trust::proves)) {
            return Err(unavailable(format!("the password was not sent: {doubt}")));
        }
        let user = self.login.user.as_deref().unwrap_or("guest");
        let password = self.login.password.as_ref().map_or("guest", Secret::reveal);
        let answer = http::get_as(stream, "localhost", path, (user, password), LARGEST, ANSWER).await.map_err(|e| match e {
            NoAnswer::Timeout => unavailable(format!("no answer within {} s", ANSWER.as_secs())),
            NoAnswer::Closed(why) | NoAnswer::NotHttp(why) => unavailable(why),
        })?;
        match answer.status {
            200 if answer.truncated => Err(unavailable(format!("{path} is longer than {}", quantity::bytes(LARGEST as u64)))),
            200 if answer.broken_off => Err(unavailable(format!("{path} broke off"))),
            200 => serde_json::from_str(&answer.body).map_err(|e| unavailable(format!("{path}: {e}"))),
            401 | 403 => Err(NoFacts::Login(format!("the management API does not take user {user} (from {})", self.login.from))),
            status => Err(unavailable(format!("{path}: HTTP {status}"))),
        }
    }
}

async fn login(known: &Known, cx: &ProbeCx) -> Result<Login, ProbeError> {
    if let Some(login) = known.login.clone().filter(|l| l.password.is_some()) {
        return Ok(login);
    }
    let started_with = cx.environment_of(&known.server).await;
    let pid = known.server.process.map(|p| p.pid);
    let redactor = cx.redactor.clone();
    let name = known.server.name.clone();
    let read = move |io: &Io| {
        if let Some((secret, name)) = password(io, &started_with, &["RABBITMQ_DEFAULT_PASS", "RABBITMQ_PASSWORD"], pid, &redactor)
        {
            let user = ["RABBITMQ_DEFAULT_USER", "RABBITMQ_USERNAME"].iter().find_map(|v| variable(&started_with, v));
            return Login { password: Some(secret), ..Login::user(user.unwrap_or("guest"), format!("{name} of its container")) };
        }
        // the usual one, which works from the loopback only
        Login::user("guest", "the usual user")
    };
    blocking::run("a login", &name, CONNECT, read).await
}

/// Queries the node by its own tools: as the node, on the host or in its container.
async fn by_tools(known: &Known, cx: &ProbeCx) -> Result<Facts, String> {
    let process = known.server.process.ok_or("its tools are on another machine")?;
    let looked = blocking::run("a process", &known.server.name, CONNECT, move |io| node_of(io, process.pid)).await;
    let (node, home) = looked.map_err(|e| e.to_string())?.ok_or("its arguments do not contain a node name")?;
    let ask = async |tool: &str, words: &[&str]| -> Result<String, String> {
        // not the packages' wrapper: it passes its arguments through a shell
        let beside = format!("/usr/lib/rabbitmq/bin/{tool}");
        let program = if known.server.container.is_some() { tool } else { beside.as_str() };
        let argv = [&[program, "-n", node.as_str(), "-q", "--formatter", "json"], words].concat();
        let argv: Vec<String> = argv.iter().map(|w| (*w).to_owned()).collect();
        let environment = [NO_DAEMON, ("HOME", home.as_str())];
        let container = known.server.container.as_deref();
        let ended = run_for(cx.docker.as_deref(), container, process, &argv, &environment, TOOLS).await?;
        if ended.code == Some(0) {
            return Ok(ended.stdout);
        }
        // what follows the first line tells of cookies
        let said =
            ended.stderr.lines().chain(ended.stdout.lines()).find(|l| l.starts_with("Error")).unwrap_or("it failed").to_owned();
        Err(format!("{tool}: {said}"))
    };
    let (status, queues) = tokio::join!(
        ask("rabbitmq-diagnostics", &["status"]),
        ask("rabbitmqctl", &["list_queues", "name", "messages_ready", "messages_unacknowledged", "consumers", "state"])
    );
    let status: Status = serde_json::from_str(&status?).map_err(|e| format!("rabbitmq-diagnostics status: {e}"))?;
    let queues: Vec<Queue> = serde_json::from_str(&queues?).map_err(|e| format!("rabbitmqctl list_queues: {e}"))?;
    Ok(status.facts(node, queues))
}

/// `rabbitmq-diagnostics status --formatter json`, as far as it is needed.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    alarms: Vec<serde_json::Value>,
    data_directory: String,
    disk_free: u64,
    disk_free_limit: u64,
    file_descriptors: Descriptors,
    memory: serde_json::Map<String, serde_json::Value>,
    vm_memory_high_watermark_limit: u64,
    log_files: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Descriptors {
    sockets_limit: u64,
    sockets_used: u64,
    total_limit: u64,
    total_used: u64,
}

impl Status {
    fn facts(self, node: String, mut queues: Vec<Queue>) -> Facts {
        let says = |word: &str| self.alarms.iter().any(|a| a.to_string().contains(word));
        let total = self.memory.get("total").and_then(|t| t.as_u64().or_else(|| t.get("rss")?.as_u64())).unwrap_or(0);
        for queue in queues.iter_mut().filter(|q| q.vhost.is_empty()) {
            "/".clone_into(&mut queue.vhost);
        }
        queues.sort_by_key(|q| std::cmp::Reverse(q.ready + q.unacked));
        Facts {
            source: "rabbitmqctl".to_owned(),
            nodes: vec![Node {
                name: node,
                running: true,
                mem_alarm: says("memory"),
                disk_free_alarm: says("disk"),
                mem_used: total,
                mem_limit: self.vm_memory_high_watermark_limit,
                disk_free: self.disk_free,
                disk_free_limit: self.disk_free_limit,
                fd_used: self.file_descriptors.total_used,
                fd_total: self.file_descriptors.total_limit,
                sockets_used: self.file_descriptors.sockets_used,
                sockets_total: self.file_descriptors.sockets_limit,
                partitions: Vec::new(),
                db_dir: self.data_directory,
            }],
            queues,
            blocked: Vec::new(),
            clients: Vec::new(),
            log_files: self.log_files,
        }
    }
}

/// The node's name and home directory, from the arguments of its machine: `-sname rabbit@host`, `-home /var/lib/rabbitmq`.
fn node_of(io: &Io, pid: i32) -> Option<(String, String)> {
    let line = process::command_line(io, pid)?;
    let words: Vec<&str> = line.split('\0').collect();
    let after = |option: &str| words.iter().position(|w| *w == option).and_then(|i| words.get(i + 1)).map(|w| (*w).to_owned());
    let home = after("-home").filter(|h| h.starts_with('/')).unwrap_or_else(|| "/var/lib/rabbitmq".to_owned());
    // the name is set by RabbitMQ itself after the start, where it is not among the arguments
    let named = after("-sname").or_else(|| after("-name"));
    let set = || {
        let environ = io.read_lossy(format!("/proc/{pid}/environ")).ok()?;
        environ.split('\0').find_map(|e| e.strip_prefix("RABBITMQ_NODENAME=").map(str::to_owned))
    };
    let hostname = || {
        let bytes = Root::of(io, pid).ok()?.bytes("/etc/hostname", 1 << 12).ok()?;
        Some(format!("rabbit@{}", String::from_utf8_lossy(&bytes).trim().split('.').next().unwrap_or_default()))
    };
    Some((named.or_else(set).or_else(hostname).filter(|n| is_node_name(n))?, home))
}

/// `rabbit@host`, as Erlang takes it (`net_kernel(3)`); anything else is no name and may be meant for a shell.
fn is_node_name(name: &str) -> bool {
    let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    name.split_once('@').map_or_else(|| word(name), |(node, host)| word(node) && word(host)) && !name.starts_with('-')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_greeting_tells_its_version() {
        let mut body = vec![0, 10, 0, 10, 0, 9, 0, 0, 0, 20];
        body.extend_from_slice(b"\x07versionS\x00\x00\x00\x063.10.8");
        assert_eq!(greeted([1, 0, 0, 0, 0, 0, 29], &body).as_deref(), Some("3.10.8"));
        assert_eq!(greeted(*b"HTTP/1.", b"1 400 Bad Request"), None);
        assert_eq!(greeted(*b"AMQP\0\0\x09", b""), None);
    }

    #[test]
    fn node_names_are_plain_words() {
        for name in ["rabbit@web-1", "rabbit@10.0.0.1", "rabbit"] {
            assert!(is_node_name(name), "{name}");
        }
        for name in ["$(id)", "a@$(id)", "rabbit@a b", "-n", "rabbit@a;id", "@a", "rabbit@a'", ""] {
            assert!(!is_node_name(name), "{name}");
        }
    }

    #[test]
    fn alarms_of_the_tools_are_read() {
        let text = r#"{"alarms":[{"resource":"memory","node":"rabbit@a"}],"disk_free":5,"file_descriptors":{"total_used":2,"total_limit":9},
            "memory":{"total":{"rss":7,"erlang":6}},"vm_memory_high_watermark_limit":3,"unknown":1}"#;
        let status: Status = serde_json::from_str(text).unwrap();
        let facts = status.facts("rabbit@a".into(), vec![Queue { name: "q".into(), ..Queue::default() }]);
        let node = &facts.nodes[0];
        assert_eq!((node.mem_alarm, node.disk_free_alarm, node.mem_used, node.fd_total), (true, false, 7, 9));
        assert_eq!(facts.queues[0].vhost, "/");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(header: [u8; 7], body: Vec<u8>) {
            let _ = greeted(header, &body);
        }
    }
}
