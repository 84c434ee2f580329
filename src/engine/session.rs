//! A session on one host: discover, probe, judge; and the re-check of a single check for a fix.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use opsctl_core::model::{Changes, EngineState, Inventory, Kind, MountRef, Object, Outcome, Product, Reported, Runbook, Verdict};
use opsctl_core::probe::changes::{self as machine, Reach};
use opsctl_core::probe::docker::Docker;
use opsctl_core::probe::endpoint::{Endpoint, Endpoints};
use opsctl_core::probe::io::clock;
use opsctl_core::probe::kernel::activity::SystemSampler;
use opsctl_core::probe::kernel::filesystem::Filesystems;
use opsctl_core::probe::kernel::host;
use opsctl_core::probe::kernel::kmsg::KernelLog;
use opsctl_core::probe::proc::table::SharedProcessTable;
use opsctl_core::probe::servers::{Servers, postgres, redis};
use opsctl_core::probe::systemd::Systemd;
use opsctl_core::probe::{History, HistoryError, ProbeCx, ProbeOptions, Redactor, Shared, lag};

use super::assess::{Assessment, Judging, Offer, assess, assess_except};
use super::collect::{Jobs, Limit, collect, one};
use super::partial::{Run, Step};
use super::{Progress, RECORDING_SCHEMA_VERSION, Recording};
use crate::config::{Server, nearest};
use crate::correlate::reach;
use crate::discover::{ConfiguredTargets, Discovered, discover};
use crate::waive::Waivers;
use crate::watchdog::ExceededLimit;

/// Returns the owner of a subject, by name.
pub type OwnerOf = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Returns the changes that opsctl recorded itself since a given time.
pub type OwnChangesSource = Box<dyn Fn(Timestamp) -> Changes>;

/// Time limit of reading earlier changes in a run with findings.
const CHANGES_TIMEOUT: Duration = Duration::from_millis(300);

/// The part of a deadline, in percent, that is reserved for the steps after the probes, with its maximum and minimum.
const RESERVE_PERCENT: u32 = 10;
const MAX_RESERVE: Duration = Duration::from_secs(1);
const MIN_RESERVE: Duration = Duration::from_millis(50);

/// Grace period after the limit of a probe: afterwards its thread is blocked.
const BLOCKED_GRACE: Duration = Duration::from_secs(1);

/// Inputs of a session, from configuration and command line.
pub struct Setup {
    /// The runbooks, with their settings.
    pub runbooks: Vec<Runbook>,
    /// The endpoint of the container engine, if configured.
    pub endpoint: Option<String>,
    /// Servers of the configuration.
    pub servers: Vec<Server>,
    /// Addresses of the configuration.
    pub endpoints: Vec<Endpoint>,
    /// The owner of a subject, by name.
    pub owner_of: OwnerOf,
    /// Waivers.
    pub waivers: Waivers,
    /// Notes about the run itself.
    pub notes: Vec<String>,
    /// Samples of earlier runs.
    pub history: Arc<dyn History>,
    /// Changes recorded by opsctl itself.
    pub own_changes: OwnChangesSource,
    /// Optional inspections that were requested.
    pub options: ProbeOptions,
    /// Deadline of a run.
    pub deadline: Duration,
}

/// The checks and targets of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these runbooks; all if empty.
    pub runbooks: Vec<String>,
    /// Excluded runbooks.
    pub skip: Vec<String>,
    /// Only these targets (and the engine and host, on which all results depend); all if empty.
    pub words: Vec<String>,
}

