//! A service that runs, with a failed reload: it still uses the configuration from before.

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{Code, Finding, Judged, KeyKind, Product, Severity, quantity::ago};
use opsctl_core::probe::ProbeCx;
use opsctl_core::probe::io::clock;
use opsctl_core::probe::logs::LogEvidence;
use opsctl_core::probe::systemd::{self, ConfigError, ConfigState, FailedReload, JournalLine, Since, Unit};
use serde::{Deserialize, Serialize};

use super::unit::about;
use super::{Settings, decode, names};
use crate::shared::log_reason::{because, with_log};

pub(super) const RELOAD_FAILED: Code = Code {
    id: "systemd.reload-failed",
    severities: &[Severity::Info, Severity::Warn],
    when: "the last reload of an active service failed: it runs with the configuration from before (warn; info for units that fail on healthy hosts, and if the configuration is valid now: a reload by a signal is not recorded)",
    hint: "correct the error, then reload it again; do not restart it before: a start with an invalid configuration fails",
    ..Code::BASE
};

/// Lines of the journal during a reload.
const MAX_LINES: usize = 100;

/// Lines of the journal after a failed reload.
const MAX_LATER_LINES: usize = 1000;

/// Lines with which a server reports a loaded configuration, also after a signal that systemd does not see: its program, or its unit
/// without suffix, and a part of the line.
const LOADED: &[(&str, &str)] = &[
    // after SIGHUP it executes itself again (sshd.c, `sighup_restart`)
    ("sshd", "Server listening on "),
    // 2.7 and later, and before (mworker.c)
    ("haproxy", "Loading success"),
    ("haproxy", "New worker "),
    ("apache2", "resuming normal operations"),
    ("httpd", "resuming normal operations"),
    ("named", "reloading configuration succeeded"),
    ("prometheus", "Completed loading of configuration file"),
];

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
    /// The command that its present configuration passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    valid: Option<String>,
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
        match systemd::config_state(&unit.name, command).await {
            Some(ConfigState::Invalid(error)) => reload.config = Some(error),
            Some(ConfigState::Valid(command)) => reload.valid = Some(command),
            None => {}
        }
    }
    let server = cx.inventory.servers.iter().find(|s| s.unit.as_ref() == Some(&unit.name));
    reload.server = server.map(|s| s.id.clone());
    let nginx = cx.inventory.server_targets(Product::Nginx).into_iter().find(|t| Some(&t.id) == reload.server.as_ref());
    let loaded = nginx.and_then(|target| cx.nginx(&target).ok()?.loaded_at());
    reload.loaded_since = match ended(unit, failed) {
        Some(end) => loaded > Some(end) || has_loaded_since(unit, end).await,
        None => false,
    };
    // the server itself does not explain its reload
    reload.log.needed.retain(|object| *object != unit.name && Some(object) != reload.server.as_ref());
    reload
}

/// Whether the journal has a line of the server about a loaded configuration since then.
async fn has_loaded_since(unit: &Unit, end: Timestamp) -> bool {
    let program = unit.service.as_ref().and_then(|s| s.program()).and_then(|path| path.rsplit('/').next());
    let names = [program, unit.name.strip_suffix(".service")];
    let signs: Vec<&str> = LOADED.iter().filter(|(name, _)| names.contains(&Some(name))).map(|(_, sign)| *sign).collect();
    if signs.is_empty() {
        return false;
    }
    let since = Since::Between(end + RECEIVED_LATE, clock::now());
    let lines = systemd::own_lines(&unit.name, since, MAX_LATER_LINES).await.unwrap_or_default();
    reports_load(&lines, &signs, end)
}

/// The query is exact to the second only.
fn reports_load(lines: &[JournalLine], signs: &[&str], end: Timestamp) -> bool {
    lines.iter().any(|l| !l.by_systemd && l.at > end + RECEIVED_LATE && signs.iter().any(|sign| l.text.contains(sign)))
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
    let state = match &reload.valid {
        Some(command) => format!(", its configuration passes `{command}` now, and no later reload is recorded"),
        None => ", it runs with the configuration from before".to_owned(),
    };
    let message = format!("the reload of {name} failed{when}{state}: {outcome}{line}{error}");
    let is_minor = reload.valid.is_some() || names::any(&s.noise_units, name);
    let finding = about(unit, &RELOAD_FAILED, if is_minor { Severity::Info } else { Severity::Warn }, message);
    // systemd does not see a reload by a signal; one with an invalid configuration would have failed, too
    let finding = if reload.config.is_some() { finding } else { finding.likely() };
    let finding = finding
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
        (None, _) if reload.valid.is_some() => finding.hint(format!("`systemctl reload {name}` loads its present configuration")),
        // the reason has a hint of its own
        (None, Some(_)) => finding,
        (None, None) => finding.hint(format!(
            "`journalctl -u {name}` has the output of the reload; correct the error, then `systemctl reload {name}`"
        )),
    })
}

#[cfg(test)]
mod tests {
    use opsctl_core::model::{Confidence, Kind, Object};
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

    // systemd records only its own reloads: sshd after `kill -HUP`, haproxy after `kill -USR2` of its master
    #[test]
    fn line_about_a_loaded_configuration_counts_after_the_failed_reload() {
        let end = Timestamp::UNIX_EPOCH;
        let line = |seconds: i64, text: &str, by_systemd: bool| JournalLine {
            at: end + SignedDuration::from_secs(seconds),
            text: text.to_owned(),
            by_systemd,
        };
        let reports = |line: JournalLine| reports_load(&[line], &["Server listening on "], end);
        let text = "Server listening on 0.0.0.0 port 22.";
        assert!(reports(line(60, text, false)));
        for other in [line(0, text, false), line(60, text, true), line(60, "Received SIGHUP; restarting.", false)] {
            assert!(!reports(other));
        }
    }

    #[test]
    fn valid_configuration_is_information_and_likely() {
        let unit = unit("active", Some(FailedReload { result: "exit-code".into(), ..FailedReload::default() }));
        let target = Object::named(Kind::Unit, "web.service");
        let judged = Judged { target: &target, taken_at: Timestamp::UNIX_EPOCH };
        let judged_with =
            |reload: &Reload| judge(&Settings::default(), &judged, &unit, reload).map(|f| (f.severity, f.confidence));
        let valid = Reload { valid: Some("sshd -t".to_owned()), ..Reload::default() };
        let invalid = Reload { config: Some(ConfigError::default()), ..Reload::default() };
        assert_eq!(judged_with(&valid), Some((Severity::Info, Confidence::Likely)));
        assert_eq!(judged_with(&invalid), Some((Severity::Warn, Confidence::Confirmed)));
        assert_eq!(judged_with(&Reload::default()), Some((Severity::Warn, Confidence::Likely)));
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
