//! Usage of the neighbour table (ARP).

use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Finding, Impact, Judged, Judgement, KeyKind, Object, Role, Sample, Severity};
use opsctl_core::probe::io::clock;
use opsctl_core::probe::network::routes::{NeighbourTable, neighbour_table};
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::Settings;

const TABLE: Code = Code {
    id: "network.neighbour-table",
    severities: &[Severity::Warn, Severity::Crit],
    when: "the IPv4 neighbour table has {neighbours_warn_percent} of the entries that net.ipv4.neigh.default.gc_thresh3 permits (warn), or the kernel could not add an entry since the last run (crit): packets to new neighbours are dropped",
    hint: "raise net.ipv4.neigh.default.gc_thresh1, gc_thresh2 and gc_thresh3 in /etc/sysctl.d, for example to 4096, 8192 and 16384; the network namespaces of all containers share the table",
    impacts: &[Impact::likely(Role::PacketsDropped, KeyKind::Host, "the neighbour table is full")],
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "network.neighbour-table",
    title: "The neighbour table has free entries",
    codes: &[TABLE],
    fixes: &[],
    timeout: Duration::from_secs(3),
};

/// The stored sample, and its maximum age in seconds.
const OBJECT: &str = "host";
const METRIC: &str = "neighbour-overflows";
const MAX_SAMPLE_AGE_S: i64 = 3600;

pub(super) struct Neighbours {
    pub(super) settings: Settings,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    table: NeighbourTable,
    /// Overflows at an earlier run, and its age in seconds.
    before: Option<(f64, i64)>,
}

impl Check for Neighbours {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let Some(table) = neighbour_table().await? else {
            return Err(ProbeError::Skip("the limit of the neighbour table is not visible in this network namespace".to_owned()));
        };
        let before = cx.history.oldest(OBJECT, METRIC, MAX_SAMPLE_AGE_S);
        Ok(Evidence { table, before: before.map(|s| (s.value, clock::now().duration_since(s.at).as_secs())) })
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let NeighbourTable { entries, limit, overflows } = e.table;
        let mut judgement =
            Judgement { samples: vec![Sample::count(OBJECT, METRIC, judged.taken_at, overflows)], ..Judgement::default() };
        let percent = if limit == 0 { 0.0 } else { entries as f64 * 100.0 / limit as f64 };
        let grown = e.before.filter(|(before, _)| overflows as f64 > *before);
        let finding = if let Some((before, seconds)) = grown {
            let message = format!(
                "the neighbour table is full: {:.0} entries could not be added in the last {} min, limit {limit} (gc_thresh3)",
                overflows as f64 - before,
                (seconds / 60).max(1)
            );
            Finding::new(&TABLE, Severity::Crit, Object::host(), message)
        } else if percent >= self.settings.neighbours_warn_percent {
            let message = format!(
                "the neighbour table has {entries} of {limit} entries ({percent:.0} %), limit {} %",
                self.settings.neighbours_warn_percent
            );
            // permanent entries are not subject to the limit
            Finding::new(&TABLE, Severity::Warn, Object::host(), message).likely()
        } else {
            return judgement;
        };
        judgement.findings.push(finding.key(KeyKind::Host, "host"));
        judgement
    }
}
