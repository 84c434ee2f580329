//! The process table: one scan of `/proc` per run.
//!
//! `/proc/PID/stat` never blocks, so the scan reads nothing else. `/proc/PID/cmdline` can block forever: it waits for the memory
//! map lock of the process, and for pages that the process can withhold with userfaultfd(2) or, before Linux 4.17, with a FUSE
//! file system (CVE-2018-1120). Arguments are therefore read once per process and run, on threads that are abandoned if a read
//! makes no progress. A process with blocking arguments affects only itself.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::probe::io::file::user_name;
use crate::probe::io::ids_of;
use crate::probe::proc::owner::{Origin, of_origin};
use crate::probe::proc::process;
use crate::probe::proc::process::state_in;
use crate::probe::{Io, Memo, ProbeError, blocking};

/// Time limit of a scan.
const SCAN_TIMEOUT: Duration = Duration::from_secs(2);

/// Time after which a thread that reads arguments exits, so that the next batch begins.
const BATCH_TIME: Duration = Duration::from_millis(50);

/// Time limit of a thread that reads arguments: a single read of 300 ms counts as hung.
const BATCH_TIMEOUT: Duration = Duration::from_millis(350);

/// Time limit of all arguments of one source: limits the sum of slow reads that do not count as hung.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(1);

/// Processes with hung arguments after which the other processes of the same source are skipped.
const MAX_HUNG_PER_SOURCE: usize = 2;

/// Size limit of the arguments of one process, in bytes; the rest is truncated.
const MAX_ARGUMENTS_BYTES: u64 = 32 << 10;

/// Size limit of the arguments of one source, in bytes, after which its other processes are skipped.
const MAX_SOURCE_BYTES: usize = 8 << 20;

/// Maximum number of processes per batch.
const MAX_BATCH: usize = 256;

/// Time limit for reading all descriptors.
const DESCRIPTORS_TIME: Duration = Duration::from_secs(1);

/// Limit of descriptors read per process. Listening sockets are opened early and have low numbers.
const MAX_DESCRIPTORS: usize = 10_000;

/// A process at the time of the scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Process id of the parent; 0 for init and `kthreadd`.
    pub parent: i32,
    /// Start time in clock ticks since boot.
    pub start_ticks: u64,
    /// State: `R`, `S`, `D`, `T`, `Z`, …
    pub state: char,
    /// Name, at most 15 characters (`comm` in proc(5)). A process can set it.
    pub comm: String,
}

/// All processes of this host at the time of the scan, including those in containers.
#[derive(Debug)]
pub struct ProcessTable {
    processes: BTreeMap<i32, Process>,
    /// Arguments read so far. The lock is held while reading, so that a second reader waits instead of hanging on the same
    /// process.
    arguments: tokio::sync::Mutex<HashMap<i32, Arguments>>,
    /// Unreadable information, with the reason.
    gaps: Mutex<Vec<String>>,
    /// Processes by socket inode.
    holders: Memo<(), Result<Arc<HashMap<u64, i32>>, ProbeError>>,
}

/// The arguments of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Arguments {
    /// Separated by NUL.
    Line(String),
    /// The process has exited, or its arguments are not readable by this user.
    None,
    /// Reading them timed out.
    Hung,
    /// Skipped because other processes of the same source hang.
    Skipped,
}

/// The process table of a run, scanned at first use.
#[derive(Debug, Default)]
pub struct SharedProcessTable(Memo<(), Result<Arc<ProcessTable>, ProbeError>>);

impl SharedProcessTable {
    /// A shared table with the result of an existing scan.
    #[must_use]
    pub fn of(table: Arc<ProcessTable>) -> Self {
        Self(Memo::holding((), Ok(table)))
    }

    /// The table; the same instance for every caller.
    pub async fn get(&self) -> Result<Arc<ProcessTable>, ProbeError> {
        self.0.get((), || async { ProcessTable::read().await.map(Arc::new) }).await
    }
}

