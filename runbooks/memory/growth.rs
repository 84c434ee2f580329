//! Growth of the largest processes from run to run. The size of a process alone proves no leak.

use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Judged, Judgement, Kind, Object, Plan, Refusal, Sample, Severity,
    quantity::{bytes, duration, percent},
};
use opsctl_core::probe::docker::Container;
use opsctl_core::probe::io::clock;
use opsctl_core::probe::kernel::host;
use opsctl_core::probe::kernel::tasks::Consumer;
use opsctl_core::probe::proc::home::Home;
use opsctl_core::probe::proc::process;
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::shared::processes::{Names, at_home, of_host};
use crate::shared::restart_container::{self, RESTART};
use crate::shared::servers::READ_TIMEOUT;

const LEAK: Code = Code {
    id: "memory.leak-suspect",
    severities: &[Severity::Warn],
    when: "one of the largest processes, an hour old or more, grew by over {growth_warn_percent} per hour for an hour or more, and by 5 % of the memory",
    hint: "restart it in a maintenance window and find the objects it retains",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "memory.growth",
    title: "The largest processes do not grow steadily",
    codes: &[LEAK],
    fixes: &[RESTART],
    timeout: Duration::from_secs(4),
};

/// A shorter interval shows no trend, and a younger process is still warming up.
const MIN_INTERVAL: SignedDuration = SignedDuration::from_hours(1);
/// Longest interval to compare.
const MAX_INTERVAL_S: i64 = 24 * 3600;
/// Smaller processes are not recorded, as a share of the memory.
const MIN_SHARE: f64 = 0.02;
/// Less growth does not justify a restart, as a share of the memory.
const MIN_GROWTH_SHARE: f64 = 0.05;

pub(super) struct Growth {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    total: u64,
    boot_id: String,
    largest: Vec<TrackedProcess>,
    containers: Names,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct TrackedProcess {
    process: Consumer,
    /// Anonymous memory in bytes: without file pages and shared memory, which a database fills as it warms up.
    anonymous: u64,
    /// Seconds since its start.
    age_s: i64,
    /// The oldest sample of the last 24 h.
    before: Option<Sample>,
    /// The container of a process that grew enough for a restart, with the facts a restart needs.
    container: Option<(Container, restart_container::RestartContext)>,
}

impl Check for Growth {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let activity = cx.watch.activity().await?;
        let (total, boot_id) = (cx.watch.memory().await?.total, host::read_info().await.boot_id);
        let now = clock::now();
        let since_boot = clock::since_boot().as_secs();
        let mut largest = Vec::new();
        let notable: Vec<&Consumer> = activity.largest.iter().filter(|c| c.rss as f64 > total as f64 * MIN_SHARE).collect();
        let pids: Vec<i32> = notable.iter().map(|c| c.process.pid).collect();
        let read = move |io: &Io| pids.into_iter().map(|pid| process::anonymous(io, pid)).collect::<Vec<_>>();
        let anonymous = blocking::run("memory of processes", "/proc", READ_TIMEOUT, read).await?;
        for (process, anonymous) in notable.into_iter().zip(anonymous) {
            let started = i64::try_from(process.process.start_ticks / host::clock_ticks()).unwrap_or(0);
            let before = cx.history.oldest(&object(process, &boot_id), "anonymous_bytes", MAX_INTERVAL_S);
            let anonymous = anonymous.unwrap_or(process.rss);
            let mut seen =
                TrackedProcess { process: process.clone(), anonymous, age_s: since_boot - started, before, container: None };
            if self.growth(&seen, total, now).is_some()
                && let Ok(docker) = cx.docker()
                // a process can choose the name of its control group, and the fix restarts the container
                && let Home::Container(id) = cx.proven_home(process.process.pid, process.home.clone()).await
            {
                let container = docker.inspect(&id).await?;
                let context = restart_container::RestartContext::of(cx, &container).await;
                seen.container = Some(((*container).clone(), context));
            }
            largest.push(seen);
        }
        let containers = Names::of(largest.iter().map(|s| &s.process.home), &cx.inventory);
        Ok(Evidence { total, boot_id, largest, containers })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let samples = e.largest.iter().map(|s| Sample {
            object: object(&s.process, &e.boot_id),
            metric: "anonymous_bytes".to_owned(),
            at: judged.taken_at,
            value: s.anonymous as f64,
        });
        let findings = e.largest.iter().filter_map(|s| self.suspect(judged, e, s)).collect();
        Judgement { findings, samples: samples.collect(), ..Judgement::default() }
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        let mut containers = e.largest.iter().filter_map(|s| Some((s, s.container.as_ref()?)));
        let (tracked, (container, context)) = containers
            .find(|(_, (c, _))| c.subject() == finding.subject)
            .ok_or_else(|| Refusal::Precondition("the container no longer exists".to_owned()))?;
        let comm = tracked.process.comm.as_str();
        if DATA_SERVERS.contains(&comm) {
            return Err(Refusal::Policy(format!(
                "the memory of {comm} is its data: a restart loads it again or loses it; limit the data instead"
            )));
        }
        restart_container::plan(container, context, &SPEC, finding, judged.target)
    }
}

