//! Prometheus: readiness, the loaded configuration, and the configuration on disk.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use opsctl_core::model::{
    Action, Check, CheckSpec, Code, DependsOn, Finding, FixSpec, Impact, Inventory, Judged, Judgement, KeyKind, Object, Plan,
    Product, Refusal, Risk, Role, ServerProcess, Severity, quantity,
};
use opsctl_core::probe::proc::files::{files_of, modified_of};
use opsctl_core::probe::servers::prometheus::{ConfigCheck, check_config};
use opsctl_core::probe::{Io, ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::status::ServerState;
use super::{Settings, promtool, some_of};
use crate::shared::dependencies::{DESCRIPTORS, NO_ROOM, running};
use crate::shared::restart_container::RESTART;
use crate::shared::servers::{READ_TIMEOUT, working_directory};

pub(super) const PROMETHEUS: Code = Code {
    id: "monitoring.prometheus",
    severities: &[Severity::Info, Severity::Crit],
    when: "it does not run, refuses connections or does not answer, replays its write-ahead log for over {replay_minutes}, could not load its configuration, or could not load the configuration now on disk: it still runs with the previous one, `/-/ready` returns 200, and its next start fails (crit); a valid file changed after it was loaded (info)",
    hint: "`promtool check config FILE` reports the error; reload when it passes, and do not restart before",
    impacts: &[Impact::likely(Role::Unresponsive, KeyKind::Container, "server does not respond as it should")],
    depends_on: &[
        &running("its"),
        DESCRIPTORS,
        NO_ROOM,
        &[DependsOn::confirmed(Role::OldFile, KeyKind::Container, "its").treatable()],
    ],
};

pub(super) const RELOAD: FixSpec = FixSpec {
    id: "prom.reload",
    risk: Risk::R1,
    title: "reload the configuration of Prometheus after `promtool check config` passes",
};

static SPEC: CheckSpec = CheckSpec {
    id: "monitoring.prometheus",
    title: "Prometheus is ready and runs the configuration on disk",
    codes: &[PROMETHEUS],
    fixes: &[RELOAD, RESTART],
    timeout: Duration::from_secs(9),
};

/// Minimum age of a changed file: it may still be incomplete before.
const MIN_FILE_AGE: SignedDuration = SignedDuration::from_secs(60);

pub(super) struct Prometheus {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    standing: ServerState,
    /// `None` while not reported.
    reload_ok: Option<bool>,
    loaded_at: Option<Timestamp>,
    file: String,
    /// Files of the configuration that changed after it was loaded, and their modification times.
    newer: Vec<(String, Timestamp)>,
    /// Result of `promtool check config`; only run on suspicion.
    checked: Option<ConfigCheck>,
    /// It fails for a file that Prometheus does not read while loading, and the rest of the configuration is valid.
    loads: bool,
    /// Why a failed check proves nothing: the version of `promtool` or feature flags.
    unproven: Option<String>,
    test: Vec<String>,
    /// Whether `POST /-/reload` is enabled.
    lifecycle: bool,
    gap: Option<String>,
}

impl Check for Prometheus {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.server_targets(Product::Prometheus)
    }

    async fn probe(&self, cx: &ProbeCx, target: &Object) -> Result<Evidence, ProbeError> {
        let mut e = Evidence { standing: ServerState::of(cx, target, "/-/ready").await?, ..Evidence::default() };
        let process = e.standing.server.get().and_then(|s| s.process);
        let flags = cx.flags(target).await;
        e.lifecycle = flags.has("web.enable-lifecycle");
        if let Some(process) = process {
            let file = flags.value("config.file").unwrap_or("prometheus.yml");
            e.file = match working_directory(process.pid).await {
                Some(directory) if !file.starts_with('/') => format!("{}/{file}", directory.trim_end_matches('/')),
                _ => file.to_owned(),
            };
            e.test = ["promtool", "check", "config", &e.file].map(str::to_owned).to_vec();
        }
        if e.standing.status == 200 {
            match cx.json(target, "/api/v1/status/runtimeinfo").await {
                Ok(json) => {
                    e.reload_ok = json.pointer("/data/reloadConfigSuccess").and_then(serde_json::Value::as_bool);
                    let at = json.pointer("/data/lastConfigTime").and_then(|t| t.as_str());
                    e.loaded_at = at.and_then(|t| t.parse().ok()).filter(|t: &Timestamp| t.as_second() > 0);
                }
                Err(ProbeError::Skip(_)) => {}
                Err(why) => e.gap = Some(why.to_string()),
            }
        }
        let mut rule_files = Vec::new();
        if let (Some(process), Some(loaded)) = (process, e.loaded_at) {
            let mut patterns = Vec::new();
            if let Ok(rules) = cx.json(target, "/api/v1/rules").await {
                let groups = rules.pointer("/data/groups").and_then(|g| g.as_array()).into_iter().flatten();
                patterns.extend(groups.filter_map(|g| g.get("file")?.as_str().map(str::to_owned)));
            }
            let directory = working_directory(process.pid).await.unwrap_or_default();
            let absolute = |f: String| {
                if f.starts_with('/') { f } else { format!("{}/{f}", directory.trim_end_matches('/')) }
            };
            let patterns: Vec<String> = patterns.into_iter().map(absolute).collect();
            let file = e.file.clone();
            let read = move |io: &Io| {
                let mut rules: Vec<String> = patterns.iter().flat_map(|f| files_of(io, process.pid, f)).collect();
                rules.sort();
                rules.dedup();
                let newer = |f: &String| modified_of(io, process.pid, f).filter(|t| *t > loaded).map(|t| (f.clone(), t));
                let newer = std::iter::once(&file).chain(&rules).filter_map(newer).collect();
                (newer, rules)
            };
            match blocking::run("its configuration", &format!("process {}", process.pid), READ_TIMEOUT, read).await {
                Ok((newer, rules)) => (e.newer, rule_files) = (newer, rules),
                Err(why) => e.gap = Some(why.to_string()),
            }
        }
        if e.reload_ok == Some(false) || !e.newer.is_empty() || e.standing.hung_in.is_some() {
            let container = e.standing.server.get().and_then(|s| s.container.clone());
            if let Some(process) = process {
                let (docker, container) = (cx.docker.as_deref(), container.as_deref());
                let mut checked = check_config(docker, container, process, &e.test).await;
                if promtool::is_tolerated(&checked) {
                    match promtool::check_rest(docker, container, process, &e.file, &rule_files).await {
                        None => e.loads = true,
                        Some(failed) => checked = failed,
                    }
                }
                if promtool::is_of_version(&checked) {
                    e.unproven = unproven(cx, target, process, container, flags.value("enable-feature")).await;
                }
                e.checked = Some(checked);
            }
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let (name, now) = (&judged.target.name, judged.taken_at);
        if e.standing.silence.is_silent() {
            return e.standing.judge_silence(&PROMETHEUS, judged, "Prometheus", true);
        }
        let finding = |severity, text: String| e.standing.server.finding(&PROMETHEUS, severity, judged.target, text);
        if e.standing.status != 200 {
            let limit = SignedDuration::from_mins(self.settings.replay_minutes);
            let pending = vec![format!("{name} to become ready")];
            if e.standing.is_younger(now, limit) {
                return Judgement { pending, ..Judgement::skip("it is starting: it replays its write-ahead log") };
            }
            let since = e.standing.age(now).map_or_else(String::new, |a| format!(" {} after its start", quantity::duration(a)));
            let text = format!("{name} is not ready{since}, limit {}: status {}", quantity::duration(limit), e.standing.status);
            let found = e.standing.silent(finding(Severity::Crit, text)).cite("reply", &e.standing.says);
            let found =
                found.hint("check its log: it replays its write-ahead log or cannot read it; a restart starts the replay again");
            return Judgement { findings: vec![found], pending, ..Judgement::default() };
        }
        Judgement {
            findings: configuration(judged, e, &finding).into_iter().collect(),
            gaps: e.gap.iter().cloned().collect(),
            ..Judgement::default()
        }
    }

    fn plan(&self, fix: &str, finding: &Finding, judged: &Judged<'_>, e: &Evidence) -> Result<Plan, Refusal> {
        let command = e.test.join(" ");
        if e.loads && fix != RESTART.id {
            let says = e.checked.iter().flat_map(|c| &c.says).cloned().collect::<Vec<_>>().join("; ");
            return Err(Refusal::ByHand(format!(
                "`{command}` fails for a file that is not read while loading ({says}): correct it first"
            )));
        }
        let wrong = e.checked.as_ref().filter(|c| !c.passes && !e.loads);
        if let Some(c) = wrong {
            let then = if fix == RESTART.id { "restart" } else { "reload" };
            if let Some(why) = &c.not_run {
                return Err(Refusal::ByHand(format!("`{command}` could not be run ({why}): run it, and {then} when it passes")));
            }
            let why = c.says.join("; ");
            let effect = if fix == RESTART.id { "it would not start again" } else { "it cannot load it" };
            return Err(Refusal::ByHand(format!("correct the configuration first, {effect} ({why}); then `{command}`")));
        }
        if fix == RESTART.id {
            return e.standing.plan(&SPEC, finding, judged);
        }
        let server = e.standing.server.get();
        let (Some(process), Some(_)) = (server.and_then(|s| s.process), &e.checked) else {
            return Err(Refusal::ByHand(format!("run `{command}`; when it passes, reload Prometheus")));
        };
        let action = Action::ReloadPrometheus {
            pid: process.pid,
            start_ticks: process.start_ticks,
            container: server.and_then(|s| s.container.clone()),
            test: e.test.clone(),
            over_http: e.lifecycle,
        };
        Ok(Plan::new(&RELOAD, &SPEC, finding, judged.target, vec![action]))
    }
}

/// Why an error of `promtool` that depends on its version proves nothing, or `None` if it does.
async fn unproven(
    cx: &ProbeCx,
    target: &Object,
    process: ServerProcess,
    container: Option<&str>,
    features: Option<&str>,
) -> Option<String> {
    if let Some(features) = features.filter(|f| f.contains("promql")) {
        return Some(format!("Prometheus runs with --enable-feature={features}"));
    }
    let server = cx.json(target, "/api/v1/status/buildinfo").await.ok();
    let server = server.and_then(|j| Some(promtool::release(j.pointer("/data/version")?.as_str()?).to_owned()));
    let tool = promtool::release_of_promtool(cx.docker.as_deref(), container, process).await;
    match (server, tool) {
        (Some(server), Some(tool)) if server == tool => None,
        (Some(server), Some(tool)) => Some(format!("promtool is {tool}, Prometheus {server}")),
        _ => Some("the versions of promtool and Prometheus are not known".to_owned()),
    }
}

/// Faults of the loaded configuration.
fn configuration(judged: &Judged<'_>, e: &Evidence, finding: &dyn Fn(Severity, String) -> Finding) -> Option<Finding> {
    let (name, now) = (&judged.target.name, judged.taken_at);
    let loaded = e.loaded_at.map_or_else(|| "an older one".to_owned(), |t| format!("that of {}", quantity::ago(now, t)));
    let cited = |f: Finding| {
        let f = f.cite("file", &e.file).cite_opt("loaded", e.loaded_at.map(|t| t.to_string()));
        let Some(checked) = &e.checked else { return f };
        let f = f.cite_opt("the check could not be run", checked.not_run.as_ref());
        if checked.passes { f.cite(&checked.command, "passes") } else { f.cite(&checked.command, checked.says.join("; ")) }
    };
    let fails = e.checked.as_ref().is_some_and(|c| !c.passes && c.not_run.is_none()) && !e.loads && e.unproven.is_none();
    if e.reload_ok == Some(false) {
        let right = e.checked.as_ref().is_some_and(|c| c.passes);
        let next = match () {
            () if right => "the file is now valid but not loaded",
            // an existing scrape pool cannot be reloaded with a file that does not exist, a new one is left out
            () if e.loads => "a file that its configuration names is missing or invalid",
            () if e.unproven.is_some() => "its log contains the reason",
            () => "its next start fails",
        };
        let text =
            format!("{name} could not load its configuration: it still runs with {loaded}, its /-/ready returns 200, and {next}");
        return Some(cited(finding(Severity::Crit, text)).since(e.newer.iter().map(|(_, t)| *t).max()).fix(RELOAD.id));
    }
    let changed: Vec<String> =
        e.newer.iter().filter(|(_, t)| now.duration_since(*t) > MIN_FILE_AGE).map(|(f, _)| f.clone()).collect();
    if changed.is_empty() {
        return None;
    }
    if fails {
        let text = format!(
            "{name} cannot load {}, changed since it was loaded: it still runs with {loaded}, and its next start fails",
            some_of(&changed)
        );
        return Some(cited(finding(Severity::Crit, text)).since(e.newer.iter().map(|(_, t)| *t).max()).fix(RELOAD.id));
    }
    let text = format!("{name} has not loaded the changes of {} yet: it runs with {loaded}", some_of(&changed));
    let f = cited(finding(Severity::Info, text)).cite_opt("the check proves nothing", e.unproven.as_ref());
    Some(f.hint(match () {
        () if e.loads => {
            "reload to apply them, if intended: promtool fails for a file that Prometheus does not read while loading"
        }
        () if e.unproven.is_some() => "check it with the promtool of the same version before a reload",
        () => "reload to apply them, if intended",
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use opsctl_core::model::{Kind, ServerRef};

    use super::*;

    /// A Prometheus that could not load its configuration, with this result of the check of the file.
    fn failed_to_load(checked: Option<ConfigCheck>) -> Result<Plan, Refusal> {
        let server = ServerRef {
            product: Product::Prometheus,
            name: "prometheus".into(),
            id: "prometheus:a".into(),
            found_by: "process 7 (prometheus)".into(),
            process: Some(ServerProcess { pid: 7, start_ticks: 1 }),
            container: None,
            unit: None,
            address: None,
            untrusted: None,
        };
        let server = serde_json::from_value(serde_json::to_value(Some(server)).unwrap()).unwrap();
        let e = Evidence {
            standing: ServerState { server, status: 200, ..ServerState::default() },
            reload_ok: Some(false),
            checked,
            test: ["promtool", "check", "config", "/p.yml"].map(str::to_owned).to_vec(),
            ..Evidence::default()
        };
        let check = Prometheus { settings: Settings::default() };
        let target = Object::named(Kind::Prometheus, "prometheus");
        let judged = Judged { target: &target, taken_at: Timestamp::UNIX_EPOCH };
        let finding = check.judge(&judged, &e).findings.remove(0);
        assert_eq!(finding.fixes, [RELOAD.id]);
        check.plan(RELOAD.id, &finding, &judged, &e)
    }

    #[test]
    fn valid_configuration_is_reloaded() {
        let plan = failed_to_load(Some(ConfigCheck { passes: true, ..ConfigCheck::default() })).unwrap();
        assert!(matches!(&plan.actions[..], [Action::ReloadPrometheus { pid: 7, .. }]), "{plan:?}");
    }

    #[test]
    fn invalid_configuration_is_not_reloaded() {
        let fails = ConfigCheck { says: vec!["line 3: mapping values are not allowed".into()], ..ConfigCheck::default() };
        let refused = failed_to_load(Some(fails));
        assert!(
            matches!(refused, Err(Refusal::ByHand(why)) if why.contains("correct the configuration first, it cannot load it"))
        );
    }

    /// <https://github.com/prometheus/prometheus/issues/8935>: target files are checked by promtool, and not read while loading.
    #[test]
    fn error_in_a_target_file_does_not_prevent_a_start() {
        let says = vec!["FAILED: checking SD file \"targets/*.json\": invalid character 'b'".into()];
        let e = Evidence {
            standing: ServerState { status: 200, ..ServerState::default() },
            reload_ok: Some(true),
            newer: vec![("/etc/prometheus/a.rules".into(), Timestamp::UNIX_EPOCH)],
            checked: Some(ConfigCheck { says, ..ConfigCheck::default() }),
            loads: true,
            ..Evidence::default()
        };
        let check = Prometheus { settings: Settings::default() };
        let target = Object::named(Kind::Prometheus, "prometheus");
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let finding = check.judge(&Judged { target: &target, taken_at: now }, &e).findings.remove(0);
        assert_eq!((finding.severity, finding.fixes.len()), (Severity::Info, 0), "{finding:?}");
        let other = Evidence { loads: false, unproven: Some("promtool is 2.42.0, Prometheus 3.1.0".into()), ..e.clone() };
        assert_eq!(check.judge(&Judged { target: &target, taken_at: now }, &other).findings[0].severity, Severity::Info);
        let fails = Evidence { loads: false, ..e };
        assert_eq!(check.judge(&Judged { target: &target, taken_at: now }, &fails).findings[0].severity, Severity::Crit);
    }

    #[test]
    fn unchecked_configuration_is_not_reloaded() {
        let not_run = ConfigCheck { not_run: Some("promtool is not installed".into()), ..ConfigCheck::default() };
        let refused = failed_to_load(Some(not_run));
        assert!(matches!(refused, Err(Refusal::ByHand(why)) if why.contains("could not be run (promtool is not installed)")));
        assert!(matches!(failed_to_load(None), Err(Refusal::ByHand(_))));
    }
}
