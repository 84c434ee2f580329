//! Classification of units by name.

/// Whether `name` matches `pattern`, in which `*` matches any text.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

/// Whether any of `patterns` matches.
pub(super) fn any(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|p| fits(p, name))
}

/// Restarting these can cut off the administrator's connection, or all connections.
const LIFELINES: &[&str] = &[
    "ssh.service",
    "sshd.service",
    "ssh.socket",
    "networking.service",
    "NetworkManager.service",
    "dbus*",
    "systemd-*",
    "init.scope",
    "user@*",
    "getty@*",
    "cloud-*",
];

/// Whether the unit must only be restarted by hand.
pub(super) fn is_lifeline(name: &str) -> bool {
    LIFELINES.iter().any(|p| fits(p, name))
}

/// Starting these rewrites the packet filter and removes the container engine's rules.
const FIREWALLS: &[&str] = &[
    "iptables.service",
    "ip6tables.service",
    "netfilter-persistent.service",
    "nftables.service",
    "ufw.service",
    "firewalld.service",
    "ferm.service",
    "shorewall*.service",
];
const CLOCKS: &[&str] = &[
    "chrony.service",
    "chronyd.service",
    "ntp.service",
    "ntpd.service",
    "ntpsec.service",
    "openntpd.service",
    "systemd-timesyncd.service",
];
const NETWORKS: &[&str] = &["networking.service", "systemd-networkd.service", "NetworkManager.service"];
const SHELLS: &[&str] = &["ssh.service", "sshd.service", "ssh.socket", "sshd.socket", "dropbear.service"];

/// Whether the unit is a packet filter of the host.
pub(super) fn is_firewall(name: &str) -> bool {
    FIREWALLS.iter().any(|p| fits(p, name)) || name.contains("firewall") || name.contains("iptables")
}

/// Alternatives to a unit: if another one of them runs, the unit is often masked.
pub(super) fn stand_ins(name: &str) -> &'static [&'static str] {
    [FIREWALLS, CLOCKS, NETWORKS, SHELLS].into_iter().find(|family| family.contains(&name)).unwrap_or(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_any_text() {
        for (pattern, name, expected) in [
            ("nginx.service", "nginx.service", true),
            ("nginx.service", "nginx.service2", false),
            ("postgresql*.service", "postgresql@15-main.service", true),
            ("postgresql*.service", "postgresql.service", true),
            ("*backup*.service", "nightly-backup-db.service", true),
            ("*backup*.service", "nightly.service", false),
            ("snap.*", "snap.lxd.daemon.service", true),
            ("*", "x", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn lifelines_and_firewalls_are_recognised_by_name() {
        for name in ["ssh.service", "systemd-logind.service", "dbus-broker.service", "networking.service"] {
            assert!(is_lifeline(name), "{name}");
        }
        assert!(!is_lifeline("nginx.service") && !is_lifeline("nftables.service"));
        assert!(is_firewall("iptables.service") && is_firewall("my-firewall.service") && !is_firewall("nginx.service"));
        assert!(stand_ins("chrony.service").contains(&"systemd-timesyncd.service") && stand_ins("nginx.service").is_empty());
    }
}
