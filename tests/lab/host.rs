//! A separate small host for every test: namespaces for mounts, network and processes, with its own `/run`, container engine and
//! disks.
//!
//! Everything in it depends on one process. When that process dies, also because the test was killed, the kernel removes every
//! process, mount, loop device and network of the host with it; only a directory below the temporary directory may remain.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::image::{Rootfs, fixture};
use super::report::Run;
use super::{available, eventually, missing};

/// Time limit for the start of anything in the lab on a busy machine, in seconds.
const UP: u64 = 60;

/// Runbooks of [`Host::diagnose`].
const RUNBOOKS: &[&str] = &["container", "healthcheck", "disk"];

/// Mount options of disks: written data need not survive a power cut, so no test waits for the disk of the machine.
const LOOP: &str = "loop,barrier=0";

/// The file of the disk below `/var/lib/docker`.
pub(super) const DOCKER_DISK: &str = "var-lib-docker.ext4";

/// File name of the recording that [`Host::run_runbooks`] writes.
pub(super) const RECORDING: &str = "recording.json";

/// A host. Dropping it removes everything.
pub(crate) struct Host {
    holder: Child,
    /// Its first process, by its PID on this machine.
    init: String,
    /// Its files on this machine, under the same path inside.
    dir: tempfile::TempDir,
    /// Findings on the machine itself (its own disks) from before the test; they are never counted.
    baseline: BTreeSet<String>,
}

/// Options of a host.
pub(crate) struct Config {
    /// Size of the disk that holds `/var/lib/docker`, in MiB.
    pub(crate) docker_disk: u32,
    /// `daemon.json`.
    pub(crate) daemon: &'static str,
    /// An image of that disk to copy, with data on it.
    pub(crate) docker_from: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self { docker_disk: 512, daemon: "{}", docker_from: None }
    }
}

impl Host {
    /// A host with an engine, or `None` (with one line giving the reason) if the lab cannot run.
    pub(crate) fn start() -> Option<Self> {
        Self::with(&Config::default())
    }

    /// [`Host::start`] with options.
    pub(crate) fn with(config: &Config) -> Option<Self> {
        let host = Self::without_engine()?;
        match &config.docker_from {
            None => host.disk("/var/lib/docker", config.docker_disk, "-m 0"),
            Some(image) => {
                let copy = host.path(DOCKER_DISK);
                // holes stay holes
                host.sh(&format!("cp --sparse=always --reflink=auto {} {}", image.display(), copy.display()));
                host.sh(&format!("mkdir -p /var/lib/docker && mount -o {LOOP} {} /var/lib/docker", copy.display()));
            }
        }
        fs::write(host.path("daemon.json"), config.daemon).unwrap_or_else(|e| panic!("daemon.json: {e}"));
        host.start_engine();
        Some(host)
    }

    /// A host on which Docker is not installed.
    pub(crate) fn without_engine() -> Option<Self> {
        if !available(missing()) {
            return None;
        }
        let dir = tempfile::Builder::new().prefix("opsctl-lab-").tempdir().unwrap_or_else(|e| panic!("temporary directory: {e}"));
        let mut holder = Command::new("setpriv");
        holder.args(["--pdeathsig", "KILL", "unshare", "--mount", "--net", "--pid", "--mount-proc", "--kill-child"]);
        holder.arg(fixture()).arg("wait-term").stdin(Stdio::null()).stdout(Stdio::null());
        let holder = holder.spawn().unwrap_or_else(|e| panic!("setpriv: {e}"));
        let children = format!("/proc/{0}/task/{0}/children", holder.id());
        let init = eventually(UP, "the host has a first process", || {
            let pid = fs::read_to_string(&children).ok()?.trim().to_owned();
            fs::read_to_string(format!("/proc/{pid}/comm")).ok().filter(|comm| comm == "fixture\n").map(|_| pid)
        });
        let mut host = Self { holder, init, dir, baseline: BTreeSet::new() };
        let binaries = [("opsctl", Path::new(env!("CARGO_BIN_EXE_opsctl"))), ("fixture", fixture())];
        // bind mounts, so that any user of the host can run them wherever the build directory is
        host.sh("mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /mnt && mkdir /run/lab && ip link set lo up
            for d in /etc/docker /etc/opsctl /etc/systemd/system /var/log/apt; do [ ! -d $d ] || mount -t tmpfs tmpfs $d; done
            touch /run/lab/dpkg.log; [ ! -e /var/log/dpkg.log ] || mount --bind /run/lab/dpkg.log /var/log/dpkg.log");
        for (name, path) in binaries {
            host.sh(&format!("touch /run/lab/{name} && mount --bind {} /run/lab/{name}", path.display()));
        }
        let before = host.opsctl(&["diagnose", "disk", "--format", "json"]);
        host.baseline = before.findings().map(|f| format!("{} {}", f.code, f.subject)).collect();
        fs::remove_dir_all(host.path("state")).ok();
        Some(host)
    }

    /// Starts or restarts the engine and waits until it responds.
    pub(crate) fn start_engine(&self) {
        let log = self.path("dockerd.log");
        let log = fs::File::options().create(true).append(true).open(&log).unwrap_or_else(|e| panic!("dockerd.log: {e}"));
        let config = self.path("daemon.json").display().to_string();
        self.start_in_background("dockerd", &["--config-file", &config, "--storage-driver", "overlay2"], log.into());
        eventually(UP, "the engine responds (see dockerd.log)", || self.try_docker(&["version"]).status.success().then_some(()));
    }

    /// PID of its first process on this machine.
    pub(crate) fn init(&self) -> &str {
        &self.init
    }

    /// A file of this host that outlives its namespaces' tmpfs.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command inside the host.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init, "--mount", "--net", "--pid", "--", program]);
        command.env_remove("DOCKER_HOST").env("LC_ALL", "C");
        command
    }

