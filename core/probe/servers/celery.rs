//! Celery processes: identified by their command lines, assigned to a broker by their connections.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::CeleryRole as Role;
use crate::model::address::Address;
use crate::probe::io::{Root, clock};
use crate::probe::kernel::tasks;
use crate::probe::proc::home::Home;
use crate::probe::proc::owner::{Origin, of_origin};
use crate::probe::proc::table;
use crate::probe::product::celery_command;
use crate::probe::servers::celery_schedule::schedule_age;
use crate::probe::servers::connections_of;
use crate::probe::{Io, ProbeCx, ProbeError, blocking};

/// Time limit of a scan.
const SCAN_TIMEOUT: Duration = Duration::from_secs(2);

/// A main process of Celery; its child processes, which run the tasks, are only counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks since boot.
    pub start_ticks: u64,
    /// Worker, beat, or both.
    pub role: Role,
    /// `-A`: the application.
    pub app: Option<String>,
    /// `-Q`: the queues it consumes; empty for the default queue.
    pub queues: Vec<String>,
    /// State: `T` is stopped by a signal.
    pub state: char,
    /// Number of child processes.
    pub children: usize,
    /// The container or unit it runs in.
    pub home: Home,
    /// Its established TCP connections.
    pub connections: Vec<Connection>,
    /// Its broker without credentials, if its arguments or its environment name one: `redis://cache:6379/1`.
    #[serde(default)]
    pub broker: Option<String>,
    /// `-S`: the scheduler of a beat; `None` without the option.
    #[serde(default)]
    pub scheduler: Option<String>,
    /// Versions of Celery and kombu, if known.
    pub versions: Option<String>,
    /// Seconds since beat last wrote its schedule; `None` if it writes none while it runs.
    pub schedule_age_s: Option<u64>,
}

/// An established TCP connection, as seen by the kernel of its process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Local address.
    pub local: SocketAddr,
    /// Peer address.
    pub remote: SocketAddr,
    /// Bytes sent that the peer has not acknowledged.
    pub unacknowledged: u64,
    /// Number of retransmissions of the oldest of them.
    pub retransmits: u32,
    /// Unacknowledged and not decreasing in two samples half a second apart: packets dropped by the local firewall on egress are
    /// not counted as retransmissions.
    #[serde(default)]
    pub lasting: bool,
}

impl Connection {
    /// Sent data stays unacknowledged, not only momentarily: the peer is unreachable. A single retransmission is normal.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.unacknowledged > 0 && (self.retransmits >= 2 || self.lasting)
    }
}

/// All Celery workers and beats on this host, including those in containers.
pub async fn processes(cx: &ProbeCx) -> Result<Vec<Process>, ProbeError> {
    let table = cx.processes().await?;
    // setproctitle makes it `[celeryd: celer`
    let named = |comm: &str| comm.starts_with("python") || comm.contains("celery") || comm.starts_with("pypy");
    let candidates: Vec<table::Process> = table.iter().filter(|p| named(&p.comm)).cloned().collect();
    let arguments = table.command_lines(candidates.iter().map(|p| p.pid)).await;
    let read = blocking::run("processes", "/proc", SCAN_TIMEOUT, move |io| {
        let of = |p: table::Process| celery(io, &p, arguments.get(&p.pid)?);
        let mut all: Vec<(Process, i32)> = candidates.into_iter().filter_map(of).collect();
        let children: Vec<i32> = all.iter().map(|(_, parent)| *parent).collect();
        let mains: Vec<i32> = all.iter().map(|(p, _)| p.pid).collect();
        // a child process has the command line of its parent
        all.retain(|(_, parent)| !mains.contains(parent));
        let mut found: Vec<Process> = all.into_iter().map(|(p, _)| p).collect();
        for p in &mut found {
            p.children = children.iter().filter(|parent| **parent == p.pid).count();
            p.connections = connections_of(io, p.pid);
            let line = arguments.get(&p.pid).map_or("", String::as_str);
            p.versions = versions(io, p.pid, line);
            p.broker = option(line, &["-b", "--broker"]).map(|url| without_credentials(&url)).or_else(|| broker(io, p.pid));
            if p.role.beats() {
                // `-S` of a worker is its state file
                let spellings: &[&str] = if p.role == Role::Beat { &["-S", "--scheduler"] } else { &["--scheduler"] };
                p.scheduler = option(line, spellings);
                let age = clock::since_boot().as_secs().saturating_sub(i64::try_from(tasks::seconds(p.start_ticks)).unwrap_or(0));
                p.schedule_age_s = schedule_age(io, p.pid, line, p.scheduler.as_deref(), u64::try_from(age).unwrap_or(0));
            }
        }
        found
    });
    let mut found = read.await?;
    for p in &mut found {
        p.home = cx.proven_home(p.pid, std::mem::take(&mut p.home)).await;
    }
    // outside of containers and units the command line of a regular user proves nothing
    let outside = found.iter().filter(|p| p.home == Home::Host).map(|p| p.pid).collect();
    let users = of_origin(outside, &[Origin::User]).await;
    found.retain(|p| !users.contains(&p.pid));
    Ok(found)
}

/// The established TCP connections of a process; empty also if they are not readable by this user.
pub async fn connections(pid: i32) -> Vec<Connection> {
    blocking::run("connections", "/proc", SCAN_TIMEOUT, move |io| connections_of(io, pid)).await.unwrap_or_default()
}

