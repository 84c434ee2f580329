//! Celery's processes on this host: exactly one beat per application, and no killed child of a worker.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::address::Address;
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Judged, Judgement, KeyKind, Kind, Object, Severity,
    quantity::{ago, count, duration},
};
use opsctl_core::probe::kernel::kmsg::OomKill;
use opsctl_core::probe::kernel::tasks;
use opsctl_core::probe::proc::home::Home;
use opsctl_core::probe::servers::celery::{Process, processes};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::beats::{Keyspace, Sharing, keyspaces, sharing};
use crate::shared::dependencies::running;
use crate::shared::processes::{Names, at_home};

const BEAT: Code = Code {
    id: "celery.beat",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the container of beat is not running (crit); two beats of one application run and every task is sent twice, or beat has not written its schedule for {schedule_warn_s} (warn)",
    hint: "run exactly one beat per application",
    depends_on: &[&running("its")],
    ..Code::BASE
};
const WORKER_OOM: Code = Code {
    id: "celery.worker-oom",
    severities: &[Severity::Crit],
    when: "the OOM killer killed a child of a worker in the last 24 h; the worker keeps running, and the task is lost or run again",
    hint: "find the task that grew; limit each child (`--max-memory-per-child`, `--max-tasks-per-child`) or raise the container's memory limit",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "celery.workers",
    title: "Celery runs one beat per application, and worker children are not OOM-killed",
    codes: &[BEAT, WORKER_OOM],
    fixes: &[],
    timeout: Duration::from_secs(5),
};

/// Age up to which a kill is reported.
const RECENT: SignedDuration = SignedDuration::from_hours(24);

pub(super) struct Workers {
    pub(super) settings: Settings,
}

/// A container of beat that is not running.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct StoppedBeat {
    id: String,
    name: String,
    state: String,
    finished_at: Option<Timestamp>,
    restart_policy: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    processes: Vec<Process>,
    /// Age of each, in seconds, in the same order.
    ages_s: Vec<u64>,
    containers: Names,
    stopped_beats: Vec<StoppedBeat>,
    oom: Vec<OomKill>,
    /// Lines of workers' logs about children that were killed: container id and line.
    lost: Vec<(String, String)>,
    /// Why the kernel log could not be read.
    kernel_log_gap: Option<String>,
    /// Ids of the brokers of this host, by their URL in the environments of beats. Recordings of earlier versions have only these.
    brokers: BTreeMap<String, String>,
    /// The brokers of the beats, by pid.
    keyspaces: BTreeMap<i32, Keyspace>,
}

impl Check for Workers {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let processes = processes(cx).await?;
        let stopped: Vec<_> = cx
            .inventory
            .containers
            .iter()
            .filter(|c| {
                c.celery.is_some_and(opsctl_core::model::CeleryRole::beats) && !matches!(c.state.as_str(), "running" | "paused")
            })
            .collect();
        if processes.is_empty() && stopped.is_empty() {
            return Err(ProbeError::Skip("no Celery process on this host".to_owned()));
        }
        let uptime = opsctl_core::probe::io::clock::since_boot().as_secs();
        let age = |p: &Process| u64::try_from(uptime - i64::try_from(tasks::seconds(p.start_ticks)).unwrap_or(0)).unwrap_or(0);
        let mut e = Evidence {
            containers: Names::of(processes.iter().map(|p| &p.home), &cx.inventory),
            ages_s: processes.iter().map(age).collect(),
            processes,
            ..Evidence::default()
        };
        e.keyspaces = keyspaces(cx, &e.processes).await;
        if let Some(docker) = &cx.docker {
            for c in stopped {
                if let Ok(container) = docker.inspect(&c.id).await {
                    e.stopped_beats.push(StoppedBeat {
                        id: c.id.clone(),
                        name: c.name.clone(),
                        state: c.state.clone(),
                        finished_at: container.state.finished_at,
                        restart_policy: container.restart_policy.name.clone(),
                    });
                }
            }
        }
        let ids: Vec<String> = e.workers().filter_map(|p| container_of(&p.home)).map(str::to_owned).collect();
        match cx.kernel_log.oom_kills().await {
            Ok(kills) => {
                e.oom = kills.iter().filter(|k| ids.iter().any(|id| k.victim_cgroup.contains(id))).cloned().collect();
            }
            Err(why) => e.kernel_log_gap = Some(why.to_string()),
        }
        if let Some(docker) = &cx.docker {
            for id in ids {
                let lines = docker.log_tail(&id, 300).await.unwrap_or_default();
                let lost = lines.into_iter().rfind(|l| l.contains("WorkerLostError") && l.contains("signal 9"));
                e.lost.extend(lost.map(|line| (id, line)));
            }
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut findings = stopped_beats(e, judged.taken_at);
        findings.extend(doubled(e));
        findings.extend(self.stale(e));
        findings.extend(killed(e, judged.taken_at));
        findings.into()
    }
}

impl Evidence {
    fn workers(&self) -> impl Iterator<Item = &Process> {
        self.processes.iter().filter(|p| p.role.works())
    }

    /// The container or unit of the process; the process itself if it runs directly on the host.
    fn subject(&self, p: &Process) -> Object {
        let identity = format!("{}@{}", p.pid, p.start_ticks);
        match (&p.home, self.containers.name(&p.home)) {
            (Home::Container(_), Some(name)) => Object { kind: Kind::Container, name, id: identity },
            (Home::Unit(unit), _) => Object::new(Kind::Unit, unit.clone(), identity),
            _ => Object::new(Kind::Process, p.pid.to_string(), identity),
        }
    }
}

