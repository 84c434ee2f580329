//! Names to addresses as another process would find them: its hosts file, then the name servers of its resolv.conf, asked from its own
//! network namespace; and the name servers themselves, asked one by one.

mod ask;
#[cfg(any(test, feature = "fuzz"))]
pub(super) mod fuzz;
mod resolv_conf;
mod resolvers;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use serde::{Deserialize, Serialize};

use super::servers::file_of;
use super::{ProbeError, blocking, lag, netns};

pub use ask::{Asked, Patience, Question, Reply, Transport};
pub use resolv_conf::{ExtServer, FileState, MAXNS, NameServer, PATH, ResolvConf, ResolvFile};
pub use resolvers::{Answers, HostAnswers, Resolvers, ask_all, ask_each, file_of as resolv_conf_of, hosts_line, questions};

use ask::{Answer, question};

/// How many domains of a search list are looked in.
const MOST_FOLDERS: usize = 3;

/// How long the name servers may take for all names together. A resolver itself waits five seconds.
const ANSWER: Duration = Duration::from_millis(1500);

/// What became of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "value")]
pub enum Looked {
    /// It has these addresses.
    Up(Vec<IpAddr>),
    /// There is no such name, or it has no address.
    NoSuchName,
    /// No name server answered; why.
    NoAnswer(String),
}

/// Looks up each of `names` as process `pid` would, in the same order.
pub async fn look_up(pid: i32, names: Vec<String>) -> Result<Vec<Looked>, ProbeError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let silent = |looked: &Result<Vec<Looked>, ProbeError>| {
        looked.as_ref().is_ok_and(|all| all.iter().any(|l| matches!(l, Looked::NoAnswer(_))))
    };
    lag::retried(|| look_up_once(pid, names.clone()), silent).await
}

async fn look_up_once(pid: i32, names: Vec<String>) -> Result<Vec<Looked>, ProbeError> {
    blocking::run(
        "addresses of names",
        &format!("the name servers of process {pid}"),
        ANSWER + Duration::from_secs(1),
        move |io| {
            let hosts = file_of(io, pid, "/etc/hosts").unwrap_or_default();
            let conf = ResolvConf::parse(&file_of(io, pid, PATH).unwrap_or_default());
            let servers: Vec<SocketAddr> = conf.used().iter().map(|s| s.socket(io)).collect();
            let folders: Vec<String> = conf.search.into_iter().take(MOST_FOLDERS).collect();
            let mut looked: Vec<Option<Looked>> = names.iter().map(|n| literal(n).or_else(|| in_hosts(&hosts, n))).collect();
            let asked: Vec<usize> = (0..names.len()).filter(|i| looked[*i].is_none()).collect();
            if !asked.is_empty() {
                // a short name is looked for in the domains of the search list too
                let wanted: Vec<(usize, String)> =
                    asked.iter().flat_map(|i| candidates(&names[*i], &folders).into_iter().map(|c| (*i, c))).collect();
                let questions: Vec<&str> = wanted.iter().map(|(_, c)| c.as_str()).collect();
                let answers = netns::enter_other(io, pid).and_then(|()| ask(&servers, &questions));
                match answers {
                    Ok(answers) => {
                        wanted.iter().zip(answers).for_each(|((i, _), a)| looked[*i] = Some(better(looked[*i].take(), a)));
                    }
                    Err(e) => asked.iter().for_each(|i| looked[*i] = Some(Looked::NoAnswer(e.to_string()))),
                }
            }
            looked.into_iter().map(|l| l.unwrap_or_else(|| Looked::NoAnswer("not asked".to_owned()))).collect()
        },
    )
    .await
}

