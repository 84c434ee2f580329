//! Fuzz targets of the runbooks: their parsers, and `judge` with malformed evidence.

use opsctl_core::fuzz::Target;
use opsctl_core::model::{EvidenceText, Judged, Object as Judgable};
use serde::Deserialize;

use crate::{
    Settings, celery, disk, healthcheck, monitoring, postgres, rabbitmq, shared::broker_keys, shared::log_lines, systemd,
};

/// Every target of this crate.
#[must_use]
pub fn targets() -> Vec<&'static Target> {
    let runbooks = [
        celery::fuzz::TARGETS,
        disk::fuzz::TARGETS,
        healthcheck::fuzz::TARGETS,
        monitoring::fuzz::TARGETS,
        postgres::fuzz::TARGETS,
        rabbitmq::fuzz::TARGETS,
        systemd::fuzz::TARGETS,
    ];
    TARGETS.iter().chain(runbooks.into_iter().flatten()).collect()
}

const TARGETS: &[Target] = &[
    Target::text("judge", judge),
    Target::text("broker-keys", |text| {
        let mut found = broker_keys::BrokerKeys::default();
        for key in text.lines() {
            broker_keys::classify(key, 0, &mut found);
            drop(broker_keys::mailbox(key));
        }
    }),
    Target::text("container-log", |text| {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let repeated = log_lines::most_repeated(&lines);
        assert!(repeated.is_none_or(|(_, n)| n <= lines.len()), "no line is counted more often than there are lines");
    }),
];

/// The common fields of a fixture and a recording.
#[derive(Deserialize)]
struct Recorded {
    check: String,
    target: Judgable,
    taken_at: jiff::Timestamp,
    evidence: EvidenceText,
}

/// Evidence of a damaged recording or a malicious server is judged or refused; every fix offered is planned or refused.
fn judge(text: &str) {
    let Ok(recorded) = serde_json::from_str::<Recorded>(text) else { return };
    let runbooks = crate::all(&Settings::default());
    let Some(check) = runbooks.iter().flat_map(|r| &r.checks).find(|c| c.spec().id == recorded.check) else { return };
    let judged = Judged { target: &recorded.target, taken_at: recorded.taken_at };
    let Ok(judgement) = check.judge(&judged, &recorded.evidence) else { return };
    for finding in &judgement.findings {
        for fix in &finding.fixes {
            drop(check.plan(fix, finding, &judged, &recorded.evidence));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Mutex;

    use serde_json::{Value, json};

    use super::*;

    /// Calls `change` on every number of a document.
    fn numbers(value: &mut Value, change: &mut impl FnMut(&mut Value)) {
        match value {
            Value::Number(_) => change(value),
            Value::Array(items) => items.iter_mut().for_each(|v| numbers(v, change)),
            Value::Object(fields) => fields.values_mut().for_each(|v| numbers(v, change)),
            _ => {}
        }
    }

    #[test]
    fn fixtures_with_extreme_numbers_are_judged_without_panic() {
        // collect all panic locations in one run
        static PANICS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
        std::panic::set_hook(Box::new(|info| {
            let location = info.location().map(ToString::to_string).unwrap_or_default();
            PANICS.lock().unwrap().entry(location).or_insert_with(|| info.to_string());
        }));
        let (mut judged, mut broken) = (0, Vec::new());
        for name in crate::NAMES {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(name).join("fixtures");
            for file in std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()) {
                let whole: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
                let mut count = 0;
                numbers(&mut whole.clone(), &mut |_| count += 1);
                for absurd in [json!(u64::MAX), json!(i64::MAX), json!(i64::MIN), json!(1e300)] {
                    // one at a time, and all at once
                    for at in (0..count).map(Some).chain([None]).step_by(1 + count / 5) {
                        let mut case = whole.clone();
                        let mut i = 0;
                        numbers(&mut case["evidence"], &mut |n| {
                            if at.is_none_or(|at| at == i) {
                                *n = absurd.clone();
                            }
                            i += 1;
                        });
                        let text = case.to_string();
                        if std::panic::catch_unwind(|| judge(&text)).is_err() {
                            broken.push(format!("{} with {absurd} as number {at:?}", file.display()));
                        }
                        judged += 1;
                    }
                }
            }
        }
        drop(std::panic::take_hook());
        assert!(judged > 1000, "{judged}");
        let panics = PANICS.lock().unwrap();
        assert!(broken.is_empty(), "{} cases, such as {}, at:\n{panics:#?}", broken.len(), broken[0]);
    }
}
