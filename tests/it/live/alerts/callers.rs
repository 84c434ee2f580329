//! Clients of `opsctl listen`: an unprivileged user of the same host, a web page in a browser, a replayed request, and the
//! monitoring systems it is made for.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::lab::{Host, eventually, installed};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const SECRET: &str = "fedcba9876543210fedcba9876543210";
const URL: &str = "http://127.0.0.1:9797/alerts";

/// A host with these lines in `[listen]`; the listener is not yet started.
fn configured(listen: &str) -> Option<Host> {
    let host = Host::without_engine()?;
    host.secret_file("token", TOKEN);
    host.secret_file("secret", SECRET);
    let path = |name: &str| host.path(name).display().to_string();
    let listen = listen.replace("TOKEN", &path("token")).replace("SECRET", &path("secret"));
    host.configure(&format!("[listen]\n{listen}\n"));
    Some(host)
}

/// A host with a listener that requires a token.
fn with_token() -> Option<Host> {
    let host = configured("token_file = \"TOKEN\"")?;
    host.listen();
    Some(host)
}

/// A host with a listener that requires a signature.
fn with_signatures() -> Option<Host> {
    let host = configured("hmac_secret_file = \"SECRET\"")?;
    host.listen();
    Some(host)
}

/// An alert of this name.
fn alert(name: &str) -> String {
    json!([{"labels": {"alertname": name}, "startsAt": "2026-11-21T10:00:00Z"}]).to_string()
}

/// The status of the response to a request of root.
#[track_caller]
fn status(host: &Host, curl: &str) -> String {
    host.sh(&format!("curl -s -o /dev/null -w '%{{http_code}}' --max-time 20 {curl} || true"))
}

/// The status of the response to a request of an unprivileged user.
#[track_caller]
fn status_for_unprivileged(host: &Host, curl: &str) -> String {
    host.sh_unprivileged(&format!("curl -s -o /dev/null -w '%{{http_code}}' --max-time 20 {curl} || true"))
}

/// Arguments of curl for a request with the token.
fn token_and(more: &str) -> String {
    format!("-H 'Authorization: Bearer {TOKEN}' {more}")
}

/// Asserts the alerts that are queued or in progress, and the diagnosed ones: neither may contain a rejected one.
#[track_caller]
fn accepted(host: &Host) -> u64 {
    let metrics = host.sh(&format!("curl -s {}", token_and("http://127.0.0.1:9797/metrics")));
    metric(&metrics, "opsctl_listen_alerts_total{result=\"accepted\"}")
}

#[track_caller]
fn metric(metrics: &str, name: &str) -> u64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("{name}: {metrics}"))
}

/// Arguments of curl that sign a body as Grafana does, with a timestamp at this offset from now.
#[track_caller]
fn signed(host: &Host, body: &str, offset_s: i64) -> String {
    let at = host.sh(&format!("echo $(( $(date +%s) + {offset_s} ))"));
    let tag = host.sh(&format!("printf %s '{at}:{body}' | openssl dgst -sha256 -hmac {SECRET} -r | cut -d' ' -f1"));
    format!("-H 'X-Grafana-Alerting-Timestamp: {at}' -H 'X-Grafana-Alerting-Signature: {tag}' -d '{body}' {URL}")
}

/// Kills the listener as a crash would.
#[track_caller]
fn crash(host: &Host) {
    host.sh("kill -KILL $(pgrep -x opsctl); while pgrep -x opsctl > /dev/null; do sleep 0.05; done");
}

#[test]
fn listener_without_token_and_signature_does_not_start() {
    let Some(host) = configured("") else { return };
    for address in ["127.0.0.1:9797", "0.0.0.0:9797", "[::1]:9797"] {
        let run = host.opsctl(&["listen", "--address", address]);
        assert_eq!(run.code, 64, "{address}: {}", run.stderr);
        assert!(run.stderr.contains(address) && run.stderr.contains("`opsctl listen --init` creates a token"), "{}", run.stderr);
    }
    host.configure("[listen]\naddress = \"off\"\n");
    assert_eq!(host.opsctl(&["listen"]).code, 64);
}

