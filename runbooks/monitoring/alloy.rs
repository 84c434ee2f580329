//! Health of Alloy. No fix restarts an unhealthy Alloy: a restart can make it worse (documentation of `/-/healthy`).

use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{
    Check, CheckSpec, Code, DependsOn, Impact, Inventory, Judged, Judgement, KeyKind, Object, Product, Role, Severity, quantity,
};
use opsctl_core::probe::proc::files::may_write;
use opsctl_core::probe::servers::metrics::MetricSample;
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::delivery::{self, Delivery};
use super::status::ServerState;
use crate::shared::dependencies::{DESCRIPTORS, ENGINE, NO_ROOM, running};
use crate::shared::servers::READ_TIMEOUT;

const ALLOY: Code = Code {
    id: "monitoring.alloy",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "it does not run, refuses connections or does not answer, or has not loaded its configuration (crit); components are unhealthy, it has no permission for the mounted Docker socket, or it delivered no logs or dropped entries since the last run (warn); it dropped entries earlier since its start (info)",
    hint: "do not restart it: that may make it worse, and sends logs again if positions are not persisted; check the component in the web UI on port 12345",
    impacts: &[Impact::likely(Role::Unresponsive, KeyKind::Container, "server does not respond as it should")],
    depends_on: &[
        &running("its"),
        DESCRIPTORS,
        NO_ROOM,
        &[DependsOn::confirmed(Role::OldFile, KeyKind::Container, "its")],
        ENGINE,
    ],
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.alloy",
    title: "Alloy collects metrics and logs",
    codes: &[ALLOY],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

const COMPONENTS: &str = "alloy_component_controller_running_components";

/// Paths at which the Docker socket is mounted.
const SOCKETS: &[&str] = &["/var/run/docker.sock", "/run/docker.sock"];

pub(super) struct Alloy;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    standing: ServerState,
    /// Status and body of `/-/healthy`.
    health: Option<(u16, String)>,
    components: Vec<MetricSample>,
    /// Why the metrics are unavailable.
    gap: Option<String>,
    /// The mounted Docker socket, and whether the process has permission to use it.
    socket: Option<(String, bool)>,
    /// The engine without collected container logs, from the health report of the components.
    engine: Option<String>,
    /// Delivery of logs to Loki, if a request has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<Delivery>,
}

impl Check for Alloy {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Alloy)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let mut e = Evidence { standing: ServerState::of(cx, target, "/-/ready").await?, ..Evidence::default() };
        if e.standing.silence.is_silent() {
            return Ok(e);
        }
        if let Ok(answer) = cx.response(target, "/-/healthy").await? {
            e.health = Some((answer.status, answer.body.trim().chars().take(300).collect()));
        }
        let about_docker = e.health.as_ref().is_some_and(|(status, body)| *status >= 500 && body.contains("docker"));
        e.engine = cx.inventory.engine.as_ref().filter(|_| about_docker).map(|engine| engine.endpoint.clone());
        match cx.metrics(target, &[COMPONENTS]).await {
            Ok(components) => {
                e.components = components;
                let delivery = Box::pin(delivery::read(cx, target, &e.standing.server, &delivery::ALLOY)).await;
                e.delivery = delivery.ok().filter(Delivery::is_known);
            }
            Err(why) => e.gap = Some(why.to_string()),
        }
        let server = e.standing.server.get();
        if let (Some(id), Some(docker), Some(process)) =
            (server.and_then(|s| s.container.as_deref()), &cx.docker, server.and_then(|s| s.process))
        {
            let container = docker.inspect(id).await?;
            let mounted = container.mounts.iter().find(|m| SOCKETS.contains(&m.destination.as_str()));
            if let Some(path) = mounted.map(|m| m.destination.clone()) {
                let read = move |io: &Io| Some((may_write(io, process.pid, &path)?, path)).map(|(may, path)| (path, may));
                e.socket = blocking::run("a mounted socket", &format!("process {}", process.pid), READ_TIMEOUT, read).await?;
            }
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        if e.standing.silence.is_silent() {
            return e.standing.judge_silence(&ALLOY, judged, "Alloy", false);
        }
        let (name, now) = (&judged.target.name, judged.taken_at);
        let finding = |severity, text: String| e.standing.server.finding(&ALLOY, severity, judged.target, text);
        let mut findings = Vec::new();
        if e.standing.status != 200 {
            let pending = vec![format!("{name} to load its configuration")];
            if e.standing.is_younger(now, SignedDuration::from_mins(1)) {
                return Judgement { pending, ..Judgement::skip("it is starting") };
            }
            let text = format!("{name} has not loaded its configuration: status {}", e.standing.status);
            findings.push(finding(Severity::Crit, text).cite("reply", &e.standing.says).hint(
                "`alloy validate FILE` (`alloy fmt FILE` before 1.8) reports the error; then POST /-/reload, not a restart",
            ));
        }
        let sick: f64 = e.components.iter().filter(|n| n.label("health_type") != "healthy").map(|n| n.value).sum();
        let unhealthy = e.health.as_ref().filter(|(status, _)| *status >= 500);
        if unhealthy.is_some() || sick > 0.0 {
            let how_many = if sick > 0.0 {
                quantity::count(format!("{sick:.0}").parse().unwrap_or(1), "component")
            } else {
                "components".to_owned()
            };
            let text = format!(
                "{how_many} of {name} {} unhealthy by its own report; the process still runs",
                if how_many.starts_with("1 ") { "is" } else { "are" }
            );
            let f = finding(Severity::Warn, text).cite_opt("reply", unhealthy.map(|(_, body)| body.clone()));
            findings.push(match &e.engine {
                Some(endpoint) => f.key(KeyKind::Engine, endpoint),
                None => f,
            });
        }
        if let Some((path, false)) = &e.socket {
            let text = format!("{name} has no permission for {path}: it collects no container logs");
            findings
                .push(finding(Severity::Warn, text).hint("run it with the group that owns the socket (group_add in compose)"));
        }
        let object = e.standing.server.object(judged.target);
        let counters = e.delivery.iter().flat_map(Delivery::counters);
        let samples = counters.flat_map(|c| c.samples(&object, now)).collect();
        findings.extend(e.delivery.iter().flat_map(|d| d.findings(&delivery::ALLOY, name, now, &finding)));
        Judgement { findings, gaps: e.gap.iter().cloned().collect(), samples, ..Judgement::default() }
    }
}
