//! Name resolution as another process performs it: its hosts file, then the name servers of its resolv.conf, queried from its own
//! network namespace; and direct queries to each name server.

#[cfg(any(test, feature = "fuzz"))]
pub(in crate::probe) mod fuzz;
mod nsswitch;
mod query;
mod resolvers;
mod sources;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use serde::{Deserialize, Serialize};

use crate::probe::io::dns::{Answer, question};
use crate::probe::io::resolve::{self, MAX_SEARCH_DOMAINS};
use crate::probe::network::netns;
use crate::probe::proc::files::file_of;
use crate::probe::{ProbeError, blocking, lag};

pub use crate::probe::io::resolv_conf::{ExtServer, FileState, MAXNS, NameServer, PATH, ResolvConf, ResolvFile};
pub use nsswitch::{DeadEnd, HostSources, NSSWITCH, dead_end, multicast_only, resolved_only};
pub use query::{QueryLimits, QueryResult, Question, Reply, Transport};
pub use resolvers::{
    Answers, HostAnswers, Resolvers, file_of as resolv_conf_of, host_sources, hosts_line, query_all, query_each, questions,
    upstreams,
};
pub use sources::{LibcLookup, NameSources, name_sources_of};

/// Timeout of the name servers for all names together. A resolver itself waits five seconds.
const QUERY_TIMEOUT: Duration = Duration::from_millis(1500);

/// Timeout of the name service of this host: that of `getent`, and of own queries after it.
const NAME_SERVICE_TIMEOUT: Duration = Duration::from_secs(8);

/// Result of a lookup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "value")]
pub enum Lookup {
    /// The addresses of the name.
    Up(Vec<IpAddr>),
    /// The name does not exist, or has no address.
    NoSuchName,
    /// No name server replied; the reason.
    NoAnswer(String),
}

/// Looks up each of `names` as process `pid` would, in the same order.
pub async fn look_up(pid: i32, names: Vec<String>) -> Result<Vec<Lookup>, ProbeError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let silent = |lookups: &Result<Vec<Lookup>, ProbeError>| {
        lookups.as_ref().is_ok_and(|all| all.iter().any(|l| matches!(l, Lookup::NoAnswer(_))))
    };
    lag::retried(|| look_up_once(pid, names.clone()), silent).await
}

async fn look_up_once(pid: i32, names: Vec<String>) -> Result<Vec<Lookup>, ProbeError> {
    blocking::run(
        "addresses of names",
        &format!("the name servers of process {pid}"),
        QUERY_TIMEOUT + Duration::from_secs(1),
        move |io| {
            let hosts = file_of(io, pid, "/etc/hosts").unwrap_or_default();
            let conf = ResolvConf::parse(&file_of(io, pid, PATH).unwrap_or_default());
            let servers: Vec<SocketAddr> = conf.used().iter().map(|s| s.socket(io)).collect();
            let domains: Vec<String> = conf.search.into_iter().take(MAX_SEARCH_DOMAINS).collect();
            let mut lookups: Vec<Option<Lookup>> = names.iter().map(|n| literal(n).or_else(|| in_hosts(&hosts, n))).collect();
            let pending: Vec<usize> = (0..names.len()).filter(|i| lookups[*i].is_none()).collect();
            let sources =
                if pending.is_empty() { HostSources::default() } else { nsswitch::read(io, Some(pid)).unwrap_or_default() };
            if let Some(end) = sources.dead_end() {
                let line = sources.line.unwrap_or_default();
                let why = format!("{NSSWITCH} has `hosts: {line}`: {}", end.words());
                for i in pending {
                    lookups[i] = Some(Lookup::NoAnswer(why.clone()));
                }
            } else if !pending.is_empty() {
                // a short name is also looked up in the domains of the search list
                let queries: Vec<(usize, String)> =
                    pending.iter().flat_map(|i| candidates(&names[*i], &domains).into_iter().map(|c| (*i, c))).collect();
                let questions: Vec<&str> = queries.iter().map(|(_, c)| c.as_str()).collect();
                let answers = netns::enter_other(io, pid).and_then(|()| query_concurrently(&servers, &questions));
                match answers {
                    Ok(answers) => {
                        queries.iter().zip(answers).for_each(|((i, _), a)| lookups[*i] = Some(better(lookups[*i].take(), a)));
                    }
                    Err(e) => pending.iter().for_each(|i| lookups[*i] = Some(Lookup::NoAnswer(e.to_string()))),
                }
            }
            lookups.into_iter().map(|l| l.unwrap_or_else(|| Lookup::NoAnswer("not queried".to_owned()))).collect()
        },
    )
    .await
}