/// Servers with data or a cache in their memory.
const DATA_SERVERS: &[&str] = &[
    "redis-server",
    "valkey-server",
    "keydb-server",
    "dragonfly",
    "memcached",
    "postgres",
    "mysqld",
    "mariadbd",
    "mongod",
    "clickhouse-serv",
    "prometheus",
];

/// A pid is reused: its start time and the boot id identify the process.
fn object(process: &Consumer, boot_id: &str) -> String {
    format!("process:{}@{boot_id}/{}", process.process.pid, process.process.start_ticks)
}

impl Growth {
    /// Growth per hour in percent and total growth in bytes, if suspicious.
    fn growth(&self, s: &TrackedProcess, total: u64, now: jiff::Timestamp) -> Option<(f64, f64, SignedDuration)> {
        let before = s.before.as_ref().filter(|b| b.value > 0.0)?;
        let span = now.duration_since(before.at);
        let old_enough = s.age_s.saturating_sub(span.as_secs()) >= MIN_INTERVAL.as_secs();
        if span < MIN_INTERVAL || !old_enough {
            return None;
        }
        let grown = s.anonymous as f64 - before.value;
        let per_hour = grown * 100.0 / before.value / (span.as_secs_f64() / 3600.0);
        (per_hour > self.settings.growth_warn_percent && grown > total as f64 * MIN_GROWTH_SHARE)
            .then_some((per_hour, grown, span))
    }

    fn suspect(&self, judged: &Judged<'_>, e: &Evidence, s: &TrackedProcess) -> Option<Finding> {
        let (per_hour, grown, span) = self.growth(s, e.total, judged.taken_at)?;
        let p = &s.process;
        let name = e.containers.process(&p.comm, p.process.pid, &p.home);
        let subject = match &s.container {
            Some((container, _)) => container.subject(),
            None => Object {
                kind: Kind::Process,
                name: p.process.pid.to_string(),
                id: format!("{}@{}", p.process.pid, p.process.start_ticks),
            },
        };
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the growth of a process is positive and below 2^53"
        )]
        let grown = bytes(grown as u64);
        let message = format!(
            "{name} grew by {grown} to {} in {}, {} per hour, limit {}",
            bytes(s.anonymous),
            duration(span),
            percent(per_hour),
            percent(self.settings.growth_warn_percent)
        );
        let mut finding = at_home(of_host(Finding::new(&LEAK, Severity::Warn, subject, message)), &p.home).likely();
        if s.container.is_some() {
            finding = finding.fix(RESTART.id);
        }
        Some(finding)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use opsctl_core::probe::kernel::tasks::Identity;

    use super::*;

    /// The plan for a container with a process of this name that grew from 1 to 3 GiB in six hours.
    fn plan(comm: &str, context: restart_container::RestartContext) -> Result<Plan, Refusal> {
        let container = Container { id: "a".repeat(64), name: "app".into(), ..Container::default() };
        let now = jiff::Timestamp::from_second(100_000).unwrap();
        let before = Sample {
            object: String::new(),
            metric: "anonymous_bytes".into(),
            at: jiff::Timestamp::from_second(100_000 - 6 * 3600).unwrap(),
            value: f64::from(1 << 30),
        };
        let process = Consumer {
            process: Identity { pid: 7, start_ticks: 1 },
            comm: comm.into(),
            cpu_percent: 1.0,
            rss: 3 << 30,
            nice: 0,
            home: Home::Container(container.id.clone()),
        };
        let tracked = TrackedProcess {
            process,
            anonymous: 3 << 30,
            age_s: 90_000,
            before: Some(before),
            container: Some((container, context)),
        };
        let e = Evidence { total: 8 << 30, boot_id: "b".into(), largest: vec![tracked], containers: Names::default() };
        let check = Growth { settings: Settings::default() };
        let target = Object::host();
        let judged = Judged { target: &target, taken_at: now };
        let finding = check.judge(&judged, &e).findings.remove(0);
        check.plan(RESTART.id, &finding, &judged, &e)
    }

    #[test]
    fn growing_container_is_restarted() {
        let plan = plan("python3", restart_container::RestartContext::default()).unwrap();
        assert!(plan.risk == opsctl_core::model::Risk::R2 && plan.actions.len() == 1, "{plan:?}");
    }

    #[test]
    fn growing_data_is_no_leak() {
        for comm in ["redis-server", "postgres", "prometheus"] {
            let refused = plan(comm, restart_container::RestartContext::default());
            assert!(matches!(refused, Err(Refusal::Policy(why)) if why.contains("is its data")), "{comm}");
        }
    }

    #[test]
    fn container_that_would_stay_down_is_not_restarted() {
        let context = restart_container::RestartContext { stays_down: Some("`nginx -t` fails".into()), ..Default::default() };
        let refused = plan("nginx", context).unwrap_err().to_string();
        assert!(refused.contains("nginx would not start again in it"), "{refused}");
    }
}
