//! Servers that run, by their processes: one scan of `/proc`.

use std::fs;
use std::time::Duration;

use super::product::product_of_program;
use super::sockets::Namespaces;
use crate::model::{Product, ServerProcess};
use crate::probe::home::Home;
use crate::probe::process;
use crate::probe::{ProbeError, blocking};

/// How long the scan may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A server's first process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it speaks.
    pub product: Product,
    /// Which process.
    pub process: ServerProcess,
    /// Its name.
    pub comm: String,
    /// Where it lives.
    pub home: Home,
    /// Where it listens.
    pub sockets: Vec<super::Socket>,
}

/// All servers that run on this host, in containers too.
pub async fn scan() -> Result<Vec<Found>, ProbeError> {
    blocking::run("processes", "/proc", PATIENCE, || {
        let pids = process::all().map_err(|e| ProbeError::io("processes", "/proc", &e))?;
        let mut namespaces = Namespaces::default();
        let mut found: Vec<Found> = pids.filter_map(|pid| server(pid, &mut namespaces)).collect();
        found.sort_by_key(|f| f.process.pid);
        Ok(found)
    })
    .await?
}

fn server(pid: i32, namespaces: &mut Namespaces) -> Option<Found> {
    let comm = process::comm(pid)?;
    let product = product_of_program(&comm)?;
    let (parent, start_ticks) = parent_and_start(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    // PostgreSQL's backends and the children that Redis forks have the name of their parent
    if process::comm(parent).is_some_and(|c| c == comm) {
        return None;
    }
    let arguments = process::command_line(pid)?;
    if arguments.is_empty() || !serves(product, &arguments) {
        return None;
    }
    let home = fs::read_to_string(format!("/proc/{pid}/cgroup")).map(|t| Home::of_cgroups(&t)).unwrap_or_default();
    let sockets = namespaces.sockets_of(pid, product);
    Some(Found { product, process: ServerProcess { pid, start_ticks }, comm, home, sockets })
}

/// Whether these arguments (separated by NUL, or rewritten as a title) are those of a server in service.
pub(super) fn serves(product: Product, arguments: &str) -> bool {
    let has = |word: &str| arguments.split(['\0', ' ']).any(|a| a == word);
    match product {
        // initdb runs these for a moment
        Product::Postgres => !["--boot", "--single", "--check", "-C", "--version", "--describe-config"].into_iter().any(has),
        // a sentinel watches servers and is none
        Product::Redis => !has("[sentinel]") && !has("--sentinel"),
        // its tools run in the same machine
        Product::Rabbitmq => arguments.replace('\0', " ").contains("-s rabbit boot"),
        Product::Pgbouncer => true,
        // workers that have lost their master serve on, and nobody can tell them anything; `-t` and `-s` end at once
        Product::Nginx => {
            !arguments.starts_with("nginx: worker")
                && !arguments.starts_with("nginx: cache")
                && !["-t", "-T", "-s", "-v", "-V"].into_iter().any(has)
        }
        // its tools have the same name: `alloy fmt`
        Product::Alloy => has("run"),
        // Debian's package `loki` is a program of genetics; without its configuration ours does not start
        Product::Loki | Product::Promtail => arguments.contains("-config.") && !has("-version") && !has("--version"),
        Product::Grafana => !has("cli") && !has("-v"),
        Product::Prometheus | Product::Alertmanager => !has("--version") && !has("--help") && !has("-h"),
    }
}

/// The children of a process.
#[must_use]
pub fn children_of(pid: i32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|c| c.parse().ok()).collect()
}

/// The folder a process works in, as it sees it itself.
#[must_use]
pub fn working_folder(pid: i32) -> Option<String> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()?.into_os_string().into_string().ok()
}

/// Paths of what lies in a folder as process `pid` sees it, `most` at most.
#[must_use]
pub fn folders_of(pid: i32, folder: &str, most: usize) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/root{folder}")).into_iter().flatten().flatten();
    entries.take(most).filter_map(|e| Some(format!("{folder}/{}", e.file_name().to_str()?))).collect()
}

/// The titles that the children of a process give themselves.
#[must_use]
pub fn children_titles(pid: i32) -> Vec<String> {
    children_of(pid).into_iter().filter_map(process::title).collect()
}

/// The state of a process: `R`, `S`, `D`, `T`, …; none when it is gone.
#[must_use]
pub fn state_of(pid: i32) -> Option<char> {
    process::state_of(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Fields 4 and 22 of `/proc/<pid>/stat`.
pub(in crate::probe) fn parent_and_start(stat: &str) -> Option<(i32, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    Some((parent, fields.nth(17)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_looks_like_a_server_is_none() {
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

    #[test]
    fn parent_and_start_are_fields_4_and_22() {
        let stat = "812 (redis (x) server) S 1 812 812 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 5 0 777 1 2";
        assert_eq!(parent_and_start(stat), Some((1, 777)));
        assert_eq!(parent_and_start("812 (x"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in ".*") {
            let _ = (parent_and_start(&text), serves(Product::Rabbitmq, &text));
        }
    }
}
