//! Causes and effects that do not follow from roles; docs/causes.md lists all links.

use opsctl_core::model::{KeyKind, Link};

/// Links of this runbook.
pub(super) const LINKS: &[Link] = &[
    Link::confirmed("monitoring.prometheus", "monitoring.blind", KeyKind::Silent, "without it no rule is evaluated"),
    Link::confirmed("monitoring.alertmanager", "monitoring.blind", KeyKind::Silent, "without it no notifications are sent"),
    Link::confirmed("monitoring.alertmanager", "monitoring.notify", KeyKind::Container, "the Alertmanager it sends to is down"),
    Link::confirmed("monitoring.alertmanager", "monitoring.notify", KeyKind::Server, "the Alertmanager it sends to is down"),
    Link::confirmed("monitoring.replay-storm", "monitoring.loki", KeyKind::Server, "logs it already stores are sent again"),
    Link::confirmed(
        "container.ephemeral-state",
        "monitoring.replay-storm",
        KeyKind::Container,
        "its read positions were lost with the container's writable layer",
    ),
    Link::likely("network.triage", "monitoring.targets-down", KeyKind::Port, "the target cannot be reached from Prometheus"),
];
