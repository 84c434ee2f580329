//! Settings in local unit files that systemd ignores: misspelled names, and values that it cannot parse.

use std::collections::BTreeMap;
use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, Kind, Object, Severity, SystemdState};
use opsctl_core::probe::systemd::{IgnoredSetting, ignored_settings};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

const IGNORED: Code = Code {
    id: "systemd.ignored-setting",
    severities: &[Severity::Warn],
    when: "systemd ignores a setting in a unit file or drop-in of this host: an unknown name or section, or a value that it cannot parse",
    hint: "correct the line (`systemd-analyze verify UNIT` checks the file), then `systemctl daemon-reload`",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "systemd.ignored-setting",
    title: "systemd accepts all settings of local unit files",
    codes: &[IGNORED],
    fixes: &[],
    timeout: Duration::from_secs(4),
};

pub(super) struct IgnoredSettings;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    /// Ignored lines of the present unit files, in the order in which systemd read them.
    ignored: Vec<IgnoredSetting>,
}

impl Check for IgnoredSettings {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        let answers = inventory.systemd.as_ref().is_some_and(|s| s.state == SystemdState::Answers);
        if answers { vec![Object::host()] } else { Vec::new() }
    }

    async fn probe(&self, _cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        Ok(Evidence { ignored: ignored_settings().await? })
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut units: BTreeMap<&str, Vec<&IgnoredSetting>> = BTreeMap::new();
        for setting in &e.ignored {
            units.entry(&setting.unit).or_default().push(setting);
        }
        let finding = |(unit, ignored): (&str, Vec<&IgnoredSetting>)| {
            let shown: Vec<String> = ignored.iter().map(|s| format!("{}:{}: {}", s.file, s.line, s.text)).collect();
            let more = if shown.len() > 1 { format!(" (and {} more)", shown.len() - 1) } else { String::new() };
            let message = format!("{unit}: systemd ignores {}{more}", shown.first().map_or("", String::as_str));
            Finding::new(&IGNORED, Severity::Warn, Object::named(Kind::Unit, unit), message)
                .cite("ignored", shown.join("\n"))
                .hint(IGNORED.hint.replace("UNIT", unit))
        };
        units.into_iter().map(finding).collect::<Vec<_>>().into()
    }
}
