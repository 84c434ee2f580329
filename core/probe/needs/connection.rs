//! Connection strings: the hosts and ports in the values of settings, in the forms that clients accept. Nothing else of a value
//! leaves this module: the rest may be a login.

use std::ops::ControlFlow;

use crate::model::address::{Address, HostPort, is_host, split_port, usual_port, without_brackets};

/// Size limit of a value, in bytes. A longer one is a document, a key or a certificate.
const MAX_VALUE_BYTES: usize = 8 << 10;

/// Limit of the hosts of one value.
const MAX_HOSTS: usize = 16;

/// Ports of databases, caches, brokers, directories and mail servers: their addresses are connected to, and are never those of pages.
const STORE_PORTS: &[u16] = &[
    25, 389, 465, 587, 636, 1433, 1521, 1883, 2181, 2379, 3306, 4222, 5432, 5671, 5672, 6379, 6432, 6650, 9042, 9092, 9200,
    11211, 26379, 27017,
];

/// Ports of products in the names of variables and hosts, the more specific words first.
const PRODUCT_WORDS: &[(&str, u16)] = &[
    ("POSTGRES", 5432),
    ("PGHOST", 5432),
    ("PGSQL", 5432),
    ("PGBOUNCER", 6432),
    ("SENTINEL", 26379),
    ("REDIS", 6379),
    ("VALKEY", 6379),
    ("RABBIT", 5672),
    ("AMQP", 5672),
    ("MARIADB", 3306),
    ("MYSQL", 3306),
    ("MONGO", 27017),
    ("MEMCACHE", 11211),
    ("ELASTIC", 9200),
    ("OPENSEARCH", 9200),
    ("KAFKA", 9092),
    ("CASSANDRA", 9042),
    ("ZOOKEEPER", 2181),
    ("NATS", 4222),
    ("MSSQL", 1433),
    ("SQLSERVER", 1433),
    ("CLICKHOUSE", 8123),
    // the official image of WordPress connects to MySQL only
    ("WORDPRESS_DB", 3306),
];

/// Reads one form of connection strings; `Continue` if the value has another one.
type Form = fn(&str) -> ControlFlow<Vec<Connection>>;

/// The address that a value contains.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Connection {
    pub(super) address: HostPort,
    /// The port is the default one of the product, because the value has none.
    pub(super) assumed: bool,
    /// A database, cache, broker or mail server, as opposed to HTTP and unknown protocols.
    pub(super) store: bool,
}

impl Connection {
    fn new(host: &str, port: u16, assumed: bool, store: bool) -> Option<Self> {
        let host = without_brackets(host.trim()).trim_end_matches('.');
        // names of SRV records: `_mongodb._tcp.db`
        let valid = is_host(host) && port > 0 && !host.starts_with('_');
        let address = HostPort { host: host.to_owned(), port };
        valid.then_some(Self { address, assumed, store: store || STORE_PORTS.contains(&port) })
    }
}

/// The default port of the product in the name of a variable or of a host, in upper case.
pub(super) fn port_of_words(name: &str) -> Option<u16> {
    let listed = PRODUCT_WORDS.iter().find(|(word, _)| name.contains(word)).map(|(_, port)| *port);
    listed.or_else(|| name.starts_with("ES_").then_some(9200))
}

/// Whether the port is that of a database, cache, broker, directory or mail server.
pub(super) fn is_store(port: u16) -> bool {
    STORE_PORTS.contains(&port)
}

/// The addresses in a value. `bare` accepts `host:port` without a scheme; `default` is the port of a host without one, if known.
pub(super) fn connections(value: &str, bare: bool, default: Option<u16>) -> Vec<Connection> {
    let value = value.trim();
    // a list in JSON; the brackets of an IPv6 address have no quotes
    let is_list = value.starts_with("[\"") || value.starts_with("['");
    let value = if is_list { value.trim_start_matches('[').trim_end_matches(']') } else { value };
    let value = value.trim_matches(['"', '\'']).trim();
    if value.is_empty() || value.len() > MAX_VALUE_BYTES || value.starts_with(['/', '@', '{']) {
        return Vec::new();
    }
    for form in [protocol_in_parentheses, key_values, oracle, urls] as [Form; 4] {
        if let ControlFlow::Break(mut found) = form(value) {
            found.truncate(MAX_HOSTS);
            return found;
        }
    }
    if bare { list(value, default) } else { Vec::new() }
}