fn celery(io: &Io, p: &table::Process, line: &str) -> Option<(Process, i32)> {
    let (role, app, queues) = celery_command(line)?;
    let (pid, start_ticks, state, parent) = (p.pid, p.start_ticks, p.state, p.parent);
    let home = io.read_lossy(format!("/proc/{pid}/cgroup")).map(|t| Home::of_cgroups(&t)).unwrap_or_default();
    let process = Process {
        pid,
        start_ticks,
        role,
        app,
        queues,
        state,
        children: 0,
        home,
        connections: Vec::new(),
        broker: None,
        scheduler: None,
        versions: None,
        schedule_age_s: None,
    };
    Some((process, parent))
}

/// The directory names of installed packages contain their versions: `celery-5.5.3.dist-info`.
fn versions(io: &Io, pid: i32, line: &str) -> Option<String> {
    let environ = io.read_lossy(format!("/proc/{pid}/environ")).unwrap_or_default();
    let virtual_env = environ.split('\0').find_map(|e| e.strip_prefix("VIRTUAL_ENV=")).map(str::to_owned);
    let program = line.split('\0').next()?;
    let beside = program.rsplit_once("/bin/").map(|(prefix, _)| prefix.to_owned());
    let prefixes = [virtual_env, beside, Some("/usr/local".to_owned()), Some("/usr".to_owned())];
    let root = Root::of(io, pid).ok()?;
    prefixes.into_iter().flatten().find_map(|prefix| {
        let lib = format!("{prefix}/lib");
        root.names(lib.as_ref()).into_iter().filter(|name| name.starts_with("python")).find_map(|python| {
            ["site-packages", "dist-packages"].iter().find_map(|packages| {
                let names = root.names(format!("{lib}/{python}/{packages}").as_ref());
                let version = |package: &str| {
                    names
                        .iter()
                        .find_map(|n| n.strip_prefix(package)?.strip_prefix('-')?.strip_suffix(".dist-info").map(str::to_owned))
                };
                Some(format!("celery {}, kombu {}", version("celery")?, version("kombu")?))
            })
        })
    })
}

/// The broker in the environment of a process. beat connects only when a task is due: until then its environment is the only
/// source.
fn broker(io: &Io, pid: i32) -> Option<String> {
    let environ = io.read_lossy(format!("/proc/{pid}/environ")).ok()?;
    environ
        .split('\0')
        .filter_map(|e| e.split_once('='))
        .find(|(name, _)| name.ends_with("BROKER_URL"))
        .map(|(_, url)| without_credentials(url))
}

/// `redis://user:secret@cache:6379/1` becomes `redis://cache:6379/1`.
pub(in crate::probe) fn without_credentials(url: &str) -> String {
    let address = Address::parse(url);
    // the query string may contain a secret, too
    let path = address.path();
    format!("{}://{}/{}", address.scheme.unwrap_or_default(), address.authority, path.strip_prefix('/').unwrap_or(path))
}

/// The value of an option in arguments that are separated by NUL: `-s FILE`, `--schedule FILE`, `--schedule=FILE`.
pub(super) fn option(line: &str, names: &[&str]) -> Option<String> {
    let words: Vec<&str> = line.split('\0').collect();
    words.iter().enumerate().find_map(|(at, word)| {
        if names.contains(word) {
            return words.get(at + 1).filter(|value| !value.is_empty()).map(|value| (*value).to_owned());
        }
        let (name, value) = word.split_once('=')?;
        names.contains(&name).then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_and_beats_are_identified_by_command_line() {
        let of = |line: &str| celery_command(&line.replace(' ', "\0"));
        assert_eq!(
            of("/venv/bin/python /venv/bin/celery -A proj worker -Q mail,media -c 4"),
            Some((Role::Worker, Some("proj".into()), vec!["mail".into(), "media".into()]))
        );
        assert_eq!(of("python -m celery --app=proj beat"), Some((Role::Beat, Some("proj".into()), vec![])));
        assert_eq!(of("celery -A proj worker -B").map(|(r, ..)| r), Some(Role::WorkerWithBeat));
        assert_eq!(
            celery_command("[celeryd: celery@host:MainProcess] -active- (worker -A proj)").map(|(r, ..)| r),
            Some(Role::Worker)
        );
        for other in ["python manage.py runserver", "celery -A proj flower", "python worker.py", "grep celery worker.log"] {
            assert_eq!(of(other).filter(|_| !other.starts_with("grep")), None, "{other}");
        }
    }

    #[test]
    fn options_in_both_forms() {
        let line = "celery\0-A\0proj\0-b\0redis://h/1\0beat\0--scheduler=redbeat.RedBeatScheduler\0-s\0";
        assert_eq!(option(line, &["-b", "--broker"]).as_deref(), Some("redis://h/1"));
        assert_eq!(option(line, &["-S", "--scheduler"]).as_deref(), Some("redbeat.RedBeatScheduler"));
        assert_eq!((option(line, &["-s", "--schedule"]), option(line, &["-Q"])), (None, None));
    }

    #[test]
    fn broker_url_is_stored_without_credentials() {
        assert_eq!(without_credentials("redis://:canary@cache:6379/1?password=canary"), "redis://cache:6379/1");
        assert_eq!(without_credentials("amqp://guest:can@ary@rabbit//"), "amqp://rabbit//");
    }

    #[test]
    fn broker_url_without_path_is_stored_without_credentials() {
        assert_eq!(without_credentials("redis://cache:6379?password=canary"), "redis://cache:6379/");
        assert_eq!(without_credentials("redis://:can#a?ry@[::1]"), "redis://[::1]/");
    }
}