impl ProcessTable {
    /// Scans the current processes.
    pub async fn read() -> Result<Self, ProbeError> {
        let scan = |io: &Io| {
            let table = Self::scan(io).map_err(|e| ProbeError::io("processes", "/proc", &e))?;
            table.gaps.lock().unwrap_or_else(PoisonError::into_inner).extend(hidden_processes(io));
            Ok(table)
        };
        blocking::run("processes", "/proc", SCAN_TIMEOUT, scan).await?
    }

    /// One scan of `/proc`. Processes that exit meanwhile are omitted, as are those that the mount options hide.
    pub fn scan(io: &Io) -> std::io::Result<Self> {
        let process = |pid: i32| parse(&io.read_lossy(format!("/proc/{pid}/stat")).ok()?);
        Ok(Self::of(process::all(io)?.filter_map(process)))
    }

    pub(in crate::probe) fn of(processes: impl Iterator<Item = Process>) -> Self {
        Self {
            processes: processes.map(|p| (p.pid, p)).collect(),
            arguments: tokio::sync::Mutex::default(),
            gaps: Mutex::default(),
            holders: Memo::default(),
        }
    }

    /// All processes, by ascending process id.
    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        self.processes.values()
    }

    /// The process with this id, if it existed at the scan.
    #[must_use]
    pub fn get(&self, pid: i32) -> Option<&Process> {
        self.processes.get(&pid)
    }

    /// Processes with one of these names.
    pub fn named<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = &'a Process> {
        self.iter().filter(move |p| names.contains(&p.comm.as_str()))
    }

    /// Processes with one of these names that root or a system account started outside of containers: a regular user can give any name
    /// to a process.
    pub async fn services<'a>(&'a self, names: &'a [&str]) -> Vec<&'a Process> {
        let system = of_origin(self.named(names).map(|p| p.pid).collect(), &[Origin::System]).await;
        self.named(names).filter(|p| system.contains(&p.pid)).collect()
    }

    /// The command lines of these processes, separated by NUL, or their titles if they set one. Each process is read once per
    /// table. Processes that have exited, are not readable by this user, or hang are absent: see
    /// [`gaps`](Self::gaps).
    pub async fn command_lines(&self, pids: impl IntoIterator<Item = i32>) -> HashMap<i32, String> {
        let requested: Vec<&Process> = pids.into_iter().filter_map(|pid| self.processes.get(&pid)).collect();
        let mut known = self.arguments.lock().await;
        let mut unread: Vec<Process> = requested.iter().filter(|p| !known.contains_key(&p.pid)).map(|p| (*p).clone()).collect();
        unread.dedup();
        if !unread.is_empty() {
            let sources = by_source(unread).await;
            let read = join_all(sources.into_iter().map(|(source, processes)| read_source(source, processes, arguments))).await;
            for (arguments, gaps) in read {
                known.extend(arguments);
                self.gaps.lock().unwrap_or_else(PoisonError::into_inner).extend(gaps);
            }
        }
        let line = |p: &&Process| match known.get(&p.pid) {
            Some(Arguments::Line(line)) => Some((p.pid, line.clone())),
            _ => None,
        };
        requested.iter().filter_map(line).collect()
    }

    /// The arguments of one process: see [`command_lines`](Self::command_lines).
    pub async fn command_line(&self, pid: i32) -> Option<String> {
        self.command_lines([pid]).await.remove(&pid)
    }

    /// Messages about processes with unreadable arguments.
    #[must_use]
    pub fn gaps(&self) -> Vec<String> {
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The processes that own sockets, by inode; if several share one, the one with the lowest process id. Read once per table.
    pub async fn socket_holders(&self) -> Result<Arc<HashMap<u64, i32>>, ProbeError> {
        self.holders.get((), || self.read_holders()).await
    }

    async fn read_holders(&self) -> Result<Arc<HashMap<u64, i32>>, ProbeError> {
        let pids: Vec<i32> = self.processes.keys().copied().collect();
        let read = move |io: &Io| {
            let begun = Instant::now();
            let mut holders = HashMap::new();
            for pid in pids.into_iter().take_while(|_| begun.elapsed() < DESCRIPTORS_TIME) {
                for inode in process::sockets_among(io, pid, MAX_DESCRIPTORS).into_iter().flatten() {
                    holders.entry(inode).or_insert(pid);
                }
            }
            Arc::new(holders)
        };
        blocking::run("open sockets", "/proc", SCAN_TIMEOUT, read).await
    }
}

