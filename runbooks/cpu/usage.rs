//! Saturation of the processors. Busy processors alone are no fault: tasks must be waiting for them.

use std::time::Duration;

use opsctl_core::model::{
    Action, Check, CheckSpec, Code, Finding, FixSpec, Impact, Judged, Judgement, KeyKind, Object, Plan, Refusal, Risk, Role,
    Severity, quantity::percent,
};
use opsctl_core::probe::kernel::CpuTime;
use opsctl_core::probe::kernel::activity::Activity;
use opsctl_core::probe::kernel::tasks::HomeUse;
use opsctl_core::probe::proc::home::Home;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::shared::log_lines::most_repeated;
use crate::shared::processes::{Names, at_home, of_host};

const SATURATED: Code = Code {
    id: "cpu.saturated",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the processors are {busy_warn_percent} busy and tasks waited for them {waiting_warn_percent} of the last minute or the 5 min load is above their number (warn), or {busy_crit_percent} and {waiting_crit_percent} (crit); programs with nice above 0 do not count",
    hint: "inspect the process named first: stop it, limit its container (`docker update --cpus`), or add processors to the host",
    impacts: &[Impact::likely(Role::Starved, KeyKind::Host, "all processes wait for a processor")],
    ..Code::BASE
};
const STEAL: Code = Code {
    id: "cpu.steal",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the hypervisor takes {steal_warn_percent} (warn) or {steal_crit_percent} (crit) of the processor time, in two windows",
    hint: "no change on this host helps: move it to another machine type or contact the provider",
    impacts: &[Impact::likely(Role::Starved, KeyKind::Host, "the hypervisor withholds processor time")],
    ..Code::BASE
};
const IOWAIT: Code = Code {
    id: "cpu.iowait",
    severities: &[Severity::Warn, Severity::Crit],
    when: "processors idle {iowait_warn_percent} of the time while tasks wait for disks, and tasks waited {io_waiting_percent} of the last minute (warn); all tasks waited for disks {io_stalled_crit_percent} of the last minute (crit)",
    hint: "find the processes that read or write (`iotop -o`); a shortage of memory also causes disk I/O",
    ..Code::BASE
};
const IRQ: Code = Code {
    id: "cpu.single-core-irq",
    severities: &[Severity::Info],
    when: "one processor spends over 80 % of its time in soft interrupts while the others are idle",
    hint: "spread the network card's interrupts (irqbalance, RPS)",
    ..Code::BASE
};
const PSI_OFF: Code = Code {
    id: "cpu.psi-off",
    severities: &[Severity::Info],
    when: "the kernel does not measure pressure (older than 4.20, not built in, or not booted with psi=1)",
    hint: "boot with psi=1: until then waiting tasks are estimated from the load average",
    ..Code::BASE
};

const RENICE: FixSpec =
    FixSpec { id: "proc.renice", risk: Risk::R1, title: "lower the priority of the process that uses most processor time" };

static SPEC: CheckSpec = CheckSpec {
    id: "cpu.usage",
    title: "processor usage is within limits",
    codes: &[SATURATED, STEAL, IOWAIT, IRQ, PSI_OFF],
    fixes: &[RENICE],
    timeout: Duration::from_secs(5),
};

/// A second, longer window, used only for high steal time: a quarter of a second proves no noisy neighbour.
const STEAL_WINDOW: Duration = Duration::from_secs(1);
/// Share of soft interrupts from which a processor is saturated by the network, in percent.
const IRQ_PERCENT: f64 = 80.0;
/// Usage up to which the other processors count as idle, in percent.
const IDLE_PERCENT: f64 = 20.0;
/// Programs that are never reniced: other processes wait for them.
const PROTECTED: &[&str] = &[
    "postgres",
    "mysqld",
    "mariadbd",
    "mongod",
    "redis-server",
    "valkey-server",
    "beam.smp",
    "etcd",
    "dockerd",
    "containerd",
    "systemd",
    "sshd",
    "dbus-daemon",
    "nginx",
    "haproxy",
    "traefik",
    "prometheus",
];

