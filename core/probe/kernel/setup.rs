//! Host setup: host name, machine id, disks, MTUs, kernel settings, clock daemons.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::probe::Io;
use crate::probe::io::resolv_conf::ResolvConf;
use crate::probe::io::resolve::name_sources;
use crate::probe::proc::owner::{Origin, of_origin};
use crate::probe::proc::table::ProcessTable;

/// `/sys/class/block` counts sectors of 512 bytes, independent of the sector size of the disk.
const SECTOR_BYTES: u64 = 512;

/// Sources that resolve the host's own name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OwnName {
    /// The host name.
    pub hostname: String,
    /// `/etc/hosts` contains it.
    pub in_hosts: bool,
    /// A module of nsswitch.conf(5) that always resolves it: `myhostname` or `resolve`.
    pub by_module: bool,
    /// Number of name servers, which may resolve it.
    pub nameservers: usize,
}

/// A disk with unallocated space after its last partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unallocated {
    /// `vda`.
    pub disk: String,
    /// Size of the disk in bytes.
    pub size: u64,
    /// Its last partition: `vda1`.
    pub partition: String,
    /// Unallocated bytes after it.
    pub unused: u64,
}

/// MTUs of network interfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mtus {
    /// The interface of the default route.
    pub egress: Option<(String, u32)>,
    /// Bridges of the container engine.
    pub bridges: Vec<(String, u32)>,
}

/// The root directory; another one only for recorded trees.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
}

impl Default for Tree {
    fn default() -> Self {
        Self { root: "/".into() }
    }
}