/// The first address of a host, as `pid` or this process would find it; the error says why there is none.
pub async fn first_address(pid: Option<i32>, host: &str, port: u16) -> Result<Result<SocketAddr, String>, ProbeError> {
    if let Ok(ip) = host.parse() {
        return Ok(Ok(SocketAddr::new(ip, port)));
    }
    let me = i32::try_from(std::process::id()).unwrap_or_default();
    let looked = look_up(pid.unwrap_or(me), vec![host.to_owned()]).await?;
    Ok(match looked.into_iter().next() {
        Some(Looked::Up(all)) => all.first().map(|ip| SocketAddr::new(*ip, port)).ok_or_else(|| "it has no address".to_owned()),
        Some(Looked::NoSuchName) | None => Err(format!("there is no name {host}")),
        Some(Looked::NoAnswer(why)) => Err(format!("looking up {host}: {why}")),
    })
}

fn literal(name: &str) -> Option<Looked> {
    name.parse().ok().map(|ip| Looked::Up(vec![ip]))
}

fn in_hosts(hosts: &str, name: &str) -> Option<Looked> {
    let found: Vec<IpAddr> = hosts
        .lines()
        .filter_map(|l| {
            let mut words = l.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|w| w.eq_ignore_ascii_case(name)).then_some(address)
        })
        .collect();
    (!found.is_empty()).then_some(Looked::Up(found))
}

/// What a name may stand for.
fn candidates(name: &str, folders: &[String]) -> Vec<String> {
    let mut all = vec![name.to_owned()];
    if !name.contains('.') {
        all.extend(folders.iter().map(|f| format!("{name}.{f}")));
    }
    all
}

/// Of two answers for one name the one that says more: an address, then that it is not known whether there is one.
fn better(one: Option<Looked>, other: Looked) -> Looked {
    match (one, other) {
        (Some(up @ Looked::Up(_)), _) | (_, up @ Looked::Up(_)) => up,
        (Some(Looked::NoAnswer(why)), _) | (_, Looked::NoAnswer(why)) => Looked::NoAnswer(why),
        (_, none) => none,
    }
}

/// Asks all servers for all names at once and takes the first answer for each.
fn ask(servers: &[SocketAddr], names: &[&str]) -> std::io::Result<Vec<Looked>> {
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
    let deadline = Instant::now() + ANSWER;
    let share = ANSWER / u32::try_from(sockets.len().max(1)).unwrap_or(1);
    for socket in &sockets {
        // the next server is for what the one before did not answer
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
                if a.is_empty() { Looked::NoSuchName } else { Looked::Up(a) }
            }
            (_, Some(Some(b))) if !b.is_empty() => Looked::Up(b),
            (Some(None), _) => Looked::NoSuchName,
            _ => Looked::NoAnswer(why.clone()),
        })
        .collect())
}

/// Addresses of an answer; none in it when the name does not exist. Other failures are no answer.
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
    fn the_hosts_file_comes_first() {
        let hosts = "127.0.0.1 localhost\n::1 localhost # ::9\n172.17.0.3\tb2 B2.example  # x c3\n";
        assert_eq!(in_hosts(hosts, "b2"), Some(Looked::Up(vec!["172.17.0.3".parse().unwrap()])));
        assert_eq!(in_hosts(hosts, "localhost").map(|l| matches!(l, Looked::Up(a) if a.len() == 2)), Some(true));
        assert_eq!((in_hosts(hosts, "c3"), literal("x")), (None, None));
        assert_eq!(candidates("db", &["a.lan".to_owned()]), ["db", "db.a.lan"]);
        assert_eq!(candidates("db.x", &["a.lan".to_owned()]), ["db.x"]);
        assert_eq!(better(Some(Looked::NoSuchName), Looked::Up(vec![])), Looked::Up(vec![]));
    }

    /// A name server on the loopback that knows one name.
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
    fn a_name_that_is_not_there_is_no_silence() {
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
        let looked = ask(&[at], &["here", "gone", "silent"]).unwrap();
        assert_eq!(looked[0], Looked::Up(vec!["10.0.0.9".parse().unwrap()]));
        assert_eq!(looked[1], Looked::NoSuchName);
        assert!(matches!(looked[2], Looked::NoAnswer(_)));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100), text in ".*") {
            let _ = (answer(&bytes), in_hosts(&text, "a"), question(1, &text, RecordType::A));
        }
    }
}
