//! systemd over D-Bus, on the system bus.
//!
//! Names and types: org.freedesktop.systemd1(5).

mod clock_steps;
mod config_test;
#[cfg(any(test, feature = "fuzz"))]
pub(super) mod fuzz;
mod ignored;
mod journal;
mod response_timeout;
mod unit;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zbus::connection::{Builder, Connection};
use zbus::wire::{ObjectPath, OwnedVariant, Type};

use super::{Io, Memo, ProbeError, blocking};
use response_timeout::wait_for_reply;

pub use clock_steps::{ClockStep, clock_steps};
pub use config_test::{ConfigError, ConfigState, config_error, config_state};
pub use ignored::{IgnoredSetting, ignored_settings};
pub use journal::{JournalLine, Since, journal, journal_of_services, journal_of_unit, own_lines, restarts};
pub use response_timeout::{init_activity, init_is_idle};
pub use unit::{Context, FailedReload, Service, Timer, Unit, UnitCommand, UnitEnvironment};

/// Exists if and only if systemd is PID 1 (`sd_booted(3)`).
const BOOTED: &str = "/run/systemd/system";
const BUS: &str = "/run/dbus/system_bus_socket";
const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "/org/freedesktop/systemd1";
const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";

/// Timeout of a job, or of reading all unit files. A job that takes longer (a backup) continues; its check reports the state.
const JOB_TIMEOUT: Duration = Duration::from_secs(60);

/// Timeout of the check for the system bus.
const BUS_CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// Reason why systemd cannot be queried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemdError {
    /// PID 1 is not systemd.
    NotInit,
    /// It is PID 1, but no system bus is installed to query it on.
    NoBus,
    /// It did not respond in time.
    Hung,
    /// Connecting failed, with the reason.
    Failed(String),
}

/// An entry of the manager's unit list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Full name: `nginx.service`.
    pub name: String,
    /// `loaded`, `not-found`, `bad-setting`, `error`, `masked`.
    pub load: String,
    /// `active`, `inactive`, `failed`, `activating`, `deactivating`, `reloading`.
    pub active: String,
    /// Substate, specific to the type of the unit.
    pub sub: String,
    /// Type of its queued job: `start`, `restart`; empty without one.
    pub job: String,
}

/// State of the manager.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manager {
    /// `252.39-1~deb12u1`.
    pub version: String,
    /// `running`, `degraded`, `starting`, `initializing`, `maintenance`, `stopping`.
    pub state: String,
    /// Units that failed.
    pub failed: u32,
    /// Queued and running jobs: `nginx.service/start`.
    pub jobs: Vec<String>,
    /// Start of PID 1: in a container this is not the boot time of the machine.
    pub started: Option<Timestamp>,
}

/// The processes of a unit, as reported by the manager: proof that a process belongs to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnitProcess {
    /// `MainPID`, while it has one; services only.
    pub main_pid: Option<i32>,
    /// `ControlGroup`: `/system.slice/nginx.service`; empty while it is not running.
    pub control_group: String,
    /// `User`; empty for root.
    pub user: String,
}

/// A connection to systemd.
#[derive(Debug)]
pub struct Systemd {
    connection: Connection,
    manager: Memo<(), Result<Arc<Manager>, ProbeError>>,
    listed: Memo<(), Result<Arc<Vec<Listed>>, ProbeError>>,
    read: Memo<String, Result<Arc<Unit>, ProbeError>>,
    processes: Memo<String, Result<Option<Arc<UnitProcess>>, ProbeError>>,
}