fn container_of(home: &Home) -> Option<&str> {
    match home {
        Home::Container(id) => Some(id),
        Home::Unit(_) | Home::Host => None,
    }
}

fn stopped_beats(e: &Evidence, now: Timestamp) -> Vec<Finding> {
    // skipped: another beat runs, or the container was stopped long ago
    let missed = |b: &&StoppedBeat| {
        let kept = matches!(b.restart_policy.as_str(), "always" | "unless-stopped" | "on-failure");
        kept || b.finished_at.is_some_and(|t| now.duration_since(t) < RECENT)
    };
    if e.processes.iter().any(|p| p.role.beats()) {
        return Vec::new();
    }
    let finding = |b: &StoppedBeat| {
        let when = b.finished_at.filter(|t| t.as_second() > 0).map_or_else(String::new, |t| format!(", {}", ago(now, t)));
        let message = format!("beat is not running: its container {} is {}{when}; scheduled tasks are not sent", b.name, b.state);
        let subject = Object::new(Kind::Container, b.name.clone(), b.id.clone());
        Finding::new(&BEAT, Severity::Crit, subject, message)
            .since(b.finished_at)
            .key(KeyKind::Container, &b.id)
            .hint(format!("`docker start {}` if the container has no other fault", b.name))
    };
    e.stopped_beats.iter().filter(missed).map(finding).collect()
}

/// Two beats with the same application and the same queues send every task twice.
fn doubled(e: &Evidence) -> Vec<Finding> {
    let beats: Vec<&Process> = e.processes.iter().filter(|p| p.role.beats()).collect();
    let mut findings = Vec::new();
    for (i, beat) in beats.iter().enumerate() {
        let mut others = beats[..i].iter().map(|other| (sharing(other, beat, &e.keyspaces), *other));
        if let Some((sharing, other)) = others.find(|(sharing, _)| *sharing != Sharing::No) {
            let name = |p: &Process| e.containers.process("beat", p.pid, &p.home);
            let app = beat.app.as_deref().unwrap_or_default();
            let message = format!("two beats of {app} run: {} and {}; every task is sent twice", name(other), name(beat));
            // both run: nothing of their containers and units is a cause
            let finding = Finding::new(&BEAT, Severity::Warn, e.subject(beat), message);
            let finding = if sharing == Sharing::Likely { finding.likely() } else { finding };
            let server = e.keyspaces.get(&beat.pid).and_then(|k| k.server.as_ref());
            findings.push(match server.or_else(|| e.brokers.get(beat.broker.as_ref()?)) {
                Some(server) => finding.key(KeyKind::Server, server),
                None => finding,
            });
        }
    }
    findings
}

/// The host of `redis://cache:6379/1`.
pub(super) fn host_of(broker: &str) -> Option<&str> {
    let address = Address::parse(broker);
    Some(address.host()).filter(|host| address.scheme.is_some() && !host.is_empty())
}

fn killed(e: &Evidence, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    for worker in e.workers() {
        let Some(id) = container_of(&worker.home) else { continue };
        let kills: Vec<&OomKill> = e
            .oom
            .iter()
            .filter(|k| k.victim_cgroup.contains(id) && now.duration_since(k.at) < RECENT && k.pid != i64::from(worker.pid))
            .collect();
        let logged = e.lost.iter().find(|(c, _)| c == id).map(|(_, line)| line.clone());
        let Some(last) = kills.iter().max_by_key(|k| k.at) else { continue };
        let name = e.containers.name(&worker.home).unwrap_or_default();
        let times = count(kills.len(), "child process");
        let message = format!(
            "the OOM killer killed {} of the worker {name}, {}",
            times.replace("processs", "processes"),
            ago(now, last.at)
        );
        findings.push(
            Finding::new(&WORKER_OOM, Severity::Crit, e.subject(worker), message)
                .since(Some(last.at))
                .key(KeyKind::Container, id)
                .cite("kernel log", &last.line)
                .cite_opt("its log", logged),
        );
    }
    findings
}

impl Workers {
    /// beat writes its schedule every few minutes, whether or not a task is due.
    fn stale(&self, e: &Evidence) -> Vec<Finding> {
        let limit = self.settings.schedule_warn_s;
        let aged = e.processes.iter().zip(&e.ages_s);
        let stale = aged.filter(|(p, age)| p.role.beats() && **age > limit && p.schedule_age_s.is_some_and(|s| s > limit));
        let finding = |(p, _): (&Process, &u64)| {
            let length = |s: u64| duration(SignedDuration::from_secs(i64::try_from(s).unwrap_or(i64::MAX)));
            let label = e.containers.process("beat", p.pid, &p.home);
            let message = format!(
                "{label} has not written its schedule for {}, limit {}",
                length(p.schedule_age_s.unwrap_or(0)),
                length(limit)
            );
            let signal = matches!(p.state, 'T' | 't').then_some("stopped by a signal (state T)");
            at_home(Finding::new(&BEAT, Severity::Warn, e.subject(p), message).cite_opt("its process", signal), &p.home)
        };
        stale.map(finding).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn broker_host_of_url() {
        assert_eq!(host_of("redis://cache:6379/1"), Some("cache"));
        assert_eq!(host_of("amqp://broker//"), Some("broker"));
        assert_eq!((host_of("redis://[fd00::2]:6379/1"), host_of("redis://[fd00::2]/1")), (Some("fd00::2"), Some("fd00::2")));
        assert_eq!((host_of("memory://"), host_of("nonsense")), (None, None));
    }
}
