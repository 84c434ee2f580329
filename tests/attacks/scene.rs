//! A host with an attacker and secrets, and the conditions that every run on it must meet.

use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use opsctl_core::model::CheckRow;

use crate::lab::{Host, MACHINE, Rootfs, Run, eventually};

/// The attacking user, without groups.
pub(crate) const USER: &str = "mallory";

/// Its uid and gid.
pub(crate) const UID: u32 = 4711;

/// Limit of the start of an attacker's program on a busy machine, in seconds.
const START_TIMEOUT: u64 = 30;

/// Two directories that every user can write to: one for data that attackers record ([`Scene::loot`]), one for the privileges that programs
/// record ([`Scene::marks`]). Containers of attackers have both mounted.
pub(crate) const SHARED: &[&str] = &["-v", "/mnt/loot:/mnt/loot", "-v", "/mnt/marks:/mnt/marks"];

/// The default capabilities of root in a container of Docker.
const DEFAULT_CAPABILITIES: u64 = 0xa804_25fb;

/// A host with an attacker and with secrets.
pub(crate) struct Scene {
    host: Host,
    /// A random text that only root may read. [`Scene::plant`] writes it into files.
    pub(crate) secret: String,
    /// Users that may run their own programs with their own privileges.
    pub(crate) own_rights: Vec<u32>,
    /// Removed after the host, when they are empty.
    groups: Mutex<Vec<FakedGroup>>,
}

impl Deref for Scene {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

impl Scene {
    /// A host without an engine.
    pub(crate) fn without_engine() -> Option<Self> {
        Host::without_engine().map(Self::on)
    }

    /// A host with an engine.
    pub(crate) fn start() -> Option<Self> {
        Host::start().map(Self::on)
    }

