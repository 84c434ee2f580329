//! Result of cloud-init. A recoverable error is not a failed boot.

use std::time::Duration;

use jiff::SignedDuration;
use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Judged, Judgement, KeyKind, Object, Severity,
    quantity::{ago, duration},
};
use opsctl_core::probe::io::clock;
use opsctl_core::probe::kernel::cloud_init::{CloudInit, Files, Progress, UNITS};
use opsctl_core::probe::kernel::host;
use opsctl_core::probe::kernel::user_data::{Form, is_invalid_yaml, is_unhandled, position};
use opsctl_core::probe::{ProbeCx, ProbeError, blocking};
use serde::{Deserialize, Serialize};

use super::Settings;

const CLOUD_INIT: Code = Code {
    id: "host.cloud-init",
    severities: &[Severity::Info, Severity::Warn, Severity::Crit],
    when: "a stage of cloud-init failed, `cloud-init status` exits with 1 (crit); cloud-init continued after errors, exit 2, or still runs after {cloud_init_min} (warn); cloud-init is disabled (info)",
    hint: "read /var/log/cloud-init.log and /var/log/cloud-init-output.log; `cloud-init schema --system` checks the user data",
    ..Code::BASE
};

const USER_DATA: Code = Code {
    id: "host.user-data",
    severities: &[Severity::Info, Severity::Warn],
    when: "nothing of the user data was applied: cloud-init does not recognise its form, or its YAML is not valid (warn; info for text that another program may read); it was changed after the first boot of the instance, and modules that run once did not run again (info)",
    hint: "the first line must be `#cloud-config` or `#!`; check it with `cloud-init schema --system`, then `cloud-init clean --logs --reboot` on a machine that may be provisioned again",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "host.cloud-init",
    title: "cloud-init finished without errors",
    codes: &[CLOUD_INIT, USER_DATA],
    fixes: &[],
    timeout: Duration::from_secs(2),
};

pub(super) struct CloudInitCheck {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    cloud_init: CloudInit,
    uptime_s: i64,
    /// opsctl was started by cloud-init, from user data.
    within: bool,
}

impl Check for CloudInitCheck {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, _cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let read =
            blocking::run("the boot's status", "/run/cloud-init", Duration::from_secs(1), |io| Files::default().read(io)).await?;
        let Some(cloud_init) = read? else { return Err(ProbeError::Skip("cloud-init is not installed".to_owned())) };
        let within = host::own_units().await?.iter().any(|unit| UNITS.contains(&unit.as_str()));
        Ok(Evidence { cloud_init, uptime_s: clock::since_boot().as_secs(), within })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let c = &e.cloud_init;
        let findings = self.finding(judged, e).into_iter().chain(user_data(judged, c)).collect();
        let mut j = Judgement { findings, ..Judgement::default() };
        // started from user data, opsctl would wait for itself
        if matches!(c.progress, Progress::Running | Progress::NotStarted) && !e.within && c.errors.is_empty() {
            j.pending.push("cloud-init".to_owned());
        }
        j
    }
}

