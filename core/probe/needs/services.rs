//! Needs in the environments of services of this host: the processes of units and of `supervisord`, and units that do not run.
//!
//! The environment of a process is its own claim. It is used if the process is one of root or a system account, or if systemd or
//! `supervisord` started it; of its values only hosts and ports are used, and only addresses of this host are connected to.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;

use crate::probe::io::Root;
use crate::probe::needs::environment::{self, Named};
use crate::probe::needs::neighbours::Neighbours;
use crate::probe::needs::plausible::{is_loopback, is_plausible};
use crate::probe::needs::{Consumer, Dependency, DependencySource, MAX_NEEDS};
use crate::probe::proc::home::Home;
use crate::probe::proc::owner::{Origin, of_origin};
use crate::probe::{Io, ProbeCx, blocking};

/// Timeout of reading the environments of all services.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Limit of services. A host has fewer than a hundred.
const MAX_SERVICES: usize = 300;

/// Limit of units without a process.
const MAX_FAILED_UNITS: usize = 20;

/// Size limit of one environment, in bytes.
const MAX_ENVIRONMENT_BYTES: u64 = 256 << 10;

/// Size limit of the environment files of a unit, in bytes.
const MAX_FILE_BYTES: u64 = 256 << 10;

/// Limit of the environment files of a unit.
const MAX_FILES: usize = 20;

/// Programs of the system itself, which connect to no service in a variable.
const SYSTEM_PROGRAMS: &[&str] = &[
    "(sd-pam)",
    "agetty",
    "auditd",
    "conmon",
    "containerd",
    "containerd-shim",
    "cron",
    "crond",
    "dbus-broker-lau",
    "dbus-daemon",
    "docker-proxy",
    "dockerd",
    "login",
    "polkitd",
    "rsyslogd",
    "sshd",
    "systemd",
    "systemd-journal",
    "systemd-logind",
    "systemd-network",
    "systemd-resolve",
    "systemd-timesyn",
    "systemd-udevd",
    "tmux: server",
    "udisksd",
];

/// Whether a process may be a service that connects to others.
fn is_service(comm: &str) -> bool {
    !SYSTEM_PROGRAMS.contains(&comm) && !comm.starts_with("containerd-shim")
}

/// A process with its environment.
struct Service {
    pid: i32,
    comm: String,
    /// The innermost unit of its control group, which is a claim until systemd confirms it.
    unit: Option<String>,
    environment: Vec<String>,
}

/// The needs of the services of this host.
pub(super) async fn services(cx: &ProbeCx, neighbours: &Neighbours) -> Vec<Dependency> {
    let (running, failed) = tokio::join!(Box::pin(processes(cx)), Box::pin(failed_units(cx)));
    let mut needs = Vec::new();
    for (consumer, named, places) in running.into_iter().chain(failed) {
        let place = |variable: &str| places.get(variable).cloned().unwrap_or_default();
        let found = named.into_iter().filter_map(|n| {
            let at = place(&n.variable);
            need(neighbours, &consumer, n, at)
        });
        needs.extend(found.take(MAX_NEEDS));
    }
    needs
}

type Found = Vec<(Consumer, Vec<Named>, BTreeMap<String, String>)>;

