//! Reasons from logs: lines by severity and error text, tied to the objects that they name.

use crate::lab::{Host, Rootfs, eventually};

const LOOP: &str = "container.restart-loop container:web";

fn host() -> Option<Host> {
    let host = Host::start()?;
    host.image("app:1", Rootfs::Shell, &[]);
    Some(host)
}

/// Runs a shell script as container `name`.
fn script(host: &Host, name: &str, options: &[&str], text: &str) {
    host.run(name, &[options, &["app:1", "/bin/sh", "-c", text]].concat());
}

fn restarted(host: &Host, name: &str, times: u32) {
    eventually(60, "it was restarted", || {
        host.inspect(name, "{{.RestartCount}}").parse::<u32>().is_ok_and(|n| n >= times).then_some(())
    });
}

/// The engine applies `tail` before `until`: the new run has already printed more lines than a short tail
/// (<https://docs.docker.com/reference/cli/docker/container/logs/>).
#[test]
fn reason_of_a_loop_during_its_next_run() {
    let Some(host) = host() else { return };
    let text = "for i in 1 2 3 4 5 6 7 8; do echo INFO starting $i; done; sleep 2; \
                echo 'FATAL: password authentication failed for user \"shop\"'; exit 1";
    script(&host, "web", &["--restart", "always"], text);
    restarted(&host, "web", 3);
    host.until("web", "{{.State.Running}}", "true");
    let run = host.diagnose();
    run.must(&[LOOP]).mentions(LOOP, &["password authentication failed", "user shop"]);
}

/// Shutdown messages and a stack trace behind the error (dotnet/runtime and elastic/elasticsearch issues have this form).
#[test]
fn error_before_a_stack_trace_and_shutdown_messages() {
    let Some(host) = host() else { return };
    let text = "echo 'Unhandled exception. System.IO.FileNotFoundException: Could not find file /app/settings.json'; \
                for i in 1 2 3 4 5 6 7 8 9; do echo \"   at App.Main$i(String[] args)\"; done; \
                for w in stopping stopped closing closed; do echo $w; done; exit 134";
    script(&host, "web", &["--restart", "always"], text);
    restarted(&host, "web", 2);
    host.diagnose().must(&[LOOP]).mentions(LOOP, &["Could not find file /app/settings.json"]);
}

#[test]
fn ordinary_output_of_a_loop_is_quoted() {
    let Some(host) = host() else { return };
    script(&host, "web", &["--restart", "always"], "echo one; echo the last words; exit 1");
    restarted(&host, "web", 2);
    host.diagnose().must(&[LOOP]).mentions(LOOP, &["the last words"]);
}

#[test]
fn stopped_container_in_the_log_explains_a_loop() {
    let Some(host) = host() else { return };
    host.docker(&["network", "create", "shop"]);
    script(&host, "api", &["--network", "shop", "--restart", "always"], "exec sleep 1000");
    host.docker(&["kill", "api"]);
    let text = "echo 'Error: getaddrinfo ENOTFOUND api'; sleep 1; exit 1";
    script(&host, "web", &["--network", "shop", "--restart", "always"], text);
    restarted(&host, "web", 3);
    let run = host.diagnose();
    run.must(&[LOOP]).explains("container.down container:api", LOOP).roots(&["container.down container:api"]);
}

/// moby/moby#16207: containers with the fluentd log driver do not start without its server.
#[test]
fn log_driver_without_its_server() {
    let Some(host) = host() else { return };
    script(&host, "fluentd", &["-p", "24224:24224", "--restart", "always"], "exec sleep 1000");
    host.docker(&["kill", "fluentd"]);
    let started = host
        .sh("docker run -d --name web --restart always --log-driver fluentd --log-opt fluentd-address=127.0.0.1:24224 \
         --log-opt fluentd-async=false app:1 /bin/sh -c 'exec sleep 1000' > /dev/null 2>&1 && echo started || echo failed");
    assert!(started.contains("failed"), "{started}");
    let failed = "container.start-failed container:web";
    let run = host.diagnose();
    run.must(&[failed]).explains("container.down container:fluentd", failed);
    host.fix("container.start", "web", &[]).exits(15);
}

/// docker/compose: `up` reports "dependency failed to start" and leaves the container created.
#[test]
fn container_that_waited_too_long_for_its_dependency() {
    let Some(host) = host() else { return };
    let project = ["--label", "com.docker.compose.project=shop", "--restart", "unless-stopped"];
    let of = |service: &'static str| [&project[..], &["--label"], &[service]].concat();
    script(&host, "shop-db-1", &of("com.docker.compose.service=db"), "exec sleep 1000");
    host.docker(&["kill", "shop-db-1"]);
    let web = of("com.docker.compose.service=web");
    let depends = ["--label", "com.docker.compose.depends_on=db:service_healthy:false"];
    host.docker(
        &[&["create", "--name", "shop-web-1"], &web[..], &depends, &["app:1", "/bin/sh", "-c", "exec sleep 1000"]].concat(),
    );
    // younger than five minutes: compose may still wait for its dependency
    host.diagnose().must(&["container.down container:shop-db-1"]).roots(&["container.down container:shop-db-1"]);
}

