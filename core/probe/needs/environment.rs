//! Addresses of other services in an environment. Of its values, only hosts and ports leave this module.

use std::collections::BTreeSet;

use crate::model::address::{HostPort, is_host, usual_port};
use crate::probe::needs::connection::{connections, is_store, port_of_words};

/// Limit of the variables of one environment.
const MAX_VARIABLES: usize = 2000;

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
    "EXAMPLE",
    "DOCS_",
    "LICENSE",
];

/// Parts of the names of variables with a URL that browsers request, or that is the service's own. They may name the host on which
/// the application is published, and a database at any rate is connected to.
const OWN_PAGES: &[&str] = &[
    "APP_URL",
    "BASE_URL",
    "SITE_URL",
    "ROOT_URL",
    "SERVER_URL",
    "HOST_URL",
    "WEB_URL",
    "NEXTAUTH_URL",
    "HOMEPAGE",
    "FRONTEND",
    "DOMAIN",
    "CANONICAL",
    "ISSUER",
    "WEBHOOK",
    "DASHBOARD",
    "HEALTH",
    "VIRTUAL_HOST",
    "LETSENCRYPT",
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
    "CONN_STR",
    "SENTINEL",
];

/// Parts of the names of variables that name another service, rather than an own address as `HTTP_ADDR` may.
const CLIENT: &[&str] = &["BACKEND", "UPSTREAM", "TARGET", "REMOTE", "PEER", "API_", "BROKER"];

/// Parts of the names of variables with a secret, which may contain a colon.
const SECRET: &[&str] = &["PASS", "SECRET", "TOKEN", "CREDENTIAL", "AUTH_", "API_KEY", "ACCESS_KEY", "PRIVATE"];

/// Ends of the names of variables with a host, of which the port is in a variable of the same stem.
const HOST_ENDS: &[&str] = &["HOSTNAME", "HOST", "SERVER", "ADDRESS", "ADDR"];

/// An address in a variable.
#[expect(clippy::struct_excessive_bools, reason = "independent properties of a variable")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    /// Name of the variable.
    pub(super) variable: String,
    pub(super) address: HostPort,
    /// The port is the default one of the product.
    pub(super) assumed: bool,
    /// A database, cache, broker or mail server.
    pub(super) store: bool,
    /// A URL that may be one of the service's own pages.
    pub(super) own_page: bool,
    /// The name of the variable is that of another service: `BACKEND_URL`.
    pub(super) client: bool,
}

/// Hosts and ports in an environment, with the name of the variable: connection strings, and `X_HOST` with `X_PORT`.
pub(super) fn addresses(environment: &[String]) -> Vec<Named> {
    let pairs: Vec<(&str, &str)> = environment.iter().take(MAX_VARIABLES).filter_map(|e| e.split_once('=')).collect();
    let mut found = Vec::new();
    for (name, value) in &pairs {
        let value = value.trim();
        let upper = name.to_ascii_uppercase();
        let has = |words: &[&str]| words.iter().any(|w| upper.contains(w));
        if value.is_empty() || has(NOT_CONNECTED) {
            continue;
        }
        let has_scheme = value.contains("://");
        let is_pair = value.contains('=') || value.contains("tcp(");
        let is_connected = has(CONNECTED);
        // most values are neither addresses nor connection strings
        if !has_scheme && !is_pair && (!is_connected || has(SECRET)) {
            continue;
        }
        let named = |address: HostPort, assumed: bool, store: bool| {
            let own_page = !store && has(OWN_PAGES);
            Named { variable: (*name).to_owned(), address, assumed, store, own_page, client: has(CLIENT) }
        };
        let plural = ["HOSTS", "SERVERS", "NODES", "BROKERS", "URLS"].iter().any(|end| upper.ends_with(end));
        if is_host(value) && !plural {
            if let Some((address, assumed)) = host_of_pair(&upper, value, &pairs) {
                let store = is_store(address.port) || port_of_words(&upper).is_some();
                found.push(named(address, assumed, store));
            }
            continue;
        }
        let default = port_of_words(&upper).filter(|_| plural);
        found.extend(connections(value, is_connected, default).into_iter().map(|c| named(c.address, c.assumed, c.store)));
    }
    // of several variables with the same host and port, the first is kept
    let mut seen = BTreeSet::new();
    found.retain(|n| seen.insert(n.address.clone()));
    found
}