    /// A host with an engine that runs containers in user namespaces (`userns-remap`): their root is user 200000 of the host.
    pub(crate) fn with_remapped_users() -> Option<Self> {
        let scene = Self::without_engine()?;
        scene.sh("for f in subuid subgid; do
            echo nobody:200000:65536 > /run/lab/etc/$f; touch /etc/$f; mount --bind /run/lab/etc/$f /etc/$f; done
            grep -q ^nobody: /etc/group || echo nobody:x:65533: >> /run/lab/etc/group");
        scene.disk("/var/lib/docker", 512, "-m 0");
        fs::write(scene.path("daemon.json"), r#"{"userns-remap": "nobody"}"#).unwrap_or_else(|e| panic!("daemon.json: {e}"));
        scene.start_engine();
        Some(scene)
    }

    /// Adds the attacker and the secrets to a host.
    pub(crate) fn on(host: Host) -> Self {
        let mut random = [0; 12];
        fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut random)).unwrap_or_else(|e| panic!("urandom: {e}"));
        let secret = random.iter().fold("canary".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        // /etc belongs to the machine and is not changed
        host.sh(&format!(
            "mkdir -p /mnt/loot /mnt/marks /mnt/home/{USER} /run/lab/etc && chmod 1777 /mnt/loot /mnt/marks && chown {UID}:{UID} /mnt/home/{USER}
            mkdir -m 700 /mnt/secret
            cp -p /etc/passwd /etc/group /run/lab/etc/
            echo '{USER}:x:{UID}:{UID}::/mnt/home/{USER}:/bin/bash' >> /run/lab/etc/passwd
            echo '{USER}:x:{UID}:' >> /run/lab/etc/group
            (echo 'root:$6${secret}:19000:0:99999:7:::'; grep -v ^root: /etc/passwd | sed 's/:.*/:*:19000:0:99999:7:::/') > /run/lab/etc/shadow; chmod 600 /run/lab/etc/shadow
            for f in passwd group shadow; do mount --bind /run/lab/etc/$f /etc/$f; done"
        ));
        Self { host, secret, own_rights: vec![UID], groups: Mutex::default() }
    }

    /// Writes a file readable by root only; `SECRET` in it is replaced by the secret.
    #[track_caller]
    pub(crate) fn plant(&self, path: &str, content: &str) {
        let staged = self.path("planted");
        fs::write(&staged, content.replace("SECRET", &self.secret)).unwrap_or_else(|e| panic!("{path}: {e}"));
        self.sh(&format!("mkdir -p $(dirname {path}); install -m 600 -o root {} {path}", staged.display()));
        fs::remove_file(staged).unwrap_or_else(|e| panic!("{path}: {e}"));
    }

    /// Writes a file owned by the attacker.
    #[track_caller]
    pub(crate) fn write(&self, path: &str, content: &str) {
        let staged = self.path("written");
        fs::write(&staged, content).unwrap_or_else(|e| panic!("{path}: {e}"));
        self.sh(&format!(
            "mkdir -p $(dirname {path}); chown {UID} $(dirname {path}); install -m 755 -o {UID} -g {UID} {} {path}",
            staged.display()
        ));
    }

    /// Output of a shell script of the attacker, which must succeed.
    #[track_caller]
    pub(crate) fn as_user(&self, script: &str) -> String {
        self.sh(&format!("exec setpriv --reuid {UID} --regid {UID} --clear-groups bash -ec {}", quoted(script)))
    }

    /// A program of the attacker, a copy of the fixture under this name.
    pub(crate) fn program<'a>(&'a self, name: &'a str) -> Program<'a> {
        Program { scene: self, name, title: None, environment: String::new(), group: None, unshare: "", before: String::new() }
    }

    /// Installs the program of [`Scene::program`]; its path.
    #[track_caller]
    pub(crate) fn program_file_named(&self, name: &str) -> String {
        let path = format!("/mnt/home/{USER}/bin/{name}");
        self.sh(&format!("mkdir -p /mnt/home/{USER}/bin; install -m 755 -o {UID} -g {UID} /run/lab/fixture {}", quoted(&path)));
        path
    }

    /// The same for a plain name, and only once.
    #[track_caller]
    pub(crate) fn program_file(&self, name: &str) -> String {
        let path = format!("/mnt/home/{USER}/bin/{name}");
        self.sh(&format!(
            "mkdir -p /mnt/home/{USER}/bin; [ -e {path} ] || install -m 755 -o {UID} -g {UID} /run/lab/fixture {path}; chown {UID} /mnt/home/{USER}/bin"
        ));
        path
    }

    /// Creates a control group with the name of a container's scope, as a user with a delegated group can; its path.
    #[track_caller]
    pub(crate) fn faked_group(&self, container: &str) -> String {
        let group = FakedGroup::new(&format!("docker-{}.scope", self.inspect(container, "{{.Id}}")));
        let path = group.0.display().to_string();
        self.groups.lock().unwrap_or_else(|e| panic!("{e}")).push(group);
        path
    }

    /// Runs a container of the attacker with a copy of the fixture named `program` as its first process, with a title and the arguments of
    /// [`Program::rogue`]. [`Scene::tools`] must have installed the program.
    #[track_caller]
    pub(crate) fn hostile(&self, name: &str, options: &[&str], program: &str, title: &str, protocol: &str, args: &[&str]) {
        let (variable, shown) = rogue(name, protocol, args);
        // not a variable of the container, which later processes in it would inherit
        let script = format!("export {}; exec -a \"$0\" /tools/{program} \"$@\"", quoted(&variable));
        let run = ["-v", "/mnt/tools:/tools", "machine:1", "bash", "-c", &script, title];
        self.run(name, &[SHARED, MACHINE, options, &run, &shown].concat());
        self.until_runs(name, program);
    }

    /// Waits until a container has a process of this name.
    #[track_caller]
    pub(crate) fn until_runs(&self, container: &str, program: &str) {
        eventually(START_TIMEOUT, &format!("{program} runs in {container}"), || {
            let running = self.inspect(container, "{{.State.Running}}") == "true";
            assert!(running, "{}", String::from_utf8_lossy(&self.try_docker(&["logs", container]).stderr));
            let top = self.try_docker(&["top", container, "-eo", "pid,comm"]);
            String::from_utf8_lossy(&top.stdout).lines().any(|l| l.ends_with(&format!(" {program}"))).then_some(())
        });
    }

    /// Builds the image `machine:1`, and installs the fixture under these names in `/mnt/tools`, which is `/tools` in containers of attackers.
    /// User 1000 owns all of it.
    #[track_caller]
    pub(crate) fn tools(&self, programs: &[&str]) {
        self.image("machine:1", Rootfs::Machine, &[]);
        self.sh("mkdir -p /mnt/tools; chown 1000 /mnt/tools");
        for program in programs {
            self.sh(&format!("install -m 755 -o 1000 /run/lab/fixture /mnt/tools/{program}"));
        }
    }

    /// Moves a process into groups of this name below its own, in every hierarchy that allows it.
    #[track_caller]
    pub(crate) fn nested_group(&self, pid: &str, name: &str) {
        self.sh(&format!(
            "moved=''; while IFS=: read -r _ controllers path; do
                for root in /sys/fs/cgroup/$controllers /sys/fs/cgroup/${{controllers#name=}} /sys/fs/cgroup/unified /sys/fs/cgroup; do
                    [ -e $root$path/cgroup.procs ] || continue
                    mkdir $root$path/{name} && echo {pid} > $root$path/{name}/cgroup.procs && moved=yes; break
                done
            done < /proc/{pid}/cgroup 2> /dev/null; [ $moved ]"
        ));
    }

    /// Starts the real nginx as the attacker, with a configuration of the attacker, on port 8080.
    #[track_caller]
    pub(crate) fn user_nginx(&self) {
        self.user_nginx_with("");
    }

    /// [`Scene::user_nginx`] with additional directives in its `http` block.
    #[track_caller]
    pub(crate) fn user_nginx_with(&self, http: &str) {
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|t| format!("{t}_temp_path /mnt/home/{USER}/{t}; ")).concat();
        self.write(
            &format!("/mnt/home/{USER}/nginx.conf"),
            &format!(
                "pid /mnt/home/{USER}/nginx.pid; error_log /mnt/home/{USER}/error.log;\nevents {{}}\n\
                 http {{ access_log off; {temporary} server {{ listen 8080; }} {http} }}\n"
            ),
        );
        self.as_user(&format!("nginx -c /mnt/home/{USER}/nginx.conf"));
        self.until_listening(8080);
    }

    /// Starts a shell script of the attacker.
    #[track_caller]
    pub(crate) fn spawn_as_user(&self, script: &str) {
        let user = UID.to_string();
        self.host.spawn("setpriv", &["--reuid", &user, "--regid", &user, "--clear-groups", "bash", "-c", script]);
    }

    /// Waits until a port is open in the host's network.
    #[track_caller]
    pub(crate) fn until_listening(&self, port: u16) {
        eventually(START_TIMEOUT, &format!("port {port} is open"), || {
            self.sh("ss -Hltn").contains(&format!(":{port} ")).then_some(())
        });
    }

    /// Waits until a port is open in the network namespace of a program.
    #[track_caller]
    pub(crate) fn until_listening_in(&self, program: &str, port: u16) {
        self.wait_for(&format!("nsenter --target $(pgrep -o -x {program}) --net ss -Hltn sport = :{port} | grep -q ."));
    }

    /// Starts a Redis that listens on port 6379 of all IPv6 addresses only.
    #[track_caller]
    pub(crate) fn redis_v6_only(&self, options: &[&str]) {
        self.host.spawn("redis-server", &[&["--port", "6379", "--bind", "::", "--save", ""], options].concat());
        self.wait_for("redis-cli -h ::1 ping | grep -qE \"NOAUTH|PONG\"");
    }

    /// Waits up to two minutes until a script of root succeeds.
    #[track_caller]
    pub(crate) fn wait_long(&self, condition: &str, script: &str) {
        let succeeds = || self.command("bash").args(["-c", script]).output().is_ok_and(|o| o.status.success());
        eventually(120, condition, || succeeds().then_some(()));
    }

    /// Waits until the Redis in a container replies, with or without a login.
    #[track_caller]
    pub(crate) fn until_answers(&self, container: &str) {
        eventually(START_TIMEOUT, "redis replies", || {
            let reply = self.try_docker(&["exec", container, "redis-cli", "ping"]);
            let reply = String::from_utf8_lossy(&reply.stdout).into_owned();
            ["PONG", "NOAUTH"].iter().any(|word| reply.contains(word)).then_some(())
        });
    }

    /// Waits until a script of root succeeds.
    #[track_caller]
    pub(crate) fn wait_for(&self, script: &str) {
        let succeeds = || self.command("bash").args(["-c", script]).output().is_ok_and(|o| o.status.success());
        eventually(START_TIMEOUT, script, || succeeds().then_some(()));
    }

    /// All data that attackers recorded.
    pub(crate) fn loot(&self) -> String {
        self.sh("cat /mnt/loot/* 2> /dev/null || true")
    }

    /// The privileges that programs recorded when they ran.
    fn marks(&self) -> Vec<Mark> {
        let host_namespace = self.sh("readlink /proc/1/ns/user");
        let names = self.sh("ls /mnt/marks");
        let mark = |name: &str| {
            let file = PathBuf::from(format!("/proc/{}/root/mnt/marks/{name}", self.init()));
            let uid = fs::metadata(&file).unwrap_or_else(|e| panic!("{name}: {e}")).uid();
            let text = String::from_utf8_lossy(&fs::read(&file).unwrap_or_default()).into_owned();
            let field = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)).map(str::trim).unwrap_or_default().to_owned();
            let elsewhere = !field("UserNamespace:").is_empty() && field("UserNamespace:") != host_namespace;
            let capabilities = if elsewhere { 0 } else { u64::from_str_radix(&field("CapEff:"), 16).unwrap_or(0) };
            Mark { uid, capabilities, argv: field("argv:"), first: text.lines().next().unwrap_or_default().to_owned() }
        };
        names.lines().map(mark).collect()
    }

