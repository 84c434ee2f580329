//! RabbitMQ: the handshake on the AMQP port, then the management API, or the command line tools where the API is not enabled.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::login::{Login, Secret, password, variable};
use super::peer::{PeerConnection, reach};
use super::rabbitmq_json as json;
use super::{CONNECT_TIMEOUT, ConnectAddr, REPLY_TIMEOUT, ServerHandle, SessionError, Socket, Trust, connect_addrs, millis, tls};
use crate::model::quantity;
use crate::probe::docker::run::run_for;
use crate::probe::io::Root;
use crate::probe::io::http;
use crate::probe::io::http::HttpError;
use crate::probe::proc::process;
use crate::probe::{Io, Memo, ProbeCx, ProbeError, UNEXPECTED_FORMAT, blocking};
use std::sync::Arc;

/// Ports other than AMQP: management, metrics, inter-node and CLI communication, epmd, streams, MQTT, STOMP.
const NON_AMQP_PORTS: &[u16] = &[15671, 15672, 15691, 15692, 25672, 35672, 4369, 5551, 5552, 1883, 8883, 61613, 61614];

/// Ports of the management API, with and without TLS.
const MANAGEMENT_PORTS: &[(u16, bool)] = &[(15672, false), (15671, true)];

/// Protocol header of AMQP 0-9-1, the first bytes from the client.
const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";

/// Limit of a response body of the API, in bytes.
const MAX_BODY_BYTES: usize = 1 << 20;

/// Erlang programs start the port mapper (epmd) if none runs, and leave it running: an inspection must not change the set of
/// running processes.
const NO_DAEMON: (&str, &str) = ("ERL_AFLAGS", "-start_epmd false");

/// Timeout of the node's command line tools, each of which starts a virtual machine.
const TOOL_TIMEOUT: Duration = Duration::from_secs(5);

/// A session: the AMQP handshake has begun.
#[derive(Debug)]
pub struct Session {
    /// Address of the AMQP port.
    pub address: String,
    /// Version such as `3.10.8`; empty if the node did not report it.
    pub version: String,
    facts: Memo<(), Result<Arc<Facts>, FactsError>>,
}

/// Reasons for having no facts beyond the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FactsError {
    /// The management API requires another login; its message, and the source of the login used.
    Login(String),
    /// Neither the API nor the tools respond; the reason.
    Unavailable(String),
}

/// State of the node and its cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// `the management API`, `rabbitmqctl`.
    pub source: String,
    /// All nodes of the cluster.
    pub nodes: Vec<Node>,
    /// Queues, the longest first.
    pub queues: Vec<Queue>,
    /// Blocked connections: name and user.
    pub blocked: Vec<String>,
    /// Client addresses of all connections: `10.0.0.3:40112`.
    pub clients: Vec<String>,
    /// Log files.
    pub log_files: Vec<String>,
    /// Facts about the nodes that are not known, as sentences.
    pub gaps: Vec<String>,
    /// Facts about the queues that are not known, as sentences.
    pub queue_gaps: Vec<String>,
}

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// `rabbit@host`.
    pub name: String,
    /// Whether the node is up.
    pub running: bool,
    /// Memory is above the watermark: publishers are blocked.
    pub mem_alarm: bool,
    /// Free disk space is below the limit: publishers are blocked.
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
    /// Limit of file descriptors.
    pub fd_total: u64,
    /// Sockets.
    pub sockets_used: u64,
    /// Limit of sockets.
    pub sockets_total: u64,
    /// Nodes that are up but not visible to this one.
    pub partitions: Vec<String>,
    /// Data directory.
    pub db_dir: String,
}

/// A queue.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Queue {
    /// Name.
    pub name: String,
    /// Virtual host.
    pub vhost: String,
    /// Messages ready for delivery.
    #[serde(rename = "messages_ready")]
    pub ready: u64,
    /// Messages delivered and not acknowledged.
    #[serde(rename = "messages_unacknowledged")]
    pub unacked: u64,
    /// Number of consumers; `None` if it is not reported.
    pub consumers: Option<u64>,
    /// `running`, `down`, `minority`, …
    pub state: String,
    /// `classic`, `quorum`, `stream`; empty if it is not reported.
    #[serde(rename = "type")]
    pub kind: String,
}

