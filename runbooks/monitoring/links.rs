//! Causes and effects; docs/causes.md lists all links.

use opsctl_core::model::{KeyKind, Link};

use crate::down::down;

/// Links of a server with data on a filesystem of this host.
macro_rules! full_filesystem {
    ($($code:literal),* $(,)?) => {
        &[
            $(
                Link::confirmed("disk.space", $code, KeyKind::Filesystem, "the filesystem of its data is full"),
                Link::confirmed("disk.inodes", $code, KeyKind::Filesystem, "the filesystem of its data has no inodes left"),
                Link::confirmed("disk.readonly", $code, KeyKind::Filesystem, "the filesystem of its data is read-only"),
            )*
        ]
    };
}

/// Calls a macro with the codes of servers that are down.
macro_rules! servers {
    ($links:ident) => {
        $links!(
            "monitoring.prometheus",
            "monitoring.alertmanager",
            "monitoring.loki",
            "monitoring.alloy",
            "monitoring.grafana",
            "monitoring.tsdb",
        )
    };
}

const OWN: &[Link] = &[
    Link::confirmed(
        "monitoring.prometheus",
        "healthcheck.unhealthy",
        KeyKind::Container,
        "it does not answer its health check either",
    ),
    Link::confirmed("monitoring.prometheus", "monitoring.blind", KeyKind::Silent, "without it no rule is evaluated"),
    Link::confirmed("monitoring.alertmanager", "monitoring.blind", KeyKind::Silent, "without it no notifications are sent"),
    Link::confirmed("monitoring.alertmanager", "monitoring.notify", KeyKind::Container, "the Alertmanager it sends to is down"),
    Link::confirmed("monitoring.alertmanager", "monitoring.notify", KeyKind::Server, "the Alertmanager it sends to is down"),
    Link::confirmed("container.down", "monitoring.notify", KeyKind::Container, "the container it sends alerts to is down"),
    Link::confirmed("monitoring.replay-storm", "monitoring.loki", KeyKind::Server, "logs it already stores are sent again"),
    Link::confirmed(
        "container.ephemeral-state",
        "monitoring.replay-storm",
        KeyKind::Container,
        "its read positions were lost with the container's writable layer",
    ),
    Link::confirmed("container.bind-broken", "monitoring.prometheus", KeyKind::Container, "the container still has the old file")
        .treatable(),
    Link::confirmed(
        "container.bind-broken",
        "monitoring.alloy",
        KeyKind::Container,
        "its bind mount no longer refers to the current file",
    ),
    Link::likely(
        "container.engine-reachable",
        "monitoring.alloy",
        KeyKind::Engine,
        "the engine it reads logs from does not answer",
    ),
    Link::likely("container.engine-hung", "monitoring.notify", KeyKind::Engine, "the embedded DNS server does not answer"),
    Link::likely("container.engine-reachable", "monitoring.notify", KeyKind::Engine, "the embedded DNS server does not answer"),
    Link::likely("container.engine-hung", "monitoring.alloy", KeyKind::Engine, "the engine it reads logs from does not answer"),
    Link::likely("postgres.up", "monitoring.grafana", KeyKind::Server, "its database does not answer"),
    Link::likely("postgres.connections", "monitoring.grafana", KeyKind::Server, "its database accepts no more connections"),
    Link::likely(
        "postgres.connections",
        "monitoring.exporter-stale",
        KeyKind::Container,
        "the database it queries accepts no more connections",
    ),
    Link::likely("time.offset", "monitoring.loki", KeyKind::Host, "the timestamps of log lines are wrong"),
    Link::confirmed("postgres.up", "monitoring.exporter-stale", KeyKind::Container, "the database it queries does not answer"),
    Link::confirmed("redis.up", "monitoring.exporter-stale", KeyKind::Container, "the server it queries does not answer"),
    Link::confirmed("rabbitmq.up", "monitoring.exporter-stale", KeyKind::Container, "the broker it queries does not answer"),
    Link::confirmed("container.down", "monitoring.exporter-stale", KeyKind::Container, "the service it queries is down"),
];

