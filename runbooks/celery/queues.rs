//! Whether tasks are consumed and completed, according to the broker.

use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{
    Action, Check, CheckSpec, Code, Confidence, DependsOn, Finding, FixSpec, Inventory, Judged, Judgement, KeyKind, Kind, Object,
    Plan, Product, Refusal, Risk, Role, Severity, Unit, UnitRef,
    quantity::{count_of, duration},
};
use opsctl_core::probe::proc::home::Home;
use opsctl_core::probe::servers::SessionError;
use opsctl_core::probe::servers::celery::{Connection, Process, processes};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::broker::{BrokerAddress, Queue};
use super::{rabbitmq, redis};
use crate::shared::broker_keys;
use crate::shared::dependencies::running;
use crate::shared::processes::{Names, at_home};
use crate::shared::servers::Server;

const BACKLOG: Code = Code {
    id: "celery.backlog",
    severities: &[Severity::Warn, Severity::Crit],
    when: "{backlog_warn} (warn) or {backlog_crit} (crit) tasks wait in a queue, all priorities together",
    hint: "check the task names: a single name that fills the queue either re-enqueues itself or is sent faster than it is processed",
    ..Code::BASE
};
pub(super) const NO_CONSUMER: Code = Code {
    id: "celery.no-consumer",
    severities: &[Severity::Crit],
    when: "tasks wait in a queue that has no consumer: no worker is connected, or the connected workers consume other queues",
    hint: "start the worker, or add this queue to a worker (`-Q`)",
    depends_on: &[&running("the worker's"), &[DependsOn::likely(Role::RejectsWrites, KeyKind::Writes, "its")]],
    ..Code::BASE
};
const STALLED: Code = Code {
    id: "celery.stalled",
    severities: &[Severity::Warn, Severity::Crit],
    when: "tasks wait and the connected workers consume none: stopped, paused, cut off from the broker, or connected without consuming (crit; warn when only some are); or the oldest task has been running for {unacked_warn_s} (warn) or longer than the visibility timeout (crit) and the queue does not shrink",
    hint: "check the worker's CPU time and its log, then restart it",
    depends_on: &[&running("the worker's"), &[DependsOn::confirmed(Role::RejectsWrites, KeyKind::Writes, "its")]],
    ..Code::BASE
};
const ORPHANS: Code = Code {
    id: "celery.unacked-orphans",
    severities: &[Severity::Info, Severity::Warn],
    when: "tasks were delivered and not acknowledged, and no worker is connected (warn: they are redelivered after the visibility timeout); tasks wait in a worker for an ETA beyond that timeout (info: they may run twice)",
    hint: "start a worker: unacknowledged tasks are redelivered after the visibility timeout, by default an hour",
    ..Code::BASE
};
const DURABILITY: Code = Code {
    id: "celery.broker-durability",
    severities: &[Severity::Info],
    when: "the broker is a Redis without persistence: a restart loses every waiting task",
    hint: "enable the append-only file, or accept the loss",
    ..Code::BASE
};

const RESTART_WORKER: FixSpec = FixSpec {
    id: "celery.restart-worker",
    risk: Risk::R2,
    title: "restart the container or unit of the worker that consumes no tasks",
};

static SPEC: CheckSpec = CheckSpec {
    id: "celery.queues",
    title: "Celery tasks are consumed and completed",
    codes: &[BACKLOG, NO_CONSUMER, STALLED, ORPHANS, DURABILITY],
    fixes: &[RESTART_WORKER],
    timeout: Duration::from_secs(8),
};

/// Interval between the two samples of non-empty queues.
const RESAMPLE_INTERVAL: Duration = Duration::from_millis(500);

pub(super) struct Queues {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    places: Vec<BrokerAddress>,
    /// Workers on this host.
    workers: Vec<Process>,
    containers: Names,
    /// Their containers that are paused, by full id.
    paused: Vec<String>,
    /// Stopped worker containers, by full id and name.
    stopped: Vec<(String, String)>,
    /// Worker units that are not active.
    stopped_units: Vec<String>,
    /// The broker has no persistence.
    forgets: bool,
    /// Why the broker cannot be queried although workers need it.
    silent: Option<String>,
}

