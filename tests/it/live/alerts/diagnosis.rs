//! Alerts in, diagnosis out, and allowed fixes applied by the guard.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::lab::{Host, MACHINE, Rootfs, eventually, installed};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// An Alertmanager payload of one alert.
fn payload(name: &str, labels: &Value, starts_at: &str) -> String {
    let mut labels = labels.clone();
    labels["alertname"] = name.into();
    json!({"version": "4", "status": "firing", "alerts": [{"status": "firing", "labels": labels, "annotations": {}, "startsAt": starts_at}]})
        .to_string()
}

/// A host with `opsctl listen` and a webhook for its reports, and the directory of these reports.
fn listening(policy: &str) -> Option<(Host, std::path::PathBuf)> {
    let host = Host::start()?;
    host.image("app:1", Rootfs::Scratch, &[]);
    host.image("machine:1", Rootfs::Machine, &[]);
    let answers = host.hook(9001);
    let token = host.secret_file("token", TOKEN);
    host.configure(&format!(
        "{policy}\n[listen]\ntoken_file = \"{}\"\n[[delivery]]\nto = \"http://127.0.0.1:9001/\"\nshape = \"json\"\nwhen = [\"alert\"]\n",
        token.display()
    ));
    host.listen();
    Some((host, answers))
}

/// Posts with the token; returns body and status.
#[track_caller]
fn post(host: &Host, body: &str) -> String {
    std::fs::write(host.path("payload.json"), body).unwrap();
    host.sh(&format!(
        "curl -s -w ' %{{http_code}}' -H 'Authorization: Bearer {TOKEN}' --data-binary @{} http://127.0.0.1:9797/alerts",
        host.path("payload.json").display()
    ))
}

/// The n-th report, once it arrives.
#[track_caller]
fn answer(directory: &Path, n: usize) -> Value {
    let path = directory.join(format!("{n:05}.json"));
    eventually(120, "the report arrives", || serde_json::from_slice(&std::fs::read(&path).ok()?).ok())
}

