//! Log lines that journald suppressed by rate limiting.

use std::collections::BTreeMap;
use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, KeyKind, Kind, Object, Severity, SystemdState,
    quantity::count_of,
};
use opsctl_core::probe::systemd::{self, JournalLine, Since};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

const DROPPED: Code = Code {
    id: "systemd.journal-dropped",
    severities: &[Severity::Info],
    when: "the journal suppressed lines of a service in the last 24 h because the service wrote too many",
    hint: "find the repeated line; LogRateLimitBurst= in its unit raises the limit",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "systemd.journal",
    title: "the journal drops no lines",
    codes: &[DROPPED],
    fixes: &[],
    timeout: Duration::from_secs(4),
};

pub(super) struct Journal;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    /// journald's own lines about suppressed messages.
    lines: Vec<JournalLine>,
}

impl Check for Journal {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        let answers = inventory.systemd.as_ref().is_some_and(|s| s.state == SystemdState::Answers);
        if answers { vec![Object::host()] } else { Vec::new() }
    }

    async fn probe(&self, _cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        // SD_MESSAGE_JOURNAL_DROPPED of systemd/sd-messages.h
        let matches = ["MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e"];
        Ok(Evidence { lines: systemd::journal(&matches, Since::Minutes(24 * 60), 200).await? })
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut dropped: BTreeMap<&str, u64> = BTreeMap::new();
        for (unit, n) in e.lines.iter().filter_map(|l| suppressed(&l.text)) {
            *dropped.entry(unit).or_default() += n;
        }
        let finding = |(unit, n): (&str, u64)| {
            let subject = Object::named(Kind::Unit, unit);
            let message = format!("the journal suppressed {} lines of {unit} in the last 24 h", count_of(n));
            Finding::new(&DROPPED, Severity::Info, subject, message).key(KeyKind::Unit, unit)
        };
        dropped.into_iter().map(finding).collect::<Vec<_>>().into()
    }
}

/// `Suppressed 1234 messages from nginx.service`.
fn suppressed(line: &str) -> Option<(&str, u64)> {
    let (count, unit) = line.strip_prefix("Suppressed ")?.split_once(" messages from ")?;
    let unit = unit.rsplit('/').next()?.trim();
    (!unit.is_empty()).then_some((unit, count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suppressed_lines_are_counted() {
        assert_eq!(suppressed("Suppressed 12 messages from nginx.service"), Some(("nginx.service", 12)));
        assert_eq!(suppressed("Suppressed 12 messages from /system.slice/nginx.service"), Some(("nginx.service", 12)));
        assert_eq!(suppressed("Suppressed many messages from x"), None);
        assert_eq!(suppressed("Time jumped backwards, rotating."), None);
    }
}