impl Systemd {
    /// Connects if systemd is PID 1. Its private socket, which systemctl uses as root without a bus, is not tried: the peer there
    /// has a name that is invalid on a bus, and the library rejects it.
    pub async fn connect() -> Result<Self, SystemdError> {
        match blocking::run("systemd", BOOTED, BUS_CHECK_TIMEOUT, find_bus).await {
            Ok(found) => found?,
            Err(e) => return Err(SystemdError::Failed(e.to_string())),
        }
        let builder = Builder::address(format!("unix:path={BUS}").as_str());
        let connection = wait_for_reply(builder.build())
            .await
            .map_err(|_| SystemdError::Hung)?
            .map_err(|e| SystemdError::Failed(e.to_string()))?;
        let (manager, listed, read, processes) = Default::default();
        Ok(Self { connection, manager, listed, read, processes })
    }

    async fn call<B, R>(&self, path: &str, interface: &str, method: &str, body: &B) -> Result<R, CallError>
    where
        B: Serialize + Type,
        R: DeserializeOwned + Type,
    {
        let call = self.connection.call_method(Some(SYSTEMD), path, Some(interface), method, body);
        Ok(wait_for_reply(call).await.map_err(CallError::TimedOut)??.body().deserialize::<R>()?)
    }

    /// Calls a method of the manager that reads unit files, possibly thousands of them.
    async fn files_call<B, R>(&self, method: &str, body: &B) -> Result<R, String>
    where
        B: Serialize + Type,
        R: DeserializeOwned + Type,
    {
        let call = self.connection.call_method(Some(SYSTEMD), MANAGER, Some(MANAGER_INTERFACE), method, body);
        let answer = tokio::time::timeout(JOB_TIMEOUT, call).await.map_err(|_| CallError::TimedOut(JOB_TIMEOUT));
        answer.and_then(|a| Ok(a?.body().deserialize::<R>()?)).map_err(|e| message_of(&e))
    }

    /// Calls a method of the manager.
    async fn manager_call<B, R>(&self, method: &str, body: &B) -> Result<R, CallError>
    where
        B: Serialize + Type,
        R: DeserializeOwned + Type,
    {
        self.call(MANAGER, MANAGER_INTERFACE, method, body).await
    }

    /// All properties of one interface of one object.
    async fn properties(&self, path: &str, interface: &str) -> Result<HashMap<String, OwnedVariant>, CallError> {
        self.call(path, "org.freedesktop.DBus.Properties", "GetAll", &interface).await
    }

    /// State of the manager; read once per run.
    pub async fn manager(&self) -> Result<Arc<Manager>, ProbeError> {
        self.manager.get((), || async { self.read_manager().await.map(Arc::new) }).await
    }

    async fn read_manager(&self) -> Result<Manager, ProbeError> {
        type Jobs = Vec<(u32, String, String, String, ObjectPathBuf, ObjectPathBuf)>;
        let fail = |e: &CallError| probe_error("the state of systemd", e);
        let all = self.properties(MANAGER, MANAGER_INTERFACE).await.map_err(|e| fail(&e))?;
        let jobs: Jobs = self.manager_call("ListJobs", &()).await.map_err(|e| fail(&e))?;
        Ok(Manager {
            version: unit::text(&all, "Version"),
            state: unit::text(&all, "SystemState"),
            failed: unit::number(&all, "NFailedUnits").and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            started: unit::moment(&all, "UserspaceTimestamp"),
            jobs: jobs.into_iter().map(|(_, unit, kind, ..)| format!("{unit}/{kind}")).collect(),
        })
    }

    /// All loaded units; read once per run.
    pub async fn units(&self) -> Result<Arc<Vec<Listed>>, ProbeError> {
        type Row = (String, String, String, String, String, String, ObjectPathBuf, u32, String, ObjectPathBuf);
        let read = || async {
            let rows: Vec<Row> = self.manager_call("ListUnits", &()).await.map_err(|e| probe_error("the list of units", &e))?;
            let listed = |(name, _, load, active, sub, _, _, _, job, _): Row| Listed { name, load, active, sub, job };
            Ok(Arc::new(rows.into_iter().map(listed).collect()))
        };
        self.listed.get((), read).await
    }

