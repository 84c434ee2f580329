//! Does it take questions?

use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Inventory, Judged, Judgement, KeyKind, Product, Severity, Target};
use opsctl_core::probe::servers::NoSession;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::disk;
use crate::servers::{Server, Silence};

const UP: Code = Code {
    id: "postgres.up",
    severities: &[Severity::Crit],
    when: "it does not run, refuses connections, does not answer in time or speaks something else; or it says that it is starting up, in recovery or shutting down",
    hint: "look at its log and at the disk its data are on before anything else; a restart in the middle of recovery begins the recovery again",
};

static SPEC: CheckSpec =
    CheckSpec { id: "postgres.up", title: "it takes questions", codes: &[UP], fixes: &[], timeout: Duration::from_secs(9) };

pub(super) struct Up;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    silence: Silence,
    /// Filesystems of its data that have no room left, by `major:minor`.
    full: Vec<String>,
    /// What its log says about it.
    log: Vec<String>,
}

impl Check for Up {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Target> {
        inventory.server_targets(Product::Postgres)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Target) -> Result<Evidence, ProbeError> {
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
            // it is up: the connections check says who holds them
            Some(NoSession::Rejected { code, .. }) if code == "53300" => return Judgement::default(),
            Some(NoSession::Rejected { address, code, message }) if code == "57P03" => {
                let message = message.trim_start_matches("the database system is ");
                let finding = e.server.finding(
                    &UP,
                    Severity::Crit,
                    judged.target,
                    format!("{name} runs and takes no questions: it is {message}"),
                );
                let starting =
                    message.contains("starting") || message.contains("recovery") || message.contains("not yet accepting");
                let finding = if starting {
                    finding.hint("wait, and watch its log for progress: a restart begins the recovery again")
                } else {
                    finding
                };
                let pending = if starting { vec![format!("{name} to take questions")] } else { Vec::new() };
                Judgement { findings: vec![finding.cite("at", address)], pending, ..Judgement::default() }
            }
            _ => e.silence.judge(&UP, &e.server, judged.target, judged.taken_at, "the PostgreSQL protocol", "PGPASSWORD"),
        };
        for finding in &mut judgement.findings {
            let mut tied = finding.clone().cite("its log", e.log.join("\n"));
            // a full disk is its end only where the log says so, or where nothing can be written at all
            for dev in &e.full {
                tied = tied.key(KeyKind::Filesystem, dev);
            }
            *finding = tied;
        }
        judgement
    }
}
