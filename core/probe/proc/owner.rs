//! The user of a process, and its namespaces.

use std::collections::HashSet;
use std::time::Duration;

use crate::probe::io::accounts::name_of;
use crate::probe::io::{Root, ids_of};
use crate::probe::{Io, blocking};

/// Timeout of reads of `/proc`.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// First uid of regular users (login.defs(5), `UID_MIN`).
pub(in crate::probe) const FIRST_REGULAR_UID: u32 = 1000;

/// Users that systemd creates while a service with `DynamicUser=` runs (systemd.exec(5)).
const DYNAMIC_UIDS: std::ops::RangeInclusive<u32> = 61184..=65519;

/// Whether `uid` is a regular user, or a subordinate id of one, and not a system account.
pub(in crate::probe) fn is_regular(uid: u32) -> bool {
    uid >= FIRST_REGULAR_UID && !DYNAMIC_UIDS.contains(&uid)
}

/// Whether `pid` is in another namespace of this kind; false if that cannot be read.
pub(in crate::probe) fn in_other_namespace(io: &Io, pid: i32, kind: &str) -> bool {
    let of = |pid: &str| io.read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    matches!((of(&pid.to_string()), of("self")), (Some(its), Some(own)) if its != own)
}

/// The id of `uid` inside the user namespace of `pid` (`uid_map`, see `user_namespaces(7)`).
pub(in crate::probe) fn inner_id(io: &Io, pid: i32, uid: u32) -> Option<u32> {
    let map = io.read_lossy(format!("/proc/{pid}/uid_map")).ok()?;
    map_inside(&map, uid)
}

pub(in crate::probe) fn map_inside(map: &str, uid: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let fields: Vec<u32> = line.split_whitespace().filter_map(|w| w.parse().ok()).collect();
        let [inside, outside, count] = fields[..] else { return None };
        let at = uid.checked_sub(outside).filter(|at| *at < count)?;
        inside.checked_add(at)
    })
}

/// `uid:gid` of a process inside its user namespace, for the exec API of the engine.
pub(in crate::probe) fn inner_user(io: &Io, pid: i32) -> Option<String> {
    let status = io.read_lossy(format!("/proc/{pid}/status")).ok()?;
    let id =
        |key: &str| -> Option<u32> { status.lines().find_map(|l| l.strip_prefix(key))?.split_whitespace().nth(1)?.parse().ok() };
    let map = |file: &str| io.read_lossy(format!("/proc/{pid}/{file}")).ok();
    let uid = map_inside(&map("uid_map")?, id("Uid:")?)?;
    let gid = map_inside(&map("gid_map")?, id("Gid:")?)?;
    Some(format!("{uid}:{gid}"))
}

/// A user as displayed in messages: `user mallory (uid 1001)`.
pub(in crate::probe) fn user(io: &Io, uid: u32) -> String {
    let passwd = Root::own(io).and_then(|root| root.bytes("/etc/passwd", 1 << 20)).unwrap_or_default();
    name_of(&passwd, uid).map_or_else(|| format!("user {uid}"), |name| format!("user {name} (uid {uid})"))
}

/// The user of a process if it is a regular user, not a system account: `user mallory (uid 1001)`.
pub(in crate::probe) fn ordinary_user(io: &Io, pid: i32) -> Option<String> {
    let uid = ids_of(io, pid).ok()?.user()?;
    is_regular(uid).then(|| user(io, uid))
}

/// The starter of a process: its name and its arguments are free text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::probe) enum Origin {
    /// Root, a system account or the user that runs opsctl, in the PID namespace of this host.
    System,
    /// Another PID namespace: a container.
    Container,
    /// A regular user of this host.
    User,
}

/// The origin of a process; `None` if it no longer exists.
pub(in crate::probe) fn origin(io: &Io, pid: i32) -> Option<Origin> {
    // namespaces below the one of this procfs: opsctl may itself run in a container
    let status = io.read_lossy(format!("/proc/{pid}/status")).ok()?;
    let namespaces = status.lines().find_map(|l| l.strip_prefix("NSpid:")).map_or(1, |ids| ids.split_whitespace().count());
    if namespaces > 1 {
        return Some(Origin::Container);
    }
    let own = rustix::process::geteuid().as_raw();
    let uid = ids_of(io, pid).ok()?.user();
    Some(if uid.is_some_and(|uid| !is_regular(uid) || uid == own) { Origin::System } else { Origin::User })
}

/// The processes among `pids` with one of these origins.
pub(in crate::probe) async fn of_origin(pids: Vec<i32>, origins: &'static [Origin]) -> HashSet<i32> {
    let read = blocking::run("processes", "/proc", READ_TIMEOUT, move |io| {
        pids.into_iter().filter(|pid| origin(io, *pid).is_some_and(|o| origins.contains(&o))).collect()
    });
    read.await.unwrap_or_default()
}

/// Whether `uid` may serve a configured address of this host if the product is unknown: root, the user that runs opsctl, or a
/// system account.
pub(in crate::probe) fn may_serve_any(uid: u32) -> bool {
    !is_regular(uid) || uid == rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uid_map_of_a_user_namespace() {
        assert_eq!(map_inside("         0     100000      65536\n", 100_999), Some(999));
        assert_eq!(map_inside("0 0 4294967295\n", 7), Some(7));
        assert_eq!(map_inside("0 100000 10\n", 100_010), None);
    }
}