/// The gap for processes that the mount options of `/proc` hide from this user (`hidepid`, proc(5)). Every PID namespace has a first
/// process, and its `stat` is readable by every user otherwise.
fn hidden_processes(io: &Io) -> Option<String> {
    let needs = crate::probe::needed_right();
    let gap = || format!("reading processes of other users from /proc (mounted with hidepid): permission denied; needs {needs}");
    io.read_lossy("/proc/1/stat").is_err().then(gap)
}

/// Parses a line of `/proc/PID/stat`. The name in parentheses may contain any characters, including parentheses.
pub(in crate::probe) fn parse(stat: &str) -> Option<Process> {
    let (head, rest) = stat.rsplit_once(')')?;
    let (pid, comm) = head.split_once('(')?;
    let mut fields = rest.split_ascii_whitespace().skip(1);
    let parent = fields.next()?.parse().ok()?;
    let start_ticks = fields.nth(17)?.parse().ok()?;
    Some(Process { pid: pid.trim().parse().ok()?, parent, start_ticks, state: state_in(stat)?, comm: comm.to_owned() })
}

/// Groups processes by the source that a hung read is charged to.
async fn by_source(processes: Vec<Process>) -> BTreeMap<String, Vec<Process>> {
    let all = processes.clone();
    let read = move |io: &Io| {
        let mut sources: BTreeMap<String, Vec<Process>> = BTreeMap::new();
        for process in processes {
            sources.entry(source_of(io, process.pid)).or_default().push(process);
        }
        sources
    };
    // these reads do not block; after a timeout all processes count as one source
    let sources = blocking::run("control groups", "/proc", SCAN_TIMEOUT, read).await;
    sources.unwrap_or_else(|_| BTreeMap::from([("processes".to_owned(), all)]))
}