impl Queue {
    /// Whether messages stay in it after their consumption: a stream is a log with a retention.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        matches!(self.kind.as_str(), "stream" | "rabbit_stream_queue")
    }
}

/// Connects to the AMQP port and reads the beginning of the handshake.
pub(super) async fn open(known: &ServerHandle, _cx: &ProbeCx) -> Result<Result<Session, SessionError>, ProbeError> {
    let addrs = match connect_addrs(known).await {
        Ok(addrs) => addrs,
        Err(why) => return Ok(Err(why)),
    };
    let port = |addr: &ConnectAddr| match &addr.socket {
        Socket::Tcp(address) => address.port(),
        Socket::Unix(_) => 0,
    };
    let mut addrs: Vec<ConnectAddr> = addrs.into_iter().filter(|a| !NON_AMQP_PORTS.contains(&port(a)) && port(a) != 0).collect();
    addrs.sort_by_key(|a| (port(a) != 5672, port(a)));
    let mut last = SessionError::NotListening;
    for addr in &addrs {
        let trust = known.trust().cloned().or_else(|| (port(addr) == 5671).then_some(Trust::Encrypted));
        last = match handshake(addr, known, trust.as_ref()).await? {
            // an IPv6 wildcard may refuse IPv4 connections, and the listener of another server may come first
            Err(why @ (SessionError::Refused { .. } | SessionError::Unproven { .. })) => why.or(last),
            other => return Ok(other),
        };
    }
    Ok(Err(last))
}

async fn handshake(
    addr: &ConnectAddr,
    known: &ServerHandle,
    trust: Option<&Trust>,
) -> Result<Result<Session, SessionError>, ProbeError> {
    let address = addr.address();
    let stream = match reach(addr, known, trust).await? {
        Ok(PeerConnection { stream, .. }) => stream,
        Err(why) => return Ok(Err(why)),
    };
    let greeting = async {
        let mut stream = match trust {
            Some(trust) => tls::over_tls(stream, known.host(), trust).await?,
            None => stream,
        };
        stream.write_all(PROTOCOL_HEADER).await?;
        let mut header = [0; 7];
        stream.read_exact(&mut header).await?;
        let size = u32::from_be_bytes([header[3], header[4], header[5], header[6]]);
        let mut body = vec![0; usize::try_from(size.min(64 << 10)).unwrap_or(0)];
        if header[0] == 1 {
            stream.read_exact(&mut body).await?;
        }
        Ok::<_, std::io::Error>((header, body))
    };
    match tokio::time::timeout(REPLY_TIMEOUT, greeting).await {
        Err(_) => Ok(Err(SessionError::Hung { address, after_ms: millis(REPLY_TIMEOUT) })),
        Ok(Err(e)) => Ok(Err(SessionError::Closed { address, why: e.to_string() })),
        Ok(Ok((header, body))) => {
            let seen = || format!("the reply begins with {:?}", String::from_utf8_lossy(&header));
            let session = |version| Session { address: address.clone(), version, facts: Memo::default() };
            Ok(parse_connection_start(header, &body)
                .map(session)
                .ok_or_else(|| SessionError::Garbage { address: address.clone(), why: seen() }))
        }
    }
}

/// Parses a frame (type 1, channel 0) with the method 10.10, `Connection.Start`; its server properties hold the version as a long
/// string.
pub(super) fn parse_connection_start(header: [u8; 7], body: &[u8]) -> Option<String> {
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
    pub async fn facts(&self, known: &ServerHandle, cx: &ProbeCx) -> Result<Arc<Facts>, FactsError> {
        let read = || async {
            let no_api = match by_api(known, cx).await {
                Ok(facts) => return Ok(Arc::new(facts)),
                Err(why) => why,
            };
            match (Box::pin(by_tools(known, cx)).await, no_api) {
                (Ok(facts), _) => Ok(Arc::new(facts)),
                (Err(_), FactsError::Login(why)) => Err(FactsError::Login(why)),
                (Err(no_tools), FactsError::Unavailable(no_api)) => Err(FactsError::Unavailable(format!("{no_api}; {no_tools}"))),
            }
        };
        Box::pin(self.facts.get((), read)).await
    }
}