const TARGETS: &[Link] = &[
    Link::confirmed(
        "network.loopback-only",
        "monitoring.targets-down",
        KeyKind::Port,
        "it listens on the loopback address of its container only",
    ),
    Link::confirmed("network.missing", "monitoring.targets-down", KeyKind::Port, "the port has no listener"),
    Link::confirmed("network.wrong-port", "monitoring.targets-down", KeyKind::Port, "it listens on another port"),
    Link::confirmed("network.family", "monitoring.targets-down", KeyKind::Port, "it listens for the other address family only"),
    Link::likely("network.triage", "monitoring.targets-down", KeyKind::Port, "the target cannot be reached from Prometheus"),
    Link::confirmed("container.down", "monitoring.targets-down", KeyKind::Container, "the scraped container is down"),
    Link::confirmed(
        "container.restart-loop",
        "monitoring.targets-down",
        KeyKind::Container,
        "the scraped container restarts repeatedly",
    ),
    Link::confirmed(
        "container.start-failed",
        "monitoring.targets-down",
        KeyKind::Container,
        "the scraped container could not be started",
    ),
    Link::confirmed(
        "container.oom-killed",
        "monitoring.targets-down",
        KeyKind::Container,
        "the kernel killed the scraped container",
    ),
    Link::confirmed("container.paused", "monitoring.targets-down", KeyKind::Container, "the scraped container is paused"),
    Link::confirmed("container.network-detached", "monitoring.targets-down", KeyKind::Container, "they share no network"),
    Link::confirmed(
        "monitoring.alertmanager",
        "monitoring.targets-down",
        KeyKind::Container,
        "the scraped server does not answer",
    ),
    Link::confirmed("monitoring.loki", "monitoring.targets-down", KeyKind::Container, "the scraped server does not answer"),
    Link::confirmed("monitoring.grafana", "monitoring.targets-down", KeyKind::Container, "the scraped server does not answer"),
    Link::likely("container.engine-hung", "monitoring.targets-down", KeyKind::Engine, "the embedded DNS server does not answer"),
    Link::likely(
        "container.engine-reachable",
        "monitoring.targets-down",
        KeyKind::Engine,
        "the embedded DNS server does not answer",
    ),
    Link::likely("dns.container", "monitoring.targets-down", KeyKind::Names, "names cannot be resolved"),
    Link::likely("dns.resolve", "monitoring.targets-down", KeyKind::Names, "names cannot be resolved"),
    Link::likely("network.docker-chains", "monitoring.targets-down", KeyKind::Host, "packets between networks are not forwarded"),
    Link::likely("network.ip-forward", "monitoring.targets-down", KeyKind::Host, "packets between networks are not forwarded"),
    Link::likely("network.forward-drop", "monitoring.targets-down", KeyKind::Host, "packets between networks are dropped"),
    Link::likely("network.conntrack", "monitoring.targets-down", KeyKind::Host, "the kernel drops packets of new connections"),
    Link::likely("cpu.saturated", "monitoring.targets-down", KeyKind::Host, "everything waits for a processor"),
    Link::likely("cpu.steal", "monitoring.targets-down", KeyKind::Host, "the hypervisor withholds CPU time"),
    Link::likely("memory.pressure", "monitoring.targets-down", KeyKind::Host, "everything waits for memory"),
    Link::likely("mtu.blackhole", "monitoring.targets-down", KeyKind::Address, "its responses exceed the path MTU"),
    Link::confirmed(
        "tls.expiry",
        "monitoring.targets-down",
        KeyKind::Certificate,
        "the scraped server presents an expired certificate",
    ),
    Link::confirmed("tls.not-yet-valid", "monitoring.targets-down", KeyKind::Certificate, "its certificate is not valid yet"),
    Link::confirmed("tls.hostname", "monitoring.targets-down", KeyKind::Certificate, "its certificate is for another name"),
    Link::confirmed("tls.untrusted", "monitoring.targets-down", KeyKind::Certificate, "its certificate is not trusted"),
    Link::confirmed(
        "tls.chain-incomplete",
        "monitoring.targets-down",
        KeyKind::Certificate,
        "its certificate chain is incomplete",
    ),
    Link::confirmed("tls.handshake", "monitoring.targets-down", KeyKind::Certificate, "the TLS handshake fails"),
];

/// All links of this runbook.
pub(super) const LINKS: &[&[Link]] = &[servers!(down), servers!(full_filesystem), OWN, TARGETS];