    /// Diagnoses the host with these runbooks, and verifies the conditions of every run ([`Scene::problems`]).
    #[track_caller]
    pub(crate) fn run_verified(&self, runbooks: &[&str]) -> Run {
        self.run_verified_with(&[&["diagnose"], runbooks].concat(), &[])
    }

    /// [`Scene::run_verified`] with another command and environment variables of root.
    #[track_caller]
    pub(crate) fn run_verified_with(&self, words: &[&str], environment: &[(&str, &str)]) -> Run {
        self.run_verified_under(&[], words, environment)
    }

    /// [`Scene::run_verified_with`] with a prefix of the command line.
    #[track_caller]
    pub(crate) fn run_verified_under(&self, prefix: &[&str], words: &[&str], environment: &[(&str, &str)]) -> Run {
        let recording = self.path("recording.json").display().to_string();
        let words = [words, &["-vv", "--format", "json", "--record", &recording]].concat();
        let mut command = self.opsctl_command(prefix, &words);
        let run = self.read(command.envs(environment.iter().copied()));
        let problems = self.problems(&[&run]);
        assert!(problems.is_empty(), "{}\nthe run: exit {}\n{}", problems.join("\n"), run.code, summary(&run));
        run
    }

    /// Data and privileges that an attacker gained; empty on success.
    pub(crate) fn problems(&self, runs: &[&Run]) -> Vec<String> {
        let forms = forms(&self.secret);
        let leak = |location: &str, text: &str| {
            let at = forms.iter().find_map(|form| text.find(form))?;
            let context = &text.as_bytes()[at.saturating_sub(200)..text.len().min(at + 100)];
            Some(format!("the secret is in {location}: …{}…", String::from_utf8_lossy(context)))
        };
        let mut problems = Vec::new();
        for run in runs {
            problems.extend(leak("the output", &run.stdout));
            problems.extend(leak("the messages", &run.stderr));
        }
        for file in files(&self.path("state")).into_iter().chain([self.path("recording.json")]) {
            let content = fs::read(&file).unwrap_or_default();
            problems.extend(leak(&file.display().to_string(), &String::from_utf8_lossy(&content)));
        }
        problems.extend(leak("the records of the attacker", &self.loot()));
        for mark in &self.marks() {
            problems.extend(leak("the arguments of a program", &mark.argv));
            // root of a container has the capabilities that the engine grants
            let allowed = if mark.uid == 0 { DEFAULT_CAPABILITIES } else { 0 };
            if !self.own_rights.contains(&mark.uid) || mark.capabilities & !allowed != 0 {
                let Mark { uid, capabilities, argv, first } = mark;
                problems.push(format!(
                    "a program of the attacker ran as uid {uid} with capabilities {capabilities:x}: {argv} {first}"
                ));
            }
        }
        problems
    }

