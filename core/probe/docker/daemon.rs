//! The engine's process on this host.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::process::started_at;
use super::{Docker, Endpoint, daemon_config};
use crate::probe::io::{Root, ids_of};
use crate::probe::kernel::host;
use crate::probe::network::unix_listeners;
use crate::probe::proc::process;
use crate::probe::systemd::Systemd;
use crate::probe::{Io, blocking};

/// Timeout of finding the process and reading its configuration.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Number of `dockerd` processes among which the engine is searched.
const MAX_ENGINES: usize = 16;

/// Size limit of the configuration file, in bytes.
const MAX_CONFIGURATION_BYTES: u64 = 1 << 20;

/// Configuration and location of `dockerd`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Daemon {
    /// It does not manage the packet filter (`--iptables=false`, or in `daemon.json`).
    pub hands_off: bool,
    /// It has its own network namespace, which contains its rules.
    pub elsewhere: bool,
    /// Its configuration file is no valid JSON, in recordings from before [`Daemon::fault`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub invalid: bool,
    /// The fault of its configuration file with which it would not start again, as a clause; empty without one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fault: String,
}

impl Daemon {
    /// The reason why it would not start again, as a clause.
    #[must_use]
    pub fn start_fault(&self) -> Option<&str> {
        if self.fault.is_empty() {
            return self.invalid.then_some("its configuration file is no valid JSON");
        }
        Some(&self.fault)
    }
}

/// The engine's process, or `None` if it is not proven to be a `dockerd` of this host.
pub async fn daemon(docker: Option<&Docker>, systemd: Option<&Systemd>) -> Option<Daemon> {
    if docker.is_some_and(|docker| !docker.is_local()) {
        return None;
    }
    let unit = match systemd {
        Some(systemd) => systemd.unit("docker.service").await.ok(),
        None => None,
    };
    let since = unit.as_ref().and_then(|unit| unit.active_since);
    let command = unit.as_ref().and_then(|unit| unit.service.as_ref()?.exec_start.first().cloned());
    read(docker, systemd, move |io, process| {
        let process = process?;
        let network = |of: &str| io.read_link(format!("/proc/{of}/ns/net")).ok();
        let elsewhere = matches!((network("self"), network(&process.pid.to_string())), (Some(own), Some(other)) if own != other);
        let configuration = configuration_of(io, Some(&process));
        let hands_off = leaves_rules_alone(&process.arguments, &configuration);
        // the unit has the arguments of the next start; a variable in them is known from those of the process only
        let next = command.filter(|c| c.contains("dockerd") && !c.contains('$'));
        let next: Option<Vec<String>> = next.map(|c| c.split(' ').map(str::to_owned).collect());
        let arguments = next.as_ref().unwrap_or(&process.arguments);
        let changed = Root::of_or_own(io, host::is_root().then_some(process.pid))
            .ok()
            .and_then(|root| root.modified(&config_file(&process.arguments)));
        let is_newer = changed.zip(since).is_some_and(|(changed, since)| changed > since);
        let fault = daemon_config::fault(&configuration, arguments, is_newer).unwrap_or_default();
        Some(Daemon { hands_off, elsewhere, invalid: false, fault })
    })
    .await
    .flatten()
}

/// Start of the engine's process; `None` if it is not proven to be a `dockerd` of this host.
pub(super) async fn started(docker: &Docker, systemd: Option<&Systemd>) -> Option<Timestamp> {
    if docker.is_remote() {
        return None;
    }
    let listener = docker.listener();
    if listener.uid == Some(0) {
        // systemd listens on the socket of a packaged engine
        return read(Some(docker), systemd, |io, process| started_at(io, process?.pid)).await.flatten();
    }
    let pid = listener.pid?;
    let read = move |io: &Io| is_dockerd(io, pid).then(|| started_at(io, pid)).flatten();
    blocking::run("the container engine's process", "/proc", READ_TIMEOUT, read).await.ok().flatten()
}

