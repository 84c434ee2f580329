//! Limits that all processes of a user share, in containers and outside: inotify instances and watches (inotify(7)), and processes
//! (`RLIMIT_NPROC`, getrlimit(2)).

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::probe::io::rights::parse_ids;
use crate::probe::kernel::host;
use crate::probe::proc::home::Home;
use crate::probe::proc::owner::ordinary_user;
use crate::probe::proc::process;
use crate::probe::{Io, ProbeError, blocking};

/// Time limit of a scan; the processes that are left are counted as unread.
const SCAN_TIME: Duration = Duration::from_millis(1500);

/// Time limit of the scan with the files of one process, which are not interrupted.
const SCAN_TIMEOUT: Duration = Duration::from_secs(4);

/// Processes named per user.
const MAX_HOLDERS: usize = 3;

/// `CAP_SYS_ADMIN` and `CAP_SYS_RESOURCE`, with which `RLIMIT_NPROC` does not apply (clone(2), `EAGAIN`).
const EXEMPT: u64 = (1 << 21) | (1 << 24);

/// A process with inotify instances.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InotifyHolder {
    /// Process id.
    pub pid: i32,
    /// Command name.
    pub comm: String,
    /// The container or unit it belongs to.
    pub home: Home,
    /// Its instances.
    pub instances: u64,
    /// Watches of these.
    pub watches: u64,
}

/// Inotify instances and watches of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InotifyUse {
    /// User id.
    pub uid: u32,
    /// Instances.
    pub instances: u64,
    /// Watches.
    pub watches: u64,
    /// The processes with the most instances, then those with the most watches.
    pub holders: Vec<InotifyHolder>,
    /// All of them are processes of an ordinary user of this host, and not of a container.
    pub ordinary: bool,
}

/// A process with a limit on the processes of its user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessLimit {
    /// User id.
    pub uid: u32,
    /// Processes and threads of the user.
    pub tasks: u64,
    /// The soft limit of this process.
    pub limit: u64,
    /// Process id.
    pub pid: i32,
    /// Command name.
    pub comm: String,
    /// The container or unit it belongs to.
    pub home: Home,
    /// The ordinary user of this host that it belongs to: it can choose its limit itself.
    pub user: Option<String>,
}

/// Use of the limits that processes of a user share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UserLimits {
    /// `fs.inotify.max_user_instances`; `None` if the kernel has no inotify.
    pub max_instances: Option<u64>,
    /// `fs.inotify.max_user_watches`.
    pub max_watches: Option<u64>,
    /// Inotify instances and watches per user, largest first.
    pub inotify: Vec<InotifyUse>,
    /// Processes with a limit that the processes of their user use to the given percentage: of each user the lowest limit.
    pub processes: Vec<ProcessLimit>,
    /// Processes that were not read in time.
    pub unread: usize,
}

/// The shared limits of all users, and the processes of users with more than `percent` of their `RLIMIT_NPROC`.
pub async fn user_limits(percent: f64) -> Result<UserLimits, ProbeError> {
    if !host::is_root() {
        return Err(ProbeError::Denied {
            subject: "inotify instances of all users".into(),
            from: "/proc/*/fd".into(),
            needs: crate::probe::needed_right().into(),
        });
    }
    blocking::run("limits of users", "/proc", SCAN_TIMEOUT, move |io| scan(io, percent)).await
}

/// One process, as far as it is needed.
struct Scanned {
    pid: i32,
    status: Status,
    /// Inotify instances: descriptor, watches, and a hash of its description.
    inotify: Vec<Instance>,
    /// Soft limit on the processes of its user, if it applies.
    limit: Option<u64>,
}

/// An inotify instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instance {
    descriptor: i32,
    watches: u64,
    hash: u64,
}

fn scan(io: &Io, percent: f64) -> UserLimits {
    let begun = Instant::now();
    let (mut all, mut unread) = (Vec::new(), 0);
    for pid in process::all(io).into_iter().flatten() {
        if begun.elapsed() > SCAN_TIME {
            unread += 1;
            continue;
        }
        let status = io.read_lossy(format!("/proc/{pid}/status")).ok();
        let Some(status) = status.as_deref().and_then(parse_status) else { continue };
        let applies = status.real != 0 && status.capabilities & EXEMPT == 0;
        let limits = || io.read_lossy(format!("/proc/{pid}/limits")).unwrap_or_default();
        let limit = applies.then(limits).and_then(|text| process_limit(&text));
        all.push(Scanned { pid, status, inotify: instances(io, pid), limit });
    }
    let sysctl = |name: &str| -> Option<u64> { io.read_lossy(format!("/proc/sys/fs/inotify/{name}")).ok()?.trim().parse().ok() };
    UserLimits {
        max_instances: sysctl("max_user_instances"),
        max_watches: sysctl("max_user_watches"),
        inotify: inotify_by_user(io, &all),
        processes: full_limits(io, &all, percent),
        unread,
    }
}

