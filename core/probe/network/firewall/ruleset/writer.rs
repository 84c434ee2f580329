//! Programs that write rules, by the names of their tables and chains.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A program that writes rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Writer {
    /// ufw.
    Ufw,
    /// firewalld.
    Firewalld,
    /// Docker.
    Docker,
    /// Podman and other users of netavark or of the CNI plugins.
    Podman,
    /// fail2ban.
    Fail2ban,
    /// kube-proxy or a network plugin of Kubernetes.
    Kubernetes,
    /// libvirt.
    Libvirt,
    /// Tailscale.
    Tailscale,
    /// wg-quick.
    WgQuick,
    /// `CrowdSec`.
    Crowdsec,
    /// LXD or Incus.
    Incus,
    /// Shorewall.
    Shorewall,
    /// CSF.
    Csf,
    /// An administrator or a script.
    Manual,
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ufw => "ufw",
            Self::Firewalld => "firewalld",
            Self::Docker => "Docker",
            Self::Podman => "Podman (netavark)",
            Self::Fail2ban => "fail2ban",
            Self::Kubernetes => "kube-proxy or CNI",
            Self::Libvirt => "libvirt",
            Self::Tailscale => "Tailscale",
            Self::WgQuick => "wg-quick",
            Self::Crowdsec => "CrowdSec",
            Self::Incus => "LXD/Incus",
            Self::Shorewall => "Shorewall",
            Self::Csf => "CSF",
            Self::Manual => "hand or script",
        })
    }
}

/// Prefixes of chain names. Rules in `DOCKER-USER` are those of the administrator.
const CHAINS: &[(&str, Writer)] = &[
    ("DOCKER-USER", Writer::Manual),
    ("DOCKER", Writer::Docker),
    ("ufw-", Writer::Ufw),
    ("ufw6-", Writer::Ufw),
    ("f2b-", Writer::Fail2ban),
    ("fail2ban-", Writer::Fail2ban),
    ("KUBE-", Writer::Kubernetes),
    ("cali-", Writer::Kubernetes),
    ("CILIUM_", Writer::Kubernetes),
    ("OLD_CILIUM_", Writer::Kubernetes),
    ("FLANNEL-", Writer::Kubernetes),
    ("FLANNEL_", Writer::Kubernetes),
    ("WEAVE", Writer::Kubernetes),
    ("CNI-", Writer::Podman),
    ("NETAVARK", Writer::Podman),
    ("LIBVIRT_", Writer::Libvirt),
    ("ts-", Writer::Tailscale),
    ("CROWDSEC", Writer::Crowdsec),
    ("shorewall", Writer::Shorewall),
    // firewalld with the iptables backend (firewalld/core/ipXtables.py)
    ("INPUT_ZONES", Writer::Firewalld),
    ("INPUT_direct", Writer::Firewalld),
    ("FORWARD_direct", Writer::Firewalld),
    ("FORWARD_IN_ZONES", Writer::Firewalld),
    ("FORWARD_OUT_ZONES", Writer::Firewalld),
    ("IN_", Writer::Firewalld),
    ("FWDI_", Writer::Firewalld),
    ("FWDO_", Writer::Firewalld),
    ("FWD_", Writer::Firewalld),
    // csf.pl
    ("LOCALINPUT", Writer::Csf),
    ("LOCALOUTPUT", Writer::Csf),
    ("LOGDROPIN", Writer::Csf),
    ("LOGDROPOUT", Writer::Csf),
    ("DENYIN", Writer::Csf),
    ("DENYOUT", Writer::Csf),
];

/// Names of tables of nftables, without the family.
const TABLES: &[(&str, Writer)] = &[
    ("firewalld", Writer::Firewalld),
    ("docker-bridges", Writer::Docker),
    ("netavark", Writer::Podman),
    ("f2b-table", Writer::Fail2ban),
    ("kube-proxy", Writer::Kubernetes),
    ("calico", Writer::Kubernetes),
    ("libvirt_network", Writer::Libvirt),
    ("crowdsec", Writer::Crowdsec),
    ("crowdsec6", Writer::Crowdsec),
    ("lxd", Writer::Incus),
    ("incus", Writer::Incus),
];

/// Parts of comments that programs add to rules in shared chains.
const COMMENTS: &[(&str, Writer)] = &[
    ("generated for LXD", Writer::Incus),
    ("generated for Incus", Writer::Incus),
    ("wg-quick(8)", Writer::WgQuick),
    ("cali:", Writer::Kubernetes),
    ("kubernetes ", Writer::Kubernetes),
    ("flanneld ", Writer::Kubernetes),
    ("cilium-feeder", Writer::Kubernetes),
];

impl Writer {
    /// The writer of a rule: by its table (`inet firewalld`, `filter`), its chain, and its text.
    #[must_use]
    pub fn of_rule(table: &str, chain: &str, text: &str) -> Self {
        let commented = || COMMENTS.iter().find(|(part, _)| text.contains(part)).map(|(_, writer)| *writer);
        Self::of_table(table).or_else(|| Self::of_chain(chain)).or_else(commented).unwrap_or(Self::Manual)
    }

    /// The writer of all rules of a table, if it belongs to one program.
    #[must_use]
    pub fn of_table(table: &str) -> Option<Self> {
        let (_, name) = table.split_once(' ')?;
        if name.starts_with("wg-quick-") {
            return Some(Self::WgQuick);
        }
        TABLES.iter().find(|(own, _)| *own == name).map(|(_, writer)| *writer)
    }

    /// The writer of a chain, if its name belongs to a program.
    #[must_use]
    pub fn of_chain(chain: &str) -> Option<Self> {
        CHAINS.iter().find(|(prefix, _)| chain.starts_with(prefix)).map(|(_, writer)| *writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_are_recognized_by_table_chain_and_comment() {
        assert_eq!(Writer::of_rule("filter", "ufw-user-input", ""), Writer::Ufw);
        assert_eq!(Writer::of_rule("filter", "DOCKER-USER", ""), Writer::Manual);
        assert_eq!(Writer::of_rule("filter", "DOCKER-FORWARD", ""), Writer::Docker);
        assert_eq!(Writer::of_rule("inet firewalld", "filter_IN_public", ""), Writer::Firewalld);
        assert_eq!(Writer::of_rule("inet filter", "input", "tcp dport 22 accept"), Writer::Manual);
        assert_eq!(Writer::of_rule("ip wg-quick-wg0", "preraw", ""), Writer::WgQuick);
        let incus = "-A INPUT -i lxdbr0 -m comment --comment \"generated for LXD network lxdbr0\" -j ACCEPT";
        assert_eq!(Writer::of_rule("filter", "INPUT", incus), Writer::Incus);
    }
}
