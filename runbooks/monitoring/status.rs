//! State of a monitoring server: its readiness, and facts from outside if it does not answer.

use std::net::Ipv4Addr;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{CheckSpec, Code, Finding, Judged, Judgement, KeyKind, Object, Plan, Refusal, ServerProcess, quantity};
use opsctl_core::probe::docker::Container;
use opsctl_core::probe::io::clock;
use opsctl_core::probe::kernel::filesystem::FsUsage;
use opsctl_core::probe::kernel::tasks;
use opsctl_core::probe::servers::SessionError;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use crate::shared::restart_container::{self, RESTART, RestartContext};
use crate::shared::servers::{Server, Silence, full_filesystems};

/// Time after the start in which a missing listener is no finding.
const STARTUP_GRACE: SignedDuration = SignedDuration::from_secs(30);

/// The state of one server.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ServerState {
    pub(super) server: Server,
    pub(super) silence: Silence,
    /// Status of the readiness endpoint, and the start of its body.
    pub(super) status: u16,
    pub(super) says: String,
    /// Start time of its process.
    pub(super) started_at: Option<Timestamp>,
    /// Its container, if it hangs in one.
    pub(super) hung_in: Option<Container>,
    pub(super) around: RestartContext,
    /// Full filesystems of its container, if it is not running.
    pub(super) no_room: Vec<FsUsage>,
}

/// The server of a check that does not apply to a Prometheus in agent mode: a skip with this reason, `which has no rules`.
pub(super) async fn prometheus_server(cx: &ProbeCx, target: &Object, reason: &str) -> Result<Server, ProbeError> {
    let server = Server::of(cx, target)?;
    if cx.flags(target).await.is_agent() {
        return Err(ProbeError::Skip(format!("it is an agent, {reason}")));
    }
    Ok(server)
}

/// Address of the engine's embedded DNS server inside its networks.
const EMBEDDED_DNS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The endpoint of the engine if a process uses its embedded DNS server, or `None`.
pub(super) async fn engine_of_names(cx: &ProbeCx, process: Option<ServerProcess>) -> Option<String> {
    let engine = cx.inventory.engine.as_ref()?;
    let file = cx.resolvers().file_of(process?.pid).await.ok()?;
    file.conf.used().iter().any(|s| s.address == EMBEDDED_DNS).then(|| engine.endpoint.clone())
}

impl ServerState {
    /// Requests `path`.
    pub(super) async fn of(cx: &ProbeCx, target: &Object, path: &str) -> Result<Self, ProbeError> {
        let server = Server::of(cx, target)?;
        let mut state = Self { started_at: server.get().and_then(|s| s.process).and_then(started), ..Self::default() };
        match cx.response(target, path).await? {
            Ok(answer) => {
                state.status = answer.status;
                state.says =
                    answer.body.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or_default().chars().take(200).collect();
            }
            Err(why) => {
                let id = server.get().and_then(|s| s.container.clone());
                if let (SessionError::Hung { .. }, Some(id), Some(docker)) = (&why, id, &cx.docker)
                    && let Ok(container) = docker.inspect(&id).await
                {
                    state.around = RestartContext::of(cx, &container).await;
                    state.hung_in = Some((*container).clone());
                }
                state.silence = Silence::about(cx, &server, why).await;
                if let (Some(container), Some(docker)) = (state.silence.container(), &cx.docker) {
                    state.no_room = full_filesystems(cx, docker, container).await;
                }
            }
        }
        state.server = server;
        Ok(state)
    }

    /// Uptime of its process.
    pub(super) fn age(&self, now: Timestamp) -> Option<SignedDuration> {
        self.started_at.map(|t| now.duration_since(t))
    }

    /// Whether the server was started less than `limit` ago; an unknown start counts as earlier.
    pub(super) fn is_younger(&self, now: Timestamp, limit: SignedDuration) -> bool {
        self.age(now).is_some_and(|age| age < limit)
    }

    /// The finding for a server that does not answer. A restart is offered if the server hangs and was not stopped.
    pub(super) fn judge_silence(&self, code: &'static Code, judged: &Judged<'_>, word: &str, restart: bool) -> Judgement {
        let name = &judged.target.name;
        let closed = matches!(self.silence.why(), Some(SessionError::NotListening | SessionError::Refused { .. }));
        if closed && self.is_younger(judged.taken_at, STARTUP_GRACE) {
            let ago = quantity::duration(self.age(judged.taken_at).unwrap_or_default());
            return Judgement {
                pending: vec![format!("{name} to listen")],
                ..Judgement::skip(format!("it started {ago} ago and does not listen yet"))
            };
        }
        let secret = format!("{}_PASSWORD", word.to_ascii_uppercase());
        let mut judgement = self.silence.judge(code, &self.server, judged.target, judged.taken_at, word, &secret);
        let offered = restart && self.hung_in.is_some() && !self.silence.is_stopped();
        judgement.findings = judgement
            .findings
            .into_iter()
            .map(|f| self.no_room.iter().fold(f, |f, full| f.key(KeyKind::Filesystem, &full.dev)))
            .map(|f| self.silent(f))
            .map(|f| if offered { f.fix(RESTART.id) } else { f })
            .collect();
        judgement
    }

    /// Marks a finding as an outage of this server.
    pub(super) fn silent(&self, finding: Finding) -> Finding {
        match self.server.get() {
            Some(server) => finding.key(KeyKind::Silent, &server.id),
            None => finding,
        }
    }

    /// The restart that [`Self::judge_silence`] offers.
    pub(super) fn plan(&self, spec: &CheckSpec, finding: &Finding, judged: &Judged<'_>) -> Result<Plan, Refusal> {
        match &self.hung_in {
            Some(container) => restart_container::plan(container, &self.around, spec, finding, judged.target),
            None => Err(Refusal::Precondition("it does not hang in a container".to_owned())),
        }
    }
}

/// Time of the start or the last configuration load of a Prometheus: its lists are incomplete for some seconds after it.
pub(super) async fn fresh_since(cx: &ProbeCx, target: &Object, process: Option<ServerProcess>) -> Option<Timestamp> {
    let json = cx.json(target, "/api/v1/status/runtimeinfo").await.ok();
    let loaded = json.and_then(|j| j.pointer("/data/lastConfigTime")?.as_str()?.parse().ok());
    process.and_then(started).max(loaded)
}

/// Start time of a process.
pub(super) fn started(process: ServerProcess) -> Option<Timestamp> {
    let since_boot = i64::try_from(tasks::milliseconds(process.start_ticks)).ok()?;
    clock::boot_time().checked_add(SignedDuration::from_millis(since_boot)).ok()
}
