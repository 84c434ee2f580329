//! One opsctl at work on one host: discover, probe, judge; and again for one check, when a fix has to be sure.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use opsctl_core::model::{Changes, EngineState, Finding, Inventory, Kind, MountRef, Outcome, Product, Runbook, Target, Verdict};
use opsctl_core::probe::activity::Watch;
use opsctl_core::probe::changes::{self as machine, Reach};
use opsctl_core::probe::endpoint::{Endpoint, FirstAnswers};
use opsctl_core::probe::filesystem::Filesystems;
use opsctl_core::probe::kmsg::KernelLog;
use opsctl_core::probe::names::Resolvers;
use opsctl_core::probe::servers::{Servers, postgres, redis};
use opsctl_core::probe::systemd::Systemd;
use opsctl_core::probe::table::SharedProcessTable;
use opsctl_core::probe::tls::Tls;
use opsctl_core::probe::{Ask, History, NoHistory, ProbeCx, Redactor, clock, docker::Docker, host};

use super::assess::{Assessment, Offer, assess};
use super::collect::{collect, one};
use super::{Progress, RECORDING_SCHEMA_VERSION, Recording};
use crate::changes::{Own, reach};
use crate::config::{Server, nearest};
use crate::discover::{Discovered, discover};
use crate::waive::Waivers;

/// Gives the owner of a subject by its name.
pub type OwnerOf = Box<dyn Fn(&str) -> Option<String>>;

/// What opsctl itself knows was changed since a moment.
pub type OwnChanges = Box<dyn Fn(Timestamp) -> Own>;

/// How long looking for what was changed may take in a run that found something.
const LOOK_BACK: Duration = Duration::from_millis(300);

/// What a session needs to know, taken from configuration and command line.
pub struct Setup {
    /// The runbooks, with their settings.
    pub runbooks: Vec<Runbook>,
    /// The engine's endpoint, when the configuration names one.
    pub endpoint: Option<String>,
    /// Servers that the configuration names.
    pub servers: Vec<Server>,
    /// Addresses that the configuration wants asked.
    pub endpoints: Vec<Endpoint>,
    /// Who owns a subject of this name.
    pub owner_of: OwnerOf,
    /// What is known and does not count for a while.
    pub waivers: Waivers,
    /// What to tell about the run itself.
    pub notes: Vec<String>,
    /// Numbers of earlier runs.
    pub history: Arc<dyn History>,
    /// What opsctl itself knows was changed.
    pub own_changes: OwnChanges,
    /// What was asked for beyond the ordinary.
    pub ask: Ask,
    /// How long a whole run may take.
    pub deadline: Duration,
}

/// Which checks run, on what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Only these runbooks; empty is all.
    pub runbooks: Vec<String>,
    /// Not these.
    pub skip: Vec<String>,
    /// Only these targets (and the engine and host, whose state every answer depends on); empty is all.
    pub words: Vec<String>,
}