impl Check for Queues {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        let brokers = inventory.servers.iter().filter(|s| matches!(s.product, Product::Redis | Product::Rabbitmq));
        brokers.map(|s| Object::new(Kind::Celery, s.name.clone(), s.id.clone())).collect()
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        let workers: Vec<Process> = processes(cx).await?.into_iter().filter(|p| p.role.works()).collect();
        let containers = Names::of(workers.iter().map(|w| &w.home), &cx.inventory);
        let all = || cx.inventory.containers.iter().filter(|c| c.celery.is_some_and(opsctl_core::model::CeleryRole::works));
        let mut e = Evidence {
            containers,
            paused: all().filter(|c| c.state == "paused").map(|c| c.id.clone()).collect(),
            stopped: all()
                .filter(|c| !matches!(c.state.as_str(), "running" | "paused"))
                .map(|c| (c.id.clone(), c.name.clone()))
                .collect(),
            stopped_units: stopped_units(&cx.inventory),
            server,
            ..Evidence::default()
        };
        let needed = !workers.is_empty() || !e.stopped.is_empty();
        e.workers = workers;
        let product = e.server.get().map(|s| s.product);
        if product == Some(Product::Rabbitmq) {
            return self.on_rabbitmq(cx, target, e, needed).await;
        }
        let session = match cx.redis(target).await? {
            Ok(session) => session,
            // a worker without its broker is a gap; a stopped Redis that no worker uses is not
            Err(why) if !needed => return Err(why.skip("redis.up")),
            Err(why) => {
                e.silent = Some(unavailable(&why));
                return Ok(e);
            }
        };
        let lost = |e| ProbeError::failed("queues", &target.name, &format!("{e:?}"));
        let keys = broker_keys::find(&session).await.map_err(lost)?;
        if keys.celery.is_empty() {
            return Err(ProbeError::Skip("not used by Celery".to_owned()));
        }
        e.places = redis::read(cx, target, &session, &keys).await.map_err(lost)?;
        let (save, append) = tokio::join!(session.setting("save"), session.setting("appendonly"));
        e.forgets = save.as_deref() == Some("") && append.as_deref() == Some("no");
        if self.suspicious(&e) {
            tokio::time::sleep(RESAMPLE_INTERVAL).await;
            let later = redis::read(cx, target, &session, &keys).await.map_err(lost)?;
            e.merge_second_sample(later, &processes(cx).await?);
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        if let Some(why) = &e.silent {
            let gap = format!("cannot check whether tasks are consumed: the broker {} {why}", judged.target.name);
            return Judgement { gaps: vec![gap], ..Judgement::default() };
        }
        let mut findings = Vec::new();
        for broker in &e.places {
            for queue in broker.queues.iter().filter(|q| q.now() > 0) {
                findings.extend(self.consumed(e, broker, queue));
                findings.extend(self.backlog(e, broker, queue));
            }
            findings.extend(orphans(judged, e, broker));
        }
        if e.forgets {
            let message = format!("{} has no persistence: a restart loses every waiting task", judged.target.name);
            findings.push(e.server.finding(&DURABILITY, Severity::Info, judged.target, message));
        }
        findings.into()
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        let broker = e.places.iter().find(|p| p.queues.iter().any(|q| e.subject(p, q) == finding.subject));
        let Some((broker, culprits)) = broker.map(|p| (p, e.culprits(p))).filter(|(_, workers)| !workers.is_empty()) else {
            return Err(Refusal::Precondition(
                "the worker cannot be identified from this host: it runs on another machine".to_owned(),
            ));
        };
        if finding.confidence == Confidence::Likely {
            return Err(Refusal::Policy("its oldest task may still make progress, and a restart would end it".to_owned()));
        }
        let label = |w: &Process| e.containers.process("worker", w.pid, &w.home);
        let mut homes: Vec<&Process> = Vec::new();
        for worker in &culprits {
            if !homes.iter().any(|w| w.home == worker.home && w.home != Home::Host) {
                homes.push(worker);
            }
        }
        let labels: Vec<String> = homes.iter().map(|w| label(w)).collect();
        if let Some(paused) = homes.iter().find(|w| e.is_paused(w)) {
            let paused = label(paused);
            return Err(Refusal::Precondition(format!("{paused} is paused: unpause it, a restart would lose its running tasks")));
        }
        if homes.len() > 1 && culprits.iter().all(|w| stuck(e, broker, w).is_none()) {
            let all = labels.join(", ");
            return Err(Refusal::ByHand(format!("none of {all} is visibly stuck: read their logs, and restart them one by one")));
        }
        let mut actions = Vec::new();
        for worker in &homes {
            actions.push(match &worker.home {
                Home::Container(id) => Action::RestartContainer { id: id.clone(), timeout_s: STOP_TIMEOUT_S },
                Home::Unit(unit) if unit.ends_with(".service") => Action::RestartUnit { unit: unit.clone() },
                _ => {
                    return Err(Refusal::ByHand(format!(
                        "stop {} with SIGTERM (SIGCONT first if it is stopped) and start it again by hand: no container or unit manages it",
                        label(worker)
                    )));
                }
            });
        }
        let is_stopped = homes.iter().any(|w| matches!(w.state, 'T' | 't'));
        let killed =
            is_stopped.then(|| "a stopped process does not react to SIGTERM: it is killed after the stop timeout".to_owned());
        let mut plan = Plan::new(&RESTART_WORKER, &SPEC, finding, judged.target, actions)
            .affects([format!(
                "{}: running tasks are executed again if the application acknowledges late, and lost otherwise",
                labels.join(", ")
            )])
            .affects(killed)
            .downtime(format!("up to {STOP_TIMEOUT_S} s to stop, then its own start time"))
            .verified(Duration::from_secs(90), Duration::ZERO);
        if homes.len() > 1 {
            plan.risk = Risk::R3;
        }
        Ok(plan)
    }
}

