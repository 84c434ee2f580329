//! Selection of the filesystems to check: real ones, each once.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::MountRef;
use crate::probe::proc::process::unescape;
use crate::probe::{ProbeError, blocking};

/// Filesystem types that are not disks, or are full by design (`node_exporter` `collector/filesystem_linux.go`, and FUSE
/// helpers).
const EXCLUDED_TYPES: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "udf",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "procfs",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "erofs",
    "sysfs",
    "tracefs",
    "ramfs",
    "efivarfs",
    "fuse.snapfuse",
    "fuse.lxcfs",
    "fuse.fuse-overlayfs",
    "fuse.gvfsd-fuse",
    "fuse.portal",
    "9p",
    "virtiofs",
];

/// tmpfs of every host that all users can write to.
const SHARED_TMPFS: &[&str] = &["/dev/shm", "/run"];

/// A tmpfs below these belongs to the system, to a unit or to a pod, which it limits; one elsewhere was mounted by the
/// administrator.
const EXCLUDED_TMPFS_PREFIXES: &[&str] = &["/run/", "/var/lib/kubelet/"];

/// Directories below which all mounts belong to a container engine or to the kernel (`node_exporter`'s default exclusions).
const EXCLUDED_PREFIXES: &[&str] = &[
    "/dev/",
    "/proc/",
    "/sys/",
    "/run/credentials/",
    "/run/docker/",
    "/var/lib/docker/",
    "/var/lib/containers/",
    "/run/user/",
    "/snap/",
];

/// The mounted filesystems to check, one per device, sorted by mountpoint. Mounts below `exclude_below` are excluded, for example
/// an engine's data root.
pub async fn mounts(exclude_below: &[String]) -> Result<Vec<MountRef>, ProbeError> {
    Ok(worth_checking(parse_mountinfo(&mountinfo().await?), exclude_below))
}

/// All mounts visible to this process, in mount order.
pub(super) async fn all_mounts() -> Result<Vec<MountRef>, ProbeError> {
    Ok(parse_mountinfo(&mountinfo().await?).into_iter().map(|(_, mount)| mount).collect())
}

async fn mountinfo() -> Result<String, ProbeError> {
    const FILE: &str = "/proc/self/mountinfo";
    let text = blocking::run("mounts", FILE, Duration::from_secs(1), |io| io.read_lossy(FILE)).await?;
    text.map_err(|e| ProbeError::io("mounts", FILE, &e))
}

/// Parses `/proc/<pid>/mountinfo` (proc(5)); malformed lines are skipped.
#[must_use]
pub fn parse_mountinfo(text: &str) -> Vec<(String, MountRef)> {
    text.lines().filter_map(parse_line).collect()
}

/// `id parent major:minor root mountpoint options [optional…] - fstype source super-options`. Returns the root of the mount as
/// well.
fn parse_line(line: &str) -> Option<(String, MountRef)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(2);
    let dev =
        fields.next().filter(|d| d.split_once(':').is_some_and(|(a, b)| a.parse::<u32>().is_ok() && b.parse::<u32>().is_ok()))?;
    let root = unescape(fields.next()?);
    let mountpoint = unescape(fields.next()?);
    let options = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let mount_options = options(fields.next()?);
    let mut filesystem = filesystem.splitn(3, ' ');
    Some((
        root,
        MountRef {
            dev: dev.to_owned(),
            mountpoint,
            fstype: filesystem.next()?.to_owned(),
            source: without_credentials(&unescape(filesystem.next()?)),
            super_options: options(filesystem.next().unwrap_or_default()),
            mount_options,
        },
    ))
}

/// Removes credentials from CIFS sources such as `//user:password@server/share`.
pub(super) fn without_credentials(source: &str) -> String {
    match source.split_once('@') {
        Some((before, after)) if before.contains(':') && before.starts_with("//") => format!("//{after}"),
        _ => source.to_owned(),
    }
}

/// Whether the mount is a tmpfs that can fill up: neither the device nodes of a container nor a mask over another path.
pub(super) fn is_writable_tmpfs(mount: &MountRef) -> bool {
    let at = mount.mountpoint.as_str();
    let hides = ["/proc/", "/sys/", "/dev/"].iter().any(|f| at.starts_with(f)) && !SHARED_TMPFS.contains(&at);
    mount.fstype == "tmpfs" && !hides && at != "/dev" && !mount.mount_options.iter().any(|o| o == "ro")
}

