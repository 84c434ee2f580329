//! The playbooks under a real Ansible, on two machines and an unreachable one.

use std::fs;

use super::{clean_machine, packaging};
use crate::lab::{Machine, installed};

/// Replacement of ssh for Ansible, which executes in a container: the last two arguments are the host and the command.
const SSH: &str = r#"#!/bin/bash
host=${*: -2:1}
[ "$(docker inspect --format '{{.State.Running}}' "$host" 2> /dev/null)" = true ] || { echo "ssh: connect to host $host port 22: No route to host" >&2; exit 255; }
exec docker exec -i "$host" sh -c "${*: -1}"
"#;

/// `ansible-playbook` on the host of the machines, as on a control node.
fn playbook(machine: &Machine, playbook: &str, arguments: &[&str]) -> (bool, String) {
    let host = machine.host();
    let mut command = host.command("ansible-playbook");
    command.args(["-i", &host.path("inventory").display().to_string()]).arg(packaging("ansible").join(playbook));
    command
        .args(["-e", "opsctl_become=false", "-e", &format!("opsctl_reports={}", host.path("reports").display())])
        .args(arguments);
    for (name, file) in [("ANSIBLE_SSH_EXECUTABLE", "ssh"), ("ANSIBLE_HOME", "ansible"), ("ANSIBLE_LOCAL_TEMP", "ansible/tmp")] {
        command.env(name, host.path(file));
    }
    command.env("ANSIBLE_ROLES_PATH", packaging("ansible/roles")).env("LC_ALL", "C.UTF-8").env("ANSIBLE_NOCOLOR", "1");
    command.env("ANSIBLE_SSH_TRANSFER_METHOD", "piped").env("ANSIBLE_SSH_ARGS", "").env("ANSIBLE_RETRIES", "0");
    // fewer round trips
    command
        .env("ANSIBLE_PIPELINING", "1")
        .env("ANSIBLE_PYTHON_INTERPRETER", "/usr/bin/python3")
        .env("HOME", host.path("ansible"));
    let output = command.output().unwrap_or_else(|e| panic!("ansible-playbook: {e}"));
    (output.status.success(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// The line of a host in the recap.
fn recap<'a>(output: &'a str, host: &str) -> &'a str {
    let recap = output.split("PLAY RECAP").nth(1).unwrap_or_else(|| panic!("{output}"));
    recap.lines().find(|l| l.starts_with(host)).unwrap_or_else(|| panic!("{host}: {output}"))
}

#[test]
fn ansible_installs_two_machines_and_summarizes_them() {
    if !installed(&["ansible-playbook"]) {
        return;
    }
    let Some((machine, _)) = clean_machine() else { return };
    let beta = machine.another("beta");
    beta.sh("rm /usr/local/bin/opsctl");
    let host = machine.host();
    let file = |name: &str, text: &str| fs::write(host.path(name), text).unwrap();
    file("ssh", SSH);
    host.sh(&format!("chmod +x {}", host.path("ssh").display()));
    host.docker(&["cp", "machine:/root/opsctl.deb", &host.path("opsctl.deb").display().to_string()]);
    file(
        "variables.json",
        r#"{"opsctl_config": {"run": {"deadline": "20s", "history_days": 7}, "policy": {"allow": ["log.truncate"]},
            "runbooks": {"container": {"expect": ["web"]}, "disk": {"space_warn_percent": 80.5}},
            "owner": [{"match": "lost*", "owner": "Team \"A\" – ä"}, {"match": "*", "owner": "b"}]},
            "opsctl_environment": {"PG_PASSWORD": "a \"b\" \\ $c"}, "opsctl_calendar": "*:0/20", "opsctl_digests": ["week"], "opsctl_listen": true}"#,
    );
    file("shop.toml", "[runbook]\nname = \"shop\"\ntitle = \"The shop\"\n[[check]]\nnam = \"x\"\n");
    file("inventory", "machine\nbeta\n");
    let deb = format!("opsctl_deb={}", host.path("opsctl.deb").display());
    let variables = format!("@{}", host.path("variables.json").display());
    let own = format!(r#"{{"opsctl_site_runbooks": ["{}"]}}"#, packaging("runbooks.d/aletheia.toml").display());
    let install = ["-e", &deb, "-e", &variables, "-e", &own];

    // check mode on machines without opsctl changes nothing
    let (ok, output) = playbook(&machine, "install.yml", &[&install[..], &["--check"]].concat());
    assert!(ok, "{output}");
    assert!(!beta.succeeds("[ -e /var/cache/opsctl ] || [ -e /etc/opsctl ] || command -v opsctl"), "{output}");

    let (ok, output) = playbook(&machine, "install.yml", &install);
    assert!(ok, "{output}");
    for there in [&machine, &beta] {
        assert_eq!(
            there.sh("command -v opsctl; systemctl is-enabled opsctl-report.timer opsctl-digest@week.timer; systemctl is-active opsctl-report.timer"),
            "/usr/bin/opsctl\nenabled\nenabled\nactive"
        );
        assert!(there.sh("systemctl show -P TimersCalendar opsctl-report.timer").contains("*:00/20:00"));
        let config = there
            .sh("opsctl config check; cat /etc/opsctl/config.toml; stat -c %a /etc/opsctl/config.toml /etc/opsctl/environment");
        assert!(config.contains("owner = \"Team \\\"A\\\" – ä\"") && config.ends_with("640\n600"), "{config}");
        assert!(there.sh("opsctl list").contains("aletheia"));
        assert_eq!(there.sh("systemctl is-active opsctl-listen.socket; stat -c %a /etc/opsctl/listen-token"), "active\n600");
        assert_eq!(there.sh(". /etc/opsctl/environment 2> /dev/null; grep -c PG_PASSWORD /etc/opsctl/environment"), "1");
    }
    let (ok, output) = playbook(&machine, "install.yml", &install);
    assert!(ok && ["machine", "beta"].iter().all(|h| recap(&output, h).contains("changed=0")), "{output}");
    // a wrong configuration is never installed
    let (ok, output) =
        playbook(&machine, "install.yml", &["-e", &deb, "-e", r#"{"opsctl_config": {"run": {"dedline": "20s"}}}"#]);
    assert!(!ok && output.contains("dedline"), "{output}");
    beta.sh("opsctl config check; grep -q deadline /etc/opsctl/config.toml");
    // nor is a wrong runbook
    let own = format!(r#"{{"opsctl_site_runbooks": ["{}"]}}"#, host.path("shop.toml").display());
    let (ok, output) = playbook(&machine, "install.yml", &["-e", &deb, "-e", &own]);
    assert!(!ok && output.contains("unknown key `nam`"), "{output}");
    beta.sh("opsctl config check; [ ! -e /etc/opsctl/runbooks.d/shop.toml ]");

    // one has a finding, one has no opsctl, one is unreachable
    beta.unit("broken.service", "[Service]\nExecStart=/nowhere\n[Install]\nWantedBy=multi-user.target");
    beta.sh("systemctl enable -q broken; systemctl start broken || true");
    file("inventory", "machine\nbeta\nbare\nnowhere\n");
    let bare = machine.another("bare");
    bare.sh("rm /usr/local/bin/opsctl");
    let runbooks = r#"{"opsctl_runbooks": ["systemd", "host"]}"#;
    // manual use: a summary, also in check mode; for cron: an exit code too
    for (mode, well) in [("--check", true), ("-eopsctl_fail_on=warn", false)] {
        let (ok, output) = playbook(&machine, "fleet.yml", &["-e", runbooks, mode]);
        assert!(ok == well && output.contains("not well: ") != well, "{output}");
        assert!(["machine", "beta"].iter().all(|h| recap(&output, h).contains("changed=0")), "{output}");
        let summary = fs::read_to_string(host.path("reports/summary.txt")).unwrap();
        let lines = ["4 hosts: 1 warn, 1 ok, 1 unreachable, 1 without a report", "warn     beta", "ok       machine"];
        for line in lines.into_iter().chain(["unreachable nowhere: ", "No route to host", "no report bare: "]) {
            assert!(summary.contains(line) && output.contains(line), "{line}\n{summary}\n{output}");
        }
        assert!(summary.contains("warn systemd.unit-failed on 1 of 4 hosts\n       beta unit:broken.service: "), "{summary}");
        let report: serde_json::Value = serde_json::from_slice(&fs::read(host.path("reports/beta.json")).unwrap()).unwrap();
        assert_eq!((&report["verdict"], &report["schema_version"]), (&"warn".into(), &1.into()));
        assert!(!host.path("reports/nowhere.json").exists());
    }
}