#[test]
fn token_of_init_opens_the_listener() {
    let Some(host) = configured("") else { return };
    let run = host.opsctl(&["listen", "--init"]);
    assert!(run.code == 0 && run.stdout.starts_with("wrote "), "{}{}", run.stdout, run.stderr);
    let file = host.path("listen-token").display().to_string();
    let token =
        host.sh(&format!("[ $(stat -c '%a %u' {file}) = '600 0' ] || [ \"$(stat -c '%a %u' {file})\" = '600 0' ]; cat {file}"));
    assert!(!run.stdout.contains(&token), "a token is not printed");
    let again = host.opsctl(&["listen", "--init"]);
    assert!(again.code == 0 && again.stdout.starts_with("kept "), "{}{}", again.stdout, again.stderr);
    assert_eq!(host.sh(&format!("cat {file}")), token);
    host.listen();
    assert_eq!(status(&host, &format!("-H 'Authorization: Bearer {token}' -d '[]' {URL}")), "202");
    assert_eq!(status_for_unprivileged(&host, &format!("-d '[]' {URL}")), "401");
}

#[test]
fn token_readable_by_others_does_not_start_the_listener() {
    let Some(host) = configured("token_file = \"TOKEN\"") else { return };
    host.sh(&format!("chmod 644 {}", host.path("token").display()));
    let run = host.opsctl(&["listen"]);
    assert!(run.code != 0 && run.stderr.contains("other users may read or write it (mode 644)"), "{} {}", run.code, run.stderr);
}

#[test]
fn short_token_does_not_start_the_listener() {
    let Some(host) = configured("token_file = \"TOKEN\"") else { return };
    host.secret_file("token", "short");
    let run = host.opsctl(&["listen"]);
    assert!(run.code != 0 && run.stderr.contains("can be guessed"), "{} {}", run.code, run.stderr);
}

#[test]
fn unprivileged_user_over_loopback_is_rejected_everywhere() {
    let Some(host) = with_token() else { return };
    for path in ["", "alerts", "api/v2/alerts", "healthz", "metrics", "nothing"] {
        for method in ["GET", "POST", "PUT", "OPTIONS"] {
            let request = format!("-X {method} -d '{}' http://127.0.0.1:9797/{path}", alert("Evil"));
            assert_eq!(status_for_unprivileged(&host, &request), "401", "{method} /{path}");
        }
    }
    // a guess is not the token, and the token file cannot be read
    assert_eq!(status_for_unprivileged(&host, &format!("-u x:wrong -d '[]' {URL}")), "401");
    host.sh_unprivileged(&format!("! cat {} 2> /dev/null", host.path("token").display()));
    assert_eq!(accepted(&host), 0);
    // the healthy counterpart: the same user with the token
    assert_eq!(status_for_unprivileged(&host, &token_and(&format!("-d '{}' {URL}", alert("Known")))), "202");
    assert_eq!(accepted(&host), 1);
}

#[test]
fn unix_socket_identifies_its_callers_by_user() {
    let socket = "/run/opsctl-listen.sock";
    let Some(host) = configured(&format!("address = \"off\"\nsocket = \"{socket}\"")) else { return };
    // outside the lab: a socket in a directory where others can create files is rejected
    assert!(host.opsctl(&["listen"]).stderr.contains("other users may create files in /run"));
    host.sh("chmod 755 /run");
    host.listen_at(socket);
    let request = format!("--unix-socket {socket} -d '[]' http://localhost/alerts");
    assert_eq!(host.sh(&format!("stat -c %a {socket}")), "600");
    assert_eq!(status(&host, &request), "202");
    // the file mode denies access to another user, and so does opsctl
    assert_eq!(status_for_unprivileged(&host, &request), "000");
    host.sh(&format!("chmod 666 {socket}"));
    assert_eq!(status_for_unprivileged(&host, &request), "401");
    // nor with forged identity headers
    assert_eq!(
        status_for_unprivileged(&host, &format!("-H 'X-Remote-User: root' -H 'X-Forwarded-For: 127.0.0.1' {request}")),
        "401"
    );
    host.stop_listening();
    host.listen_at(socket);
    assert_eq!(status(&host, &request), "202", "the socket of the previous listener is replaced");
}