/// The inotify instances of a process.
fn instances(io: &Io, pid: i32) -> Vec<Instance> {
    let descriptors = io.read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let is_inotify = |fd: &std::fs::DirEntry| io.read_link(fd.path()).is_ok_and(|to| to == Path::new("anon_inode:inotify"));
    let instance = |fd: std::fs::DirEntry| {
        let descriptor: i32 = fd.file_name().to_str()?.parse().ok()?;
        let text = io.read_lossy(format!("/proc/{pid}/fdinfo/{descriptor}")).ok()?;
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Some(Instance { descriptor, watches: watches_in(&text), hash: hasher.finish() })
    };
    descriptors.filter(is_inotify).filter_map(instance).collect()
}

/// Instances and watches of each user. A child inherits the descriptors of its parent: the same description under the same
/// number is one instance. The kernel charges the user that created it, which is the effective one unless the process has
/// changed its user.
fn inotify_by_user(io: &Io, all: &[Scanned]) -> Vec<InotifyUse> {
    let by_pid: HashMap<i32, &Scanned> = all.iter().map(|p| (p.pid, p)).collect();
    let mut users: HashMap<u32, Vec<InotifyHolder>> = HashMap::new();
    for process in all {
        let parent = by_pid.get(&process.status.parent);
        let own = process.inotify.iter().filter(|i| parent.is_none_or(|parent| !parent.inotify.contains(i)));
        let (instances, watches) = own.fold((0_u64, 0_u64), |(n, watches), i| (n + 1, watches.saturating_add(i.watches)));
        if instances > 0 {
            let holder = InotifyHolder { pid: process.pid, instances, watches, ..InotifyHolder::default() };
            users.entry(process.status.effective).or_default().push(holder);
        }
    }
    let mut found: Vec<InotifyUse> = users.into_iter().map(|(uid, holders)| of_user(io, uid, holders)).collect();
    found.sort_by_key(|u| std::cmp::Reverse((u.instances, u.watches)));
    found
}

fn of_user(io: &Io, uid: u32, mut holders: Vec<InotifyHolder>) -> InotifyUse {
    let sum = |of: fn(&InotifyHolder) -> u64| holders.iter().map(of).fold(0, u64::saturating_add);
    let (instances, watches) = (sum(|h| h.instances), sum(|h| h.watches));
    holders.sort_by_key(|h| std::cmp::Reverse((h.instances, h.watches)));
    let mut named: Vec<InotifyHolder> = holders.drain(..holders.len().min(MAX_HOLDERS)).collect();
    // few instances can have most of the watches
    holders.sort_by_key(|h| std::cmp::Reverse(h.watches));
    named.extend(holders.into_iter().take(MAX_HOLDERS).filter(|h| h.watches.saturating_mul(10) > watches));
    for holder in &mut named {
        holder.comm = process::comm(io, holder.pid).unwrap_or_default();
        holder.home = home(io, holder.pid);
    }
    let is_ordinary = |h: &InotifyHolder| !matches!(h.home, Home::Container(_)) && ordinary_user(io, h.pid).is_some();
    let ordinary = named.iter().all(is_ordinary);
    InotifyUse { uid, instances, watches, holders: named, ordinary }
}

/// Of each user the lowest limit that is used to `percent`.
fn full_limits(io: &Io, all: &[Scanned], percent: f64) -> Vec<ProcessLimit> {
    let mut tasks: HashMap<u32, u64> = HashMap::new();
    for process in all {
        *tasks.entry(process.status.real).or_default() += process.status.threads;
    }
    let mut lowest: HashMap<u32, (u64, i32)> = HashMap::new();
    for (uid, limit, pid) in all.iter().filter_map(|p| Some((p.status.real, p.limit?, p.pid))) {
        let full = tasks.get(&uid).is_some_and(|n| *n as f64 * 100.0 >= limit as f64 * percent);
        if full && lowest.get(&uid).is_none_or(|(known, _)| limit < *known) {
            lowest.insert(uid, (limit, pid));
        }
    }
    let full = |(uid, (limit, pid)): (u32, (u64, i32))| {
        let home = home(io, pid);
        let user = if matches!(home, Home::Container(_)) { None } else { ordinary_user(io, pid) };
        let comm = process::comm(io, pid).unwrap_or_default();
        ProcessLimit { uid, tasks: tasks.get(&uid).copied().unwrap_or(0), limit, pid, comm, home, user }
    };
    let mut found: Vec<ProcessLimit> = lowest.into_iter().map(full).collect();
    // by the free part of the limit; a limit of 0 is full
    found.sort_by_key(|p| (p.limit.saturating_sub(p.tasks), p.uid));
    found
}