    /// Asserts that no attacker received a login, not even an invalid one.
    #[track_caller]
    pub(crate) fn no_login_received(&self) {
        let loot = self.loot();
        let login = loot.lines().find(|l| l.contains("LOGIN "));
        assert!(login.is_none(), "the attacker received a login: {login:?}");
    }
}

/// The rows with a target that contains a text.
pub(crate) fn rows<'a>(run: &'a Run, target: &'a str) -> impl Iterator<Item = &'a CheckRow> {
    run.report().checks.iter().filter(move |c| c.target.contains(target))
}

/// Promise 5: a server of an unexpected user is unknown, with the user as the reason; there is no other verdict and no fix.
#[track_caller]
pub(crate) fn belongs_to(run: &Run, target: &str, user: &str) {
    let of_user = |row: &CheckRow| row.reason.as_ref().is_some_and(|r| r.contains(&format!("belongs to user {user}")));
    let reported = rows(run, target).any(|row| row.verdict == "unknown" && of_user(row));
    assert!(reported, "{target} is not unknown because it belongs to user {user}: {}", summary(run));
    let judged = rows(run, target).find(|row| !matches!(row.verdict.as_str(), "unknown" | "skip"));
    assert!(judged.is_none(), "{target} was examined: {judged:?}");
    let offered = run.report().fixes.iter().find(|o| o.subject.contains(target));
    assert!(offered.is_none(), "a fix of {target} is offered: {offered:?}");
}

/// [`belongs_to`] the attacker, by name or uid.
#[track_caller]
pub(crate) fn belongs_to_attacker(run: &Run, target: &str) {
    let by_uid = rows(run, target).any(|row| row.reason.as_ref().is_some_and(|r| r.contains(&format!("belongs to user {UID}"))));
    belongs_to(run, target, if by_uid { "4711" } else { USER });
}

/// Asserts that a target was examined fully: no check is unknown, and at least these checks are ok.
#[track_caller]
pub(crate) fn examined(run: &Run, target: &str, checks: &[&str]) {
    for check in checks {
        let row = rows(run, target).find(|row| row.check == *check);
        assert!(row.is_some_and(|row| row.verdict == "ok"), "{check} {target} is not ok: {row:?}\n{}", summary(run));
    }
    let unknown = rows(run, target).find(|row| row.verdict == "unknown");
    assert!(unknown.is_none(), "{target} was not examined fully: {unknown:?}");
}

/// All rows and findings, for a failed assertion.
pub(crate) fn summary(run: &Run) -> String {
    if run.code < 0 || !run.stdout.starts_with('{') {
        return format!("{}{}", run.stdout, run.stderr);
    }
    let report = run.report();
    let rows = report.checks.iter().filter(|c| c.verdict != "ok" && c.verdict != "skip");
    let rows = rows.map(|c| format!("{} {} {}: {}", c.verdict, c.check, c.target, c.reason.as_deref().unwrap_or_default()));
    let findings = report.findings.iter().map(|f| format!("{} {} {}: {}", f.severity, f.code, f.subject, f.message));
    rows.chain(findings).collect::<Vec<_>>().join("\n")
}

/// A record of one execution of a program.
struct Mark {
    /// Uid on the host.
    uid: u32,
    /// Effective capabilities on the host.
    capabilities: u64,
    /// Arguments.
    argv: String,
    /// The first line of the record.
    first: String,
}

/// A program of the attacker, not yet started.
pub(crate) struct Program<'a> {
    scene: &'a Scene,
    name: &'a str,
    title: Option<String>,
    environment: String,
    group: Option<String>,
    unshare: &'a str,
    before: String,
}