impl Selection {
    pub(super) fn runs(&self, runbook: &str, check: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|n| n == runbook || n == check);
        (self.runbooks.is_empty() || named(&self.runbooks)) && !named(&self.skip)
    }

    pub(super) fn targets(&self, target: &Object) -> bool {
        self.words.is_empty() || matches!(target.kind, Kind::Engine | Kind::Host) || self.words.iter().any(|w| target.matches(w))
    }

    /// Replaces paths with the mountpoint of their filesystem.
    pub(super) fn with_mountpoints(&self, inventory: &Inventory) -> Self {
        let on = |word: &String| {
            let holds = |m: &&MountRef| Path::new(word).starts_with(&m.mountpoint);
            let mount = inventory.mounts.iter().filter(holds).max_by_key(|m| m.mountpoint.len());
            mount.filter(|_| word.starts_with('/')).map_or_else(|| word.clone(), |m| m.mountpoint.clone())
        };
        Self { words: self.words.iter().map(on).collect(), ..self.clone() }
    }

    /// The first word that matches no target of this host, with the nearest name. If the engine does not respond, its containers are unknown
    /// and no word is rejected.
    #[must_use]
    pub fn unmatched<'a>(&self, inventory: &'a Inventory) -> Option<(String, Option<&'a str>)> {
        if inventory.engines().any(|e| !matches!(e.state, EngineState::Answers { .. })) {
            return None;
        }
        let containers = inventory.container_targets(|_| true);
        let mounts = inventory.mounts.iter().map(|m| Object::named(Kind::Mount, &m.mountpoint));
        let units = inventory.unit_targets(|_| true);
        // the Celery target of a broker has the name of the broker
        let kinds = |p: Product| [p.kind(), Kind::Celery];
        let servers = inventory.servers.iter().flat_map(|s| kinds(s.product).map(|kind| Object::named(kind, &s.name)));
        let certificates = inventory.certificate_targets(|_| true);
        let endpoints = inventory.endpoints.iter().map(|e| Object::named(Kind::Endpoint, &e.url));
        let servers = servers.chain(certificates).chain(endpoints);
        let targets: Vec<Object> =
            containers.into_iter().chain(mounts).chain(units).chain(servers).chain([Object::host()]).collect();
        let word = self.with_mountpoints(inventory).words.into_iter().find(|w| !targets.iter().any(|t| t.matches(w)))?;
        let names =
            inventory.containers.iter().map(|c| c.name.as_str()).chain(inventory.mounts.iter().map(|m| m.mountpoint.as_str()));
        let names = names.chain(inventory.servers.iter().map(|s| s.name.as_str()));
        let names = names.chain(inventory.certificates.iter().map(|c| c.name.as_str()));
        let names = names.chain(inventory.endpoints.iter().map(|e| e.url.as_str()));
        let names = names.chain(inventory.systemd.iter().flat_map(|s| &s.units).map(|u| u.name.as_str()));
        let nearest = nearest(&word, names);
        Some((word, nearest))
    }
}

/// A session on one host.
pub struct Session {
    judging: Arc<Judging>,
    configured: ConfiguredTargets,
    history: Arc<dyn History>,
    own_changes: OwnChangesSource,
    options: ProbeOptions,
    deadline: Duration,
}

/// Clients that execute the actions on containers, units and servers.
#[derive(Debug, Clone, Default)]
pub struct Managers {
    /// The container engine, if it responds.
    pub docker: Option<Arc<Docker>>,
    /// systemd, if it responds.
    pub systemd: Option<Arc<Systemd>>,
    /// The session with the targeted Redis server.
    pub redis: Option<Arc<redis::Session>>,
    /// The session with the targeted PostgreSQL server.
    pub postgres: Option<Arc<postgres::Session>>,
}

impl Managers {
    async fn of(cx: &ProbeCx, target: &Object) -> Self {
        // the checks have opened it already, or failed to
        let redis = matches!(target.kind, Kind::Redis | Kind::Celery).then(|| cx.redis(target));
        let postgres = matches!(target.kind, Kind::Postgres | Kind::Pgbouncer).then(|| cx.postgres(target));
        Self {
            docker: cx.docker.clone(),
            systemd: cx.systemd.clone(),
            redis: match redis {
                Some(session) => session.await.ok().and_then(Result::ok),
                None => None,
            },
            postgres: match postgres {
                Some(session) => session.await.ok().and_then(Result::ok),
                None => None,
            },
        }
    }
}

/// Fresh evidence for one check of one target, judged.
#[derive(Clone)]
pub struct Recheck {
    /// The check's verdict.
    pub verdict: Verdict,
    /// Findings.
    pub findings: Vec<Reported>,
    /// Available fixes.
    pub offers: Vec<Offer>,
    /// Clients used by the re-check, for a subsequent action.
    pub managers: Managers,
    /// Checks that may still succeed without intervention.
    pub pending: Vec<String>,
    /// Facts that the check could not read.
    pub gaps: Vec<String>,
    /// Names of the facts that it read.
    pub facts: Vec<String>,
    /// Removes secrets learned while reading.
    pub redactor: Arc<Redactor>,
}

