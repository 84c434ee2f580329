//! Promise 14 and output files of root: reports, recordings, metrics. Only root can read them, and no other user can redirect them.

use std::time::{Duration, Instant};

use crate::lab::Host;

use super::user::{HOME, UID, as_user, host, opsctl_in, output_of, write};

/// Runs one cheap check with `--output`; its exit code and output.
#[track_caller]
fn report_to(host: &Host, file: &str) -> (i32, String) {
    let began = Instant::now();
    let run = host.opsctl(&["diagnose", "disk.space", "--fail-on", "never", "--output", &format!("json={file}")]);
    assert!(began.elapsed() < Duration::from_secs(20), "{file} blocked the run: {:?}", began.elapsed());
    (run.code, output_of(&run))
}

#[track_caller]
fn assert_refused(host: &Host, file: &str, words: &str) {
    let (code, output) = report_to(host, file);
    assert!(code != 0 && output.contains(words), "{file}: {output}");
}

#[track_caller]
fn assert_written(host: &Host, file: &str) {
    let (code, output) = report_to(host, file);
    assert_eq!(code, 0, "{file}: {output}");
    assert!(host.sh(&format!("cat {file}")).contains("schema_version"), "{file}");
}

/// The block device of a filesystem of the host.
fn device(host: &Host) -> String {
    host.disk("/srv/disk", 8, "");
    host.sh("findmnt -no SOURCE /srv/disk")
}

fn sum(host: &Host, device: &str) -> String {
    host.sh(&format!("sync; head -c 65536 {device} | sha256sum"))
}

#[test]
fn link_to_block_device_is_not_overwritten() {
    let Some(host) = host() else { return };
    let device = device(&host);
    let before = sum(&host, &device);
    as_user(&host, &format!("ln -s {device} {HOME}/report.json; ln -s {device} /mnt/report.json"));
    assert_refused(&host, "/mnt/report.json", "is a symbolic link");
    assert_refused(&host, &format!("{HOME}/report.json"), "belongs to user 4711");
    assert_refused(&host, &device, "is a device");
    host.sh(&format!("ln -s {device} /srv/report.json; rm /mnt/report.json; mknod /srv/node b $(stat -c '0x%t 0x%T' {device})"));
    assert_refused(&host, "/srv/report.json", "is a symbolic link");
    assert_refused(&host, "/srv/node", "is a device");
    assert_eq!(sum(&host, &device), before);
    assert_written(&host, "/mnt/report.json");
}

#[test]
fn fifo_does_not_hold_the_run() {
    let Some(host) = host() else { return };
    as_user(&host, &format!("mkfifo /mnt/report.json {HOME}/report.json"));
    host.sh("mkfifo /srv/report.json");
    assert_refused(&host, "/mnt/report.json", "is a FIFO");
    assert_refused(&host, "/srv/report.json", "is a FIFO");
    assert_refused(&host, &format!("{HOME}/report.json"), "belongs to user 4711");
    for (name, of) in [("record", "/mnt/report.json"), ("record", "/srv/report.json")] {
        let run = host.opsctl(&[name, of, "disk"]);
        assert!(run.code != 0 && run.stderr.contains("is a FIFO"), "{}", output_of(&run));
    }
    host.sh("rm /srv/report.json");
    assert_written(&host, "/srv/report.json");
}

#[test]
fn directory_of_another_user_is_refused_at_every_level() {
    let Some(host) = host() else { return };
    host.sh(&format!(
        "mkdir -p {HOME}/a/b /srv/group/a /srv/a/b; chown root: {HOME}/a {HOME}/a/b; chgrp {UID} /srv/group; chmod 775 /srv/group"
    ));
    assert_refused(
        &host,
        &format!("{HOME}/report.json"),
        &format!("{HOME} belongs to user 4711 (mode 755): write to a directory owned by root"),
    );
    assert_refused(&host, &format!("{HOME}/a/b/report.json"), &format!("{HOME} belongs to user 4711"));
    assert_refused(&host, "/srv/group/report.json", "/srv/group can be written by others (mode 775)");
    assert_refused(&host, "/srv/group/a/report.json", "/srv/group can be written by others (mode 775)");
    // through a symbolic link, and in the current directory
    host.sh(&format!("ln -s {HOME}/a /srv/link"));
    assert_refused(&host, "/srv/link/b/report.json", "belongs to user 4711");
    let line = format!("cd {HOME} && exec /run/lab/opsctl diagnose disk.space --fail-on never --output json=report.json");
    let run = host.read(host.command("bash").args(["-c", &line]));
    assert!(run.code == 77 && run.stderr.contains("belongs to user 4711"), "{}", output_of(&run));
    assert_eq!(as_user(&host, &format!("find {HOME} -name report.json | wc -l")), "0");
    assert_written(&host, "/srv/a/b/report.json");
}