/// The part of the control group path that a user or a container cannot choose (`user.slice/user-1000.slice`, `docker/ID`,
/// `system.slice/cron.service`), or the user if there is none. The user alone is not sufficient: root in a container can use many
/// user ids, and shares them with other containers.
fn source_of(io: &Io, pid: i32) -> String {
    let cgroups = io.read_lossy(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let user = || ids_of(io, pid).map_or_else(|_| "processes".to_owned(), |ids| format!("user {}", user_name(io, ids.real)));
    source_in(&cgroups).unwrap_or_else(user)
}

pub(in crate::probe) fn source_in(cgroups: &str) -> Option<String> {
    let path = |hierarchy: &str| cgroups.lines().find_map(|l| l.split_once(':')?.1.strip_prefix(hierarchy));
    // hybrid hosts have the paths in the hierarchy of systemd
    let path = [path("name=systemd:"), path(":")].into_iter().flatten().find(|p| p.len() > 1)?;
    // pods are three levels deep: quality of service, pod, container
    let depth = if path.trim_start_matches('/').starts_with("kubepods") { 3 } else { 2 };
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).take(depth).collect();
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// Progress of a thread that reads arguments.
#[derive(Default)]
struct Progress {
    started: bool,
    done: Vec<(i32, Arguments)>,
}

/// Reads the arguments of the processes of one source; returns them with messages about unreadable ones.
async fn read_source(
    source: String,
    processes: Vec<Process>,
    arguments: fn(&Io, &Process) -> Arguments,
) -> (HashMap<i32, Arguments>, Vec<String>) {
    let begun = Instant::now();
    let (mut read, mut hung, mut at, mut bytes) = (HashMap::new(), Vec::new(), 0, 0);
    while at < processes.len() && hung.len() < MAX_HUNG_PER_SOURCE && bytes < MAX_SOURCE_BYTES && begun.elapsed() < SOURCE_TIMEOUT
    {
        let progress = Arc::new(Mutex::new(Progress::default()));
        let batch: Vec<Process> = processes[at..].iter().take(MAX_BATCH).cloned().collect();
        let published = progress.clone();
        let ended = blocking::run_charged(&source, "the arguments of processes", &source, BATCH_TIMEOUT, move |io| {
            let progress = || published.lock().unwrap_or_else(PoisonError::into_inner);
            progress().started = true;
            let begun = Instant::now();
            for process in batch {
                let arguments = arguments(io, &process);
                progress().done.push((process.pid, arguments));
                if begun.elapsed() > BATCH_TIME {
                    break;
                }
            }
        });
        let ended = ended.await;
        let Progress { started, done } = std::mem::take(&mut *progress.lock().unwrap_or_else(PoisonError::into_inner));
        at += done.len();
        bytes += done.iter().map(|(_, a)| if let Arguments::Line(line) = a { line.len() } else { 0 }).sum::<usize>();
        read.extend(done);
        match ended {
            Ok(()) => {}
            // all threads are in use
            Err(ProbeError::Timeout { .. }) if !started => {}
            Err(ProbeError::Timeout { .. }) => {
                if let Some(process) = processes.get(at) {
                    read.insert(process.pid, Arguments::Hung);
                    hung.push(process.clone());
                    at += 1;
                }
            }
            Err(_) => break,
        }
    }
    let skipped = &processes[at..];
    read.extend(skipped.iter().map(|p| (p.pid, Arguments::Skipped)));
    let gaps = describe(&source, hung, skipped.len()).await;
    (read, gaps)
}

/// Messages about the unreadable processes of one source.
async fn describe(source: &str, hung: Vec<Process>, skipped: usize) -> Vec<String> {
    if hung.is_empty() && skipped == 0 {
        return Vec::new();
    }
    let unnamed: Vec<String> = hung.iter().map(|p| format!("process {} does not show its arguments", p.pid)).collect();
    let name = move |io: &Io| -> Vec<String> {
        let user = |pid| ids_of(io, pid).map_or_else(|_| "unknown".to_owned(), |ids| user_name(io, ids.real));
        hung.iter().map(|p| format!("process {} of user {} does not show its arguments", p.pid, user(p.pid))).collect()
    };
    let named = blocking::run("users", "/etc/passwd", SCAN_TIMEOUT, name).await;
    let mut gaps = named.unwrap_or(unnamed);
    if skipped > 0 {
        gaps.push(format!(
            "{skipped} processes in {source} were not examined: their arguments take too long to read or are too large"
        ));
    }
    gaps
}

fn arguments(io: &Io, process: &Process) -> Arguments {
    let read = || -> std::io::Result<String> {
        let mut bytes = Vec::new();
        io.open(format!("/proc/{}/cmdline", process.pid))?.take(MAX_ARGUMENTS_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let Ok(line) = read() else { return Arguments::None };
    // the pid may have been reused since the scan
    let now = io.read_lossy(format!("/proc/{}/stat", process.pid)).ok().and_then(|stat| parse(&stat));
    if now.is_some_and(|now| now.start_ticks == process.start_ticks) { Arguments::Line(line) } else { Arguments::None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;

    fn own_pid() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    #[test]
    fn stat_line_with_parentheses_in_the_name() {
        let stat = "812 (redis (x) R) S 1 812 812 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 5 0 777 1 2";
        let process = parse(stat).unwrap();
        assert_eq!((process.pid, process.parent, process.start_ticks, process.state), (812, 1, 777, 'S'));
        assert_eq!(process.comm, "redis (x) R");
        assert_eq!(parse("812 (x"), None);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn own_process_in_the_table() {
        let table = ProcessTable::read().await.unwrap();
        let own = table.get(own_pid()).unwrap();
        assert!(own.parent > 0 && own.start_ticks > 0);
        let line = table.command_line(own_pid()).await.unwrap();
        assert_eq!(line.split('\0').next(), std::env::args().next().as_deref());
        assert_eq!(table.command_line(i32::MAX).await, None);
        assert!(table.gaps().is_empty());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn reused_process_id_has_no_arguments() {
        let own = ProcessTable::read().await.unwrap().get(own_pid()).unwrap().clone();
        let earlier = Process { start_ticks: own.start_ticks + 1, ..own };
        let table = ProcessTable::of(std::iter::once(earlier));
        assert_eq!(table.command_line(own_pid()).await, None);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn holder_of_a_listening_socket() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let inode = rustix::fs::fstat(&listener).unwrap().st_ino;
        let table = ProcessTable::read().await.unwrap();
        assert_eq!(table.socket_holders().await.unwrap().get(&inode), Some(&own_pid()));
    }

    /// A reader without I/O that hangs for processes with an odd id.
    fn hanging(_: &Io, process: &Process) -> Arguments {
        if process.pid % 2 == 1 {
            loop {
                std::thread::park();
            }
        }
        Arguments::Line(process.comm.clone())
    }

    fn processes(pids: impl Iterator<Item = i32>) -> Vec<Process> {
        pids.map(|pid| Process { pid, parent: 1, start_ticks: 1, state: 'S', comm: format!("p{pid}") }).collect()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn hung_arguments_affect_only_their_process() {
        let processes = processes([i32::MAX - 1, i32::MAX, i32::MAX - 3].into_iter());
        let (read, gaps) = read_source("test/one-hangs".to_owned(), processes, hanging).await;
        assert_eq!(read[&i32::MAX], Arguments::Hung);
        assert!(matches!((&read[&(i32::MAX - 1)], &read[&(i32::MAX - 3)]), (Arguments::Line(_), Arguments::Line(_))), "{read:?}");
        assert_eq!(gaps, [format!("process {} of user unknown does not show its arguments", i32::MAX)]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn source_with_many_hung_processes_is_skipped() {
        let begun = Instant::now();
        let processes = processes((0..100).map(|n| 2 * n + 1));
        let (read, gaps) = read_source("test/all-hang".to_owned(), processes, hanging).await;
        assert_eq!(read.values().filter(|a| **a == Arguments::Skipped).count(), 100 - MAX_HUNG_PER_SOURCE);
        assert_eq!((read.len(), gaps.len()), (100, MAX_HUNG_PER_SOURCE + 1));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    /// A reader without I/O that returns arguments of maximum size.
    fn large(_: &Io, _: &Process) -> Arguments {
        Arguments::Line("x".repeat(usize::try_from(MAX_ARGUMENTS_BYTES).unwrap()))
    }

    #[tokio::test(flavor = "current_thread")]
    async fn source_with_large_arguments_is_skipped() {
        let (read, gaps) = read_source("test/large".to_owned(), processes(1..=10_000), large).await;
        let kept = read.values().filter(|a| matches!(a, Arguments::Line(_))).count();
        assert!(read.len() == 10_000 && kept <= 2 * MAX_BATCH, "{kept}");
        assert_eq!(gaps.len(), 1);
    }

    #[test]
    fn source_is_the_part_that_a_user_cannot_choose() {
        let id = "f".repeat(64);
        let source = |text: &str| source_in(text).unwrap_or_default();
        assert_eq!(source("0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope\n"), "user.slice/user-1000.slice");
        assert_eq!(source(&format!("5:cpu:/docker/{id}/a\n1:name=systemd:/docker/{id}/b/c\n0::/\n")), format!("docker/{id}"));
        assert_eq!(source("0::/system.slice/nginx.service\n"), "system.slice/nginx.service");
        assert_eq!(source("0::/kubepods.slice/burstable/pod1/x/y\n"), "kubepods.slice/burstable/pod1");
        assert_eq!((source_in("0::/\n"), source_in("")), (None, None));
    }
}