/// Processes that init or `supervisord` started.
async fn processes(cx: &ProbeCx) -> Found {
    let Ok(table) = cx.processes().await else { return Vec::new() };
    let managers: BTreeSet<i32> = table.named(&["supervisord"]).map(|p| p.pid).collect();
    let started = |parent: i32| parent == 1 || managers.contains(&parent);
    let candidates: Vec<(i32, String, i32)> = table
        .iter()
        .filter(|p| started(p.parent) && is_service(&p.comm) && p.state != 'Z')
        .map(|p| (p.pid, p.comm.clone(), p.parent))
        .take(MAX_SERVICES)
        .collect();
    let mut pids: Vec<i32> = candidates.iter().map(|(pid, ..)| *pid).collect();
    pids.extend(&managers);
    let system = of_origin(pids, &[Origin::System]).await;
    let read = move |io: &Io| {
        candidates.into_iter().filter_map(|(pid, comm, parent)| Some((service(io, pid, comm)?, parent))).collect::<Vec<_>>()
    };
    let Ok(services) = blocking::run("environments", "/proc", READ_TIMEOUT, read).await else { return Vec::new() };
    let found = services.into_iter().map(|(service, parent)| {
        let trusted = system.contains(&service.pid) || (managers.contains(&parent) && system.contains(&parent));
        async move {
            let named = environment::addresses(&service.environment);
            if named.is_empty() {
                return None;
            }
            let unit = match &service.unit {
                Some(name) => proven(cx, name, service.pid).await,
                None => None,
            };
            if !trusted && unit.is_none() {
                return None;
            }
            cx.redactor.learn_environment(service.environment.iter().map(String::as_str));
            let places = match &unit {
                Some(unit) => settings_of(cx, unit).await.into_iter().map(|(entry, place)| (name_of(&entry), place)).collect(),
                None => BTreeMap::new(),
            };
            let name = unit.clone().unwrap_or(service.comm);
            Some((Consumer { container: None, name, pid: service.pid, unit }, named, places))
        }
    });
    join_all(found).await.into_iter().flatten().collect()
}