impl<'a> Program<'a> {
    /// The first argument, which is the process title.
    pub(crate) fn title(self, title: &str) -> Self {
        Self { title: Some(title.to_owned()), ..self }
    }

    /// Adds an environment variable.
    pub(crate) fn env(self, variable: &str) -> Self {
        Self { environment: format!("{} {}", self.environment, quoted(variable)), ..self }
    }

    /// Starts the program in a control group.
    pub(crate) fn group(self, group: &str) -> Self {
        Self { group: Some(group.to_owned()), ..self }
    }

    /// Starts the program in new namespaces, with these options of `unshare`.
    pub(crate) fn unshare(self, options: &'a str) -> Self {
        Self { unshare: options, ..self }
    }

    /// Runs a shell script of the attacker first, in the same namespaces.
    pub(crate) fn before(self, script: &str) -> Self {
        Self { before: script.to_owned(), ..self }
    }

    /// Starts the program as a server of the attacker (`ROGUE` of the fixture), which records in `/mnt/loot/NAME.log`. Arguments after `--` are
    /// visible on its command line.
    #[track_caller]
    pub(crate) fn rogue(self, protocol: &str, args: &[&str]) {
        let (variable, shown) = rogue(self.name, protocol, args);
        self.env(&variable).start(&shown);
    }