#[test]
fn alert_on_stdin_is_diagnosed() {
    let Some(host) = Host::start() else { return };
    host.image("app:1", Rootfs::Scratch, &[]);
    host.run("broken", &["--restart", "on-failure:1", "app:1", "fixture", "say", "boom", "3"]);
    host.until("broken", "{{.State.Status}} {{.RestartCount}}", "exited 1");
    let respond = |args: &[&str], input: &str| {
        let mut command = host.opsctl_command(&[], &[&["respond"], args].concat());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let alert = payload("ContainerDown", &json!({"name": "broken", "token": "canary-secret-1"}), "2026-11-21T10:00:00Z");
    let (code, text, _) = respond(&[], &alert);
    assert_eq!(code, Some(2));
    for part in ["ContainerDown on", ": crit", "container.down", "docker ps -a"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (_, text, _) = respond(&["--format", "json"], &alert);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (report["answers"][0]["runbooks"][0].as_str(), report["answers"][0]["subjects"][0].as_str()),
        (Some("container"), Some("container:broken"))
    );
    // the state from before the alert is kept
    host.docker(&["start", "broken"]);
    host.docker(&["rm", "-f", "broken"]);
    host.run_runbooks(&["container"]);
    host.run("broken", &["--restart", "on-failure:1", "app:1", "fixture", "say", "boom", "3"]);
    host.until("broken", "{{.State.Status}} {{.RestartCount}}", "exited 1");
    let (_, text, _) = respond(&[], &alert);
    assert!(text.contains("before: "), "{text}");
    let (code, text, _) = respond(&["--format", "markdown"], &payload("NobodyKnows", &json!({}), "2026-11-21T10:00:00Z"));
    assert!(
        code == Some(2) && text.contains("no runbook handles the alert NobodyKnows") && text.contains("container.down"),
        "{text}"
    );
    for (input, expected) in [("", "empty"), ("{", "not JSON"), ("{}", "not one of Alertmanager")] {
        let (code, _, stderr) = respond(&[], input);
        assert!(code == Some(64) && stderr.contains(expected), "{input}: {stderr}");
    }
}

#[test]
fn frozen_container_is_restarted_three_times_then_escalated() {
    let Some((host, answers)) = listening("[policy]\nallow = [\"container.restart\"]\n") else { return };
    // on a signal it writes into a pipe without a reader; a restart repairs it
    let freezes = "while [ ! -e /tmp/freeze ]; do sleep 0.1; done; rm /tmp/freeze; exec yes > >(exec sleep infinity)";
    host.run("meter", &[MACHINE, &["--stop-timeout", "1", "machine:1", "bash", "-c", freezes]].concat());
    let mut started = host.inspect("meter", "{{.State.StartedAt}}");
    for n in 1..=4 {
        let pid = host.inspect("meter", "{{.State.Pid}}");
        host.docker(&["exec", "meter", "touch", "/tmp/freeze"]);
        eventually(60, "it hangs in a write to its pipe", || {
            host.sh(&format!("cat /proc/{pid}/task/*/wchan")).contains("pipe_write").then_some(())
        });
        // the payload of an old Grafana, with the container only in a name
        let alert = json!({"ruleId": n, "ruleName": "MeterSilent", "state": "alerting", "evalMatches": [{"tags": {"container": "meter"}}]});
        assert!(post(&host, &alert.to_string()).contains("\"accepted\":1"));
        let report = answer(&answers, n);
        let applied = &report["answers"][0]["applied"][0];
        assert_eq!(report["answers"][0]["verdict"], "crit", "{report}");
        let exit = if n < 4 { 0 } else { 14 };
        assert_eq!((applied["fix"].as_str(), applied["exit"].as_u64()), (Some("container.restart"), Some(exit)), "{applied}");
        let now = host.inspect("meter", "{{.State.StartedAt}}");
        assert_eq!(now != started, n < 4, "restarted");
        if n == 4 {
            assert!(applied.to_string().contains("3 times within the last hour"), "{applied}");
        }
        started = now;
    }
    // a fix that is not allowed is only reported
    host.run("broken", &["--restart", "on-failure:1", "app:1", "fixture", "say", "boom", "3"]);
    host.until("broken", "{{.State.Status}} {{.RestartCount}}", "exited 1");
    post(&host, &payload("ContainerDown", &json!({"name": "broken"}), "2026-11-21T10:00:00Z"));
    let report = answer(&answers, 5);
    assert_eq!(
        (report["answers"][0]["verdict"].as_str(), report["answers"][0]["applied"].as_array().map(Vec::len)),
        (Some("crit"), Some(0))
    );
    let metrics = host.sh(&format!("curl -s -H 'Authorization: Bearer {TOKEN}' http://127.0.0.1:9797/metrics"));
    assert!(metrics.contains("opsctl_listen_fixes_total{fix=\"container.restart\",exit=\"0\"} 3"), "{metrics}");
    assert!(metrics.contains("opsctl_listen_fixes_total{fix=\"container.restart\",exit=\"14\"} 1"), "{metrics}");
    if installed(&["promtool"]) {
        host.sh(&format!("curl -s -H 'Authorization: Bearer {TOKEN}' http://127.0.0.1:9797/metrics | promtool check metrics"));
    }
}

#[test]
fn invalid_callers_are_rejected() {
    let Some((host, answers)) = listening("") else { return };
    let curl = |args: &str| host.sh(&format!("curl -s -o /dev/null -w '%{{http_code}}' --max-time 30 {args} || true"));
    let url = "http://127.0.0.1:9797/alerts";
    assert_eq!(curl(&format!("-H 'Authorization: Bearer {TOKEN}' http://127.0.0.1:9797/healthz")), "200");
    assert_eq!(curl(&format!("-d '[]' {url}")), "401");
    assert_eq!(curl(&format!("-d '[]' -H 'Authorization: Bearer wrong' {url}")), "401");
    assert_eq!(curl(&format!("-d '[]' -u x:{TOKEN} {url}")), "202");
    assert_eq!(curl("http://127.0.0.1:9797/metrics"), "401");
    let auth = format!("-H 'Authorization: Bearer {TOKEN}'");
    assert_eq!(curl(&format!("{auth} -d '{{' {url}")), "400");
    assert_eq!(curl(&format!("{auth} -d '{{\"alert\":[{{}}]}}' {url}")), "400");
    assert_eq!(curl(&format!("{auth} {url}")), "405");
    // 100 MB, with and without Content-Length
    host.sh(&format!("truncate -s 100M {}", host.path("huge").display()));
    let huge = host.path("huge").display().to_string();
    assert_eq!(curl(&format!("{auth} --data-binary @{huge} {url}")), "413");
    assert_eq!(curl(&format!("{auth} -H 'Transfer-Encoding: chunked' --data-binary @{huge} {url}")), "413");
    // a body without an end
    let pid = host.sh("pgrep -x opsctl");
    let slow = format!(
        "exec 3<> /dev/tcp/127.0.0.1/9797; printf 'POST /alerts HTTP/1.1\\r\\nHost: localhost\\r\\nAuthorization: Bearer {TOKEN}\\r\\nContent-Length: 50\\r\\n\\r\\n[' >&3; timeout 30 head -1 <&3"
    );
    assert!(host.sh(&slow).contains("408"));
    // and headers without an end
    let silent =
        host.sh("exec 3<> /dev/tcp/127.0.0.1/9797; printf 'POST /alerts HTTP/1.1\\r\\nHost:' >&3; timeout 30 cat <&3; echo gone");
    assert!(silent.ends_with("gone"), "{silent}");
    // after all of this its RSS is small and it works
    let rss: u64 = host.sh(&format!("awk '/VmHWM/ {{print $2}}' /proc/{}/status", pid.trim())).trim().parse().unwrap();
    assert!(rss < 100 * 1024, "{rss} kB");
    assert!(post(&host, &payload("NobodyKnows", &json!({}), "2026-11-21T10:00:00Z")).ends_with(" 202"));
    assert_eq!(answer(&answers, 1)["answers"][0]["known"], false);
    // the same alert is a duplicate, and a resolved one is accepted
    assert!(post(&host, &payload("NobodyKnows", &json!({}), "2026-11-21T10:00:00Z")).contains("\"duplicate\":1"));
    let over =
        payload("NobodyKnows", &json!({}), "2026-11-21T10:00:00Z").replace("\"status\":\"firing\"", "\"status\":\"resolved\"");
    assert!(post(&host, &over).contains("\"resolved\":1"));
    assert!(!host.listen_log().contains(TOKEN));
}

#[test]
fn flood_of_alerts_is_diagnosed_once_each_across_a_restart() {
    let Some((host, answers)) = listening("[policy]\nallow = [\"container.start\"]\n") else { return };
    // a fix during the flood: the container stays up when it is started for the third time
    let fails_twice = "for f in /one /two; do [ -e $f ] || { touch $f; exit 3; }; done; exec sleep infinity";
    let policy = ["--restart", "on-failure:1", "--stop-timeout", "1"];
    host.run("broken", &[MACHINE, &policy[..], &["machine:1", "bash", "-c", fails_twice]].concat());
    host.until("broken", "{{.State.Status}} {{.RestartCount}}", "exited 1");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/flood.py");
    let mut flood = host.command("python3");
    flood.args([script, "9797", TOKEN, "10000", "300"]).stdout(Stdio::piped());
    let mut flood = flood.spawn().unwrap();
    post(&host, &payload("ContainerDown", &json!({"name": "broken"}), "2026-11-21T10:00:00Z"));
    // killed in the middle, and restarted
    eventually(60, "some alerts are accepted", || host.path("state").join("alerts").read_dir().ok()?.next().map(|_| ()));
    let peak = || {
        let pid = host.sh("pgrep -x opsctl | head -1");
        host.sh(&format!("awk '/VmHWM/ {{print $2}}' /proc/{}/status", pid.trim())).trim().parse::<u64>().unwrap()
    };
    let first_peak = peak();
    host.stop_listening();
    host.listen();
    let mut output = String::new();
    flood.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert!(flood.wait().unwrap().success());
    let statistics: Value = serde_json::from_str(&output).unwrap();
    let accepted: Vec<u64> = statistics["accepted"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    assert_eq!(accepted.len(), 300, "{statistics}");
    assert!(
        statistics["statuses"].as_object().unwrap().keys().all(|s| ["202", "503", "none"].contains(&s.as_str())),
        "{statistics}"
    );
    // every accepted alert is diagnosed, and none is queued
    let answered = || {
        let mut numbers: Vec<u64> = Vec::new();
        for entry in std::fs::read_dir(&answers).unwrap().flatten().filter(|e| e.path().extension().is_some_and(|e| e == "json"))
        {
            let report: Value = serde_json::from_slice(&std::fs::read(entry.path()).ok()?).ok()?;
            let of = |a: &Value| a["alert"]["labels"]["number"].as_str()?.parse::<u64>().ok();
            numbers.extend(report["answers"].as_array()?.iter().filter_map(of));
        }
        numbers.sort_unstable();
        numbers.dedup();
        Some(numbers)
    };
    eventually(120, "all alerts are diagnosed", || (answered()?.len() == 300).then_some(()));
    eventually(60, "nothing waits", || {
        let left = host
            .path("state")
            .join("alerts")
            .read_dir()
            .ok()?
            .flatten()
            .filter(|e| e.path().extension().is_some_and(|e| e == "json"));
        (left.count() == 0).then_some(())
    });
    for peak in [first_peak, peak()] {
        assert!(peak < 150 * 1024, "{peak} kB");
    }
    // and no fix was applied twice within one run
    let journal = host.opsctl(&["audit", "show"]).stdout;
    let starts = journal.lines().filter(|l| l.contains("container.start") && l.contains("intent")).count();
    assert!((1..=3).contains(&starts), "{journal}");
    host.stop_listening();
}
