//! Files that prevented a start, checked again as the container or the unit sees them.

use std::time::Duration;

use jiff::Timestamp;
use opsctl_core::model::log::{LogEntry, Reason, ReasonKind};
use opsctl_core::probe::docker::{Container, ContainerFiles};
use opsctl_core::probe::io::view::{FileView, PathInfo, PathLookup, Presence};
use opsctl_core::probe::systemd::Unit;
use opsctl_core::probe::{Io, blocking};

use super::obstacle::Obstacle;

/// Timeout of all lookups of one object.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Limit of reading the first line of a script, in bytes (execve(2): the kernel reads 256).
const MAX_SCRIPT_BYTES: u64 = 4096;

/// Limit of reading the accounts of a container, in bytes.
const MAX_PASSWD_BYTES: u64 = 1 << 20;

/// `PATH` of a unit without its own (systemd.exec(5), "Environment Variables in Spawned Processes").
const UNIT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Directories of shared libraries (ld.so(8), and those of Debian's multiarch).
const LIBRARIES: &[&str] = &[
    "/lib",
    "/usr/lib",
    "/lib64",
    "/usr/lib64",
    "/usr/local/lib",
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
];

/// The files of an object, and the parts of its configuration that decide how it uses them.
#[derive(Debug, Clone, Default)]
pub(super) struct ObjectFiles {
    view: FileView,
    /// `User` of its configuration; empty for root.
    user: String,
    ids_are_mapped: bool,
    working_directory: String,
    /// `PATH`.
    search: String,
    program: String,
    /// Files with its settings; their change can remove the reason.
    settings: Vec<String>,
    /// Its image contains the files that are on no mount: they never change.
    is_container: bool,
}

pub(super) fn of_container(files: ContainerFiles, c: &Container) -> ObjectFiles {
    ObjectFiles {
        view: files.view,
        user: files.user,
        ids_are_mapped: files.ids_are_mapped,
        working_directory: files.working_directory,
        search: c.path.clone(),
        program: c.program.clone(),
        settings: Vec::new(),
        is_container: true,
    }
}

pub(super) fn of_unit(u: &Unit) -> ObjectFiles {
    let context = &u.context;
    let user = u.service.as_ref().map(|s| s.user.clone()).filter(|user| !user.is_empty());
    let mut settings = context.environment_files.clone();
    settings.extend(Some(u.fragment.clone()).filter(|f| !f.is_empty()));
    ObjectFiles {
        view: FileView::host(),
        user: user.unwrap_or_else(|| context.user.clone()),
        ids_are_mapped: false,
        working_directory: context.working_directory.clone(),
        search: UNIT_PATH.to_owned(),
        program: u.service.as_ref().and_then(|s| s.program()).unwrap_or_default().to_owned(),
        settings,
        is_container: false,
    }
}

/// Checks a reason that concerns files. `ended` is the end of the failed run.
pub(super) async fn check(files: ObjectFiles, reason: &Reason, text: &str, ended: Option<Timestamp>) -> Option<Obstacle> {
    let (reason, text) = (reason.clone(), text.to_owned());
    blocking::run("the files of a failed start", "a path in its log", TIMEOUT, move |io| {
        Examination { io, files: &files, ended }.of(&reason, &text)
    })
    .await
    .ok()?
}

/// A kernel setting: `vm.max_map_count [65530] is too low, increase to at least [262144]`.
pub(super) async fn of_sysctl(reason: &Reason, line: &LogEntry) -> Option<Obstacle> {
    let name = reason.object.as_deref()?;
    // other settings may differ in the namespaces of a container
    let is_global = ["vm.", "fs.", "kernel."].iter().any(|prefix| name.starts_with(prefix)) && !name.contains("..");
    if !is_global {
        return None;
    }
    let (_, behind) = line.text.split_once("at least")?;
    let digits = |c: char| c.is_ascii_digit();
    let number = behind.split(|c| !digits(c)).find(|word| !word.is_empty())?;
    let needed: u64 = number.parse().ok()?;
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    let from = path.clone();
    let read = blocking::run("a kernel setting", &from, TIMEOUT, move |io| io.read_lossy(path)).await.ok()?.ok()?;
    let value: u64 = read.trim().parse().ok()?;
    Some(if value < needed {
        Obstacle::Present(format!("{name} is {value}, at least {needed} is needed"))
    } else {
        Obstacle::Gone(format!("{name} is {value}"))
    })
}

/// Access to a file that was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
    Execute,
}

