//! The Debian package from installation to purge, under a real systemd; the rules under a real promtool.

mod ansible;
mod static_binary;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::{Machine, installed};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const MAILBOX: &str = include_str!("../../../lab/mailbox.py");

fn packaging(path: &str) -> PathBuf {
    Path::new(ROOT).join("packaging").join(path)
}

#[track_caller]
fn output_of(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}

/// The package with the binary under test, built by `packaging/build-deb` once for all tests of a run.
fn package() -> Option<PathBuf> {
    if !installed(&["cargo-deb", "dpkg-deb", "dpkg-shlibdeps", "strip"]) {
        return None;
    }
    // nextest sets the id of its run for all processes; the tests of cargo share one process
    let run = std::env::var("NEXTEST_RUN_ID").unwrap_or_else(|_| std::process::id().to_string());
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("package");
    fs::create_dir_all(&directory).unwrap();
    let lock = fs::File::create(directory.join("lock")).unwrap();
    lock.lock().unwrap();
    let deb = directory.join(format!("{run}.deb"));
    if !deb.exists() {
        for old in
            fs::read_dir(&directory).unwrap().map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "deb"))
        {
            fs::remove_file(old).unwrap();
        }
        let new = directory.join("new.deb");
        let script = packaging("build-deb");
        output_of(Command::new(script).args(["--fast", "--binary", env!("CARGO_BIN_EXE_opsctl"), "--output"]).arg(&new));
        fs::rename(new, &deb).unwrap();
    }
    Some(deb)
}

/// Files below `/` that neither the machine itself, its logs, the package manager nor services create.
fn files(machine: &Machine) -> BTreeSet<String> {
    // without files that change by themselves
    let all = machine.sh(
        "find / -xdev \\( -path /proc -o -path /sys -o -path /var/cache -o -path /var/lib/dpkg -o -path /var/log/journal \
         -o -path /var/lib/systemd/random-seed -o -path /var/lib/systemd/deb-systemd-helper-masked -o -path /var/tmp -o -path /root \
         -o -path /var/log/dpkg.log -o -path /var/log/alternatives.log \\) -prune -o -print",
    );
    all.lines().map(str::to_owned).collect()
}

/// The user data of `packaging/cloud-init`, with the package from a file instead of a server.
#[test]
fn user_data_installs_the_package_on_the_first_boot() {
    let Some(deb) = package() else { return };
    let text = fs::read_to_string(packaging("cloud-init/user-data.yml")).unwrap();
    let sum = output_of(Command::new("sha256sum").arg(&deb));
    let fetch = "curl -fsSL --retry 5 -o /run/opsctl.deb \"$url\"";
    assert!(text.contains(fetch), "{text}");
    let text = text.replace(fetch, "until [ -e /root/complete ]; do sleep 0.1; done; cp /root/opsctl.deb /run/opsctl.deb");
    let text = text.replace(&"0".repeat(64), sum.split(' ').next().unwrap());
    let Some(machine) = Machine::prepared(&[
        ("/var/lib/cloud/seed/nocloud/meta-data", "instance-id: i-1\nlocal-hostname: machine\n"),
        ("/var/lib/cloud/seed/nocloud/user-data", &text),
        ("/etc/cloud/cloud.cfg.d/99-lab.cfg", "ssh_genkeytypes: []\nssh_deletekeys: false\n"),
    ]) else {
        return;
    };
    machine.wait_for("systemd answers", "systemctl list-units > /dev/null");
    machine.sh("rm /usr/local/bin/opsctl");
    machine.put(&deb, "/root/opsctl.deb");
    machine.sh("touch /root/complete");
    machine.wait_for("cloud-init is done", "cloud-init status --wait > /dev/null; true");
    assert_eq!(machine.sh("cloud-init status"), "status: done", "{}", machine.sh("cat /var/log/cloud-init-output.log"));
    machine.wait_for("the first check has finished", "[ -e /var/lib/opsctl/bootstrap.json ]");
    let enabled = "systemctl is-enabled opsctl-report.timer opsctl-digest@week.timer opsctl-bootstrap.service";
    assert_eq!(machine.sh(enabled), "enabled\nenabled\nenabled");
    // missing provisioning is applied, in the sandbox of the unit
    assert_eq!(
        machine.sh("grep -c '^127.0.1.1 machine$' /etc/hosts"),
        "1",
        "{}",
        machine.sh("cat /var/lib/opsctl/bootstrap.log")
    );
    assert_eq!(machine.sh("stat -c '%a %u' /etc/opsctl/listen-token"), "600 0");
    machine.sh(
        "opsctl config check; grep -q ops@example.org /etc/opsctl/config.toml; ! systemctl is-failed opsctl-bootstrap.service",
    );
    machine.sh("cp /var/lib/cloud/instance/user-data.txt /root/; cloud-init schema --config-file /root/user-data.txt");
}

