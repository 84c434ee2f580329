//! The kernel log: the only record of an OOM kill after the container's cgroup was removed.

use std::io::{self, Read};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::probe::io::clock;
use crate::probe::{Io, Memo, ProbeError, blocking};

/// One line of the kernel log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelLine {
    /// Timestamp, converted from the monotonic clock of the log with the boot time.
    pub at: Timestamp,
    /// The message without prefix.
    pub text: String,
}

/// The kernel log, read at most once per run.
#[derive(Debug, Default)]
pub struct KernelLog {
    lines: Memo<(), Result<Arc<Vec<KernelLine>>, ProbeError>>,
    kills: Memo<(), Result<Arc<Vec<OomKill>>, ProbeError>>,
}

impl KernelLog {
    /// All lines of the ring buffer, oldest first.
    pub async fn lines(&self) -> Result<Arc<Vec<KernelLine>>, ProbeError> {
        self.lines
            .get((), || async { blocking::run("the kernel log", "/dev/kmsg", Duration::from_secs(1), read).await?.map(Arc::new) })
            .await
    }

    /// The OOM kills in it, oldest first.
    pub async fn oom_kills(&self) -> Result<Arc<Vec<OomKill>>, ProbeError> {
        self.kills.get((), || async { Ok(Arc::new(oom_kills(&self.lines().await?))) }).await
    }
}

/// Reads the whole ring buffer: one record per read(2), EAGAIN at the end, EPIPE when records were overwritten meanwhile
/// (Documentation/ABI/testing/dev-kmsg).
fn read(io: &Io) -> Result<Vec<KernelLine>, ProbeError> {
    let fail = |e: &io::Error| match e.kind() {
        // containers have no /dev/kmsg by default
        io::ErrorKind::NotFound => ProbeError::Skip("no kernel log: /dev/kmsg does not exist".to_owned()),
        _ => ProbeError::io("the kernel log", "/dev/kmsg", e),
    };
    let mut file = io.open("/dev/kmsg").map_err(|e| fail(&e))?;
    let boot = clock::boot_time();
    let (mut lines, mut records) = (Vec::new(), 0);
    // a record is at most 8 KiB (LOG_LINE_MAX with prefixes)
    let mut record = vec![0_u8; 8192];
    loop {
        match file.read(&mut record) {
            Ok(0) => break,
            Ok(n) => {
                records += 1;
                lines.extend(parse_record(&String::from_utf8_lossy(&record[..n]), boot));
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e)
                if e.kind() == io::ErrorKind::Interrupted || e.raw_os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) => {
            }
            Err(e) => return Err(fail(&e)),
        }
    }
    if lines.is_empty() && records > 0 {
        return Err(ProbeError::failed("the kernel log", "/dev/kmsg", "no record could be parsed"));
    }
    Ok(lines)
}

/// `prefix,seq,usec,flags[,…];text\n SUBSYSTEM=…`
pub(in crate::probe) fn parse_record(record: &str, boot: Timestamp) -> Option<KernelLine> {
    let (head, body) = record.split_once(';')?;
    let usec: i64 = head.split(',').nth(2)?.trim().parse().ok()?;
    let text = body.lines().next()?.to_owned();
    let at = boot.checked_add(SignedDuration::from_micros(usec)).ok()?;
    Some(KernelLine { at, text })
}

/// A process killed by the OOM killer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OomKill {
    /// Timestamp.
    pub at: Timestamp,
    /// The victim's pid.
    pub pid: i64,
    /// The victim's command name.
    pub task: String,
    /// The memory cgroup that reached its limit, or `None` if the host was out of memory.
    pub limited_by: Option<String>,
    /// The memory cgroup of the victim.
    pub victim_cgroup: String,
    /// The victim's anonymous RSS in KiB, if logged on the next line.
    pub anon_rss_kib: Option<u64>,
    /// The limit that was reached, in bytes, if logged before.
    pub limit: Option<u64>,
    /// The command with the failed allocation: not always the victim.
    #[serde(default)]
    pub invoked_by: Option<String>,
    /// The victim's `oom_score_adj`: a value above 0 makes a kill more likely.
    #[serde(default)]
    pub score_adj: Option<i32>,
    /// The line as logged.
    pub line: String,
}

