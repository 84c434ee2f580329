//! Promise 9: fixes act only on the planned object, as identified by its manager.

use crate::lab::{Rootfs, installed};

use super::{Scene, summary};

#[test]
fn hang_in_faked_group_restarts_no_container() {
    let Some(scene) = Scene::start() else { return };
    scene.image("svc:1", Rootfs::Scratch, &[]);
    scene.run("victim", &["svc:1", "fixture", "wait-term"]);
    let started = || scene.inspect("victim", "{{.State.StartedAt}} {{.State.Pid}}");
    let before = started();
    let group = scene.faked_group("victim");
    for (name, port, shown) in
        [("prometheus", 9090, "--config.file=/x"), ("loki", 3100, "-config.file=/x"), ("grafana", 3000, "server")]
    {
        scene.program(name).group(&group).rogue("http", &["--port", &port.to_string(), "--how", "hang", "--", shown]);
        scene.until_listening(port);
    }
    let run = scene.run_verified(&["monitoring"]);
    let offers: Vec<String> = run.report().fixes.iter().map(|o| format!("{} {}", o.id, o.subject)).collect();
    assert!(offers.is_empty(), "{offers:?}: {}", summary(&run));
    for subject in ["victim", "prometheus:victim", "loki:victim"] {
        scene.opsctl(&["fix", "container.restart", subject, "--yes"]);
        assert_eq!(started(), before, "a process outside of the container caused its restart");
    }
}

#[test]
fn replacement_of_the_planned_container_is_not_restarted() {
    let Some(scene) = Scene::start() else { return };
    scene.tools(&["loki"]);
    let hang = |name: &str| {
        let args = ["--port", "3100", "--how", "hang", "--", "-config.file=/x"];
        scene.hostile(name, &[], "loki", "loki", "http", &args);
    };
    hang("logs");
    let mut other = String::new();
    let fix = scene.fix_meanwhile("container.restart", "logs", &[], || {
        scene.docker(&["rm", "-f", "logs"]);
        hang("logs");
        other = scene.inspect("logs", "{{.State.StartedAt}}");
    });
    fix.exits(11);
    assert_eq!(scene.inspect("logs", "{{.State.StartedAt}}"), other);
}

#[test]
fn replacement_of_the_planned_process_is_not_signalled() {
    if !installed(&["prometheus", "promtool"]) {
        return;
    }
    let Some(scene) = Scene::without_engine() else { return };
    let start = || {
        scene.spawn(
            "prometheus",
            &["--config.file=/mnt/prom.yml", "--storage.tsdb.path=/mnt/prom", "--web.listen-address=127.0.0.1:9090"],
        );
        scene.wait_for("curl -s http://127.0.0.1:9090/-/ready");
    };
    scene.sh("echo 'global: {}' > /mnt/prom.yml");
    start();
    scene.sh("echo 'nonsense: [' > /mnt/prom.yml; pkill -HUP -x prometheus");
    scene.wait_for("curl -s http://127.0.0.1:9090/api/v1/status/runtimeinfo | grep -q '\"reloadConfigSuccess\":false'");
    scene.sh("echo 'global: {}' > /mnt/prom.yml");
    scene.configure("[runbooks.monitoring]\nstarting_s = 0\n");
    let fix = scene.fix_meanwhile("prom.reload", "127.0.0.1:9090", &[], || {
        // a user process replaces it with the same port and name
        scene.sh("pkill -KILL -x prometheus; while pgrep -x prometheus > /dev/null; do sleep 0.05; done");
        let failed = "/api/v1/status/runtimeinfo=200:{\"data\":{\"reloadConfigSuccess\":false,\"lastConfigTime\":\"2026-01-01T00:00:00Z\"}}";
        let args = ["--port", "9090", "--page", "/-/ready=200:ready", "--page", failed, "--", "--config.file=/mnt/prom.yml"];
        scene.program("prometheus").rogue("http", &args);
        scene.until_listening(9090);
    });
    assert!(fix.code == 11 || fix.code == 15, "exit {}: {}{}", fix.code, fix.stdout, fix.stderr);
    assert!(!scene.loot().contains("POST"), "{}", scene.loot());
    scene.sh("pgrep -x prometheus");
}
