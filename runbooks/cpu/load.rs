//! Load average and tasks in uninterruptible sleep. Linux counts running, runnable and uninterruptible tasks as load; only the
//! first two concern processors.

use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{Check, CheckSpec, Code, Finding, Judged, Judgement, Object, Severity, quantity};
use opsctl_core::probe::kernel::tasks::Stuck;
use opsctl_core::probe::kernel::{CpuTime, host};
use opsctl_core::probe::proc::home::Home;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::shared::processes::{Names, at_home, of_host};

const LOAD: Code = Code {
    id: "cpu.load",
    severities: &[Severity::Info, Severity::Warn],
    when: "per processor (at least two are counted) the load is above {load_warn_per_cpu.0} for 1 min, {load_warn_per_cpu.1} for 5 min or {load_warn_per_cpu.2} for 15 min; info when the load is over or caused by programs with nice above 0",
    hint: "see the busiest processes, and the tasks that wait in the kernel",
    ..Code::BASE
};
const STUCK: Code = Code {
    id: "cpu.d-state",
    severities: &[Severity::Warn],
    when: "a task has been in uninterruptible sleep for over {stuck_after_ms}",
    hint: "the task cannot be killed: find the disk, network filesystem or FUSE process that it waits for",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "cpu.load",
    title: "load is within limits and no task is stuck in the kernel",
    codes: &[LOAD, STUCK],
    fixes: &[],
    timeout: Duration::from_secs(5),
};

/// Time between the two samples of a task that has not run for the limit.
const RECHECK_DELAY: Duration = Duration::from_secs(1);

/// The same if the kernel does not report when a task last ran: a flush to a slow disk takes a second or two.
const UNMEASURED_RECHECK_DELAY: Duration = Duration::from_secs(3);

/// Minimum of processors that a load is divided by (netdata): one more task on a single processor is not twice the load.
const MIN_CPUS: f64 = 2.0;

pub(super) struct Load {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    /// 1, 5 and 15 min.
    load: [f64; 3],
    cpus: usize,
    /// Processor time that passed in the window.
    passed: CpuTime,
    stuck: Vec<Stuck>,
    /// Threads of `stuck` in the same wait in a second sample; only if their wait time is above the limit or unknown.
    still_stuck: Vec<i32>,
    /// The second sample was taken; `false` in recordings from before it was taken for known wait times as well.
    rechecked: bool,
    /// Tasks with a kernel function that this user cannot read; they may wait on purpose.
    hidden: usize,
    /// Parts of the statistics that could not be read, with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unread: Vec<String>,
    containers: Names,
}

impl Check for Load {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let activity = cx.watch.activity().await?;
        let mut stuck: Vec<Stuck> = activity.stuck.iter().filter(|s| waits_on_purpose(s)).cloned().collect();
        let containers = Names::of(stuck.iter().map(|s| &s.home), &cx.inventory);
        let limit = self.settings.stuck_after_ms;
        let suspicious = |s: &&Stuck| s.waits_ms.is_none_or(|ms| ms >= limit);
        let rechecked = stuck.iter().any(|s| suspicious(&s));
        let is_measured = stuck.iter().filter(suspicious).all(|s| s.waits_ms.is_some());
        let still_stuck = if rechecked {
            cx.watch.still_stuck(&stuck, if is_measured { RECHECK_DELAY } else { UNMEASURED_RECHECK_DELAY }).await?
        } else {
            Vec::new()
        };
        // the kernel shows `0` to users without the right to trace the task
        let is_hidden = |s: &&Stuck| !host::is_root() && matches!(s.wchan.trim(), "" | "0");
        let hidden = stuck.iter().filter(|s| is_hidden(s) && suspicious(s) && still_stuck.contains(&s.tid)).count();
        stuck.retain(|s| !is_hidden(&s));
        let (later, passed) = (&activity.later, activity.later.cpu.since(&activity.first.cpu));
        let (load, cpus, unread) = (later.load, later.cpus.len(), later.unread.clone());
        Ok(Evidence { load, cpus, passed, stuck, still_stuck, rechecked, hidden, unread, containers })
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut judgement: Judgement = [self.stuck(e), self.load(e)].into_iter().flatten().collect::<Vec<_>>().into();
        judgement.gaps.extend(e.unread.iter().cloned());
        if e.hidden > 0 {
            let tasks = quantity::count(e.hidden, "task");
            judgement.gaps.push(format!("reading the wait of {tasks} from /proc: permission denied; needs root"));
        }
        judgement
    }
}