/// Requests are sequential, each on a connection of its own.
async fn by_api(known: &ServerHandle, cx: &ProbeCx) -> Result<Facts, FactsError> {
    let addrs = connect_addrs(known).await.map_err(|_| FactsError::Unavailable("it is not reachable".to_owned()))?;
    let at = |addr: &ConnectAddr| match (&addr.socket, known.server.address.is_some()) {
        // a server configured by its AMQP address has its API on the same host
        (Socket::Tcp(address), true) => {
            let mut api = *address;
            api.set_port(MANAGEMENT_PORTS[0].0);
            Some((ConnectAddr { socket: Socket::Tcp(api), ..addr.clone() }, false))
        }
        (Socket::Tcp(address), false) => {
            MANAGEMENT_PORTS.iter().find(|(port, _)| *port == address.port()).map(|(_, tls)| (addr.clone(), *tls))
        }
        (Socket::Unix(_), _) => None,
    };
    let mut last =
        FactsError::Unavailable("its management API is not enabled (`rabbitmq-plugins enable rabbitmq_management`)".to_owned());
    let login = login(known, cx).await.map_err(|e| FactsError::Unavailable(e.to_string()))?;
    for (addr, tls) in addrs.iter().filter_map(at) {
        let trust = known.trust().cloned().or_else(|| tls.then_some(Trust::Encrypted));
        let api = Api { addr, trust, login: &login, known };
        match api.get("/api/nodes").await {
            Ok(nodes) => return api.facts(&nodes).await,
            // the same server responds on each of its addresses, or on none
            Err(why) => last = if matches!(last, FactsError::Login(_)) { last } else { why },
        }
    }
    Err(last)
}

struct Api<'a> {
    addr: ConnectAddr,
    trust: Option<Trust>,
    login: &'a Login,
    known: &'a ServerHandle,
}

