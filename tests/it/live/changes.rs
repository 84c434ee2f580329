//! Changes before a failure, on real hosts.

use crate::lab::{Host, Machine, Rootfs, Run};

/// The values of a finding's "changed before".
fn before(run: &Run, finding: &str) -> String {
    let cited = run.finding(finding).evidence.iter().filter(|e| e.label == "changed before");
    cited.map(|e| e.value.as_str()).collect::<Vec<_>>().join("\n")
}

#[test]
fn container_recreated_from_another_image_is_reported_with_its_failure() {
    let Some(host) = Host::start() else { return };
    host.image("shop:1", Rootfs::Scratch, &[]);
    host.docker(&["tag", "shop:1", "shop:2"]);
    host.run("web", &["shop:1", "fixture", "wait-term"]);
    host.run("db", &["shop:1", "fixture", "wait-term"]);
    // healthy: no changes are searched, none is reported
    let well = host.run_runbooks(&["container"]);
    assert!(well.report().changes.is_empty());
    host.sh("docker stop -t 1 web && docker rm web");
    host.opsctl(&["note", "deploy", "shop", "2", "TOKEN=canary-token-1"]).exits(0);
    host.run("web", &["--restart", "on-failure:1", "shop:2", "fixture", "say", "boom", "3"]);
    host.until("web", "{{.State.Status}} {{.RestartCount}}", "exited 1");
    host.opsctl(&["note", "deploy", "something later", "--at", "2026-01-01T00:00:00Z"]).exits(0);

    let run = host.run_runbooks(&["container"]);
    let cited = before(&run, "container.down container:web");
    assert!(cited.contains("before: container:web recreated from image shop:2, before shop:1"), "{cited}");
    assert!(!cited.contains("something later") && !cited.contains("container:db"), "{cited}");
    assert!(cited.lines().count() <= 3, "{cited}");
    let changes: Vec<String> = run.report().changes.iter().map(opsctl_core::model::Change::summary).collect();
    assert!(changes.iter().any(|c| c.starts_with("container:web recreated")), "{changes:?}");

    // the change is in the table, in Markdown, and in the replay of a recording
    let table = host.opsctl(&["container"]).stdout;
    assert!(
        table.contains("Changed before\n") && table.contains("container:web recreated from image shop:2, before shop:1"),
        "{table}"
    );
    host.opsctl(&["record", "/mnt/recording.json", "container"]).exits(0);
    let replayed = host.opsctl(&["diagnose", "--replay", "/mnt/recording.json", "--format", "json"]);
    assert!(before(&replayed, "container.down container:web").contains("recreated from image shop:2, before shop:1"));

    // the timeline: newest last, with and without findings; an old note is outside the window
    let list = host.opsctl(&["changes", "--since", "10m"]);
    list.exits(0);
    let at = |text: &str| list.stdout.find(text).unwrap_or_else(|| panic!("{text}: {}", list.stdout));
    assert!(
        at("container:db  ") < at("stopped") && at("stopped") < at("shop 2") && at("shop 2") < at("recreated"),
        "{}",
        list.stdout
    );
    assert!(list.stdout.contains("[redacted]") && !list.stdout.contains("something later"), "{}", list.stdout);
    let json: serde_json::Value = serde_json::from_str(&host.opsctl(&["changes", "--format", "json"]).stdout).unwrap();
    assert!(json["changes"].as_array().is_some_and(|c| c.iter().any(|c| c["subject"] == "container:web")), "{json}");
    let markdown = host.opsctl(&["changes", "--format", "markdown"]).stdout;
    assert!(markdown.contains("| container | `container:web` | `recreated from image shop:2, before shop:1` |"), "{markdown}");
    for text in [list.stdout, json.to_string(), markdown, host.sh("cat /mnt/recording.json"), table] {
        assert!(!text.contains("canary"), "{text}");
    }

    // changes by opsctl itself, and by the author of a waiver
    host.opsctl(&["waive", "container.down@web", "--for", "1h", "--reason", "new image"]).exits(0);
    let list = host.opsctl(&["changes"]).stdout;
    assert!(list.contains("container.down@web") && list.contains("waived, known issue  by root"), "{list}");
    assert!(host.run_runbooks(&["container"]).report().changes.is_empty(), "waived findings are not open");
    for (args, expected) in [
        (&["note", "Two words", "x"][..], "not one word"),
        (&["note", "deploy"], "TEXT"),
        (&["note", "deploy", "x", "--at", "2200-01-01T00:00:00Z"], "is in the future"),
        (&["changes", "--since", "soon"], "not a length of time"),
    ] {
        let run = host.opsctl(args);
        assert!(run.code == 64 && run.stderr.contains(expected), "{args:?} {} {}", run.code, run.stderr);
    }
}

#[test]
fn changes_of_packages_units_files_and_sudo_on_a_machine() {
    let Some(m) = Machine::boot() else { return };
    // a package with a unit, built and installed with dpkg
    m.write("/root/lab/DEBIAN/control", "Package: lab\nVersion: 2.0\nArchitecture: all\nMaintainer: lab\nDescription: lab\n");
    m.write(
        "/root/lab/usr/lib/systemd/system/lab.service",
        "[Service]\nExecStart=/bin/sh -c '[ ! -e /run/broken ] && sleep 1000'\n[Install]\nWantedBy=multi-user.target\n",
    );
    m.sh("dpkg-deb --root-owner-group -b /root/lab /root/lab.deb && dpkg -i /root/lab.deb && systemctl daemon-reload");
    m.sh("systemctl enable --now lab.service && sleep 1.1");
    m.unit("other.service", "[Service]\nExecStart=/bin/sleep 1000");
    m.sh("systemctl start other.service && mkdir -p /etc/lab && echo x > /etc/lab/lab.conf && sleep 1.1");
    m.sh("systemctl restart other.service");
    m.sh("logger -t sudo 'alice : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/usr/bin/mysql -pcanary-1 --token canary-2'");
    m.sh("sleep 1.1; touch /run/broken; systemctl restart lab.service || true");
    m.wait_for("it failed", "systemctl is-failed lab.service");

    let run = m.diagnose(&["systemd"]);
    let cited = before(&run, "systemd.unit-failed unit:lab.service");
    for expected in ["package:lab installed, version 2.0", "/etc/lab/lab.conf written"] {
        assert!(cited.contains(expected), "{expected}: {cited}");
    }
    assert!(!cited.contains("other.service") && !cited.contains("mysql"), "{cited}");

    let list = m.opsctl(&["changes", "-v"]).stdout;
    for expected in [
        "package:lab",
        "installed, version 2.0",
        "unit:other.service",
        "restarted",
        "/etc/lab/lab.conf",
        "mysql",
        "run as root",
        "by alice",
        "boot",
    ] {
        assert!(list.contains(expected), "{expected}: {list}");
    }
    assert!(!list.contains("canary"), "{list}");
    // missing access to the journal is reported
    let unprivileged = m.sh("setpriv --reuid 65534 --regid 65534 --clear-groups env OPSCTL_STATE_DIR=/tmp/nobody opsctl changes");
    assert!(unprivileged.contains("unavailable: reading log lines from the journal: permission denied"), "{unprivileged}");
}
