//! Hosts, ports and URLs in text that other programs and users wrote: their configuration, environments, arguments, labels and
//! error messages.
//!
//! Nothing is required to be complete or valid. The URLs of opsctl's own configuration are parsed by the crate `url`, which
//! rejects invalid ones with a reason.

// not `std::net`, which has sockets as well
use core::net::{Ipv4Addr, Ipv6Addr};
use std::borrow::Cow;

/// A host and a port to connect to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// Host name or IP address, without brackets.
    pub host: String,
    /// Port, not 0.
    pub port: u16,
}

/// The parts of `[scheme://][user[:password]@]host[:port][/path][?query][#fragment]`, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address<'a> {
    /// Everything before `://`: `https`, `jdbc:postgresql`, `postgresql+asyncpg`.
    pub scheme: Option<&'a str>,
    /// User and password; secret.
    pub user_info: Option<&'a str>,
    /// Host and port.
    pub authority: &'a str,
    /// Path and query without the fragment; empty if there are none. The query may contain a secret.
    pub target: &'a str,
}

impl<'a> Address<'a> {
    /// Splits a text. A part that is absent is `None` or empty.
    #[must_use]
    pub fn parse(text: &'a str) -> Self {
        let (scheme, rest) = split_scheme(text);
        let (user_info, rest) = split_user_info(rest);
        let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        Self { scheme, user_info, authority, target: target.split('#').next().unwrap_or_default() }
    }

    /// The host without brackets, also before a port that is no number (`db:${PORT}`); may be empty.
    #[must_use]
    pub fn host(&self) -> &'a str {
        parts(self.authority).0
    }

    /// The port, if it is written.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        parts(self.authority).1.and_then(number)
    }

    /// The port, or that of the scheme if none is written. `None` if the written port is invalid.
    #[must_use]
    pub fn port_or_known_default(&self) -> Option<u16> {
        match parts(self.authority).1 {
            None | Some("") => usual_port(self.scheme?),
            Some(port) => number(port),
        }
    }

    /// Host and port, if both are valid; the port may be that of the scheme.
    #[must_use]
    pub fn host_port(&self) -> Option<HostPort> {
        let port = self.port_or_known_default().filter(|port| *port > 0)?;
        is_host(self.host()).then(|| HostPort { host: self.host().to_owned(), port })
    }

    /// The password, unless it is empty.
    #[must_use]
    pub fn password(&self) -> Option<&'a str> {
        let (_, password) = self.user_info?.split_once(':')?;
        Some(password).filter(|password| !password.is_empty())
    }

    /// The path without the query; empty if there is none.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Path and query for a request; `/` if there are none.
    #[must_use]
    pub fn request_target(&self) -> String {
        if self.target.starts_with('/') { self.target.to_owned() } else { format!("/{}", self.target) }
    }
}

/// Splits `scheme://rest`.
#[must_use]
pub fn split_scheme(text: &str) -> (Option<&str>, &str) {
    text.split_once("://").map_or((None, text), |(scheme, rest)| (Some(scheme), rest))
}

/// Splits `host:port`, `[v6]:port` and `:port`; an IPv6 address without brackets has a port only if the whole is no address.
/// Brackets are removed. Without a valid port, the host is the whole text.
#[must_use]
pub fn split_port(text: &str) -> (&str, Option<u16>) {
    match parts(text) {
        (host, None) => (host, None),
        (host, Some(port)) => number(port).map_or((text, None), |port| (host, Some(port))),
    }
}

/// The number after the last colon, for programs that always write a port: libnetwork writes `::1:8080` for port 8080 of `::1`,
/// which [`split_port`] takes for an address.
#[must_use]
pub fn last_port(text: &str) -> Option<u16> {
    number(text.rsplit_once(':')?.1)
}

/// `[v6]` without its brackets; other text is unchanged.
#[must_use]
pub fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The host of a URL and of the header `Host`: an IPv6 address in brackets (RFC 3986, section 3.2.2).
#[must_use]
pub fn with_brackets(host: &str) -> Cow<'_, str> {
    if host.contains(':') && !host.starts_with('[') { Cow::Owned(format!("[{host}]")) } else { Cow::Borrowed(host) }
}

/// `host:port`, with brackets around an IPv6 address.
#[must_use]
pub fn join(host: &str, port: u16) -> String {
    format!("{}:{port}", with_brackets(host))
}