/// PID of the engine's `dockerd` on this host; `None` if no process is proven to be that engine's.
pub async fn main_process(docker: &Docker, systemd: Option<&Systemd>) -> Option<i32> {
    if !docker.is_local() {
        return None;
    }
    read(Some(docker), systemd, |_, process| process.map(|p| p.pid)).await.flatten()
}

/// Its configuration file, as text; empty if it does not exist or is not readable by this user.
pub(in crate::probe) async fn configuration(docker: Option<&Docker>, systemd: Option<&Systemd>) -> String {
    read(docker, systemd, |io, process| configuration_of(io, process.as_ref())).await.unwrap_or_default()
}

/// A process with its arguments.
struct Process {
    pid: i32,
    arguments: Vec<String>,
}

async fn read<T: Send + 'static>(
    docker: Option<&Docker>,
    systemd: Option<&Systemd>,
    read: impl FnOnce(&Io, Option<Process>) -> T + Send + 'static,
) -> Option<T> {
    // another user chooses the name and the arguments of its processes
    let listener = docker.filter(|d| d.is_local()).and_then(|d| d.listener().pid);
    let socket = docker.and_then(|d| match d.endpoint() {
        Endpoint::Unix(path) => Some(path.clone()),
        _ => None,
    });
    let main = match systemd {
        Some(systemd) => systemd.unit_process("docker.service").await.ok().flatten().and_then(|p| p.main_pid),
        None => None,
    };
    blocking::run("the container engine's process", "/proc", READ_TIMEOUT, move |io| {
        let process = find(io, listener, main, socket.as_deref());
        read(io, process)
    })
    .await
    .ok()
}

/// The process that listens on the engine's socket. If systemd listens on it, the main process of the unit for the socket of that
/// unit, else the `dockerd` that has inherited the socket. A name alone is no proof: without either, only a process of root on this
/// host counts, by its program file, and only if there is one.
fn find(io: &Io, listener: Option<i32>, main: Option<i32>, socket: Option<&Path>) -> Option<Process> {
    let of_unit = || main.filter(|_| socket.is_none_or(is_of_unit));
    let pid = listener.filter(|pid| is_dockerd(io, *pid)).or_else(|| of_unit().filter(|pid| is_dockerd(io, *pid)));
    let pid = pid.or_else(|| {
        let running: Vec<i32> =
            process::all(io).ok()?.filter(|pid| is_dockerd(io, *pid) && is_roots_own(io, *pid)).take(MAX_ENGINES).collect();
        match running[..] {
            [only] => Some(only),
            _ => holder(io, &running, socket?),
        }
    })?;
    let arguments = process::command_line(io, pid).unwrap_or_default();
    Some(Process { pid, arguments: arguments.split('\0').map(str::to_owned).collect() })
}

/// Whether `docker.socket` of Docker's packages listens on this path.
fn is_of_unit(socket: &Path) -> bool {
    matches!(socket.to_str(), Some("/run/docker.sock" | "/var/run/docker.sock"))
}

/// The process that has the listening socket of this path.
fn holder(io: &Io, pids: &[i32], socket: &Path) -> Option<i32> {
    let resolved =
        |path: &Path| path.strip_prefix("/var/run").map_or_else(|_| path.to_owned(), |rest| Path::new("/run").join(rest));
    let path = resolved(socket);
    let inodes: Vec<u64> =
        unix_listeners().ok()?.into_iter().filter(|(_, p)| resolved(p) == path).map(|(inode, _)| inode).collect();
    let holds = |pid: &i32| process::sockets(io, *pid).is_some_and(|own| inodes.iter().any(|inode| own.contains(inode)));
    pids.iter().copied().find(holds)
}

fn is_dockerd(io: &Io, pid: i32) -> bool {
    process::comm(io, pid).is_some_and(|comm| comm == "dockerd")
}

