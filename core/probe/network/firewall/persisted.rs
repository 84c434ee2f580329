//! Files that restore rules at boot.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::probe::Io;

/// Size limit of a file, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Files and directories that may restore rules: iptables-persistent, nftables, ufw, firewalld, RHEL's iptables-services,
/// ifupdown, rc.local, cron, `NetworkManager`, systemd-networkd's dispatcher, cloud-init's scripts and configuration; scripts of
/// tunnels and of PPP, which clamp the MSS when their interface is created.
const FILES: &[&str] = &[
    "/etc/iptables",
    "/etc/nftables.conf",
    "/etc/nftables.d",
    "/etc/nftables",
    "/etc/sysconfig",
    "/etc/ufw",
    "/etc/firewalld",
    "/etc/network",
    "/etc/rc.local",
    "/etc/cron.d",
    "/etc/crontab",
    "/var/spool/cron/crontabs",
    "/etc/NetworkManager/dispatcher.d",
    "/etc/networkd-dispatcher",
    "/etc/shorewall",
    "/etc/wireguard",
    "/etc/openvpn",
    "/etc/ppp",
    "/etc/systemd/system",
    "/etc/cloud/cloud.cfg.d",
    "/var/lib/cloud/scripts",
    "/var/lib/cloud/instance/user-data.txt",
    "/var/lib/cloud/instance/scripts",
    "/usr/local/sbin",
    "/usr/local/bin",
];

/// Depth limit of directories.
const MAX_DEPTH: usize = 3;

/// MSS rules in these files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Persisted {
    /// Files with a line that sets the MSS, with that line.
    pub mss: Vec<(String, String)>,
    /// Files that could not be read.
    pub denied: Vec<String>,
    /// cloud-init with its per-boot scripts is installed.
    pub cloud_init: bool,
}

/// Searches for MSS rules in files below `root`.
#[must_use]
pub fn persisted(io: &Io, root: &Path) -> Persisted {
    let mut found = Persisted { cloud_init: io.is_dir(root.join("var/lib/cloud/scripts/per-boot")), ..Persisted::default() };
    for file in FILES {
        visit(io, root, &root.join(file.trim_start_matches('/')), MAX_DEPTH, &mut found);
    }
    found
}

fn visit(io: &Io, root: &Path, path: &PathBuf, depth: usize, found: &mut Persisted) {
    let shown = || format!("/{}", path.strip_prefix(root).unwrap_or(path).display());
    let meta = match io.metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => return found.denied.push(shown()),
        Err(_) => return,
    };
    if meta.is_dir() {
        if depth > 0 {
            match io.read_dir(path) {
                Ok(below) => below.filter_map(Result::ok).for_each(|e| visit(io, root, &e.path(), depth - 1, found)),
                Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => found.denied.push(shown()),
                Err(_) => {}
            }
        }
        return;
    }
    // a unit counts as enabled in `multi-user.target.wants/`, not in its own directory
    let unit = path.parent() == Some(&root.join("etc/systemd/system"));
    if !meta.is_file() || meta.len() > MAX_FILE_BYTES || unit {
        return;
    }
    match io.read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let about =
                |l: &&str| (l.contains("TCPMSS") || l.contains("maxseg size set")) && !l.trim_start().starts_with(['#', ';']);
            if let Some(line) = text.lines().find(about) {
                found.mss.push((shown(), line.trim().chars().take(300).collect()));
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => found.denied.push(shown()),
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;

    #[test]
    fn persisted_mss_rules_are_found() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("etc/iptables/rules.v4", "*mangle\n-A FORWARD -p tcp -j TCPMSS --clamp-mss-to-pmtu\n");
        write("etc/systemd/system/multi-user.target.wants/x.service", "ExecStart=nft add rule … maxseg size set rt mtu\n");
        write("etc/systemd/system/disabled.service", "ExecStart=iptables -j TCPMSS\n");
        write("etc/rc.local", "#iptables -j TCPMSS\n");
        write("etc/cron.d/bin", "\u{0}\u{1}");
        let found = persisted(&Io::for_test(), root.path());
        let files: Vec<&str> = found.mss.iter().map(|(f, _)| f.as_str()).collect();
        assert_eq!(files, ["/etc/iptables/rules.v4", "/etc/systemd/system/multi-user.target.wants/x.service"]);
        assert!(!found.cloud_init && found.denied.is_empty());
    }
}