impl Session {
    /// A session with these runbooks.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let Setup { runbooks, endpoint, servers, endpoints, owner_of, waivers, notes, history, own_changes, options, deadline } =
            setup;
        Self {
            judging: Arc::new(Judging { runbooks, owner_of, waivers, notes }),
            configured: ConfiguredTargets { engine: endpoint, servers, endpoints },
            history,
            own_changes,
            options,
            deadline,
        }
    }

    /// A session that does not read this host and only judges recordings.
    #[must_use]
    pub fn replaying(runbooks: Vec<Runbook>) -> Self {
        Self::new(Setup {
            runbooks,
            endpoint: None,
            servers: Vec::new(),
            endpoints: Vec::new(),
            owner_of: Box::new(|_| None),
            waivers: Waivers::default(),
            notes: Vec::new(),
            history: Arc::new(HistoryError),
            own_changes: Box::new(|_| Changes::default()),
            options: ProbeOptions::default(),
            deadline: Duration::ZERO,
        })
    }

    /// Its runbooks, with their settings.
    #[must_use]
    pub fn runbooks(&self) -> &[Runbook] {
        &self.judging.runbooks
    }

    /// Deadline of a run.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The discovered targets of this host.
    pub async fn inventory(&self) -> Inventory {
        Box::pin(discover(&self.configured, &Arc::default(), self.deadline)).await.inventory
    }

    /// Runs the selected probes and judges the evidence. Earlier changes are read only if there are findings, and are part of the recording,
    /// which contains no secrets. Returns by the deadline unless its own thread is blocked: in that case the watchdog reports the partial
    /// results in `run`.
    pub async fn run(&self, selection: &Selection, run: &Run, progress: &dyn Fn(Progress)) -> (Recording, Assessment) {
        let started_at = clock::now();
        let (partial, until) = (&run.partial, run.began + self.deadline);
        partial.begin(self.judging.clone(), host::read_info().await, run.began, started_at);
        progress(Progress::Discovering);
        let left = || until.saturating_duration_since(Instant::now());
        let cx = Arc::new(Box::pin(self.context(self.options.clone(), left())).await);
        let selection = selection.with_mountpoints(&cx.inventory);
        let jobs = Jobs::of(&self.judging, &selection, &cx.inventory);
        let reserve = (self.deadline * RESERVE_PERCENT / 100).clamp(MIN_RESERVE, MAX_RESERVE);
        let limit = Limit { until: until.checked_sub(reserve).unwrap_or(until), run: Some((run.began, self.deadline)) };
        collect(&self.judging, &cx, jobs, limit, partial, progress).await;
        let _priority = lag::was_late(run.began).map(|_| lag::Priority::raise());
        partial.complete(&ExceededLimit::Deadline(self.deadline).reason(run.began));
        progress(Progress::Judging);
        let recorded = partial.recorded();
        let mut assessment = assess_except(&self.judging, &recorded, None, &|order| partial.judge(order));
        partial.judged(&assessment.report, &assessment.verdict);
        let mut recording = Arc::unwrap_or_clone(recorded);
        if let Some(since) = reach(&assessment.report) {
            progress(Progress::ReadingChanges);
            partial.step(Step::ReadingChanges);
            let reach = Reach { since, time_limit: CHANGES_TIMEOUT, sudo: false };
            recording.changes = tokio::time::timeout(left(), Box::pin(self.changes_seen(&cx, reach))).await.ok();
            recording.duration_ms = u64::try_from(run.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            assessment.add_changes(&recording);
        }
        partial.step(Step::Reporting);
        (recording, assessment)
    }

    /// The changes to this host since then.
    pub async fn changes(&self, since: Timestamp, time_limit: Duration) -> Changes {
        let cx = Box::pin(self.context(ProbeOptions::default(), self.deadline)).await;
        Box::pin(self.changes_seen(&cx, Reach { since, time_limit, sudo: true })).await
    }

    async fn changes_seen(&self, cx: &ProbeCx, reach: Reach) -> Changes {
        let mut seen = Box::pin(machine::read(cx, reach)).await;
        let own = (self.own_changes)(reach.since);
        seen.changes.extend(own.changes);
        seen.unknown.extend(own.unknown);
        seen.changes.sort_by(|a, b| (a.at, a.kind, &a.subject).cmp(&(b.at, b.kind, &b.subject)));
        for change in &mut seen.changes {
            change.what = cx.redactor.scrub(&change.what);
            change.by = change.by.take().map(|by| cx.redactor.scrub(&by));
        }
        for why in seen.unknown.iter_mut().chain(&mut seen.absent) {
            *why = cx.redactor.scrub(why);
        }
        seen
    }

    /// Judges a recording, live or replayed.
    #[must_use]
    pub fn assess(&self, recording: &Recording) -> Assessment {
        assess(&self.judging, recording)
    }

    /// Runs one check of one target again, without cached evidence.
    pub async fn recheck(&self, check: &str, target: &Object) -> Recheck {
        let cx = Arc::new(Box::pin(self.context(ProbeOptions::default(), self.deadline)).await);
        let Some((at, spec)) = self.judging.find(check).and_then(|at| Some((at, self.judging.check(at)?.spec()))) else {
            return Recheck::unknown(format!("there is no check {check}"), &cx);
        };
        let limit = Limit { until: Instant::now() + spec.timeout, run: None };
        let (judging, shared, about) = (self.judging.clone(), cx.clone(), target.clone());
        // a task of its own, so that a blocked probe does not block this one
        let probe = tokio::spawn(async move { one(&judging, at, &shared, about, limit).await });
        let ended = tokio::time::timeout_at((limit.until + BLOCKED_GRACE).into(), probe).await;
        let Some(mut record) = ended.ok().and_then(Result::ok).flatten() else {
            return Recheck::unknown(format!("{check} did not end: it is blocked in a call"), &cx);
        };
        if let Outcome::Evidence(text) = &mut record.outcome {
            text.scrub(&cx.redactor);
        }
        let recording = Recording {
            schema_version: RECORDING_SCHEMA_VERSION,
            opsctl: String::new(),
            host: opsctl_core::model::HostInfo::default(),
            started_at: record.taken_at,
            duration_ms: record.duration_ms,
            inventory: (*cx.inventory).clone(),
            records: vec![record],
            changes: None,
        };
        let assessment = self.assess(&recording);
        let verdict = assessment.verdicts.into_iter().next().unwrap_or(Verdict::Ok);
        Recheck {
            verdict,
            findings: assessment.report.findings,
            offers: assessment.offers,
            pending: assessment.pending.into_iter().map(|p| p.condition).collect(),
            gaps: assessment.gaps,
            facts: assessment.facts,
            managers: Managers::of(&cx, target).await,
            redactor: cx.redactor.clone(),
        }
    }

    /// `left` is the rest of the deadline; discovery may use only a part of it.
    async fn context(&self, options: ProbeOptions, left: Duration) -> ProbeCx {
        let redactor = Arc::<Redactor>::default();
        // first: its sampling window elapses during the other steps
        let watch = SystemSampler::start().await;
        let reserve = (self.deadline * RESERVE_PERCENT / 100).clamp(MIN_RESERVE, MAX_RESERVE);
        let endpoints = Endpoints::new(self.configured.endpoints.clone()).until(Instant::now() + left.saturating_sub(reserve));
        let Discovered { inventory, docker, systemd, servers, table } =
            Box::pin(discover(&self.configured, &redactor, left)).await;
        ProbeCx {
            process_table: table.map_or_else(SharedProcessTable::default, SharedProcessTable::of),
            inventory: Arc::new(inventory),
            docker,
            systemd,
            shared: Shared::default().with(Servers::new(servers)).with(endpoints),
            rules: opsctl_core::probe::Memo::default(),
            filesystems: Filesystems::default(),
            watch,
            kernel_log: KernelLog::default(),
            history: self.history.clone(),
            redactor,
            options,
        }
    }
}

impl Recheck {
    fn unknown(why: String, cx: &ProbeCx) -> Self {
        Self {
            verdict: Verdict::Unknown(why),
            findings: Vec::new(),
            offers: Vec::new(),
            pending: Vec::new(),
            gaps: Vec::new(),
            facts: Vec::new(),
            managers: Managers::default(),
            redactor: cx.redactor.clone(),
        }
    }
}
