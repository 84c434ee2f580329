//! Availability: the reply to PING.

use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{
    Check, CheckSpec, Code, Impact, Inventory, Judged, Judgement, KeyKind, Object, Product, Role, Severity, quantity,
};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::info::Info;
use crate::shared::dependencies::{DESCRIPTORS, NO_ROOM, running};
use crate::shared::servers::{Server, Silence};

pub(super) const UP: Code = Code {
    id: "redis.up",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the server is not running, refuses connections, times out, speaks another protocol, or is blocked by a script (crit); it is loading its dataset (warn, crit if over {loading_crit_s} are left)",
    hint: "check its log and the load of the host; do not restart it while it saves or loads",
    impacts: &[
        Impact::confirmed(Role::Down, KeyKind::Server, "cache is down"),
        Impact::confirmed(Role::Unresponsive, KeyKind::Container, "server does not respond"),
    ],
    depends_on: &[&running("its"), DESCRIPTORS, NO_ROOM],
};

static SPEC: CheckSpec =
    CheckSpec { id: "redis.up", title: "Redis answers PING", codes: &[UP], fixes: &[], timeout: Duration::from_secs(8) };

pub(super) struct Up {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    silence: Silence,
    /// The error reply to PING: code and message.
    refuses: Option<(String, String)>,
    info: Info,
}

impl Check for Up {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Redis)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let server = Server::of(cx, target)?;
        let session = match cx.redis(target).await? {
            Ok(session) => session,
            Err(why) => return Ok(Evidence { silence: Silence::about(cx, &server, why).await, server, ..Evidence::default() }),
        };
        let refuses = session.refuses.clone();
        let loading = refuses.as_ref().is_some_and(|(code, _)| code == "LOADING");
        let keys = ["loading_eta_seconds", "loading_loaded_perc", "loading_start_time"];
        let info = if loading { Info::of(&session, &keys).await.unwrap_or_default() } else { Info::default() };
        Ok(Evidence { server, refuses, info, ..Evidence::default() })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        if e.silence.is_silent() {
            return e.silence.judge(&UP, &e.server, judged.target, judged.taken_at, "the Redis protocol", "REDIS_PASSWORD");
        }
        let Some((code, message)) = &e.refuses else { return Judgement::default() };
        let name = &judged.target.name;
        let finding = |severity, text: String| {
            e.server.finding(&UP, severity, judged.target, text).cite("error", format!("{code} {message}"))
        };
        match code.as_str() {
            "LOADING" => {
                let left = e.info.number("loading_eta_seconds");
                let slow = left.is_some_and(|s| s > self.settings.loading_crit_s);
                let severity = if slow { Severity::Crit } else { Severity::Warn };
                let left = left
                    .and_then(|s| i64::try_from(s).ok())
                    .map_or_else(String::new, |s| format!(", {} left", quantity::duration(SignedDuration::from_secs(s))));
                let share = e.info.text("loading_loaded_perc").map_or_else(String::new, |p| format!(", {p} % done"));
                let finding = finding(severity, format!("{name} is loading its dataset and rejects commands{share}{left}"))
                    .hint("wait: a restart starts the loading from the beginning");
                Judgement {
                    findings: vec![finding],
                    pending: vec![format!("{name} to load its dataset")],
                    ..Judgement::default()
                }
            }
            "BUSY" => vec![
                finding(Severity::Crit, format!("{name} is blocked by a script and rejects every command"))
                    .hint("`redis-cli SCRIPT KILL` terminates a script that has not written; then find the client that runs it"),
            ]
            .into(),
            // reported by the persistence and replication checks
            "MISCONF" | "MASTERDOWN" => Judgement::default(),
            _ => vec![finding(Severity::Crit, format!("{name} rejects PING"))].into(),
        }
    }
}