    /// A unit with the properties of its type; read once per run.
    pub async fn unit(&self, name: &str) -> Result<Arc<Unit>, ProbeError> {
        self.read.get(name.to_owned(), || async { self.read_unit(name).await.map(Arc::new) }).await
    }

    async fn read_unit(&self, name: &str) -> Result<Unit, ProbeError> {
        let path = object_path(name);
        let fail = |e: &CallError| probe_error(&format!("unit {name}"), e);
        let general = self.properties(&path, "org.freedesktop.systemd1.Unit").await.map_err(|e| fail(&e))?;
        let mut unit = Unit::from_properties(&general);
        if unit.load == "not-found" {
            return Ok(unit);
        }
        let kind = name.rsplit('.').next().unwrap_or_default();
        let interface = format!(
            "org.freedesktop.systemd1.{}{}",
            kind.get(..1).unwrap_or_default().to_uppercase(),
            kind.get(1..).unwrap_or_default()
        );
        let own = match self.properties(&path, &interface).await {
            Ok(own) => own,
            Err(e) if matches!(kind, "service" | "timer") => return Err(fail(&e)),
            // the others are complete without their own properties
            Err(_) => HashMap::new(),
        };
        unit.add_own(kind, &general, &own);
        Ok(unit)
    }

    /// The main process and the control group of a service or scope; read once per run. `None` for other types, and for a unit
    /// without a process in this manager, for example one of a user manager.
    pub async fn unit_process(&self, name: &str) -> Result<Option<Arc<UnitProcess>>, ProbeError> {
        self.processes.get(name.to_owned(), || self.read_unit_process(name)).await
    }

    async fn read_unit_process(&self, name: &str) -> Result<Option<Arc<UnitProcess>>, ProbeError> {
        let interface = match name.rsplit_once('.') {
            Some((_, "service")) => "org.freedesktop.systemd1.Service",
            Some((_, "scope")) => "org.freedesktop.systemd1.Scope",
            _ => return Ok(None),
        };
        let own = self.properties(&object_path(name), interface).await;
        let own = own.map_err(|e| probe_error(&format!("the processes of unit {name}"), &e))?;
        let main_pid = unit::number(&own, "MainPID").and_then(|n| i32::try_from(n).ok()).filter(|n| *n > 0);
        let process = UnitProcess { main_pid, control_group: unit::text(&own, "ControlGroup"), user: unit::text(&own, "User") };
        let runs = process.main_pid.is_some() || !process.control_group.is_empty();
        Ok(runs.then(|| Arc::new(process)))
    }

    /// `systemctl start`: returns when the job has ended, successfully or not, or after a minute; a failed start is reported by
    /// the check of the unit.
    pub async fn start(&self, unit: &str) -> Result<(), String> {
        self.job("StartUnit", unit).await
    }

    /// `systemctl stop`.
    pub async fn stop(&self, unit: &str) -> Result<(), String> {
        self.job("StopUnit", unit).await
    }

    /// `systemctl restart`.
    pub async fn restart(&self, unit: &str) -> Result<(), String> {
        self.job("RestartUnit", unit).await
    }