/// Seconds between the stop signal and SIGKILL: a worker ends its tasks first.
const STOP_TIMEOUT_S: i64 = 30;

/// Worker units, recognised by name, that are not active.
fn stopped_units(inventory: &Inventory) -> Vec<String> {
    let units = inventory.systemd.iter().flat_map(|s| &s.units);
    let down =
        |u: &&UnitRef| u.kind() == "service" && u.name.contains("celery") && !u.name.contains("beat") && u.active != "active";
    units.filter(down).map(|u| u.name.clone()).collect()
}

/// The reason for an unavailable broker, as a predicate.
fn unavailable(why: &SessionError) -> String {
    match why {
        SessionError::NotRunning => "does not run".to_owned(),
        SessionError::Login { .. } => "requires credentials that opsctl does not have".to_owned(),
        _ => "does not answer".to_owned(),
    }
}

/// Why a worker consumes nothing, if the cause is visible from this host.
fn stuck(e: &Evidence, broker: &BrokerAddress, worker: &Process) -> Option<&'static str> {
    if e.is_paused(worker) {
        return Some("its container is paused");
    }
    if matches!(worker.state, 'T' | 't') {
        return Some("stopped by a signal (state T)");
    }
    let cut = |c: &&super::broker::Consumer| c.dead && connects_from(worker, &c.address);
    if broker.consumers.iter().any(|c| cut(&c)) {
        return Some("the broker's packets to it are not acknowledged");
    }
    // a worker sends a heartbeat every two seconds
    let clients = || broker.consumers.iter().map(|c| &c.address).chain(&broker.listeners);
    let lost = |c: &&Connection| c.is_stuck() && clients().any(|a| *a == c.local.to_string());
    worker.connections.iter().any(|c| lost(&c)).then_some("its packets to the broker are not acknowledged")
}

fn connects_from(worker: &Process, address: &str) -> bool {
    worker.connections.iter().any(|c| c.local.to_string() == address)
}

impl Evidence {
    fn is_paused(&self, worker: &Process) -> bool {
        matches!(&worker.home, Home::Container(id) if self.paused.contains(id))
    }

    /// Keeps only conditions present in both samples: a connection may be slow, a worker may be between two tasks.
    fn merge_second_sample(&mut self, later: Vec<BrokerAddress>, processes: &[Process]) {
        for (broker, later) in self.places.iter_mut().zip(later) {
            for queue in broker.queues.iter_mut().filter(|q| q.depth > 0) {
                queue.later = later.queues.iter().find(|q| q.name == queue.name).map(|q| q.depth);
            }
            let before = std::mem::take(&mut broker.consumers);
            let both = |mut c: super::broker::Consumer| {
                let same = before.iter().find(|b| b.address == c.address);
                c.dead &= same.is_some_and(|b| b.dead);
                c.waits &= same.is_some_and(|b| b.waits);
                c
            };
            broker.consumers = later.consumers.into_iter().map(both).collect();
            broker.listening = broker.listening.min(later.listening);
        }
        for worker in &mut self.workers {
            let now = processes.iter().find(|p| p.pid == worker.pid && p.start_ticks == worker.start_ticks);
            worker.state = now.map_or(worker.state, |p| p.state);
            for connection in &mut worker.connections {
                let again = now.and_then(|p| p.connections.iter().find(|c| c.local == connection.local));
                connection.lasting =
                    connection.unacknowledged > 0 && again.is_some_and(|c| c.unacknowledged >= connection.unacknowledged);
                connection.retransmits = again.map_or(0, |c| connection.retransmits.min(c.retransmits));
            }
        }
    }