pub(super) struct Usage {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    activity: Activity,
    /// Processor time of a second window; only if the first had high steal time.
    steal_again: Option<CpuTime>,
    containers: Names,
    /// The most repeated of the last 200 log lines of the busiest container, with its count; only for saturated processors.
    repeated: Option<(String, usize)>,
}

impl Check for Usage {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let activity = (*cx.watch.activity().await?).clone();
        let homes = activity.busiest.iter().map(|c| &c.home).chain(activity.homes.iter().map(|h| &h.home));
        let containers = Names::of(homes, &cx.inventory);
        let mut e = Evidence { activity, containers, ..Evidence::default() };
        if stolen(&passed(&e)) >= self.settings.steal_warn_percent {
            let first = cx.watch.now().await?.cpu;
            tokio::time::sleep(STEAL_WINDOW).await;
            e.steal_again = Some(cx.watch.now().await?.cpu.since(&first));
        }
        if let Some((_, busy)) = self.saturation(&e)
            && let Some(Home::Container(id)) = main_user(&e, busy)
            && let Ok(docker) = cx.docker()
        {
            e.repeated = most_repeated(&docker.log_tail(id, 200).await.unwrap_or_default());
        }
        Ok(e)
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let findings = [self.saturated(e), self.steal(e), self.iowait(e), single_core(e), psi_off(e)];
        let gaps = e.activity.later.unread.clone();
        Judgement { findings: findings.into_iter().flatten().collect(), gaps, ..Judgement::default() }
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        let top = e
            .activity
            .busiest
            .iter()
            .find(|c| c.nice <= 0)
            .ok_or_else(|| Refusal::Precondition("no process of normal priority uses much processor time".to_owned()))?;
        let name = e.containers.process(&top.comm, top.process.pid, &top.home);
        if PROTECTED.contains(&top.comm.as_str()) {
            return Err(Refusal::Policy(format!("{name} serves other processes: a lower priority would slow all of them down")));
        }
        // sched(7), "Group scheduling": a priority is relative to the other tasks of the group
        if let Some(container) = e.containers.name(&top.home) {
            return Err(Refusal::ByHand(format!(
                "docker update --cpu-shares 128 {container} (1024 by default): a priority only counts among the processes of its container"
            )));
        }
        let busy = passed(e);
        let all = busy.percent(important(&busy)) * e.activity.later.cpus.len() as f64;
        if top.cpu_percent * 2.0 < all {
            return Err(Refusal::Precondition(format!(
                "{name} uses less than half of the processor time: no single process is the cause"
            )));
        }
        let set = |nice| Action::Renice { pid: top.process.pid, start_ticks: top.process.start_ticks, nice };
        // nice 10 leaves it a tenth of the CPU time of a process with nice 0 (sched(7): each step is a factor of 1.25)
        Ok(Plan::new(&RENICE, &SPEC, finding, judged.target, vec![set(10)])
            .undo(vec![set(top.nice)])
            .affects([format!("{name} gets less processor time while other processes need it")])
            .recurs("a restart of the process restores its old priority"))
    }
}

/// Processor time that passed in the window.
fn passed(e: &Evidence) -> CpuTime {
    e.activity.later.cpu.since(&e.activity.first.cpu)
}

/// Processor time of programs with nice 0 or below; programs with nice above 0 may wait.
fn important(passed: &CpuTime) -> u64 {
    passed.busy().saturating_sub(passed.nice)
}

fn stolen(passed: &CpuTime) -> f64 {
    passed.percent(passed.steal)
}

