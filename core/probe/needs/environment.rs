//! Addresses of other services in an environment. Of its values, only hosts and ports leave this module.

use std::collections::BTreeSet;

use crate::model::address::{Address, HostPort, is_host};

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

/// Parts of the names of variables with a value that may be `host:port` without a scheme. `redis:7` is an image, `web:1000` a
/// user.
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
pub(super) fn addresses(environment: &[String]) -> Vec<(String, HostPort)> {
    let pairs: Vec<(&str, &str)> = environment.iter().filter_map(|e| e.split_once('=')).collect();
    let mut found = Vec::new();
    for (name, value) in &pairs {
        let upper = name.to_ascii_uppercase();
        if NOT_CONNECTED.iter().any(|w| upper.contains(w)) {
            continue;
        }
        // a URL may contain several hosts: mongodb://a:27017,b:27017
        let connected = value.contains("://") || CONNECTED.iter().any(|w| upper.contains(w));
        if connected {
            let parts = value.split([',', ';', ' ', '\t', '\n']);
            found.extend(parts.filter_map(|part| Some(((*name).to_owned(), Address::parse(part).host_port()?))));
        }
        if let Some(stem) = name.strip_suffix("HOST")
            && is_host(value)
            && let Some((_, port)) = pairs.iter().find(|(n, _)| n.strip_suffix("PORT") == Some(stem))
            && let Some(port) = port.parse::<u16>().ok().filter(|port| *port > 0)
            && !stem.is_empty()
        {
            found.push(((*name).to_owned(), HostPort { host: (*value).to_owned(), port }));
        }
    }
    // of several variables with the same host and port, the first is kept
    let mut seen = BTreeSet::new();
    found.retain(|(_, host_port)| seen.insert(host_port.clone()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(environment: &[&str]) -> Vec<String> {
        let environment: Vec<String> = environment.iter().map(|e| (*e).to_owned()).collect();
        addresses(&environment).into_iter().map(|(name, p)| format!("{name} {}:{}", p.host, p.port)).collect()
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

    #[test]
    fn ipv6_addresses_without_a_scheme() {
        assert_eq!(found(&["CACHE_ADDR=[fd00::2]:6379"]), ["CACHE_ADDR fd00::2:6379"]);
        assert_eq!(found(&["DB_HOST=fd00::2", "DB_PORT=5432"]), ["DB_HOST fd00::2:5432"]);
    }
}
