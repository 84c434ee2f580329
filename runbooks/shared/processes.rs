//! Names of processes by the container or unit they belong to.

use std::collections::BTreeMap;

use opsctl_core::model::{Finding, Inventory, KeyKind, quantity};
use opsctl_core::probe::kernel::tasks::Consumer;
use opsctl_core::probe::proc::home::Home;
use serde::{Deserialize, Serialize};

/// Names of the containers of a set of processes, by full id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Names(BTreeMap<String, String>);

impl Names {
    pub(crate) fn of<'a>(homes: impl Iterator<Item = &'a Home>, inventory: &Inventory) -> Self {
        let known = |home: &Home| match home {
            Home::Container(id) => inventory.container(id).map(|c| (id.clone(), c.name.clone())),
            Home::Unit(_) | Home::Host => None,
        };
        Self(homes.filter_map(known).collect())
    }

    /// The name of a process's container.
    pub(crate) fn name(&self, home: &Home) -> Option<String> {
        match home {
            Home::Container(id) => Some(self.0.get(id).cloned().unwrap_or_else(|| id.chars().take(12).collect())),
            Home::Unit(_) | Home::Host => None,
        }
    }

    /// `container web`, `nginx.service`, or `None` for a process of the host.
    pub(crate) fn home(&self, home: &Home) -> Option<String> {
        match home {
            Home::Container(id) => Some(match self.0.get(id) {
                Some(name) => format!("container {name}"),
                None => format!("container {}", id.get(..12).unwrap_or(id)),
            }),
            Home::Unit(unit) => Some(unit.clone()),
            Home::Host => None,
        }
    }

    /// `node (pid 12, container web)`.
    pub(crate) fn process(&self, comm: &str, pid: i32, home: &Home) -> String {
        match self.home(home) {
            Some(home) => format!("{comm} (pid {pid}, {home})"),
            None => format!("{comm} (pid {pid})"),
        }
    }

    /// The users of processor time, largest first: `node (pid 12, container web) 180 %`.
    pub(crate) fn by_cpu(&self, consumers: &[Consumer]) -> String {
        let one = |c: &Consumer| {
            let nice = if c.nice > 0 { format!(", nice {}", c.nice) } else { String::new() };
            format!("{} {}{nice}", self.process(&c.comm, c.process.pid, &c.home), quantity::percent(c.cpu_percent))
        };
        consumers.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// The holders of memory, largest first: `java (pid 12, container app) 3.1 GiB`.
    pub(crate) fn by_memory(&self, consumers: &[Consumer]) -> String {
        let one = |c: &Consumer| format!("{} {}", self.process(&c.comm, c.process.pid, &c.home), quantity::bytes(c.rss));
        consumers.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// Ties a finding to the container or unit a process belongs to.
pub(crate) fn at_home(finding: Finding, home: &Home) -> Finding {
    match home {
        Home::Container(id) => finding.key(KeyKind::Container, id),
        Home::Unit(unit) => finding.key(KeyKind::Unit, unit),
        Home::Host => finding,
    }
}

/// Ties a finding to the host as a whole.
pub(crate) fn of_host(finding: Finding) -> Finding {
    finding.key(KeyKind::Host, "host")
}