    /// The workers of this host that are connected to this database or virtual host.
    fn workers_of(&self, broker: &BrokerAddress) -> Vec<&Process> {
        let clients = || broker.consumers.iter().map(|c| &c.address).chain(&broker.listeners);
        self.workers.iter().filter(|w| clients().any(|a| connects_from(w, a))).collect()
    }

    /// The workers that keep tasks waiting: the visibly stuck ones, or all of them if none is.
    fn culprits(&self, broker: &BrokerAddress) -> Vec<&Process> {
        let workers = self.workers_of(broker);
        let stuck: Vec<&Process> = workers.iter().copied().filter(|w| stuck(self, broker, w).is_some()).collect();
        if stuck.is_empty() { workers } else { stuck }
    }

    fn subject(&self, broker: &BrokerAddress, queue: &Queue) -> Object {
        let server = self.server.get().map(opsctl_core::model::ServerRef::identity).unwrap_or_default();
        let workers: Vec<String> = self.culprits(broker).iter().map(|w| format!("{}:{}", w.pid, w.start_ticks)).collect();
        let identity = format!("{server}/{}/{}@{}", broker.name, queue.name, workers.join(","));
        Object::new(Kind::Queue, queue.name.clone(), identity)
    }

    fn finding(
        &self,
        code: &'static Code,
        severity: Severity,
        broker: &BrokerAddress,
        queue: &Queue,
        message: String,
    ) -> Finding {
        let server = self.server.get().map(|s| s.id.clone()).unwrap_or_default();
        let tasks: Vec<String> = queue.tasks.iter().map(|(name, n)| format!("{name} {n}")).collect();
        let mut finding = Finding::new(code, severity, self.subject(broker, queue), message)
            .key(KeyKind::Server, server.clone())
            .key(KeyKind::Writes, server.clone())
            .key(KeyKind::Queue, format!("{server}/{}/{}", broker.name, queue.name))
            .cite("broker", format!("{} {}", self.server.get().map(|s| s.name.as_str()).unwrap_or_default(), broker.name))
            .cite("sampled tasks", tasks.join(", "));
        if queue.prioritised > 0 {
            finding = finding.cite("at other priorities", count_of(queue.prioritised));
        }
        finding
    }
}

impl Queues {
    async fn on_rabbitmq(&self, cx: &ProbeCx, target: &Object, mut e: Evidence, needed: bool) -> Result<Evidence, ProbeError> {
        let session = match cx.rabbitmq(target).await? {
            Ok(session) => session,
            Err(why) if !needed => return Err(why.skip("rabbitmq.up")),
            Err(why) => {
                e.silent = Some(unavailable(&why));
                return Ok(e);
            }
        };
        match session.facts(cx.servers().known(target)?, cx).await {
            Ok(facts) => e.places = rabbitmq::brokers(&facts),
            Err(_) if !needed => return Err(ProbeError::Skip("its queues cannot be read: see rabbitmq.node".to_owned())),
            Err(_) => e.silent = Some("does not report its queues: see rabbitmq.node".to_owned()),
        }
        if e.places.is_empty() && e.silent.is_none() {
            return Err(ProbeError::Skip("not used by Celery".to_owned()));
        }
        Ok(e)
    }

