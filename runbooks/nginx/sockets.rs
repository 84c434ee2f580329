//! Listening sockets and free connections.

use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Inventory, Judged, Judgement, Object, Product, Severity, quantity};
use opsctl_core::probe::network::listeners::{Listener, listeners_of};
use opsctl_core::probe::nginx::{Descriptors, Listen, descriptors, serves, waiting_to_be_accepted};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::Settings;
use crate::shared::servers::{READ_TIMEOUT, Server};

const LISTENING: Code = Code {
    id: "nginx.listening",
    severities: &[Severity::Crit],
    when: "a `listen` directive of the loaded configuration has no listening socket",
    hint: "another process may use the port; the error log contains `bind() to … failed`",
    ..Code::BASE
};

const CONNECTIONS: Code = Code {
    id: "nginx.connections",
    severities: &[Severity::Warn, Severity::Crit],
    when: "a worker uses {connections_warn_percent} (warn) or {connections_crit_percent} (crit) of its worker_connections or of its open files, or {backlog_warn} connections wait to be accepted in two samples (warn)",
    hint: "a proxied request uses two connections; raise worker_connections, or find the clients that hold them",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "nginx.sockets",
    title: "Listening sockets are open and connections are available",
    codes: &[LISTENING, CONNECTIONS],
    fixes: &[],
    timeout: Duration::from_secs(4),
};

/// Time between two samples of the accept queues.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(300);

pub(super) struct Sockets {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    listens: Vec<Listen>,
    listeners: Vec<Listener>,
    /// Whether the configuration on disk is the loaded one.
    in_force: bool,
    worker_connections: u64,
    /// By worker.
    workers: Vec<(i32, Option<Descriptors>)>,
    /// Connections waiting to be accepted, by port: the smaller value of both samples.
    waiting: Vec<(u16, u64)>,
}

impl Check for Sockets {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Nginx)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        let nginx = cx.nginx(target)?;
        let denied = || ProbeError::Denied {
            subject: "listening sockets".to_owned(),
            from: format!("/proc/{}/net/tcp", nginx.master),
            needs: "root".to_owned(),
        };
        let master = nginx.master;
        let from = format!("/proc/{master}/net/tcp");
        let read = move |io: &Io| listeners_of(io, i64::from(master));
        let listeners = blocking::run("listening sockets", &from, READ_TIMEOUT, read).await?.ok_or_else(denied)?;
        let ports: Vec<u16> = nginx.config.listens.iter().map(|l| l.port).collect();
        let sample = || async {
            let read = move |io: &Io| waiting_to_be_accepted(io, master);
            let all = blocking::run("listening sockets", &from, READ_TIMEOUT, read).await?;
            let many = |(port, n): &(u16, u64)| ports.contains(port) && *n >= self.settings.backlog_warn;
            Ok::<Vec<(u16, u64)>, ProbeError>(all.into_iter().filter(many).collect())
        };
        let mut waiting = sample().await?;
        if !waiting.is_empty() {
            tokio::time::sleep(SAMPLE_INTERVAL).await;
            let again = sample().await?;
            waiting = waiting
                .into_iter()
                .filter_map(|(p, n)| again.iter().find(|(q, _)| *q == p).map(|(_, m)| (p, n.min(*m))))
                .collect();
        }
        let workers: Vec<i32> = nginx.serving().map(|w| w.pid).collect();
        let read = move |io: &Io| workers.into_iter().map(|pid| (pid, descriptors(io, pid))).collect();
        let workers = blocking::run("descriptors", "the workers of nginx", READ_TIMEOUT, read).await?;
        let loaded = nginx.loaded_at();
        Ok(Evidence {
            listens: nginx.config.listens.clone(),
            listeners,
            in_force: nginx.problems.is_empty() && nginx.files.iter().all(|f| f.modified <= loaded),
            worker_connections: nginx.config.worker_connections,
            workers,
            waiting,
            server,
        })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let name = &judged.target.name;
        let mut judgement = Judgement::default();
        let finding = |code, severity, message: String| e.server.finding(code, severity, judged.target, message);
        let missing = e.listens.iter().filter(|l| {
            let has_listener = |address| e.listeners.iter().any(|s| s.port == l.port && serves(s.address, address));
            !l.udp && l.address.is_some_and(|address| !has_listener(address))
        });
        let missing: Vec<String> =
            missing.filter_map(|l| Some(std::net::SocketAddr::new(l.address?, l.port).to_string())).collect();
        // a change that is not loaded is reported as nginx.config-not-loaded
        if !missing.is_empty() && e.in_force {
            judgement.findings.push(finding(
                &LISTENING,
                Severity::Crit,
                format!("{name} does not listen at {}", missing.join(", ")),
            ));
        }
        if e.workers.iter().any(|(_, d)| d.is_none()) {
            judgement.gaps.push("its workers' open files: needs root".to_owned());
        }
        let worst = |share: &dyn Fn(&Descriptors) -> Option<f64>| {
            let shares = e.workers.iter().filter_map(|(pid, d)| Some((*pid, share(d.as_ref()?)?)));
            shares.max_by(|a, b| a.1.total_cmp(&b.1))
        };
        let limits = self.settings.connections();
        let connections = e.worker_connections.max(1) as f64;
        if let Some((pid, share)) = worst(&|d| Some(d.sockets as f64 * 100.0 / connections))
            && let Some((severity, _)) = limits.exceeded(share)
        {
            let message =
                format!("a worker of {name} uses {} of its {} connections", quantity::percent(share), e.worker_connections);
            judgement.findings.push(finding(&CONNECTIONS, severity, message).cite("process", pid.to_string()));
        }
        if let Some((pid, share)) = worst(&|d| Some(d.files as f64 * 100.0 / d.limit.filter(|l| *l > 0)? as f64))
            && let Some((severity, _)) = limits.exceeded(share)
        {
            let message = format!("a worker of {name} uses {} of its open files limit", quantity::percent(share));
            judgement.findings.push(
                finding(&CONNECTIONS, severity, message)
                    .cite("process", pid.to_string())
                    .hint("raise worker_rlimit_nofile, or its unit's LimitNOFILE"),
            );
        }
        if let Some((port, n)) = e.waiting.iter().max_by_key(|(_, n)| *n) {
            let message = format!("{n} connections to port {port} of {name} wait to be accepted");
            judgement.findings.push(
                finding(&CONNECTIONS, Severity::Warn, message)
                    .hint("its workers are overloaded or stopped: check their state and the CPU"),
            );
        }
        judgement
    }
}