/// `daemon` and `bin` are groups of every Debian.
#[test]
fn unix_socket_accepts_listed_groups_and_users_only() {
    let socket = "/run/opsctl-listen.sock";
    let Some(host) = configured(&format!("address = \"off\"\nsocket = \"{socket}\"\nsocket_groups = [\"daemon\"]")) else {
        return;
    };
    let request =
        format!("curl -s -o /dev/null -w '%{{http_code}}' --unix-socket {socket} -d '[]' http://localhost/alerts || true");
    host.sh("chmod 755 /run");
    let with = |user: &str| host.sh(&format!("setpriv {user} bash -c \"{request}\""));
    host.listen_at(socket);
    assert_eq!(host.sh(&format!("stat -c '%a %G' {socket}")), "660 daemon");
    assert_eq!(with("--reuid 1234 --regid 1234 --groups bin,daemon"), "202", "a supplementary group");
    assert_eq!(with("--reuid 1234 --regid daemon --clear-groups"), "202", "the primary group");
    assert_eq!(with("--reuid 1234 --regid bin --clear-groups"), "000");
    host.stop_listening();
    host.configure(&format!("[listen]\naddress = \"off\"\nsocket = \"{socket}\"\nsocket_users = [\"4321\"]\n"));
    host.listen_at(socket);
    assert_eq!(with("--reuid 4321 --regid 1234 --clear-groups"), "202");
    assert_eq!(with("--reuid 1234 --regid 0 --clear-groups"), "401", "group root is no grant");
}

#[test]
fn socket_for_an_unknown_user_does_not_start_the_listener() {
    let Some(host) = configured("address = \"off\"\nsocket = \"/run/x.sock\"\nsocket_users = [\"no-such-user\"]") else { return };
    let run = host.opsctl(&["listen"]);
    assert!(run.code == 64 && run.stderr.contains("has no user `no-such-user`"), "{} {}", run.code, run.stderr);
}

#[test]
fn cross_site_request_is_rejected_with_the_right_token() {
    let Some(host) = configured("token_file = \"TOKEN\"\norigins = [\"https://ops.example.org\"]") else { return };
    host.listen();
    let post = |header: &str| status(&host, &token_and(&format!("-H '{header}' -d '{}' {URL}", alert("Evil"))));
    for header in ["Origin: https://evil.example", "Origin: null", "Origin: http://127.0.0.1:9797", "Sec-Fetch-Site: cross-site"]
    {
        assert_eq!(post(header), "403", "{header}");
        let scrape = token_and(&format!("-H '{header}' http://127.0.0.1:9797/metrics"));
        assert_eq!(status(&host, &scrape), "403", "{header}");
        let preflight = token_and(&format!("-H '{header}' -X OPTIONS {URL}"));
        assert_eq!(status(&host, &preflight), "403", "{header}");
    }
    assert_eq!(accepted(&host), 0);
    assert_eq!(post("Origin: https://ops.example.org"), "202");
}

#[test]
fn rebound_name_is_rejected_with_the_right_token() {
    let Some(host) = configured("token_file = \"TOKEN\"\nhosts = [\"alias.example.org\"]") else { return };
    host.listen();
    // a name of the attacker that resolves to this host
    let to = |name: &str| {
        let request = format!("--resolve {name}:9797:127.0.0.1 -d '[]' http://{name}:9797/alerts");
        status(&host, &token_and(&request))
    };
    assert_eq!(to("evil.example"), "421");
    assert_eq!(to("localhost.evil.example"), "421");
    assert_eq!(accepted(&host), 0);
    let hostname = host.sh("uname -n").to_lowercase();
    for own in ["localhost", "alias.example.org", &hostname] {
        assert_eq!(to(own), "202", "{own}");
    }
}

#[test]
fn foreign_request_is_rejected_before_its_body() {
    let Some(host) = with_token() else { return };
    for header in ["Origin: https://evil.example\\r\\nHost: localhost", "Host: evil.example"] {
        let answer = host.sh(&format!(
            "exec 3<> /dev/tcp/127.0.0.1/9797; printf 'POST /alerts HTTP/1.1\\r\\n{header}\\r\\nAuthorization: Bearer {TOKEN}\\r\\n\
             Content-Length: 50\\r\\n\\r\\n' >&3; SECONDS=0; timeout 20 head -1 <&3; [ $SECONDS -lt 4 ]"
        ));
        assert!(answer.contains("403") || answer.contains("421"), "{answer}");
    }
}

