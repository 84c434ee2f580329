//! Groups of the causal graph: the links of each group, and the reason for parts without a link.

use std::collections::BTreeSet;

/// One group of related causes and effects.
struct Group {
    number: u8,
    /// Cause and effect of each required link.
    links: &'static [(&'static str, &'static str)],
    /// The parts of the group without a link, with the reason. Empty if the group is complete.
    without: &'static str,
}

const fn group(number: u8, links: &'static [(&'static str, &'static str)], without: &'static str) -> Group {
    Group { number, links, without }
}

#[rustfmt::skip]
static GROUPS: &[Group] = &[
    group(1, &[("disk.space", "postgres.up"), ("disk.inodes", "postgres.up"), ("disk.space", "postgres.disk"),
        ("disk.space", "postgres.crash-restart"), ("disk.inodes", "postgres.crash-restart"),
        ("disk.space", "container.down"), ("disk.space", "container.restart-loop")], ""),
    group(2, &[("disk.space", "redis.persistence"), ("disk.inodes", "redis.persistence")], ""),
    group(3, &[("disk.space", "monitoring.loki"), ("disk.inodes", "monitoring.loki")], ""),
    group(4, &[("disk.space", "monitoring.tsdb"), ("disk.inodes", "monitoring.tsdb"), ("disk.space", "monitoring.prometheus")], ""),
    group(5, &[("disk.space", "rabbitmq.alarms")], "the alarm of RabbitMQ counts bytes: inodes do not raise it"),
    group(6, &[("disk.space", "container.log-blocked"), ("disk.space", "container.start-failed"), ("disk.inodes", "container.start-failed")],
        "an existing log needs no inode"),
    group(7, &[("disk.space", "systemd.unit-failed"), ("disk.inodes", "systemd.unit-failed"), ("disk.space", "systemd.restart-loop"),
        ("disk.inodes", "systemd.restart-loop")], "messages dropped by journald are info, which is never explained"),
    group(8, &[("disk.space", "nginx.error-signals"), ("disk.inodes", "nginx.error-signals"), ("disk.space", "tls.renewal-failing"),
        ("disk.inodes", "tls.renewal-failing"), ("disk.space", "healthcheck.unhealthy"), ("disk.inodes", "healthcheck.unhealthy")], ""),
    group(9, &[("container.log-huge", "disk.space")], "a log without a limit is info until it is huge"),
    group(10, &[("postgres.slots", "postgres.wal-size"), ("postgres.archiver", "postgres.wal-size"), ("postgres.wal-size", "disk.space")], ""),
    group(11, &[("disk.deleted-open", "disk.space")], ""),
    group(12, &[], "there is no code for an application that logs too much; a restart loop as the cause of a huge log would form a cycle \
        with the full disk that causes the loop"),
    group(13, &[("disk.io-errors", "disk.readonly"), ("disk.readonly", "postgres.up"), ("disk.readonly", "redis.persistence"),
        ("disk.readonly", "monitoring.loki"), ("disk.readonly", "monitoring.tsdb"), ("disk.readonly", "monitoring.prometheus"),
        ("disk.readonly", "container.start-failed"), ("disk.readonly", "container.log-blocked"), ("disk.readonly", "systemd.unit-failed"),
        ("disk.readonly", "systemd.restart-loop"), ("disk.readonly", "tls.renewal-failing")],
        "RabbitMQ and nginx report no read-only filesystem"),
    group(14, &[("memory.oom-kill", "container.down"), ("memory.oom-kill", "container.restart-loop"), ("memory.oom-kill", "systemd.unit-failed"),
        ("memory.oom-kill", "systemd.restart-loop"), ("memory.oom-kill", "postgres.crash-restart"), ("memory.oom-kill", "postgres.up"),
        ("memory.oom-kill", "redis.up"), ("memory.oom-kill", "redis.restarted"), ("memory.oom-kill", "rabbitmq.up"),
        ("container.oom-killed", "postgres.crash-restart"), ("container.oom-killed", "redis.restarted")], ""),
    group(15, &[("container.memory-near-limit", "container.oom-killed"), ("container.oom-killed", "container.restart-loop"),
        ("container.restart-loop", "healthcheck.unhealthy"), ("container.oom-killed", "nginx.5xx-rate"), ("container.restart-loop", "nginx.5xx-rate"),
        ("container.memory-near-limit", "nginx.5xx-rate")],
        "an unhealthy container as the cause of failing requests would form a cycle with the health check of nginx itself: \
         the causes of its health status are linked"),
    group(16, &[("container.oom-killed", "celery.worker-oom"), ("celery.worker-oom", "celery.stalled")], ""),
    group(17, &[("memory.pressure", "cpu.iowait"), ("memory.pressure", "redis.latency"), ("memory.pressure", "healthcheck.timeout"),
        ("memory.pressure", "healthcheck.slow"), ("memory.pressure", "monitoring.targets-down")], ""),
    group(18, &[("memory.overcommit", "redis.persistence"), ("redis.fork-risk", "redis.persistence")], ""),
    group(19, &[("cpu.saturated", "healthcheck.timeout"), ("cpu.steal", "healthcheck.timeout"), ("container.cpu-throttled", "healthcheck.timeout"),
        ("cpu.saturated", "monitoring.targets-down"), ("cpu.steal", "monitoring.targets-down"), ("cpu.saturated", "healthcheck.slow"),
        ("cpu.steal", "healthcheck.slow"), ("container.cpu-throttled", "healthcheck.slow")],
        "there is no code for a slow TLS handshake; a throttled target is not distinguished from one that rejects connections"),
    group(20, &[("postgres.idle-in-tx", "postgres.blocked"), ("postgres.blocked", "postgres.connections"), ("postgres.idle-in-tx", "postgres.connections"),
        ("postgres.idle-in-tx", "nginx.5xx-rate"), ("postgres.blocked", "nginx.5xx-rate"), ("postgres.idle-in-tx", "healthcheck.http"),
        ("postgres.blocked", "healthcheck.http"), ("nginx.5xx-rate", "healthcheck.http")], ""),
    group(21, &[("postgres.connections", "nginx.5xx-rate"), ("postgres.connections", "healthcheck.http"), ("postgres.connections", "healthcheck.content"),
        ("postgres.connections", "monitoring.exporter-stale")], "there is no code for failed Celery tasks: the broker has no data on them"),
    group(22, &[("postgres.pgbouncer", "nginx.5xx-rate"), ("postgres.pgbouncer", "healthcheck.http"), ("postgres.pgbouncer", "healthcheck.content")], ""),
    group(23, &[("postgres.up", "nginx.5xx-rate"), ("postgres.up", "healthcheck.http"), ("postgres.up", "healthcheck.content"),
        ("postgres.up", "monitoring.grafana"), ("postgres.up", "monitoring.exporter-stale")], "there is no code for failed Celery tasks"),
    group(24, &[("redis.persistence", "celery.stalled"), ("redis.memory", "celery.stalled"), ("redis.persistence", "celery.no-consumer"),
        ("celery.stalled", "celery.backlog"), ("celery.no-consumer", "celery.backlog"), ("redis.up", "healthcheck.http"),
        ("redis.persistence", "healthcheck.http"), ("redis.memory", "healthcheck.http"), ("redis.up", "nginx.5xx-rate"),
        ("redis.persistence", "nginx.5xx-rate"), ("redis.memory", "nginx.5xx-rate")],
        "the queues of a broker that does not respond are unknown, not faulty"),
    group(25, &[("redis.restarted", "celery.stalled")], ""),
    group(26, &[("redis.broker-policy", "redis.evictions")], "there is no code for lost tasks: evicted tasks cannot be counted"),
    group(27, &[("rabbitmq.alarms", "nginx.5xx-rate"), ("rabbitmq.alarms", "healthcheck.http"), ("rabbitmq.alarms", "healthcheck.content")],
        "blocked connections are part of the alarm's own finding"),
    group(28, &[("dns.resolve", "nginx.config-test"), ("dns.resolve", "monitoring.targets-down"), ("dns.resolve", "tls.renewal-failing"),
        ("dns.resolve", "time.unsynced"), ("dns.resolve", "dns.container"), ("dns.container", "monitoring.targets-down")],
        "an upstream that cannot be resolved is no finding of nginx (NXDOMAIN is a valid response); there is no code for image pulls"),
    group(29, &[("network.docker-chains", "dns.container"), ("network.docker-chains", "monitoring.targets-down"),
        ("network.docker-chains", "nginx.upstream-unreachable"), ("nginx.upstream-unreachable", "nginx.5xx-rate"),
        ("network.docker-chains", "healthcheck.http"), ("network.docker-chains", "tls.renewal-failing"), ("network.docker-chains", "network.triage"),
        ("network.docker-chains", "network.forward-drop")],
        "network.docker-proxy-dead concerns the listener of a port, which packet filter rules do not affect"),
    group(30, &[("systemd.unit-failed", "network.docker-chains")],
        "ports published by Docker bypass the rules of a firewall unit: its failure exposes nothing"),
    group(31, &[], "a restarted firewall is a change, cited with the finding, and no finding"),
    group(32, &[("network.ip-forward", "network.triage"), ("network.forward-drop", "network.triage"), ("network.conntrack", "network.triage"),
        ("network.ip-forward", "monitoring.targets-down"), ("network.forward-drop", "monitoring.targets-down"),
        ("network.conntrack", "monitoring.targets-down"), ("network.ip-forward", "nginx.upstream-unreachable"),
        ("network.forward-drop", "nginx.upstream-unreachable"), ("network.conntrack", "nginx.upstream-unreachable"),
        ("network.ip-forward", "healthcheck.http"), ("network.forward-drop", "healthcheck.http"), ("network.conntrack", "healthcheck.http")], ""),
    group(33, &[("mtu.icmp-blocked-local", "mtu.blackhole"), ("mtu.blackhole", "mtu.clamp-missing"), ("mtu.clamp", "mtu.blackhole"),
        ("mtu.blackhole", "tls.handshake"), ("mtu.blackhole", "healthcheck.http"), ("mtu.blackhole", "healthcheck.content"),
        ("mtu.blackhole", "healthcheck.slow"), ("mtu.blackhole", "monitoring.targets-down")],
        "packets dropped by a remote router have no code; remote targets of container health checks, and hanging pulls, are not known"),
    group(34, &[("nginx.upstream-stale-ip", "nginx.5xx-rate"), ("nginx.upstream-stale-ip", "nginx.upstream-unreachable"),
        ("nginx.upstream-stale-ip", "nginx.error-signals"), ("nginx.upstream-stale-ip", "healthcheck.http"),
        ("nginx.upstream-stale-ip", "healthcheck.content")], "a recreated container is a change, cited with the finding, and no finding"),
    group(35, &[("container.down", "nginx.upstream-unreachable"), ("container.down", "nginx.5xx-rate"), ("container.down", "nginx.config-test"),
        ("nginx.stopped", "healthcheck.http"), ("nginx.stopped", "tls.handshake")],
        "the configuration of a stopped nginx is not tested: the log of its unit or container contains the reason"),
    group(36, &[("network.loopback-only", "monitoring.targets-down"), ("network.loopback-only", "nginx.upstream-unreachable"),
        ("network.loopback-only", "healthcheck.http"), ("network.loopback-only", "healthcheck.tcp"), ("network.loopback-only", "network.triage")], ""),
    group(37, &[("container.network-detached", "dns.container"), ("container.network-detached", "monitoring.targets-down"),
        ("container.network-detached", "nginx.config-test"), ("container.network-detached", "nginx.upstream-unreachable")], ""),
    group(38, &[("tls.renewal-timer", "tls.expiry"), ("tls.renewal-failing", "tls.expiry"), ("tls.renewal-hook", "tls.stale-served"),
        ("tls.stale-served", "tls.expiry"), ("tls.expiry", "monitoring.targets-down"), ("tls.handshake", "monitoring.targets-down"),
        ("tls.handshake", "healthcheck.http")], "requests of opsctl do not verify certificates: an expired one fails none of them"),
    group(39, &[("time.offset", "tls.not-yet-valid"), ("time.offset", "tls.expiry"), ("time.offset", "monitoring.loki"), ("time.unsynced", "time.offset")],
        "there is no code for rejected tokens, or for out-of-order samples in Prometheus"),
    group(40, &[("container.ephemeral-state", "monitoring.replay-storm"), ("monitoring.replay-storm", "monitoring.loki")], ""),
    group(41, &[("healthcheck.command-missing", "healthcheck.unhealthy"), ("healthcheck.command-missing", "container.restart-loop")],
        "there is no code for services that wait for a healthy container, or exclude it"),
    group(42, &[], "a restarted daemon is a change, cited with the finding, and no finding"),
    group(43, &[("container.bind-broken", "nginx.config-not-loaded"), ("container.bind-broken", "tls.stale-served"),
        ("container.bind-broken", "monitoring.prometheus"), ("container.bind-broken", "monitoring.alloy")], ""),
    group(44, &[("monitoring.prometheus", "monitoring.blind")],
        "Prometheus has no data on a configuration that was not loaded: missing parts are not detected"),
    group(45, &[], "pushed metrics and the alert that can never fire for them are the same finding, monitoring.up-missing"),
    group(46, &[("container.engine-reachable", "monitoring.alloy"), ("container.engine-hung", "monitoring.alloy"),
        ("systemd.unit-failed", "container.engine-reachable")], "containers of an engine that does not respond are unknown, not faulty"),
    group(47, &[("disk.mount-missing", "disk.space"), ("disk.mount-missing", "container.start-failed"), ("disk.mount-missing", "container.down"),
        ("disk.mount-missing", "container.restart-loop")], "there is no code for an empty database"),
    group(48, &[("host.reboot-required", "container.start-failed")], ""),
    group(49, &[("disk.fds", "nginx.error-signals"), ("disk.fds", "healthcheck.http")],
        "maxclients lowered by Redis to its descriptor limit is part of redis.clients itself"),
    group(50, &[("container.pids", "healthcheck.unhealthy")], "no code counts zombies"),
    group(51, &[("postgres.idle-in-tx", "postgres.wraparound"), ("postgres.slots", "postgres.wraparound"), ("postgres.prepared-xacts", "postgres.wraparound")], ""),
    group(52, &[("celery.beat", "celery.backlog")], ""),
    group(53, &[("tls.file", "nginx.config-test"), ("tls.key-mismatch", "nginx.config-test"), ("nginx.config-test", "nginx.config-not-loaded")], ""),
];

#[test]
fn every_group_of_causes_has_links_or_a_reason() {
    let runbooks = opsctl_runbooks::all(&opsctl_runbooks::Settings::default());
    let there: BTreeSet<(&str, &str)> = opsctl_core::model::links(&runbooks).iter().map(|l| (l.cause, l.effect)).collect();
    let numbers: Vec<u8> = GROUPS.iter().map(|g| g.number).collect();
    assert_eq!(numbers, (1..=53).collect::<Vec<u8>>());
    for g in GROUPS {
        assert!(!g.links.is_empty() || !g.without.is_empty(), "group {} has neither links nor a reason", g.number);
        for link in g.links {
            assert!(there.contains(link), "group {}: missing link {} -> {}", g.number, link.0, link.1);
        }
    }
}