/// The account of the object in the view; the groups of a user are known only in part.
struct Account {
    uid: u32,
    gid: Option<u32>,
}

struct Examination<'a> {
    io: &'a Io,
    files: &'a ObjectFiles,
    ended: Option<Timestamp>,
}

impl Examination<'_> {
    fn of(&self, reason: &Reason, text: &str) -> Option<Obstacle> {
        let object = reason.object.as_deref();
        match reason.kind {
            ReasonKind::FileMissing => self.exists(&self.absolute(object?)),
            ReasonKind::ModuleMissing => self.exists(object.filter(|o| o.starts_with('/'))?),
            ReasonKind::ProgramMissing => self.program(object?),
            ReasonKind::InterpreterMissing => self.script(object),
            ReasonKind::PermissionDenied => self.permission(&self.absolute(object?), text),
            ReasonKind::ConfigurationInvalid => self.configuration(object, text),
            ReasonKind::SettingMissing => self.settings(),
            ReasonKind::LibraryMissing => self.library(object).or_else(|| self.replaced()),
            ReasonKind::WrongArchitecture | ReasonKind::IllegalInstruction => self.replaced(),
            _ => None,
        }
    }

    fn absolute(&self, path: &str) -> String {
        if path.starts_with('/') {
            return path.to_owned();
        }
        format!("{}/{path}", self.files.working_directory.trim_end_matches('/'))
    }

    /// A path that the log names. It is unknown if the user of the object cannot search a directory on the way: its log must not
    /// show which files are in there.
    fn find(&self, path: &str) -> Presence {
        let lookup = self.look_up(path);
        let is_searchable = self.with_rights(|account| lookup.passed.iter().all(|d| may(account, d, 0o1) == Some(true)));
        if is_searchable { lookup.state } else { Presence::Unknown }
    }

    /// A path of the configuration.
    fn look_up(&self, path: &str) -> PathLookup {
        self.files.view.look_up(self.io, path)
    }

    /// Whether the object is root, or its account passes the test; an unknown account has the rights of all others.
    fn with_rights(&self, permits: impl Fn(&Account) -> bool) -> bool {
        let is_root = matches!(self.files.user.split(':').next(), None | Some("" | "0" | "root"));
        (is_root && !self.files.ids_are_mapped) || permits(&self.account().unwrap_or(Account { uid: u32::MAX, gid: None }))
    }

    fn exists(&self, path: &str) -> Option<Obstacle> {
        match self.find(path) {
            Presence::Exists(_) => Some(Obstacle::Gone(format!("{path} exists"))),
            Presence::Missing => Some(Obstacle::Present(format!("{path} still does not exist"))),
            Presence::Unknown => None,
        }
    }

    /// The state of a name in a list of directories.
    fn search(&self, name: &str, directories: impl Iterator<Item = impl AsRef<str>>) -> Presence {
        let mut result = Presence::Missing;
        for directory in directories {
            match self.find(&format!("{}/{name}", directory.as_ref())) {
                Presence::Missing => {}
                Presence::Unknown => result = Presence::Unknown,
                found @ Presence::Exists(_) => return found,
            }
        }
        result
    }

    fn program(&self, name: &str) -> Option<Obstacle> {
        if name.contains('/') {
            return self.exists(&self.absolute(name));
        }
        match self.search(name, self.files.search.split(':').filter(|d| d.starts_with('/'))) {
            Presence::Exists(_) => Some(Obstacle::Gone(format!("the program {name} exists"))),
            Presence::Missing => Some(Obstacle::Present(format!("the program {name} still does not exist"))),
            Presence::Unknown => None,
        }
    }

    /// The script that names a missing interpreter: its first line must end without a carriage return, and name a program that
    /// exists (execve(2), "Interpreter scripts").
    fn script(&self, object: Option<&str>) -> Option<Obstacle> {
        // a unit names any file of this host in its log; only its own program is read
        let is_own = |path: &&str| self.files.is_container || *path == self.files.program;
        let named = object.filter(|o| o.starts_with('/') && !o.contains(['\r', '^'])).filter(is_own);
        let path = named.unwrap_or(&self.files.program);
        let Presence::Exists(info) = self.find(path) else { return None };
        if !info.is_file || !self.with_rights(|account| may(account, &info, 0o4) == Some(true)) {
            return None;
        }
        let text = info.read_lossy(self.io, MAX_SCRIPT_BYTES).ok()?;
        let first = text.strip_prefix("#!")?.split('\n').next()?;
        if first.ends_with('\r') {
            return Some(Obstacle::Present(format!("the first line of {path} still ends with a carriage return")));
        }
        let interpreter = first.split_whitespace().next()?;
        match self.find(interpreter) {
            Presence::Exists(_) => Some(Obstacle::Gone(format!("{interpreter}, the interpreter of {path}, exists"))),
            Presence::Missing => Some(Obstacle::Present(format!("{interpreter}, the interpreter of {path}, does not exist"))),
            Presence::Unknown => None,
        }
    }

    fn library(&self, object: Option<&str>) -> Option<Obstacle> {
        let name = object.filter(|o| o.contains(".so"))?;
        let found = self.search(name, LIBRARIES.iter());
        matches!(found, Presence::Exists(_)).then(|| Obstacle::Gone(format!("the library {name} exists")))
    }

    /// A program that was replaced after the failure. The program in an image is never replaced.
    fn replaced(&self) -> Option<Obstacle> {
        let program = &self.files.program;
        match self.find(program) {
            Presence::Exists(info) if self.is_later(info.changed) => {
                Some(Obstacle::Gone(format!("{program} was replaced after the failure")))
            }
            _ => self.files.is_container.then_some(Obstacle::Permanent),
        }
    }

    /// A configuration file: unchanged, it is rejected again.
    fn configuration(&self, object: Option<&str>, text: &str) -> Option<Obstacle> {
        let of_object = object.filter(|o| o.starts_with('/'));
        let path = without_position(of_object.or_else(|| first_path(text))?);
        match self.find(path) {
            Presence::Exists(info) if !info.is_file => None,
            Presence::Exists(info) if self.is_later(info.modified) || self.is_later(info.changed) => {
                Some(Obstacle::Gone(format!("{path} was changed after the failure")))
            }
            Presence::Exists(_) => {
                self.ended.map(|_| Obstacle::Present(format!("{path} was not changed since its error was logged")))
            }
            Presence::Missing | Presence::Unknown => None,
        }
    }

    /// The environment of a container is fixed at its creation; that of a unit is read at each start.
    fn settings(&self) -> Option<Obstacle> {
        if self.files.is_container {
            return Some(Obstacle::Permanent);
        }
        let is_changed = |path: &&String| match self.look_up(path).state {
            Presence::Exists(info) => self.is_later(info.modified) || self.is_later(info.changed),
            Presence::Missing | Presence::Unknown => false,
        };
        let changed = self.files.settings.iter().find(is_changed)?;
        Some(Obstacle::Gone(format!("{changed} was changed after the failure")))
    }

    /// A path with denied access. Owner and mode that permit the access are a proof only if they were changed after the failure:
    /// otherwise an ACL, a security module or a mount option denied it.
    fn permission(&self, path: &str, text: &str) -> Option<Obstacle> {
        let lookup = self.look_up(path);
        let is_missing = lookup.state == Presence::Missing;
        let (target, above) = match &lookup.state {
            Presence::Exists(info) => (info, lookup.above.as_slice()),
            // a file that could not be created in the nearest directory
            Presence::Missing => lookup.above.split_last()?,
            Presence::Unknown => return None,
        };
        let wanted = if is_missing { Some(Access::Write) } else { wanted(path, text) };
        let account = self.account();
        let permits = |access| {
            let account = account.as_ref()?;
            let mut all = above.iter().map(|directory| may(account, directory, 0o1)).chain([may(
                account,
                target,
                bits(access, target.is_directory),
            )]);
            all.try_fold(true, |permitted, next| Some(permitted && next?))
        };
        let permitted = match wanted {
            Some(access) => permits(access),
            None if permits(Access::Read) == Some(false) => Some(false),
            None => permits(Access::Write).filter(|permitted| *permitted),
        };
        // contents of a directory change without a change of its rights
        let rights_changed = |info: &PathInfo| self.is_later(info.changed) && info.changed != info.modified;
        let is_changed = rights_changed(target) || above.iter().any(rights_changed) || self.is_later(target.modified);
        match permitted {
            Some(false) => Some(Obstacle::Present(format!("its user still has no access to {path}"))),
            _ if is_changed => Some(Obstacle::Gone(format!("owner or mode of {path} was changed after the failure"))),
            _ => None,
        }
    }

    /// The user of the object. A container that starts as root often changes to another user, which is not known here.
    fn account(&self) -> Option<Account> {
        let user = self.files.user.as_str();
        let (user, group) = user.split_once(':').unwrap_or((user, ""));
        if self.files.ids_are_mapped || matches!(user, "" | "0" | "root") {
            return None;
        }
        if let Ok(uid) = user.parse() {
            return Some(Account { uid, gid: group.parse().ok() });
        }
        let Presence::Exists(passwd) = self.look_up("/etc/passwd").state else { return None };
        let text = passwd.read_lossy(self.io, MAX_PASSWD_BYTES).ok()?;
        let fields = text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == user)?;
        Some(Account { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok() })
    }

    fn is_later(&self, time: Option<Timestamp>) -> bool {
        time.zip(self.ended).is_some_and(|(time, ended)| time > ended)
    }
}