#[test]
fn signed_request_is_accepted_once() {
    let Some(host) = with_signatures() else { return };
    let captured = signed(&host, &alert("Once"), 0);
    assert_eq!(status(&host, &captured), "202");
    assert_eq!(status_for_unprivileged(&host, &captured), "409");
    // other spellings of the same signature
    for spelled in [captured.replace("Signature: ", "Signature: sha256="), captured.replace("Signature: ", "Signature:")] {
        assert_eq!(status_for_unprivileged(&host, &spelled), "409", "{spelled}");
    }
    // the healthy counterpart: the same alert, signed again
    assert_eq!(status(&host, &signed(&host, &alert("Once"), 1)), "202");
}

#[test]
fn captured_signature_is_rejected_after_a_restart() {
    let Some(host) = with_signatures() else { return };
    let captured = signed(&host, &alert("Once"), 0);
    assert_eq!(status(&host, &captured), "202");
    host.stop_listening();
    host.listen();
    assert_eq!(status_for_unprivileged(&host, &captured), "409");
    assert_eq!(status(&host, &signed(&host, &alert("Other"), 0)), "202");
}

#[test]
fn captured_signature_is_rejected_after_a_crash() {
    let Some(host) = with_signatures() else { return };
    for n in 0..3 {
        let captured = signed(&host, &alert(&format!("Crash{n}")), 0);
        assert_eq!(status(&host, &captured), "202");
        crash(&host);
        host.listen();
        assert_eq!(status_for_unprivileged(&host, &captured), "409");
    }
}

#[test]
fn signature_needs_a_timestamp_near_now() {
    let Some(host) = with_signatures() else { return };
    let body = alert("Old");
    assert_eq!(status(&host, &signed(&host, &body, -290)), "202");
    assert_eq!(status(&host, &signed(&host, &body, 290)), "202", "clocks differ in both directions");
    assert_eq!(status(&host, &signed(&host, &body, -310)), "401");
    assert_eq!(status(&host, &signed(&host, &body, 330)), "401");
    // a signature of the body alone, as sent by GitHub and older versions of Grafana
    let tag = host.sh(&format!("printf %s '{body}' | openssl dgst -sha256 -hmac {SECRET} -r | cut -d' ' -f1"));
    let bare = format!("-H 'X-Grafana-Alerting-Signature: {tag}' -d '{body}' {URL}");
    assert_eq!(status(&host, &bare), "401");
    let added = format!("-H \"X-Grafana-Alerting-Timestamp: $(date +%s)\" {bare}");
    assert_eq!(status(&host, &added), "401");
    host.configure("[listen]\nhmac_timestamp_header = \"\"\n");
    let run = host.opsctl(&["config", "check"]);
    assert!(run.code == 78 && run.stderr.contains("can be replayed"), "{} {}", run.code, run.stderr);
}

#[test]
fn changed_body_or_timestamp_breaks_the_signature() {
    let Some(host) = with_signatures() else { return };
    let captured = signed(&host, &alert("Harmless"), 0);
    assert_eq!(status_for_unprivileged(&host, &captured.replace("Harmless", "Evil")), "401");
    let at = host.sh("date +%s");
    let later: i64 = at.parse::<i64>().unwrap() + 7;
    let moved = captured.replace("Timestamp: ", &format!("Timestamp: {later}' -H 'X-Was: "));
    assert_eq!(status_for_unprivileged(&host, &moved), "401");
    assert_eq!(status(&host, &captured), "202", "a failed attempt does not affect the valid request");
}

/// Connections of an unprivileged user that send the bytes of this Python expression, then nothing; closed ones are reopened.
fn flood_connections(host: &Host, sends: &str) {
    let script = format!(
        "import selectors, socket, time\nsent = {sends}\nopen_ = []\nend = time.time() + 60\nwhile time.time() < end:\n\
         \tc = socket.socket()\n\tc.settimeout(1)\n\
         \ttry:\n\t\tc.connect(('127.0.0.1', 9797)); c.sendall(sent)\n\texcept OSError:\n\t\ttime.sleep(0.01)\n\
         \topen_ = (open_ + [c])[-300:]\n\
         \tif len(open_) == 300:\n\t\topen('/dev/shm/flooded', 'w').close()\n\t\ttime.sleep(0.002)\n"
    );
    let file = "/run/lab/flood_connections.py";
    std::fs::write(host.path("flood_connections.py"), script).unwrap();
    host.sh(&format!(
        "mount -t tmpfs -o mode=1777 tmpfs /dev/shm; cp {} {file}; chmod 644 {file}",
        host.path("flood_connections.py").display()
    ));
    host.spawn("setpriv", &["--reuid", "65534", "--regid", "65534", "--clear-groups", "/usr/bin/python3", file]);
    eventually(60, "the attack is under way", || host.sh("ls /dev/shm").contains("flooded").then_some(()));
}