#[test]
fn link_of_another_user_is_not_followed() {
    let Some(host) = host() else { return };
    host.sh("mkdir -m 755 /srv/victim /srv/own");
    as_user(&host, "ln -s /srv/victim /mnt/reports");
    assert_refused(&host, "/mnt/reports/report.json", "/mnt/reports is a symbolic link of user 4711");
    assert_eq!(host.sh("ls /srv/victim"), "");
    host.sh("ln -s own /srv/link");
    assert_written(&host, "/srv/link/report.json");
}

#[test]
fn file_of_another_user_in_shared_directory_is_not_written() {
    let Some(host) = host() else { return };
    as_user(&host, "echo mine > /mnt/report.json; exec 9< /mnt/report.json");
    assert_refused(&host, "/mnt/report.json", "report.json belongs to user 4711");
    assert_eq!(host.sh("cat /mnt/report.json; rm /mnt/report.json"), "mine");
    // a new file, then a file owned by root
    assert_written(&host, "/mnt/report.json");
    assert_written(&host, "/mnt/report.json");
    assert_eq!(host.sh("stat -c '%a %u' /mnt/report.json"), "600 0");
}

#[test]
fn hard_link_is_replaced_and_its_target_unchanged() {
    let Some(host) = host() else { return };
    write(&host, "/mnt/precious", "644", "precious");
    // possible for a user without fs.protected_hardlinks
    host.sh("ln /mnt/precious /mnt/report.json");
    assert_written(&host, "/mnt/report.json");
    assert_eq!(host.sh("cat /mnt/precious"), "precious");
}

#[test]
fn directory_swapped_for_a_link_is_not_followed() {
    let Some(host) = host() else { return };
    host.sh(&format!("mkdir -m 755 /srv/victim; mkdir {HOME}/metrics; chown {UID} {HOME}/metrics"));
    host.spawn(
        "setpriv",
        &[
            &format!("--reuid={UID}"),
            &format!("--regid={UID}"),
            "--clear-groups",
            "bash",
            "-c",
            &format!("cd {HOME}; while :; do mv metrics m; ln -s /srv/victim metrics; rm metrics; mv m metrics; done"),
        ],
    );
    // metrics may be written to a directory of another user: only with metrics is this one opened
    host.configure(&format!("[report]\ntextfile = \"{HOME}/metrics/opsctl.prom\"\n"));
    for _ in 0..20 {
        host.opsctl(&["report", "disk.space"]);
    }
    assert_eq!(host.sh("ls -A /srv/victim"), "");
}