fn new_files(machine: &Machine, before: &BTreeSet<String>) -> Vec<String> {
    files(machine).difference(before).cloned().collect()
}

/// A machine without opsctl, and the package file on it, not installed.
fn clean_machine() -> Option<(Machine, BTreeSet<String>)> {
    let deb = package()?;
    let machine = Machine::boot()?;
    machine.sh("rm /usr/local/bin/opsctl; mkdir -p /var/lib/prometheus/node-exporter");
    machine.put(&deb, "/root/opsctl.deb");
    let before = files(&machine);
    Some((machine, before))
}

const METRICS: &str = "/var/lib/prometheus/node-exporter/opsctl.prom";

const CONFIG: &str = r#"
[report]
textfile = "/var/lib/prometheus/node-exporter/opsctl.prom"

[[delivery]]
to = "smtp://127.0.0.1:25"
from = "opsctl@machine"
mail = ["ops@example.org"]
when = ["always"]
"#;

#[test]
fn package_installs_reports_by_timer_and_purges_without_a_trace() {
    let Some((machine, before)) = clean_machine() else { return };
    machine.sh("dpkg -i /root/opsctl.deb");
    assert_eq!(
        machine.sh("command -v opsctl; stat -c '%a %U:%G' /etc/opsctl/config.toml /var/lib/opsctl /var/log/opsctl"),
        "/usr/bin/opsctl\n640 root:root\n700 root:root\n750 root:adm"
    );
    assert_eq!(machine.sh("stat -c '%a %U:%G %s' /etc/opsctl/listen-token"), "600 root:root 65");
    machine.sh("opsctl config check; dpkg --verify opsctl; test -s /usr/share/man/man1/opsctl-diagnose.1.gz; test -s /usr/share/man/man7/opsctl-disk.7.gz");
    // only units that change nothing are enabled by default
    assert_eq!(
        machine.sh("systemctl is-enabled opsctl-report.timer; systemctl is-active opsctl-report.timer"),
        "enabled\nactive"
    );
    let off =
        [("opsctl-listen.socket", "disabled"), ("opsctl-bootstrap.service", "disabled"), ("opsctl-digest@day.timer", "disabled")];
    // enabling the service enables its socket
    for (unit, state) in off.into_iter().chain([("opsctl-listen.service", "indirect")]) {
        assert_eq!(machine.sh(&format!("systemctl is-enabled {unit} || true")), state, "{unit}");
    }
    machine.sh("systemd-analyze verify --man=no /usr/lib/systemd/system/opsctl-*");

    // the timer fires at once instead of within a quarter of an hour, and the mail arrives
    machine.write("/root/mailbox.py", MAILBOX);
    machine.sh("systemd-run -q --unit=mailbox python3 /root/mailbox.py 25 /root/mail");
    machine.wait_for("the mailbox listens", "ss -Hltn | grep -q 127.0.0.1:25");
    machine.write("/etc/opsctl/config.toml", CONFIG);
    machine.sh("opsctl config check");
    let soon = "[Timer]\nOnCalendar=\nOnActiveSec=1s\nRandomizedDelaySec=0\nAccuracySec=1ms\n";
    machine.write("/etc/systemd/system/opsctl-report.timer.d/lab.conf", soon);
    machine.sh("systemctl daemon-reload");
    machine.sh("systemctl restart opsctl-report.timer");
    machine.wait_for("the report has arrived", "[ -e /root/mail/1.eml ]");
    machine.wait_for("the run has finished", "[ \"$(systemctl show -P ActiveState opsctl-report.service)\" = inactive ]");
    let mail = machine.sh("cat /root/mail/1.eml");
    assert!(mail.to_lowercase().contains("rcpt to:<ops@example.org>") && mail.contains("machine"), "{mail}");
    // the unit succeeds also with findings on the machine
    assert_eq!(
        machine.sh("systemctl show -P Result opsctl-report.service"),
        "success",
        "{}",
        machine.sh("journalctl -u opsctl-report")
    );
    assert_eq!(machine.sh(&format!("stat -c %a /var/lib/opsctl {METRICS}")), "700\n644");
    assert!(machine.sh(&format!("cat {METRICS}")).contains("opsctl_last_run_timestamp_seconds "));
    // the first connection starts the listener, which reports readiness; it requires the token from the package
    machine.sh("systemctl start opsctl-listen.socket; systemctl is-active opsctl-listen.service && exit 1; exec 3<> /dev/tcp/127.0.0.1/9797
        printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3; timeout 20 head -n 1 <&3 | grep 401");
    machine.sh("exec 3<> /dev/tcp/127.0.0.1/9797
        printf 'GET /healthz HTTP/1.0\\r\\nAuthorization: Bearer %s\\r\\n\\r\\n' $(cat /etc/opsctl/listen-token) >&3; timeout 20 head -n 1 <&3 | grep 200");
    // its other socket is for root and for a group; the file mode denies access to unprivileged users
    assert_eq!(machine.sh("stat -c '%a %U:%G' /run/opsctl-listen.sock"), "660 root:root");
    let over_socket = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/opsctl-listen.sock'); \
        s.sendall(b'GET /healthz HTTP/1.0\\r\\n\\r\\n'); print(s.recv(99)[9:12].decode())";
    assert_eq!(machine.sh(&format!("python3 -c \"{over_socket}\"")), "200");
    let unprivileged = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    assert!(machine.sh(&format!("{unprivileged} python3 -c \"{over_socket}\" 2>&1 || true")).contains("Permission denied"));
    machine.sh("chmod 666 /run/opsctl-listen.sock");
    assert_eq!(machine.sh(&format!("{unprivileged} python3 -c \"{over_socket}\"")), "401");
    assert_eq!(
        machine.sh("systemctl is-active opsctl-listen.service; systemctl show -P NRestarts opsctl-listen.service"),
        "active\n0"
    );

    // state and configuration remain
    machine.sh("rm -r /etc/systemd/system/opsctl-report.*.d; systemctl daemon-reload; dpkg -r opsctl");
    assert_eq!(machine.sh("ls -l /proc/[0-9]*/exe 2> /dev/null | grep opsctl || true"), "");
    assert_eq!(machine.sh("systemctl list-units --state=active,activating,failed --no-legend 'opsctl*'"), "");
    let left = new_files(&machine, &before);
    let may_stay = ["/etc/opsctl", "/etc/cron.d/opsctl", "/etc/logrotate.d/opsctl", "/var/lib/opsctl", "/var/log/opsctl"];
    // enabled units are configuration of the administrator, as usual in Debian
    let notes = [
        "/var/lib/systemd/deb-systemd-helper-enabled",
        "/var/lib/systemd/timers",
        "/etc/systemd/system/timers.target.wants/opsctl-report.timer",
        "/etc/logrotate.d",
    ];
    let unwanted: Vec<_> = left.iter().filter(|f| !may_stay.iter().chain(&notes).any(|s| f.starts_with(s))).collect();
    assert!(unwanted.is_empty(), "{unwanted:?}");
    assert!(left.iter().any(|f| f == "/etc/opsctl/config.toml") && left.iter().any(|f| f == "/var/lib/opsctl"), "{left:?}");
    // the cron job remains and does nothing
    machine.sh("unshare -m sh -ec \"mount -t tmpfs none /run; $(sed -n 's/^[*][^ ]* [* ]*root //p' /etc/cron.d/opsctl)\"");

    machine.sh("dpkg -P opsctl");
    let left: Vec<_> =
        new_files(&machine, &before).into_iter().filter(|f| !f.ends_with("/timers") && !f.ends_with("-enabled")).collect();
    assert!(left.is_empty() || left == ["/etc/logrotate.d"], "{left:?}");
}

#[test]
fn upgrade_keeps_the_administrators_settings_and_works_without_systemd() {
    let Some((machine, _)) = clean_machine() else { return };
    machine.sh(
        "dpkg -i /root/opsctl.deb; systemctl disable --now -q opsctl-report.timer; systemctl enable -q opsctl-digest@week.timer",
    );
    machine.sh("echo '# mine' >> /etc/opsctl/config.toml; chmod 700 /var/log/opsctl; dpkg -i --force-confold /root/opsctl.deb");
    assert_eq!(machine.sh("systemctl is-enabled opsctl-report.timer opsctl-digest@week.timer || true"), "disabled\nenabled");
    assert_eq!(
        machine
            .sh("systemctl is-active opsctl-report.timer || true; tail -n 1 /etc/opsctl/config.toml; stat -c %a /var/log/opsctl"),
        "inactive\n# mine\n700"
    );
    // removed and reinstalled, it is enabled as before
    machine.sh("systemctl enable -q --now opsctl-report.timer; dpkg -r opsctl; dpkg -i /root/opsctl.deb");
    assert_eq!(
        machine.sh("systemctl is-enabled opsctl-report.timer; systemctl is-active opsctl-report.timer"),
        "enabled\nactive"
    );

    // the same package with another PID 1
    let host = machine.host();
    // the cron job runs there, and does nothing on the machine with systemd
    let job = "sed -n 's/^[*][^ ]* [* ]*root //p' /etc/cron.d/opsctl > /job; ! grep -q '^#' /job; sh /job || [ $? -lt 4 ]; rm /job; ls /var/lib/opsctl | wc -l";
    machine
        .sh(&format!("systemctl stop opsctl-report.timer opsctl-report.service; rm -rf /var/lib/opsctl/*; [ \"$({job})\" = 0 ]"));
    let script = "dpkg -i /opsctl.deb; stat -c %a /var/lib/opsctl; opsctl --version; JOB | grep -qvx 0; dpkg -P opsctl; ls -d /etc/opsctl /var/lib/opsctl /usr/bin/opsctl || true";
    host.docker(&["cp", "machine:/root/opsctl.deb", &host.path("opsctl.deb").display().to_string()]);
    let mount = format!("{}:/opsctl.deb:ro", host.path("opsctl.deb").display());
    let script = script.replace("JOB", &format!("({job})"));
    let output = host.docker(&["run", "--rm", "--network", "none", "-v", &mount, "machine:1", "bash", "-ec", &script]);
    assert!(output.contains("\n700\nopsctl 0."), "{output}");
    assert!(!output.contains("/usr/bin/opsctl"), "{output}");
}

#[test]
fn sandbox_of_the_units_hides_nothing() {
    let Some((machine, _)) = clean_machine() else { return };
    machine.sh("dpkg -i /root/opsctl.deb");
    let summarize = |json: &str| -> BTreeSet<String> {
        let report: serde_json::Value = serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {json}"));
        // unknown and skipped checks, and findings, without values that change from second to second
        let blind = |c: &&serde_json::Value| c["verdict"] == "unknown" || c["verdict"] == "skip";
        let steady = |f: &&serde_json::Value| f["runbook"] != "cpu" && f["runbook"] != "memory";
        let checks = report["checks"].as_array().unwrap();
        let gaps = checks.iter().filter(blind).map(|c| format!("{} {} {}", c["check"], c["target"], c["reason"]));
        let findings =
            report["findings"].as_array().unwrap().iter().filter(steady).map(|f| format!("{} {}", f["code"], f["message"]));
        // ages
        gaps.chain(findings).map(|line| line.replace(|c: char| c.is_ascii_digit(), "")).collect()
    };
    // including a namespace that has to be entered: a server with a private network and garbage responses
    machine.sh("cp /usr/local/bin/fixture /root/redis-server; systemd-run -q --unit=cache -p PrivateNetwork=yes /root/redis-server talk --port 6379 garbage");
    machine.wait_for("the server runs", "[ \"$(cat /proc/$(systemctl show -P MainPID cache)/comm)\" = redis-server ]");
    let free = summarize(&machine.opsctl(&["diagnose", "--format", "json"]).stdout);
    assert!(free.iter().any(|line| line.contains("redis.up")), "{free:#?}");
    for service in ["opsctl-report", "opsctl-digest@", "opsctl-listen", "opsctl-bootstrap"] {
        // the same unit with another program
        machine.sh(&format!(
            "sed -e 's|^ExecStart=.*|ExecStart=/usr/bin/opsctl diagnose --format json --output json=/var/lib/opsctl/look.json|' \
             -e '/^Type=/d; /^WatchdogSec=/d; /^Restart=/d; /^Requires=/d' -e '/^.Service./a Type=oneshot\\nSuccessExitStatus=1 2 3' \
             /usr/lib/systemd/system/{service}.service > /etc/systemd/system/look.service; systemctl daemon-reload; systemctl start look.service"
        ));
        let boxed = summarize(&machine.sh("cat /var/lib/opsctl/look.json; rm /var/lib/opsctl/look.json"));
        let differ: Vec<_> = boxed.symmetric_difference(&free).collect();
        assert!(differ.is_empty(), "{service}: {differ:#?}");
    }
    // the claimed exposure level of the hardening is measured
    for (service, limit) in [("opsctl-report", 60), ("opsctl-digest@day", 60), ("opsctl-listen", 72), ("opsctl-bootstrap", 62)] {
        machine.sh(&format!("systemd-analyze security --no-pager --threshold={limit} {service}.service"));
    }
    // a digest has the same sandbox as a report
    let unit = |name: &str| fs::read_to_string(packaging("systemd").join(name)).unwrap();
    let lines = |name: &str| -> BTreeSet<String> {
        unit(name)
            .lines()
            .filter(|l| !l.starts_with('#') && !l.starts_with("Description=") && !l.starts_with("ExecStart="))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(lines("opsctl-report.service"), lines("opsctl-digest@.service"));
}

/// System calls of probes, other than reading and connecting, that a sandbox could deny; and calls that no probe makes.
const CALLS: &str = r#"
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
setns, setfsuid, openat2 = {"x86_64": (308, 122, 437), "aarch64": (268, 151, 437)}[platform.machine()]
def can(name, call):
    ctypes.set_errno(0)
    call()
    print(name, "yes" if ctypes.get_errno() == 0 else os.strerror(ctypes.get_errno()))
how = (ctypes.c_uint64 * 3)(os.O_RDONLY | os.O_CLOEXEC, 0, 0x10)
can("openat2 in a root", lambda: libc.syscall(openat2, os.open("/", os.O_PATH), b"etc/hostname", ctypes.byref(how), 24))
can("setfsuid", lambda: (libc.syscall(setfsuid, 1), libc.syscall(setfsuid, 0)))
can("enter a network", lambda: libc.syscall(setns, os.open("/proc/1/ns/net", os.O_RDONLY), 0x40000000))
can("enter mounts", lambda: libc.syscall(setns, os.open("/proc/1/ns/mnt", os.O_RDONLY), 0x20000))
can("drop a capability", lambda: libc.prctl(24, 12, 0, 0, 0))
can("a user namespace", lambda: libc.unshare(0x10000000))
"#;

#[test]
fn sandbox_of_the_units_allows_the_calls_of_probes() {
    let Some((machine, _)) = clean_machine() else { return };
    machine.sh("dpkg -i /root/opsctl.deb");
    machine.write("/root/calls.py", CALLS);
    let calls = |service: &str, change: &str| {
        machine.sh(&format!(
            "sed -e 's|^ExecStart=.*|ExecStart=/usr/bin/python3 /root/calls.py|' -e '{change}' \
             -e '/^Type=/d; /^WatchdogSec=/d; /^Restart=/d; /^Requires=/d' -e '/^.Service./a Type=oneshot\\nStandardOutput=truncate:/run/calls' \
             /usr/lib/systemd/system/{service}.service > /etc/systemd/system/calls.service; systemctl daemon-reload; systemctl start calls.service"
        ));
        machine.sh("cat /run/calls")
    };
    for service in ["opsctl-report", "opsctl-digest@", "opsctl-listen", "opsctl-bootstrap"] {
        let results = calls(service, "");
        for allowed in
            ["openat2 in a root yes", "setfsuid yes", "enter a network yes", "enter mounts yes", "drop a capability yes"]
        {
            assert!(results.contains(allowed), "{service}: {results}");
        }
        // a renewal may run in a snap
        assert!(service == "opsctl-listen" || !results.contains("a user namespace yes"), "{service}: {results}");
    }
    // each of these directives is needed
    for (change, refused) in [
        ("s/^RestrictNamespaces=net mnt/RestrictNamespaces=net/", "enter mounts Operation not permitted"),
        ("s/CAP_SYS_CHROOT//", "enter mounts Operation not permitted"),
        ("s/CAP_SETPCAP//", "drop a capability Operation not permitted"),
        ("s/^SystemCallFilter=.*/&\\nSystemCallFilter=~openat2/", "openat2 in a root Operation not permitted"),
    ] {
        let results = calls("opsctl-report", change);
        assert!(results.contains(refused), "{change}: {results}");
    }
}

#[test]
fn lintian_has_no_complaints() {
    if !installed(&["lintian"]) {
        return;
    }
    let Some(deb) = package() else { return };
    let output = output_of(
        Command::new("lintian").args(["--fail-on", "error,warning", "--allow-root", "--tag-display-limit", "0"]).arg(&deb),
    );
    assert!(!output.contains("E: ") && !output.contains("W: "), "{output}");
}

#[test]
fn package_contains_generated_files_and_texts_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let changelog = fs::read_to_string(Path::new(ROOT).join("CHANGELOG.md")).unwrap();
    let newest = changelog.lines().find_map(|l| l.strip_prefix("## [")?.split_once(']').map(|(v, _)| v.to_owned()));
    assert_eq!(newest.as_deref(), Some(version), "CHANGELOG.md begins with the version of Cargo.toml");
    let mut pages = 0;
    for entry in fs::read_dir(packaging("systemd")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        for page in text.lines().filter_map(|l| l.strip_prefix("Documentation=man:")) {
            let file = page.replace('(', ".").replace(')', "");
            assert!(Path::new(ROOT).join("man").join(&file).exists(), "{}: {page}", path.display());
            pages += 1;
        }
    }
    assert!(pages >= 8, "{pages}");
}

#[test]
fn alert_rules_pass_promtool_with_their_tests() {
    if !installed(&["promtool"]) {
        return;
    }
    let directory = packaging("prometheus");
    output_of(Command::new("promtool").current_dir(&directory).args(["check", "rules", "opsctl.rules.yml"]));
    output_of(Command::new("promtool").current_dir(&directory).args([
        "test",
        "rules",
        "opsctl.rules.test.yml",
        "opsctl.rules.long.test.yml",
    ]));
    // every alert has a test
    let rules = fs::read_to_string(directory.join("opsctl.rules.yml")).unwrap();
    let tests =
        ["opsctl.rules.test.yml", "opsctl.rules.long.test.yml"].map(|f| fs::read_to_string(directory.join(f)).unwrap()).concat();
    for alert in rules.lines().filter_map(|l| l.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "{alert}");
    }
}

#[test]
fn dashboard_queries_are_valid_promql() {
    if !installed(&["promtool"]) {
        return;
    }
    let text = fs::read_to_string(packaging("grafana/opsctl.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(
        dashboard["schemaVersion"].as_u64().is_some_and(|v| v >= 30) && dashboard["uid"] == "opsctl" && dashboard["id"].is_null()
    );
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert!(variables.iter().any(|v| v["type"] == "datasource" && v["query"] == "prometheus"));
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut occupied = BTreeSet::new();
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["id"]);
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|k| panel["gridPos"][k].as_u64().unwrap());
        assert!(x + w <= 24, "{}", panel["title"]);
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(occupied.insert(cell), "{} covers another panel", panel["title"]);
        }
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
            let expr = target["expr"].as_str().unwrap();
            let number = rules.len();
            rules.extend([
                "  - record: x:y",
                &number.to_string(),
                "\n    expr: ",
                &serde_json::Value::from(expr).to_string(),
                "\n",
            ]);
        }
    }
    assert!(panels.len() >= 8);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rules.yml");
    fs::write(&file, rules).unwrap();
    output_of(Command::new("promtool").args(["check", "rules"]).arg(file));
}

#[test]
fn logrotate_accepts_its_configuration() {
    if !installed(&["logrotate"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let output = output_of(
        Command::new("logrotate").args(["--debug", "--state"]).arg(dir.path().join("state")).arg(packaging("deb/logrotate")),
    );
    assert!(!output.contains("error"), "{output}");
}
