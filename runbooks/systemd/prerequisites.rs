//! Prerequisites of a service: files, directories, accounts, filesystems and a valid configuration. A missing one explains a
//! failure, and every start fails until it is restored.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use opsctl_core::model::{Finding, KeyKind, MountRef, Product, quantity::bytes};
use opsctl_core::probe::io::Root;
use opsctl_core::probe::io::command::{self, Argv};
use opsctl_core::probe::kernel::filesystem::{self, FstabEntry};
use opsctl_core::probe::logs::LogEvidence;
use opsctl_core::probe::product::{product_of_program, product_of_unit, spec};
use opsctl_core::probe::systemd::{Unit, config_error};
use opsctl_core::probe::{Io, ProbeCx, blocking};
use serde::{Deserialize, Serialize};

use super::decode;
use crate::shared::servers::READ_TIMEOUT;

/// Space that a database needs to start, in bytes: a WAL segment of PostgreSQL.
const SPACE_TO_START: u64 = 16 << 20;

/// Space below which a filesystem that a log reports as full still is, in bytes (judgement: 1 MiB).
const SPACE_TO_WRITE: u64 = 1 << 20;

/// Timeout of a name service query.
const GETENT_TIMEOUT: Duration = Duration::from_secs(1);

/// A fault of a prerequisite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub(super) enum Fault {
    /// A filesystem of fstab is not mounted.
    NotMounted {
        /// The prerequisite in it: `data directory`, `WorkingDirectory=`.
        of: String,
        /// Its path.
        path: String,
        /// The mountpoint.
        mountpoint: String,
    },
    /// A file or directory.
    Path {
        /// `EnvironmentFile=`, `data directory`.
        of: String,
        /// Its path.
        path: String,
        /// Its state.
        state: PathState,
    },
    /// A user or group does not exist.
    Account {
        /// `User=`, `Group=`.
        of: String,
        /// Its name.
        name: String,
    },
    /// A filesystem has no space left.
    NoSpace {
        /// Its content: `its data directory`.
        holds: String,
        /// The mountpoint.
        mountpoint: String,
        /// `major:minor`.
        dev: String,
        /// Space left in bytes; `None` if it has no inodes left.
        avail: Option<u64>,
    },
    /// A filesystem is mounted read-only.
    ReadOnly {
        /// Its content: `its data directory`.
        holds: String,
        /// The mountpoint.
        mountpoint: String,
        /// `major:minor`.
        dev: String,
    },
    /// The configuration is invalid.
    Configuration {
        /// The command that reports it.
        command: String,
        /// The error.
        error: String,
    },
}

/// State of a path that a service cannot use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PathState {
    /// It does not exist.
    Missing,
    /// It is not a directory.
    NotADirectory,
    /// It is a directory, not a file.
    Directory,
    /// It is not the data directory of a PostgreSQL cluster: it has no file `PG_VERSION`.
    NoCluster,
}

impl Fault {
    /// The fault as a clause.
    pub(super) fn clause(&self) -> String {
        match self {
            Self::NotMounted { of, path, mountpoint } if path == mountpoint => {
                format!("{mountpoint} of fstab, its {of}, is not mounted")
            }
            Self::NotMounted { of, path, mountpoint } => {
                format!("{mountpoint} of fstab, which contains its {of} {path}, is not mounted")
            }
            Self::Path { of, path, state } => match state {
                PathState::Missing => format!("its {of} {path} does not exist"),
                PathState::NotADirectory => format!("its {of} {path} is not a directory"),
                PathState::Directory => format!("its {of} {path} is a directory"),
                PathState::NoCluster => format!("its {of} {path} has no PG_VERSION: it contains no database cluster"),
            },
            Self::Account { of, name } => format!("its {of} {name} does not exist"),
            Self::NoSpace { holds, mountpoint, avail: Some(avail), .. } => {
                format!("{mountpoint}, which contains {holds}, has {} left", bytes(*avail))
            }
            Self::NoSpace { holds, mountpoint, avail: None, .. } => {
                format!("{mountpoint}, which contains {holds}, has no inodes left")
            }
            Self::ReadOnly { holds, mountpoint, .. } => format!("{mountpoint}, which contains {holds}, is read-only"),
            Self::Configuration { command, error } => format!("`{command}` fails: {error}"),
        }
    }