/// The host of `X_HOST` with its port: that of `X_PORT`, or the default one of the product that a name mentions.
fn host_of_pair(upper: &str, value: &str, pairs: &[(&str, &str)]) -> Option<(HostPort, bool)> {
    let stem = HOST_ENDS.iter().find_map(|end| upper.strip_suffix(end))?;
    // `HOST`, `HOSTNAME` and `SERVER` alone are its own
    if stem.trim_matches(['_', '.']).is_empty() {
        return None;
    }
    let of_stem = |name: &str, end: &str| name.to_ascii_uppercase().strip_suffix(end) == Some(stem);
    let setting = |ends: &[&str]| pairs.iter().find(|(name, _)| ends.iter().any(|end| of_stem(name, end))).map(|(_, v)| v.trim());
    let written = setting(&["PORT"]);
    let address = |port| HostPort { host: value.trim_end_matches('.').to_owned(), port };
    if let Some(port) = written {
        return port.parse::<u16>().ok().filter(|port| *port > 0).map(|port| (address(port), false));
    }
    // DB_CONNECTION=pgsql (Laravel), DB_TYPE=postgres (Gitea), DB_ENGINE=django.db.backends.mysql
    let kind = || {
        let kind = setting(&["CONNECTION", "TYPE", "ENGINE", "DRIVER", "DIALECT", "ADAPTER", "CLIENT", "VENDOR"])?;
        port_of_words(&kind.to_ascii_uppercase()).or_else(|| usual_port(kind))
    };
    let port = kind().or_else(|| port_of_words(upper)).or_else(|| port_of_words(&value.to_ascii_uppercase()))?;
    Some((address(port), true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::address::join;

    fn found(environment: &[&str]) -> Vec<String> {
        let environment: Vec<String> = environment.iter().map(|e| (*e).to_owned()).collect();
        let shown = |n: Named| {
            let assumed = if n.assumed { " assumed" } else { "" };
            format!("{} {}{assumed}", n.variable, join(&n.address.host, n.address.port))
        };
        addresses(&environment).into_iter().map(shown).collect()
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
                "MYSQL_DSN=app:pw@tcp(my:3306)/x",
                "PG_CONNINFO=host=pg2 port=5432 password=x",
                "ConnectionStrings__Default=Server=ms,1433;Password=x",
            ]),
            [
                "DATABASE_URL db:5433",
                "CACHE cache:6379",
                "JDBC pg:5432",
                "MONGO a:27017",
                "MONGO b:27018",
                "BROKERS_NODE k1:9092",
                "BROKERS_NODE k2:9092",
                "BACKEND_URL b1:8080",
                "DB_HOST pgbouncer:6432",
                "V6_URL [fd00::2]:81",
                "MYSQL_DSN my:3306",
                "PG_CONNINFO pg2:5432",
                "ConnectionStrings__Default ms:1433",
            ]
        );
        for not in [
            "IMAGE=redis:7",
            "USER=web:1000",
            "CORS_ORIGINS=http://web:3000",
            "ALLOWED_HOSTS=web:80",
            "BASIC_AUTH=admin:1234",
            "SERVICE_TOKEN=abc:1234",
            "LISTEN_ADDR=0.0.0.0:80",
            "TIME_SERVER=12:30",
            "HOST=web",
            "PORT=80",
            "X_URL=http://:80",
            "Y_URL=foo://web",
            "Z_URL=http://web:99999",
            "JAVA_OPTS=-Xmx512m -Dhost=web",
            "VIRTUAL_HOST=shop.example.org",
            "DB_HOST=db",
            "DB_SOCKET=/run/mysqld/mysqld.sock",
            "REDIS_HOST=/run/redis.sock",
            "HOSTNAME=db",
        ] {
            assert_eq!(found(&[not]), Vec::<String>::new(), "{not}");
        }
        assert_eq!(found(&["HOST=web", "PORT=80"]), Vec::<String>::new(), "its own listening address");
    }

    #[test]
    fn ipv6_addresses_without_a_scheme() {
        assert_eq!(found(&["CACHE_ADDR=[fd00::2]:6379"]), ["CACHE_ADDR [fd00::2]:6379"]);
        assert_eq!(found(&["DB_HOST=fd00::2", "DB_PORT=5432"]), ["DB_HOST [fd00::2]:5432"]);
    }

    #[test]
    fn port_of_a_host_is_that_of_its_pair_or_product() {
        for (environment, expected) in [
            (&["PGHOST=db", "PGPORT=5433"][..], &["PGHOST db:5433"][..]),
            (&["db_host=db", "db_port=5432"], &["db_host db:5432"]),
            (&["SPRING_DATA_REDIS_HOST=cache", "SPRING_DATA_REDIS_PORT=6380"], &["SPRING_DATA_REDIS_HOST cache:6380"]),
            (&["REDIS_HOST=cache"], &["REDIS_HOST cache:6379 assumed"]),
            (&["WORDPRESS_DB_HOST=db"], &["WORDPRESS_DB_HOST db:3306 assumed"]),
            (&["WORDPRESS_DB_HOST=mysql:3306"], &["WORDPRESS_DB_HOST mysql:3306"]),
            (&["DB_CONNECTION=pgsql", "DB_HOST=db"], &["DB_HOST db:5432 assumed"]),
            (&["DB_HOST=mariadb"], &["DB_HOST mariadb:3306 assumed"]),
            (&["ES_HOSTS=es1:9200,es2:9200"], &["ES_HOSTS es1:9200", "ES_HOSTS es2:9200"]),
            (&["KAFKA_BROKERS=kafka1,kafka2"], &["KAFKA_BROKERS kafka1:9092 assumed", "KAFKA_BROKERS kafka2:9092 assumed"]),
            (
                &["CELERY_BROKER_URL=amqp://u:p@mq//", "CELERY_RESULT_BACKEND=redis://cache/1"],
                &["CELERY_BROKER_URL mq:5672", "CELERY_RESULT_BACKEND cache:6379"],
            ),
        ] {
            assert_eq!(found(environment), *expected);
        }
    }

    #[test]
    fn url_of_an_own_page_is_marked() {
        let pages = |entry: &str| addresses(&[entry.to_owned()]).iter().map(|n| n.own_page).collect::<Vec<_>>();
        assert_eq!(pages("APP_URL=http://web:3000"), [true]);
        assert_eq!(pages("BACKEND_URL=http://web:3000"), [false]);
        assert_eq!(pages("SITE_DOMAIN_DB=postgres://db/x"), [false], "a database");
    }
}