#[test]
fn metrics_are_written_to_the_directory_of_the_collector() {
    let Some(host) = host() else { return };
    // as in Debian's packages: the parent directory is owned by user prometheus
    let make_directories = |owner: u32| {
        format!(
            "mkdir -p /srv/prometheus/node-exporter; chown {UID} /srv/prometheus; chown {owner} /srv/prometheus/node-exporter"
        )
    };
    let file = "/srv/prometheus/node-exporter/opsctl.prom";
    for owner in [0, UID] {
        host.sh(&make_directories(owner));
        host.configure(&format!("[report]\ntextfile = \"{file}\"\n"));
        let run = host.opsctl(&["report", "disk.space"]);
        assert_eq!(run.stderr, "", "{}", output_of(&run));
        assert!(as_user(&host, &format!("cat {file}")).contains("opsctl_verdict"));
        assert_eq!(host.sh(&format!("stat -c '%a %u' {file}; ls -A /srv/prometheus/node-exporter")), "644 0\nopsctl.prom");
        // the same on the command line
        let output = format!("prometheus={file}");
        assert_eq!(host.opsctl(&["diagnose", "disk.space", "--fail-on", "never", "--output", &output]).code, 0);
    }
    // the user creates links in it
    host.sh("mkdir -m 755 /srv/victim; touch /srv/victim/opsctl.prom");
    as_user(&host, &format!("rm -f {file}; ln -s /srv/victim/opsctl.prom {file}"));
    let run = host.opsctl(&["report", "disk.space"]);
    assert!(run.stderr.contains("opsctl.prom is a symbolic link"), "{}", output_of(&run));
    as_user(&host, "cd /srv/prometheus; rm node-exporter/opsctl.prom; rmdir node-exporter; ln -s /srv/victim node-exporter");
    let run = host.opsctl(&["report", "disk.space"]);
    assert!(run.stderr.contains("node-exporter is a symbolic link of user 4711"), "{}", output_of(&run));
    assert_eq!(host.sh("stat -c '%s' /srv/victim/opsctl.prom"), "0");
    // the exception for metrics does not apply to reports
    as_user(&host, "rm /srv/prometheus/node-exporter; mkdir /srv/prometheus/node-exporter");
    assert_refused(&host, "/srv/prometheus/node-exporter/report.json", "belongs to user 4711");
}

#[test]
fn standard_streams_are_written_and_not_reopened() {
    let Some(host) = host() else { return };
    let run = host.opsctl(&[
        "diagnose",
        "disk.space",
        "--fail-on",
        "never",
        "--quiet",
        "--output",
        "jsonl=/dev/stdout",
        "--output",
        "json=/dev/null",
    ]);
    assert!(run.code == 0 && run.stdout.contains("\"type\":\"run\""), "{}", output_of(&run));
    // output is appended: a reopened file would be written from its start
    host.sh("echo first > /srv/log; /run/lab/opsctl diagnose disk.space --fail-on never --quiet --output jsonl=/dev/stdout >> /srv/log");
    assert!(host.sh("cat /srv/log").starts_with("first\n"));
    for device in ["/dev/fd/1", "/proc/self/fd/1", "/dev/../dev/null", "/dev/zero"] {
        let (code, output) = report_to(&host, device);
        assert_ne!(code, 0, "{device}: {output}");
    }
}

#[test]
fn generated_files_are_not_written_to_a_directory_of_another_user() {
    let Some(host) = host() else { return };
    for args in [
        &["generate", "man", "--dir", "/home/mallory/man"][..],
        &["config", "init", "/home/mallory/config.toml"],
        &["bootstrap", "disk.space", "--wait", "1ms", "--fail-on", "never", "--log-dir", "/home/mallory/log"],
        &["record", "/home/mallory/r.json", "disk"],
        &["diagnose", "disk", "--record", "/home/mallory/r.json"],
    ] {
        let run = host.opsctl(args);
        assert!(run.stderr.contains("/home/mallory belongs to user 4711"), "{args:?}: {}", output_of(&run));
    }
    assert_eq!(host.sh(&format!("ls -A {HOME}")), "");
    for args in [
        &["generate", "man", "--dir", "/srv/new/man"][..],
        &["config", "init", "/srv/etc/config.toml"],
        &["bootstrap", "disk.space", "--wait", "1ms", "--fail-on", "never", "--log-dir", "/srv/log"],
        &["record", "/srv/r.json", "disk"],
    ] {
        let run = host.opsctl(args);
        assert_eq!((run.code, run.stderr.contains("belongs to")), (0, false), "{args:?}: {}", output_of(&run));
    }
    assert_eq!(
        host.sh(
            "stat -c '%a' /srv/new/man/opsctl.1 /srv/etc/config.toml /srv/log/bootstrap.json /srv/log/bootstrap.log /srv/r.json"
        ),
        "644\n600\n600\n600\n600"
    );
}

/// A runbook with a fix, so that a run writes the journal.
const RUNBOOK: &str = "[runbook]\nname = \"shop\"\ntitle = \"The shop\"\n[[check]]\nname = \"flag\"\ntitle = \"The maintenance is over\"\n\
    file = { path = \"/srv/maintenance\", exists = false }\n[check.fix]\nname = \"open\"\ntitle = \"end the maintenance\"\n\
    argv = [\"mv\", \"/srv/maintenance\", \"/srv/aside\"]\nrisk = \"R1\"\n";

