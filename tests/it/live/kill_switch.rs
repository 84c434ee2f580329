//! `/etc/opsctl/no-fixes`: while it exists, opsctl checks and reports, but applies no fix. And the rate limits of fixes.

use serde_json::{Value, json};

use crate::lab::{Host, Machine, Rootfs, eventually};

const SWITCH: &str = "/etc/opsctl/no-fixes";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A host with its own `/etc` and a stopped container `web`, which stays up when it is started while `/mnt/ctl/die` does not
/// exist.
fn with_container_down() -> Option<Host> {
    let host = Host::start()?;
    host.with_own_etc();
    host.image("app:1", Rootfs::Shell, &[]);
    host.sh("mkdir /mnt/ctl; touch /mnt/ctl/die");
    let dies = "while [ ! -e /ctl/die ]; do sleep 0.1; done; exit 3";
    let options = ["--restart", "on-failure:1", "--stop-timeout", "1", "-v", "/mnt/ctl:/ctl"];
    host.run("web", &[&options[..], &["app:1", "sh", "-c", dies]].concat());
    until_down(&host, "web");
    host.sh("rm /mnt/ctl/die");
    Some(host)
}

#[track_caller]
fn until_down(host: &Host, name: &str) {
    host.until(name, "{{.State.Status}} {{.RestartCount}}", "exited 1");
}

#[track_caller]
fn is_down(host: &Host) -> bool {
    host.inspect("web", "{{.State.Status}}") == "exited"
}

#[test]
fn kill_switch_stops_fix_yes_and_is_named() {
    let Some(host) = with_container_down() else { return };
    for set in ["touch SWITCH", "mkdir SWITCH", "ln -s /nonexistent SWITCH"] {
        host.sh(&set.replace("SWITCH", SWITCH));
        let run = host.fix("container.start", "web", &[]);
        assert!(run.code == 15 && run.stdout.contains(SWITCH), "{set}: {} {}", run.code, run.stdout);
        assert!(is_down(&host), "{set}");
        host.sh(&format!("rm -rf {SWITCH}"));
    }
    // the healthy counterpart: without the file the same fix is applied
    assert_eq!(host.fix("container.start", "web", &[]).code, 0);
}

#[test]
fn kill_switch_is_in_reports() {
    let Some(host) = with_container_down() else { return };
    host.sh(&format!("touch {SWITCH}"));
    let run = host.run_runbooks(&["container"]);
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let notes = report["notes"].to_string();
    assert!(notes.contains("fixes are switched off by /etc/opsctl/no-fixes since 20"), "{notes}");
    assert!(host.opsctl(&["fix"]).stdout.contains(SWITCH));
    assert!(host.opsctl(&["report", "--always"]).stdout.contains(SWITCH));
    host.sh(&format!("rm {SWITCH}"));
    assert!(!host.run_runbooks(&["container"]).stdout.contains(SWITCH));
}

#[test]
fn kill_switch_set_at_any_moment_before_the_action_stops_it() {
    let Some(host) = with_container_down() else { return };
    for failpoint in ["before-recheck", "after-confirm", "before-intent", "after-intent"] {
        let run = host.fix_paused(failpoint, &["container.start", "web"], || _ = host.sh(&format!("touch {SWITCH}")));
        assert!(run.code == 15 && run.stdout.contains(SWITCH), "{failpoint}: {} {}", run.code, run.stdout);
        assert!(is_down(&host), "{failpoint}");
        host.sh(&format!("rm {SWITCH}"));
    }
    // a journalled intent without an action is not an interrupted fix
    assert!(!host.run_runbooks(&["container"]).stdout.contains("was interrupted"));
    assert_eq!(host.opsctl(&["audit", "verify"]).code, 0);
}