#[test]
fn one_off_job_is_never_started_again() {
    let Some(host) = host() else { return };
    let options = ["--label", "com.docker.compose.project=shop", "--label", "com.docker.compose.oneoff=True"];
    script(&host, "shop-migrate-run-1", &options, "echo deleting old orders; exit 1");
    host.until("shop-migrate-run-1", "{{.State.Status}}", "exited");
    let run = host.diagnose();
    run.roots(&[]).exits(0);
    run.offers_no("container.start", "container:shop-migrate-run-1");
}

#[test]
fn loop_that_was_given_up_is_over() {
    let Some(host) = host() else { return };
    script(
        &host,
        "web",
        &["--restart", "on-failure:3"],
        "echo 'error: cannot open /etc/app.yml: No such file or directory'; exit 1",
    );
    eventually(60, "it was given up", || {
        let state = host.inspect("web", "{{.State.Status}} {{.RestartCount}}");
        (state == "exited 3").then_some(())
    });
    let run = host.diagnose();
    let down = "container.down container:web";
    run.roots(&[down]).mentions(down, &["/etc/app.yml", "not restarted any more"]);
    run.offers_no("container.stop-loop", "container:web");
    // the file is still missing
    host.fix("container.start", "web", &[]).exits(15);
}

#[test]
fn start_is_possible_once_a_missing_file_is_restored() {
    let Some(host) = host() else { return };
    host.sh("mkdir -p /mnt/shop");
    let text =
        "test -e /data/app.yml || { echo 'error: open /data/app.yml: no such file or directory'; exit 1; }; exec sleep 1000";
    script(&host, "web", &["--restart", "on-failure:1", "-v", "/mnt/shop:/data"], text);
    host.until("web", "{{.State.Status}} {{.RestartCount}}", "exited 1");
    let refused = host.fix("container.start", "web", &[]);
    assert!(refused.code == 15 && refused.stdout.contains("/data/app.yml still does not exist"), "{}", refused.stdout);
    host.sh("touch /mnt/shop/app.yml");
    host.fix("container.start", "web", &[]).exits(0);
}

/// prometheus/prometheus#5976, prometheus/prometheus#9704: a volume of root for a container of another user.
#[test]
fn start_is_possible_once_access_is_granted() {
    let Some(host) = host() else { return };
    host.sh("mkdir -p /mnt/shop; chmod 755 /mnt/shop");
    let text = "mkdir -p /data/plugins || { echo \"mkdir: cannot create directory '/data/plugins': Permission denied\"; exit 1; }; \
                exec sleep 1000";
    script(&host, "web", &["--user", "1000:1000", "--restart", "on-failure:1", "-v", "/mnt/shop:/data"], text);
    host.until("web", "{{.State.Status}} {{.RestartCount}}", "exited 1");
    let refused = host.fix("container.start", "web", &[]);
    assert!(refused.code == 15 && refused.stdout.contains("still has no access to /data/plugins"), "{}", refused.stdout);
    host.sh("chown 1000:1000 /mnt/shop");
    host.fix("container.start", "web", &[]).exits(0);
}

#[test]
fn running_container_without_access_to_its_key() {
    let Some(host) = host() else { return };
    let text = "while true; do echo 'ERROR open /run/secrets/key.pem: permission denied'; sleep 1; done";
    script(&host, "web", &["--restart", "always"], text);
    let found = "container.new-errors container:web";
    let run = eventually(60, "its errors are reported", || {
        let run = host.diagnose();
        let is_reported = run.findings().any(|f| f.code == "container.new-errors");
        is_reported.then_some(run)
    });
    run.roots(&[found]).mentions(found, &["/run/secrets/key.pem"]);
}

#[test]
fn errors_of_clients_and_of_the_startup_are_silent() {
    let Some(host) = host() else { return };
    let clients = "while true; do echo 'ERROR:  duplicate key value violates unique constraint \"a\"'; \
                   echo 'error: write: broken pipe'; echo 'GET /error 404'; sleep 1; done";
    script(&host, "db", &["--restart", "always"], clients);
    let startup = "for i in 1 2 3 4 5; do echo 'Error: connect ECONNREFUSED 127.0.0.1:5432'; done; echo ready; exec sleep 1000";
    script(&host, "web", &["--restart", "always"], startup);
    eventually(60, "the last startup error is older than its pause", || {
        let age = host.sh("docker logs --since 16s web 2>&1 | wc -l");
        (age.trim() == "0").then_some(())
    });
    host.diagnose().roots(&[]);
}

/// Bounded: the end of a long log is found at once.
#[test]
fn reason_at_the_end_of_a_huge_log() {
    let Some(host) = host() else { return };
    script(&host, "web", &["--restart", "on-failure:1"], "echo 'FATAL: wrong key'; exit 1");
    host.until("web", "{{.State.Status}} {{.RestartCount}}", "exited 1");
    let path = host.inspect("web", "{{.LogPath}}");
    // 30 MB of earlier lines, before those of the last run
    host.sh(&format!(
        "cp {path} /run/end; line='{{\"log\":\"INFO request\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00.0Z\"}}'; \
         yes \"$line\" | head -c 30000000 | sed '$d' > {path}; cat /run/end >> {path}"
    ));
    let down = "container.down container:web";
    host.diagnose().must(&[down]).mentions(down, &["FATAL: wrong key"]);
}
