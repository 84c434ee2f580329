//! nginx on the host and in containers: failures of nginx and of its upstreams, and no finding on a healthy one.

use crate::lab::{Host, MACHINE, TRUST, eventually};

const EDGE: &str = "nginx:edge";
const HOST: &str = "nginx:127.0.0.1:80";

#[test]
fn healthy_proxy_of_twenty_sites_has_no_finding() {
    let Some(host) = Host::with_edge() else { return };
    host.authority();
    host.certificate("all", "*.sites.test,sites.test", "-1 day", "+89 days", "key=rsa");
    host.configure(TRUST);
    let mut http = String::from(
        "log_format j escape=json '{\"t\":\"$time_iso8601\",\"status\":\"$status\",\"up\":\"$upstream_addr\",\"host\":\"$host\"}'; access_log /var/log/nginx/access.log j;\n",
    );
    for i in 0..4 {
        host.service(&format!("app{i}"), "ok");
    }
    for i in 0..20 {
        let site = format!(
            "upstream u{i} {{ server app{}:8080; }} server {{ listen 80; listen 443 ssl; server_name s{i}.sites.test; ssl_certificate /mnt/ca/all.pem;
             ssl_certificate_key /mnt/ca/all.key; location / {{ proxy_pass http://u{i}; }} }}\n",
            i % 4
        );
        http.push_str(&site);
    }
    host.nginx_container("edge", &["-v", "/mnt/ca:/mnt/ca:ro"], &http);
    let address = host.address("edge");
    host.sh(&format!(
        "for i in $(seq 0 19); do for n in 1 2 3 4; do curl -sf -H \"Host: s$i.sites.test\" http://{address}/health; done; done > /dev/null
        curl -s -H 'Host: s1.sites.test' http://{address}/none > /dev/null; curl -s http://{address}/soft404 > /dev/null"
    ));
    let run = host.run_runbooks(&["nginx", "tls", "container", "healthcheck"]);
    run.must_not(&["nginx.", "tls."]);
    assert_eq!(run.check("nginx.traffic", EDGE).verdict, "ok");
    assert_eq!(run.check("nginx.upstreams", EDGE).verdict, "ok");
    assert_eq!(run.check("tls.served", "certificate:s0.sites.test").verdict, "ok");
    // a restarted container with the same address is not a stale upstream
    host.docker(&["restart", "-t", "0", "app3"]);
    host.until("app3", "{{.State.Running}}", "true");
    let url = format!("http://{}:8080/health", host.address("app3"));
    eventually(30, "app3 responds again", || host.curl(&url).ends_with(" 200").then_some(()));
    host.run_runbooks(&["nginx"]).must_not(&["nginx."]);
}

#[test]
fn reason_of_an_unreachable_upstream_is_reported() {
    let Some(host) = Host::with_edge() else { return };
    host.docker(&["network", "create", "other"]);
    for name in ["stopped", "moved", "deaf", "loop", "well"] {
        host.service(name, name);
    }
    let sites = ["stopped", "moved", "deaf", "loop", "well"]
        .map(|n| {
            format!(
                "server {{ listen 80; server_name {n}.test; location / {{ proxy_pass http://{n}:{}; }} }}\n",
                if n == "deaf" { 9999 } else { 8080 }
            )
        })
        .concat();
    let group = "upstream many { server well:8080; server deaf:9998; } server { listen 80; server_name many.test; location / { proxy_pass http://many; } }
        server { listen 80; server_name php.test; location / { fastcgi_pass unix:/run/none.sock; } }";
    host.nginx_container("edge", &[], &format!("{sites}{group}"));
    host.docker(&["stop", "-t", "0", "stopped"]);
    host.docker(&["network", "disconnect", "app", "moved"]);
    host.docker(&["network", "connect", "other", "moved"]);
    host.docker(&["rm", "-f", "loop"]);
    host.run("loop", &["--network", "app", "svc:1", "/bin/fixture", "httpd", "--port", "8080", "--bind", "127.0.0.1"]);
    host.configure("[runbooks.nginx]\nstarting_s = 0\n");
    let run = host.run_runbooks(&["nginx", "container"]);
    let messages: Vec<&str> =
        run.findings().filter(|f| f.code == "nginx.upstream-unreachable").map(|f| f.message.as_str()).collect();
    let has = |words: &str| assert!(messages.iter().any(|s| s.contains(words)), "{words}: {messages:#?}");
    has("stopped:8080, which has no address: container stopped is exited");
    has("moved:8080, which shares no network with it: moved is in other, nginx in app");
    has("deaf:9999, which refuses connections: deaf has no listener on port 9999");
    has("deaf:9998 (of upstream many)");
    has("loop:8080, which refuses connections: in loop it listens on the loopback address only");
    has("unix:/run/none.sock, which cannot be reached: No such file");
    assert_eq!(messages.len(), 6, "{messages:#?}");
    // a restart at this moment would fail: `nginx -t` reports the unresolved name
    run.must(&["nginx.config-test nginx:edge"]);
    let row = run.findings().find(|f| f.message.contains("of upstream many"));
    assert_eq!(row.map(|f| f.severity.to_string()).as_deref(), Some("warn"));
    host.fix("nginx.reload", "edge", &[]);
}

#[test]
fn configuration_that_fails_nginx_t_or_is_not_loaded_is_reported() {
    let Some(host) = Host::with_servers(&["nginx", "curl"]) else { return };
    host.nginx("server { listen 80; location / { return 200 one; } }");
    host.run_runbooks(&["nginx"]).must_not(&["nginx."]);
    eventually(10, "at least one second has passed since the start", || {
        let age = host.sh("echo $(( $(date +%s) - $(stat -c %Y /run/nginx.pid) ))");
        (age.parse::<u64>().ok()? >= 2).then_some(())
    });
    host.sh("sed -i 's/one/two/' /etc/nginx/conf.d/site.conf");
    let run = host.run_runbooks(&["nginx"]);
    run.roots(&[&format!("nginx.config-not-loaded {HOST}")]);
    run.mentions(
        &format!("nginx.config-not-loaded {HOST}"),
        &["runs with the configuration of", "1 file changed since", "/etc/nginx/conf.d/site.conf"],
    );

    // broken after the plan: a configuration that fails `nginx -t` is not loaded
    host.sh("printf '\\nnonsense;\\n' >> /etc/nginx/conf.d/site.conf");
    let run = host.run_runbooks(&["nginx"]);
    let test = format!("nginx.config-test {HOST}");
    run.roots(&[&test]).explains(&test, &format!("nginx.config-not-loaded {HOST}"));
    run.mentions(
        &test,
        &["keeps running, but a restart would fail: unknown directive \"nonsense\"", "/etc/nginx/conf.d/site.conf:2"],
    );
    host.fix("nginx.reload", "127.0.0.1:80", &[]).exits(15);
    assert_eq!(host.curl("http://127.0.0.1/"), "one 200");

    host.sh("sed -i '/nonsense/d' /etc/nginx/conf.d/site.conf");
    let master = host.sh("cat /run/nginx.pid");
    host.fix("nginx.reload", "127.0.0.1:80", &[]).exits(0);
    assert_eq!((host.sh("cat /run/nginx.pid"), host.curl("http://127.0.0.1/")), (master, "two 200".to_owned()));
    host.run_runbooks(&["nginx"]).must_not(&["nginx."]);
}

#[test]
fn nginx_t_failing_after_the_plan_stops_the_reload() {
    let Some(host) = Host::with_servers(&["nginx", "curl"]) else { return };
    host.nginx("server { listen 80; location / { return 200 one; } }");
    host.sh("sleep 1; sed -i 's/one/two/' /etc/nginx/conf.d/site.conf");
    let breaks = || _ = host.sh("printf '\\nnonsense;\\n' >> /etc/nginx/conf.d/site.conf");
    let run = host.fix_meanwhile("nginx.reload", "127.0.0.1:80", &[], breaks);
    run.exits(11);
    assert_eq!(host.curl("http://127.0.0.1/"), "one 200");
}

#[test]
fn failed_requests_are_counted_in_every_kind_of_log() {
    let Some(host) = Host::with_edge() else { return };
    host.service("b2", "ok");
    let http = "log_format j escape=json '{\"t\":\"$time_iso8601\",\"status\":$status,\"up\":\"$upstream_addr\",\"host\":\"$host\"}';
        server { listen 80; access_log /var/log/nginx/access.log j; location / { proxy_pass http://b2:8080; } location /bad { return 500; } }
        server { listen 81; access_log off; location / { return 500; } }";
    for driver in ["json-file", "local"] {
        host.nginx_container("edge", &["--log-driver", driver], http);
        let address = host.address("edge");
        host.sh(&format!("for i in $(seq 96); do curl -s http://{address}/health; done; for i in $(seq 4); do curl -s http://{address}/bad; curl -s http://{address}:81/; done > /dev/null"));
        let run = host.run_runbooks(&["nginx"]);
        let rate = format!("nginx.5xx-rate {EDGE}");
        run.must(&[&rate]);
        run.mentions(&rate, &["4 % of the requests to edge failed", "4 of 100", "4 × 500", "its container's output"]);
        assert_eq!(run.finding(&rate).severity.to_string(), "warn");
        host.docker(&["rm", "-f", "edge"]);
    }
    // without a readable log the result is unknown, never ok
    host.nginx_container("edge", &["--log-driver", "none"], http);
    let run = host.run_runbooks(&["nginx"]);
    let row = run.check("nginx.traffic", EDGE);
    assert_eq!(row.verdict, "unknown", "{row:?}");
}

#[test]
fn access_logs_on_disk_are_read_with_rotated_files() {
    let Some(host) = Host::with_servers(&["nginx", "curl", "gzip"]) else { return };
    host.nginx(
        "server { listen 80; location / { return 200 ok; } location /bad { return 503; } location /api/orders { return 502; } }",
    );
    host.sh("for i in $(seq 80); do curl -s http://127.0.0.1/; done; for i in $(seq 20); do curl -s \"http://127.0.0.1/api/orders/$i?token=canary\"; done > /dev/null
        cd /var/log/nginx; mv access.log access.log.1; kill -USR1 $(cat /run/nginx.pid)");
    eventually(10, "nginx writes a new log", || {
        host.command("test").args(["-e", "/var/log/nginx/access.log"]).status().ok()?.success().then_some(())
    });
    let rate = format!("nginx.5xx-rate {HOST}");
    let run = host.run_runbooks(&["nginx"]);
    run.mentions(&rate, &["20 of 100", "/api/orders (20)"]);
    assert!(!run.stdout.contains("canary"));
    // the whole history on request, including compressed files
    host.sh("cd /var/log/nginx; gzip -c access.log.1 > access.log.2.gz");
    let whole = host.opsctl(&["nginx", "--usage"]);
    assert!(whole.stdout.contains("40 of 200 requests failed (20 %)"), "{}", whole.stdout);
    assert!(whole.stdout.contains("path /api/orders") && !whole.stdout.contains("canary"), "{}", whole.stdout);
}

#[test]
fn workers_sockets_and_maintenance_are_checked() {
    let Some(host) = Host::with_servers(&["nginx", "curl"]) else { return };
    host.nginx("server { listen 80; location / { return 200 ok; } }");
    host.sh("cd /etc/nginx/conf.d; cp site.conf site.conf.full; echo 'server { listen 80; return 503; }' > site.conf.temp; cp site.conf.temp site.conf; nginx -s reload");
    let mode = format!("nginx.mode {HOST}");
    host.run_runbooks(&["nginx"]).mentions(&mode, &["serves site.conf in maintenance mode", "site.conf.temp"]);
    host.sh("cd /etc/nginx/conf.d; ln -sfn site.conf.temp site.conf; nginx -s reload");
    host.run_runbooks(&["nginx"]).mentions(&mode, &["is site.conf.temp"]);
    host.sh("cd /etc/nginx/conf.d; ln -sfn site.conf.full site.conf; nginx -s reload");
    eventually(10, "the old workers have exited", || (host.sh("pgrep -cf 'nginx: worker process$'") == "2").then_some(()));
    host.run_runbooks(&["nginx"]).must_not(&["nginx."]);
    // connections that are not accepted
    host.sh("pkill -STOP -f 'nginx: worker process$'");
    let stopped = format!("nginx.stopped {HOST}");
    host.run_runbooks(&["nginx"]).roots(&[&stopped]).mentions(&stopped, &["2 workers are stopped by a signal"]);
    host.sh("pkill -CONT -f 'nginx: worker process$'");
    host.run_runbooks(&["nginx"]).must_not(&["nginx."]);
    // nearly all connections of a worker are in use
    host.sh("sed -i 's/worker_connections 256/worker_connections 16/; s/worker_processes 2/worker_processes 1/' /etc/nginx/nginx.conf; nginx -s reload");
    eventually(10, "there is one worker", || (host.sh("pgrep -cf 'nginx: worker process$'") == "1").then_some(()));
    host.spawn("bash", &["-c", "for i in $(seq 12); do exec {fd}<>/dev/tcp/127.0.0.1/80; done; sleep 600"]);
    let full = format!("nginx.connections {HOST}");
    eventually(20, "the connections are open", || host.run_runbooks(&["nginx"]).has(&full).then_some(()));
    host.run_runbooks(&["nginx"]).mentions(&full, &["of its 16 connections"]);
}

#[test]
fn several_masters_are_distinguished() {
    let Some(host) = Host::with_edge() else { return };
    host.nginx_container("one", &[], "server { listen 80; return 200 one; }");
    host.nginx_container("two", &[], "server { listen 80; return 200 two; }");
    host.nginx("server { listen 80; return 200 host; }");
    let run = host.run_runbooks(&["nginx", "container"]);
    for target in [HOST, "nginx:one", "nginx:two"] {
        assert_eq!(run.check("nginx.processes", target).verdict, "ok", "{target}");
    }
    host.docker(&["stop", "-t", "0", "two"]);
    host.run("needs", &[MACHINE, &["-e", "UPSTREAM=http://two/", "machine:1", "sleep", "600"]].concat());
    let run = host.run_runbooks(&["nginx", "container"]);
    assert_eq!(run.check("nginx.processes", "nginx:one").verdict, "ok");
    host.docker(&["rm", "-f", "needs"]);
}

#[test]
fn swapped_upstreams_are_detected_by_an_earlier_run() {
    let Some(host) = Host::with_edge() else { return };
    host.service("one", "one");
    host.service("two", "two");
    host.nginx_container(
        "edge",
        &[],
        "server { listen 80; location / { proxy_pass http://one:8080; } } server { listen 81; location / { proxy_pass http://two:8080; } }",
    );
    host.run_runbooks(&["nginx"]).must_not(&["nginx."]);
    let before = (host.address("one"), host.address("two"));
    host.docker(&["rm", "-f", "one", "two"]);
    host.service("two", "two");
    host.service("one", "one");
    assert_eq!((host.address("two"), host.address("one")), before, "the upstreams have swapped addresses");
    assert_eq!(host.curl(&format!("http://{}/health", host.address("edge"))), "two 200");
    let run = host.run_runbooks(&["nginx"]);
    let messages: Vec<&str> =
        run.findings().filter(|f| f.code == "nginx.upstream-stale-ip").map(|f| f.message.as_str()).collect();
    assert!(
        messages.len() == 2 && messages.iter().any(|s| s.contains("for one:8080 to") && s.contains("now the address of two")),
        "{messages:?}"
    );
    host.fix("nginx.reload", "edge", &[]).exits(0);
    host.run_runbooks(&["nginx"]).must_not(&["nginx."]);
}

#[test]
fn restart_is_not_offered_while_nginx_t_fails() {
    let Some(host) = Host::with_edge() else { return };
    host.service("b2", "ok");
    host.nginx_container(
        "edge",
        &["--health-cmd", "curl -f http://127.0.0.1/health", "--health-interval", "1s"],
        "server { listen 80; location / { proxy_pass http://b2:8080; proxy_connect_timeout 1s; } }",
    );
    host.docker(&["network", "disconnect", "-f", "app", "b2"]);
    host.sh(&format!("printf 'nonsense;\\n' >> {}/conf.d/site.conf", host.path("nginx-edge").display()));
    host.configure("[runbooks.healthcheck]\nstarting_s = 0\n");
    let run = host.run_runbooks(&["healthcheck"]);
    run.must(&["healthcheck.http container:edge"]);
    let offer = run.offer("container.restart", "container:edge").unwrap_or_else(|| panic!("{}", run.stdout));
    assert!(
        offer.refused.as_ref().is_some_and(|why| why.contains("nginx would not start again in it: `nginx -t` fails")),
        "{offer:?}"
    );
    host.fix("container.restart", "edge", &[]).exits(15);
    assert_eq!(host.inspect("edge", "{{.RestartCount}} {{.State.Running}}"), "0 true");
}

/// Requests that fail, for a rate and for repeated lines.
const TWENTY_REQUESTS: &str = "for i in $(seq 20); do curl -s \"http://127.0.0.1/x$i?token=canary\" > /dev/null; done";

#[test]
fn unix_socket_that_denies_the_workers() {
    let Some(host) = Host::with_servers(&["nginx", "curl"]) else { return };
    // the socket of an application, which accepts connections of root
    host.nginx(
        "server { listen unix:/run/app.sock; location / { return 200 ok; } }
        server { listen 80; location / { proxy_pass http://unix:/run/app.sock; } }",
    );
    host.sh("sed -i 's/^user root/user nobody nogroup/' /etc/nginx/nginx.conf; nginx -s reload");
    eventually(20, "the workers run as nobody", || {
        // workers of the previous configuration, still root, serve requests until they have ended
        let workers = |user: &str| host.sh(&format!("pgrep {user} -cf '^nginx: worker process'; true"));
        (workers("-u nobody") == "2" && workers("") == "2").then_some(())
    });
    assert_eq!(host.curl("http://127.0.0.1/"), "ok 200");
    host.run_runbooks(&["nginx"]).must_not(&["nginx."]);
    host.sh("chmod 600 /run/app.sock");
    host.sh(TWENTY_REQUESTS);
    let [unreachable, signals, rate] =
        ["upstream-unreachable", "error-signals", "5xx-rate"].map(|code| format!("nginx.{code} {HOST}"));
    let run = host.run_runbooks(&["nginx"]);
    run.roots(&[&unreachable]).explains(&unreachable, &signals).traces(&unreachable, &rate);
    run.mentions(&unreachable, &["unix:/run/app.sock", "run as nobody", "/run/app.sock has mode 0600, owner root"]);
    run.mentions(
        &signals,
        &["may not connect to the unix socket of an upstream (/run/app.sock)", "nobody, the user of the workers"],
    );
    assert!(!run.stdout.contains("canary"), "{}", run.stdout);
    // restored: the log still has the lines
    host.sh("chmod 666 /run/app.sock");
    host.run_runbooks(&["nginx"]).must_not(&["nginx.upstream-unreachable"]);
}

#[test]
fn cycle_of_internal_redirections_explains_the_failed_requests() {
    let Some(host) = Host::with_servers(&["nginx", "curl"]) else { return };
    host.nginx("server { listen 80; server_name shop.test; root /nonexistent; location / { try_files $uri /index.html; } }");
    host.sh(TWENTY_REQUESTS);
    let [signals, rate] = ["error-signals", "5xx-rate"].map(|code| format!("nginx.{code} {HOST}"));
    let run = host.run_runbooks(&["nginx"]);
    run.roots(&[&signals]).explains(&signals, &rate);
    run.mentions(&signals, &["ends requests in a cycle of internal redirections, 20 times", "server: shop.test", "try_files"]);
    assert!(!run.stdout.contains("canary"), "{}", run.stdout);
}

#[test]
fn line_without_a_known_meaning_is_the_reason_of_failed_requests() {
    let Some(host) = Host::with_servers(&["nginx", "curl"]) else { return };
    // the authentication service responds with an unexpected status
    host.nginx("server { listen 80; location / { auth_request /auth; empty_gif; } location = /auth { internal; return 418; } }");
    host.sh(TWENTY_REQUESTS);
    let rate = format!("nginx.5xx-rate {HOST}");
    let run = host.run_runbooks(&["nginx"]);
    run.roots(&[&rate]);
    run.mentions(
        &rate,
        &["[error] auth request unexpected status: 418", "(20 times)", "grep '\\[error\\]' /var/log/nginx/error.log"],
    );
}
