//! Errors and losses of physical network interfaces.

use std::collections::BTreeMap;
use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Finding, Judged, Judgement, Kind, Object, Sample, Severity};
use opsctl_core::probe::io::clock;
use opsctl_core::probe::network::routes::{NicCounters, nic_counters};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;

const ERRORS: Code = Code {
    id: "network.nic-errors",
    severities: &[Severity::Warn],
    when: "more than {nic_errors_warn_percent} of the packets that a physical interface received or sent since the last run had errors or were lost in the interface",
    hint: "`ethtool -S INTERFACE` names the kind: CRC and frame errors are a cable, transceiver or port; missed packets are a full receive ring (`ethtool -g`, `ethtool -G`) or an overloaded processor",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "network.nic-errors",
    title: "Network interfaces have no errors",
    codes: &[ERRORS],
    fixes: &[],
    timeout: Duration::from_secs(3),
};

/// Maximum age of the stored samples in seconds.
const MAX_SAMPLE_AGE_S: i64 = 3600;

/// Packets since the last run below which a share means nothing (judgement).
const MIN_PACKETS: u64 = 1000;

/// Limit of interfaces with stored counters.
const MAX_INTERFACES: usize = 32;

pub(super) struct NicErrors {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    now: Vec<NicCounters>,
    /// Counters of an earlier run by interface, and their age in seconds.
    before: BTreeMap<String, (NicCounters, i64)>,
}

impl Check for NicErrors {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let mut now = nic_counters().await?;
        now.truncate(MAX_INTERFACES);
        if now.is_empty() {
            return Err(ProbeError::Skip("no physical network interface in this network namespace".to_owned()));
        }
        let before = now.iter().filter_map(|nic| Some((nic.name.clone(), earlier(cx, &nic.name)?))).collect();
        Ok(Evidence { now, before })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let mut judgement = Judgement::default();
        for nic in &e.now {
            let object = object_of(&nic.name);
            let values = counters_of(nic).map(|(metric, value)| Sample::count(&object, metric, judged.taken_at, value));
            judgement.samples.extend(values);
            if let Some((before, seconds)) = e.before.get(&nic.name) {
                judgement.findings.extend(self.findings(nic, before, *seconds));
            }
        }
        judgement
    }
}

fn object_of(name: &str) -> String {
    format!("interface:{name}")
}

fn counters_of(nic: &NicCounters) -> [(&'static str, u64); 6] {
    [
        ("nic-received", nic.received),
        ("nic-sent", nic.sent),
        ("nic-receive-errors", nic.receive_errors),
        ("nic-send-errors", nic.send_errors),
        ("nic-missed", nic.missed),
        ("nic-send-drops", nic.send_drops),
    ]
}

/// Counters of the oldest run within the last hour.
fn earlier(cx: &ProbeCx, name: &str) -> Option<(NicCounters, i64)> {
    let object = object_of(name);
    let sample = |metric: &str| cx.history.oldest(&object, metric, MAX_SAMPLE_AGE_S);
    let first = sample("nic-received")?;
    let value = |metric: &str| Some(sample(metric)?.as_count());
    let counters = NicCounters {
        name: name.to_owned(),
        received: first.as_count(),
        sent: value("nic-sent")?,
        receive_errors: value("nic-receive-errors")?,
        send_errors: value("nic-send-errors")?,
        missed: value("nic-missed")?,
        send_drops: value("nic-send-drops")?,
    };
    Some((counters, clock::now().duration_since(first.at).as_secs()))
}

impl NicErrors {
    fn findings(&self, now: &NicCounters, before: &NicCounters, seconds: i64) -> Vec<Finding> {
        // the driver was loaded again
        let grown = |now: u64, before: u64| now.checked_sub(before);
        let directions = [
            (
                "received",
                grown(now.received, before.received),
                [
                    ("errors", grown(now.receive_errors, before.receive_errors)),
                    ("lost in a full receive ring", grown(now.missed, before.missed)),
                ],
            ),
            (
                "sent",
                grown(now.sent, before.sent),
                [
                    ("errors", grown(now.send_errors, before.send_errors)),
                    ("dropped before sending", grown(now.send_drops, before.send_drops)),
                ],
            ),
        ];
        let mut findings = Vec::new();
        for (direction, packets, counters) in directions {
            let (Some(packets), [(_, Some(first)), (_, Some(second))]) = (packets, counters) else { continue };
            let bad = first.max(second);
            let all = packets + bad;
            let percent = bad as f64 * 100.0 / all.max(1) as f64;
            if all < MIN_PACKETS || percent <= self.settings.nic_errors_warn_percent {
                continue;
            }
            let kind = if second > first { counters[1].0 } else { counters[0].0 };
            let message = format!(
                "{percent:.1} % of the packets {direction} by {} in the last {} min: {kind} ({bad} of {all}), limit {} %",
                now.name,
                (seconds / 60).max(1),
                self.settings.nic_errors_warn_percent
            );
            let subject = Object::named(Kind::Interface, &now.name);
            findings
                .push(Finding::new(&ERRORS, Severity::Warn, subject, message).hint(ERRORS.hint.replace("INTERFACE", &now.name)));
        }
        findings
    }
}