/// Whether owner, group and mode grant `access`, three bits of a mode; `None` if an unknown group of the user decides.
fn may(account: &Account, info: &PathInfo, access: u32) -> Option<bool> {
    let grants = |shift: u32| (info.mode >> shift) & access == access;
    if account.uid == info.uid {
        return Some(grants(6));
    }
    if account.gid == Some(info.gid) {
        return Some(grants(3));
    }
    if grants(0) {
        return Some(true);
    }
    if grants(3) { None } else { Some(false) }
}

fn bits(access: Access, is_directory: bool) -> u32 {
    match (access, is_directory) {
        (Access::Read, false) => 0o4,
        (Access::Read, true) => 0o5,
        (Access::Write, false) => 0o2,
        (Access::Write, true) => 0o3,
        (Access::Execute, _) => 0o1,
    }
}

/// The access that a line reports as denied, if it says so.
fn wanted(path: &str, text: &str) -> Option<Access> {
    const WRITES: &[&str] = &["write", "writing", "mkdir", "create", "unlink", "remove", "rename", "touch", "append", "bind("];
    const READS: &[&str] = &["reading", "to read", " read ", "load", "private key", "certificate"];
    const WRITTEN: &[&str] = &[".log", ".pid", ".lock", ".sock", ".db", ".sqlite", ".sqlite3"];
    const IS_READ: &[&str] =
        &[".conf", ".cnf", ".cfg", ".ini", ".yml", ".yaml", ".json", ".toml", ".env", ".pem", ".key", ".crt"];
    let lower = text.to_lowercase().replace("read-only", "");
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let ends = |endings: &[&str]| endings.iter().any(|ending| path.ends_with(ending));
    if lower.contains("exec") {
        Some(Access::Execute)
    } else if says(WRITES) || ends(WRITTEN) {
        Some(Access::Write)
    } else if says(READS) || ends(IS_READ) {
        Some(Access::Read)
    } else {
        None
    }
}