/// The shapes of lines about OOM kills (`mm/oom_kill.c`, `mm/memcontrol.c`), Linux 3.10 to 6.18. Before 5.0 there is no line
/// `oom-kill:`: the limit is in the line `Task in … killed as a result of limit of …`, and the kill in the line `Killed process`.
///
/// Any user can cause lines that begin with a program name of up to 15 characters and contain a file name: `NAME[PID]: segfault at …
/// in FILE[…]`. A shape therefore begins with more fixed text than a program name has, and covers the line as far as it is used.
struct Shapes {
    invoked: Regex,
    usage: Regex,
    kill: Regex,
    killed: Regex,
    old_limit: Regex,
    old_group: Regex,
    old_killed: Regex,
}

#[expect(clippy::expect_used, reason = "constant patterns, compiled by a test")]
static SHAPES: LazyLock<Shapes> = LazyLock::new(|| {
    let shape = |pattern: &str| Regex::new(pattern).expect("constant pattern");
    Shapes {
        // bytes that are not printable are escaped as `\\xNN`
        invoked: shape(r"^(?P<task>(?:\\x[0-9a-f]{2}|.){1,15}) invoked oom-killer: gfp_mask=0x"),
        usage: shape(r"^memory: usage \d+kB, limit (?P<limit>\d+)kB, failcnt \d+$"),
        kill: shape(concat!(
            r"^oom-kill:constraint=CONSTRAINT_[A-Z_]+,nodemask=[^,]*(?:,[0-9-]+)*,cpuset=(?P<cpuset>.*),mems_allowed=[0-9,-]*",
            r",(?:oom_memcg=(?P<memcg>.*)|global_oom),task_memcg=(?P<victim>.*),task=(?P<task>.*),pid=(?P<pid>\d+),uid=\d+$"
        )),
        killed: shape(concat!(
            r"^(?:Memory cgroup out|Out) of memory[^:]{0,40}: Killed process (?P<pid>\d+) \(.*\) total-vm:\d+kB, ",
            r"anon-rss:(?P<rss>\d+)kB, [^()]*?(?:oom_score_adj:(?P<adj>-?\d+))?$"
        )),
        old_limit: shape(r"^Task in (?P<victim>/\S*) killed as a result of limit of (?P<memcg>/\S*)$"),
        old_group: shape(r"^Memory cgroup out of memory: Kill process \d+ \(.{1,15}\) score \d+ or sacrifice child$"),
        old_killed: shape(concat!(
            r"^Killed process (?P<pid>\d+) \((?P<task>.{1,15})\),?(?: UID \d+,)? total-vm:\d+kB, anon-rss:(?P<rss>\d+)kB,",
            r" file-rss:\d+kB(?:, shmem-rss:\d+kB)?$"
        )),
    }
});

/// Finds the OOM kills in a kernel log.
pub(in crate::probe) fn oom_kills(lines: &[KernelLine]) -> Vec<OomKill> {
    let mut kills: Vec<OomKill> = Vec::new();
    let (mut limit, mut invoked_by, mut old_limit) = (None, None, None);
    for line in lines {
        let text = line.text.as_str();
        if let Some(found) = SHAPES.invoked.captures(text) {
            invoked_by = Some(found["task"].to_owned());
        } else if let Some(found) = SHAPES.usage.captures(text) {
            // "memory: usage 16384kB, limit 16384kB, failcnt 25" belongs to the oom-kill line that follows (mm/memcontrol.c)
            limit = found["limit"].parse::<u64>().ok();
        } else if let Some(found) = SHAPES.old_limit.captures(text) {
            old_limit = Some((found["memcg"].to_owned(), found["victim"].to_owned()));
        } else if SHAPES.old_group.is_match(text) {
            // without the line that names it, the group is unknown, but the host was not out of memory
            old_limit.get_or_insert_default();
        } else if let Some(found) = SHAPES.kill.captures(text).filter(|_| is_unambiguous(text)) {
            kills.push(OomKill {
                at: line.at,
                pid: found["pid"].parse().unwrap_or(0),
                task: found["task"].to_owned(),
                limited_by: found.name("memcg").map(|m| m.as_str().to_owned()),
                victim_cgroup: found["victim"].to_owned(),
                anon_rss_kib: None,
                limit: limit.take().and_then(|kib: u64| kib.checked_mul(1024)),
                invoked_by: invoked_by.take(),
                score_adj: None,
                line: line.text.clone(),
            });
        } else if let Some(found) = SHAPES.killed.captures(text) {
            // "Memory cgroup out of memory: Killed process 123 (dd) total-vm:…kB, anon-rss:16000kB, …" follows its oom-kill line
            let pid: Option<i64> = found["pid"].parse().ok();
            if let Some(kill) = kills.iter_mut().rev().find(|k| Some(k.pid) == pid) {
                kill.anon_rss_kib = found["rss"].parse().ok();
                kill.score_adj = found.name("adj").and_then(|n| n.as_str().parse().ok());
            }
        } else if let Some(found) = SHAPES.old_killed.captures(text) {
            let pid: i64 = found["pid"].parse().unwrap_or(0);
            let rss = found["rss"].parse().ok();
            // 5.0 and 5.1 have both lines
            if let Some(kill) = kills.iter_mut().rev().find(|k| k.pid == pid && k.anon_rss_kib.is_none()) {
                kill.anon_rss_kib = rss;
                continue;
            }
            let (memcg, victim): (Option<String>, Option<String>) = old_limit.take().unzip();
            let of_group = memcg.is_some();
            kills.push(OomKill {
                at: line.at,
                pid,
                task: found["task"].to_owned(),
                limited_by: memcg,
                victim_cgroup: victim.unwrap_or_else(|| "/".to_owned()),
                anon_rss_kib: rss,
                limit: limit.take().filter(|_| of_group).and_then(|kib: u64| kib.checked_mul(1024)),
                invoked_by: invoked_by.take(),
                score_adj: None,
                line: line.text.clone(),
            });
        }
    }
    kills
}

