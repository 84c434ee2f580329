//! Does it answer, and what?

use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{Check, CheckSpec, Code, Inventory, Judged, Judgement, Product, Severity, Target, quantity};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;
use super::info::Info;
use crate::servers::{Server, Silence};

pub(super) const UP: Code = Code {
    id: "redis.up",
    severities: &[Severity::Warn, Severity::Crit],
    when: "it does not run, refuses connections, does not answer in time, speaks something else, or a script blocks it (crit); it loads its data (warn, crit when that takes over 5 min more)",
    hint: "look at its log and at what runs on the host; do not restart it while it saves or loads",
};

static SPEC: CheckSpec =
    CheckSpec { id: "redis.up", title: "it answers", codes: &[UP], fixes: &[], timeout: Duration::from_secs(8) };

pub(super) struct Up {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    server: Server,
    silence: Silence,
    /// What it says to PING instead of PONG: code and message.
    refuses: Option<(String, String)>,
    info: Info,
}

impl Check for Up {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Target> {
        inventory.server_targets(Product::Redis)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Target) -> Result<Evidence, ProbeError> {
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
            e.server.finding(&UP, severity, judged.target, text).cite("it says", format!("{code} {message}"))
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
                let finding = finding(severity, format!("{name} loads its data and answers nothing until then{share}{left}"))
                    .hint("wait: a restart begins the loading again");
                Judgement { findings: vec![finding], pending: vec![format!("{name} to load its data")], ..Judgement::default() }
            }
            "BUSY" => vec![
                finding(Severity::Crit, format!("{name} is blocked by a script and answers nobody"))
                    .hint("`redis-cli SCRIPT KILL` ends a script that has not written; then find who runs it"),
            ]
            .into(),
            // persistence says why, and what to do; so does replication
            "MISCONF" | "MASTERDOWN" => Judgement::default(),
            _ => vec![finding(Severity::Crit, format!("{name} turns PING away"))].into(),
        }
    }
}