    /// Starts a program that runs until the host ends.
    #[track_caller]
    pub(crate) fn spawn(&self, program: &str, args: &[&str]) {
        self.start_in_background(program, args, Stdio::null());
    }

    /// The program becomes a child of the host's first process: `nsenter` would stop with it when it is stopped.
    #[track_caller]
    fn start_in_background(&self, program: &str, args: &[&str], stderr: Stdio) {
        let mut command = self.command("setsid");
        command.args(["--fork", program]).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let status = command.status().unwrap_or_else(|e| panic!("{program}: {e}"));
        assert!(status.success(), "{program}: {status}");
    }

    /// Output of a shell script, which must succeed.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        must_succeed(script, self.command("bash").args(["-ec", script]))
    }

    /// Output of a shell script run by an unprivileged user: no groups, no capabilities. It must succeed.
    #[track_caller]
    pub(crate) fn sh_unprivileged(&self, script: &str) -> String {
        let user = ["--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all", "--no-new-privs"];
        let mut command = self.command("setpriv");
        command.args(user).args(["env", "-i", "PATH=/usr/bin:/bin", "LC_ALL=C", "bash", "-ec", script]).current_dir("/");
        must_succeed(script, &mut command)
    }

    /// Gives the host its own writable copy of `/etc`.
    #[track_caller]
    pub(crate) fn with_own_etc(&self) {
        self.sh("cp -a /etc /run/lab/etc && mount --bind /run/lab/etc /etc && mkdir -p /etc/opsctl");
    }

    /// Output of a docker command, which must succeed.
    #[track_caller]
    pub(crate) fn docker(&self, args: &[&str]) -> String {
        must_succeed(&format!("docker {}", args.join(" ")), self.command("docker").args(args))
    }

    /// A docker command that may fail.
    pub(crate) fn try_docker(&self, args: &[&str]) -> Output {
        self.command("docker").args(args).output().unwrap_or_else(|e| panic!("docker: {e}"))
    }

    /// `docker run -d --name NAME …`.
    #[track_caller]
    pub(crate) fn run(&self, name: &str, args: &[&str]) {
        self.docker(&[&["run", "-d", "--name", name], args].concat());
    }

    /// One value of `docker inspect`, by Go template.
    #[track_caller]
    pub(crate) fn inspect(&self, name: &str, template: &str) -> String {
        self.docker(&["inspect", name, "--format", template])
    }

    /// Waits until a value of `docker inspect` is as expected.
    #[track_caller]
    pub(crate) fn until(&self, name: &str, template: &str, expected: &str) {
        let mut last = String::new();
        let condition = format!("{name} has {template} = {expected}");
        eventually(UP, &condition, || {
            last = self.inspect(name, template);
            (last == expected).then_some(())
        });
    }

    /// Creates an image; `changes` are Dockerfile instructions.
    #[track_caller]
    pub(crate) fn image(&self, name: &str, rootfs: Rootfs, changes: &[&str]) {
        let dir = self.path(&format!("rootfs-{rootfs:?}").replace(['(', ')', '"'], "-"));
        if !dir.exists() {
            rootfs.lay_out(&dir);
        }
        let changes = changes.iter().map(|c| format!("-c '{c}'")).collect::<Vec<_>>().join(" ");
        self.sh(&format!("set -o pipefail; tar -C {} -c . | docker import {changes} - {name}", dir.display()));
    }

    /// Mounts a separate filesystem of `size` MiB at `mountpoint`; `options` are those of mkfs.ext4.
    #[track_caller]
    pub(crate) fn disk(&self, mountpoint: &str, size: u32, options: &str) {
        let image = self.path(&format!("{}.ext4", mountpoint.trim_matches('/').replace('/', "-")));
        let image = image.display();
        self.sh(&format!(
            "truncate -s {size}M {image} && mkfs.ext4 -q {options} {image} && mkdir -p {mountpoint} && mount -o {LOOP} {image} {mountpoint}"
        ));
    }

    /// Fills the filesystem at `mountpoint` until `df` reports at least `percent`.
    #[track_caller]
    pub(crate) fn fill(&self, mountpoint: &str, percent: u8) {
        self.sh(&format!(
            "set -- $(df -B1 --output=used,avail {mountpoint} | tail -1); \
             fallocate -l $(( ($1 + $2) * {percent} / 100 - $1 )) {mountpoint}/ballast; \
             [ $(df --output=pcent {mountpoint} | tail -1 | tr -dc 0-9) -ge {percent} ]"
        ));
    }

    /// Sets the configuration that opsctl reads from this call on.
    pub(crate) fn configure(&self, toml: &str) {
        fs::write(self.path("opsctl.toml"), toml).unwrap_or_else(|e| panic!("opsctl.toml: {e}"));
    }

    /// opsctl on this host, not yet started; `as_user` is a prefix such as `setpriv …`, or empty.
    pub(crate) fn opsctl_command(&self, as_user: &[&str], args: &[&str]) -> Command {
        let line: Vec<&str> = as_user.iter().copied().chain(["/run/lab/opsctl"]).chain(args.iter().copied()).collect();
        let mut command = self.command(line[0]);
        command.args(&line[1..]).env("OPSCTL_STATE_DIR", self.path("state")).env_remove("OPSCTL_CONFIG").stdin(Stdio::null());
        if self.path("opsctl.toml").exists() {
            command.env("OPSCTL_CONFIG", self.path("opsctl.toml"));
        }
        command
    }

    /// Runs opsctl and parses its JSON report, if it printed one.
    #[track_caller]
    pub(crate) fn opsctl(&self, args: &[&str]) -> Run {
        Run::of(&mut self.opsctl_command(&[], args), &self.baseline)
    }

    /// `opsctl diagnose` with the runbooks of every scenario.
    #[track_caller]
    pub(crate) fn diagnose(&self) -> Run {
        self.run_runbooks(RUNBOOKS)
    }

    /// `opsctl diagnose` with these runbooks.
    #[track_caller]
    pub(crate) fn run_runbooks(&self, runbooks: &[&str]) -> Run {
        self.run_recorded(&[&["diagnose"], runbooks].concat())
    }

    /// Runs a command that writes a report, which can then be kept as a recording ([`Host::leaves`]).
    #[track_caller]
    pub(crate) fn run_recorded(&self, words: &[&str]) -> Run {
        let recording = self.path(RECORDING).display().to_string();
        self.opsctl(&[words, &["--format", "json", "--record", &recording]].concat())
    }

    /// [`Host::diagnose`] with a command from [`Host::opsctl_command`] or with another environment.
    #[track_caller]
    pub(crate) fn read(&self, command: &mut Command) -> Run {
        Run::of(command, &self.baseline)
    }

    /// [`Host::read`] of a command that may hang: `None` if it has not exited after `limit`. It is then killed, if possible.
    #[track_caller]
    pub(crate) fn read_within(&self, command: &mut Command, limit: Duration) -> Option<Run> {
        let (stdout, stderr) = (self.path("within.out"), self.path("within.err"));
        let file = |path: &Path| fs::File::create(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // not pipes: a child that outlives the command would keep them open
        command.stdin(Stdio::null()).stdout(file(&stdout)).stderr(file(&stderr));
        let started = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        loop {
            match child.try_wait().unwrap_or_else(|e| panic!("{command:?}: {e}")) {
                Some(status) => {
                    let took = started.elapsed();
                    let read = |path: &Path| fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                    return Some(Run::ended(
                        &Output { status, stdout: read(&stdout), stderr: read(&stderr) },
                        took,
                        &self.baseline,
                    ));
                }
                None if started.elapsed() > limit => {
                    let _ = child.kill();
                    return None;
                }
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Findings on the machine itself from before the test.
    pub(super) fn baseline(&self) -> &BTreeSet<String> {
        &self.baseline
    }

    /// `opsctl fix …` without prompts.
    #[track_caller]
    pub(crate) fn fix(&self, fix: &str, subject: &str, more: &[&str]) -> Run {
        self.opsctl(&[&["fix", fix, subject, "--yes"], more].concat()).applying(fix)
    }

    /// [`Host::fix`] with a change to the object after the plan and before the recheck.
    #[track_caller]
    pub(crate) fn fix_meanwhile(&self, fix: &str, subject: &str, more: &[&str], happens: impl FnOnce()) -> Run {
        self.fix_paused("before-recheck", &[&[fix, subject], more].concat(), happens)
    }

    /// [`Host::fix`], paused at a failpoint (`src/failpoint.rs`) while something else happens.
    #[track_caller]
    pub(crate) fn fix_paused(&self, failpoint: &str, words: &[&str], happens: impl FnOnce()) -> Run {
        self.fix_paused_in(&[], failpoint, words, happens)
    }

    /// [`Host::fix_paused`] with environment variables.
    #[track_caller]
    pub(crate) fn fix_paused_in(
        &self,
        environment: &[(&str, String)],
        failpoint: &str,
        words: &[&str],
        happens: impl FnOnce(),
    ) -> Run {
        let file = self.path("paused");
        let mut command = self.opsctl_command(&[], &[&["fix"], words, &["--yes"]].concat());
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.env("OPSCTL_FAILPOINT_PAUSE", format!("{failpoint}={}", file.display()));
        let held = PausedFix { reached: &|| file.exists(), go_on: &|| _ = fs::remove_file(&file) };
        held.run(command, &self.baseline, words[0], happens)
    }
}

/// A fix that is paused.
pub(super) struct PausedFix<'a> {
    /// Whether it has reached the failpoint.
    pub(super) reached: &'a dyn Fn() -> bool,
    /// Lets it continue.
    pub(super) go_on: &'a dyn Fn(),
}

impl PausedFix<'_> {
    #[track_caller]
    pub(super) fn run(&self, mut command: Command, baseline: &BTreeSet<String>, fix: &str, happens: impl FnOnce()) -> Run {
        let started = Instant::now();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let ended = eventually(UP, "the fix has reached its failpoint", || {
            if (self.reached)() { Some(false) } else { child.try_wait().ok()?.map(|_| true) }
        });
        if !ended {
            happens();
            (self.go_on)();
        }
        let output = child.wait_with_output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let run = Run::ended(&output, started.elapsed(), baseline);
        assert!(!ended, "the fix exited before its failpoint: exit {}\n{}{}", run.code, run.stdout, run.stderr);
        run.applying(fix)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let containers = PathBuf::from(format!("/proc/{}/root/var/lib/docker/containers", self.init));
        let left: Vec<_> = fs::read_dir(&containers).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.path("dockerd.log")).unwrap_or_default();
            // logged at every exec where the host has no control groups of its own
            let tail: Vec<&str> = log.lines().rev().filter(|l| !l.contains("loading cgroup")).take(10).collect();
            eprintln!("last lines of dockerd.log, newest first:\n{}", tail.join("\n"));
        }
        // frozen processes cannot be killed (control groups v1)
        for id in &left {
            let _ = fs::write(Path::new("/sys/fs/cgroup/freezer/docker").join(id).join("freezer.state"), "THAWED");
        }
        // the holder exits after the last process of the host
        let _ = Command::new("kill").arg(&self.init).status();
        let _ = self.holder.wait();
        // control groups are the only part that belongs to the machine
        let root = PathBuf::from("/sys/fs/cgroup");
        let controllers = fs::read_dir(&root).into_iter().flatten().flatten().map(|e| e.path());
        for groups in controllers.chain([root]).map(|c| c.join("docker")) {
            for id in &left {
                remove_groups(&groups.join(id));
            }
        }
    }
}

/// A control group can be removed only after the groups below it; a machine with systemd has created many.
fn remove_groups(directory: &Path) {
    for below in fs::read_dir(directory).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        remove_groups(&below.path());
    }
    let _ = fs::remove_dir(directory);
}

#[track_caller]
fn must_succeed(command_line: &str, command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command_line}: {e}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command_line}: {}\n{stdout}{stderr}", output.status);
    stdout.trim().to_owned()
}