    /// The step before a start.
    fn remedy(&self) -> &'static str {
        match self {
            Self::NotMounted { .. } => "mount it first",
            Self::Path { state: PathState::Missing | PathState::NoCluster, .. } => "restore it first",
            Self::Path { .. } | Self::Configuration { .. } => "correct it first",
            Self::Account { .. } => "create it first",
            Self::NoSpace { .. } => "free space first",
            Self::ReadOnly { .. } => "make it writable first",
        }
    }

    /// The reason why a start is refused.
    pub(super) fn refusal(&self) -> String {
        format!("{}: {}", self.clause(), self.remedy())
    }

    /// The next step; `fragment` is the unit file.
    pub(super) fn hint(&self, fragment: &str) -> String {
        match self {
            Self::NotMounted { mountpoint, .. } => {
                format!("`mount {mountpoint}`; do not start it before: it would write to the disk below the mountpoint")
            }
            Self::Path { of, path, .. } if of == DATA => {
                format!("mount or restore {path} first; do not initialize a new database in its place")
            }
            Self::Path { of, path, .. } => {
                format!("restore {path}, or correct {of} in {fragment}; a restart before that fails again")
            }
            Self::Account { of, name } => {
                format!("create {name}, or correct {of} in {fragment}; a restart before that fails again")
            }
            Self::NoSpace { mountpoint, .. } => {
                format!(
                    "free space on {mountpoint} first, and do not delete files of a database; a restart before that fails again"
                )
            }
            Self::ReadOnly { mountpoint, .. } => {
                format!("find the reason in `dmesg` and in the options of {mountpoint}; a restart before that fails again")
            }
            Self::Configuration { command, .. } => {
                format!("correct the error until `{command}` passes; a restart before that fails again")
            }
        }
    }

    /// The path that it concerns.
    pub(super) fn path(&self) -> Option<&str> {
        match self {
            Self::NotMounted { path, .. } | Self::Path { path, .. } => Some(path),
            Self::NoSpace { mountpoint, .. } | Self::ReadOnly { mountpoint, .. } => Some(mountpoint),
            Self::Account { .. } | Self::Configuration { .. } => None,
        }
    }

    /// The mountpoint of a filesystem that is not mounted.
    fn missing_mount(&self) -> Option<&str> {
        if let Self::NotMounted { mountpoint, .. } = self { Some(mountpoint) } else { None }
    }

    /// Whether it is the result of the last run: the suffix of its clause, `(217/USER)`.
    pub(super) fn as_result(&self, unit: &Unit) -> Option<String> {
        let (status, name) = decode::set_up_status(unit).unwrap_or_default();
        let of_status = |expected: i64| (status == expected).then(|| format!(" ({status}/{name})"));
        match self {
            Self::Path { of, .. } => match of.as_str() {
                "EnvironmentFile=" => (unit.outcome() == "resources").then(String::new),
                "WorkingDirectory=" => of_status(200),
                "LoadCredential=" => of_status(243),
                of if of.ends_with("Paths=") => of_status(226),
                of if of.starts_with("Exec") => of_status(203),
                _ => None,
            },
            Self::Account { of, .. } if of == "User=" => of_status(217),
            Self::Account { .. } => of_status(216),
            _ => None,
        }
    }

    /// Ties a finding to the filesystem.
    pub(super) fn tied(&self, finding: Finding) -> Finding {
        match self {
            Self::NoSpace { dev, .. } | Self::ReadOnly { dev, .. } => finding.key(KeyKind::Filesystem, dev),
            Self::NotMounted { mountpoint, .. } => finding.needs(mountpoint).needs(mount_unit(mountpoint)),
            _ => finding,
        }
    }
}

