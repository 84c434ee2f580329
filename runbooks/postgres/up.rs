//! Availability: whether the server accepts queries.

use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Impact, Inventory, Judged, Judgement, KeyKind, Object, Product, Role, Severity,
};
use opsctl_core::probe::servers::SessionError;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::disk;
use crate::shared::dependencies::{DESCRIPTORS, NO_ROOM, running};
use crate::shared::servers::{Server, Silence};

const UP: Code = Code {
    id: "postgres.up",
    severities: &[Severity::Crit],
    when: "the server is not running, refuses connections, times out or speaks another protocol; or it is starting up, in recovery or shutting down",
    hint: "check its log and the disk of its data directory first; a restart during recovery starts the recovery from the beginning",
    impacts: &[
        Impact::confirmed(Role::Down, KeyKind::Server, "database is down"),
        Impact::confirmed(Role::Unresponsive, KeyKind::Container, "server does not respond"),
    ],
    depends_on: &[&running("its"), DESCRIPTORS, NO_ROOM],
};

static SPEC: CheckSpec = CheckSpec {
    id: "postgres.up",
    title: "PostgreSQL accepts queries",
    codes: &[UP],
    fixes: &[],
    timeout: Duration::from_secs(9),
};

pub(super) struct Up;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    silence: Silence,
    /// Full filesystems of its data, by `major:minor`.
    full: Vec<String>,
    /// Matching lines of the server log.
    log: Vec<String>,
}

impl Check for Up {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Postgres)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        match cx.postgres(target).await? {
            Ok(_) => Ok(Evidence { server, ..Evidence::default() }),
            Err(why) => {
                let silence = Silence::about(cx, &server, why).await;
                let full = disk::full(cx, &server).await;
                let log =
                    super::log_of(cx, &server, &["PANIC", "FATAL", "No space left", "terminated by signal", "shutting down"])
                        .await;
                Ok(Evidence { server, silence, full, log })
            }
        }
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let name = &judged.target.name;
        let mut judgement = match e.silence.why() {
            // the server is up: the connections check reports the holders
            Some(SessionError::Rejected { code, .. }) if code == "53300" => return Judgement::default(),
            Some(SessionError::Rejected { address, code, message }) if code == "57P03" => {
                let message = message.trim_start_matches("the database system is ");
                let finding = e.server.finding(
                    &UP,
                    Severity::Crit,
                    judged.target,
                    format!("{name} is running and accepts no queries: it is {message}"),
                );
                let starting =
                    message.contains("starting") || message.contains("recovery") || message.contains("not yet accepting");
                let finding = if starting {
                    finding.hint("wait, and watch its log for progress: a restart starts the recovery from the beginning")
                } else {
                    finding
                };
                let pending = if starting { vec![format!("{name} to accept queries")] } else { Vec::new() };
                Judgement { findings: vec![finding.cite("at", address)], pending, ..Judgement::default() }
            }
            _ => e.silence.judge(&UP, &e.server, judged.target, judged.taken_at, "the PostgreSQL protocol", "PGPASSWORD"),
        };
        for finding in &mut judgement.findings {
            let mut tied = finding.clone().cite("its log", e.log.join("\n"));
            // linked to a full disk only if the log reports it, or if nothing can be written at all
            for dev in &e.full {
                tied = tied.key(KeyKind::Filesystem, dev);
            }
            *finding = tied;
        }
        judgement
    }
}
