//! Host names of this host's own connections, as the programs of this host resolve them.
//!
//! The C library's resolver loads the modules of `nsswitch.conf` at run time. A static binary must not: the modules belong to the C
//! library of the host, which may be another version or none. `getent` runs with the libraries of the host, so its answer is that of
//! every other program. In order: a literal address, `/etc/hosts`, `getent ahosts`, and on a host without `getent` (musl, an empty
//! image) the name servers of `/etc/resolv.conf`.

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::Io;
use super::command::{Argv, run_blocking};
use super::dns::{Answer, question, random_id};
use super::resolv_conf::{self, ResolvConf};

/// Timeout of `getent`: libc queries a name server for 5 s (resolv.conf(5), `timeout`).
const GETENT_TIMEOUT: Duration = Duration::from_secs(6);

/// Timeout of own queries, for all name servers together.
const QUERY_TIMEOUT: Duration = Duration::from_millis(1500);

/// Exit status of `getent` for a key that it does not find (getent(1)). Other values: it does not support `ahosts`.
pub(super) const NOT_FOUND: i32 = 2;

/// Limit of domains of a search list: that of libc before glibc 2.26 (`MAXDNSRCH` of resolv.h).
pub(in crate::probe) const MAX_SEARCH_DOMAINS: usize = 6;

/// Limit of addresses of a name.
pub(in crate::probe) const MAX_ADDRESSES: usize = 32;

/// Addresses of `host` with `port`, in the order in which they should be tried.
///
/// # Errors
/// `NotFound` if there is no such name; other kinds if that is unknown, for example because no name server replies.
pub(super) fn resolve(io: &Io, host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    if let Some(address) = literal(io, host, port) {
        return Ok(vec![address]);
    }
    let hosts = io.read_lossy("/etc/hosts").unwrap_or_default();
    let listed = in_hosts(&hosts, host);
    if !listed.is_empty() && uses_hosts_file(io) {
        return Ok(listed.into_iter().map(|ip| SocketAddr::new(ip, port)).collect());
    }
    if is_localhost(host) {
        return Ok([IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].map(|ip| SocketAddr::new(ip, port)).into());
    }
    let argv = Argv::new("getent", &["ahosts"]).operand(host).map_err(|e| Error::new(ErrorKind::InvalidInput, e))?;
    let service = match run_blocking(io, &argv, GETENT_TIMEOUT) {
        Ok(exited) if exited.status.success() => {
            let found = ahosts(io, &exited.stdout, port);
            if !found.is_empty() {
                return Ok(found);
            }
            true
        }
        Ok(exited) => exited.status.code() == Some(NOT_FOUND),
        Err(_) => false,
    };
    let conf = ResolvConf::parse(&io.read_lossy(resolv_conf::PATH).unwrap_or_default());
    match (query(io, &conf, host), service) {
        (Ok(found), false) => Ok(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()),
        (Ok(_), true) => Err(Error::new(
            ErrorKind::NotFound,
            format!("{host} is in DNS, but not in the name service of this host ({})", configured_sources(io)),
        )),
        (Err(e), _) => Err(e),
    }
}

/// The `hosts` line of nsswitch.conf, for messages.
fn configured_sources(io: &Io) -> String {
    let line = io.read_lossy("/etc/nsswitch.conf").ok().and_then(|text| name_sources(&text));
    line.map_or_else(|| "nsswitch.conf".to_owned(), |line| format!("nsswitch.conf: hosts: {line}"))
}

/// Whether the name service reads the hosts file: `files` or its predecessors are listed, or nothing is configured.
fn uses_hosts_file(io: &Io) -> bool {
    let line = io.read_lossy("/etc/nsswitch.conf").ok().and_then(|text| name_sources(&text));
    line.is_none_or(|line| line.is_empty() || line.split([' ', '[']).any(|word| matches!(word, "files" | "compat" | "db")))
}

/// An address, also with the interface of a link-local one: `fe80::1%eth0`.
pub(super) fn literal(io: &Io, host: &str, port: u16) -> Option<SocketAddr> {
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let Some((address, interface)) = host.split_once('%') else {
        return host.parse().ok().map(|ip| SocketAddr::new(ip, port));
    };
    let address: Ipv6Addr = address.parse().ok()?;
    let index = || {
        let name = interface.rsplit('/').next()?;
        io.read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?.trim().parse().ok()
    };
    Some(SocketAddrV6::new(address, port, 0, interface.parse().ok().or_else(index)?).into())
}