    /// Whether a second sample is worth its time: tasks wait, and some connection or worker looks stuck.
    fn suspicious(&self, e: &Evidence) -> bool {
        let is_suspicious = |p: &BrokerAddress| {
            p.consumers.iter().all(|c| c.waits)
                || p.consumers.iter().any(|c| c.dead)
                || p.oldest_unacked_s.is_some_and(|s| s > self.settings.unacked_warn_s)
                || e.workers_of(p).iter().any(|w| stuck(e, p, w).is_some() || w.connections.iter().any(|c| c.unacknowledged > 0))
        };
        e.places
            .iter()
            .any(|p| p.queues.iter().any(|q| q.depth >= self.settings.backlog_warn || (q.depth > 0 && is_suspicious(p))))
    }

    /// Finds a non-empty queue without an effective consumer.
    fn consumed(&self, e: &Evidence, broker: &BrokerAddress, queue: &Queue) -> Option<Finding> {
        let waiting = format!("{} wait in {}", tasks(queue.now()), queue.name);
        let workers = e.workers_of(broker);
        let no_consumer = queue.consumers.map_or(broker.consumers.is_empty(), |n| n == 0);
        if no_consumer && !queue.falls() {
            if queue.consumers.is_none() && (broker.listening > 0 || !workers.is_empty()) {
                let message = format!("{waiting} and no worker consumes any, although {} connected", connected(broker));
                return Some(e.with_workers(e.finding(&STALLED, Severity::Crit, broker, queue, message), broker));
            }
            let finding = e.finding(&NO_CONSUMER, Severity::Crit, broker, queue, format!("{waiting} and no worker is connected"));
            let finding = e.stopped.iter().fold(finding, |f, (id, _)| f.key(KeyKind::Container, id));
            let finding = e.stopped_units.iter().fold(finding, |f, unit| f.key(KeyKind::Unit, unit));
            let finding = finding.cite("worker units that do not run", e.stopped_units.join(", "));
            let names: Vec<&str> = e.stopped.iter().map(|(_, name)| name.as_str()).collect();
            return Some(finding.cite("worker containers that do not run", names.join(", ")));
        }
        let held_up: Vec<(&Process, &str)> = workers.iter().filter_map(|w| Some((*w, stuck(e, broker, w)?))).collect();
        if !held_up.is_empty() {
            let all = held_up.len() == workers.len()
                && broker.consumers.iter().all(|c| workers.iter().any(|w| connects_from(w, &c.address)));
            let severity = if all && !queue.falls() { Severity::Crit } else { Severity::Warn };
            let labels: Vec<String> =
                held_up.iter().map(|(w, why)| format!("{}: {why}", e.containers.process("worker", w.pid, &w.home))).collect();
            let message = format!(
                "{waiting}, and {} consumes none: {}",
                if all { "its worker" } else { "one of its workers" },
                held_up[0].1
            );
            return Some(
                e.with_workers(e.finding(&STALLED, severity, broker, queue, message), broker).cite("workers", labels.join("\n")),
            );
        }
        if broker.consumers.iter().any(|c| c.dead) && broker.consumers.iter().all(|c| c.dead) && !queue.falls() {
            let message = format!("{waiting}, and the broker's packets to its workers are not acknowledged");
            return Some(e.finding(&STALLED, Severity::Crit, broker, queue, message));
        }
        // a consumer that is blocked while this queue has tasks consumes another queue
        if queue.consumers.is_none() && queue.later.is_some_and(|l| l >= queue.depth) && broker.consumers.iter().all(|c| c.waits)
        {
            let message = format!("{waiting}, and the connected workers consume other queues");
            return Some(e.finding(&NO_CONSUMER, Severity::Crit, broker, queue, message).likely());
        }
        let oldest = broker.oldest_unacked_s.filter(|_| queue.later.is_some_and(|l| l >= queue.depth))?;
        let (severity, limit) = match oldest {
            s if s > redis::VISIBILITY_TIMEOUT => (Severity::Crit, redis::VISIBILITY_TIMEOUT),
            s if s > self.settings.unacked_warn_s => (Severity::Warn, self.settings.unacked_warn_s),
            _ => return None,
        };
        let message = format!(
            "{waiting}, the queue does not shrink, and the oldest task has been running for {}, limit {}",
            length(oldest),
            length(limit)
        );
        // a task that runs for long may still make progress: no restart is offered
        Some(e.of_workers(e.finding(&STALLED, severity, broker, queue, message), broker).likely())
    }