#[test]
fn silent_connections_do_not_block_callers() {
    let Some(host) = with_token() else { return };
    flood_connections(&host, "b'POST /alerts HTTP/1.1\\r\\nHost: localhost\\r\\n'");
    for n in 0..5 {
        let request = token_and(&format!("--retry 3 --retry-all-errors --max-time 5 -d '{}' {URL}", alert(&format!("A{n}"))));
        assert_eq!(status(&host, &request), "202");
    }
    assert_eq!(accepted(&host), 5);
}

#[test]
fn slow_bodies_with_false_signatures_do_not_block_callers() {
    let Some(host) = configured("token_file = \"TOKEN\"\nhmac_secret_file = \"SECRET\"") else { return };
    host.listen();
    let sends = "b'POST /alerts HTTP/1.1\\r\\nHost: localhost\\r\\nX-Grafana-Alerting-Signature: ' + b'ab' * 32 + \
        b'\\r\\nX-Grafana-Alerting-Timestamp: %d\\r\\nContent-Length: 1000000\\r\\n\\r\\n' % time.time() + b'x' * 60000";
    flood_connections(&host, sends);
    for n in 0..3 {
        let request = token_and(&format!("--retry 3 --retry-all-errors --max-time 5 -d '{}' {URL}", alert(&format!("A{n}"))));
        assert_eq!(status(&host, &request), "202");
        let signed = signed(&host, &alert(&format!("S{n}")), 0);
        assert_eq!(status(&host, &format!("--retry 3 --retry-all-errors --max-time 5 {signed}")), "202");
    }
    let pid = host.sh("pgrep -x opsctl");
    let rss: u64 = host.sh(&format!("awk '/VmHWM/ {{print $2}}' /proc/{pid}/status")).parse().unwrap();
    assert!(rss < 200 * 1024, "{rss} kB");
}

#[test]
fn known_callers_beyond_their_connections_get_retry_after() {
    let Some(host) = with_token() else { return };
    // 32 authenticated connections that stay open; the next one gets Retry-After
    let script = format!(
        "import socket\ndef call():\n\tc = socket.create_connection(('127.0.0.1', 9797), 10)\n\
         \tc.sendall(b'GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\nAuthorization: Bearer {TOKEN}\\r\\n\\r\\n')\n\
         \treturn c, c.recv(999).decode()\n\
         held = [call() for _ in range(32)]\nassert all('200 OK' in answer for _, answer in held), held\nprint(call()[1])\n\
         held.pop()[0].close()\nwhile '200 OK' not in call()[1]: pass\n"
    );
    std::fs::write(host.path("callers.py"), script).unwrap();
    let response = host.sh(&format!("timeout 60 /usr/bin/python3 {}", host.path("callers.py").display()));
    assert!(response.starts_with("HTTP/1.1 503 ") && response.contains("\r\nRetry-After: 10\r\n"), "{response}");
}

#[test]
fn huge_headers_are_rejected() {
    let Some(host) = with_token() else { return };
    host.sh("{ printf 'X-Large: '; head -c 400000 /dev/zero | tr '\\0' x; echo; } > /run/lab/huge; chmod 644 /run/lab/huge");
    let huge = "-H @/run/lab/huge";
    let many = "$(for i in $(seq 300); do echo \"-H X-$i:y\"; done)";
    for headers in [huge, many] {
        let answer = status_for_unprivileged(&host, &format!("{headers} -d '[]' {URL}"));
        assert_eq!(answer, "431", "{headers}");
    }
    assert_eq!(status(&host, &token_and(&format!("-d '[]' {URL}"))), "202");
}