impl Selection {
    pub(super) fn runs(&self, runbook: &str, check: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|n| n == runbook || n == check);
        (self.runbooks.is_empty() || named(&self.runbooks)) && !named(&self.skip)
    }

    pub(super) fn targets(&self, target: &Target) -> bool {
        self.words.is_empty() || matches!(target.kind, Kind::Engine | Kind::Host) || self.words.iter().any(|w| target.matches(w))
    }

    /// A path stands for the filesystem it lies on.
    pub(super) fn with_mountpoints(&self, inventory: &Inventory) -> Self {
        let on = |word: &String| {
            let holds = |m: &&MountRef| Path::new(word).starts_with(&m.mountpoint);
            let mount = inventory.mounts.iter().filter(holds).max_by_key(|m| m.mountpoint.len());
            mount.filter(|_| word.starts_with('/')).map_or_else(|| word.clone(), |m| m.mountpoint.clone())
        };
        Self { words: self.words.iter().map(on).collect(), ..self.clone() }
    }

    /// The first word that stands for nothing on this host, with the name nearest to it. While the engine does not answer its
    /// containers cannot be known, and no word is called wrong.
    #[must_use]
    pub fn unmatched<'a>(&self, inventory: &'a Inventory) -> Option<(String, Option<&'a str>)> {
        if inventory.engine.as_ref().is_some_and(|e| !matches!(e.state, EngineState::Answers { .. })) {
            return None;
        }
        let containers = inventory.container_targets(|_| true);
        let mounts = inventory.mounts.iter().map(|m| Target::named(Kind::Mount, &m.mountpoint));
        let units = inventory.unit_targets(|_| true);
        // Celery's view of a broker has the broker's name
        let kinds = |p: Product| [p.kind(), Kind::Celery];
        let servers = inventory.servers.iter().flat_map(|s| kinds(s.product).map(|kind| Target::named(kind, &s.name)));
        let certificates = inventory.certificate_targets(|_| true);
        let endpoints = inventory.endpoints.iter().map(|e| Target::named(Kind::Endpoint, &e.url));
        let servers = servers.chain(certificates).chain(endpoints);
        let targets: Vec<Target> =
            containers.into_iter().chain(mounts).chain(units).chain(servers).chain([Target::host()]).collect();
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

/// One opsctl at work on one host.
pub struct Session {
    setup: Setup,
}

/// What carries out what is done to containers and units.
#[derive(Debug, Clone, Default)]
pub struct Managers {
    /// The container engine, when it answers.
    pub docker: Option<Arc<Docker>>,
    /// systemd, when it answers.
    pub systemd: Option<Arc<Systemd>>,
    /// The session with the Redis server that the target is.
    pub redis: Option<Arc<redis::Session>>,
    /// The session with the PostgreSQL server that the target is.
    pub postgres: Option<Arc<postgres::Session>>,
}

impl Managers {
    async fn of(cx: &ProbeCx, target: &Target) -> Self {
        // the checks have opened it already, or could not
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
    /// What it found.
    pub findings: Vec<Finding>,
    /// What could be done about it.
    pub offers: Vec<Offer>,
    /// What this was read through, for the action that may follow.
    pub managers: Managers,
    /// What may still change by itself.
    pub pending: Vec<String>,
    /// Removes secrets learned while reading.
    pub redactor: Arc<Redactor>,
}

impl Session {
    /// A session with these runbooks.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self { setup }
    }

    /// A session that never reads this host: it only judges what was recorded.
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
            history: Arc::new(NoHistory),
            own_changes: Box::new(|_| Own::default()),
            ask: Ask::default(),
            deadline: Duration::ZERO,
        })
    }

    /// Its runbooks, with their settings.
    #[must_use]
    pub fn runbooks(&self) -> &[Runbook] {
        &self.setup.runbooks
    }

    /// What is on this host.
    pub async fn inventory(&self) -> Inventory {
        discover(self.setup.endpoint.as_deref(), &self.setup.servers, &self.setup.endpoints, &Arc::default()).await.inventory
    }

    /// Reads everything selected. The recording holds no secret.
    pub async fn record(&self, selection: &Selection, progress: &dyn Fn(Progress)) -> Recording {
        self.run(selection, progress).await.0
    }

    /// Reads everything selected and judges it. What was changed before is looked for only when something is wrong, and is part of
    /// the recording.
    pub async fn run(&self, selection: &Selection, progress: &dyn Fn(Progress)) -> (Recording, Assessment) {
        let started = Instant::now();
        let started_at = clock::now();
        progress(Progress::Discovering);
        let cx = Box::pin(self.context(self.setup.ask.clone())).await;
        let deadline = started + self.setup.deadline;
        let selection = selection.with_mountpoints(&cx.inventory);
        let mut records = collect(&self.setup.runbooks, &selection, &cx, deadline, progress).await;
        // only now are all secrets known: one container's log can hold another one's password
        for record in &mut records {
            match &mut record.outcome {
                Outcome::Evidence(text) => text.scrub(&cx.redactor),
                Outcome::Unknown(why) | Outcome::Skip(why) => *why = cx.redactor.scrub(why),
            }
        }
        progress(Progress::Judging);
        let took = || u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut recording = Recording {
            schema_version: RECORDING_SCHEMA_VERSION,
            opsctl: env!("CARGO_PKG_VERSION").to_owned(),
            host: host::read_info().await,
            started_at,
            duration_ms: took(),
            inventory: (*cx.inventory).clone(),
            records,
            changes: None,
        };
        let mut assessment = self.judged(&recording);
        if let Some(since) = reach(&assessment.report) {
            progress(Progress::LookingBack);
            let reach = Reach { since, patience: LOOK_BACK, sudo: false };
            recording.changes = Some(Box::pin(self.changes_seen(&cx, reach)).await);
            recording.duration_ms = took();
            assessment.look_back(&recording);
        }
        assessment.report.notes.extend(self.setup.notes.iter().cloned());
        (recording, assessment)
    }

    /// What was changed on this host since then.
    pub async fn changes(&self, since: Timestamp, patience: Duration) -> Changes {
        let cx = Box::pin(self.context(Ask::default())).await;
        Box::pin(self.changes_seen(&cx, Reach { since, patience, sudo: true })).await
    }

    async fn changes_seen(&self, cx: &ProbeCx, reach: Reach) -> Changes {
        let mut seen = Box::pin(machine::read(cx, reach)).await;
        let own = (self.setup.own_changes)(reach.since);
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

    /// Judges a recording, live or replayed: the same code for both.
    #[must_use]
    pub fn assess(&self, recording: &Recording) -> Assessment {
        let mut assessment = self.judged(recording);
        assessment.report.notes.extend(self.setup.notes.iter().cloned());
        assessment
    }

    fn judged(&self, recording: &Recording) -> Assessment {
        assess(&self.setup.runbooks, recording, &*self.setup.owner_of, &self.setup.waivers)
    }

    /// Reads one check of one target again, with nothing remembered from before.
    pub async fn recheck(&self, check: &str, target: &Target) -> Recheck {
        let cx = Box::pin(self.context(Ask::default())).await;
        let found = self.setup.runbooks.iter().flat_map(|r| &r.checks).find(|c| c.spec().id == check);
        let Some(check) = found else {
            return Recheck::unknown(format!("there is no check {check}"), &cx);
        };
        let deadline = Instant::now() + check.spec().timeout;
        let (_, mut record) = one(&**check, &cx, target.clone(), deadline).await;
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
            pending: assessment.pending.into_iter().map(|p| p.what).collect(),
            managers: Managers::of(&cx, target).await,
            redactor: cx.redactor.clone(),
        }
    }

    async fn context(&self, ask: Ask) -> ProbeCx {
        let redactor = Arc::<Redactor>::default();
        // before everything else: its window runs while the rest does
        let watch = Watch::start().await;
        let Discovered { inventory, docker, systemd, servers, table } =
            discover(self.setup.endpoint.as_deref(), &self.setup.servers, &self.setup.endpoints, &redactor).await;
        ProbeCx {
            process_table: table.map_or_else(SharedProcessTable::default, SharedProcessTable::of),
            inventory: Arc::new(inventory),
            docker,
            systemd,
            servers: Servers::new(servers),
            tls: Tls::default(),
            endpoints: self.setup.endpoints.clone(),
            first_answers: FirstAnswers::default(),
            rules: opsctl_core::probe::Memo::default(),
            filesystems: Filesystems::default(),
            resolvers: Resolvers::default(),
            needs: opsctl_core::probe::needs::Known::default(),
            watch,
            kernel_log: KernelLog::default(),
            history: self.setup.history.clone(),
            redactor,
            ask,
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
            managers: Managers::default(),
            redactor: cx.redactor.clone(),
        }
    }
}