impl Tree {
    /// A tree recorded elsewhere.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn text(&self, io: &Io, path: &str) -> String {
        io.read_lossy(self.root.join(path)).unwrap_or_default()
    }

    /// The sources that resolve the host's own name.
    #[must_use]
    pub fn own_name(&self, io: &Io, hostname: &str) -> OwnName {
        let hosts = self.text(io, "etc/hosts");
        let words = |line: &'_ str| -> Vec<String> {
            line.split('#').next().unwrap_or_default().split_whitespace().skip(1).map(str::to_lowercase).collect()
        };
        let name = hostname.to_lowercase();
        let sources = name_sources(&self.text(io, "etc/nsswitch.conf")).unwrap_or_default();
        OwnName {
            hostname: hostname.to_owned(),
            in_hosts: hosts.lines().any(|l| words(l).contains(&name)),
            by_module: sources.split_whitespace().any(|s| matches!(s, "myhostname" | "resolve")),
            nameservers: ResolvConf::parse(&self.text(io, "etc/resolv.conf")).servers.len(),
        }
    }

    /// The machine id; empty if there is none.
    #[must_use]
    pub fn machine_id(&self, io: &Io) -> String {
        self.text(io, "etc/machine-id").trim().to_owned()
    }

    /// `ID` of os-release(5).
    #[must_use]
    pub fn distribution(&self, io: &Io) -> String {
        let own = os_id(&self.text(io, "etc/os-release"));
        // images without /etc/os-release have that of the vendor
        own.or_else(|| os_id(&self.text(io, "usr/lib/os-release"))).unwrap_or_default()
    }

    /// Whether a file or directory exists.
    #[must_use]
    pub fn has(&self, io: &Io, path: &str) -> bool {
        io.exists(self.root.join(path.trim_start_matches('/')))
    }

    /// Kernel settings by name (`net.core.somaxconn`); settings that the kernel does not have are omitted.
    #[must_use]
    pub fn sysctls(&self, io: &Io, names: &[&str]) -> BTreeMap<String, String> {
        let read = |name: &&str| {
            let text = io.read_lossy(self.root.join("proc/sys").join(name.replace('.', "/"))).ok()?;
            Some(((*name).to_owned(), text.trim().to_owned()))
        };
        names.iter().filter_map(read).collect()
    }

    /// Files that set a kernel setting at boot, in the order of application (sysctl.d(5)), each with its value.
    #[must_use]
    pub fn sysctl_files(&self, io: &Io, key: &str) -> Vec<(String, String)> {
        // a file hides those of the same name in later directories
        let mut by_name: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
        for directory in ["etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d"] {
            for entry in io.read_dir(self.root.join(directory)).into_iter().flatten().flatten() {
                by_name.entry(entry.file_name()).or_insert(entry.path());
            }
        }
        let mut files: Vec<PathBuf> = by_name.into_values().filter(|p| p.extension().is_some_and(|e| e == "conf")).collect();
        files.push(self.root.join("etc/sysctl.conf"));
        let shown = |p: &Path| format!("/{}", p.strip_prefix(&self.root).unwrap_or(p).display());
        files.iter().filter_map(|p| Some((shown(p), sysctl_value(&io.read_lossy(p).ok()?, key)?))).collect()
    }

    /// The mode of transparent huge pages: `[always] madvise never` marks the selected one.
    #[must_use]
    pub fn huge_pages(&self, io: &Io) -> Option<String> {
        let text = io.read_lossy(self.root.join("sys/kernel/mm/transparent_hugepage/enabled")).ok()?;
        Some(text.trim().to_owned())
    }

    /// Whether kernel settings are writable; in most containers they are not.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "the caller holds the token")]
    pub fn sysctls_writable(&self, _io: &Io) -> bool {
        rustix::fs::access(self.root.join("proc/sys/kernel/pid_max"), rustix::fs::Access::WRITE_OK)
            != Err(rustix::io::Errno::ROFS)
    }

    /// Disks with unallocated space after their last partition.
    #[must_use]
    pub fn unallocated(&self, io: &Io) -> Vec<Unallocated> {
        let class = self.root.join("sys/class/block");
        let number = |path: &Path, file: &str| -> Option<u64> { io.read_lossy(path.join(file)).ok()?.trim().parse().ok() };
        let mut last: BTreeMap<String, (u64, String)> = BTreeMap::new();
        for entry in io.read_dir(&class).into_iter().flatten().flatten() {
            let (path, partition) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if !io.exists(path.join("partition")) {
                continue;
            }
            // /sys/class/block/vda1 links to …/block/vda/vda1
            let Some(disk) = io.canonicalize(&path).ok().and_then(|p| Some(p.parent()?.file_name()?.to_str()?.to_owned())) else {
                continue;
            };
            let (Some(start), Some(size)) = (number(&path, "start"), number(&path, "size")) else { continue };
            let end = start.saturating_add(size);
            let known = last.entry(disk).or_default();
            if end > known.0 {
                *known = (end, partition);
            }
        }
        let unallocated = |(disk, (end, partition)): (String, (u64, String))| {
            let size = number(&class.join(&disk), "size")?;
            let unused = size.saturating_sub(end).saturating_mul(SECTOR_BYTES);
            Some(Unallocated { disk, size: size.saturating_mul(SECTOR_BYTES), partition, unused })
        };
        last.into_iter().filter_map(unallocated).collect()
    }

    /// The MTUs of the egress interface and of the container engine's bridges.
    #[must_use]
    pub fn mtus(&self, io: &Io) -> Mtus {
        let mtu = |name: &str| -> Option<(String, u32)> {
            Some((name.to_owned(), self.text(io, &format!("sys/class/net/{name}/mtu")).trim().parse().ok()?))
        };
        // "Iface Destination Gateway Flags …": the default route to 0.0.0.0
        let routes = self.text(io, "proc/net/route");
        let egress = routes.lines().skip(1).find_map(|l| {
            let mut fields = l.split_whitespace();
            let (name, destination) = (fields.next()?, fields.next()?);
            (destination == "00000000").then(|| name.to_owned())
        });
        let interfaces = io.read_dir(self.root.join("sys/class/net")).into_iter().flatten().flatten();
        let mut bridges: Vec<(String, u32)> = interfaces
            .filter_map(|e| e.file_name().into_string().ok())
            .filter(|n| n == "docker0" || n.starts_with("br-"))
            .filter_map(|n| mtu(&n))
            .collect();
        bridges.sort();
        Mtus { egress: egress.and_then(|e| mtu(&e)), bridges }
    }

    /// Whether the hardware clock is in local time (third line of adjtime(5)).
    #[must_use]
    pub fn rtc_is_local(&self, io: &Io) -> bool {
        self.text(io, "etc/adjtime").lines().nth(2).is_some_and(|l| l.trim() == "LOCAL")
    }
}