impl Usage {
    /// How busy the processors are with work that matters, and how severe that is.
    fn saturation(&self, e: &Evidence) -> Option<(Severity, f64)> {
        let s = &self.settings;
        let time = passed(e);
        let cpus = e.activity.later.cpus.len().max(1) as f64;
        // the share of the time that opsctl itself left: its own use neither makes a host busy nor hides that it is
        let own = (e.activity.own_ms as f64 * 100.0 / (e.activity.window_ms.max(1) as f64 * cpus)).min(99.0);
        let busy = (time.percent(important(&time)) - own).max(0.0) * 100.0 / (100.0 - own);
        let busy = busy.min(100.0);
        let waiting = e.activity.later.pressure.cpu.map(|p| p.some.avg60);
        // the load of 5 min shows that it lasts, the load of 1 min that it is not over
        let [one, five, _] = e.activity.later.load;
        let queue = one.min(five) / cpus >= 1.0;
        if busy >= s.busy_crit_percent && waiting.is_some_and(|w| w >= s.waiting_crit_percent) {
            Some((Severity::Crit, busy))
        } else if busy >= s.busy_warn_percent && (waiting.is_some_and(|w| w >= s.waiting_warn_percent) || queue) {
            Some((Severity::Warn, busy))
        } else {
            None
        }
    }

    fn saturated(&self, e: &Evidence) -> Option<Finding> {
        let (severity, busy) = self.saturation(e)?;
        let crit = severity == Severity::Crit;
        let limit = if crit { self.settings.busy_crit_percent } else { self.settings.busy_warn_percent };
        let cpus = e.activity.later.cpus.len();
        let waited = match e.activity.later.pressure.cpu {
            Some(p) => format!("tasks waited for them {} of the last minute", percent(p.some.avg60)),
            None => format!("the load of 5 min is {:.1}", e.activity.later.load[1]),
        };
        let message = format!("the {cpus} processors are {} busy, limit {}, and {waited}", percent(busy), percent(limit));
        let mut finding = of_host(Finding::new(&SATURATED, severity, Object::host(), message))
            .cite("busiest processes", e.containers.by_cpu(&e.activity.busiest))
            .cite("busiest containers and units", homes(e))
            .cite_opt("repeats in its log", e.repeated.as_ref().map(|(line, n)| format!("{n} of the last 200 lines: {line}")))
            .cite("load of 1, 5 and 15 min", e.activity.later.load.map(|l| format!("{l:.1}")).join(", "));
        // usage shared by many has no single container or unit
        if let Some(home) = main_user(e, busy) {
            finding = at_home(finding, home);
            if let Some(name) = e.containers.home(home) {
                finding = finding.hint(format!("{name} uses most of it: inspect its processes, or limit it"));
            }
        }
        if e.activity.busiest.first().is_some_and(|top| top.nice <= 0 && is_most(top.cpu_percent, e, busy)) {
            finding = finding.fix(RENICE.id);
        }
        Some(finding)
    }

    fn steal(&self, e: &Evidence) -> Option<Finding> {
        // the lower value of both windows: a short spike is no noisy neighbour
        let again = stolen(&e.steal_again?);
        let steal_percent = stolen(&passed(e)).min(again);
        let (severity, limit) = self.settings.steal().exceeded(steal_percent)?;
        let message = format!("the hypervisor takes {} of the processor time, limit {}", percent(steal_percent), percent(limit));
        Some(of_host(Finding::new(&STEAL, severity, Object::host(), message)))
    }

    fn iowait(&self, e: &Evidence) -> Option<Finding> {
        let s = &self.settings;
        let io = e.activity.later.pressure.io?;
        let time = passed(e);
        let waited = time.percent(time.iowait);
        let stalled = io.full.map_or(0.0, |f| f.avg60);
        let (severity, message) = if stalled >= s.io_stalled_crit_percent {
            let limit = percent(s.io_stalled_crit_percent);
            (Severity::Crit, format!("all tasks waited for disks {} of the last minute, limit {limit}", percent(stalled)))
        } else if waited >= s.iowait_warn_percent && io.some.avg60 >= s.io_waiting_percent {
            let limit = percent(s.iowait_warn_percent);
            let message = format!(
                "processors idle {} of the time while tasks wait for disks, limit {limit}; tasks waited {} of the last minute",
                percent(waited),
                percent(io.some.avg60)
            );
            (Severity::Warn, message)
        } else {
            return None;
        };
        let stuck: Vec<String> = e.activity.stuck.iter().map(|t| format!("{} (pid {}) in {}", t.comm, t.pid, t.wchan)).collect();
        Some(of_host(Finding::new(&IOWAIT, severity, Object::host(), message)).cite("tasks that wait now", stuck.join(", ")))
    }
}

