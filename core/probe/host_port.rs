//! Hosts and ports in foreign text. Only these leave this module.

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::probe) struct HostPort {
    pub(in crate::probe) host: String,
    pub(in crate::probe) port: u16,
}

/// The relevant parts of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::probe) struct Url<'a> {
    pub(in crate::probe) scheme: &'a str,
    pub(in crate::probe) host_port: HostPort,
    /// Path and query; `/` when there is none.
    pub(in crate::probe) path: String,
}

/// Parts of the names of variables with a value that is announced to others or compared, rather than connected to.
const NOT_CONNECTED: &[&str] = &[
    "ORIGIN",
    "CORS",
    "ALLOW",
    "PUBLIC",
    "EXTERNAL",
    "CALLBACK",
    "REDIRECT",
    "ADVERTISE",
    "TRUSTED",
    "NO_PROXY",
    "LISTEN",
    "BIND",
];

/// Parts of the names of variables with a value that may be `host:port` without a scheme. `redis:7` is an image, `web:1000` a user.
const CONNECTED: &[&str] = &[
    "HOST",
    "ADDR",
    "URL",
    "URI",
    "SERVER",
    "BROKER",
    "ENDPOINT",
    "UPSTREAM",
    "BACKEND",
    "TARGET",
    "DSN",
    "NODE",
    "PEER",
    "CLUSTER",
    "SERVICE",
    "BOOTSTRAP",
    "REMOTE",
    "CONNECT",
];

/// Hosts and ports in an environment, with the name of the variable: URLs, `host:port`, and `X_HOST` with `X_PORT`.
pub(in crate::probe) fn in_environment(environment: &[String]) -> Vec<(String, HostPort)> {
    let pairs: Vec<(&str, &str)> = environment.iter().filter_map(|e| e.split_once('=')).collect();
    let mut found = Vec::new();
    for (name, value) in &pairs {
        let upper = name.to_ascii_uppercase();
        if NOT_CONNECTED.iter().any(|w| upper.contains(w)) {
            continue;
        }
        // a URL may contain several hosts: mongodb://a:27017,b:27017
        let bare = value.contains("://") || CONNECTED.iter().any(|w| upper.contains(w));
        for part in value.split([',', ';', ' ', '\t', '\n']) {
            let host_port = match url(part) {
                Some(url) => Some(url.host_port),
                None if bare && !part.contains("://") => host_and_port(part),
                None => None,
            };
            found.extend(host_port.map(|p| ((*name).to_owned(), p)));
        }
        if let Some(stem) = name.strip_suffix("HOST")
            && is_host(value)
            && let Some((_, port)) = pairs.iter().find(|(n, _)| n.strip_suffix("PORT") == Some(stem))
            && let Some(port) = number(port)
            && !stem.is_empty()
        {
            found.push(((*name).to_owned(), HostPort { host: (*value).to_owned(), port }));
        }
    }
    // of several variables with the same host and port, the first is kept
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|(_, host_port)| seen.insert(host_port.clone()));
    found
}

/// Parses `scheme://[user:password@]host[:port][/path]`; the port defaults to that of the scheme.
pub(in crate::probe) fn url(text: &str) -> Option<Url<'_>> {
    let (scheme, rest) = text.split_once("://")?;
    // jdbc:postgresql://, postgresql+asyncpg://
    let scheme = scheme.rsplit(':').next()?.split('+').next()?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host_port = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            let port = if rest.is_empty() { usual_port(scheme)? } else { number(rest.strip_prefix(':')?)? };
            HostPort { host: host.to_owned(), port }
        }
        None if authority.contains(':') => host_and_port(authority)?,
        None => HostPort { host: is_host(authority).then(|| authority.to_owned())?, port: usual_port(scheme)? },
    };
    let path = path.split('#').next().unwrap_or_default();
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Some(Url { scheme, host_port, path })
}

/// Parses `host:port`, ignoring a path.
fn host_and_port(text: &str) -> Option<HostPort> {
    let text = text.split(['/', '?', '#']).next()?;
    let text = text.rsplit_once('@').map_or(text, |(_, host)| host);
    let (host, port) = text.split_once(':')?;
    Some(HostPort { host: is_host(host).then(|| host.to_owned())?, port: number(port)? })
}

fn number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}

/// Whether a text is a host name, or an IPv4 address.
fn is_host(text: &str) -> bool {
    let named = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.len() < 254
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    named && (text.contains(|c: char| c.is_ascii_alphabetic()) || text.parse::<std::net::Ipv4Addr>().is_ok())
}

fn usual_port(scheme: &str) -> Option<u16> {
    Some(match scheme {
        "http" | "ws" => 80,
        "https" | "wss" => 443,
        "postgres" | "postgresql" => 5432,
        "mysql" | "mariadb" => 3306,
        "redis" | "rediss" | "valkey" => 6379,
        "amqp" => 5672,
        "amqps" => 5671,
        "mongodb" => 27017,
        "nats" => 4222,
        "mqtt" => 1883,
        "memcached" => 11211,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(environment: &[&str]) -> Vec<String> {
        let environment: Vec<String> = environment.iter().map(|e| (*e).to_owned()).collect();
        in_environment(&environment).into_iter().map(|(name, p)| format!("{name} {}:{}", p.host, p.port)).collect()
    }

    #[test]
    fn only_connection_targets_are_found() {
        assert_eq!(
            found(&[
                "DATABASE_URL=postgresql+asyncpg://app:s3cr3t,x@db:5433/shop",
                "CACHE=redis://:pw@cache/0",
                "JDBC=jdbc:postgresql://pg:5432/x",
                "MONGO=mongodb://a:27017,b:27018/x",
                "BROKERS_NODE=k1:9092,k2:9092",
                "BACKEND_URL=http://b1:8080/health?token=x",
                "DB_HOST=pgbouncer",
                "DB_PORT=6432",
                "V6_URL=http://[fd00::2]:81/",
            ]),
            [
                "DATABASE_URL db:5433".to_owned(),
                "CACHE cache:6379".to_owned(),
                "JDBC pg:5432".to_owned(),
                "MONGO a:27017".to_owned(),
                "MONGO b:27018".to_owned(),
                "BROKERS_NODE k1:9092".to_owned(),
                "BROKERS_NODE k2:9092".to_owned(),
                "BACKEND_URL b1:8080".to_owned(),
                "DB_HOST pgbouncer:6432".to_owned(),
                "V6_URL fd00::2:81".to_owned(),
            ]
        );
        for not in [
            "IMAGE=redis:7",
            "USER=web:1000",
            "CORS_ORIGINS=http://web:3000",
            "ALLOWED_HOSTS=web:80",
            "BASIC_AUTH=admin:1234",
            "LISTEN_ADDR=0.0.0.0:80",
            "TIME_SERVER=12:30",
            "HOST=web",
            "PORT=80",
            "X_URL=http://:80",
            "Y_URL=foo://web",
            "Z_URL=http://web:99999",
        ] {
            assert_eq!(found(&[not]), Vec::<String>::new(), "{not}");
        }
        assert_eq!(found(&["HOST=web", "PORT=80"]), Vec::<String>::new(), "its own listening address");
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_does_not_panic(name in ".*", value in ".*") {
            let _ = (url(&value), in_environment(&[format!("{name}={value}")]));
        }
    }
}