    fn backlog(&self, e: &Evidence, broker: &BrokerAddress, queue: &Queue) -> Option<Finding> {
        let (severity, limit) = self.settings.backlog().exceeded(queue.now() as f64)?;
        let moved = queue.later.map_or(String::new(), |later| match later.cmp(&queue.depth) {
            std::cmp::Ordering::Less => format!(", {} fewer a moment later", queue.depth - later),
            std::cmp::Ordering::Greater => format!(", {} more a moment later", later - queue.depth),
            std::cmp::Ordering::Equal => String::new(),
        });
        let message = format!("{} wait in {}, limit {}{moved}", tasks(queue.now()), queue.name, Unit::Count.shown(limit));
        let finding = e.finding(&BACKLOG, severity, broker, queue, message);
        let sampled: usize = queue.tasks.iter().fold(0, |sum: usize, (_, n)| sum.saturating_add(*n));
        // a single name is a loop or a single sender, a mix is a lack of workers
        Some(match queue.tasks.first() {
            Some((name, n)) if sampled >= 20 && n.saturating_mul(10) >= sampled.saturating_mul(9) => finding
                .hint(format!("nearly all waiting tasks are {name}: check the code that sends it, it may re-enqueue itself")),
            _ => finding,
        })
    }
}

impl Evidence {
    /// Links a finding to the workers it concerns.
    fn of_workers(&self, finding: Finding, broker: &BrokerAddress) -> Finding {
        let culprits = self.culprits(broker);
        let versions: Vec<&str> = culprits.iter().filter_map(|w| w.versions.as_deref()).take(1).collect();
        culprits.iter().fold(finding, |f, w| at_home(f, &w.home)).cite("versions", versions.join(", "))
    }

    /// Links a finding to the workers it concerns, and offers to restart them.
    fn with_workers(&self, finding: Finding, broker: &BrokerAddress) -> Finding {
        self.of_workers(finding, broker).fix_if(!self.culprits(broker).is_empty(), RESTART_WORKER.id)
    }
}

fn orphans(judged: &Judged<'_>, e: &Evidence, broker: &BrokerAddress) -> Option<Finding> {
    let finding =
        |severity, message: String| e.server.finding(&ORPHANS, severity, judged.target, message).cite("place", &broker.name);
    if broker.unacked > 0 && broker.consumers.is_empty() && broker.listening == 0 && e.workers_of(broker).is_empty() {
        let message = format!("{} delivered and not acknowledged, and no worker is connected", were(broker.unacked));
        return Some(finding(Severity::Warn, message));
    }
    (broker.far > 0).then(|| {
        let limit = length(redis::VISIBILITY_TIMEOUT);
        let message = format!(
            "{} in a worker for an ETA beyond the visibility timeout (usually {limit}): they are redelivered before they run",
            if broker.far == 1 { "1 task waits".to_owned() } else { format!("{} tasks wait", broker.far) }
        );
        finding(Severity::Info, message)
            .hint("raise visibility_timeout above the longest countdown, or send such tasks closer to their ETA")
    })
}

fn connected(broker: &BrokerAddress) -> String {
    match broker.listening {
        0 | 1 => "one is".to_owned(),
        _ => "workers are".to_owned(),
    }
}

fn tasks(n: u64) -> String {
    if n == 1 { "1 task".to_owned() } else { format!("{} tasks", count_of(n)) }
}

fn were(n: u64) -> String {
    if n == 1 { "1 task was".to_owned() } else { format!("{} tasks were", count_of(n)) }
}

