//! Memory, CPU and processes of a container against its own limits.

use std::time::{Duration, Instant};

use jiff::SignedDuration;
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Impact, Inventory, Judged, Judgement, KeyKind, Measure, Object, Role, Severity, Unit,
    quantity,
};
use opsctl_core::probe::docker::Container;
use opsctl_core::probe::io::clock;
use opsctl_core::probe::kernel::cgroup::{Cgroups, Cpu, Usage};
use opsctl_core::probe::proc::process;
use opsctl_core::probe::proc::process::MemoryUsage;
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::shared::log_lines::most_repeated;
use crate::shared::processes::of_host;
use crate::shared::servers::READ_TIMEOUT;

const NEAR_LIMIT: Code = Code {
    id: "container.memory-near-limit",
    severities: &[Severity::Warn, Severity::Crit],
    when: "non-evictable memory is at {memory_warn_percent} (warn) or {memory_crit_percent} (crit) of the container's limit",
    hint: "raise the memory limit or find the process that grows; the next allocation can trigger the OOM killer",
    impacts: &[Impact::likely(Role::Starved, KeyKind::Container, "container has no memory left")],
    ..Code::BASE
};
const THROTTLED: Code = Code {
    id: "container.cpu-throttled",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the container used up its CPU quota in {throttled_warn_percent} (warn) or {throttled_crit_percent} (crit) of the scheduler periods of a second",
    hint: "raise the CPU limit, or use fewer threads; average CPU can be low while the container is throttled",
    impacts: &[Impact::likely(Role::Starved, KeyKind::Container, "container has no processor time left")],
    ..Code::BASE
};
const HOT: Code = Code {
    id: "container.cpu-hot",
    severities: &[Severity::Warn],
    when: "the container uses more than {cpu_hot_cores} cores now and more than 0.5 on average since its start",
    hint: "search its log for one task, query or endpoint that repeats: a self-sustaining loop",
    ..Code::BASE
};
const PIDS: Code = Code {
    id: "container.pids",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the processes are at {pids_warn_percent} of the container's limit, or {zombies_warn} zombies are not reaped (warn); the limit is reached (crit)",
    hint: "run the container with --init if the processes are zombies; otherwise find the program that starts processes without ending them",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "container.resources",
    title: "containers stay within their limits",
    codes: &[NEAR_LIMIT, THROTTLED, HOT, PIDS],
    fixes: &[],
    timeout: Duration::from_secs(6),
};

/// Ten scheduler periods of 100 ms; fewer are not significant (judgement: at least 10 periods).
const THROTTLE_WINDOW: Duration = Duration::from_millis(1100);
/// Long enough to distinguish a busy container from one that was just scheduled.
const HOT_WINDOW: Duration = Duration::from_millis(500);
/// Average since the start from which current usage is measured (judgement: 0.5 cores).
const HOT_AVERAGE: f64 = 0.5;

pub(super) struct Resources {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    container: Container,
    usage: Usage,
    /// CPU counters `after_us` microseconds later; only if the first sample was suspicious.
    later: Option<Later>,
    /// Largest processes; only near the memory limit.
    largest: Vec<MemoryUsage>,
    /// Zombie children of its first process.
    zombies: usize,
    /// The most repeated of its last 200 log lines, with its count; only for a busy container.
    repeated: Option<(String, usize)>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Later {
    cpu: Cpu,
    after_us: u64,
}

impl Check for Resources {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.container_targets(|c| c.state == "running")
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let docker = cx.docker()?;
        let container = cx.running(target).await?;
        let pid = i64::from(container.process()?);
        let limit = self.settings.memory_warn_percent;
        let read = move |io: &Io| -> Result<_, ProbeError> {
            let group = Cgroups::default().group_of(io, pid)?;
            let first = Instant::now();
            let mut e = Evidence { usage: group.usage(io), zombies: process::zombies_below(io, pid), ..Evidence::default() };
            if memory_percent(&e.usage).is_some_and(|(_, _, p)| p >= limit) {
                e.largest = process::largest(io, &group.processes(io), 3);
            }
            Ok((e, group, first))
        };
        let (mut e, group, first) = blocking::run("the control group", &container.name, READ_TIMEOUT, read).await??;
        e.container = (*container).clone();
        let window = if maybe_throttled(&e) {
            Some(THROTTLE_WINDOW)
        } else if average_cores(&e, clock::now()).is_some_and(|c| c > HOT_AVERAGE) {
            Some(HOT_WINDOW)
        } else {
            None
        };
        if let Some(window) = window {
            tokio::time::sleep(window).await;
            let read = move |io: &Io| {
                let cpu = group.cpu(io)?;
                Some(Later { cpu, after_us: u64::try_from(first.elapsed().as_micros()).unwrap_or(u64::MAX) })
            };
            e.later = blocking::run("the control group", &container.name, READ_TIMEOUT, read).await?;
            if cores_now(&e).is_some_and(|c| c > self.settings.cpu_hot_cores) {
                let log = docker.log_tail(&target.id, 200).await.unwrap_or_default();
                e.repeated = most_repeated(&log);
            }
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut findings = Vec::new();
        findings.extend(self.memory(judged, e));
        findings.extend(self.throttled(e));
        findings.extend(self.hot(judged, e));
        findings.extend(self.pids(e));
        let findings = findings.into_iter().map(|f| f.key(KeyKind::Container, &e.container.id)).collect();
        let unreadable = e.usage.memory_used.is_none() && e.usage.cpu.is_none();
        let gaps = if unreadable { vec!["the control group could not be read".to_owned()] } else { Vec::new() };
        let measures = memory_percent(&e.usage).map(|(_, _, percent)| {
            Measure::new(judged.target, "memory_used", Unit::Percent, percent).within(self.settings.memory())
        });
        Judgement { findings, gaps, measures: measures.into_iter().collect(), ..Judgement::default() }
    }
}

impl Resources {
    fn memory(&self, judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
        let (held, limit, percent) = memory_percent(&e.usage)?;
        let (severity, bound) = self.settings.memory().exceeded(percent)?;
        let c = &e.container;
        // in a restart loop the OOM kill is the finding
        let young = c.state.started_at.is_some_and(|t| judged.taken_at.duration_since(t) < SignedDuration::from_mins(1));
        if young && c.restart_count > 0 {
            return None;
        }
        let message = format!(
            "{} uses {} of its {} memory limit, {}, limit {}",
            c.name,
            quantity::bytes(held),
            quantity::bytes(limit),
            quantity::percent(percent),
            quantity::percent(bound)
        );
        let top = e.largest.iter().map(|h| format!("{} (pid {}) {}", h.comm, h.pid, quantity::bytes(h.rss)));
        Some(
            of_host(Finding::new(&NEAR_LIMIT, severity, c.subject(), message))
                .cite("largest processes", top.collect::<Vec<_>>().join(", "))
                .cite_opt("of which tmpfs and shared memory", e.usage.shmem.filter(|s| *s > held / 10).map(quantity::bytes)),
        )
    }