/// Whether this is at least half of all work.
fn is_most(cpu_percent: f64, e: &Evidence, busy: f64) -> bool {
    cpu_percent * 2.0 >= busy * e.activity.later.cpus.len() as f64
}

/// The container or unit that does half of the work, if there is one.
fn main_user(e: &Evidence, busy: f64) -> Option<&Home> {
    e.activity.homes.first().filter(|h| is_most(h.cpu_percent, e, busy)).map(|h| &h.home)
}

fn homes(e: &Evidence) -> String {
    let name = |h: &HomeUse| Some(format!("{} {}", e.containers.home(&h.home)?, percent(h.cpu_percent)));
    e.activity.homes.iter().filter_map(name).collect::<Vec<_>>().join(", ")
}

fn single_core(e: &Evidence) -> Option<Finding> {
    let pairs = e.activity.later.cpus.iter().zip(&e.activity.first.cpus);
    let times: Vec<CpuTime> = pairs.map(|(later, first)| later.since(first)).collect();
    let (busy, time) = times.iter().enumerate().find(|(_, t)| t.percent(t.softirq) > IRQ_PERCENT)?;
    let others_idle = times.iter().enumerate().all(|(i, t)| i == busy || t.percent(t.busy()) < IDLE_PERCENT);
    (times.len() > 1 && others_idle).then(|| {
        let message = format!(
            "processor {busy} spends {} of its time in soft interrupts, limit {}, while the others are idle",
            percent(time.percent(time.softirq)),
            percent(IRQ_PERCENT)
        );
        Finding::new(&IRQ, Severity::Info, Object::host(), message)
    })
}

fn psi_off(e: &Evidence) -> Option<Finding> {
    e.activity.later.pressure.cpu.is_none().then(|| {
        let message = "the kernel does not measure pressure: waiting tasks are estimated from the load average";
        Finding::new(&PSI_OFF, Severity::Info, Object::host(), message)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// Two saturated processors, of which this process of the host uses 180 %.
    fn saturated(change: impl FnOnce(&mut Evidence)) -> Option<Result<Plan, Refusal>> {
        let fixture: serde_json::Value = serde_json::from_str(include_str!("fixtures/saturated-by-a-container.json")).unwrap();
        let mut e: Evidence = serde_json::from_value(fixture["evidence"].clone()).unwrap();
        e.activity.busiest[0].home = Home::Host;
        change(&mut e);
        let check = Usage { settings: Settings::default() };
        let target = Object::host();
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let findings = check.judge(&judged, &e).findings;
        let finding = findings.iter().find(|f| f.fixes.contains(&RENICE.id.to_owned()))?;
        Some(check.plan(RENICE.id, finding, &judged, &e))
    }

    #[test]
    fn single_busy_process_of_the_host_is_reniced() {
        let plan = saturated(|_| {}).unwrap().unwrap();
        assert!(matches!(&plan.actions[..], [Action::Renice { pid: 4242, nice: 10, .. }]), "{plan:?}");
        assert!(matches!(&plan.undo[..], [Action::Renice { nice: 0, .. }]));
    }

    #[test]
    fn process_of_a_container_is_not_reniced() {
        let container = saturated(|e| e.activity.busiest[0].home = Home::Container("a".repeat(64)));
        assert!(matches!(container, Some(Err(Refusal::ByHand(why))) if why.contains("docker update --cpu-shares 128 worker")));
    }

    #[test]
    fn process_that_serves_others_is_not_reniced() {
        let server = saturated(|e| e.activity.busiest[0].comm = "postgres".to_owned());
        assert!(matches!(server, Some(Err(Refusal::Policy(why))) if why.contains("serves other processes")));
    }

    #[test]
    fn one_of_many_processes_is_not_reniced() {
        assert!(saturated(|e| e.activity.busiest[0].cpu_percent = 60.0).is_none());
        assert!(saturated(|e| e.activity.busiest[0].nice = 5).is_none());
    }
}