/// Whether every field occurs once: names of programs and of delegated control groups can contain the text of another field.
fn is_unambiguous(text: &str) -> bool {
    const FIELDS: &[&str] =
        &[",cpuset=", ",mems_allowed=", ",oom_memcg=", ",global_oom,", ",task_memcg=", ",task=", ",pid=", ",uid="];
    FIELDS.iter().all(|field| text.matches(field).count() <= 1)
        && !(text.contains(",oom_memcg=") && text.contains(",global_oom,"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> KernelLine {
        KernelLine { at: Timestamp::UNIX_EPOCH, text: text.to_owned() }
    }

    #[test]
    fn cgroup_oom_kill_with_rss() {
        let kills = oom_kills(&[
            line("dd invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0"),
            line("memory: usage 16384kB, limit 16384kB, failcnt 25"),
            line(
                "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=abc,mems_allowed=0,oom_memcg=/docker/abc,task_memcg=/docker/abc,task=dd,pid=4242,uid=0",
            ),
            line(
                "Memory cgroup out of memory: Killed process 4242 (dd) total-vm:20000kB, anon-rss:16000kB, file-rss:4kB, shmem-rss:0kB, UID:0 pgtables:60kB oom_score_adj:200",
            ),
        ]);
        assert_eq!(kills.len(), 1);
        assert_eq!(kills[0].limited_by.as_deref(), Some("/docker/abc"));
        assert_eq!((kills[0].pid, kills[0].anon_rss_kib, kills[0].limit), (4242, Some(16000), Some(16 << 20)));
        assert_eq!((kills[0].invoked_by.as_deref(), kills[0].score_adj), (Some("dd"), Some(200)));
    }

    #[test]
    fn host_oom_kill_has_no_limit() {
        let kills = oom_kills(&[line(
            "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/docker/abc,task=java,pid=7,uid=0",
        )]);
        assert_eq!((kills[0].limited_by.as_deref(), kills[0].victim_cgroup.as_str()), (None, "/docker/abc"));
    }

    #[test]
    fn lines_that_a_user_can_cause_are_no_kill() {
        let kill =
            |fields: &str| oom_kills(&[line(&format!("oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),{fields}"))]).len();
        assert_eq!(kill("cpuset=a,mems_allowed=0,oom_memcg=/a,task_memcg=/a,task=dd,pid=1,uid=0"), 1);
        // a program and a control group with the text of other fields in their names
        assert_eq!(kill("cpuset=a,mems_allowed=0,oom_memcg=/a,task_memcg=/a,task=x,pid=7,task,pid=1,uid=0"), 0);
        assert_eq!(kill("cpuset=a,mems_allowed=0,oom_memcg=/u/x,task_memcg=/docker/abc,task_memcg=/u/x,task=x,pid=1,uid=0"), 0);
        // a program that crashes on purpose, with both of its names chosen
        let crash = "oom-kill:x[5]: segfault at 0 ip 0000000000401136 sp 00007ffc rip error 6 in ,task=postgres,pid=4242,global_oom,task_memcg=x,[401000+1000]";
        let usage = "memory: usage [4]: segfault at 0 ip 0 sp 0 error 6 in limit 65536kB,[401000+1000]";
        let killed =
            "Out of memory: [3]: segfault at 0 ip 0 sp 0 error 6 in Killed process 1 (x) total-vm:1kB, anon-rss:1kB, [4+1]";
        assert_eq!(oom_kills(&[line(usage), line(crash), line(killed)]), []);
    }

    #[test]
    fn kill_of_linux_4_at_a_limit() {
        let kills = oom_kills(&[
            line("java invoked oom-killer: gfp_mask=0xd0, order=0, oom_score_adj=0"),
            line("Task in /docker/abc killed as a result of limit of /docker/abc"),
            line("memory: usage 16384kB, limit 16384kB, failcnt 25"),
            line("Memory cgroup out of memory: Kill process 4242 (java) score 1001 or sacrifice child"),
            line("Killed process 4242 (java) total-vm:20000kB, anon-rss:16000kB, file-rss:4kB, shmem-rss:0kB"),
        ]);
        assert_eq!(kills.len(), 1);
        assert_eq!((kills[0].limited_by.as_deref(), kills[0].victim_cgroup.as_str()), (Some("/docker/abc"), "/docker/abc"));
        assert_eq!((kills[0].limit, kills[0].anon_rss_kib, kills[0].pid), (Some(16 << 20), Some(16000), 4242));
    }

    #[test]
    fn kill_of_linux_3_10_without_a_limit() {
        let kills =
            oom_kills(&[line("Killed process 7 (java), UID 1000, total-vm:1kB, anon-rss:16kB, file-rss:0kB, shmem-rss:0kB")]);
        assert_eq!((kills.len(), kills[0].limited_by.as_deref(), kills[0].task.as_str()), (1, None, "java"));
    }

    #[test]
    fn old_kill_at_a_limit_of_an_unnamed_group() {
        let kills = oom_kills(&[
            line("Memory cgroup out of memory: Kill process 9 (palo_be) score 968 or sacrifice child"),
            line("Killed process 7 ((palo)), UID 0, total-vm:1kB, anon-rss:16kB, file-rss:0kB, shmem-rss:0kB"),
        ]);
        assert_eq!((kills[0].limited_by.as_deref(), kills[0].task.as_str()), (Some(""), "(palo)"));
    }

    #[test]
    fn crash_in_the_shape_of_an_old_kill_is_none() {
        let crashes = [
            "Killed process [5]: segfault at 0 ip 0 sp 0 error 6 in Killed process 1 (x) total-vm:1kB, anon-rss:1kB, file-rss:0kB[4+1]",
            "Task in /docker[5]: segfault at 0 ip 0 sp 0 error 6 in x killed as a result of limit of /docker/abc[4+1]",
        ];
        assert_eq!(oom_kills(&crashes.map(line)), []);
    }

    #[test]
    fn corpus_of_oom_kills() {
        crate::corpus::check("oom", 6, |text| {
            let lines: Vec<KernelLine> = text.lines().map(line).collect();
            let shown = |k: &OomKill| {
                let rss = k.anon_rss_kib.map_or_else(String::new, |n| format!(" rss={n}"));
                let limit = k.limit.map_or_else(String::new, |n| format!(" limit={n}"));
                format!("{}({}) by {}{rss}{limit}", k.task, k.pid, k.limited_by.as_deref().unwrap_or("host"))
            };
            vec![("kills", oom_kills(&lines).iter().map(shown).collect::<Vec<_>>().join("; "))]
        });
    }

    #[test]
    fn record_without_dictionary() {
        let got = parse_record("6,1234,5000000,-;EXT4-fs error\n SUBSYSTEM=block\n", Timestamp::UNIX_EPOCH);
        assert_eq!(got.map(|l| (l.at.as_second(), l.text)), Some((5, "EXT4-fs error".to_owned())));
        assert_eq!(parse_record("garbage", Timestamp::UNIX_EPOCH), None);
    }
}
