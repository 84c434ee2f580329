//! The current boot: the running kernel, the installed kernels, and pending reboot requests.

use std::fs::DirEntry;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::probe::Io;
use crate::probe::io::clock;

/// A kernel in `/boot`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// Release as printed by `uname -r`.
    pub release: String,
    /// Modification time of its file.
    pub installed: Option<Timestamp>,
}

/// State of the current boot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Boot {
    /// Seconds since boot.
    pub uptime_s: i64,
    /// Release of the running kernel.
    pub running: String,
    /// Kernels in `/boot`, newest version first.
    pub installed: Vec<Kernel>,
    /// The running kernel supports loadable modules.
    pub modules_supported: bool,
    /// The module directory of the running kernel exists.
    pub modules_present: bool,
    /// Modification time of `/run/reboot-required`, which packages create to request a reboot.
    pub required_since: Option<Timestamp>,
    /// The packages that requested it.
    pub required_by: Vec<String>,
    /// This is a container: its kernel belongs to the host.
    pub in_container: bool,
}

/// Reads the state of the current boot.
#[must_use]
pub fn read(io: &Io) -> Boot {
    let mut boot = from_tree(io, Path::new("/"), &crate::probe::kernel::host::kernel());
    boot.uptime_s = clock::since_boot().as_secs();
    boot.in_container = in_container(io);
    boot
}

fn from_tree(io: &Io, root: &Path, running: &str) -> Boot {
    let flag = root.join("run/reboot-required");
    let packages = io.read_lossy(root.join("run/reboot-required.pkgs")).unwrap_or_default();
    let mut by: Vec<String> = packages.split_whitespace().map(str::to_owned).collect();
    by.sort();
    by.dedup();
    let modules = ["lib/modules", "usr/lib/modules"].iter().any(|m| io.is_dir(root.join(m).join(running)));
    Boot {
        running: running.to_owned(),
        installed: kernels(io, &root.join("boot")),
        // without this file the kernel was built without loadable modules
        modules_supported: io.exists(root.join("proc/modules")),
        modules_present: modules,
        required_since: modified(io, &flag),
        required_by: by,
        ..Boot::default()
    }
}

fn kernels(io: &Io, directory: &Path) -> Vec<Kernel> {
    let entries = io.read_dir(directory).into_iter().flatten().flatten();
    let kernel = |entry: DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let release = name.strip_prefix("vmlinuz-")?;
        // rescue images of dracut are not regular boot entries
        let spare = matches!(name.rsplit('.').next(), Some("old" | "bak"));
        (!release.contains("rescue") && !spare)
            .then(|| Kernel { release: release.to_owned(), installed: modified(io, &entry.path()) })
    };
    let mut kernels: Vec<Kernel> = entries.filter_map(kernel).collect();
    kernels.sort_by_key(|k| std::cmp::Reverse(version(&k.release)));
    kernels
}

/// A release as a sort key: numbers compare as numbers, other parts as text, so that 6.1.0-9 sorts before 6.1.0-10.
#[must_use]
pub fn version(release: &str) -> Vec<(u64, String)> {
    release
        .split(['.', '-', '_', '+', '~'])
        .map(|part| {
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            (digits.parse().unwrap_or(0), part[digits.len()..].to_owned())
        })
        .collect()
}

fn modified(io: &Io, path: &Path) -> Option<Timestamp> {
    Timestamp::try_from(io.metadata(path).ok()?.modified().ok()?).ok()
}

/// Whether this is a container: a marker file of systemd, Docker or Podman exists, and the process namespace is not the initial
/// one (virtual machines are built from container images too, and contain these files).
#[must_use]
pub fn in_container(io: &Io) -> bool {
    let marked = ["/run/systemd/container", "/.dockerenv", "/run/.containerenv"].iter().any(|f| io.exists(f));
    // PROC_PID_INIT_INO of include/linux/proc_ns.h
    let initial = io.read_link("/proc/self/ns/pid").is_ok_and(|ns| ns.as_os_str() == "pid:[4026531836]");
    marked && !initial
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;

    #[test]
    fn kernels_are_sorted_numerically_newest_first() {
        let root = tempfile::tempdir().unwrap();
        let dir = |d: &str| std::fs::create_dir_all(root.path().join(d)).unwrap();
        let _ = ["boot", "proc", "run", "lib/modules/6.1.0-9-amd64"].map(dir);
        for name in ["vmlinuz-6.1.0-9-amd64", "vmlinuz-6.1.0-10-amd64", "vmlinuz-0-rescue-abc", "initrd.img-6.1.0-9-amd64"] {
            std::fs::write(root.path().join("boot").join(name), "").unwrap();
        }
        std::fs::write(root.path().join("proc/modules"), "").unwrap();
        std::fs::write(root.path().join("run/reboot-required"), "").unwrap();
        std::fs::write(root.path().join("run/reboot-required.pkgs"), "libc6\nlinux-image\nlibc6\n").unwrap();
        let boot = from_tree(&Io::for_test(), root.path(), "6.1.0-9-amd64");
        let releases: Vec<&str> = boot.installed.iter().map(|k| k.release.as_str()).collect();
        assert_eq!(releases, ["6.1.0-10-amd64", "6.1.0-9-amd64"]);
        assert!(boot.modules_present && boot.modules_supported && boot.required_since.is_some());
        assert_eq!(boot.required_by, ["libc6", "linux-image"]);
        assert!(!from_tree(&Io::for_test(), root.path(), "6.1.0-8-amd64").modules_present);
    }
}