/// Whether a text is a host name, or an IP address without brackets.
#[must_use]
pub fn is_host(text: &str) -> bool {
    let named = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.len() < 254
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    is_v6(text) || (named && (text.contains(|c: char| c.is_ascii_alphabetic()) || text.parse::<Ipv4Addr>().is_ok()))
}

/// The default port of a scheme, also with a driver: `jdbc:postgresql`, `postgresql+asyncpg`.
#[must_use]
pub fn usual_port(scheme: &str) -> Option<u16> {
    let scheme = scheme.rsplit(':').next()?.split('+').next()?;
    Some(match scheme {
        "http" | "ws" => 80,
        "https" | "wss" | "grpcs" => 443,
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

/// Splits `user:password@` from the rest. The last `@` before the path ends it, because clients accept `@`, `?` and `#` in a
/// password that is not percent-encoded. An `@` in a query (`host?name=value`) does not count.
fn split_user_info(rest: &str) -> (Option<&str>, &str) {
    let head = rest.split('/').next().unwrap_or_default();
    let begins_query = |at: &usize| {
        let (host, port) = parts(head[..*at].rsplit('@').next().unwrap_or_default());
        let after_host = !host.is_empty() && port.is_none_or(|port| number(port).is_some());
        after_host && head[at + 1..].split_once('=').is_some_and(|(name, _)| is_name(name))
    };
    let query = head.match_indices('?').map(|(at, _)| at).find(begins_query);
    match head[..query.unwrap_or(head.len())].rfind('@') {
        Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
        None => (None, rest),
    }
}

/// Whether a text is a name: of a parameter in a query, or of an interface.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

/// Splits an authority into the host without brackets, and the text of the port, which may be invalid.
fn parts(authority: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return match rest.strip_prefix(':') {
            Some(port) if host.contains(':') => (host, Some(port)),
            None if host.contains(':') && rest.is_empty() => (host, None),
            _ => (authority, None),
        };
    }
    if authority.starts_with('[') || is_v6(authority) {
        return (authority, None);
    }
    let port_of_v6 = authority.rsplit_once(':').filter(|(host, _)| is_v6(host));
    port_of_v6.or_else(|| authority.split_once(':')).map_or((authority, None), |(host, port)| (host, Some(port)))
}

/// Whether a text is an IPv6 address, which may have a zone: `fe80::1%eth0`.
fn is_v6(text: &str) -> bool {
    let (address, has_valid_zone) = text.split_once('%').map_or((text, true), |(address, zone)| (address, is_name(zone)));
    has_valid_zone && address.parse::<Ipv6Addr>().is_ok()
}

/// A port without a sign, which `u16::from_str` accepts.
fn number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_port_understands_ipv6() {
        for (text, split) in [
            ("db:5432", ("db", Some(5432))),
            ("10.0.0.1:80", ("10.0.0.1", Some(80))),
            ("*:80", ("*", Some(80))),
            (":8080", ("", Some(8080))),
            ("db", ("db", None)),
            ("[::1]:80", ("::1", Some(80))),
            ("[::1]", ("::1", None)),
            ("[fe80::1%eth0]:80", ("fe80::1%eth0", Some(80))),
            ("::1", ("::1", None)),
            ("::1:8080", ("::1:8080", None)),
            ("fe80::1%eth0", ("fe80::1%eth0", None)),
            ("::1:50000", ("::1", Some(50000))),
            (":::8080", ("::", Some(8080))),
            ("2001:db8:0:0:0:0:0:1:80", ("2001:db8:0:0:0:0:0:1", Some(80))),
        ] {
            assert_eq!(split_port(text), split, "{text}");
        }
    }

    #[test]
    fn invalid_port_is_part_of_the_host() {
        for text in ["", ":", "db:", "db:+80", "db:99999", "a:b:80", "[::1", "[::1]80", "[::1]:x", "[db]:80", "[]:80"] {
            assert_eq!(split_port(text), (text, None));
        }
    }

    #[test]
    fn last_port_of_an_address_that_always_has_one() {
        assert_eq!((last_port("::1:8080"), last_port("[::1]:80"), last_port("a:1")), (Some(8080), Some(80), Some(1)));
        assert_eq!((last_port("[::1]"), last_port("db"), last_port("db:x")), (None, None, None));
    }

    #[test]
    fn joined_address_has_brackets() {
        for (host, joined) in [("db", "db:80"), ("::1", "[::1]:80"), ("[::1]", "[::1]:80")] {
            assert_eq!(join(host, 80), joined);
        }
        assert_eq!((&*with_brackets("fd00::2"), &*with_brackets("web")), ("[fd00::2]", "web"));
    }

    #[test]
    fn only_a_pair_of_brackets_is_removed() {
        assert_eq!((without_brackets("[::1]"), without_brackets("::1"), without_brackets("[::1")), ("::1", "::1", "[::1"));
    }

    #[test]
    fn all_parts_of_a_url() {
        let address = Address::parse("https://user:p@ss@[fd00::2]:8443/a/b?token=x#top");
        assert_eq!((address.scheme, address.user_info), (Some("https"), Some("user:p@ss")));
        assert_eq!((address.host(), address.port()), ("fd00::2", Some(8443)));
        assert_eq!((address.authority, address.password()), ("[fd00::2]:8443", Some("p@ss")));
        assert_eq!((address.path(), address.target), ("/a/b", "/a/b?token=x"));
    }

    #[test]
    fn absent_parts_are_empty() {
        let address = Address::parse("db");
        assert_eq!((address.scheme, address.user_info, address.password()), (None, None, None));
        assert_eq!((address.host(), address.port(), address.path()), ("db", None, ""));
        assert_eq!((address.request_target().as_str(), address.host_port()), ("/", None));
    }

    #[test]
    fn host_of_any_address() {
        for (text, host) in [
            ("cache", "cache"),
            ("cache:6379/0", "cache"),
            ("redis://:secret@cache:6379/0", "cache"),
            ("redis://[fd00::2]/0", "fd00::2"),
            ("[fd00::2]:6379", "fd00::2"),
            ("fd00::2", "fd00::2"),
            ("cache:${PORT}", "cache"),
            ("10.0.0.1:5432/tcp", "10.0.0.1"),
            ("unix:///run/x.sock", ""),
            ("redis:7-alpine", "redis"),
        ] {
            assert_eq!(Address::parse(text).host(), host, "{text}");
        }
    }

    #[test]
    fn unescaped_password_is_no_part_of_the_host() {
        for (text, user_info) in [
            ("amqp://guest:p@ss@mq//", "guest:p@ss"),
            ("redis://:pa#ss@cache/0", ":pa#ss"),
            ("redis://:pa?ss@cache/0?db=1", ":pa?ss"),
            ("redis://:pa?x=s@cache/0", ":pa?x=s"),
            ("smtp://me@example.org:pw@mail:25", "me@example.org:pw"),
        ] {
            assert_eq!(Address::parse(text).user_info, Some(user_info), "{text}");
        }
    }

    #[test]
    fn at_sign_in_path_or_query_ends_no_login() {
        for (text, authority) in [
            ("http://web:80/@scope/package", "web:80"),
            ("http://web?mail=a@b", "web"),
            ("http://u:p@web:80?mail=a@b", "web:80"),
            ("web/a@b", "web"),
        ] {
            assert_eq!(Address::parse(text).authority, authority, "{text}");
        }
    }

    #[test]
    fn port_is_that_of_the_scheme() {
        for (url, port) in [
            ("https://web/", Some(443)),
            ("jdbc:postgresql://pg/x", Some(5432)),
            ("postgresql+asyncpg://pg/x", Some(5432)),
            ("http://[::1]/", Some(80)),
            ("http://web:/", Some(80)),
            ("http://web:8080", Some(8080)),
            ("http://web:99999", None),
            ("foo://web", None),
            ("web", None),
        ] {
            assert_eq!(Address::parse(url).port_or_known_default(), port, "{url}");
        }
    }

    #[test]
    fn host_port_is_valid() {
        let shown = |text: &str| Address::parse(text).host_port().map(|h| join(&h.host, h.port));
        assert_eq!(shown("x@db:5433/shop").as_deref(), Some("db:5433"));
        assert_eq!(shown("redis://[fd00::2]/").as_deref(), Some("[fd00::2]:6379"));
        for text in ["12:30", "http://:80", "http://-a/", "db:0", "a:b:80", "http://w b/"] {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    #[test]
    fn request_target_begins_with_a_slash() {
        for (url, target) in [("http://a", "/"), ("http://a?x=1", "/?x=1"), ("http://a/b?x#c", "/b?x")] {
            assert_eq!(Address::parse(url).request_target(), target, "{url}");
        }
    }
}