fn service(io: &Io, pid: i32, comm: String) -> Option<Service> {
    let mut bytes = Vec::new();
    io.open(format!("/proc/{pid}/environ")).ok()?.take(MAX_ENVIRONMENT_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let environment = text.split('\0').filter(|e| e.contains('=')).map(str::to_owned).collect();
    // a machine that is itself a container has the units of its own systemd
    let unit = io.read_lossy(format!("/proc/{pid}/cgroup")).ok().and_then(|text| Home::unit_of_cgroups(&text));
    Some(Service { pid, comm, unit, environment })
}

/// A unit, if systemd confirms that the process is its main process.
async fn proven(cx: &ProbeCx, unit: &str, pid: i32) -> Option<String> {
    let process = cx.systemd.as_ref()?.unit_process(unit).await.ok()??;
    (process.main_pid == Some(pid)).then(|| unit.to_owned())
}

/// The unit of which a process is the main process.
pub(super) async fn unit_of(cx: &ProbeCx, pid: i32) -> Option<String> {
    let read = move |io: &Io| io.read_lossy(format!("/proc/{pid}/cgroup")).ok().and_then(|text| Home::unit_of_cgroups(&text));
    let unit = blocking::run("a control group", "/proc", READ_TIMEOUT, read).await.ok()??;
    proven(cx, &unit, pid).await
}

/// Services that failed or wait for their next start: a missing name or server may be the reason.
async fn failed_units(cx: &ProbeCx) -> Found {
    let units = cx.inventory.systemd.iter().flat_map(|s| &s.units);
    let failed =
        units.filter(|u| u.kind() == "service" && u.load == "loaded" && (u.active == "failed" || u.sub == "auto-restart"));
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let read = failed.take(MAX_FAILED_UNITS).map(|u| async move {
        let settings = settings_of(cx, &u.name).await;
        let environment: Vec<String> = settings.iter().map(|(entry, _)| entry.clone()).collect();
        let named = environment::addresses(&environment);
        if named.is_empty() {
            return None;
        }
        cx.redactor.learn_environment(environment.iter().map(String::as_str));
        let places = settings.into_iter().map(|(entry, place)| (name_of(&entry), place)).collect();
        Some((Consumer { container: None, name: u.name.clone(), pid: own, unit: Some(u.name.clone()) }, named, places))
    });
    join_all(read).await.into_iter().flatten().collect()
}

fn name_of(entry: &str) -> String {
    entry.split('=').next().unwrap_or_default().to_owned()
}

/// The variables of a unit, each with its place: `Environment=` of the unit, or a line of an environment file. A later one replaces an
/// earlier one (systemd.exec(5)).
async fn settings_of(cx: &ProbeCx, unit: &str) -> Vec<(String, String)> {
    let Some(systemd) = &cx.systemd else { return Vec::new() };
    let Ok(state) = systemd.unit(unit).await else { return Vec::new() };
    let mut all: Vec<(String, String)> =
        state.context.environment.entries().iter().map(|e| (e.clone(), format!("Environment= of {unit}"))).collect();
    let files = state.context.all_environment_files.clone();
    if !files.is_empty() && !state.context.own_root {
        // systemd names the files, and reads them as root
        let read = move |io: &Io| {
            let Ok(root) = Root::own(io) else { return Vec::new() };
            let paths = files.iter().flat_map(|f| if f.contains(['*', '?', '[']) { root.glob(f) } else { vec![f.clone()] });
            let text =
                |path: String| Some((String::from_utf8_lossy(&root.bytes(&path, MAX_FILE_BYTES).ok()?).into_owned(), path));
            paths.take(MAX_FILES).filter_map(text).flat_map(|(text, path)| environment_file(&text, &path)).collect()
        };
        all.extend(blocking::run("environment files", unit, READ_TIMEOUT, read).await.unwrap_or_default());
    }
    let mut last: BTreeMap<String, (String, String)> = BTreeMap::new();
    for (entry, place) in all {
        last.insert(name_of(&entry), (entry, place));
    }
    last.into_values().collect()
}

/// The entries of an environment file with their lines (systemd.exec(5), `EnvironmentFile=`).
pub(super) fn environment_file(text: &str, path: &str) -> Vec<(String, String)> {
    let entry = |(number, line): (usize, &str)| {
        let line = line.trim();
        let (name, value) = line.split_once('=').filter(|_| !line.starts_with(['#', ';']))?;
        let value = value.trim();
        let quoted = ['"', '\''].iter().find_map(|q| value.strip_prefix(*q)?.strip_suffix(*q));
        Some((format!("{}={}", name.trim(), quoted.unwrap_or(value)), format!("{path}:{}", number + 1)))
    };
    text.lines().enumerate().filter_map(entry).collect()
}

/// A variable as a need of a service of this host.
fn need(neighbours: &Neighbours, consumer: &Consumer, named: Named, place: String) -> Option<Dependency> {
    let host = named.address.host.as_str();
    let address = host.parse::<IpAddr>().ok();
    let target = address.and_then(|ip| neighbours.owner(ip)).map(|c| c.id.clone());
    let is_need = match address {
        _ if named.own_page => false,
        Some(ip) if ip.is_unspecified() => false,
        // `HTTP_ADDR=127.0.0.1:3000` is an own listening address
        _ if is_loopback(host) => named.store || named.client,
        Some(_) => true,
        None => is_plausible(host, named.store),
    };
    is_need.then(|| Dependency {
        consumer: consumer.clone(),
        host: named.address.host,
        port: named.address.port,
        how: DependencySource::Environment { variable: named.variable, place, assumed: named.assumed },
        target,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_an_environment_file() {
        let text = "# REDIS_HOST=old\n; X=1\nREDIS_HOST=cache\nDB_URL=\"postgres://db/x\"\n  PASSWORD='a b'  \nnonsense\n";
        let found = environment_file(text, "/etc/default/app");
        let shown: Vec<String> = found.iter().map(|(entry, place)| format!("{place} {entry}")).collect();
        assert_eq!(
            shown,
            [
                "/etc/default/app:3 REDIS_HOST=cache",
                "/etc/default/app:4 DB_URL=postgres://db/x",
                "/etc/default/app:5 PASSWORD=a b"
            ]
        );
    }

    #[test]
    fn own_listening_address_is_no_need() {
        let needs = |entry: &str| {
            let named = environment::addresses(&[entry.to_owned()]);
            named.into_iter().filter_map(|n| need(&Neighbours::default(), &Consumer::default(), n, String::new())).count()
        };
        for (entry, expected) in [
            ("REDIS_HOST=127.0.0.1", 1),
            ("BACKEND_URL=http://127.0.0.1:5000", 1),
            ("DATABASE_URL=postgres://db.corp/x", 1),
            ("HTTP_ADDR=127.0.0.1:3000", 0),
            ("VAULT_ADDR=http://127.0.0.1:8200", 0),
            ("APP_URL=http://shop:3000", 0),
            ("API_URL=https://api.shop.com", 0),
            ("DB_HOST=", 0),
        ] {
            assert_eq!(needs(entry), expected, "{entry}");
        }
    }
}
