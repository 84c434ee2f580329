//! Networks with IPv6 on a host that does not forward IPv6.

use std::collections::BTreeMap;
use std::time::Duration;

use opsctl_core::model::{Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, KeyKind, Object, Severity};
use opsctl_core::probe::network::ipv6_forwarding;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

const MISMATCH: Code = Code {
    id: "network.ipv6-mismatch",
    severities: &[Severity::Warn],
    when: "a network of the engine assigns IPv6 addresses to containers, but this host does not forward IPv6 (net.ipv6.conf.all.forwarding = 0): their first connection attempts fail",
    hint: "set net.ipv6.conf.all.forwarding = 1 in /etc/sysctl.d, or recreate the network without IPv6",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "network.ipv6",
    title: "Networks with IPv6 have IPv6 forwarding",
    codes: &[MISMATCH],
    fixes: &[],
    timeout: Duration::from_secs(5),
};

pub(super) struct Attached;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    /// `None` without IPv6.
    forwarding: Option<bool>,
    /// Networks with IPv6 and egress, and the number of running containers in each.
    networks: BTreeMap<String, usize>,
}

impl Check for Attached {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.engine_targets()
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        let mut e = Evidence { forwarding: ipv6_forwarding().await, ..Evidence::default() };
        // macvlan and similar networks are not forwarded by this host
        for (network, members) in cx.routed_networks().await?.into_iter().filter(|(network, _)| network.ipv6) {
            *e.networks.entry(network.name).or_default() += members.len();
        }
        if e.networks.is_empty() {
            return Err(ProbeError::Skip("no network of the engine has IPv6".to_owned()));
        }
        Ok(e)
    }

    fn judge(&self, judged: &Judged<'_>, e: &Evidence) -> Judgement {
        let used: Vec<String> = e.networks.iter().filter(|(_, n)| **n > 0).map(|(name, n)| format!("{name} ({n})")).collect();
        if e.forwarding != Some(false) || used.is_empty() {
            return Judgement::default();
        }
        let subject = judged.target.clone();
        let message = format!(
            "containers in {} have IPv6 addresses, but this host does not forward IPv6: net.ipv6.conf.all.forwarding is 0",
            used.join(", ")
        );
        vec![Finding::new(&MISMATCH, Severity::Warn, subject, message).key(KeyKind::Engine, &judged.target.id)].into()
    }
}
