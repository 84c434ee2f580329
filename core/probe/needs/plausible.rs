//! Names in variables that are examples, defaults or resolved by other means than DNS.

/// Names that mean no host.
const PLACEHOLDERS: &[&str] = &[
    "any",
    "auto",
    "bar",
    "default",
    "disabled",
    "false",
    "foo",
    "host",
    "hostname",
    "localhost",
    "nil",
    "none",
    "null",
    "off",
    "server",
    "somehost",
    "test",
    "todo",
    "true",
    "undefined",
    "unset",
    "xxx",
    "yes",
    "no",
    "on",
    "myhost",
    "yourhost",
    "dbhost",
];

/// Parts of names that mean no host.
const EXAMPLES: &[&str] = &["example", "changeme", "change-me", "change_me", "placeholder", "dummy", "your-", "your_", "replace"];

/// Top-level domains without names in DNS: RFC 2606, RFC 6761 and RFC 6762. `cluster.local` is Kubernetes.
const NOT_IN_DNS: &[&str] = &[".local", ".localhost", ".test", ".invalid", ".example", ".onion", ".svc"];

/// Names of the host for its containers, which no DNS has: Docker and Podman write them into `/etc/hosts`, Docker only on request
/// (`--add-host host.docker.internal:host-gateway`, <https://docs.docker.com/reference/cli/docker/container/run/#add-host>).
pub const HOST_NAMES: &[&str] = &["host.docker.internal", "gateway.docker.internal", "host.containers.internal"];

/// Whether the lookup of a name can show a fault: a name without a dot, or the full name of a database or a broker. The full name in
/// a URL of HTTP is often one for browsers.
pub(super) fn is_plausible(host: &str, store: bool) -> bool {
    let host = host.to_ascii_lowercase();
    if HOST_NAMES.contains(&host.as_str()) {
        return true;
    }
    let is_example = PLACEHOLDERS.contains(&host.as_str()) || EXAMPLES.iter().any(|part| host.contains(part));
    let is_hidden = NOT_IN_DNS.iter().any(|end| host.ends_with(end));
    !is_example && !is_hidden && host.len() > 1 && (store || !host.contains('.'))
}

/// Whether a host is this machine or the container itself.
pub(super) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_can_be_looked_up() {
        for (host, store) in
            [("mysql", true), ("web", false), ("db.abc.eu-west-1.rds.amazonaws.com", true), ("host.docker.internal", false)]
        {
            assert!(is_plausible(host, store), "{host}");
        }
    }

    #[test]
    fn examples_and_pages_are_not_looked_up() {
        for (host, store) in [
            ("localhost", true),
            ("example.com", true),
            ("db.example.org", true),
            ("CHANGEME", true),
            ("your-db-host", true),
            ("none", true),
            ("printer.local", true),
            ("db.default.svc.cluster.local", true),
            ("app.test", true),
            ("api.shop.com", false),
        ] {
            assert!(!is_plausible(host, store), "{host}");
        }
    }
}
