//! Causes and effects that do not follow from roles; docs/causes.md lists all links.

use opsctl_core::model::{KeyKind, Link};

/// Links of this runbook.
pub(super) const LINKS: &[Link] = &[
    Link::confirmed("monitoring.prometheus", "monitoring.blind", KeyKind::Silent, "without it no rule is evaluated"),
    Link::confirmed("monitoring.alertmanager", "monitoring.blind", KeyKind::Silent, "without it no notifications are sent"),
    Link::confirmed("monitoring.alertmanager", "monitoring.notify", KeyKind::Container, "the Alertmanager it sends to is down"),
    Link::confirmed("monitoring.alertmanager", "monitoring.notify", KeyKind::Server, "the Alertmanager it sends to is down"),
    Link::confirmed("monitoring.loki", "monitoring.promtail", KeyKind::Silent, "the Loki it sends to is down"),
    Link::likely("monitoring.loki", "monitoring.promtail", KeyKind::Server, "the Loki it sends to does not accept its logs"),
    Link::confirmed("monitoring.loki", "monitoring.alloy", KeyKind::Silent, "the Loki it sends to is down"),
    Link::likely("monitoring.loki", "monitoring.alloy", KeyKind::Server, "the Loki it sends to does not accept its logs"),
    Link::confirmed("monitoring.minio", "monitoring.object-store", KeyKind::Silent, "the MinIO with its data is down"),
    Link::likely("monitoring.minio", "monitoring.object-store", KeyKind::Server, "the MinIO with its data has a fault"),
    Link::confirmed("monitoring.prometheus", "monitoring.data-source", KeyKind::Silent, "the server it queries is down"),
    Link::confirmed("monitoring.loki", "monitoring.data-source", KeyKind::Silent, "the server it queries is down"),
    Link::confirmed("monitoring.tempo", "monitoring.data-source", KeyKind::Silent, "the server it queries is down"),
    Link::confirmed("monitoring.mimir", "monitoring.data-source", KeyKind::Silent, "the server it queries is down"),
    Link::confirmed("monitoring.replay-storm", "monitoring.loki", KeyKind::Server, "logs it already stores are sent again"),
    Link::confirmed(
        "container.ephemeral-state",
        "monitoring.replay-storm",
        KeyKind::Container,
        "its read positions were lost with the container's writable layer",
    ),
    Link::confirmed("monitoring.discovery", "monitoring.pool-empty", KeyKind::Server, "the file with its targets cannot be read"),
    Link::likely("network.triage", "monitoring.probe-failed", KeyKind::Port, "the probed address cannot be reached"),
    Link::likely("network.triage", "monitoring.targets-down", KeyKind::Port, "the target cannot be reached from Prometheus"),
];