#[test]
fn kill_switch_does_not_stop_undo() {
    let Some(host) = with_container_down() else { return };
    assert_eq!(host.fix("container.start", "web", &[]).code, 0);
    host.sh(&format!("touch {SWITCH}"));
    let run = host.opsctl(&["undo", "1", "--yes"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(is_down(&host));
}

#[test]
fn kill_switch_stops_listen() {
    let Some(host) = with_container_down() else { return };
    let answers = host.hook(9001);
    let token = host.secret_file("token", TOKEN);
    host.configure(&format!(
        "[policy]\nallow = [\"container.start\"]\n[listen]\ntoken_file = \"{}\"\n\
         [[delivery]]\nto = \"http://127.0.0.1:9001/\"\nshape = \"json\"\nwhen = [\"alert\"]\n",
        token.display()
    ));
    host.listen();
    host.sh(&format!("touch {SWITCH}"));
    let curl = format!("curl -s -H 'Authorization: Bearer {TOKEN}'");
    let post = |at: &str| {
        let alert = json!([{"labels": {"alertname": "ContainerDown", "name": "web"}, "startsAt": at}]);
        host.sh(&format!("{curl} -d '{alert}' http://127.0.0.1:9797/alerts"))
    };
    let answer = |n: usize| -> Value {
        let path = answers.join(format!("{n:05}.json"));
        eventually(120, "the report arrives", || serde_json::from_slice(&std::fs::read(&path).ok()?).ok())
    };
    assert!(post("2026-11-21T10:00:00Z").contains("\"fixes_switched_off\":\"fixes are switched off by /etc/opsctl/no-fixes"));
    let report = answer(1);
    assert!(report["fixes_switched_off"].as_str().is_some_and(|why| why.contains(SWITCH)), "{report}");
    let applied = &report["answers"][0]["applied"][0];
    assert_eq!((applied["fix"].as_str(), applied["exit"].as_u64()), (Some("container.start"), Some(15)), "{report}");
    assert!(is_down(&host));
    let metrics = || host.sh(&format!("{curl} http://127.0.0.1:9797/metrics"));
    assert!(metrics().contains("\nopsctl_listen_fixes_switched_off 1\n"), "{}", metrics());
    // fixes are applied again after its removal, without a restart
    host.sh(&format!("rm {SWITCH}"));
    assert!(!post("2026-11-21T10:00:01Z").contains("fixes_switched_off"));
    let report = answer(2);
    assert_eq!(report["answers"][0]["applied"][0]["exit"], 0, "{report}");
    assert!(report.get("fixes_switched_off").is_none() && !is_down(&host), "{report}");
    assert!(metrics().contains("\nopsctl_listen_fixes_switched_off 0\n"));
    host.stop_listening();
}

#[test]
fn kill_switch_stops_bootstrap_apply() {
    let Some(machine) = Machine::boot() else { return };
    machine.sh(&format!("sed -i '/machine/d' /etc/hosts 2> /dev/null || sed '/machine/d' /etc/hosts > /tmp/h && cat /tmp/h > /etc/hosts; mkdir -p /etc/opsctl; touch {SWITCH}"));
    let run = machine.opsctl(&["bootstrap", "host", "--apply", "--wait", "1s", "--format", "json"]);
    assert!(run.stderr.contains(SWITCH) && !run.stderr.contains("applied"), "{}", run.stderr);
    assert_eq!(machine.sh("grep -c '^127.0.1.1 machine$' /etc/hosts || true"), "0");
    machine.sh(&format!("rm {SWITCH}"));
    let run = machine.opsctl(&["bootstrap", "host", "--apply", "--wait", "1s", "--format", "json"]);
    assert_eq!(machine.sh("grep -c '^127.0.1.1 machine$' /etc/hosts || true"), "1", "{}", run.stderr);
}

#[test]
fn renamed_container_does_not_reset_the_rate_limit() {
    let Some(host) = with_container_down() else { return };
    host.configure("[policy]\nmax_fixes_per_hour = 2\n");
    let mut name = "web".to_owned();
    for n in 1..=3 {
        let run = host.fix("container.start", &name, &[]);
        assert_eq!(run.code, if n < 3 { 0 } else { 14 }, "{n}: {}{}", run.stdout, run.stderr);
        if n < 3 {
            host.sh("touch /mnt/ctl/die");
            until_down(&host, &name);
            host.sh("rm /mnt/ctl/die");
            let new = format!("renamed-{n}");
            host.docker(&["rename", &name, &new]);
            name = new;
        }
    }
    // another container has its own limit
    host.sh("touch /mnt/ctl/die");
    let options = ["--restart", "on-failure:1", "-v", "/mnt/ctl:/ctl"];
    host.run("other", &[&options[..], &["app:1", "sh", "-c", "while [ ! -e /ctl/die ]; do sleep 0.1; done; exit 3"]].concat());
    until_down(&host, "other");
    host.sh("rm /mnt/ctl/die");
    assert_eq!(host.fix("container.start", "other", &[]).code, 0);
}