    fn throttled(&self, e: &Evidence) -> Option<Finding> {
        let (first, later) = (e.usage.cpu?, e.later?);
        let periods = later.cpu.periods.saturating_sub(first.periods);
        let throttled = later.cpu.throttled.saturating_sub(first.throttled);
        if periods < 10 {
            return None;
        }
        let percent = throttled as f64 * 100.0 / periods as f64;
        let (severity, bound) = self.settings.throttled().exceeded(percent)?;
        let name = &e.container.name;
        let cores = e.container.nano_cpus as f64 / 1e9;
        let message = format!(
            "{name} used up its {cores:.1} CPU quota in {throttled} of {periods} scheduler periods, {}, limit {}",
            quantity::percent(percent),
            quantity::percent(bound)
        );
        Some(Finding::new(&THROTTLED, severity, e.container.subject(), message))
    }

    fn hot(&self, judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
        let now = cores_now(e).filter(|c| *c > self.settings.cpu_hot_cores)?;
        let average = average_cores(e, judged.taken_at).filter(|c| *c > HOT_AVERAGE)?;
        let message = format!(
            "{} uses {now:.1} cores, limit {:.1}, and {average:.1} on average since its start",
            e.container.name, self.settings.cpu_hot_cores
        );
        let repeated = e.repeated.as_ref().map(|(line, n)| format!("{n} of its last 200 log lines: {line}"));
        Some(Finding::new(&HOT, Severity::Warn, e.container.subject(), message).cite_opt("repeats in its log", repeated))
    }

    fn pids(&self, e: &Evidence) -> Option<Finding> {
        let name = &e.container.name;
        let subject = e.container.subject();
        if let (Some(now), Some(limit)) = (e.usage.pids, e.usage.pids_limit.filter(|l| *l > 0)) {
            let percent = now as f64 * 100.0 / limit as f64;
            if now >= limit {
                let message = format!("{name} has reached its limit of {limit} processes: no process can be started");
                return Some(Finding::new(&PIDS, Severity::Crit, subject, message));
            }
            if percent >= self.settings.pids_warn_percent {
                let bound = quantity::percent(self.settings.pids_warn_percent);
                let message = format!("{name} has {now} of {limit} processes, {}, limit {bound}", quantity::percent(percent));
                return Some(Finding::new(&PIDS, Severity::Warn, subject, message));
            }
        }
        (e.zombies >= self.settings.zombies_warn).then(|| {
            let message = format!("{name} has {} zombie processes, limit {}", e.zombies, self.settings.zombies_warn);
            let init = if e.container.init { "the container runs with --init" } else { "the container runs without --init" };
            Finding::new(&PIDS, Severity::Warn, subject, message).cite("init", init)
        })
    }
}

/// Memory that the kernel cannot evict: `(held, limit, percent)`. `docker stats` counts active page cache as used; a
/// database with many reads would then always appear full, although the kernel evicts that cache before any OOM kill.
fn memory_percent(usage: &Usage) -> Option<(u64, u64, f64)> {
    let limit = usage.memory_limit.filter(|l| *l > 0)?;
    let held = usage.memory_used?.saturating_sub(usage.active_file.unwrap_or(0));
    Some((held, limit, held as f64 * 100.0 / limit as f64))
}

/// It was throttled in more than a twentieth of all periods so far.
fn maybe_throttled(e: &Evidence) -> bool {
    e.usage.cpu.is_some_and(|c| c.periods > 0 && c.throttled * 20 > c.periods)
}

fn average_cores(e: &Evidence, now: jiff::Timestamp) -> Option<f64> {
    let lived = now.duration_since(e.container.state.started_at?).as_secs_f64();
    (lived > 1.0).then_some(())?;
    Some(e.usage.cpu?.used_us as f64 / 1e6 / lived)
}

fn cores_now(e: &Evidence) -> Option<f64> {
    let (first, later) = (e.usage.cpu?, e.later?);
    (later.after_us > 0).then(|| later.cpu.used_us.saturating_sub(first.used_us) as f64 / later.after_us as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_cache_is_not_counted_as_used_memory() {
        let usage = Usage { memory_used: Some(99), active_file: Some(60), memory_limit: Some(100), ..Usage::default() };
        assert_eq!(memory_percent(&usage).map(|(held, ..)| held), Some(39));
        assert_eq!(memory_percent(&Usage { memory_limit: None, ..usage }), None);
    }
}
