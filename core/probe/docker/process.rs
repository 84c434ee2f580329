//! Proof that the PID reported by the engine is the first process of the container on this host. The engine may be remote, or in
//! another PID namespace than opsctl; the PID then belongs to another process here, possibly one that a user created to have this
//! PID.

use std::io::ErrorKind;

use jiff::{SignedDuration, Timestamp};

use crate::probe::Io;
use crate::probe::io::clock;
use crate::probe::io::stat::parent_and_start;
use crate::probe::kernel::host;
use crate::probe::proc::home::Home;

/// Maximum difference between the start time of a container (engine) and of its process (kernel).
const MAX_START_DIFFERENCE: SignedDuration = SignedDuration::from_secs(60);

/// The process that listens on the engine's socket (`SO_PEERCRED`, unix(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Listener {
    /// Its PID here; `None` if it is in a PID namespace that is not below the own one, or if the engine is remote.
    pub pid: Option<i32>,
    /// Its user; `None` for a remote engine.
    pub uid: Option<u32>,
    /// It is in the PID namespace of opsctl: PIDs it reports are valid here.
    pub is_here: bool,
    /// It listens on a TCP socket of this host that is not proven to belong to root or to this user; `uid` is its user, if known.
    pub foreign_socket: bool,
}

impl Listener {
    /// Whether it belongs to another user: its reports are untrusted. Ids from an outer namespace cannot be compared.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.foreign_socket || (self.pid.is_some() && self.uid.is_some_and(is_other))
    }

    /// The listener of a TCP socket of this host, by the user of the socket.
    pub(super) fn of_socket(uid: Option<u32>) -> Self {
        let foreign_socket = uid.is_none_or(is_other);
        // the socket of root may be that of a proxy or of a tunnel: it proves nothing about the engine behind it
        Self { uid: uid.filter(|_| foreign_socket), foreign_socket, ..Self::default() }
    }
}

/// Whether this user is neither root nor the own one.
fn is_other(uid: u32) -> bool {
    uid != 0 && uid != rustix::process::geteuid().as_raw()
}

/// Whether `pid` is in the own PID namespace and not in an inner one (`NSpid:` in `/proc/PID/status`). Unlike `/proc/PID/ns` this
/// is readable for all users.
pub(super) fn is_in_own_namespace(io: &Io, pid: i32) -> bool {
    let status = io.read_lossy(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|l| l.strip_prefix("NSpid:"));
    numbers.is_some_and(|n| n.split_whitespace().count() == 1)
}

/// A process of a container, as reported by the engine.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub id: String,
    pub pid: i32,
    pub started_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// It is the container's process.
    Proven,
    /// The process does not exist.
    Missing,
    /// It is another process, or is not visible.
    Unproven,
}

/// Verifies the claim against the kernel's data about the process.
pub(super) fn prove(io: &Io, claim: &Claim, engine: Listener) -> Proof {
    let groups = match io.read_lossy(format!("/proc/{}/cgroup", claim.pid)) {
        Ok(groups) => groups,
        // ESRCH: it exited after the open
        Err(e) if e.kind() == ErrorKind::NotFound || e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            // /proc hides processes of other users (`hidepid`, proc(5))
            return if exists(claim.pid) { Proof::Unproven } else { Proof::Missing };
        }
        Err(_) => return Proof::Unproven,
    };
    let own = io.read_lossy("/proc/self/cgroup").unwrap_or_default();
    let by_group = paths(&groups).any(|path| names_container(path, &claim.id, engine, &own));
    // another user's engine may claim any process that was started at the right time
    let by_time = engine.is_here && !engine.is_foreign() && started_in_other_namespace(io, claim);
    if by_group || by_time { Proof::Proven } else { Proof::Unproven }
}

/// Whether there is a process with this PID, also one that `/proc` hides. Signal 0 is not sent (kill(2)).
fn exists(pid: i32) -> bool {
    let found = rustix::process::Pid::from_raw(pid).map(rustix::process::test_kill_process);
    !matches!(found, None | Some(Err(rustix::io::Errno::SRCH)))
}

fn paths(cgroups: &str) -> impl Iterator<Item = &str> {
    cgroups.lines().filter_map(|l| l.splitn(3, ':').nth(2))
}

/// Whether a control group is that of the container. Users can create groups of any name below those delegated to them; these
/// count only for an engine of that user, and only these count for the engine of another user: it cannot create others.
pub(super) fn names_container(path: &str, id: &str, engine: Listener, own: &str) -> bool {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    let container = |part: &str| match Home::of_path(part) {
        Home::Container(id) => Some(id),
        _ => None,
    };
    let mut outer = path.split('/').take_while(|part| container(part).as_deref() != Some(id));
    let of_user = |part: &str| part.strip_prefix("user@")?.strip_suffix(".service").map(|uid| uid.parse::<u32>().ok());
    let delegated = |part: &str| {
        if engine.is_here {
            of_user(part).is_some_and(|uid| uid.is_none() || uid != engine.uid)
        } else {
            // a PID of another namespace: the claim requires a path that only root can create
            let contains_opsctl = || paths(own).any(|path| path.split('/').any(|p| p == part));
            (part.ends_with(".service") || container(part).is_some()) && !contains_opsctl()
        }
    };
    let is_named = path.split('/').any(|part| container(part).as_deref() == Some(id));
    let in_own_part = || path.split('/').any(|part| of_user(part).is_some_and(|uid| uid.is_some() && uid == engine.uid));
    is_named && !outer.any(delegated) && (!engine.is_foreign() || in_own_part())
}