    async fn job(&self, method: &str, unit: &str) -> Result<(), String> {
        let job: ObjectPathBuf = self.manager_call(method, &(unit, "replace")).await.map_err(|e| message_of(&e))?;
        // the call only queues the job; later actions may depend on its completion
        let began = Instant::now();
        while began.elapsed() < JOB_TIMEOUT && self.properties(job.as_str(), "org.freedesktop.systemd1.Job").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// `systemctl reset-failed`.
    pub async fn reset_failed(&self, unit: &str) -> Result<(), String> {
        self.manager_call("ResetFailedUnit", &unit).await.map_err(|e| message_of(&e))
    }

    /// `systemctl daemon-reload`: reads all unit files again and returns when that is done.
    pub async fn reload(&self) -> Result<(), String> {
        self.files_call("Reload", &()).await
    }

    /// `systemctl enable`, including a reload.
    pub async fn enable(&self, unit: &str) -> Result<(), String> {
        type Changes = (bool, Vec<(String, String, String)>);
        let _: Changes = self.files_call("EnableUnitFiles", &(vec![unit], false, false)).await?;
        self.reload().await
    }

    /// `systemctl disable`, including a reload.
    pub async fn disable(&self, unit: &str) -> Result<(), String> {
        let _: Vec<(String, String, String)> = self.files_call("DisableUnitFiles", &(vec![unit], false)).await?;
        self.reload().await
    }
}

/// Checks that systemd is PID 1 and has a bus.
fn find_bus(io: &Io) -> Result<(), SystemdError> {
    if !io.is_dir(BOOTED) {
        return Err(SystemdError::NotInit);
    }
    if io.exists(BUS) {
        return Ok(());
    }
    let installed = ["/usr/bin/dbus-daemon", "/usr/bin/dbus-broker-launch"].iter().any(|p| io.exists(p));
    Err(if installed {
        SystemdError::Failed(format!("the system bus is down: {BUS} does not exist; `systemctl start dbus.socket`"))
    } else {
        SystemdError::NoBus
    })
}

/// Units that the administrator of this host enabled, masked or created, by their links and files: `enabled`, `masked`, `local`;
/// and essential timers of the distribution that are not enabled: `installed`.
/// systemd reads every unit file for this query, which takes a second on slow disks. Links of the distribution include many units
/// that are not installed.
#[must_use]
pub fn linked(io: &Io) -> BTreeMap<String, &'static str> {
    let mut states = BTreeMap::new();
    for directory in ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system"] {
        linked_below(io, Path::new(directory), directory.starts_with("/usr"), &mut states);
    }
    states
}

fn is_unit(name: &str) -> bool {
    [".service", ".timer", ".socket", ".mount", ".path", ".target"].iter().any(|suffix| name.ends_with(suffix))
}

fn linked_below(io: &Io, directory: &Path, vendor: bool, states: &mut BTreeMap<String, &'static str>) {
    let entries = |directory: &Path| io.read_dir(directory).into_iter().flatten().flatten();
    for entry in entries(directory) {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let group = [".wants", ".requires", ".upholds"].iter().any(|suffix| name.ends_with(suffix));
        if group && !vendor {
            for unit in entries(&entry.path()).filter_map(|e| e.file_name().into_string().ok()) {
                states.entry(unit).or_insert("enabled");
            }
        } else if !vendor && entry.file_type().is_ok_and(|t| t.is_file()) && is_unit(&name) {
            states.entry(name).or_insert("local");
        } else if io.read_link(entry.path()).is_ok_and(|to| to == Path::new("/dev/null")) {
            states.insert(name, "masked");
        } else if vendor && ESSENTIAL_TIMERS.contains(&name.as_str()) {
            states.entry(name).or_insert("installed");
        }
    }
}

/// Timers of the distribution without which the host fills its disk: they are checked while they are disabled as well.
const ESSENTIAL_TIMERS: &[&str] = &["logrotate.timer"];

/// Whether the path of a program does not exist. An inaccessible path does not count as missing.
#[must_use]
pub fn program_is_missing(io: &Io, path: &str) -> bool {
    io.metadata(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}

/// The name of the mount unit of a mountpoint (systemd.unit(5), "String Escaping for Inclusion in Unit Names"):
/// `/srv/my-data` → `srv-my\x2ddata.mount`.
#[must_use]
pub fn mount_unit(mountpoint: &str) -> String {
    let path = mountpoint.trim_matches('/');
    if path.is_empty() {
        return "-.mount".to_owned();
    }
    let mut name = String::new();
    for (at, byte) in path.bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if at == 0 => name.push_str("\\x2e"),
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b':' | b'_' | b'.' => name.push(char::from(byte)),
            _ => {
                // writing to a String cannot fail
                let _ = write!(name, "\\x{byte:02x}");
            }
        }
    }
    format!("{name}.mount")
}

