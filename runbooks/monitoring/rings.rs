//! Members of the hash rings of Loki, Tempo and Mimir.

use opsctl_core::model::quantity;
use opsctl_core::probe::servers::metrics::MetricSample;

/// Members by ring and state. Loki and Tempo used the name of Cortex before they had their own.
pub(super) const MEMBERS: [&str; 3] = ["cortex_ring_members", "loki_ring_members", "tempo_ring_members"];

/// Rings with members that store or process data. An unhealthy distributor or frontend has no effect (Tempo
/// `operations/tempo-mixin/runbook.md`, `TempoDistributorUnhealthy`).
const RINGS: &[&str] = &["ingester", "live-store", "metrics-generator", "store-gateway", "compactor", "index-gateway"];

/// The rings with unhealthy members, as clauses. A member that joins or leaves is healthy.
pub(super) fn unhealthy(samples: &[MetricSample]) -> Vec<String> {
    let members = |ring: &str, state: Option<&str>| -> f64 {
        let of_ring = samples.iter().filter(|s| MEMBERS.contains(&s.name.as_str()) && s.label("name") == ring);
        // `Unhealthy` and `ACTIVE` (dskit `ring/ring.go`)
        of_ring.filter(|s| state.is_none_or(|state| s.label("state").eq_ignore_ascii_case(state))).map(|s| s.value).sum()
    };
    let clause = |ring: &&str| {
        let (all, sick) = (members(ring, None), members(ring, Some("Unhealthy")));
        let many = quantity::count(format!("{sick:.0}").parse().unwrap_or(1), "unhealthy member");
        (sick > 0.0).then(|| format!("{many} of {all:.0} in its {ring} ring"))
    };
    RINGS.iter().filter_map(clause).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use opsctl_core::probe::servers::metrics::parse;

    fn found(text: &str) -> Vec<String> {
        unhealthy(&parse(text, &MEMBERS))
    }

    /// `/metrics` of a Mimir (grafana/mimir, `pkg/ring`).
    #[test]
    fn unhealthy_ingester_of_three() {
        let text = "cortex_ring_members{name=\"ingester\",state=\"ACTIVE\"} 2\ncortex_ring_members{name=\"ingester\",state=\"JOINING\"} 0\n\
                    cortex_ring_members{name=\"ingester\",state=\"Unhealthy\"} 1\ncortex_ring_members{name=\"distributor\",state=\"Unhealthy\"} 4\n";
        assert_eq!(found(text), ["1 unhealthy member of 3 in its ingester ring"]);
    }

    #[test]
    fn leaving_member_and_single_member() {
        assert!(
            found(
                "loki_ring_members{name=\"ingester\",state=\"ACTIVE\"} 2\nloki_ring_members{name=\"ingester\",state=\"LEAVING\"} 1\n"
            )
            .is_empty()
        );
        assert!(
            found(
                "tempo_ring_members{name=\"ingester\",state=\"ACTIVE\"} 1\ntempo_ring_members{name=\"ingester\",state=\"Unhealthy\"} 0\n"
            )
            .is_empty()
        );
    }
}