/// The name of the mount unit of a mountpoint (systemd.unit(5), "String Escaping for Inclusion in Unit Names").
fn mount_unit(mountpoint: &str) -> String {
    use std::fmt::Write as _;
    let mut name = String::new();
    for (at, byte) in mountpoint.trim_matches('/').bytes().enumerate() {
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

/// Name of the data directory in texts.
const DATA: &str = "data directory";

/// The directory of a server's data.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Data {
    product: Product,
    path: String,
    /// It is configured; otherwise it is a default of packages, and the server may use another one.
    configured: bool,
}

/// Reads the faults of the prerequisites of a service, in the order of a start.
pub(super) async fn read(cx: &ProbeCx, unit: &Unit, log: &LogEvidence) -> Vec<Fault> {
    let Some(service) = &unit.service else { return Vec::new() };
    let data = data_directory(unit).await;
    let mounts = cx.filesystems.mounts().await.map(|m| (*m).clone()).unwrap_or_default();
    let mut faults = not_mounted(&places(unit, data.as_ref()), &filesystem::fstab().await.unwrap_or_default(), &mounts);
    let missing: Vec<String> = faults.iter().filter_map(Fault::missing_mount).map(str::to_owned).collect();
    let (own, of_data) = (unit.clone(), data.clone());
    let paths = blocking::run("prerequisites", &unit.name, READ_TIMEOUT, move |io| path_faults(io, &own, of_data.as_ref()));
    let paths = paths.await.unwrap_or_default();
    // a path in a filesystem that is not mounted is no second fault
    let is_present = |f: &Fault| f.path().is_none_or(|path| !missing.iter().any(|mount| Path::new(path).starts_with(mount)));
    faults.extend(paths.into_iter().filter(is_present));
    for (of, database, name) in [("User=", "passwd", &unit.context.user), ("Group=", "group", &unit.context.group)] {
        if account_exists(database, name).await == Some(false) {
            faults.push(Fault::Account { of: of.to_owned(), name: name.clone() });
        }
    }
    if faults.is_empty() {
        faults.extend(filesystem_faults(cx, data.as_ref(), log, &mounts).await);
    }
    if faults.is_empty()
        && let Some(command) = service.exec_start.first()
        && let Some(error) = config_error(&unit.name, command).await
    {
        faults.push(Fault::Configuration { command: error.command, error: error.error });
    }
    faults
}

/// The directory of the unit's data; `None` for an unknown product.
pub(super) async fn data_path(unit: &Unit) -> Option<String> {
    data_directory(unit).await.map(|data| data.path)
}

async fn data_directory(unit: &Unit) -> Option<Data> {
    let unit = unit.clone();
    let from = unit.name.clone();
    blocking::run("the data directory", &from, READ_TIMEOUT, move |io| find_data(io, &unit)).await.ok().flatten()
}

fn find_data(io: &Io, unit: &Unit) -> Option<Data> {
    let command = unit.service.as_ref()?.exec_start.first().map(String::as_str).unwrap_or_default();
    let program = command.split(' ').next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let product = product_of_unit(&unit.name).or_else(|| product_of_program(program))?;
    let configured =
        configured_data(product, &unit.name, command, unit.context.pgdata.as_deref(), &|path: &str| io.read_lossy(path).ok());
    if let Some(path) = configured {
        return Some(Data { product, path, configured: true });
    }
    let default = spec(product).data.iter().find(|path| io.is_dir(path)).or(spec(product).data.first())?;
    Some(Data { product, path: (*default).to_owned(), configured: false })
}

/// The configured data directory; `file` reads a configuration file.
fn configured_data(
    product: Product,
    unit: &str,
    command: &str,
    pgdata: Option<&str>,
    file: &dyn Fn(&str) -> Option<String>,
) -> Option<String> {
    let options: &[&str] = match product {
        Product::Postgres => &["-D", "--pgdata"],
        Product::Redis => &["--dir"],
        Product::Prometheus | Product::Alertmanager => &["--storage.tsdb.path", "--storage.path"],
        _ => &[],
    };
    let absolute = |path: &str| path.starts_with('/').then(|| path.trim_end_matches('/').to_owned());
    if let Some(path) = option_value(command, options).and_then(absolute) {
        return Some(path);
    }
    match product {
        Product::Postgres => {
            // Debian: postgresql@15-main.service
            let instance = unit.split_once('@').and_then(|(_, instance)| instance.strip_suffix(".service"));
            if let Some((version, cluster)) = instance.and_then(|i| i.split_once('-')) {
                let text = file(&format!("/etc/postgresql/{version}/{cluster}/postgresql.conf"))?;
                let named = setting(&text, "data_directory", '=').and_then(|path| absolute(&path));
                return Some(named.unwrap_or_else(|| format!("/var/lib/postgresql/{version}/{cluster}")));
            }
            pgdata.and_then(absolute)
        }
        Product::Redis => {
            let configuration = command.split(' ').skip(1).find(|word| word.starts_with('/'))?;
            setting(&file(configuration)?, "dir", ' ').and_then(|path| absolute(&path))
        }
        _ => None,
    }
}

/// The value of an option on a command line: `-D /data`, `--dir=/data`.
fn option_value<'c>(command: &'c str, options: &[&str]) -> Option<&'c str> {
    let words: Vec<&str> = command.split(' ').collect();
    words.iter().enumerate().find_map(|(at, word)| {
        options.iter().find_map(|option| match word.strip_prefix(*option)? {
            "" => words.get(at + 1).copied(),
            rest => rest.strip_prefix('=').or_else(|| (option.len() == 2).then_some(rest)),
        })
    })
}