/// First address of a host as `pid` or this process resolves it; the error is the reason for its absence.
pub async fn first_address(pid: Option<i32>, host: &str, port: u16) -> Result<Result<SocketAddr, String>, ProbeError> {
    let found = addresses_of(pid, host, port).await?;
    Ok(found.and_then(|all| all.into_iter().next().ok_or_else(|| "it has no address".to_owned())))
}

/// Addresses of a host in the order in which `pid` or the programs of this host try them; the error is the reason for their
/// absence.
pub async fn addresses_of(pid: Option<i32>, host: &str, port: u16) -> Result<Result<Vec<SocketAddr>, String>, ProbeError> {
    if let Ok(ip) = host.parse() {
        return Ok(Ok(vec![SocketAddr::new(ip, port)]));
    }
    // a boxed trait object: the futures around it are nested too deeply for the compiler otherwise
    let Some(pid) = pid else { return by_name_service(host, port).boxed().await };
    let lookups = look_up(pid, vec![host.to_owned()]).await?;
    Ok(match lookups.into_iter().next() {
        Some(Lookup::Up(all)) => Ok(all.iter().map(|ip| SocketAddr::new(*ip, port)).collect()),
        Some(Lookup::NoSuchName) | None => Err(format!("there is no name {host}")),
        Some(Lookup::NoAnswer(why)) => Err(format!("looking up {host}: {why}")),
    })
}

/// The addresses from the name service of this host, which every program uses, instead of DNS alone.
async fn by_name_service(host: &str, port: u16) -> Result<Result<Vec<SocketAddr>, String>, ProbeError> {
    let name = host.to_owned();
    match blocking::run("a host name", host, NAME_SERVICE_TIMEOUT, move |io| io.look_up(&name, port)).await {
        Ok(Ok(found)) => Ok(Ok(found)),
        // its text names the source that lacks the name
        Ok(Err(e)) if e.kind() == std::io::ErrorKind::NotFound => Ok(Err(e.to_string())),
        Ok(Err(e)) => Ok(Err(format!("looking up {host}: {e}"))),
        Err(ProbeError::Timeout { after, .. }) => {
            let after = crate::model::quantity::duration(after.try_into().unwrap_or_default());
            Ok(Err(format!("looking up {host}: no answer in {after}")))
        }
        Err(e) => Err(e),
    }
}

fn literal(name: &str) -> Option<Lookup> {
    name.parse().ok().map(|ip| Lookup::Up(vec![ip]))
}

fn in_hosts(hosts: &str, name: &str) -> Option<Lookup> {
    let found = resolve::in_hosts(hosts, name);
    (!found.is_empty()).then_some(Lookup::Up(found))
}

/// Fully qualified candidates for a name.
fn candidates(name: &str, domains: &[String]) -> Vec<String> {
    let mut all = vec![name.to_owned()];
    if !name.contains('.') {
        all.extend(domains.iter().map(|f| format!("{name}.{f}")));
    }
    all
}

/// The more informative of two results for one name: addresses, then a missing reply.
fn better(previous: Option<Lookup>, other: Lookup) -> Lookup {
    match (previous, other) {
        (Some(up @ Lookup::Up(_)), _) | (_, up @ Lookup::Up(_)) => up,
        (Some(Lookup::NoAnswer(why)), _) | (_, Lookup::NoAnswer(why)) => Lookup::NoAnswer(why),
        (_, none) => none,
    }
}