#[test]
fn run_without_umask_creates_no_file_that_others_can_read() {
    let Some(host) = host() else { return };
    write(&host, "/srv/etc/runbooks.d/shop.toml", "600", RUNBOOK);
    write(
        &host,
        "/srv/etc/config.toml",
        "600",
        "[[delivery]]\nto = \"file:/srv/out/report.html\"\nwhen = [\"always\"]\n\
         [[delivery]]\nto = \"smtp://127.0.0.1:1\"\nmail = [\"ops@example.org\"]\nfrom = \"opsctl@example.org\"\nwhen = [\"always\"]\n",
    );
    host.sh("mkdir -m 700 /srv/out; touch /srv/maintenance; touch -d '1 hour ago' /srv/before");
    let outputs = ["table", "json", "jsonl", "markdown", "html", "junit", "tap", "nagios"];
    let outputs = outputs.map(|f| format!("--output {f}=/srv/out/r.{f}")).join(" ");
    let state = "/srv/state/opsctl";
    let runs = [
        format!("diagnose {outputs} --record /srv/out/d.json"),
        "report --always".to_owned(),
        "record /srv/out/recording.json".to_owned(),
        "fix shop.open shop --yes".to_owned(),
        "waive disk.space --for 1h --reason test".to_owned(),
        "note deploy shop 1.2".to_owned(),
        "bootstrap shop --wait 1ms --log-dir /srv/out/boot".to_owned(),
        "config init /srv/out/config.toml".to_owned(),
    ];
    for run in &runs {
        // checked after each run: a later run could correct modes of an earlier one
        let open_to_others = host.sh(&format!(
            "umask 000; OPSCTL_CONFIG=/srv/etc/config.toml OPSCTL_STATE_DIR={state} /run/lab/opsctl {run} > /dev/null || [ $? -lt 4 ]
            find $(ls -d /srv/out {state} /run/opsctl.lock 2> /dev/null) \\( -type f -o -type d \\) -perm /077 -printf '%m %p\\n'"
        ));
        assert_eq!(open_to_others, "", "{run}");
    }
    let created = host.sh(&format!("find /srv/out {state} -newer /srv/before | sort"));
    for part in [
        "r.json",
        "d.json",
        "recording.json",
        "report.html",
        "journal.jsonl",
        "state.db",
        "waivers.json",
        "spool",
        "bootstrap.json",
    ] {
        assert!(created.contains(part), "{part} is missing in\n{created}");
    }
}

#[test]
fn reports_have_the_configured_mode() {
    let Some(host) = host() else { return };
    write(&host, "/srv/etc/config.toml", "600", "[report]\nfile_mode = \"0640\"\n");
    host.sh(&format!("mkdir /srv/adm; chgrp {UID} /srv/adm; chmod 2750 /srv/adm"));
    let environment = [("OPSCTL_CONFIG", "/srv/etc/config.toml")];
    let run =
        opsctl_in(&host, &environment, &["diagnose", "disk.space", "--fail-on", "never", "--output", "json=/srv/adm/r.json"]);
    assert_eq!(run.code, 0, "{}", output_of(&run));
    assert_eq!(host.sh("stat -c '%a %g' /srv/adm/r.json"), format!("640 {UID}"));
    // a recording stays readable by root only
    opsctl_in(&host, &environment, &["record", "/srv/adm/recording.json", "disk"]).exits(0);
    assert_eq!(host.sh("stat -c '%a' /srv/adm/recording.json"), "600");
}

#[test]
fn unprivileged_user_writes_to_its_own_directories() {
    let Some(host) = host() else { return };
    let user = format!("--reuid={UID}");
    let as_user = ["setpriv", &user, "--clear-groups"];
    let run = host.read(
        host.opsctl_command(&as_user, &["diagnose", "disk.space", "--fail-on", "never", "--output", "json=/home/mallory/r.json"])
            .env("OPSCTL_STATE_DIR", "/home/mallory/state"),
    );
    assert_eq!(run.code, 0, "{}", output_of(&run));
    assert_eq!(host.sh("stat -c '%a %u' /home/mallory/r.json"), format!("600 {UID}"));
}
