//! Availability and response time of the container engine.

use std::time::Duration;

use opsctl_core::model::{
    Action, Check, CheckSpec, Code, DependsOn, EngineRef, EngineState, Finding, FixSpec, Impact, Inventory, Judged, Judgement,
    KeyKind, Kind, Object, Plan, Refusal, Risk, Role, Severity, quantity,
};
use opsctl_core::probe::docker::{Daemon, Docker, daemon};
use opsctl_core::probe::{ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::shared::servers::READ_TIMEOUT;

const REACHABLE: Code = Code {
    id: "container.engine-reachable",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the engine's socket is missing, refuses connections, or does not speak the Docker API (crit); the engine responds slowly (warn)",
    hint: "read the log of the engine: journalctl -u docker -n 50",
    impacts: &[Impact::likely(Role::Unresponsive, KeyKind::Engine, "engine does not respond")],
    depends_on: &[&[DependsOn::confirmed(Role::Down, KeyKind::Unit, "its")]],
};
const HUNG: Code = Code {
    id: "container.engine-hung",
    severities: &[Severity::Crit],
    when: "the engine accepts connections but does not respond within 3 s, or does not respond to requests about some of its containers",
    hint: "containers keep running; find the stuck one before restarting the daemon: journalctl -u docker -u containerd -n 50",
    impacts: &[Impact::likely(Role::Unresponsive, KeyKind::Engine, "engine does not respond")],
    ..Code::BASE
};
const RESTART_DAEMON: FixSpec = FixSpec {
    id: "docker.restart-daemon",
    risk: Risk::R3,
    title: "restart the Docker daemon; every container stops unless live-restore is on",
};

static SPEC: CheckSpec = CheckSpec {
    id: "container.engine",
    title: "the container engine responds",
    codes: &[REACHABLE, HUNG],
    fixes: &[RESTART_DAEMON],
    // enough for hundreds of containers that block a request
    timeout: Duration::from_secs(8),
};

/// Exists where systemd is PID 1 (`sd_booted(3)`).
const SYSTEMD_DIR: &str = "/run/systemd/system";

/// Limit of containers named in a message.
const MAX_NAMED_CONTAINERS: usize = 3;

pub(super) struct Engine {
    pub(super) settings: Settings,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Evidence {
    engine: EngineRef,
    /// systemd is PID 1, so the daemon can be restarted through it.
    systemd: bool,
    /// Its process on this host; only if it does not respond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    daemon: Option<Daemon>,
    /// Number of its containers.
    #[serde(default)]
    containers: usize,
    /// Name and id of the containers that it does not respond about.
    #[serde(default)]
    held: Vec<(String, String)>,
    /// Values in its lists of containers and networks that could not be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<String>,
}

impl Check for Engine {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        let engines: Vec<Object> = inventory.engines().map(|e| Object::named(Kind::Engine, &e.name)).collect();
        if engines.is_empty() { vec![Object::named(Kind::Engine, "docker")] } else { engines }
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        // discovery has already queried it; a second request to a hung engine would cost another three seconds
        let engine = cx.inventory.engines().find(|e| e.name == target.name).cloned().ok_or_else(|| {
            ProbeError::Skip("no Docker or Podman socket and no enabled docker.service on this host".to_owned())
        })?;
        // another user can keep requests about the own containers waiting
        let is_its = |id: &str| {
            let owner = cx.docker.as_ref().map(|docker| docker.of(id)).filter(|owner| owner.foreign_user().is_none());
            owner.is_some_and(|owner| owner.endpoint().to_string() == engine.endpoint)
        };
        let containers: Vec<_> = cx.inventory.containers.iter().filter(|c| is_its(&c.id)).collect();
        let held = cx.held_by_engine(containers.iter().copied()).await;
        let mut gaps = Vec::new();
        if let Some(docker) = &cx.docker {
            // checks of networks report a list that cannot be read at all
            drop(docker.networks().await);
            let own = docker.engines().find(|own| own.endpoint().to_string() == engine.endpoint);
            gaps = own.map(Docker::gaps).unwrap_or_default();
        }
        let systemd = blocking::run("a directory", SYSTEMD_DIR, READ_TIMEOUT, |io| io.is_dir(SYSTEMD_DIR)).await?;
        let daemon = match &engine.state {
            EngineState::Hung { .. } => daemon(cx.docker.as_deref(), cx.systemd.as_deref()).await,
            _ => None,
        };
        Ok(Evidence {
            engine,
            systemd,
            daemon,
            containers: containers.len(),
            held: held.into_iter().map(|c| (c.name.clone(), c.id.clone())).collect(),
            gaps,
        })
    }

    fn judge(&self, _judged: &Judged<'_>, evidence: &Evidence) -> Judgement {
        let e = &evidence.engine;
        let subject = Object::new(Kind::Engine, e.name.clone(), e.endpoint.clone());
        let finding = |code: &'static Code, severity, message: String| {
            Finding::new(code, severity, subject.clone(), message)
                .cite("endpoint", format!("{} ({})", e.endpoint, e.found_by))
                .key(KeyKind::Engine, &e.endpoint)
                .key(KeyKind::Unit, "docker.service")
        };
        let answered = |findings| Judgement { findings, gaps: evidence.gaps.clone(), ..Judgement::default() };
        let pending = || vec![format!("{} to respond", e.name)];
        let crit = |message| Judgement {
            findings: vec![finding(&REACHABLE, Severity::Crit, message)],
            pending: pending(),
            ..Judgement::default()
        };
        match &e.state {
            EngineState::Answers { .. } if !evidence.held.is_empty() => {
                let (held, all) = (evidence.held.len(), quantity::count(evidence.containers, "container"));
                let named: Vec<&str> = evidence.held.iter().take(MAX_NAMED_CONTAINERS).map(|(name, _)| name.as_str()).collect();
                let more = if held > MAX_NAMED_CONTAINERS {
                    format!(" and {} more", held - MAX_NAMED_CONTAINERS)
                } else {
                    String::new()
                };
                let message =
                    format!("{} responds, but not to requests about {held} of its {all}: {}{more}", e.name, named.join(", "));
                let finding = finding(&HUNG, Severity::Crit, message).hint(
                    "they are locked by a `docker stop`, `rm` or `exec` that does not end, or by a containerd-shim that hangs (`ps -e \
                     -o pid,stat,etime,args | grep -e 'docker ' -e shim`); end that process before restarting the daemon",
                );
                answered(vec![evidence.held.iter().fold(finding, |f, (_, id)| f.key(KeyKind::Container, id))])
            }
            EngineState::Answers { version, api, latency_ms } if *latency_ms > self.settings.ping_warn_ms => {
                let limit = self.settings.ping_warn_ms;
                let message = format!("{} took {latency_ms} ms to respond to a ping, limit {limit} ms", e.name);
                answered(vec![finding(&REACHABLE, Severity::Warn, message).cite("version", format!("{version}, API {api}"))])
            }
            EngineState::Answers { .. } => answered(Vec::new()),
            EngineState::Denied => Judgement {
                gaps: vec![format!("reading {}: permission denied; needs root or group docker", e.endpoint)],
                ..Judgement::default()
            },
            EngineState::Unsupported { error } => Judgement { gaps: vec![error.clone()], ..Judgement::default() },
            EngineState::Missing => crit(format!("{} is expected on this host but its socket does not exist", e.name)),
            EngineState::Refused => {
                crit(format!("{}'s socket exists but refuses connections: the daemon is not running", e.name))
            }
            EngineState::Garbage { error } => crit(format!("{}'s socket does not speak the Docker API: {error}", e.name)),
            EngineState::Hung { after_ms } => {
                let waited = quantity::duration(jiff::SignedDuration::from_millis(i64::try_from(*after_ms).unwrap_or(i64::MAX)));
                vec![
                    finding(&HUNG, Severity::Crit, format!("{} accepts connections but did not respond within {waited}", e.name))
                        .fix(RESTART_DAEMON.id),
                ]
                .into()
            }
        }
    }

    fn plan(&self, _fix: &str, finding: &Finding, judged: &Judged<'_>, evidence: &Evidence) -> Result<Plan, Refusal> {
        if evidence.engine.name != "docker" {
            return Err(Refusal::ByHand(format!("restart {} as it was started", evidence.engine.name)));
        }
        if !evidence.systemd {
            return Err(Refusal::ByHand("restart dockerd as it was started; this host does not run systemd".to_owned()));
        }
        if let Some(fault) = evidence.daemon.as_ref().and_then(Daemon::start_fault) {
            return Err(Refusal::Precondition(format!("dockerd would not start again: {fault}; correct it first")));
        }
        let action = Action::RestartUnit { unit: "docker.service".to_owned() };
        Ok(Plan::new(&RESTART_DAEMON, &SPEC, finding, judged.target, vec![action])
            .affects(
                ["every container is stopped unless live-restore is on; those without a restart policy stay down".to_owned()],
            )
            .downtime("until the daemon and all containers have started again")
            .verified(Duration::from_secs(120), Duration::from_secs(5)))
    }
}
