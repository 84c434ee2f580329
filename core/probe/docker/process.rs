//! Proof that the engine's number of a container's first process is that process on this host: the engine may be remote, or in another
//! process namespace than this program, and the number then means another process here, or one that a user made to have it.

use std::io::ErrorKind;

use jiff::{SignedDuration, Timestamp};

use crate::probe::home::Home;
use crate::probe::servers::parent_and_start;
use crate::probe::{Io, clock, host};

/// Difference between the engine's start time of a container and the kernel's of its process that is still the same start.
const MAX_START_DIFFERENCE: SignedDuration = SignedDuration::from_secs(60);

/// The process that listens on the engine's socket (`SO_PEERCRED`, unix(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Listener {
    /// Its number here; `None` where it is in a process namespace that is not below ours, or the engine is remote.
    pub pid: Option<i32>,
    /// Its user; `None` for a remote engine.
    pub uid: Option<u32>,
    /// It is in this process namespace: its numbers are ours.
    pub is_here: bool,
}

/// Whether `pid` is in this process namespace and no inner one (`NSpid:` in `/proc/PID/status`). Unlike `/proc/PID/ns` everyone may read
/// it.
pub(super) fn is_in_own_namespace(io: &Io, pid: i32) -> bool {
    let status = io.read_lossy(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|l| l.strip_prefix("NSpid:"));
    numbers.is_some_and(|n| n.split_whitespace().count() == 1)
}

/// The engine's claim.
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
    /// There is no such process.
    Missing,
    /// It is another process, or cannot be seen.
    Unproven,
}

/// Compares the claim with the kernel's view of the process.
pub(super) fn prove(io: &Io, claim: &Claim, engine: Listener) -> Proof {
    let groups = match io.read_lossy(format!("/proc/{}/cgroup", claim.pid)) {
        Ok(groups) => groups,
        // ESRCH: it ended after it was opened
        Err(e) if e.kind() == ErrorKind::NotFound || e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            return Proof::Missing;
        }
        Err(_) => return Proof::Unproven,
    };
    let own = io.read_lossy("/proc/self/cgroup").unwrap_or_default();
    let by_group = paths(&groups).any(|path| names_container(path, &claim.id, engine, &own));
    if by_group || (engine.is_here && started_in_other_namespace(io, claim)) { Proof::Proven } else { Proof::Unproven }
}

fn paths(cgroups: &str) -> impl Iterator<Item = &str> {
    cgroups.lines().filter_map(|l| l.splitn(3, ':').nth(2))
}

/// Whether a control group is that of the container. Users make groups of any name below those that are delegated to them: these count
/// only for an engine of that user.
fn names_container(path: &str, id: &str, engine: Listener, own: &str) -> bool {
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
            // the number was not given for this namespace: the claim needs a path that only root makes
            let around_us = || paths(own).any(|path| path.split('/').any(|p| p == part));
            (part.ends_with(".service") || container(part).is_some()) && !around_us()
        }
    };
    let is_named = path.split('/').any(|part| container(part).as_deref() == Some(id));
    is_named && !outer.any(delegated)
}

/// Whether it is in another process namespace than we are and was started when the engine started the container: for engines that make
/// no control groups.
fn started_in_other_namespace(io: &Io, claim: &Claim) -> bool {
    let namespace = |of: &str| io.read_link(format!("/proc/{of}/ns/pid")).ok();
    let (Some(theirs), Some(ours)) = (namespace(&claim.pid.to_string()), namespace("self")) else { return false };
    let stat = io.read_lossy(format!("/proc/{}/stat", claim.pid)).unwrap_or_default();
    let started = parent_and_start(&stat).and_then(|(_, ticks)| {
        let after = SignedDuration::from_secs(i64::try_from(ticks / host::clock_ticks()).ok()?);
        clock::boot_time().checked_add(after).ok()
    });
    let near = |(a, b): (Timestamp, Timestamp)| a.duration_since(b).abs() <= MAX_START_DIFFERENCE;
    theirs != ours && started.zip(claim.started_at).is_some_and(near)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const HERE: Listener = Listener { pid: Some(1), uid: Some(0), is_here: true };
    const REMOTE: Listener = Listener { pid: None, uid: None, is_here: false };

    fn id() -> String {
        "0123456789abcdef".repeat(4)
    }

    #[test]
    fn control_group_of_container_proves_its_process() {
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
    fn control_group_delegated_to_a_user_proves_only_that_users_engine() {
        let id = id();
        let path = format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope/container");
        let rootless = |uid| Listener { uid: Some(uid), ..HERE };
        assert!(names_container(&path, &id, rootless(1000), ""));
        for other in [HERE, rootless(1001), REMOTE] {
            assert!(!names_container(&path, &id, other, ""), "{other:?}");
        }
    }

    #[test]
    fn control_group_below_another_container_does_not_prove_a_remote_engines_process() {
        let (id, other) = (id(), "f".repeat(64));
        let nested = format!("/docker/{other}/docker-{id}.scope");
        assert!(!names_container(&nested, &id, REMOTE, ""));
        assert!(!names_container(&format!("/system.slice/app.service/docker-{id}.scope"), &id, REMOTE, ""));
        // an engine beside this program in a container
        assert!(names_container(&nested, &id, REMOTE, &format!("0::/docker/{other}\n")));
    }

    #[test]
    fn own_process_is_no_container() {
        let io = Io::for_test();
        let pid = i32::try_from(std::process::id()).unwrap();
        let claim = |pid| Claim { id: id(), pid, started_at: Some(clock::now()) };
        assert_eq!(prove(&io, &claim(pid), HERE), Proof::Unproven);
        assert_eq!(prove(&io, &claim(i32::MAX), HERE), Proof::Missing);
        assert!(is_in_own_namespace(&io, pid) && !is_in_own_namespace(&io, i32::MAX));
    }

    proptest::proptest! {
        #[test]
        fn any_path_is_survived(path in "(\\PC|/)*") {
            let _ = names_container(&path, &id(), REMOTE, &path);
        }
    }
}