type ObjectPathBuf = zbus::wire::OwnedObjectPath;

/// Error of a D-Bus call.
#[derive(Debug)]
enum CallError {
    /// No reply within this time.
    TimedOut(Duration),
    /// Error reply, or error of the connection.
    Error(zbus::Error),
}

impl From<zbus::Error> for CallError {
    fn from(error: zbus::Error) -> Self {
        Self::Error(error)
    }
}

fn probe_error(subject: &str, error: &CallError) -> ProbeError {
    match error {
        CallError::TimedOut(after) => {
            ProbeError::Timeout { subject: subject.to_owned(), from: "systemd".to_owned(), after: *after }
        }
        e @ CallError::Error(_) => ProbeError::failed(subject, "systemd", &message_of(e)),
    }
}

/// The error message of systemd, without the name of the error class.
fn message_of(error: &CallError) -> String {
    match error {
        CallError::TimedOut(after) => format!("systemd did not respond within {} s", after.as_secs()),
        CallError::Error(zbus::Error::MethodError(_, Some(text), _)) => text.clone(),
        CallError::Error(e) => e.to_string(),
    }
}

/// `nginx.service` → `/org/freedesktop/systemd1/unit/nginx_2eservice` (`sd_bus_path_encode(3)`).
fn object_path(unit: &str) -> String {
    let mut path = format!("{MANAGER}/unit/");
    for (i, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (i > 0 && byte.is_ascii_digit()) {
            path.push(char::from(byte));
        } else {
            // writing to a String cannot fail
            let _ = write!(path, "_{byte:02x}");
        }
    }
    debug_assert!(ObjectPath::try_from(path.as_str()).is_ok());
    path
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "tests")]
    use super::*;

    #[test]
    fn enabled_and_masked_units_are_read_from_links() {
        let root = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
        let link = |from: &str, to: &str| {
            let from = root.path().join(from);
            let made = std::fs::create_dir_all(from.parent().unwrap_or(Path::new("/")));
            made.and_then(|()| std::os::unix::fs::symlink(to, from)).unwrap_or_else(|e| panic!("{e}"));
        };
        link("multi-user.target.wants/app.service", "/etc/systemd/system/app.service");
        link("gone.target.requires/lost.service", "/nonexistent");
        link("docker.service", "/dev/null");
        link("alias.service", "/usr/lib/systemd/system/app.service");
        std::fs::write(root.path().join("own.service"), "").unwrap_or_else(|e| panic!("{e}"));
        std::fs::write(root.path().join("own.service.bak"), "").unwrap_or_else(|e| panic!("{e}"));
        let mut states = BTreeMap::new();
        linked_below(&Io::for_test(), root.path(), false, &mut states);
        let states: Vec<(&str, &str)> = states.iter().map(|(n, s)| (n.as_str(), *s)).collect();
        assert_eq!(
            states,
            [("app.service", "enabled"), ("docker.service", "masked"), ("lost.service", "enabled"), ("own.service", "local")]
        );
    }

    #[test]
    fn unit_names_become_object_paths() {
        assert_eq!(object_path("nginx.service"), "/org/freedesktop/systemd1/unit/nginx_2eservice");
        assert_eq!(object_path("2nd@a-b.service"), "/org/freedesktop/systemd1/unit/_32nd_40a_2db_2eservice");
        assert!(ObjectPath::try_from(object_path("ü\n.service").as_str()).is_ok());
    }

    #[test]
    fn mount_units_have_escaped_names() {
        assert_eq!(mount_unit("/var/lib/postgresql"), "var-lib-postgresql.mount");
        assert_eq!(mount_unit("/srv/my-data"), "srv-my\\x2ddata.mount");
        assert_eq!(mount_unit("/"), "-.mount");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn host_without_systemd_is_not_init() {
        if !Path::new(BOOTED).is_dir() {
            assert_eq!(Systemd::connect().await.err(), Some(SystemdError::NotInit));
        }
    }
}
