//! Runs with fewer rights and in ordinary environments: no finding that root on the host does not have, `unknown` for the rest.

use std::collections::BTreeSet;
use std::process::Command;

use opsctl_core::model::Severity;

use crate::lab::{Host, MACHINE, Run, WITHOUT_OPENAT2, eventually, installed};

const USER: &[&str] = &["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];

/// Load and memory of the machine vary between two runs.
const ARGUMENTS: &[&str] = &["diagnose", "--skip", "cpu,memory,time", "--format", "json"];

/// Two servers of the host, three in containers: two of them at the default port of their product, as is the host's own one, which
/// requires a login.
fn host() -> Option<Host> {
    if !installed(&["redis-server"]) {
        return None;
    }
    let host = Host::with_edge()?;
    host.redis(6379, &["--requirepass", "canary-host-login"]);
    host.redis(6391, &[]);
    host.redis_container("cache", &["--restart", "always"]);
    host.redis_container("sessions", &["--restart", "always", "--user", "redis"]);
    let other = ["machine:1", "redis-server", "--port", "6400", "--protected-mode", "no", "--save", ""];
    host.run("queue", &[&["--network", "app", "--restart", "always", "--user", "redis"], MACHINE, &other].concat());
    eventually(60, "redis answers", || {
        host.try_docker(&["exec", "queue", "redis-cli", "-p", "6400", "ping"]).status.success().then_some(())
    });
    Some(host)
}

/// The gid of the engine's socket, as an option of setpriv.
fn group_of_engine(host: &Host) -> Vec<String> {
    let gid = host.sh("stat -L -c %g /var/run/docker.sock");
    ["setpriv", "--reuid", "65534", "--regid", "65534", "--groups", &gid].map(str::to_owned).to_vec()
}

fn run(host: &Host, prefix: &[&str]) -> Run {
    let mut command = host.opsctl_command(prefix, ARGUMENTS);
    host.read(command.env("REDISCLI_AUTH", "canary-host-login").env("HOME", "/nonexistent"))
}

/// A script that changes the environment within mounts of its own, and runs the rest of the command line.
fn within(script: &str) -> Vec<String> {
    let script = format!("{script}; exec \"$@\"");
    ["unshare", "--mount", "bash", "-ec", &script, "environment"].map(str::to_owned).to_vec()
}

fn words(prefix: &[String]) -> Vec<&str> {
    prefix.iter().map(String::as_str).collect()
}

/// Warnings and worse.
fn alarms(run: &Run) -> BTreeSet<String> {
    let alarms = run.findings().filter(|f| f.severity > Severity::Info);
    alarms.map(|f| format!("{} {}", f.code, f.subject)).collect()
}

/// Asserts that a run has no alarm that root on the host does not have.
#[track_caller]
fn assert_no_other_alarm(host: &Host, restricted: &Run) {
    let known = alarms(&run(host, &[]));
    let other: Vec<String> = alarms(restricted).difference(&known).cloned().collect();
    assert!(other.is_empty(), "{other:#?}\n{}", restricted.stdout);
}

/// Asserts that checks are unknown, and the exit code unless an alarm takes precedence.
#[track_caller]
fn assert_incomplete(run: &Run) {
    assert!(run.report().checks.iter().any(|c| c.verdict == "unknown"), "{}", run.stdout);
    if alarms(run).is_empty() {
        run.exits(3);
    }
}

/// Findings and rows of a run.
fn results(run: &Run) -> BTreeSet<String> {
    let rows = run.report().checks.iter().map(|row| format!("{} {} {}", row.check, row.target, row.verdict));
    rows.chain(run.findings().map(|f| format!("{} {} {}", f.code, f.subject, f.severity))).collect()
}

// RHEL 8 (Linux 4.18), Ubuntu 20.04 (Linux 5.4), seccomp profiles before Docker 20.10
#[test]
fn kernel_without_openat2_has_the_same_findings() {
    if !installed(&["strace"]) {
        return;
    }
    let Some(host) = Host::with_edge() else { return };
    host.authority();
    host.certificate("old", "old.test", "-30 day", "-1 day", "key=rsa");
    let site = "server { listen 443 ssl; server_name old.test; ssl_certificate /mnt/ca/old.pem; ssl_certificate_key /mnt/ca/old.key; }\n";
    host.nginx_container("edge", &["-v", "/mnt/ca:/mnt/ca:ro"], site);
    let words = ["diagnose", "nginx", "tls", "container", "--format", "json"];
    let known = host.opsctl(&words);
    assert!(known.findings().any(|f| f.code.clone() == "tls.expiry"), "{}", known.stdout);
    for error in ["ENOSYS", "EPERM"] {
        let inject = format!("--inject=openat2:error={error}");
        let run = host.read(&mut host.opsctl_command(&[WITHOUT_OPENAT2, &[&inject]].concat(), &words));
        assert_eq!(results(&run), results(&known), "{error}");
    }
}

/// Asserts that what is left out is one line of the table, with the way to include it.
#[track_caller]
fn assert_one_line(host: &Host, prefix: &[&str], remedy: &str) {
    let output =
        host.opsctl_command(prefix, &["diagnose", "--skip", "cpu,memory,time", "--format", "markdown"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text.matches(remedy).count(), 1, "{text}");
}

#[test]
fn ordinary_user_gets_no_false_alarm() {
    let Some(host) = host() else { return };
    let run = run(&host, USER);
    assert_no_other_alarm(&host, &run);
    assert_incomplete(&run);
    assert_one_line(&host, USER, "(sudo opsctl");
}

#[test]
fn ordinary_user_sees_the_servers_of_the_host() {
    let Some(host) = host() else { return };
    let run = run(&host, USER);
    run.verdict("redis.up", "redis:127.0.0.1:6379", "ok").verdict("redis.up", "redis:127.0.0.1:6391", "ok");
}

#[test]
fn ordinary_user_without_access_to_the_configuration_uses_defaults() {
    let Some(host) = Host::without_engine() else { return };
    host.with_own_etc();
    host.sh("echo '[policy]' > /etc/opsctl/config.toml; chmod 700 /etc/opsctl");
    let run = run(&host, USER);
    assert!(run.report().notes.iter().any(|n| n.contains("/etc/opsctl/config.toml is not used")), "{}", run.stdout);
}

#[test]
fn member_of_the_group_of_the_engine_gets_no_false_alarm() {
    let Some(host) = host() else { return };
    let prefix = group_of_engine(&host);
    let run = run(&host, &words(&prefix));
    assert_no_other_alarm(&host, &run);
    assert_incomplete(&run);
    for server in ["redis:cache", "redis:sessions", "redis:queue"] {
        run.verdict("redis.up", server, "unknown");
    }
    assert_one_line(&host, &words(&prefix), "(sudo opsctl");
}

#[test]
fn login_of_the_host_is_not_sent_for_a_container() {
    let Some(host) = host() else { return };
    host.sh("redis-cli --no-auth-warning -a canary-host-login config resetstat");
    let prefix = group_of_engine(&host);
    let mut command = host.opsctl_command(&words(&prefix), &["redis", "cache", "--format", "json"]);
    let run = host.read(command.env("REDISCLI_AUTH", "canary-host-login").env("HOME", "/nonexistent"));
    run.verdict("redis.up", "redis:cache", "unknown");
    // the client of this test authenticates, and is the only one
    let calls = host.sh("redis-cli --no-auth-warning -a canary-host-login info commandstats | sed -n 's/^cmdstat_auth:calls=\\([0-9]*\\).*/\\1/p'");
    assert_eq!(calls, "1");
}

#[test]
fn hidden_processes_are_unknown() {
    let Some(host) = host() else { return };
    let hidden = within("mount -t proc -o hidepid=2 proc /proc");
    for user in [USER.iter().map(|w| (*w).to_owned()).collect(), group_of_engine(&host)] {
        let prefix = [hidden.clone(), user].concat();
        let run = run(&host, &words(&prefix));
        assert_no_other_alarm(&host, &run);
        assert_incomplete(&run);
        let gap = run.report().checks.iter().any(|c| c.reason.as_ref().is_some_and(|why| why.contains("hidepid")));
        assert!(gap, "{}", run.stdout);
    }
}

#[test]
fn root_of_a_user_namespace_gets_no_false_alarm() {
    let Some(host) = host() else { return };
    let prefix = [USER, &["unshare", "--user", "--map-root-user"]].concat();
    let run = run(&host, &prefix);
    assert_no_other_alarm(&host, &run);
    assert_incomplete(&run);
}

/// opsctl in a container of the engine with these options.
fn in_container(host: &Host, options: &[&str]) -> Run {
    let own = ["run", "--rm", "--name", "tools", "-v", "/run/lab/opsctl:/opsctl:ro"];
    let line = [&own, MACHINE, options, &["machine:1", "/opsctl"], ARGUMENTS].concat();
    let mut command: Command = host.command("docker");
    host.read(command.args(line))
}

/// Asserts that the host is left out for one reason, and the containers are checked.
#[track_caller]
fn assert_host_left_out(host: &Host, run: &Run) {
    assert_no_other_alarm(host, run);
    assert_incomplete(run);
    let unknown = run.report().checks.iter().filter(|c| c.verdict == "unknown");
    let reasons: BTreeSet<&str> = unknown.filter_map(|c| c.reason.as_deref()).collect();
    assert!(reasons.len() == 1 && reasons.iter().all(|why| why.contains("runs in container tools")), "{reasons:#?}");
    run.verdict("container.state", "container:cache", "ok");
    assert!(run.report().checks.iter().all(|c| !c.target.starts_with("mount:")), "{}", run.stdout);
}

#[test]
fn container_with_the_socket_of_the_engine_is_not_the_host() {
    let Some(host) = host() else { return };
    let run = in_container(&host, &["-v", "/var/run/docker.sock:/var/run/docker.sock"]);
    assert_host_left_out(&host, &run);
}

#[test]
fn container_with_namespaces_of_the_host_is_not_the_host() {
    let Some(host) = host() else { return };
    let socket = ["-v", "/var/run/docker.sock:/var/run/docker.sock"];
    let run = in_container(&host, &[&["--pid", "host", "--network", "host"], &socket[..]].concat());
    assert_host_left_out(&host, &run);
}

/// The options of the image; its state directory is one of the host that does not exist. The capabilities are those of docs/install.md:
/// where the machine itself lacks a capability, runc rejects `--privileged`.
const IMAGE: &[&str] = &[
    "--cap-drop=ALL",
    "--cap-add=DAC_OVERRIDE",
    "--cap-add=DAC_READ_SEARCH",
    "--cap-add=SETUID",
    "--cap-add=SETGID",
    "--cap-add=SYS_PTRACE",
    "--cap-add=SYS_ADMIN",
    "--cap-add=SYS_CHROOT",
    "--cap-add=SETPCAP",
    "--cap-add=KILL",
    "--cap-add=NET_ADMIN",
    "--cap-add=NET_RAW",
    "--cap-add=SYSLOG",
    "--security-opt=seccomp=unconfined",
    "--device-cgroup-rule=c 1:11 r",
    "-e",
    "OPSCTL_IMAGE=1",
    "-e",
    "OPSCTL_STATE_DIR=/mnt/image-state",
];

#[test]
fn image_with_the_processes_of_the_host_is_the_host() {
    let Some(host) = host() else { return };
    let run = in_container(&host, &[IMAGE, &["--pid", "host", "-e", "REDISCLI_AUTH=canary-host-login"]].concat());
    assert_no_other_alarm(&host, &run);
    assert!(
        run.report().checks.iter().all(|c| c.reason.as_ref().is_none_or(|why| !why.contains("runs in container"))),
        "{}",
        run.stdout
    );
    for (check, target) in [("container.state", "container:cache"), ("network.chains", "engine:docker")] {
        run.verdict(check, target, "ok");
    }
    assert!(run.report().checks.iter().any(|c| c.target.starts_with("mount:")), "{}", run.stdout);
    host.sh("[ ! -e /mnt/image-state ]");
}

#[test]
fn image_without_the_processes_of_the_host_is_not_the_host() {
    let Some(host) = host() else { return };
    let socket = ["-v", "/var/run/docker.sock:/var/run/docker.sock"];
    let run = in_container(&host, &[IMAGE, &socket].concat());
    assert_host_left_out(&host, &run);
}

#[test]
fn image_without_rights_on_the_host_states_the_options() {
    let Some(host) = Host::with_edge() else { return };
    let line = ["run", "--rm", "--pid", "host", "-e", "OPSCTL_IMAGE=1", "-v", "/run/lab/opsctl:/opsctl:ro"];
    let output = host.try_docker(&[&line, MACHINE, &["machine:1", "/opsctl", "diagnose"]].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(77) && error.contains("docker run --rm --privileged --pid=host"), "{output:?}");
}

#[test]
fn image_refuses_fixes() {
    let Some(host) = Host::with_edge() else { return };
    let line = [&["run", "--rm", "--pid", "host", "-v", "/run/lab/opsctl:/opsctl:ro"], IMAGE, MACHINE].concat();
    let output = host.try_docker(&[&line[..], &["machine:1", "/opsctl", "fix", "--dry-run"]].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(64) && error.contains("not available in the image"), "{output:?}");
}

#[test]
fn bind_mount_of_a_container_is_not_looked_up_in_another_one() {
    let Some(host) = host() else { return };
    host.sh("mkdir -p /mnt/only-on-the-host");
    host.run(
        "web",
        &[&["-v", "/mnt/only-on-the-host:/data", "--restart", "always"], MACHINE, &["machine:1", "sleep", "1000"]].concat(),
    );
    let run = in_container(&host, &["-v", "/var/run/docker.sock:/var/run/docker.sock"]);
    run.must_not(&["container.bind-broken"]);
    run.verdict("container.storage", "container:web", "unknown");
}

#[test]
fn programs_are_found_without_their_directories_in_the_path() {
    let Some(host) = host() else { return };
    let mut command = host.opsctl_command(&["env", "PATH=/usr/bin:/bin"], ARGUMENTS);
    let run = host.read(command.env("REDISCLI_AUTH", "canary-host-login"));
    assert_no_other_alarm(&host, &run);
    run.verdict("network.chains", "engine:docker", "ok");
}

#[test]
fn missing_packet_filter_programs_are_unknown() {
    let Some(host) = host() else { return };
    let prefix = within("mount -t tmpfs tmpfs /usr/sbin");
    let run = run(&host, &words(&prefix));
    assert_no_other_alarm(&host, &run);
    run.verdict("network.chains", "engine:docker", "unknown");
}

#[test]
fn read_only_root_changes_no_verdict() {
    let Some(host) = host() else { return };
    let prefix = within("mount -o remount,ro,bind /");
    let run = run(&host, &words(&prefix));
    assert_no_other_alarm(&host, &run);
    assert_eq!(run.code, self::run(&host, &[]).code, "{}", run.stdout);
}
