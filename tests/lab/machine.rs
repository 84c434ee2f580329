//! A separate machine for every test that needs one: systemd as PID 1, in a container of a lab host (recipe H3 of the scenarios).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::OnceLock;

use super::host::{self, Config, Host, PausedFix};
use super::report::Run;
use super::{available, eventually, missing};

/// Time limit for a boot on a busy machine, in seconds.
const BOOT: u64 = 90;

/// Path of the recording of [`Machine::diagnose`], inside.
const RECORDING: &str = "/tmp/recording.json";

/// Name of the first machine of a host.
const NAME: &str = "machine";

/// Runs a program of the host with the host's libraries.
const HOST_PROGRAM: &str = "#!/bin/bash
export LD_LIBRARY_PATH=/opt/lab/lib
exec \"$@\"
";

/// A booted machine. Dropping the last one of a host removes everything.
pub(crate) struct Machine {
    host: Rc<Host>,
    name: String,
}

/// The packed root filesystem; built if it is missing.
fn rootfs() -> Result<&'static Path, &'static str> {
    static ROOTFS: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build = || {
        if let Some(path) = std::env::var_os("OPSCTL_LAB_SYSTEMD") {
            // empty: tests/run failed to build it and has reported the reason
            return if path.is_empty() { Err("needs a Debian with systemd".to_owned()) } else { Ok(path.into()) };
        }
        if which::which("debootstrap").is_err() {
            return Err("needs debootstrap (tests/run installs it)".to_owned());
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/build-systemd");
        let output = Command::new(script).output().map_err(|e| format!("{script}: {e}"))?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(format!("needs a Debian with systemd: {}", stderr.lines().last().unwrap_or(script)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().into())
    };
    ROOTFS.get_or_init(build).as_deref().map_err(String::as_str)
}

/// A disk of an engine that has `machine:1`: built once, beside the packed root filesystem, because an import takes longer than a
/// boot.
fn engine_disk(rootfs: &Path) -> Option<PathBuf> {
    let made = rootfs.with_extension("docker.ext4");
    let path = rootfs.with_extension("docker.lock");
    let lock = std::fs::File::create(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    lock.lock().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let newer = |a: &Path, b: &Path| Some(a.metadata().ok()?.modified().ok()? > b.metadata().ok()?.modified().ok()?);
    if newer(&made, rootfs) != Some(true) {
        let host = Host::with(&Config { docker_disk: 1500, ..Config::default() })?;
        host.sh(&format!("docker import {} machine:1", rootfs.display()));
        host.sh("pkill -TERM -x dockerd; while pgrep -x dockerd > /dev/null; do sleep 0.05; done; umount /var/lib/docker");
        let new = made.with_extension("new");
        host.sh(&format!("cp --sparse=always {} {}", host.path(host::DOCKER_DISK).display(), new.display()));
        std::fs::rename(&new, &made).unwrap_or_else(|e| panic!("{}: {e}", made.display()));
    }
    Some(made)
}

impl Machine {
    /// A booted machine, or `None` (with one line giving the reason) if the lab cannot run.
    pub(crate) fn boot() -> Option<Self> {
        let machine = Self::prepared(&[])?;
        machine.until_up();
        Some(machine)
    }

    /// A booted machine that can run the servers of this machine: its `/usr` is mounted at `/host`, and `/opt/lab/env` runs a
    /// program from it with its libraries.
    pub(crate) fn with_servers() -> Option<Self> {
        let machine = Self::made(&[("/opt/lab/env/*", HOST_PROGRAM)], &["-v", "/usr:/host:ro", "--cgroupns", "private"])?;
        machine.until_up();
        // all libraries except those of libc, which have to be of one version
        machine.sh("mkdir /opt/lab/lib; for l in /host/lib/$(uname -m)-linux-gnu/*.so*; do
            case ${l##*/} in libc.so* | libc-* | libm.so* | ld-* | libpthread* | libdl.so* | librt.so* | libresolv* | libnss* | libutil.so*) ;;
            *) ln -s $l /opt/lab/lib/ ;; esac; done
            for d in postgresql erlang rabbitmq; do [ ! -d /host/lib/$d ] || ln -s /host/lib/$d /usr/lib/$d; done
            for d in postgresql nginx; do [ ! -d /host/share/$d ] || ln -s /host/share/$d /usr/share/$d; done
            for u in redis postgres prometheus rabbitmq; do useradd --system --create-home --home-dir /var/lib/$u $u; done");
        Some(machine)
    }

    fn until_up(&self) {
        self.wait_for(
            "systemd has booted",
            "systemctl is-system-running --wait; systemctl is-system-running | grep -E 'running|degraded'",
        );
    }

    /// Boots another machine on the same host.
    pub(crate) fn another(&self, name: &str) -> Self {
        let machine = Self::start(Rc::clone(&self.host), name, &[], &[]);
        machine.until_up();
        machine
    }

    /// The host it is a container of.
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// A booting machine with these files (path, content) in place before it starts. A path that ends in `/*` marks a program.
    pub(crate) fn prepared(files: &[(&str, &str)]) -> Option<Self> {
        Self::made(files, &[])
    }

    /// [`Machine::prepared`] with more options of `docker create`.
    fn made(files: &[(&str, &str)], options: &[&str]) -> Option<Self> {
        if !available(missing()) {
            return None;
        }
        let disk = match rootfs() {
            Ok(rootfs) => engine_disk(rootfs)?,
            Err(why) => {
                available(Some(why));
                return None;
            }
        };
        let host = Host::with(&Config { docker_from: Some(disk), ..Config::default() })?;
        Some(Self::start(Rc::new(host), NAME, files, options))
    }

    /// Starts a machine from the existing image.
    fn start(host: Rc<Host>, name: &str, files: &[(&str, &str)], own: &[&str]) -> Self {
        let mut options: Vec<&str> = "--stop-signal SIGRTMIN+3 --cap-add SYS_ADMIN --cap-add SYS_PTRACE \
            --cap-add NET_ADMIN --cap-add SYS_NICE --cap-add SYSLOG --security-opt seccomp=unconfined --network none --tmpfs /run --tmpfs /run/lock --tmpfs /tmp \
            -v /sys/fs/cgroup:/sys/fs/cgroup:rw --device /dev/kmsg"
            .split_whitespace()
            .collect();
        // recent versions of systemd require an option on a machine with control groups of version 1
        options.extend(["-e", "SYSTEMD_PROC_CMDLINE=SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"]);
        options.extend(["--name", name, "--hostname", name]);
        options.extend(own);
        host.docker(&[&["create"], &options[..], &["machine:1", "/sbin/init"]].concat());
        // /run is a tmpfs of its own: the binaries are linked where they can be found
        let staged = host.path(&format!("staged-{name}"));
        let put = |path: &str, content: &str| {
            let file = staged.join(path.trim_end_matches("/*").trim_start_matches('/'));
            std::fs::create_dir_all(file.parent().unwrap_or(Path::new("/"))).unwrap_or_else(|e| panic!("{path}: {e}"));
            std::fs::write(&file, content).unwrap_or_else(|e| panic!("{path}: {e}"));
            if path.ends_with("/*") {
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
                std::fs::set_permissions(&file, mode).unwrap_or_else(|e| panic!("{path}: {e}"));
            }
        };
        // dpkg need not sync to disk
        put("/etc/dpkg/dpkg.cfg.d/lab", "force-unsafe-io\n");
        for (path, content) in files {
            put(path, content);
        }
        host.sh(&format!(
            "mkdir -p {0}/usr/local/bin && cp /run/lab/fixture {0}/usr/local/bin/ && cp /run/lab/opsctl {0}/usr/local/bin/ && docker cp {0}/. {name}:/",
            staged.display()
        ));
        host.docker(&["start", name]);
        Self { host, name: name.to_owned() }
    }

    /// Copies a file of this machine into it.
    #[track_caller]
    pub(crate) fn put(&self, file: &Path, to: &str) {
        self.host.docker(&["cp", &file.display().to_string(), &format!("{}:{to}", self.name)]);
    }

    /// Writes a file in it and creates the parent directories.
    #[track_caller]
    pub(crate) fn write(&self, path: &str, content: &str) {
        let file = self.host.path("written");
        std::fs::write(&file, content).unwrap_or_else(|e| panic!("{path}: {e}"));
        self.sh(&format!("mkdir -p \"$(dirname '{path}')\""));
        self.put(&file, path);
    }

    /// A command inside, not yet started.
    fn command(&self, program: &[&str]) -> Command {
        let mut command = self.host.command("docker");
        command.args(["exec", "-e", "LC_ALL=C", "-e", "OPSCTL_STATE_DIR=/var/lib/opsctl", &self.name]).args(program);
        command
    }

    /// Output of a shell script inside, which must succeed.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        self.host.docker(&["exec", "-e", "LC_ALL=C", &self.name, "bash", "-ec", script])
    }

    /// Whether a shell script succeeds inside.
    pub(crate) fn succeeds(&self, script: &str) -> bool {
        self.command(&["bash", "-c", script]).output().is_ok_and(|o| o.status.success())
    }

    /// Waits until a shell script succeeds inside.
    #[track_caller]
    pub(crate) fn wait_for(&self, condition: &str, script: &str) {
        eventually(BOOT, condition, || self.succeeds(script).then_some(()));
    }

    /// Writes a unit and reloads systemd.
    #[track_caller]
    pub(crate) fn unit(&self, name: &str, text: &str) {
        let text = text.replace('\n', "\\n").replace('%', "%%").replace('\'', "'\\''");
        self.sh(&format!("printf '{text}\\n' > /etc/systemd/system/{name}; systemctl daemon-reload"));
    }

    /// Runs opsctl inside and parses its JSON report, if it printed one.
    #[track_caller]
    pub(crate) fn opsctl(&self, args: &[&str]) -> Run {
        self.host.read(&mut self.command(&[&["opsctl"], args].concat()))
    }

    /// `opsctl diagnose` inside.
    #[track_caller]
    pub(crate) fn diagnose(&self, runbooks: &[&str]) -> Run {
        self.opsctl(&[&["diagnose"], runbooks, &["--format", "json", "--record", RECORDING]].concat())
    }

    /// [`Host::leaves`].
    #[track_caller]
    pub(crate) fn leaves(&self, run: &Run, variant: &str) {
        let recorded = self.sh(&format!("cat {RECORDING}"));
        std::fs::write(self.host.path(host::RECORDING), recorded).unwrap_or_else(|e| panic!("recording: {e}"));
        self.host.leaves(run, variant);
    }

    /// `opsctl fix …` without prompts.
    #[track_caller]
    pub(crate) fn fix(&self, fix: &str, subject: &str, more: &[&str]) -> Run {
        self.opsctl(&[&["fix", fix, subject, "--yes"], more].concat()).applying(fix)
    }

    /// [`Host::fix_meanwhile`].
    #[track_caller]
    pub(crate) fn fix_meanwhile(&self, fix: &str, subject: &str, more: &[&str], happens: impl FnOnce()) -> Run {
        let mut command = self.host.command("docker");
        command.args(["exec", "-e", "LC_ALL=C", "-e", "OPSCTL_STATE_DIR=/var/lib/opsctl"]);
        command.args([
            "-e",
            "OPSCTL_FAILPOINT_PAUSE=before-recheck=/run/paused",
            &self.name,
            "opsctl",
            "fix",
            fix,
            subject,
            "--yes",
        ]);
        command.args(more);
        let held = PausedFix { reached: &|| self.succeeds("[ -e /run/paused ]"), go_on: &|| _ = self.sh("rm /run/paused") };
        held.run(command, self.host.baseline(), fix, happens)
    }
}