/// One mount per device: the shortest mountpoint, with mounts of the whole filesystem before mounts of a part.
pub(super) fn worth_checking(all: Vec<(String, MountRef)>, exclude_below: &[String]) -> Vec<MountRef> {
    let mut best: BTreeMap<String, (bool, MountRef)> = BTreeMap::new();
    // of several mounts at one mountpoint only the last is visible
    let top: BTreeMap<String, String> = all.iter().map(|(_, m)| (m.mountpoint.clone(), m.dev.clone())).collect();
    for (root, mount) in all {
        if top.get(&mount.mountpoint) != Some(&mount.dev) {
            continue;
        }
        let below = |prefix: &&str| mount.mountpoint.starts_with(prefix);
        let of_engine = exclude_below.iter().any(|f| below(&format!("{}/", f.trim_end_matches('/')).as_str()));
        let tmpfs = mount.fstype == "tmpfs";
        let shared = tmpfs && SHARED_TMPFS.contains(&mount.mountpoint.as_str());
        let of_others = EXCLUDED_PREFIXES.iter().any(below)
            || tmpfs && (EXCLUDED_TMPFS_PREFIXES.iter().any(below) || !is_writable_tmpfs(&mount));
        if EXCLUDED_TYPES.contains(&mount.fstype.as_str()) || of_engine || of_others && !shared {
            continue;
        }
        let part = root != "/";
        match best.get(&mount.dev) {
            Some((p, m)) if (*p, m.mountpoint.len()) <= (part, mount.mountpoint.len()) => {}
            _ => {
                best.insert(mount.dev.clone(), (part, mount));
            }
        }
    }
    let mut mounts: Vec<MountRef> = best.into_values().map(|(_, m)| m).collect();
    mounts.sort_by(|a, b| a.mountpoint.cmp(&b.mountpoint));
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
23 22 0:5 / /dev rw - devtmpfs devtmpfs rw
23 22 0:4 / /dev/shm rw - tmpfs hidden rw,size=1g
24 22 0:6 / /dev/shm rw - tmpfs tmpfs rw,size=1g
25 22 7:0 /sub /b rw - ext4 /dev/loop0 rw
26 22 7:0 / /a\\040long\\040name rw - ext4 /dev/loop0 rw
27 22 7:1 / /snap/core/1 ro - squashfs /dev/loop1 ro
28 22 0:50 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw
29 22 0:51 / /run/user/0 rw - tmpfs tmpfs rw
30 22 0:52 / /mnt/nas rw - cifs //bob:canary@nas/share rw
31 22 8:1 / /bind rw - ext4 /dev/sda1 rw
32 22 0:53 / /mnt/ram rw - tmpfs ram rw,size=1g,nr_inodes=10
33 22 0:54 / /dev rw - tmpfs tmpfs rw,size=64m
34 22 0:55 / /run/lock rw - tmpfs tmpfs rw,size=5m
35 22 0:56 / /proc/acpi ro - tmpfs tmpfs ro
36 22 0:57 / /hidden ro - tmpfs tmpfs ro
37 22 0:58 / /var/lib/kubelet/pods/1/volumes/s rw - tmpfs tmpfs rw
38 22 0:59 / /var/lib/docker/containers/1/mounts/shm rw - tmpfs shm rw
garbage
1 2 x:y / / rw - ext4 a rw
";

    #[test]
    fn each_disk_is_listed_once() {
        let got = worth_checking(parse_mountinfo(TEXT), &[]);
        let points: Vec<&str> = got.iter().map(|m| m.mountpoint.as_str()).collect();
        assert_eq!(points, ["/", "/a long name", "/dev/shm", "/mnt/nas", "/mnt/ram"]);
        assert!(!format!("{got:?}").contains("canary") && !format!("{got:?}").contains("hidden"));
    }

    #[test]
    fn corpus_of_mountinfo() {
        crate::corpus::check("mountinfo", 10, |text| {
            let all = parse_mountinfo(text);
            let lost = text.lines().filter(|l| !l.trim().is_empty()).count() - all.len();
            let shown = |m: &MountRef| format!("{}>{}({})", m.source, m.mountpoint, m.fstype);
            let checked = worth_checking(all.clone(), &[]);
            vec![
                ("mounts", all.len().to_string()),
                ("lost", lost.to_string()),
                ("last", all.last().map(|(_, m)| shown(m)).unwrap_or_default()),
                ("checked", checked.iter().map(shown).collect::<Vec<_>>().join(" ")),
            ]
        });
    }

    #[test]
    fn mounts_below_the_engine_root_are_excluded() {
        let text = "1 1 7:3 / /data/docker/x rw - ext4 /dev/loop3 rw\n2 1 7:4 / /data/docker rw - ext4 /dev/loop4 rw\n";
        let got = worth_checking(parse_mountinfo(text), &["/data/docker".to_owned()]);
        assert_eq!(got.iter().map(|m| m.mountpoint.as_str()).collect::<Vec<_>>(), ["/data/docker"]);
    }
}