/// `localhost` is this host also without a hosts file (RFC 6761, 6.3).
fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// The addresses of a name in `/etc/hosts`.
pub(in crate::probe) fn in_hosts(hosts: &str, name: &str) -> Vec<IpAddr> {
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|w| w.eq_ignore_ascii_case(name.trim_end_matches('.'))).then_some(address)
    };
    hosts.lines().filter_map(line).take(MAX_ADDRESSES).collect()
}

/// The `hosts` line of nsswitch.conf(5): sources of host names, in order.
pub(in crate::probe) fn name_sources(nsswitch: &str) -> Option<String> {
    nsswitch.lines().find_map(|line| {
        let (database, sources) = line.split('#').next()?.split_once(':')?;
        (database.trim() == "hosts").then(|| sources.split_whitespace().collect::<Vec<_>>().join(" "))
    })
}

/// The addresses that `getent ahosts` prints: one line for each address and socket type.
fn ahosts(io: &Io, output: &str, port: u16) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = Vec::new();
    for address in output.lines().filter_map(|l| literal(io, l.split_whitespace().next()?, port)) {
        if !found.contains(&address) && found.len() < MAX_ADDRESSES {
            found.push(address);
        }
    }
    found
}

/// Queries the name servers for the addresses of a name; a name without a dot also in the search list.
fn query(io: &Io, conf: &ResolvConf, host: &str) -> Result<Vec<IpAddr>> {
    let servers: Vec<SocketAddr> = conf.used().iter().map(|server| server.socket(io)).collect();
    let deadline = Instant::now() + QUERY_TIMEOUT;
    let mut candidates = vec![host.to_owned()];
    if !host.contains('.') {
        // libc queries the search list first (`ndots:1`)
        candidates.splice(0..0, conf.search.iter().take(MAX_SEARCH_DOMAINS).map(|d| format!("{host}.{d}")));
    }
    let mut last = Error::new(ErrorKind::NotFound, format!("there is no name {host}"));
    for name in candidates {
        match query_name(&servers, &name, deadline) {
            Ok(found) if !found.is_empty() => return Ok(found),
            Ok(_) => {}
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// The addresses of a name from the first server that replies; empty if the name does not exist or has none.
fn query_name(servers: &[SocketAddr], name: &str, deadline: Instant) -> Result<Vec<IpAddr>> {
    let mut why = Error::new(ErrorKind::TimedOut, "no name server replied");
    for (i, server) in servers.iter().enumerate() {
        // the remaining servers have an equal share of the remaining time
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(servers.len() - i).unwrap_or(1);
        match exchange(*server, name, Instant::now() + share) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            Err(e) if e.kind() == ErrorKind::InvalidInput => return Err(e),
            Err(e) => why = Error::new(e.kind(), format!("name server {}: {e}", server.ip())),
        }
    }
    Err(why)
}

/// Queries one server for IPv4 and IPv6 addresses. `None` if it rejects a query or does not reply.
fn exchange(server: SocketAddr, name: &str, until: Instant) -> Result<Option<Vec<IpAddr>>> {
    let first = random_id();
    let kinds = [(first, RecordType::A), (first.wrapping_add(1), RecordType::AAAA)];
    // a connected socket receives from this server only, and reports a closed port
    let socket = UdpSocket::bind(if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(server)?;
    for (id, kind) in kinds {
        let message = question(id, name, kind).ok_or_else(|| Error::new(ErrorKind::InvalidInput, "not a valid host name"))?;
        socket.send(&message)?;
    }
    let mut replies: [Option<Vec<IpAddr>>; 2] = [None, None];
    let mut buffer = [0; 4096];
    while replies.iter().any(Option::is_none) {
        let Some(left) = until.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) else { break };
        socket.set_read_timeout(Some(left))?;
        let received = match socket.recv(&mut buffer) {
            Ok(received) => received,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let Some(answer) = Answer::read(&buffer[..received]).filter(|a| a.is_about(name)) else { continue };
        let Some(at) = kinds.iter().position(|(id, _)| *id == answer.id) else { continue };
        match answer.code {
            ResponseCode::NoError => replies[at] = Some(answer.addresses),
            ResponseCode::NXDomain => return Ok(Some(Vec::new())),
            _ => return Ok(None),
        }
    }
    // one of the two is enough if it has addresses: some servers do not reply to AAAA
    let complete = replies.iter().all(Option::is_some);
    let found: Vec<IpAddr> = replies.into_iter().flatten().flatten().take(MAX_ADDRESSES).collect();
    Ok((complete || !found.is_empty()).then_some(found))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use hickory_proto::op::{Message, MessageType};
    use hickory_proto::rr::{Name, RData, Record};

    use super::*;

    fn addresses(host: &str) -> Vec<String> {
        resolve(&Io::for_test(), host, 80).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn literal_addresses_need_no_lookup() {
        assert_eq!(addresses("192.0.2.1"), ["192.0.2.1:80"]);
        assert_eq!(addresses("[2001:db8::1]"), ["[2001:db8::1]:80"]);
        assert_eq!(addresses("fe80::1%7"), ["[fe80::1%7]:80"]);
    }

    #[test]
    fn interface_of_a_link_local_address_is_its_index() {
        assert_eq!(literal(&Io::for_test(), "fe80::1%lo", 53).unwrap().to_string(), "[fe80::1%1]:53");
        assert_eq!(literal(&Io::for_test(), "fe80::1%no-such-interface", 53), None);
    }

    #[test]
    fn hosts_file_is_read_without_case_and_comments() {
        let hosts = "127.0.0.1 localhost\n10.0.0.5\tDB.example db # backup\n::1 localhost\nbroken db\n";
        assert_eq!(in_hosts(hosts, "db"), ["10.0.0.5".parse::<IpAddr>().unwrap()]);
        assert_eq!(in_hosts(hosts, "localhost").len(), 2);
        assert!(in_hosts(hosts, "backup").is_empty());
    }

    #[test]
    fn hosts_line_of_nsswitch_has_no_comments() {
        assert_eq!(name_sources("passwd: files\nhosts:\tfiles  dns # x\n").as_deref(), Some("files dns"));
        assert_eq!(name_sources("# hosts: files\n"), None);
    }

    #[test]
    fn corpus_of_nsswitch() {
        crate::corpus::check("nsswitch.conf", 8, |text| vec![("hosts", name_sources(text).unwrap_or_default())]);
    }

    #[test]
    fn localhost_needs_no_hosts_file() {
        assert!(is_localhost("localhost") && is_localhost("app.LOCALHOST."));
        assert!(!is_localhost("localhost.example.org"));
    }

    #[test]
    fn option_is_not_passed_to_getent() {
        assert_eq!(resolve(&Io::for_test(), "--version", 80).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn addresses_of_getent_are_unique_and_in_order() {
        let output = "2001:db8::7 STREAM db.example\n2001:db8::7 DGRAM \n192.0.2.7 STREAM \n192.0.2.7 RAW \nnonsense\n\n";
        let found = ahosts(&Io::for_test(), output, 5432);
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["[2001:db8::7]:5432", "192.0.2.7:5432"]);
    }

    /// A name server on the loopback.
    fn server(reply: impl Fn(&str, RecordType, &mut Message) + Send + 'static) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                let mut message = Message::from_vec(&buffer[..n]).unwrap();
                let query = message.queries[0].clone();
                message.metadata.message_type = MessageType::Response;
                reply(&query.name().to_ascii(), query.query_type(), &mut message);
                socket.send_to(&message.to_vec().unwrap(), from).unwrap();
            }
        });
        at
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn name_server_is_queried_for_a_and_aaaa() {
        let at = server(|name, kind, reply| {
            if kind == RecordType::A {
                let data = RData::A(hickory_proto::rr::rdata::A("192.0.2.9".parse().unwrap()));
                reply.add_answer(Record::from_rdata(Name::from_ascii(name).unwrap(), 60, data));
            }
        });
        assert_eq!(query_name(&[at], "db.test", soon()).unwrap(), ["192.0.2.9".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn missing_name_is_not_an_error_of_the_server() {
        let at = server(|_, _, reply| reply.metadata.response_code = ResponseCode::NXDomain);
        assert!(query_name(&[at], "none.test", soon()).unwrap().is_empty());
    }

    #[test]
    fn next_server_is_queried_after_a_failure() {
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let failing = server(|_, _, reply| reply.metadata.response_code = ResponseCode::ServFail);
        let other = server(|_, _, reply| reply.metadata.response_code = ResponseCode::NXDomain);
        assert!(query_name(&[closed, failing, other], "none.test", soon()).unwrap().is_empty());
        assert!(query_name(&[closed, failing], "none.test", soon()).is_err());
    }

    #[test]
    fn invalid_name_is_not_sent() {
        assert_eq!(query_name(&["127.0.0.1:9".parse().unwrap()], "a..b", soon()).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