impl Api<'_> {
    async fn facts(&self, nodes: &Value) -> Result<Facts, FactsError> {
        let (mut gaps, mut queue_gaps) = (Vec::new(), Vec::new());
        let Some(nodes) = json::nodes(nodes, &mut gaps) else {
            return Err(FactsError::Unavailable(format!(
                "its management API at {}: /api/nodes: {UNEXPECTED_FORMAT}",
                self.addr.address()
            )));
        };
        // a failure costs the queues, not the nodes
        let queues = self.queues(&mut queue_gaps).await.unwrap_or_else(|why| {
            let (FactsError::Login(why) | FactsError::Unavailable(why)) = why;
            queue_gaps.push(format!("its queues cannot be read: {why}"));
            Vec::new()
        });
        let connections = self.get("/api/connections?columns=name,user,state").await.unwrap_or_default();
        let connections = json::connections(&connections);
        Ok(Facts {
            source: "the management API".to_owned(),
            nodes,
            queues,
            clients: connections.iter().filter_map(|c| c.client.clone()).collect(),
            blocked: connections.into_iter().filter_map(|c| c.blocked).collect(),
            log_files: Vec::new(),
            gaps,
            queue_gaps,
        })
    }

    async fn queues(&self, gaps: &mut Vec<String>) -> Result<Vec<Queue>, FactsError> {
        let columns = "name,vhost,messages_ready,messages_unacknowledged,consumers,state,type";
        let path = format!("/api/queues?page=1&page_size=200&sort=messages&sort_reverse=true&columns={columns}");
        let reply = self.get(&path).await?;
        let Some(mut queues) = json::queues(&reply, gaps) else {
            return Err(FactsError::Unavailable(format!("/api/queues: {UNEXPECTED_FORMAT}")));
        };
        // statistics are up to five seconds old; the list of consumers is not
        let is_alone = |q: &Queue| q.consumers.is_none_or(|n| n == 0);
        if queues.iter().any(|q| is_alone(q) && q.ready > 0)
            && let Ok(consumers) = self.get("/api/consumers").await
            && let Some(consumers) = json::consumers(&consumers)
        {
            for queue in queues.iter_mut().filter(|q| is_alone(q)) {
                let of = consumers.iter().filter(|(name, vhost)| *name == queue.name && *vhost == queue.vhost).count();
                queue.consumers = Some(u64::try_from(of).unwrap_or(u64::MAX));
            }
        }
        Ok(queues)
    }

    async fn get(&self, path: &str) -> Result<Value, FactsError> {
        let unavailable = |why: String| FactsError::Unavailable(format!("its management API at {}: {why}", self.addr.address()));
        let PeerConnection { stream, doubt } = match reach(&self.addr, self.known, self.trust.as_ref()).await {
            Ok(Ok(reached)) => reached,
            Ok(Err(why)) => return Err(unavailable(why.words())),
            Err(e) => return Err(unavailable(e.to_string())),
        };
        let stream = if let Some(trust) = &self.trust {
            let shaken = tokio::time::timeout(REPLY_TIMEOUT, tls::over_tls(stream, self.known.host(), trust)).await;
            let shaken = shaken.map_err(|_| unavailable(format!("no handshake within {} s", REPLY_TIMEOUT.as_secs())))?;
            shaken.map_err(|e| unavailable(format!("TLS: {e}")))?
        } else {
            stream
        };
        // basic authentication sends the password in clear text; the default one is no secret
        if let Some(doubt) = doubt.filter(|_| self.login.password.is_some() && !self.trust.as_ref().is_some_and(Trust::proves)) {
            return Err(unavailable(format!("the password was not sent: {doubt}")));
        }
        let user = self.login.user.as_deref().unwrap_or("guest");
        let password = self.login.password.as_ref().map_or("guest", Secret::reveal);
        let answer = http::get_as(stream, "localhost", path, (user, password), MAX_BODY_BYTES, REPLY_TIMEOUT).await.map_err(
            |e| match e {
                HttpError::Timeout => unavailable(format!("no answer within {} s", REPLY_TIMEOUT.as_secs())),
                HttpError::Closed(why) | HttpError::NotHttp(why) => unavailable(why),
            },
        )?;
        match answer.status {
            200 if answer.truncated => {
                Err(unavailable(format!("{path} is longer than {}", quantity::bytes(MAX_BODY_BYTES as u64))))
            }
            200 if answer.broken_off => Err(unavailable(format!("{path}: incomplete body"))),
            200 => serde_json::from_str(&answer.body).map_err(|_| unavailable(format!("{path}: {UNEXPECTED_FORMAT}"))),
            401 | 403 => Err(FactsError::Login(format!("the management API rejects user {user} (from {})", self.login.from))),
            status => Err(unavailable(format!("{path}: HTTP {status}"))),
        }
    }
}

async fn login(known: &ServerHandle, cx: &ProbeCx) -> Result<Login, ProbeError> {
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
        // the default user, which is accepted from the loopback only
        Login::user("guest", "the default user")
    };
    blocking::run("a login", &name, CONNECT_TIMEOUT, read).await
}