impl CloudInitCheck {
    fn finding(&self, judged: &Judged<'_>, e: &Evidence) -> Option<Finding> {
        let c = &e.cloud_init;
        let new = |severity, message: String| Some(Finding::new(&CLOUD_INIT, severity, Object::host(), message));
        if c.progress == Progress::Disabled {
            return new(Severity::Info, format!("cloud-init is disabled: {}", c.disabled_by));
        }
        if let Some(first) = c.errors.first() {
            let more = if c.errors.len() > 1 { format!(" and {} more", c.errors.len() - 1) } else { String::new() };
            let finding = new(Severity::Crit, format!("cloud-init failed: {}{more}", short(first)))?;
            let finding = finding
                .cite("exit code of cloud-init status", "1")
                .cite("data source", &c.datasource)
                .cite("last lines of cloud-init-output.log", c.output.join(" | "));
            return Some(UNITS.iter().fold(finding, |f, unit| f.key(KeyKind::Unit, *unit)));
        }
        // the most severe levels first, deprecations last
        let levels = ["CRITICAL", "ERROR", "WARNING"];
        let worst = levels.iter().filter_map(|l| c.recoverable.get(*l));
        let others = c.recoverable.iter().filter(|(l, _)| !levels.contains(&l.as_str())).map(|(_, errors)| errors);
        // the user data has a finding of its own
        let is_known = |text: &&String| is_unhandled(text) || is_invalid_yaml(text) || (c.without_source && is_fallback(text));
        let recoverable: Vec<&String> = worst.chain(others).flatten().filter(|text| !is_known(text)).collect();
        if let Some(first) = recoverable.first() {
            let more = if recoverable.len() > 1 { format!(" and {} more", recoverable.len() - 1) } else { String::new() };
            let reason = if is_fallback(first) { NO_SOURCE.to_owned() } else { short(first) };
            let finding = new(Severity::Warn, format!("cloud-init continued after errors: {reason}{more}"))?;
            let all: Vec<String> = c.recoverable.iter().map(|(level, errors)| format!("{level} {}", errors.len())).collect();
            return Some(
                finding.cite("exit code of cloud-init status", "2: the boot itself is fine").cite("by level", all.join(", ")),
            );
        }
        let limit = SignedDuration::from_mins(self.settings.cloud_init_min);
        let since = c.started.map_or(SignedDuration::from_secs(e.uptime_s), |s| judged.taken_at.duration_since(s));
        if c.progress == Progress::Running && since > limit {
            let stage = if c.stage.is_empty() { "between two stages" } else { &c.stage };
            return new(
                Severity::Warn,
                format!("cloud-init still runs after {}, limit {}: {stage}", duration(since), duration(limit)),
            );
        }
        None
    }
}

/// The data source for a machine without any (`cloudinit/config/cc_final_message.py`).
fn is_fallback(text: &str) -> bool {
    text.contains("Used fallback datasource")
}

const NO_SOURCE: &str = "no data source was found, so no user data, SSH keys and hostname were applied";

/// User data that was not applied.
fn user_data(judged: &Judged<'_>, c: &CloudInit) -> Option<Finding> {
    let new = |severity, message: String| Finding::new(&USER_DATA, severity, Object::host(), message);
    let nothing = |why: &str| format!("nothing of the user data was applied: {why}");
    let mut warnings = c.recoverable.values().flatten().chain(&c.warnings);
    // before its first stage the data is that of an earlier boot
    if c.progress == Progress::Done {
        let (severity, why) = match c.user_data.form {
            Form::Recognised => (Severity::Warn, ""),
            Form::Yaml => (Severity::Warn, "it is YAML without `#cloud-config` in its first line"),
            Form::Misspelt => (Severity::Warn, "its first line is not exactly `#cloud-config`"),
            Form::LaterHeader => (Severity::Warn, "`#cloud-config` is not its first line"),
            Form::ByteOrderMark => (Severity::Warn, "a byte order mark precedes its first line"),
            Form::Base64 => (Severity::Warn, "it is encoded in base64 once more than its data source decodes"),
            Form::Other => (Severity::Info, "it begins with no header that cloud-init recognises; another program may read it"),
        };
        if !why.is_empty() {
            return Some(new(severity, nothing(why)).cite("data source", &c.datasource));
        }
        if warnings.clone().any(|text| is_unhandled(text)) {
            let why = "cloud-init does not recognise its form (a MIME message needs `MIME-Version:`)";
            return Some(new(Severity::Warn, nothing(why)).cite("data source", &c.datasource));
        }
    }
    if let Some(invalid) = warnings.find(|text| is_invalid_yaml(text)) {
        let at = c.recoverable.values().flatten().chain(&c.warnings).find_map(|text| position(text));
        let at = at.map_or_else(String::new, |at| format!(" at {at}"));
        let message = nothing(&format!("its YAML is not valid{at}"));
        return Some(new(Severity::Warn, message).cite("warning", short(invalid.split(". ").next().unwrap_or_default())));
    }
    let (path, at) = c.user_data.edited.as_ref()?;
    let message = format!(
        "the user data in {path} was changed {}, after the first boot of the instance: modules that run once (users, write_files, runcmd) did not run again",
        ago(judged.taken_at, *at)
    );
    let finding = new(Severity::Info, message).cite_opt("first boot", c.user_data.first_boot.map(|first| format!("{first:.0}")));
    Some(finding.hint("set a new `instance-id` in its meta-data to apply it as a new instance, or `cloud-init clean` on a machine that may be provisioned again"))
}

/// Errors can be whole tracebacks.
fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() > 160 { line.chars().take(160).chain("…".chars()).collect() } else { line.to_owned() }
}