#[test]
fn full_queue_rejects_with_retry_after_and_loses_nothing() {
    let Some(host) = configured("token_file = \"TOKEN\"\nqueue = 3\nruns_per_minute = 1") else { return };
    host.listen();
    let post = |name: &str| host.sh(&format!("curl -si {}", token_and(&format!("-d '{}' {URL}", alert(name)))));
    // the run of this minute is for the first; the others are queued
    assert!(post("First").starts_with("HTTP/1.1 202"));
    eventually(60, "the first is diagnosed", || host.listen_log().contains("First: ").then_some(()));
    let answers: Vec<String> = (0..5).map(|n| post(&format!("Waits{n}"))).collect();
    let accepted: Vec<bool> = answers.iter().map(|answer| answer.starts_with("HTTP/1.1 202")).collect();
    assert_eq!(accepted, [true, true, true, false, false]);
    for answer in &answers[3..] {
        assert!(answer.starts_with("HTTP/1.1 503") && answer.to_lowercase().contains("\r\nretry-after: 10\r\n"), "{answer}");
    }
    let metrics = host.sh(&format!("curl -s {}", token_and("http://127.0.0.1:9797/metrics")));
    let values = ["runs_total", "waiting_alerts", "refusals_total{reason=\"queue\"}"]
        .map(|m| metric(&metrics, &format!("opsctl_listen_{m}")));
    assert_eq!(values, [1, 3, 2], "{metrics}");
    // one run covers all of them
    host.stop_listening();
    host.listen();
    eventually(60, "the queued alerts are diagnosed", || host.listen_log().contains("Waits2: ").then_some(()));
    let metrics = host.sh(&format!("curl -s {}", token_and("http://127.0.0.1:9797/metrics")));
    assert_eq!(metric(&metrics, "opsctl_listen_runs_total"), 1);
}

/// A host with a webhook, and the directory of its reports.
fn answering(listen: &str) -> Option<(Host, PathBuf)> {
    let host = configured("")?;
    let answers = host.hook(9001);
    let path = |name: &str| host.path(name).display().to_string();
    let listen = listen.replace("TOKEN", &path("token")).replace("SECRET", &path("secret"));
    let delivery = "[[delivery]]\nto = \"http://127.0.0.1:9001/\"\nshape = \"json\"\nwhen = [\"alert\"]\n";
    host.configure(&format!("[listen]\n{listen}\n{delivery}"));
    host.listen();
    Some((host, answers))
}

#[track_caller]
fn first_answer(directory: &Path) -> Value {
    let path = directory.join("00001.json");
    eventually(120, "the report arrives", || serde_json::from_slice(&std::fs::read(&path).ok()?).ok())
}

#[test]
fn alertmanager_with_the_token_gets_a_report() {
    if !installed(&["prometheus-alertmanager"]) {
        return;
    }
    let Some((host, answers)) = answering("token_file = \"TOKEN\"") else { return };
    // packaging/alertmanager has the same receiver
    let example = include_str!("../../../../packaging/alertmanager/opsctl.yml");
    let token = host.path("token").display().to_string();
    std::fs::write(host.path("am.yml"), example.replace("/etc/alertmanager/opsctl-token", &token)).unwrap();
    let config = format!("--config.file={}", host.path("am.yml").display());
    let data = format!("--storage.path={}", host.path("am-data").display());
    host.spawn("prometheus-alertmanager", &[&config, &data, "--cluster.listen-address=", "--web.listen-address=127.0.0.1:9093"]);
    host.until_open(9093);
    let alert = json!([{"labels": {"alertname": "FromAlertmanager"}}]);
    host.sh(&format!("curl -sf -H 'Content-Type: application/json' -d '{alert}' http://127.0.0.1:9093/api/v2/alerts"));
    assert_eq!(first_answer(&answers)["answers"][0]["alert"]["name"], "FromAlertmanager");
}

#[test]
fn grafana_with_a_signature_gets_a_report() {
    let Some((host, answers)) = answering("hmac_secret_file = \"SECRET\"") else { return };
    let body = json!({"receiver": "opsctl", "status": "firing", "version": "1", "orgId": 1, "alerts": [
        {"status": "firing", "labels": {"alertname": "FromGrafana"}, "annotations": {}, "startsAt": "2026-11-21T10:00:00Z"}]});
    assert_eq!(status(&host, &signed(&host, &body.to_string(), 0)), "202");
    assert_eq!(first_answer(&answers)["answers"][0]["alert"]["name"], "FromGrafana");
}