/// Tasks that wait on purpose: frozen with their container (v1 freezer), or a parent that waits for its child to start.
fn waits_on_purpose(task: &Stuck) -> bool {
    let on_purpose = ["refrigerator", "vfork", "ptrace_stop", "do_signal_stop", "cgroup_freez"];
    !on_purpose.iter().any(|function| task.wchan.contains(function))
}

impl Load {
    fn stuck(&self, e: &Evidence) -> Option<Finding> {
        let limit = self.settings.stuck_after_ms;
        let counts = |t: &&Stuck| match t.waits_ms {
            // a measured time is an estimate: the second sample proves that the task did not run
            Some(ms) => ms >= limit && (!e.rechecked || e.still_stuck.contains(&t.tid)),
            None => e.still_stuck.contains(&t.tid),
        };
        let stuck: Vec<&Stuck> = e.stuck.iter().filter(counts).filter(|t| waits_on_purpose(t)).collect();
        let first = stuck.iter().max_by_key(|t| t.waits_ms)?;
        let (kind, hint) = waits_for(&first.wchan);
        let tasks = quantity::count(stuck.len(), "task");
        let longest = match first.waits_ms {
            Some(ms) => format!("the first for {}", span(ms)),
            None => format!("in two samples {} s apart", UNMEASURED_RECHECK_DELAY.as_secs()),
        };
        let verb = if stuck.len() == 1 { "waits" } else { "wait" };
        let message = format!("{tasks} {verb} uninterruptibly for {kind}, {longest}, limit {}", span(limit));
        let named: Vec<String> = stuck
            .iter()
            .take(10)
            .map(|t| {
                let waits = t.waits_ms.map(|ms| format!(" for {}", span(ms))).unwrap_or_default();
                format!("{} in {}{waits}", e.containers.process(&t.comm, t.pid, &t.home), t.wchan)
            })
            .collect();
        let mut finding = of_host(Finding::new(&STUCK, Severity::Warn, Object::host(), message)).cite("tasks", named.join(", "));
        if let Some(hint) = hint {
            finding = finding.hint(hint);
        }
        let one_home = stuck.iter().all(|t| t.home == first.home);
        if one_home && first.home != Home::Host {
            finding = at_home(finding, &first.home);
        }
        Some(if first.waits_ms.is_none() { finding.likely() } else { finding })
    }

    fn load(&self, e: &Evidence) -> Option<Finding> {
        let cpus = (e.cpus as f64).max(MIN_CPUS);
        let limits = self.settings.load_warn_per_cpu;
        let (minutes, load, limit) = [1, 5, 15]
            .into_iter()
            .zip(e.load)
            .zip(limits)
            .find_map(|((minutes, load), limit)| (load > limit * cpus).then_some((minutes, load, limit * cpus)))?;
        let over = e.load[0] < cpus;
        // programs with lowered priority may queue
        let niced = e.passed.nice * 2 > e.passed.busy();
        let note = match (over, niced) {
            (true, _) => format!(", but {:.1} now: the load is over", e.load[0]),
            (_, true) => ", mostly of programs with nice above 0".to_owned(),
            _ => String::new(),
        };
        let message = format!(
            "the load of {minutes} min is {load:.1} with {}, limit {limit:.0}{note}",
            quantity::count(e.cpus, "processor")
        );
        let severity = if over || niced { Severity::Info } else { Severity::Warn };
        Some(of_host(Finding::new(&LOAD, severity, Object::host(), message)))
    }
}

/// The resource that a kernel function waits for, and the hint for it.
fn waits_for(wchan: &str) -> (&'static str, Option<&'static str>) {
    let any = |names: &[&str]| names.iter().any(|n| wchan.contains(n));
    if any(&["nfs", "rpc_"]) {
        (
            "a network filesystem",
            Some("its server does not respond: restore the server, or unmount the filesystem with `umount -f -l`"),
        )
    } else if any(&["fuse", "request_wait_answer"]) {
        (
            "a FUSE filesystem",
            Some("its process is stopped or hung: end that process, or `echo 1 > /sys/fs/fuse/connections/N/abort`"),
        )
    } else if any(&["jbd2", "xfs_log", "btrfs"]) {
        ("a filesystem's journal", None)
    } else if any(&["io_schedule", "blk_mq", "folio_wait", "wait_on_page", "bit_wait_io"]) {
        ("a disk", None)
    } else {
        ("a kernel resource", None)
    }
}

fn span(ms: u64) -> String {
    quantity::duration(SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX)))
}