/// `user:password@tcp(db:3306)/app` (github.com/go-sql-driver/mysql). `unix(/run/mysqld.sock)` has no address.
fn protocol_in_parentheses(value: &str) -> ControlFlow<Vec<Connection>> {
    // the last one: a password may contain any text
    let begin = ["tcp(", "tcp6(", "unix("].iter().filter_map(|p| value.rfind(p).map(|at| (at, p.len()))).max();
    let Some((at, length)) = begin.filter(|(at, _)| *at == 0 || value[..*at].ends_with('@')) else {
        return ControlFlow::Continue(());
    };
    let inner = value[at + length..].split(')').next().unwrap_or_default();
    let (host, port) = split_port(inner);
    ControlFlow::Break(Connection::new(host, port.unwrap_or(3306), port.is_none(), true).into_iter().collect())
}

/// Names of the host in connection strings of key and value, in lower case without blanks.
const HOST_KEYS: &[&str] = &["host", "hostaddr", "server", "datasource", "address", "addr", "networkaddress", "hostname"];

/// `host=db port=5432 dbname=app` (libpq) and `Server=tcp:db,1433;Database=app` (ADO.NET, ODBC).
fn key_values(value: &str) -> ControlFlow<Vec<Connection>> {
    // a URL with a query has its host before the first key
    if value.split('=').next().is_none_or(|head| head.contains("://") || head.contains([':', '/', '@', ','])) {
        return ControlFlow::Continue(());
    }
    let separator = if value.contains(';') { ';' } else { ' ' };
    let mut pairs: Vec<(String, &str)> = Vec::new();
    for part in value.split(separator).filter(|part| !part.trim().is_empty()) {
        let Some((key, value)) = part.split_once('=') else { continue };
        let key: String = key.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).collect();
        pairs.push((key, value.trim().trim_matches(['\'', '"'])));
    }
    let get = |keys: &[&str]| pairs.iter().find(|(key, _)| keys.contains(&key.as_str())).map(|(_, value)| *value);
    let Some(host) = get(HOST_KEYS) else { return ControlFlow::Continue(()) };
    let ports: Vec<&str> = get(&["port"]).unwrap_or_default().split(',').collect();
    let default = if separator == ' ' {
        Some(5432)
    } else if get(&["uid", "sslmode", "characterset"]).is_some() {
        None
    } else {
        let keys =
            ["initialcatalog", "trustservercertificate", "trusted_connection", "multipleactiveresultsets", "integratedsecurity"];
        get(&keys).map(|_| 1433)
    };
    // `tcp:db,1433`: the comma separates the port in ADO.NET, and hosts in libpq
    let host = host.strip_prefix("tcp:").or_else(|| host.strip_prefix("TCP:")).unwrap_or(host);
    if let Some((host, port)) = host.split_once(',')
        && let Ok(port) = port.trim().parse()
    {
        return ControlFlow::Break(Connection::new(host, port, false, true).into_iter().collect());
    }
    let mut found = Vec::new();
    for (i, host) in host.split(',').enumerate() {
        let given = ports.get(i).or(ports.first()).and_then(|port| port.trim().parse::<u16>().ok());
        let (host, own) = split_port(host.trim());
        if let Some(port) = own.or(given).or(default) {
            found.extend(Connection::new(host, port, own.or(given).is_none(), true));
        }
    }
    ControlFlow::Break(found)
}

/// `jdbc:oracle:thin:@//db:1521/service` and `jdbc:oracle:thin:user/password@db:1521:SID`.
fn oracle(value: &str) -> ControlFlow<Vec<Connection>> {
    if !value.starts_with("jdbc:oracle:") {
        return ControlFlow::Continue(());
    }
    let Some((_, rest)) = value.rsplit_once('@') else { return ControlFlow::Break(Vec::new()) };
    let mut parts = rest.trim_start_matches('/').split([':', '/']);
    let (host, port) = (parts.next().unwrap_or_default(), parts.next().and_then(|port| port.parse().ok()));
    ControlFlow::Break(port.and_then(|port| Connection::new(host, port, false, true)).into_iter().collect())
}

/// One or several URLs, each with one or several hosts.
fn urls(value: &str) -> ControlFlow<Vec<Connection>> {
    let starts: Vec<usize> = value.match_indices("://").map(|(at, _)| scheme_start(value, at)).collect();
    if starts.is_empty() {
        return ControlFlow::Continue(());
    }
    let mut found = Vec::new();
    let mut begin = starts[0];
    for next in starts[1..].iter().copied().chain([value.len()]) {
        // a URL in the path or the query of another one is a part of it
        let separated = next == value.len() || value[..next].ends_with([',', ';', ' ', '\t', '\n', '"', '\'']);
        if next > begin && separated {
            found.extend(url(value[begin..next].trim_end_matches([',', ';', ' ', '\t', '\n', '"', '\''])));
            begin = next;
        }
    }
    ControlFlow::Break(found)
}