/// The last value of a setting in a configuration file, without quotes and comment.
fn setting(text: &str, name: &str, separator: char) -> Option<String> {
    let value_of = |line: &str| -> Option<String> {
        let rest = line.trim().strip_prefix(name)?;
        let value = rest.trim_start().strip_prefix(separator).or_else(|| rest.strip_prefix(separator))?;
        Some(value.to_owned())
    };
    let value = text.lines().filter_map(value_of).next_back()?;
    let value = value.split('#').next().unwrap_or_default().trim();
    Some(value.trim_matches(['\'', '"']).to_owned())
}

/// Paths that a start needs, with their names in texts.
fn places(unit: &Unit, data: Option<&Data>) -> Vec<(String, String)> {
    let context = &unit.context;
    let mut places = Vec::new();
    places.extend(data.map(|d| (DATA.to_owned(), d.path.clone())));
    if !context.own_root && !context.working_directory.is_empty() {
        places.push(("WorkingDirectory=".to_owned(), context.working_directory.clone()));
    }
    places.extend(context.environment_files.iter().map(|path| ("EnvironmentFile=".to_owned(), path.clone())));
    places.extend(context.mounts_for.iter().map(|path| ("RequiresMountsFor=".to_owned(), path.clone())));
    places
}

/// The filesystems of fstab that contain one of these paths and are not mounted, each once.
fn not_mounted(places: &[(String, String)], fstab: &[FstabEntry], mounts: &[MountRef]) -> Vec<Fault> {
    let missing = |f: &&FstabEntry| {
        f.mountpoint.starts_with('/')
            && f.mountpoint != "/"
            && f.fstype != "swap"
            && !mounts.is_empty()
            && !mounts.iter().any(|m| m.mountpoint == f.mountpoint)
    };
    let mut faults: Vec<Fault> = Vec::new();
    for (of, path) in places {
        let entries = fstab.iter().filter(missing).filter(|f| Path::new(path).starts_with(&f.mountpoint));
        let Some(entry) = entries.max_by_key(|f| f.mountpoint.len()) else { continue };
        let known = |f: &Fault| matches!(f, Fault::NotMounted { mountpoint, .. } if *mountpoint == entry.mountpoint);
        if !faults.iter().any(known) {
            faults.push(Fault::NotMounted { of: of.clone(), path: path.clone(), mountpoint: entry.mountpoint.clone() });
        }
    }
    faults
}

/// The state of a path, if the service cannot use it. An inaccessible path is not missing.
fn state_of(io: &Io, path: &str, directory: Option<bool>) -> Option<PathState> {
    match io.metadata(path) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Some(PathState::Missing),
        Err(_) => None,
        Ok(meta) => match directory {
            Some(true) if !meta.is_dir() => Some(PathState::NotADirectory),
            Some(false) if meta.is_dir() => Some(PathState::Directory),
            _ => None,
        },
    }
}

