//! Discovery of running servers by their processes: one scan of `/proc`.

use std::time::Duration;

use super::sockets::Namespaces;
use crate::model::{Product, ServerProcess};
use crate::probe::io::{Ids, ids_of};
use crate::probe::network::netns;
use crate::probe::proc::home::Home;
use crate::probe::proc::table::{Process, ProcessTable};
use crate::probe::product::{self, product_of_program};
use crate::probe::{Io, ProbeError, blocking};

/// Timeout of the scan.
const SCAN_TIMEOUT: Duration = Duration::from_secs(2);

/// First process of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundServer {
    /// Product.
    pub product: Product,
    /// Process id and start time.
    pub process: ServerProcess,
    /// Command name (`comm`).
    pub comm: String,
    /// Content of `/proc/PID/cgroup`: a claim until [`identity::prove`](crate::probe::servers::identity::prove) has verified it.
    pub cgroups: String,
    /// User ids.
    pub ids: Ids,
    /// Whether the process shares the network namespace of this process; `None` if unknown.
    pub is_local: Option<bool>,
    /// Container or unit of the process, once proven.
    pub home: Home,
    /// Reason for not using its output: the process belongs to a user that is not expected to run such a server, or its claims
    /// are false.
    pub untrusted: Option<String>,
    /// Listening sockets.
    pub sockets: Vec<super::Socket>,
    /// Its descriptors are not readable (another user): it may listen on other sockets.
    pub hidden: bool,
}

/// All running servers of this host, including those in containers.
pub async fn scan(table: &ProcessTable) -> Result<Vec<FoundServer>, ProbeError> {
    // PostgreSQL's backends and the children that Redis forks have the name of their parent
    let first = |p: &&Process| table.get(p.parent).is_none_or(|parent| parent.comm != p.comm);
    let named = |p: &Process| Some((product_of_program(&p.comm)?, p.clone()));
    let candidates: Vec<(Product, Process)> = table.iter().filter(first).filter_map(named).collect();
    let arguments = table.command_lines(candidates.iter().map(|(_, p)| p.pid)).await;
    let serving =
        |(product, p): &(Product, Process)| arguments.get(&p.pid).is_some_and(|line| !line.is_empty() && serves(*product, line));
    let serving: Vec<(Product, Process)> = candidates.into_iter().filter(serving).collect();
    blocking::run("processes", "/proc", SCAN_TIMEOUT, move |io| {
        let mut namespaces = Namespaces::default();
        let line = |pid: i32| arguments.get(&pid).map_or("", String::as_str);
        let servers = serving.into_iter().filter_map(|(product, p)| {
            let line = line(p.pid);
            server(io, product, p, line, &mut namespaces)
        });
        let mut found: Vec<FoundServer> = servers.collect();
        forget_shared(&mut found);
        found
    })
    .await
}

/// Removes sockets that several servers of one namespace are assumed to have: each socket belongs to one of them.
fn forget_shared(found: &mut [FoundServer]) {
    let is_shared = |(n, f): (usize, &FoundServer)| {
        let same = |other: &FoundServer| other.is_local == f.is_local && other.sockets.iter().any(|s| f.sockets.contains(s));
        f.hidden && f.is_local == Some(true) && found.iter().enumerate().any(|(m, other)| m != n && same(other))
    };
    let shared: Vec<bool> = found.iter().enumerate().map(is_shared).collect();
    for (f, _) in found.iter_mut().zip(shared).filter(|(_, shared)| *shared) {
        f.sockets.clear();
    }
}

fn server(io: &Io, product: Product, p: Process, arguments: &str, namespaces: &mut Namespaces) -> Option<FoundServer> {
    let pid = p.pid;
    let sockets = namespaces.sockets_of(io, pid, product, arguments);
    let cgroups = io.read_lossy(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    Some(FoundServer {
        product,
        process: ServerProcess { pid, start_ticks: p.start_ticks },
        comm: p.comm,
        home: Home::of_cgroups(&cgroups),
        cgroups,
        ids: ids_of(io, pid).ok()?,
        is_local: netns::is_own(io, pid),
        untrusted: None,
        sockets: sockets.listening,
        hidden: sockets.hidden,
    })
}

/// Whether these arguments (separated by NUL, or rewritten as a title) are those of a server in service.
pub(super) fn serves(product: Product, arguments: &str) -> bool {
    (product::spec(product).serves)(arguments)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::probe::servers::Socket;

    fn found(pid: i32, hidden: bool, at: &str) -> FoundServer {
        FoundServer {
            product: Product::Redis,
            process: ServerProcess { pid, start_ticks: 1 },
            comm: "redis-server".into(),
            cgroups: String::new(),
            ids: Ids { real: 7, effective: 7, settled: true },
            is_local: Some(true),
            home: Home::Host,
            untrusted: None,
            sockets: vec![Socket::Tcp(at.parse().unwrap())],
            hidden,
        }
    }

    #[test]
    fn socket_assumed_for_two_servers_belongs_to_neither() {
        let mut servers = [found(1, true, "127.0.0.1:6379"), found(2, true, "127.0.0.1:6379"), found(3, true, "127.0.0.1:6380")];
        forget_shared(&mut servers);
        assert_eq!(servers.map(|f| f.sockets.len()), [0, 0, 1]);
    }

    #[test]
    fn socket_of_a_readable_server_is_its_own() {
        let mut servers = [found(1, false, "127.0.0.1:6379"), found(2, true, "127.0.0.1:6379")];
        forget_shared(&mut servers);
        assert_eq!(servers.map(|f| f.sockets.len()), [1, 0]);
    }

    #[test]
    fn command_lines_of_servers_and_tools_are_distinguished() {
        assert!(serves(Product::Postgres, "/usr/lib/postgresql/15/bin/postgres\0-D\0/data\0"));
        assert!(!serves(Product::Postgres, "/usr/lib/postgresql/15/bin/postgres\0--boot\0-F\0"));
        assert!(serves(Product::Redis, "/usr/bin/redis-server 127.0.0.1:6379"));
        assert!(!serves(Product::Redis, "/usr/bin/redis-server *:26379 [sentinel]"));
        assert!(serves(Product::Rabbitmq, "/usr/lib/erlang/erts/bin/beam.smp\0-noinput\0-s\0rabbit\0boot\0-boot\0start_sasl\0"));
        assert!(serves(Product::Alloy, "/bin/alloy\0run\0--storage.path=/x\0/etc/alloy/config.alloy\0"));
        assert!(!serves(Product::Alloy, "/bin/alloy\0fmt\0x\0"));
        assert!(!serves(Product::Loki, "/usr/bin/loki\0"));
        assert!(!serves(Product::Rabbitmq, "/usr/lib/erlang/erts/bin/beam.smp\0-noshell\0ejabberd\0"));
        assert!(!serves(Product::Rabbitmq, "/usr/lib/erlang/erts/bin/beam.smp\0-escript\0main\0rabbitmqctl_escript\0"));
    }
}