/// Whether dockerd runs as root in the own namespaces, from a file of its name: a setuid program has the name of the link
/// that started it.
fn is_roots_own(io: &Io, pid: i32) -> bool {
    let same = |kind: &str| {
        let of = |process: &str| io.read_link(format!("/proc/{process}/ns/{kind}")).ok();
        matches!((of("self"), of(&pid.to_string())), (Some(own), Some(other)) if own == other)
    };
    let program = io.read_link(format!("/proc/{pid}/exe")).ok();
    // an upgrade replaces the file of a running program
    let named = program.is_some_and(|p| p.to_string_lossy().trim_end_matches(" (deleted)").ends_with("/dockerd"));
    named && ids_of(io, pid).is_ok_and(|ids| ids.user() == Some(0)) && same("pid") && same("mnt")
}

/// Read below the root of the process, or of this process.
fn configuration_of(io: &Io, process: Option<&Process>) -> String {
    let path = config_file(process.map(|p| p.arguments.as_slice()).unwrap_or_default());
    let root = match process {
        // an ordinary user cannot access the root of another process and reads with its own rights
        Some(process) if host::is_root() => Root::of(io, process.pid),
        Some(process) => Root::of(io, process.pid).or_else(|_| Root::own(io)),
        None => Root::own(io),
    };
    let bytes = root.and_then(|root| root.bytes(&path, MAX_CONFIGURATION_BYTES)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn config_file(arguments: &[String]) -> String {
    let mut at = arguments.iter();
    while let Some(argument) = at.next() {
        if let Some(file) = argument.strip_prefix("--config-file=") {
            return file.to_owned();
        }
        if argument == "--config-file" {
            return at.next().cloned().unwrap_or_default();
        }
    }
    "/etc/docker/daemon.json".to_owned()
}

fn leaves_rules_alone(arguments: &[String], config: &str) -> bool {
    let config: serde_json::Value = serde_json::from_str(config).unwrap_or_default();
    arguments.iter().any(|a| a == "--iptables=false") || config.get("iptables") == Some(&serde_json::Value::Bool(false))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use super::*;

    #[test]
    fn disabled_iptables_is_detected() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(leaves_rules_alone(&words("dockerd --iptables=false"), ""));
        assert!(leaves_rules_alone(&[], r#"{"iptables": false}"#));
        assert!(!leaves_rules_alone(&words("dockerd"), "{ not json"));
        assert_eq!(config_file(&words("dockerd --config-file /a/b.json")), "/a/b.json");
        assert_eq!(config_file(&words("dockerd --config-file=/c.json -H x")), "/c.json");
        assert_eq!(config_file(&[]), "/etc/docker/daemon.json");
    }

    #[test]
    fn listening_socket_is_attributed_to_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let own = std::process::id().cast_signed();
        let io = Io::for_test();
        assert_eq!(holder(&io, &[i32::MAX, own], &path), Some(own));
        assert_eq!(holder(&io, &[own], &dir.path().join("other.sock")), None);
        assert!(is_of_unit(Path::new("/var/run/docker.sock")) && !is_of_unit(&path));
    }

    #[test]
    fn renamed_program_is_not_the_engine() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dockerd");
        std::fs::copy("/bin/sleep", &path).unwrap();
        let mut renamed = std::process::Command::new(&path).arg("1000").spawn().unwrap();
        let link = dir.path().join("link");
        std::fs::create_dir(&link).unwrap();
        std::os::unix::fs::symlink("/bin/sleep", link.join("dockerd")).unwrap();
        let mut linked = std::process::Command::new(link.join("dockerd")).arg("1000").spawn().unwrap();
        let pid = |child: &std::process::Child| i32::try_from(child.id()).unwrap();
        let io = Io::for_test();
        let named = is_dockerd(&io, pid(&renamed)) && is_dockerd(&io, pid(&linked));
        let (own, of_a_link) = (is_roots_own(&io, pid(&renamed)), is_roots_own(&io, pid(&linked)));
        for child in [&mut renamed, &mut linked] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(named && !of_a_link);
        assert_eq!(own, host::is_root());
    }
}