/// `ID` of a file of os-release(5): shell assignments.
fn os_id(text: &str) -> Option<String> {
    let value = text.lines().find_map(|l| l.trim_start().strip_prefix("ID="))?;
    let id = value.trim().trim_matches(['"', '\'']);
    (!id.is_empty()).then(|| id.to_owned())
}

/// The value of a kernel setting in a file of sysctl.d(5). A pattern applies to settings without a line of their own.
fn sysctl_value(text: &str, key: &str) -> Option<String> {
    let lines = || text.lines().map(str::trim).filter(|l| !l.starts_with(['#', ';']));
    // `-` before a key ignores errors; a slash separates names that contain dots
    let pairs = || lines().filter_map(|l| l.trim_start_matches('-').split_once('=')).map(|(k, v)| (k.trim(), v.trim()));
    let fits = |pattern: &str| {
        let (pattern, key): (Vec<&str>, Vec<&str>) = (pattern.split(['.', '/']).collect(), key.split('.').collect());
        pattern.len() == key.len() && pattern.iter().zip(&key).all(|(p, k)| *p == "*" || p == k)
    };
    let own = pairs().rfind(|(k, _)| !k.contains('*') && fits(k));
    own.or_else(|| pairs().rfind(|(k, _)| fits(k))).map(|(_, value)| value.to_owned())
}

/// Names of the running programs that discipline the clock of this host.
pub async fn clock_daemons(table: &ProcessTable) -> Vec<String> {
    let system = of_origin(table.named(CLOCK_DAEMONS).map(|p| p.pid).collect(), &[Origin::System]).await;
    names_of_clock_daemons(table, |pid| system.contains(&pid))
}

/// Programs that discipline a clock; the kernel truncates names to 15 characters.
const CLOCK_DAEMONS: &[&str] = &["chronyd", "ntpd", "systemd-timesyn", "openntpd", "ntpsec", "phc2sys"];