/// Queries the node with its own tools: as the user of the node, on the host or in its container.
async fn by_tools(known: &ServerHandle, cx: &ProbeCx) -> Result<Facts, String> {
    let process = known.server.process.ok_or("its tools are on another machine")?;
    let inspected = blocking::run("a process", &known.server.name, CONNECT_TIMEOUT, move |io| node_of(io, process.pid)).await;
    let (node, home) = inspected.map_err(|e| e.to_string())?.ok_or("its arguments do not contain a node name")?;
    let run = async |tool: &str, words: &[&str]| -> Result<String, String> {
        // not the wrapper of the packages: it passes its arguments through a shell
        let beside = format!("/usr/lib/rabbitmq/bin/{tool}");
        let program = if known.server.container.is_some() { tool } else { beside.as_str() };
        let argv = [&[program, "-n", node.as_str(), "-q", "--formatter", "json"], words].concat();
        let argv: Vec<String> = argv.iter().map(|w| (*w).to_owned()).collect();
        let environment = [NO_DAEMON, ("HOME", home.as_str())];
        let container = known.server.container.as_deref();
        let ended = run_for(cx.docker.as_deref(), container, process, &argv, &environment, TOOL_TIMEOUT).await?;
        if ended.code == Some(0) {
            return Ok(ended.stdout);
        }
        // the lines after the first contain hashes of cookies
        let message =
            ended.stderr.lines().chain(ended.stdout.lines()).find(|l| l.starts_with("Error")).unwrap_or("it failed").to_owned();
        Err(format!("{tool}: {message}"))
    };
    let (status, queues) = tokio::join!(
        run("rabbitmq-diagnostics", &["status"]),
        run("rabbitmqctl", &["list_queues", "name", "messages_ready", "messages_unacknowledged", "consumers", "state", "type"])
    );
    let status = json::document(&status?).ok_or_else(|| format!("rabbitmq-diagnostics status: {UNEXPECTED_FORMAT}"))?;
    let (mut gaps, mut queue_gaps) = (Vec::new(), Vec::new());
    let listed = |output: String, gaps: &mut Vec<String>| {
        let queues = json::document(&output).and_then(|reply| json::queues(&reply, gaps));
        queues.ok_or_else(|| format!("rabbitmqctl list_queues: {UNEXPECTED_FORMAT}"))
    };
    // a failure costs the queues, not the node
    let queues = queues.and_then(|output| listed(output, &mut queue_gaps)).unwrap_or_else(|why| {
        queue_gaps.push(format!("its queues cannot be read: {why}"));
        Vec::new()
    });
    let facts = json::status(&status, node, queues, &mut gaps);
    Ok(Facts { gaps, queue_gaps, ..facts })
}

/// Name and home directory of the node, from the arguments of its virtual machine: `-sname rabbit@host`,
/// `-home /var/lib/rabbitmq`.
pub(super) fn node_of(io: &Io, pid: i32) -> Option<(String, String)> {
    let line = process::command_line(io, pid)?;
    let words: Vec<&str> = line.split('\0').collect();
    let after = |option: &str| words.iter().position(|w| *w == option).and_then(|i| words.get(i + 1)).map(|w| (*w).to_owned());
    let home = after("-home").filter(|h| h.starts_with('/')).unwrap_or_else(|| "/var/lib/rabbitmq".to_owned());
    // without such an argument RabbitMQ sets the name after the start
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

/// Whether Erlang accepts the name (`rabbit@host`, `net_kernel(3)`); anything else may be meant for a shell.
pub(super) fn is_node_name(name: &str) -> bool {
    let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    name.split_once('@').map_or_else(|| word(name), |(node, host)| word(node) && word(host)) && !name.starts_with('-')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn version_is_parsed_from_connection_start() {
        let mut body = vec![0, 10, 0, 10, 0, 9, 0, 0, 0, 20];
        body.extend_from_slice(b"\x07versionS\x00\x00\x00\x063.10.8");
        assert_eq!(parse_connection_start([1, 0, 0, 0, 0, 0, 29], &body).as_deref(), Some("3.10.8"));
        assert_eq!(parse_connection_start(*b"HTTP/1.", b"1 400 Bad Request"), None);
        assert_eq!(parse_connection_start(*b"AMQP\0\0\x09", b""), None);
    }

    #[test]
    fn node_name_with_shell_syntax_is_rejected() {
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
        let mut gaps = Vec::new();
        let queue = Queue { name: "q".into(), ..Queue::default() };
        let facts = json::status(&serde_json::from_str(text).unwrap(), "rabbit@a".into(), vec![queue], &mut gaps);
        let node = &facts.nodes[0];
        assert_eq!((node.mem_alarm, node.disk_free_alarm, node.mem_used, node.fd_total), (true, false, 7, 9));
        assert_eq!((facts.queues[0].vhost.as_str(), gaps.len()), ("/", 0));
    }
}