/// `/etc/nginx/nginx.conf:3` without its line.
fn without_position(path: &str) -> &str {
    match path.rsplit_once(':') {
        Some((before, line)) if line.bytes().all(|b| b.is_ascii_digit()) => without_position(before),
        _ => path,
    }
}

fn first_path(text: &str) -> Option<&str> {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '(' | ')' | ',' | ';' | '`' | '='));
    words.map(|word| word.trim_end_matches([':', '.'])).find(|word| word.len() > 1 && word.starts_with('/'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use jiff::SignedDuration;
    use opsctl_core::model::log::reason;

    use super::*;

    /// Number of directories that the tests have created.
    static CREATED: AtomicUsize = AtomicUsize::new(0);

    /// A container with one layer and a volume at `/data`, and the end of its last run.
    struct Host {
        dir: PathBuf,
        files: ObjectFiles,
        ended: Timestamp,
    }

    impl Drop for Host {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }

    impl Host {
        fn new() -> Self {
            let number = CREATED.fetch_add(1, Ordering::Relaxed);
            let dir = std::env::temp_dir().join(format!("opsctl-obstacle-{}-{number}", std::process::id()));
            let path = |name: &str| dir.join(name).display().to_string();
            for directory in ["layer/etc", "layer/bin", "layer/app", "data"] {
                fs::create_dir_all(dir.join(directory)).unwrap();
            }
            let view =
                FileView { layers: vec![path("layer")], mounts: vec![("/data".to_owned(), path("data"))], ..FileView::default() };
            let files = ObjectFiles {
                view,
                working_directory: "/app".into(),
                search: "/usr/bin:/bin".into(),
                is_container: true,
                ..ObjectFiles::default()
            };
            Self { dir, files, ended: Timestamp::now() - SignedDuration::from_hours(1) }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.join(name)
        }

        fn write(&self, path: &str, text: &str) {
            fs::write(self.path(path), text).unwrap();
        }

        /// The end of the failed run is after every change of a file.
        fn unchanged_since(mut self) -> Self {
            self.ended = Timestamp::now() + SignedDuration::from_hours(1);
            self
        }

        fn check(&self, text: &str) -> Option<Obstacle> {
            let examination = Examination { io: &Io::for_test(), files: &self.files, ended: Some(self.ended) };
            examination.of(&reason(text).unwrap(), text)
        }
    }

    fn present(found: Option<Obstacle>) -> String {
        match found {
            Some(Obstacle::Present(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    fn is_gone(found: Option<&Obstacle>) -> bool {
        matches!(found, Some(Obstacle::Gone(_)))
    }

    // github.com/grafana/grafana/issues/10200: a provisioned file that was created later
    const NO_FILE: &str = "open /data/datasource.yml: no such file or directory";

    #[test]
    fn missing_file_is_still_missing() {
        assert_eq!(present(Host::new().check(NO_FILE)), "/data/datasource.yml still does not exist");
    }

    #[test]
    fn missing_file_was_restored() {
        let host = Host::new();
        host.write("data/datasource.yml", "x");
        assert!(is_gone(host.check(NO_FILE).as_ref()));
    }

    #[test]
    fn relative_path_is_below_the_working_directory() {
        let host = Host::new();
        let text = "python3: can't open file 'main.py': [Errno 2] No such file or directory";
        assert_eq!(present(host.check(text)), "/app/main.py still does not exist");
        host.write("layer/app/main.py", "x");
        assert!(is_gone(host.check(text).as_ref()));
    }

    #[test]
    fn program_is_searched_in_the_path() {
        let host = Host::new();
        let text = "/x.sh: line 3: dig: command not found";
        assert_eq!(present(host.check(text)), "the program dig still does not exist");
        host.write("layer/bin/dig", "x");
        assert!(is_gone(host.check(text).as_ref()));
    }

    #[test]
    fn carriage_return_of_a_script() {
        let host = Host::new();
        let text = "exec /data/start.sh: no such file or directory";
        host.write("layer/bin/sh", "x");
        host.write("data/start.sh", "#!/bin/sh\r\n");
        assert!(present(host.check(text)).contains("ends with a carriage return"));
        host.write("data/start.sh", "#!/bin/sh\n");
        assert!(is_gone(host.check(text).as_ref()));
    }

    #[test]
    fn interpreter_of_a_script() {
        let host = Host::new();
        host.write("data/start.sh", "#!/bin/bash\n");
        let text = "exec /data/start.sh: no such file or directory";
        assert_eq!(present(host.check(text)), "/bin/bash, the interpreter of /data/start.sh, does not exist");
    }

    #[test]
    fn file_in_a_directory_that_its_user_cannot_search_is_unknown() {
        for (user, known) in [("472:472", false), ("stranger", false), ("", true), ("0", true)] {
            let mut host = Host::new();
            of_user(&mut host, user);
            host.write("data/datasource.yml", "x");
            mode(&host.path("data"), 0o700);
            assert_eq!(host.check(NO_FILE).is_some(), known, "{user}");
            mode(&host.path("data"), 0o755);
            assert!(is_gone(host.check(NO_FILE).as_ref()), "{user}");
        }
    }

    #[test]
    fn script_that_its_user_cannot_read_is_not_read() {
        let mut host = Host::new();
        of_user(&mut host, "472:472");
        host.write("data/start.sh", "#!/secret/program\n");
        mode(&host.path("data"), 0o755);
        mode(&host.path("data/start.sh"), 0o600);
        assert_eq!(host.check("exec /data/start.sh: no such file or directory"), None);
    }

    #[test]
    fn link_of_a_volume_does_not_leave_the_container() {
        let host = Host::new();
        symlink("/etc/passwd", host.path("data/datasource.yml")).unwrap();
        assert!(matches!(host.check(NO_FILE), Some(Obstacle::Present(_))));
    }

    // github.com/prometheus/prometheus/issues/5976, github.com/prometheus/prometheus/issues/9704: the volume belongs to root
    const DENIED: &str = "mkdir: cannot create directory '/data/plugins': Permission denied";

    /// The directory of the volume belongs to the tests' user: a number other than that has no access with mode 0755.
    fn of_user(host: &mut Host, user: &str) {
        user.clone_into(&mut host.files.user);
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn access_is_still_denied() {
        let mut host = Host::new();
        of_user(&mut host, "472:472");
        mode(&host.path("data"), 0o755);
        assert_eq!(present(host.check(DENIED)), "its user still has no access to /data/plugins");
    }

    #[test]
    fn access_is_granted_now() {
        let mut host = Host::new();
        of_user(&mut host, "472:472");
        mode(&host.path("data"), 0o777);
        assert!(is_gone(host.check(DENIED).as_ref()));
    }

    #[test]
    fn access_that_was_denied_for_another_reason_is_not_known() {
        let mut host = Host::new().unchanged_since();
        of_user(&mut host, "472:472");
        mode(&host.path("data"), 0o777);
        assert_eq!(host.check(DENIED), None);
    }

    #[test]
    fn access_of_an_unknown_user_counts_after_a_change() {
        let host = Host::new();
        mode(&host.path("data"), 0o700);
        assert!(is_gone(host.check(DENIED).as_ref()));
        assert_eq!(Host::new().unchanged_since().check(DENIED), None);
    }

    #[test]
    fn user_of_the_image() {
        let mut host = Host::new();
        host.write("layer/etc/passwd", "root:x:0:0::/:/bin/sh\napp:x:1042:1042::/:/bin/sh\n");
        of_user(&mut host, "app");
        mode(&host.path("data"), 0o700);
        assert!(matches!(host.check(DENIED), Some(Obstacle::Present(_))));
    }

    const INVALID: &str = "[emerg] unknown directive \"servr\" in /data/nginx.conf:3";

    #[test]
    fn unchanged_configuration_is_rejected_again() {
        let host = Host::new().unchanged_since();
        host.write("data/nginx.conf", "servr {}");
        assert!(present(host.check(INVALID)).contains("/data/nginx.conf was not changed"));
    }

    #[test]
    fn corrected_configuration_is_read_again() {
        let host = Host::new();
        host.write("data/nginx.conf", "server {}");
        assert!(is_gone(host.check(INVALID).as_ref()));
    }

    #[test]
    fn environment_of_a_container_is_permanent() {
        let mut host = Host::new();
        assert_eq!(host.check("KeyError: 'DATABASE_URL'"), Some(Obstacle::Permanent));
        host.files.is_container = false;
        host.write("data/app.env", "DATABASE_URL=x");
        host.files.settings = vec!["/data/app.env".into()];
        assert!(is_gone(host.check("KeyError: 'DATABASE_URL'").as_ref()));
    }

    #[test]
    fn program_of_an_image_is_never_replaced() {
        let mut host = Host::new().unchanged_since();
        host.files.program = "/app/run".into();
        assert_eq!(host.check("exec /app/run: exec format error"), Some(Obstacle::Permanent));
        host.files.is_container = false;
        assert_eq!(host.check("exec /app/run: exec format error"), None);
    }

    #[test]
    fn denied_access_in_words() {
        for (path, text, expected) in [
            ("/etc/app/tls.key", "open /etc/app/tls.key: permission denied", Some(Access::Read)),
            ("/x", "could not write to /x: Permission denied", Some(Access::Write)),
            ("/entry.sh", "exec: \"/entry.sh\": permission denied", Some(Access::Execute)),
            ("/data/x", "open /data/x: permission denied", None),
        ] {
            assert_eq!(wanted(path, text), expected, "{text}");
        }
    }

    #[test]
    fn path_without_its_line() {
        assert_eq!(without_position("/etc/a.conf:3:12"), "/etc/a.conf");
        assert_eq!(first_path("error in \"/etc/a.conf\" line 3"), Some("/etc/a.conf"));
    }
}