fn home(io: &Io, pid: i32) -> Home {
    Home::of_cgroups(&io.read_lossy(format!("/proc/{pid}/cgroup")).unwrap_or_default())
}

/// Fields of `/proc/PID/status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::probe) struct Status {
    parent: i32,
    real: u32,
    effective: u32,
    threads: u64,
    capabilities: u64,
}

pub(in crate::probe) fn parse_status(status: &str) -> Option<Status> {
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
    let ids = parse_ids(status)?;
    Some(Status {
        parent: field("PPid:")?.parse().ok()?,
        real: ids.real,
        effective: ids.effective,
        // emulated kernels leave it out
        threads: field("Threads:").and_then(|n| n.parse().ok()).unwrap_or(1),
        capabilities: field("CapEff:").and_then(|c| u64::from_str_radix(c, 16).ok()).unwrap_or(0),
    })
}

/// `inotify wd:1 ino:9e7e sdev:800013 mask:800afce ignored_mask:0 …`: one line per watch (`proc_pid_fdinfo(5)`).
pub(in crate::probe) fn watches_in(description: &str) -> u64 {
    description.lines().filter(|l| l.starts_with("inotify ")).count() as u64
}

/// `Max processes             31191                31191                processes`, or `None` if it is unlimited.
pub(in crate::probe) fn process_limit(limits: &str) -> Option<u64> {
    limits.lines().find_map(|l| l.strip_prefix("Max processes"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(pid: i32, parent: i32, uid: u32, threads: u64, inotify: &[(i32, u64, u64)], limit: Option<u64>) -> Scanned {
        let status = Status { parent, real: uid, effective: uid, threads, capabilities: 0 };
        let inotify = inotify.iter().map(|(descriptor, watches, hash)| Instance {
            descriptor: *descriptor,
            watches: *watches,
            hash: *hash,
        });
        Scanned { pid, status, inotify: inotify.collect(), limit }
    }

    #[test]
    fn inherited_instance_is_counted_once() {
        let all = [
            scanned(i32::MAX - 1, 1, 7, 1, &[(3, 10, 1), (4, 5, 2)], None),
            // forked, with one more of its own
            scanned(i32::MAX - 2, i32::MAX - 1, 7, 1, &[(3, 10, 1), (5, 1, 3)], None),
            scanned(i32::MAX - 3, 1, 8, 1, &[(3, 10, 1)], None),
            scanned(i32::MAX - 4, 1, 8, 1, &[], None),
        ];
        let found = inotify_by_user(&Io::for_test(), &all);
        let counts: Vec<_> = found.iter().map(|u| (u.uid, u.instances, u.watches, u.holders.len())).collect();
        assert_eq!(counts, [(7, 3, 16, 2), (8, 1, 10, 1)]);
    }

    #[test]
    fn lowest_limit_of_a_user_with_all_its_tasks() {
        let all = [
            scanned(i32::MAX - 1, 1, 7, 15, &[], Some(20)),
            scanned(i32::MAX - 2, 1, 7, 4, &[], Some(1000)),
            scanned(i32::MAX - 3, 1, 8, 4, &[], Some(20)),
            // exempt
            scanned(i32::MAX - 4, 1, 0, 900, &[], None),
        ];
        let found = full_limits(&Io::for_test(), &all, 90.0);
        assert_eq!(found.iter().map(|p| (p.uid, p.tasks, p.limit)).collect::<Vec<_>>(), [(7, 19, 20)]);
    }

    #[test]
    fn limits_of_this_process() {
        let io = Io::for_test();
        let status = io.read_lossy("/proc/self/status").ok().as_deref().and_then(parse_status);
        assert!(status.is_some_and(|s| s.threads > 0), "{status:?}");
        assert_eq!(
            process_limit("Limit  Soft\nMax processes             31191                31191                processes\n"),
            Some(31191)
        );
        assert_eq!(process_limit("Max processes             unlimited            unlimited            processes\n"), None);
        assert_eq!(watches_in("pos:\t0\nflags:\t00\ninotify wd:2 ino:1 sdev:1\ninotify wd:1 ino:2 sdev:1\n"), 2);
    }
}