/// Begin of the scheme that ends at `end`.
fn scheme_start(value: &str, end: usize) -> usize {
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | ':' | '_');
    let length: usize = value[..end].chars().rev().take_while(|c| is_scheme(*c)).map(char::len_utf8).sum();
    end - length
}

/// Schemes without a host, or with one that is not connected to directly.
const NOT_CONNECTED: &[&str] =
    &["file", "sqlite", "unix", "socket", "data", "docker-image", "git", "fd", "consul", "dns", "srv", "mock", "sqs"];

/// `mongodb://user:password@a:27017,b:27017/app`, `jdbc:mysql:loadbalance://a,b/app`, `db+postgresql://db/app`.
fn url(text: &str) -> Vec<Connection> {
    // the parameters of SQL Server follow a semicolon, and one of them may be a password with an `@`
    let text = if text.starts_with("jdbc:sqlserver:") { text.split(';').next().unwrap_or_default() } else { text };
    let address = Address::parse(text);
    let Some(scheme) = address.scheme.map(str::to_ascii_lowercase) else { return Vec::new() };
    let parts: Vec<&str> = scheme.split([':', '+']).filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| NOT_CONNECTED.contains(part)) {
        return Vec::new();
    }
    let known = parts.iter().find_map(|part| scheme_port(part).map(|port| (port, is_store_scheme(part))));
    let store = known.is_some_and(|(_, store)| store);
    // further servers of Celery's result backends follow a semicolon
    let authority = address.authority.split(';').next().unwrap_or_default();
    let hosts = authority.split(',').filter(|host| !host.is_empty());
    let connection = |host: &str| {
        let parsed = Address::parse(host);
        if parsed.port().is_none() && has_port(host) {
            return None;
        }
        let port = parsed.port().or(known.map(|(port, _)| port))?;
        // the default port of a scheme is a part of it
        Connection::new(parsed.host(), port, false, store)
    };
    hosts.filter_map(connection).collect()
}

/// Whether a port is written, valid or not.
fn has_port(host: &str) -> bool {
    let after = host.rsplit(']').next().unwrap_or_default();
    let (_, port) = after.rsplit_once(':').unwrap_or_default();
    !port.is_empty() && !is_host(host)
}

fn scheme_port(scheme: &str) -> Option<u16> {
    let of_driver = || {
        Some(match scheme {
            "psql" | "pg" | "postgis" | "cockroachdb" => 5432,
            "mysql2" | "pymysql" => 3306,
            "redis-sentinel" | "sentinel" => 26379,
            "rediscluster" | "redis-cluster" => 6379,
            "pyamqp" | "rabbitmq" => 5672,
            "mongo" => 27017,
            "memcache" => 11211,
            "kafka" | "plaintext" | "sasl_plaintext" | "sasl_ssl" | "ssl" | "confluentkafka" => 9092,
            "mssql" | "sqlserver" => 1433,
            "ldap" => 389,
            "ldaps" => 636,
            "smtp" => 25,
            "smtps" => 465,
            "cassandra" => 9042,
            "clickhouse" => 9000,
            "pulsar" => 6650,
            "mqtts" => 8883,
            _ => return None,
        })
    };
    usual_port(scheme).or_else(of_driver)
}

fn is_store_scheme(scheme: &str) -> bool {
    !matches!(scheme, "http" | "https" | "ws" | "wss" | "grpcs")
}

/// `kafka1:9092,kafka2:9092`, `db:5432/app`, `["es1:9200", "es2:9200"]`, and with `default` also hosts without a port.
fn list(value: &str, default: Option<u16>) -> Vec<Connection> {
    let parts = value.split([',', ';', ' ', '\t', '\n', '"', '\'']).filter(|part| !matches!(*part, "" | "[" | "]"));
    let mut found = Vec::new();
    for part in parts.take(MAX_HOSTS) {
        let address = Address::parse(part);
        match (address.port(), default) {
            (Some(port), _) => found.extend(Connection::new(address.host(), port, false, false)),
            (None, Some(port)) if is_host(part) => found.extend(Connection::new(part, port, true, true)),
            // an option such as `password=…` ends the hosts
            _ if part.contains('=') => break,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
