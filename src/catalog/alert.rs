//! Alert names: those of runbooks and the public ones of `alert-names.tsv`.

/// Public alert names with their codes.
const PUBLIC: &str = include_str!("alert-names.tsv");

/// An alert name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertName<'a> {
    /// The name as its source spells it.
    pub name: &'a str,
    /// Runbooks that check it, the first one first.
    pub runbooks: Vec<&'a str>,
    /// Codes that answer it; empty for the whole runbook.
    pub codes: Vec<&'a str>,
    /// Subject that opsctl does not check, and its check by hand; only without runbooks.
    pub out_of_scope: Option<&'a str>,
}

/// The public alert names, in the order of the file.
pub(super) fn public() -> impl Iterator<Item = AlertName<'static>> {
    PUBLIC.lines().filter(|l| !l.starts_with('#')).filter_map(|line| {
        let (name, rest) = line.split_once('\t')?;
        if let Some(out_of_scope) = rest.strip_prefix("-\t") {
            return Some(AlertName { name, runbooks: Vec::new(), codes: Vec::new(), out_of_scope: Some(out_of_scope) });
        }
        let codes: Vec<&str> = rest.split(' ').collect();
        let mut runbooks: Vec<&str> = codes.iter().filter_map(|c| c.split('.').next()).collect();
        runbooks.dedup();
        Some(AlertName { name, runbooks, codes, out_of_scope: None })
    })
}

/// Whether two alert names are the same without case and separators: rules are renamed to the convention of their team
/// (`DiskSpaceLow`, `disk_space_low`).
#[must_use]
pub fn is_same_alert(one: &str, other: &str) -> bool {
    fn letters(name: &str) -> impl Iterator<Item = char> + '_ {
        name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase)
    }
    letters(one).next().is_some() && letters(one).eq(letters(other))
}

/// Runbooks for a name that no list contains, by its words: the first row with a word of the name decides. The order is from the
/// specific to the general: `PostgresqlHighDiskUsage` is about Postgres.
#[must_use]
pub fn by_words(name: &str) -> &'static [&'static str] {
    let words = words(name);
    let has = |word: &str| words.iter().any(|w| w.strip_suffix('s') == Some(word) || w == word);
    TOPICS.iter().find(|(topic, _)| topic.iter().any(|word| has(word))).map_or(&[], |(_, runbooks)| runbooks)
}

/// Words and their runbooks.
const TOPICS: &[(&[&str], &[&str])] = &[
    (&["postgres", "postgresql", "pg", "pgbouncer", "patroni"], &["postgres"]),
    (&["redis", "valkey", "keydb", "dragonfly", "sentinel"], &["redis"]),
    (&["rabbitmq", "rabbit", "amqp"], &["rabbitmq"]),
    (&["celery", "flower"], &["celery", "rabbitmq", "redis"]),
    (&["nginx"], &["nginx"]),
    (&["traefik", "haproxy", "caddy", "apache", "envoy"], &["healthcheck", "container", "systemd"]),
    (&["ssl", "tls", "cert", "certificate", "x509"], &["tls"]),
    (
        &[
            "prometheus",
            "alertmanager",
            "loki",
            "tempo",
            "mimir",
            "cortex",
            "minio",
            "promtail",
            "alloy",
            "grafana",
            "scrape",
            "exporter",
            "watchdog",
        ],
        &["monitoring"],
    ),
    (&["container", "docker", "cadvisor", "podman", "swarm", "compose", "throttling"], &["container", "healthcheck"]),
    (&["systemd", "unit"], &["systemd"]),
    (&["service"], &["systemd", "container", "healthcheck"]),
    (&["blackbox", "probe", "httpcheck", "portcheck", "http", "endpoint", "website"], &["healthcheck", "nginx", "tls"]),
    (&["dns", "coredns", "resolver"], &["dns"]),
    (&["mtu", "frag", "fragmentation"], &["mtu"]),
    (&["clock", "ntp", "chrony", "timesync", "time"], &["time"]),
    (&["disk", "filesystem", "inode", "storage", "volume", "device", "mount", "fd", "descriptor"], &["disk"]),
    (&["oom", "memory", "mem", "ram", "swap"], &["memory"]),
    (&["cpu", "load", "steal", "iowait", "context"], &["cpu"]),
    (&["network", "net", "tcp", "udp", "conntrack", "netfilter", "packet", "interface", "socket"], &["network"]),
    (&["reboot", "rebooted", "kernel", "uptime", "entropy"], &["host"]),
];

/// The words of a name in camel case, with separators or digits, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = vec![String::new()];
    let chars: Vec<char> = name.chars().take(200).collect();
    for (at, c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|i| chars.get(i));
        // `HTTPDown`: an upper-case letter before a lower-case one starts a word as well
        let starts = c.is_uppercase()
            && (before.is_some_and(|b| b.is_lowercase() || b.is_numeric())
                || chars.get(at + 1).is_some_and(|next| next.is_lowercase()));
        if starts || !c.is_alphanumeric() {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|w| !w.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    #[test]
    fn public_names_have_existing_codes_or_a_reason() {
        let catalog = Catalog::new();
        let codes = catalog.codes();
        let known = |code: &&str| codes.iter().any(|c| c.id == *code);
        for alert in public() {
            let answered = !alert.codes.is_empty() && alert.codes.iter().all(&known);
            assert_ne!(answered, alert.out_of_scope.is_some_and(|r| r.contains('`')), "{alert:?}");
        }
        assert!(public().count() > 200);
    }

    #[test]
    fn each_public_name_is_listed_once() {
        let names: Vec<&str> = public().map(|a| a.name).collect();
        for (at, name) in names.iter().enumerate() {
            assert!(!names.iter().skip(at + 1).any(|other| is_same_alert(name, other)), "{name}");
        }
    }

    #[test]
    fn case_and_separators_are_ignored() {
        for other in ["HostOutOfDiskSpace", "host_out_of_disk_space", "HOST OUT OF DISK SPACE", "host-out-of-disk.space"] {
            assert!(is_same_alert("HostOutOfDiskSpace", other), "{other}");
        }
        assert!(!is_same_alert("HostOutOfDiskSpace", "HostOutOfDisk") && !is_same_alert("", "") && !is_same_alert("-", "_"));
    }

    #[test]
    fn unlisted_names_are_mapped_by_their_words() {
        for (name, first) in [
            ("PostgresqlHighRollbackRate", "postgres"),
            ("Postgresql_high_disk_usage", "postgres"),
            ("RedisRejectedConnectionsHigh", "redis"),
            ("node_filesystem_free_low", "disk"),
            ("NodeDiskLatencyHigh", "disk"),
            ("HTTPEndpointDown", "healthcheck"),
            ("TLSCertificateExpiring", "tls"),
            ("Server memory high", "memory"),
            ("CPUThrottlingHigh", "container"),
            ("Docker service down", "container"),
            ("ServerTimeout", ""),
            ("Strange", ""),
        ] {
            assert_eq!(by_words(name).first().copied().unwrap_or_default(), first, "{name}");
        }
    }
}
