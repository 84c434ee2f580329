//! Entries of `/etc/hosts` with an address that the named container does not have.

use std::time::Duration;

use opsctl_core::model::{
    Check, CheckSpec, Code, Finding, Inventory, Judged, Judgement, KeyKind, Kind, Object, Severity, quantity,
};
use opsctl_core::probe::needs::HostsEntry;
use opsctl_core::probe::{ProbeCx, ProbeError};
use serde::{Deserialize, Serialize};

use super::triage::hosts_key;

const ENTRY: Code = Code {
    id: "network.hosts-entry",
    severities: &[Severity::Warn, Severity::Crit],
    when: "/etc/hosts of a container or of this host has an address of a container network for the name of a running container, and that container has another address (warn; crit if no container has the address and a setting of the client has the name)",
    hint: "remove the entry (`--add-host`, extra_hosts) and recreate the container: Docker's DNS has the current address, and the hosts file is read before DNS",
    ..Code::BASE
};

static SPEC: CheckSpec = CheckSpec {
    id: "network.hosts-entries",
    title: "Hosts files have the current addresses of containers",
    codes: &[ENTRY],
    fixes: &[],
    timeout: Duration::from_secs(8),
};

pub(super) struct HostsEntries;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Evidence {
    entries: Vec<HostsEntry>,
    /// Identities of the containers with these files, by full id.
    subjects: Vec<(String, Object)>,
}

impl Check for HostsEntries {
    type Evidence = Evidence;

    fn spec(&self) -> &'static CheckSpec {
        &SPEC
    }

    fn targets(&self, inventory: &Inventory) -> Vec<Object> {
        inventory.engine_targets()
    }

    async fn probe(&self, cx: &ProbeCx, _target: &Object) -> Result<Evidence, ProbeError> {
        cx.docker()?;
        let known = cx.needs().await?;
        let entries = cx.hosts_entries().await.to_vec();
        let subject = |e: &HostsEntry| {
            let id = e.consumer.container.clone()?;
            let subject = known.neighbours.get(&id)?.subject();
            Some((id, subject))
        };
        let subjects = entries.iter().filter_map(subject).collect();
        Ok(Evidence { entries, subjects })
    }

    fn judge(&self, _judged: &Judged<'_>, e: &Evidence) -> Judgement {
        e.entries.iter().map(|entry| e.finding(entry)).collect::<Vec<_>>().into()
    }
}

impl Evidence {
    fn finding(&self, e: &HostsEntry) -> Finding {
        let id = e.consumer.container.as_deref().unwrap_or_default();
        let subject = self.subjects.iter().find(|(of, _)| of == id).map(|(_, subject)| subject.clone());
        let subject = subject.unwrap_or_else(|| Object::new(Kind::Host, "host", format!("{} in /etc/hosts", e.host)));
        let owner = match &e.owner {
            Some(owner) => format!("{} belongs to {owner}", e.address),
            None => format!("no container has {}", e.address),
        };
        let message = format!(
            "/etc/hosts of {} has {} for {}, and {} has {}: {owner}",
            e.consumer.name,
            e.address,
            e.host,
            e.target,
            e.expected.join(", ")
        );
        let severity = if e.owner.is_none() && !e.needed.is_empty() { Severity::Crit } else { Severity::Warn };
        let finding = Finding::new(&ENTRY, severity, subject, message)
            .cite("entry", format!("/etc/hosts:{}: {} {}", e.line, e.address, e.host))
            .cite("network", &e.network)
            .cite("needed for", quantity::some_of(&e.needed, 3))
            .key(KeyKind::Address, hosts_key(id, &e.host));
        // another container may have the name on purpose
        if e.owner.is_some() { finding.likely() } else { finding }
    }
}
