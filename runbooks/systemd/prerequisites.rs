//! Prerequisites of a service: files, directories, accounts, filesystems and a valid configuration. A missing one explains a
//! failure, and every start fails until it is restored.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use opsctl_core::model::{MountRef, Product};
use opsctl_core::probe::io::Root;
use opsctl_core::probe::io::accounts::Accounts;
use opsctl_core::probe::kernel::filesystem::{self, FstabEntry};
use opsctl_core::probe::logs::LogEvidence;
use opsctl_core::probe::systemd::{Unit, config_error};
use opsctl_core::probe::{Io, ProbeCx, blocking};

use super::data_directory::Data;
use super::decode;
use super::fault::{DATA, Fault, PathState};
use crate::shared::obstacle::SPACE_TO_WRITE;
use crate::shared::servers::READ_TIMEOUT;
use crate::shared::unwritable::{self, Unwritable};

/// Space that a database needs to start, in bytes: a WAL segment of PostgreSQL.
const SPACE_TO_START: u64 = 16 << 20;

/// Timeout of a name service query.
const GETENT_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads the faults of the prerequisites of a service, in the order of a start.
pub(super) async fn read(cx: &ProbeCx, unit: &Unit, data: Option<&Data>, log: &LogEvidence) -> Vec<Fault> {
    let Some(service) = &unit.service else { return Vec::new() };
    let mounts = cx.filesystems.mounts().await.map(|m| (*m).clone()).unwrap_or_default();
    let mut faults = not_mounted(&places(unit, data), &filesystem::fstab().await.unwrap_or_default(), &mounts);
    let missing: Vec<String> = faults.iter().filter_map(Fault::missing_mount).map(str::to_owned).collect();
    let (own, of_data) = (unit.clone(), data.cloned());
    let paths = blocking::run("prerequisites", &unit.name, READ_TIMEOUT, move |io| path_faults(io, &own, of_data.as_ref()));
    let paths = paths.await.unwrap_or_default();
    // a path in a filesystem that is not mounted is no second fault
    let is_present = |f: &Fault| f.path().is_none_or(|path| !missing.iter().any(|mount| Path::new(path).starts_with(mount)));
    faults.extend(paths.into_iter().filter(is_present));
    for (of, accounts, name) in
        [("User=", Accounts::Users, &unit.context.user), ("Group=", Accounts::Groups, &unit.context.group)]
    {
        if account_exists(accounts, name).await == Some(false) {
            faults.push(Fault::Account { of: of.to_owned(), name: name.clone() });
        }
    }
    if faults.is_empty() {
        faults.extend(filesystem_faults(cx, data, log, &mounts).await);
    }
    if faults.is_empty()
        && let Some(command) = service.exec_start.first()
        && let Some(error) = config_error(&unit.name, command).await
    {
        faults.push(Fault::Configuration { command: error.command, error: error.error });
    }
    faults
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

/// Whether a user or group exists; `None` if it is not known.
async fn account_exists(accounts: Accounts, name: &str) -> Option<bool> {
    // numbers need no entry
    if name.is_empty() || name == "root" || name.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let name = name.to_owned();
    let exists = move |io: &Io| accounts.exists(io, &name, GETENT_TIMEOUT);
    blocking::run("accounts", accounts.file(), READ_TIMEOUT + GETENT_TIMEOUT, exists).await.ok()?
}

/// Filesystems of the data, and those that the log reports, that take no data now.
async fn filesystem_faults(cx: &ProbeCx, data: Option<&Data>, log: &LogEvidence, mounts: &[MountRef]) -> Vec<Fault> {
    let reason = log.reason();
    let named = reason.as_ref().and_then(|reason| reason.object.as_deref());
    let mut places: Vec<(&str, &str, u64)> = Vec::new();
    places.extend(data.map(|d| (d.path.as_str(), "its data directory", SPACE_TO_START)));
    let of_log = log.filesystems.iter().filter_map(|dev| unwritable::place(mounts, dev, named));
    places.extend(of_log.map(|path| (path, "a path in its log", SPACE_TO_WRITE)));
    let mut faults: Vec<Fault> = Vec::new();
    for (path, holds, needed) in places {
        let Some((usage, unwritable)) = unwritable::of_path(cx, mounts, path, needed).await else { continue };
        if faults.iter().any(|f| f.path() == Some(usage.mountpoint.as_str())) {
            continue;
        }
        let (mountpoint, dev, holds) = (usage.mountpoint, usage.dev, holds.to_owned());
        faults.extend(unwritable.map(|unwritable| match unwritable {
            Unwritable::ReadOnly => Fault::ReadOnly { holds, mountpoint, dev },
            Unwritable::NoSpace(avail) => Fault::NoSpace { holds, mountpoint, dev, avail: Some(avail) },
            Unwritable::NoInodes => Fault::NoSpace { holds, mountpoint, dev, avail: None },
        }));
    }
    faults
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use opsctl_core::probe::io::command;
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

    #[tokio::test(flavor = "current_thread")]
    async fn accounts_of_this_host() {
        assert_eq!(account_exists(Accounts::Users, "root").await, None);
        assert_eq!(account_exists(Accounts::Users, "1000").await, None);
        // every Linux system has it
        assert_eq!(account_exists(Accounts::Users, "nobody").await, Some(true));
        if command::is_installed("getent").await {
            assert_eq!(account_exists(Accounts::Users, "opsctl-no-such-user").await, Some(false));
        }
    }
}
