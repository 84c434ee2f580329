//! Whether opsctl runs in an application container. Its processes, sockets, files and settings are then those of the container and
//! not of the host, while the container engine, through a mounted socket, reports the containers of the host.
//!
//! Every engine mounts `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf` from a directory named after the container: Docker
//! `/var/lib/docker/containers/ID/`, Podman `…/overlay-containers/ID/userdata/`, containerd for Kubernetes
//! `…/io.containerd.grpc.v1.cri/sandboxes/ID/`. In a pod the ID is that of its first container. Unlike `/.dockerenv` and the
//! control group this does not depend on the image, a control group namespace or the version of control groups, and every user can
//! read it.
//!
//! A system container (LXC, systemd-nspawn, an image with systemd, an engine within a container) counts as a host.

use crate::probe::Io;

/// Files that container engines mount.
const MOUNTED: &[&str] = &["/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/run/.containerenv"];

/// Names of init systems; `docker run --init` starts `docker-init`, Podman `catatonit`.
const INIT_SYSTEMS: &[&str] = &["systemd", "init", "openrc-init", "runit"];

/// The id of the application container in which opsctl runs, if any. `engine` is the process of a container engine in this PID
/// namespace.
#[must_use]
pub fn enclosing_container(io: &Io, engine: Option<i32>) -> Option<String> {
    let mounts = |process: &str| io.read_lossy(format!("/proc/{process}/mountinfo")).unwrap_or_default();
    let own = mounts("self");
    let id = container_of(&own)?;
    let root = root_mount(&own);
    // with the PID namespace of the host these are the host's, with other mounts
    let is_here = |process: &str| root.is_some() && root_mount(&mounts(process)) == root;
    let init = io.read_lossy("/proc/1/comm").unwrap_or_default();
    let is_system = INIT_SYSTEMS.contains(&init.trim()) && is_here("1");
    let has_engine = engine.is_some_and(|pid| is_here(&pid.to_string()));
    (!is_system && !has_engine).then_some(id)
}

/// The container of the mounted files (mountinfo: `id parent major:minor root mountpoint …`, `proc_pid_mountinfo(5)`).
pub(in crate::probe) fn container_of(mountinfo: &str) -> Option<String> {
    mountinfo.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(3);
        let (root, mountpoint) = (fields.next()?, fields.next()?);
        let is_id = |part: &&str| part.len() == 64 && part.bytes().all(|b| b.is_ascii_hexdigit());
        MOUNTED.contains(&mountpoint).then(|| root.split('/').find(is_id))?.map(str::to_owned)
    })
}

/// The id of the mount at `/`, which is unique on the machine.
pub(in crate::probe) fn root_mount(mountinfo: &str) -> Option<&str> {
    let at_root = |line: &&str| line.split(' ').nth(4) == Some("/");
    mountinfo.lines().rfind(at_root)?.split(' ').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn mountinfo(mountpoint: &str, root: &str) -> String {
        format!(
            "617 594 0:52 / / rw,relatime master:1 - overlay overlay rw\n\
             640 617 254:0 {root} {mountpoint} rw,relatime - ext4 /dev/vda rw\n"
        )
    }

    /// Reported paths: open-telemetry/opentelemetry-go#3508, nginx-proxy/acme-companion#1092, elastic/go-sysinfo#225 (the control
    /// group is `0::/`).
    #[test]
    fn container_of_each_engine() {
        for (mountpoint, root) in [
            ("/etc/hostname", format!("/var/lib/docker/containers/{ID}/hostname")),
            ("/etc/resolv.conf", format!("/home/u/.local/share/docker/containers/{ID}/resolv.conf")),
            ("/etc/hosts", format!("/containers/storage/overlay-containers/{ID}/userdata/hosts")),
            ("/run/.containerenv", format!("/containers/overlay-containers/{ID}/userdata/.containerenv")),
            ("/etc/hostname", format!("/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/{ID}/hostname")),
        ] {
            assert_eq!(container_of(&mountinfo(mountpoint, &root)).as_deref(), Some(ID), "{root}");
        }
    }

    #[test]
    fn host_with_mounted_files_is_no_container() {
        for (mountpoint, root) in [
            ("/etc/resolv.conf", "/systemd/resolve/stub-resolv.conf".to_owned()),
            // the engine's own mounts on the host
            ("/var/lib/docker/overlay2/x/merged", format!("/var/lib/docker/overlay2/{ID}")),
            ("/etc/hosts", "/srv/hosts".to_owned()),
        ] {
            assert_eq!(container_of(&mountinfo(mountpoint, &root)), None, "{root}");
        }
        assert_eq!(container_of(""), None);
    }

    #[test]
    fn upper_mount_at_the_root_counts() {
        assert_eq!(
            root_mount(
                "22 1 254:0 / / rw - ext4 /dev/vda rw\n99 22 0:5 / / rw - overlay o rw\n23 22 0:6 / /proc rw - proc p rw\n"
            ),
            Some("99")
        );
        assert_eq!(root_mount(""), None);
    }
}