fn names_of_clock_daemons(table: &ProcessTable, is_system: impl Fn(i32) -> bool) -> Vec<String> {
    let whole = |comm: &str| if comm == "systemd-timesyn" { "systemd-timesyncd".to_owned() } else { comm.to_owned() };
    let mut names: Vec<String> = table.named(CLOCK_DAEMONS).filter(|p| is_system(p.pid)).map(|p| whole(&p.comm)).collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::probe::proc::table::Process;

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Tree) {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let tree = Tree::at(root.path());
        (root, tree)
    }

    #[test]
    fn own_name_in_hosts_file_without_comments() {
        let io = &Io::for_test();
        let (_keep, t) = tree(&[
            ("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 Web.example.org web # db\n"),
            ("etc/nsswitch.conf", "passwd: files\nhosts: files dns\n"),
            ("etc/resolv.conf", "nameserver 10.0.0.2\n#nameserver 10.0.0.3\n"),
        ]);
        let web = t.own_name(io, "web");
        assert!(web.in_hosts && !web.by_module && web.nameservers == 1);
        assert!(!t.own_name(io, "db").in_hosts);
        let (_keep, t) = tree(&[("etc/nsswitch.conf", "hosts: files mymachines myhostname dns\n")]);
        assert!(t.own_name(io, "web").by_module);
    }

    #[test]
    fn comment_in_nsswitch_names_no_module() {
        let (_keep, t) = tree(&[("etc/nsswitch.conf", "hosts: files dns # not myhostname\n")]);
        assert!(!t.own_name(&Io::for_test(), "web").by_module);
    }

    #[test]
    fn sysctl_file_hides_the_one_of_the_vendor() {
        let io = &Io::for_test();
        let (_keep, t) = tree(&[
            ("etc/sysctl.d/50-a.conf", "net.ipv4.ip_forward = 1\n"),
            ("usr/lib/sysctl.d/50-a.conf", "net.ipv4.ip_forward = 0\n"),
            ("usr/lib/sysctl.d/60-b.conf", "-net/ipv4/ip_forward=2\r\n"),
            ("usr/lib/sysctl.d/70-c.txt", "net.ipv4.ip_forward = 0\n"),
        ]);
        let files = t.sysctl_files(io, "net.ipv4.ip_forward");
        let found: Vec<(&str, &str)> = files.iter().map(|(f, v)| (f.as_str(), v.as_str())).collect();
        assert_eq!(found, [("/etc/sysctl.d/50-a.conf", "1"), ("/usr/lib/sysctl.d/60-b.conf", "2")]);
    }

    #[test]
    fn corpus_of_sysctl_files() {
        crate::corpus::check("sysctl", 6, |text| {
            let value = |key: &str| sysctl_value(text, key).unwrap_or_default();
            vec![
                ("net.ipv4.ip_forward", value("net.ipv4.ip_forward")),
                ("vm.swappiness", value("vm.swappiness")),
                ("vm.overcommit_memory", value("vm.overcommit_memory")),
                ("net.core.somaxconn", value("net.core.somaxconn")),
                ("net.ipv4.conf.all.rp_filter", value("net.ipv4.conf.all.rp_filter")),
                ("net.ipv4.conf.eth0.rp_filter", value("net.ipv4.conf.eth0.rp_filter")),
            ]
        });
    }

    #[test]
    fn corpus_of_os_release() {
        crate::corpus::check("os-release", 30, |text| vec![("id", os_id(text).unwrap_or_default())]);
    }

    #[test]
    fn corpus_of_hosts() {
        let io = &Io::for_test();
        crate::corpus::check("hosts", 6, |text| {
            let (_keep, t) = tree(&[("etc/hosts", text)]);
            let names = ["localhost", "web", "web.example.org", "db", "ip6-loopback"];
            let found: Vec<&str> = names.into_iter().filter(|name| t.own_name(io, name).in_hosts).collect();
            vec![("names", found.join(" "))]
        });
    }

    #[test]
    fn unallocated_space_after_the_last_partition() {
        let io = &Io::for_test();
        let (keep, t) = tree(&[
            ("sys/devices/block/vda/size", "2000000\n"),
            ("sys/devices/block/vda/vda1/partition", "1\n"),
            ("sys/devices/block/vda/vda1/start", "2048\n"),
            ("sys/devices/block/vda/vda1/size", "997952\n"),
        ]);
        std::fs::create_dir_all(keep.path().join("sys/class/block")).unwrap();
        for (name, to) in [("vda", "../../devices/block/vda"), ("vda1", "../../devices/block/vda/vda1")] {
            symlink(to, keep.path().join("sys/class/block").join(name)).unwrap();
        }
        let [found] = t.unallocated(io).try_into().unwrap();
        assert_eq!(found, Unallocated { disk: "vda".into(), size: 1_024_000_000, partition: "vda1".into(), unused: 512_000_000 });
    }

    #[test]
    fn mtus_of_egress_and_bridges() {
        let io = &Io::for_test();
        let (_keep, t) = tree(&[
            ("proc/net/route", "Iface\tDestination\tGateway\neth0\t0000A8C0\t00000000\nens5\t00000000\t0100A8C0\n"),
            ("sys/class/net/ens5/mtu", "1450\n"),
            ("sys/class/net/docker0/mtu", "1500\n"),
            ("sys/class/net/veth1/mtu", "1500\n"),
        ]);
        assert_eq!(t.mtus(io), Mtus { egress: Some(("ens5".into(), 1450)), bridges: vec![("docker0".into(), 1500)] });
    }

    #[test]
    fn clock_daemons_distribution_and_sysctls() {
        let io = &Io::for_test();
        let (_keep, t) = tree(&[
            ("etc/adjtime", "0.0 0 0.0\n0\nLOCAL\n"),
            ("etc/os-release", "NAME=x\nID=\"debian\"\n"),
            ("proc/sys/net/core/somaxconn", "128\n"),
        ]);
        let process = |pid, comm: &str| Process { pid, parent: 1, start_ticks: 1, state: 'S', comm: comm.to_owned() };
        let table = ProcessTable::of([process(7, "systemd-timesyn"), process(8, "chronyd"), process(9, "cron")].into_iter());
        assert_eq!(names_of_clock_daemons(&table, |_| true), ["chronyd", "systemd-timesyncd"]);
        assert_eq!(names_of_clock_daemons(&table, |pid| pid == 8), ["chronyd"]);
        assert!(t.rtc_is_local(io));
        assert_eq!(t.distribution(io), "debian");
        assert_eq!(t.sysctls(io, &["net.core.somaxconn", "no.such"]).len(), 1);
    }
}
