//! Processes of nginx: master and workers.

use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{
    Check, CheckSpec, Code, Impact, Inventory, Judged, Judgement, KeyKind, Object, Product, Role, Severity, quantity,
};
use opsctl_core::probe::nginx::Worker;
use opsctl_core::probe::servers::SessionError;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::shared::dependencies::running;
use crate::shared::servers::{Server, Silence, process_state};

const STOPPED: Code = Code {
    id: "nginx.stopped",
    severities: &[Severity::Crit],
    when: "nginx is not running although its container or unit should be, it has no workers, or its master or all workers are stopped by a signal",
    hint: "run `nginx -t` before the start: an invalid configuration prevents the start",
    impacts: &[
        Impact::confirmed(Role::Unresponsive, KeyKind::Server, "nginx is not running"),
        Impact::confirmed(Role::Unresponsive, KeyKind::Container, "nginx is not running"),
    ],
    depends_on: &[&running("its")],
};

const LEAVING: Code = Code {
    id: "nginx.worker-leaving",
    severities: &[Severity::Info],
    when: "a worker of an earlier configuration has been shutting down for over {leaving_h}",
    hint: "long-lived connections (WebSocket) keep it running; `worker_shutdown_timeout` limits them",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "nginx.processes",
    title: "The nginx master and workers run",
    codes: &[STOPPED, LEAVING],
    fixes: &[],
    timeout: Duration::from_secs(3),
};

pub(super) struct Processes {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    silence: Silence,
    /// State of the master.
    master: Option<char>,
    workers: Vec<Worker>,
}

impl Check for Processes {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Nginx)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        if server.get().is_some_and(|s| s.process.is_none()) {
            let silence = Silence::about(cx, &server, SessionError::NotRunning).await;
            return Ok(Evidence { server, silence, ..Evidence::default() });
        }
        let nginx = cx.nginx(target)?;
        Ok(Evidence {
            server,
            silence: Silence::default(),
            master: process_state(nginx.master).await,
            workers: nginx.workers.clone(),
        })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let name = &judged.target.name;
        if e.silence.is_silent() {
            return e.silence.judge(&STOPPED, &e.server, judged.target, judged.taken_at, "HTTP", "");
        }
        let crit = |message: String| e.server.finding(&STOPPED, Severity::Crit, judged.target, message);
        let serving: Vec<&Worker> = e.workers.iter().filter(|w| !w.leaving).collect();
        let stopped = |state: char| matches!(state, 'T' | 't');
        let mut findings = Vec::new();
        if serving.is_empty() {
            findings.push(crit(format!("{name} runs without a worker: requests are not accepted")));
        } else if serving.iter().all(|w| stopped(w.state)) {
            let pids: Vec<String> = serving.iter().map(|w| w.pid.to_string()).collect();
            findings.push(
                crit(format!("{name} accepts no requests: its {} stopped by a signal", workers_are(serving.len())))
                    .cite("processes", pids.join(", "))
                    .hint("find the sender of SIGSTOP, then `kill -CONT` them"),
            );
        } else if e.master.is_some_and(stopped) {
            findings.push(
                crit(format!(
                    "the master of {name} is stopped by a signal: it does not replace exited workers and ignores reloads"
                ))
                .hint("find the sender of SIGSTOP, then `kill -CONT` it"),
            );
        }
        let old = SignedDuration::from_hours(self.settings.leaving_h);
        let leaving = e.workers.iter().filter(|w| w.leaving && judged.taken_at.duration_since(w.started) > old);
        // the start of the shutdown is unknown: the start time of the new workers is used
        let since = serving.iter().map(|w| w.started).min();
        if let (n @ 1.., Some(since)) = (leaving.count(), since)
            && judged.taken_at.duration_since(since) > old
        {
            findings.push(e.server.finding(
                &LEAVING,
                Severity::Info,
                judged.target,
                format!(
                    "{} from before the reload {} {} not exited yet",
                    quantity::count(n, "worker"),
                    quantity::ago(judged.taken_at, since),
                    if n == 1 { "has" } else { "have" }
                ),
            ));
        }
        findings.into()
    }
}

fn workers_are(n: usize) -> String {
    if n == 1 { "worker is".to_owned() } else { format!("{n} workers are") }
}
