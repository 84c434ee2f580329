//! A service that runs, with a failed reload: it still uses the configuration from before.

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Code, Finding, Judged, KeyKind, Product, Severity, quantity::ago};
use opsctl_core::probe::ProbeCx;
use opsctl_core::probe::logs::LogEvidence;
use opsctl_core::probe::systemd::{self, ConfigError, FailedReload, Since, Unit};
use serde::{Deserialize, Serialize};

use super::unit::about;
use super::{Settings, decode, names};
use crate::shared::log_reason::{because, with_log};

pub(super) const RELOAD_FAILED: Code = Code {
    id: "systemd.reload-failed",
    severities: &[Severity::Info, Severity::Warn],
    when: "the last reload of an active service failed: it runs with the configuration from before (warn; info for units that fail on healthy hosts)",
    hint: "correct the error, then reload it again; do not restart it before: a start with an invalid configuration fails",
    ..Code::BASE
};

/// Lines of the journal during a reload.
const MAX_LINES: usize = 100;

/// Lines of a process can be received after its end.
const RECEIVED_LATE: SignedDuration = SignedDuration::from_secs(1);

/// Time before the end of a reload without a command that its lines are searched for.
const WITHOUT_COMMAND: SignedDuration = SignedDuration::from_secs(10);

/// The reason of a failed reload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Reload {
    /// Lines of its journal during the reload.
    log: LogEvidence,
    /// The error in its present configuration; `None` if it is valid or cannot be tested.
    config: Option<ConfigError>,
    /// The server of the unit (its target's id).
    server: Option<String>,
    /// It has loaded its configuration since, for example by `nginx -s reload`, which systemd does not see.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    loaded_since: bool,
}

/// The failed reload of a service that runs.
fn failed(unit: &Unit) -> Option<&FailedReload> {
    unit.service.as_ref()?.failed_reload.as_ref().filter(|_| unit.active == "active")
}

/// End of the reload; without a command, the state changed last at its end.
fn ended(unit: &Unit, failed: &FailedReload) -> Option<Timestamp> {
    failed.ended.or(unit.changed)
}

/// Reads the reason of a failed reload; nothing for other units.
pub(super) async fn read(cx: &ProbeCx, unit: &Unit) -> Reload {
    let Some(failed) = failed(unit) else { return Reload::default() };
    let mut reload = Reload::default();
    if let Some(end) = ended(unit, failed) {
        let begin = failed.began.unwrap_or(end - WITHOUT_COMMAND);
        let end = end + RECEIVED_LATE;
        match systemd::own_lines(&unit.name, Since::Between(begin, end), MAX_LINES).await {
            Ok(lines) => {
                // the query is exact to the second only
                let lines: Vec<_> = lines.into_iter().filter(|l| l.at >= begin && l.at <= end).collect();
                reload.log = cx.log_of_lines(&lines).await;
            }
            Err(why) => reload.log.gap = Some(why.to_string()),
        }
    }
    let command = unit.service.as_ref().and_then(|s| s.exec_start.first());
    if let Some(command) = command {
        reload.config = systemd::config_error(&unit.name, command).await;
    }
    let server = cx.inventory.servers.iter().find(|s| s.unit.as_ref() == Some(&unit.name));
    reload.server = server.map(|s| s.id.clone());
    let nginx = cx.inventory.server_targets(Product::Nginx).into_iter().find(|t| Some(&t.id) == reload.server.as_ref());
    let loaded = nginx.and_then(|target| cx.nginx(&target).ok()?.loaded_at());
    reload.loaded_since = loaded > ended(unit, failed) && ended(unit, failed).is_some();
    // the server itself does not explain its reload
    reload.log.needed.retain(|object| *object != unit.name && Some(object) != reload.server.as_ref());
    reload
}

pub(super) fn judge(s: &Settings, judged: &Judged<'_>, unit: &Unit, reload: &Reload) -> Option<Finding> {
    let failed = failed(unit).filter(|_| !reload.loaded_since)?;
    let service = unit.service.as_ref()?;
    let name = &unit.name;
    let at = ended(unit, failed);
    let when = at.map(|t| format!(" {}", ago(judged.taken_at, t))).unwrap_or_default();
    let outcome = decode::reload(service, failed);
    let line = because(&reload.log).map(|line| format!(": {line}")).unwrap_or_default();
    // the line of the log and the test often have the same error
    let error = reload.config.as_ref().filter(|c| !line.contains(c.error.trim_start_matches("[emerg] ")));
    let error = error.map(|c| format!("; `{}` fails: {}", c.command, c.error)).unwrap_or_default();
    let message =
        format!("the reload of {name} failed{when}, it runs with the configuration from before: {outcome}{line}{error}");
    let severity = if names::any(&s.noise_units, name) { Severity::Info } else { Severity::Warn };
    let finding = about(unit, &RELOAD_FAILED, severity, message)
        .since(at)
        .cite_opt("failed command", failed.command.as_ref().map(|c| format!("{}={}", c.setting, c.line)))
        .cite_opt("configuration test", reload.config.as_ref().map(|c| format!("{}: {}", c.command, c.error)));
    let finding = with_log(finding, &reload.log);
    let finding = reload.server.iter().fold(finding, |f, server| f.key(KeyKind::Server, server));
    Some(match (&reload.config, reload.log.reason()) {
        (Some(c), _) => finding.hint(format!(
            "correct the error until `{}` passes, then `systemctl reload {name}`; do not restart it before: the start would fail",
            c.command
        )),
        // the reason has a hint of its own
        (None, Some(_)) => finding,
        (None, None) => finding.hint(format!(
            "`journalctl -u {name}` has the output of the reload; correct the error, then `systemctl reload {name}`"
        )),
    })
}

#[cfg(test)]
mod tests {
    use opsctl_core::model::{Kind, Object};
    use opsctl_core::probe::systemd::Service;

    use super::*;

    fn unit(active: &str, failed_reload: Option<FailedReload>) -> Unit {
        let service = Service { failed_reload, ..Service::default() };
        Unit { name: "web.service".into(), active: active.into(), service: Some(service), ..Unit::default() }
    }

    fn finding(unit: &Unit) -> Option<Finding> {
        let target = Object::named(Kind::Unit, "web.service");
        let judged = Judged { target: &target, taken_at: Timestamp::UNIX_EPOCH };
        judge(&Settings::default(), &judged, unit, &Reload::default())
    }

    #[test]
    fn service_that_ended_has_no_failed_reload() {
        let failed = || Some(FailedReload { result: "exit-code".into(), ..FailedReload::default() });
        assert!(finding(&unit("active", failed())).is_some());
        assert!(finding(&unit("failed", failed())).is_none());
        assert!(finding(&unit("reloading", failed())).is_none());
        assert!(finding(&unit("active", None)).is_none());
    }

    #[test]
    fn later_reload_by_a_signal_replaced_the_failed_one() {
        let unit = unit("active", Some(FailedReload { result: "exit-code".into(), ..FailedReload::default() }));
        let target = Object::named(Kind::Unit, "web.service");
        let judged = Judged { target: &target, taken_at: Timestamp::UNIX_EPOCH };
        let reload = Reload { loaded_since: true, ..Reload::default() };
        assert!(judge(&Settings::default(), &judged, &unit, &reload).is_none());
    }
}