/// Queries all servers for all names concurrently and uses the first reply for each.
fn query_concurrently(servers: &[SocketAddr], names: &[&str]) -> std::io::Result<Vec<Lookup>> {
    let mut questions = Vec::new();
    for (i, name) in names.iter().enumerate() {
        for (j, kind) in [RecordType::A, RecordType::AAAA].into_iter().enumerate() {
            let id = u16::try_from(2 * i + j).unwrap_or(u16::MAX);
            questions.push((id, question(id, name, kind)));
        }
    }
    let sockets: Vec<UdpSocket> = servers
        .iter()
        .filter_map(|server| {
            let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).ok()?;
            socket.connect(server).ok()?;
            Some(socket)
        })
        .collect();
    let mut answers: Vec<[Option<Option<Vec<IpAddr>>>; 2]> = vec![[None, None]; names.len()];
    let mut why = String::from("no answer in time");
    let deadline = Instant::now() + QUERY_TIMEOUT;
    let share = QUERY_TIMEOUT / u32::try_from(sockets.len().max(1)).unwrap_or(1);
    for socket in &sockets {
        // the next server is queried for the names without a reply
        let until = deadline.min(Instant::now() + share);
        for (id, question) in &questions {
            let (i, j) = (usize::from(*id) / 2, usize::from(*id) % 2);
            if answers.get(i).is_some_and(|a| a[j].is_none())
                && let Some(question) = question
                && let Err(e) = socket.send(question)
            {
                why = e.to_string();
            }
        }
        let mut buffer = [0; 4096];
        while answers.iter().any(|a| a[0].is_none() || a[1].is_none()) {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) else { break };
            socket.set_read_timeout(Some(left))?;
            match socket.recv(&mut buffer) {
                Ok(n) => {
                    if let Some((id, answer)) = answer(&buffer[..n])
                        && let Some(slot) = answers.get_mut(usize::from(id) / 2).map(|a| &mut a[usize::from(id) % 2])
                    {
                        *slot = Some(answer);
                    }
                }
                Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => break,
                Err(e) => {
                    why = e.to_string();
                    break;
                }
            }
        }
    }
    Ok(answers
        .into_iter()
        .map(|[v4, v6]| match (v4, v6) {
            (Some(Some(mut a)), b) => {
                a.extend(b.flatten().unwrap_or_default());
                if a.is_empty() { Lookup::NoSuchName } else { Lookup::Up(a) }
            }
            (_, Some(Some(b))) if !b.is_empty() => Lookup::Up(b),
            (Some(None), _) => Lookup::NoSuchName,
            _ => Lookup::NoAnswer(why.clone()),
        })
        .collect())
}

/// Addresses of a reply; `None` in it if the name does not exist. Other response codes are not replies.
fn answer(bytes: &[u8]) -> Option<(u16, Option<Vec<IpAddr>>)> {
    let answer = Answer::read(bytes)?;
    match answer.code {
        ResponseCode::NXDomain => Some((answer.id, None)),
        ResponseCode::NoError => Some((answer.id, Some(answer.addresses))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use hickory_proto::op::{Message, MessageType, OpCode};
    use hickory_proto::rr::{Name, RData};

    use super::*;

    #[test]
    fn hosts_file_takes_precedence() {
        let hosts = "127.0.0.1 localhost\n::1 localhost # ::9\n172.17.0.3\tb2 B2.example  # x c3\n";
        assert_eq!(in_hosts(hosts, "b2"), Some(Lookup::Up(vec!["172.17.0.3".parse().unwrap()])));
        assert_eq!(in_hosts(hosts, "localhost").map(|l| matches!(l, Lookup::Up(a) if a.len() == 2)), Some(true));
        assert_eq!((in_hosts(hosts, "c3"), literal("x")), (None, None));
        assert_eq!(candidates("db", &["a.lan".to_owned()]), ["db", "db.a.lan"]);
        assert_eq!(candidates("db.x", &["a.lan".to_owned()]), ["db.x"]);
        assert_eq!(better(Some(Lookup::NoSuchName), Lookup::Up(vec![])), Lookup::Up(vec![]));
    }

    /// A name server on the loopback with one name.
    fn server(answers: impl Fn(&str, RecordType) -> Option<Message> + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                let question = Message::from_vec(&buffer[..n]).unwrap();
                let query = question.queries[0].clone();
                if let Some(mut reply) = answers(&query.name().to_ascii(), query.query_type()) {
                    reply.metadata.id = question.metadata.id;
                    socket.send_to(&reply.to_vec().unwrap(), from).unwrap();
                }
            }
        });
        at
    }

    #[test]
    fn missing_name_is_distinguished_from_a_missing_reply() {
        use hickory_proto::rr::Record;
        let at = server(|name, kind| {
            let mut reply = Message::new(0, MessageType::Response, OpCode::Query);
            match (name, kind) {
                ("here.", RecordType::A) => {
                    let data = RData::A(hickory_proto::rr::rdata::A("10.0.0.9".parse().unwrap()));
                    reply.add_answer(Record::from_rdata(Name::from_ascii("here.").unwrap(), 60, data));
                }
                ("here.", _) => {}
                ("silent.", _) => return None,
                _ => reply.metadata.response_code = ResponseCode::NXDomain,
            }
            Some(reply)
        });
        let lookups = query_concurrently(&[at], &["here", "gone", "silent"]).unwrap();
        assert_eq!(lookups[0], Lookup::Up(vec!["10.0.0.9".parse().unwrap()]));
        assert_eq!(lookups[1], Lookup::NoSuchName);
        assert!(matches!(lookups[2], Lookup::NoAnswer(_)));
    }
}