fn path_faults(io: &Io, unit: &Unit, data: Option<&Data>) -> Vec<Fault> {
    let context = &unit.context;
    let status = decode::set_up_status(unit).map(|(status, _)| status);
    let created = |path: &str| context.created.iter().any(|directory| Path::new(path).starts_with(directory));
    let mut faults = Vec::new();
    let mut check = |of: &str, path: &str, directory: Option<bool>| {
        if let Some(state) = state_of(io, path, directory) {
            faults.push(Fault::Path { of: of.to_owned(), path: path.to_owned(), state });
        }
    };
    for file in &context.environment_files {
        let is_pattern = file.contains(['*', '?', '[']);
        let matches = || Root::own(io).is_ok_and(|root| root.glob(file).iter().any(|path| io.exists(path)));
        if !(is_pattern && matches()) {
            check("EnvironmentFile=", file, Some(false));
        }
    }
    // only after a failure at this step: directories below may be created by another setting
    if status == Some(243) {
        context.credentials.iter().for_each(|(_, path)| check("LoadCredential=", path, None));
    }
    if status == Some(226) && !context.own_root {
        for (setting, path) in context.sandbox_paths.iter().filter(|(_, path)| !created(path)) {
            check(&format!("{setting}="), path, None);
        }
    }
    if !context.own_root && !context.working_directory.is_empty() && !created(&context.working_directory) {
        check("WorkingDirectory=", &context.working_directory, Some(true));
    }
    if status == Some(203)
        && !context.own_root
        && let Some(command) = decode::failed_command(unit)
    {
        check(&format!("{}=", command.setting), command.program(), None);
    }
    let Some(data) = data.filter(|d| d.configured && !created(&d.path)) else { return faults };
    check(DATA, &data.path, Some(true));
    let version = Path::new(&data.path).join("PG_VERSION");
    if faults.is_empty()
        && data.product == Product::Postgres
        && io.metadata(version).is_err_and(|e| e.kind() == ErrorKind::NotFound)
        && io.is_dir(&data.path)
    {
        faults.push(Fault::Path { of: DATA.to_owned(), path: data.path.clone(), state: PathState::NoCluster });
    }
    faults
}

/// Whether a user or group exists; `None` if it is not known. `getent` queries all sources of nsswitch.conf.
async fn account_exists(database: &'static str, name: &str) -> Option<bool> {
    // numbers need no entry
    if name.is_empty() || name == "root" || name.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let file = format!("/etc/{database}");
    let prefix = format!("{name}:");
    let path = file.clone();
    let listed = blocking::run("accounts", &file, READ_TIMEOUT, move |io| {
        io.read_lossy(path).is_ok_and(|text| text.lines().any(|line| line.starts_with(&prefix)))
    });
    if listed.await.ok()? {
        return Some(true);
    }
    let argv = Argv::new("getent", &[database]).operand(name).ok()?;
    match command::run(&argv, GETENT_TIMEOUT).await.ok()?.status.code()? {
        0 => Some(true),
        // getent(1): a key that could not be found
        2 => Some(false),
        _ => None,
    }
}