/// Start time of a process, to the second.
pub(super) fn started_at(io: &Io, pid: i32) -> Option<Timestamp> {
    let (_, ticks) = parent_and_start(&io.read_lossy(format!("/proc/{pid}/stat")).ok()?)?;
    let after = SignedDuration::from_secs(i64::try_from(ticks / host::clock_ticks()).ok()?);
    clock::boot_time().checked_add(after).ok()
}

/// Whether the process is in another PID namespace and was started when the engine started the container: for engines that
/// create no control groups.
fn started_in_other_namespace(io: &Io, claim: &Claim) -> bool {
    let namespace = |of: &str| io.read_link(format!("/proc/{of}/ns/pid")).ok();
    let (Some(claimed), Some(own)) = (namespace(&claim.pid.to_string()), namespace("self")) else { return false };
    let started = started_at(io, claim.pid);
    let near = |(a, b): (Timestamp, Timestamp)| a.duration_since(b).abs() <= MAX_START_DIFFERENCE;
    claimed != own && started.zip(claim.started_at).is_some_and(near)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const HERE: Listener = Listener { pid: Some(1), uid: Some(0), is_here: true, foreign_socket: false };
    const REMOTE: Listener = Listener { pid: None, uid: None, is_here: false, foreign_socket: false };

    fn id() -> String {
        "0123456789abcdef".repeat(4)
    }

    #[test]
    fn container_control_group_proves_process() {
        let id = id();
        for path in [
            format!("/docker/{id}"),
            format!("/system.slice/docker-{id}.scope"),
            format!("/system.slice/docker-{id}.scope (deleted)"),
            format!("/machine.slice/libpod-{id}.scope/container"),
            format!("/docker/{id}/init.scope"),
            format!("/../../docker-{id}.scope"),
        ] {
            assert!(names_container(&path, &id, HERE, "") && names_container(&path, &id, REMOTE, ""), "{path}");
        }
        for path in ["/", "/system.slice/docker.service", &format!("/docker/{}", "f".repeat(64))] {
            assert!(!names_container(path, &id, HERE, ""), "{path}");
        }
    }

    #[test]
    fn delegated_control_group_proves_only_its_users_engine() {
        let id = id();
        let path = format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope/container");
        let rootless = |uid| Listener { uid: Some(uid), ..HERE };
        assert!(names_container(&path, &id, rootless(1000), ""));
        for other in [HERE, rootless(1001), REMOTE] {
            assert!(!names_container(&path, &id, other, ""), "{other:?}");
        }
    }

    #[test]
    fn engine_of_another_user_does_not_prove_a_system_container() {
        let (id, uid) = (id(), rustix::process::geteuid().as_raw() + 4242);
        let foreign = Listener { uid: Some(uid), ..HERE };
        assert!(foreign.is_foreign() && !HERE.is_foreign() && !REMOTE.is_foreign());
        assert!(!names_container(&format!("/system.slice/docker-{id}.scope"), &id, foreign, ""));
        let own = format!("/user.slice/user-{uid}.slice/user@{uid}.service/user.slice/libpod-{id}.scope/container");
        assert!(names_container(&own, &id, foreign, ""));
        for socket in [Some(uid), None] {
            let foreign = Listener::of_socket(socket);
            assert!(!names_container(&format!("/system.slice/docker-{id}.scope"), &id, foreign, ""), "{socket:?}");
        }
    }

    #[test]
    fn nested_control_group_does_not_prove_remote_engine() {
        let (id, other) = (id(), "f".repeat(64));
        let nested = format!("/docker/{other}/docker-{id}.scope");
        assert!(!names_container(&nested, &id, REMOTE, ""));
        assert!(!names_container(&format!("/system.slice/app.service/docker-{id}.scope"), &id, REMOTE, ""));
        // an engine next to opsctl in a container
        assert!(names_container(&nested, &id, REMOTE, &format!("0::/docker/{other}\n")));
    }

    #[test]
    fn own_process_is_not_a_container() {
        let io = Io::for_test();
        let pid = i32::try_from(std::process::id()).unwrap();
        let claim = |pid| Claim { id: id(), pid, started_at: Some(clock::now()) };
        assert_eq!(prove(&io, &claim(pid), HERE), Proof::Unproven);
        assert_eq!(prove(&io, &claim(i32::MAX), HERE), Proof::Missing);
        assert!(exists(pid) && exists(1) && !exists(i32::MAX) && !exists(0));
        assert!(is_in_own_namespace(&io, pid) && !is_in_own_namespace(&io, i32::MAX));
    }
}