fn length(seconds: u64) -> String {
    duration(SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use opsctl_core::model::CeleryRole;

    use super::super::broker::Consumer;
    use super::*;

    fn worker(pid: i32, state: char, home: Home) -> Process {
        let local = format!("10.0.0.3:{}", 40_000 + pid).parse().unwrap();
        let connection =
            Connection { local, remote: "10.0.0.2:6379".parse().unwrap(), unacknowledged: 0, retransmits: 0, lasting: false };
        Process {
            pid,
            start_ticks: 1,
            role: CeleryRole::Worker,
            app: Some("shop".into()),
            queues: vec![],
            state,
            children: 2,
            home,
            connections: vec![connection],
            broker: None,
            scheduler: None,
            versions: None,
            schedule_age_s: None,
        }
    }

    /// A queue with tasks that these workers, which are connected, do not consume.
    fn stalled(workers: Vec<Process>) -> Evidence {
        let queue = Queue { name: "celery".into(), depth: 9, later: Some(9), ..Queue::default() };
        let consumer = |w: &Process| Consumer { address: w.connections[0].local.to_string(), ..Consumer::default() };
        let broker = BrokerAddress {
            name: "db 0".into(),
            consumers: workers.iter().map(consumer).collect(),
            queues: vec![queue],
            ..BrokerAddress::default()
        };
        Evidence { places: vec![broker], workers, ..Evidence::default() }
    }

    /// The plan for the first finding that offers the fix.
    fn offered(e: &Evidence) -> Option<Result<Plan, Refusal>> {
        let check = Queues { settings: Settings::default() };
        let target = Object::named(Kind::Celery, "cache");
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let findings = check.judge(&judged, e).findings;
        let finding = findings.iter().find(|f| f.fixes.contains(&RESTART_WORKER.id.to_owned()))?;
        Some(check.plan(RESTART_WORKER.id, finding, &judged, e))
    }

    fn container(id: &str) -> Home {
        Home::Container(id.to_owned())
    }

    #[test]
    fn stopped_worker_is_restarted() {
        let plan = offered(&stalled(vec![worker(1, 'T', container("a"))])).unwrap().unwrap();
        assert!(matches!(&plan.actions[..], [Action::RestartContainer { id, .. }] if id == "a"), "{plan:?}");
        assert!(plan.blast.iter().any(|effect| effect.contains("is killed after the stop timeout")), "{:?}", plan.blast);
        let unit = Home::Unit("celery.service".to_owned());
        let plan = offered(&stalled(vec![worker(1, 'T', unit)])).unwrap().unwrap();
        assert!(matches!(&plan.actions[..], [Action::RestartUnit { .. }]) && plan.risk == Risk::R2, "{plan:?}");
    }

    #[test]
    fn only_the_stopped_of_two_workers_is_restarted() {
        let e = stalled(vec![worker(1, 'S', container("a")), worker(2, 'T', container("b"))]);
        let plan = offered(&e).unwrap().unwrap();
        assert!(matches!(&plan.actions[..], [Action::RestartContainer { id, .. }] if id == "b"), "{plan:?}");
    }

    #[test]
    fn all_stopped_workers_are_restarted_with_the_risk_of_many() {
        let e = stalled(vec![worker(1, 'T', container("a")), worker(2, 'T', container("b"))]);
        let plan = offered(&e).unwrap().unwrap();
        assert_eq!((plan.actions.len(), plan.risk), (2, Risk::R3));
    }

    #[test]
    fn paused_worker_is_not_restarted() {
        let mut e = stalled(vec![worker(1, 'S', container("a"))]);
        e.paused = vec!["a".to_owned()];
        assert!(matches!(offered(&e), Some(Err(Refusal::Precondition(why))) if why.contains("is paused: unpause it")));
    }

    #[test]
    fn worker_without_container_or_unit_is_restarted_by_hand() {
        let e = stalled(vec![worker(1, 'T', Home::Host)]);
        assert!(matches!(offered(&e), Some(Err(Refusal::ByHand(why))) if why.contains("no container or unit manages it")));
    }

    #[test]
    fn long_task_is_not_ended_by_a_restart() {
        let mut e = stalled(vec![worker(1, 'S', container("a"))]);
        e.places[0].oldest_unacked_s = Some(1_000_000);
        let check = Queues { settings: Settings::default() };
        let target = Object::named(Kind::Celery, "cache");
        let judged = Judged { target: &target, taken_at: jiff::Timestamp::UNIX_EPOCH };
        let finding = check.judge(&judged, &e).findings.remove(0);
        assert!(finding.code == STALLED.id && finding.fixes.is_empty(), "{finding:?}");
        assert!(
            matches!(check.plan(RESTART_WORKER.id, &finding, &judged, &e), Err(Refusal::Policy(why)) if why.contains("would end it"))
        );
    }

    #[test]
    fn several_connected_workers_without_a_visible_cause_are_left_to_the_operator() {
        let mut e = stalled(vec![worker(1, 'S', container("a")), worker(2, 'S', container("b"))]);
        // connected without consuming
        e.places[0].listeners = e.places[0].consumers.drain(..).map(|c| c.address).collect();
        e.places[0].listening = 2;
        assert!(matches!(offered(&e), Some(Err(Refusal::ByHand(why))) if why.contains("restart them one by one")));
    }
}