/// Filesystems of the data, and those that the log reports, that take no data now.
async fn filesystem_faults(cx: &ProbeCx, data: Option<&Data>, log: &LogEvidence, mounts: &[MountRef]) -> Vec<Fault> {
    let mut places: Vec<(String, &str, u64)> = Vec::new();
    places.extend(data.map(|d| (d.path.clone(), "its data directory", SPACE_TO_START)));
    // the last mount at a mountpoint is the visible one
    let of_log = log.filesystems.iter().filter_map(|dev| mounts.iter().rfind(|m| m.dev == *dev));
    places.extend(of_log.map(|m| (m.mountpoint.clone(), "a path in its log", SPACE_TO_WRITE)));
    let mut faults: Vec<Fault> = Vec::new();
    for (path, holds, needed) in places {
        let Ok(usage) = cx.filesystems.of(Path::new(&path)).await else { continue };
        if faults.iter().any(|f| f.path() == Some(usage.mountpoint.as_str())) {
            continue;
        }
        let (mountpoint, dev, holds) = (usage.mountpoint.clone(), usage.dev.clone(), holds.to_owned());
        let is_read_only = |m: &MountRef| m.mount_options.iter().chain(&m.super_options).any(|o| o == "ro");
        let no_inodes =
            || async { filesystem::space(&usage.mountpoint).await.is_ok_and(|s| s.inodes > 0 && s.inodes_avail == 0) };
        if mounts.iter().any(|m| m.dev == dev && m.mountpoint == mountpoint && is_read_only(m)) {
            faults.push(Fault::ReadOnly { holds, mountpoint, dev });
        } else if usage.avail < needed {
            faults.push(Fault::NoSpace { holds, mountpoint, dev, avail: Some(usage.avail) });
        } else if no_inodes().await {
            faults.push(Fault::NoSpace { holds, mountpoint, dev, avail: None });
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use opsctl_core::probe::systemd::{Context, Service};

    use super::*;

    /// A directory that is removed with its test.
    struct TestDirectory(std::path::PathBuf);

    impl TestDirectory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("opsctl-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn path(&self, name: &str) -> String {
            self.0.join(name).display().to_string()
        }
    }

    impl Drop for TestDirectory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn unit(context: Context) -> Unit {
        let service = Service { exec_start: vec!["/usr/bin/app".into()], ..Service::default() };
        Unit { name: "app.service".into(), service: Some(service), context, ..Unit::default() }
    }

    fn failed(status: i64, context: Context) -> Unit {
        let mut unit = unit(context);
        if let Some(s) = unit.service.as_mut() {
            (s.result, s.exit_code_kind, s.exit_status) = ("exit-code".into(), 1, status);
        }
        unit
    }

    fn clauses(unit: &Unit, data: Option<&Data>) -> Vec<String> {
        path_faults(&Io::for_test(), unit, data).iter().map(Fault::clause).collect()
    }

    #[test]
    fn environment_files_that_do_not_exist() {
        let dir = TestDirectory::new("environment-files");
        let path = |name: &str| dir.path(name);
        std::fs::write(path("app.env"), "A=1").unwrap();
        let of = |files: &[String]| unit(Context { environment_files: files.to_vec(), ..Context::default() });
        assert!(clauses(&of(&[path("app.env"), path("*.env")]), None).is_empty());
        let missing = of(&[path("gone.env"), path("*.conf"), path("")]);
        let expected = [
            format!("its EnvironmentFile= {} does not exist", path("gone.env")),
            format!("its EnvironmentFile= {} does not exist", path("*.conf")),
            format!("its EnvironmentFile= {} is a directory", path("")),
        ];
        assert_eq!(clauses(&missing, None), expected);
    }

    #[test]
    fn directories_that_systemd_creates_are_not_missing() {
        let created = vec!["/run/opsctl-test-app".to_owned()];
        let of = |directory: &str| {
            unit(Context { working_directory: directory.into(), created: created.clone(), ..Context::default() })
        };
        assert!(clauses(&of("/run/opsctl-test-app/work"), None).is_empty());
        assert_eq!(clauses(&of("/nonexistent"), None), ["its WorkingDirectory= /nonexistent does not exist"]);
        assert_eq!(clauses(&of("/etc/passwd"), None), ["its WorkingDirectory= /etc/passwd is not a directory"]);
        let own_root = Context { working_directory: "/nonexistent".into(), own_root: true, ..Context::default() };
        assert!(clauses(&unit(own_root), None).is_empty());
    }

    #[test]
    fn sandbox_paths_count_after_a_failure_of_the_sandbox_only() {
        let context = Context { sandbox_paths: vec![("ReadWritePaths".into(), "/nonexistent".into())], ..Context::default() };
        assert!(clauses(&failed(1, context.clone()), None).is_empty());
        let unit = failed(226, context);
        let faults = path_faults(&Io::for_test(), &unit, None);
        assert_eq!(faults[0].clause(), "its ReadWritePaths= /nonexistent does not exist");
        assert_eq!(faults[0].as_result(&unit).as_deref(), Some(" (226/NAMESPACE)"));
    }

    #[test]
    fn data_directory_of_a_cluster() {
        let dir = TestDirectory::new("data-directory");
        let path = dir.path("");
        let data = |configured| Data { product: Product::Postgres, path: path.clone(), configured };
        let unit = unit(Context::default());
        assert!(clauses(&unit, Some(&data(true)))[0].ends_with("has no PG_VERSION: it contains no database cluster"));
        // a default of packages: the server may use another directory
        assert!(clauses(&unit, Some(&data(false))).is_empty());
        std::fs::write(dir.path("PG_VERSION"), "15").unwrap();
        assert!(clauses(&unit, Some(&data(true))).is_empty());
    }

    #[test]
    fn configured_data_directories() {
        let file = |path: &str| -> Option<String> {
            let text = match path {
                "/etc/postgresql/15/main/postgresql.conf" => "#data_directory = '/x'\ndata_directory = '/srv/pg' # moved\n",
                "/etc/postgresql/16/a/postgresql.conf" => "port = 5433\n",
                "/etc/redis/redis.conf" => "directory x\ndir /srv/redis\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        let of = |product, unit: &str, command: &str, pgdata| configured_data(product, unit, command, pgdata, &file);
        let debian = "/usr/bin/pg_ctlcluster --skip-systemctl-redirect 15-main start";
        for (product, unit, command, pgdata, expected) in [
            (Product::Postgres, "postgresql@15-main.service", debian, None, Some("/srv/pg")),
            (Product::Postgres, "postgresql@16-a.service", debian, None, Some("/var/lib/postgresql/16/a")),
            (Product::Postgres, "postgresql@14-b.service", debian, None, None),
            (Product::Postgres, "postgresql.service", "/usr/bin/postmaster -D /data/", None, Some("/data")),
            (Product::Postgres, "postgresql-16.service", "/usr/bin/postmaster -D ${PGDATA}", Some("/srv/16/"), Some("/srv/16")),
            (Product::Redis, "redis.service", "/usr/bin/redis-server /etc/redis/redis.conf", None, Some("/srv/redis")),
            (Product::Prometheus, "p.service", "/usr/bin/prometheus --storage.tsdb.path=/srv/p", None, Some("/srv/p")),
            (Product::Prometheus, "p.service", "/usr/bin/prometheus $ARGS", None, None),
            (Product::Nginx, "nginx.service", "/usr/sbin/nginx", None, None),
        ] {
            assert_eq!(of(product, unit, command, pgdata).as_deref(), expected, "{unit}: {command}");
        }
    }

    fn mount(mountpoint: &str) -> MountRef {
        MountRef {
            dev: "8:1".into(),
            mountpoint: mountpoint.into(),
            fstype: "ext4".into(),
            source: "/dev/sda1".into(),
            super_options: Vec::new(),
            mount_options: Vec::new(),
        }
    }

    #[test]
    fn filesystem_of_fstab_that_is_not_mounted() {
        let entry = |mountpoint: &str| FstabEntry {
            source: "/dev/sdb1".into(),
            mountpoint: mountpoint.into(),
            fstype: "ext4".into(),
            options: vec!["nofail".into()],
        };
        let fstab = [entry("/"), entry("/var/lib/postgresql"), entry("/mnt/usb")];
        let place = |path: &str| [(DATA.to_owned(), path.to_owned())];
        let of = |path: &str, mounts: &[MountRef]| -> Vec<String> {
            not_mounted(&place(path), &fstab, mounts).iter().map(Fault::clause).collect()
        };
        let data = "/var/lib/postgresql/15/main";
        let expected =
            "/var/lib/postgresql of fstab, which contains its data directory /var/lib/postgresql/15/main, is not mounted";
        assert_eq!(of(data, &[mount("/")]), [expected]);
        assert!(of(data, &[mount("/"), mount("/var/lib/postgresql")]).is_empty());
        // another filesystem of fstab is not mounted
        assert!(of("/srv/app", &[mount("/")]).is_empty());
        // the mount table could not be read
        assert!(of(data, &[]).is_empty());
    }

    #[test]
    fn mount_units_have_escaped_names() {
        assert_eq!(mount_unit("/var/lib/postgresql"), "var-lib-postgresql.mount");
        assert_eq!(mount_unit("/srv/my-data"), "srv-my\\x2ddata.mount");
    }

    #[test]
    fn every_fault_has_a_clause_and_a_refusal() {
        let no_space = Fault::NoSpace {
            holds: "its data directory".into(),
            mountpoint: "/data".into(),
            dev: "8:2".into(),
            avail: Some(4096),
        };
        assert_eq!(no_space.refusal(), "/data, which contains its data directory, has 4 KiB left: free space first");
        let account = Fault::Account { of: "User=".into(), name: "app".into() };
        assert_eq!(account.refusal(), "its User= app does not exist: create it first");
        assert_eq!(account.as_result(&failed(217, Context::default())).as_deref(), Some(" (217/USER)"));
        let configuration = Fault::Configuration { command: "nginx -t".into(), error: "[emerg] unknown directive".into() };
        assert_eq!(configuration.refusal(), "`nginx -t` fails: [emerg] unknown directive: correct it first");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn accounts_of_this_host() {
        assert_eq!(account_exists("passwd", "root").await, None);
        assert_eq!(account_exists("passwd", "1000").await, None);
        // every Linux system has it
        assert_eq!(account_exists("passwd", "nobody").await, Some(true));
        if command::is_installed("getent").await {
            assert_eq!(account_exists("passwd", "opsctl-no-such-user").await, Some(false));
        }
    }
}