    /// Starts the program with these arguments.
    #[track_caller]
    pub(crate) fn start(self, args: &[&str]) {
        let file = self.scene.program_file(self.name);
        let exec =
            format!("{}; exec -a \"$0\" {} \"$@\"", if self.before.is_empty() { ":" } else { &self.before }, quoted(&file));
        let unshare = if self.unshare.is_empty() { String::new() } else { format!("unshare {}", self.unshare) };
        let join = self.group.map(|g| format!("echo $$ > {}/cgroup.procs;", quoted(&g))).unwrap_or_default();
        let script = format!(
            "{join} exec setpriv --reuid {UID} --regid {UID} --clear-groups env {} {unshare} bash -c {} \"$0\" \"$@\"",
            self.environment,
            quoted(&exec)
        );
        let title = self.title.unwrap_or(file);
        self.scene.spawn("bash", &[&["-c", &script, &title], args].concat());
    }
}

/// A control group with the path of a container's scope.
struct FakedGroup(PathBuf);

impl FakedGroup {
    #[track_caller]
    fn new(name: &str) -> Self {
        let mut random = [0; 6];
        fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut random)).unwrap_or_else(|e| panic!("urandom: {e}"));
        let own = random.iter().fold("opsctl-lab-".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        // version 1 with one hierarchy per controller, hybrid, or version 2
        let roots = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
        let root = roots.into_iter().find(|r| r.join("cgroup.procs").exists()).unwrap_or_else(|| panic!("no control groups"));
        let path = root.join(own).join(name);
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self(path)
    }
}

impl Drop for FakedGroup {
    fn drop(&mut self) {
        for group in self.0.ancestors().take(2) {
            let _ = fs::remove_dir(group);
        }
    }
}

/// Encodings of a secret of letters and digits: plain (equal to percent-encoded), base64 at each of three alignments, hex.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned(), secret.bytes().fold(String::new(), |t, b| t + &format!("{b:02x}"))];
    for skipped in 0..3 {
        forms.push(base64(&secret.as_bytes()[skipped..]));
    }
    forms
}

/// Base64 of the whole groups of three bytes.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks_exact(3) {
        let n = u32::from(group[0]) << 16 | u32::from(group[1]) << 8 | u32::from(group[2]);
        for shift in [18, 12, 6, 0] {
            out.push(char::from(DIGITS[(n >> shift & 63) as usize]));
        }
    }
    out
}

/// The variable that makes the fixture a server of an attacker, and its visible command-line arguments.
pub(crate) fn rogue<'a>(name: &str, protocol: &str, args: &[&'a str]) -> (String, Vec<&'a str>) {
    let end = args.iter().position(|a| *a == "--").unwrap_or(args.len());
    let (own, shown) = args.split_at(end);
    let log = format!("/mnt/loot/{name}.log");
    (format!("ROGUE={}", [&[protocol, "--log", &log], own].concat().join("\n")), shown.iter().skip(1).copied().collect())
}

/// One word of a shell script.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// All files below a directory.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
        if entry.path().is_dir() { found.extend(files(&entry.path())) } else { found.push(entry.path()) }
    }
    found
}
