//! Certificates of all kinds, served and on disk, failing handshakes, and real renewals: certbot with a local ACME server, and a
//! systemd with a masked timer.

use crate::lab::{Host, Machine, TRUST, eventually, site};

const LINEAGE: &str = "certificate:shop.test";

/// A host with a certificate authority.
fn with_authority() -> Option<Host> {
    let host = Host::with_servers(&["nginx", "openssl", "curl", "python3"])?;
    host.authority();
    Some(host)
}

#[test]
fn every_certificate_is_judged_as_clients_see_it() {
    let Some(host) = with_authority() else { return };
    let kinds = [
        ("good", "good.test,www.good.test", "-1 day", "+89 days", ""),
        ("expired", "expired.test", "-90 days", "-1 day", ""),
        ("tomorrow", "tomorrow.test", "-89 days", "+1 day", ""),
        ("soon", "soon.test", "-75 days", "+15 days", ""),
        ("short", "short.test", "-2 days", "+4 days", ""),
        ("year", "year.test", "-300 days", "+98 days", ""),
        ("future", "future.test", "+1 day", "+90 days", ""),
        ("other", "other.test", "-1 day", "+89 days", ""),
        ("wild", "*.wild.test", "-1 day", "+89 days", ""),
        ("ip", "127.0.0.1", "-1 day", "+89 days", ""),
        ("cross", "cross.test", "-1 day", "+89 days", "by=cross"),
        ("rsa", "pair.test", "-1 day", "+89 days", "key=rsa"),
        ("ec", "pair.test", "-89 days", "+1 day", ""),
        ("self", "self.test", "-1 day", "+89 days", "by=self"),
        ("lone", "lone.test", "-1 day", "+89 days", ""),
    ];
    for (name, names, from, until, options) in kinds {
        host.certificate(name, names, from, until, options);
    }
    host.sh("cp /mnt/ca/lone.leaf.pem /mnt/ca/lone.pem");
    let plain = ["expired", "tomorrow", "soon", "short", "year", "future", "cross", "self", "lone"];
    let mut http: String = plain.iter().map(|n| site(&format!("{n}.test"), n)).collect();
    http += &site("good.test www.good.test", "good");
    http += &site("wrong.test", "other");
    http += &site("a.wild.test", "wild");
    http += &site("deep.a.wild.test", "wild").replace("listen 443", "listen 8443");
    http += &site("127.0.0.1", "ip").replace("listen 443", "listen 9443");
    http +=
        "server { listen 443 ssl; server_name pair.test; ssl_certificate /mnt/ca/rsa.pem; ssl_certificate_key /mnt/ca/rsa.key;
        ssl_certificate /mnt/ca/ec.pem; ssl_certificate_key /mnt/ca/ec.key; }";
    host.nginx(&http);
    host.configure(TRUST);
    let run = host.run_runbooks(&["tls", "nginx"]);
    let at = |code: &str, name: &str| format!("{code} certificate:{name}");
    for (code, name, severity, words) in [
        ("tls.expiry", "expired.test", "crit", "expired 24 h ago"),
        ("tls.expiry", "tomorrow.test", "crit", "expires in 24 h"),
        ("tls.expiry", "soon.test", "warn", "expires in 15 d"),
        ("tls.not-yet-valid", "future.test", "crit", "is not valid before"),
        ("tls.hostname", "wrong.test", "crit", "does not cover that name"),
        ("tls.hostname", "deep.a.wild.test", "crit", "does not cover that name"),
        ("tls.chain-expiry", "cross.test", "warn", "expired 10 d ago"),
        ("tls.expiry", "pair.test", "crit", "expires in 24 h"),
        ("tls.untrusted", "self.test", "warn", "self-signed"),
        ("tls.chain-incomplete", "lone.test", "warn", "Lab Intermediate is neither in the chain nor trusted"),
    ] {
        let f = run.finding(&at(code, name));
        assert_eq!((f.severity.to_string().as_str(), f.message.contains(words)), (severity, true), "{f:?}");
    }
    assert_eq!(
        run.finding(&at("tls.expiry", "pair.test")).evidence.iter().find(|e| e.label == "kind").map(|e| e.value.as_str()),
        Some("ECDSA")
    );
    assert!(run.finding(&at("tls.hostname", "deep.a.wild.test")).hint.contains("one label"));
    assert_eq!(
        run.findings().filter(|f| f.severity.to_string() != "info").count(),
        10,
        "{:#?}",
        run.findings().collect::<Vec<_>>()
    );
}

#[test]
fn unusable_certificate_files_are_reported_before_a_restart() {
    let Some(host) = with_authority() else { return };
    let names = ["mismatch", "empty", "damaged", "der", "gone", "large", "talky", "fine"];
    for name in names {
        host.certificate(name, &format!("{name}.test"), "-1 day", "+89 days", "");
    }
    host.nginx(&names.map(|n| site(&format!("{n}.test"), n)).concat());
    host.configure(TRUST);
    host.run_runbooks(&["tls"]).must_not(&["tls."]);
    host.sh("cd /mnt/ca; cp fine.key mismatch.key; : > empty.pem; sed -i '3s/./!/g' damaged.pem
        openssl x509 -in der.pem -outform DER -out der.pem; rm gone.pem
        { echo 'this is my certificate:'; cat talky.pem; echo bye; } > t; mv t talky.pem
        until [ $(stat -c %s large.pem) -gt 5000000 ]; do for i in $(seq 500); do cat int.pem; done >> large.pem; done");
    let run = host.run_runbooks(&["tls"]);
    let path = |name: &str| format!("certificate:/mnt/ca/{name}.pem");
    run.must(&[&format!("tls.key-mismatch {}", path("mismatch"))]);
    for (name, words) in [
        ("empty", "it is empty"),
        ("damaged", "its PEM is damaged"),
        ("der", "it is in DER"),
        ("gone", "it is not there"),
        ("large", "certificates"),
    ] {
        run.mentions(&format!("tls.file {}", path(name)), &[words]);
    }
    for name in ["talky", "fine"] {
        assert!(!run.has(&format!("tls.file {}", path(name))), "{name}");
    }
    // nginx keeps serving the old certificate, so nothing served is reported
    run.must_not(&["tls.handshake", "tls.expiry", "tls.hostname"]);
    // `nginx -t` reports the same, and the file is its root cause
    let run = host.run_runbooks(&["tls", "nginx"]);
    run.must(&["nginx.config-test nginx:127.0.0.1:443"]).must_not(&["nginx.stopped"]);
    host.fix("nginx.reload", "127.0.0.1:443", &[]).exits(15);
}

#[test]
fn failed_handshakes_are_classified() {
    let Some(host) = with_authority() else { return };
    host.certificate("old", "127.0.0.1", "-1 day", "+89 days", "key=rsa1024 md=sha1");
    host.certificate("plain", "127.0.0.1", "-1 day", "+89 days", "");
    host.make_postgres("ssl = on\nssl_cert_file = '/mnt/pg/plain.pem'\nssl_key_file = '/mnt/pg/plain.key'");
    host.sh("cp /mnt/ca/plain.pem /mnt/ca/plain.key /mnt/pg/; chown postgres /mnt/pg/plain.*; chmod 600 /mnt/pg/plain.key");
    host.start_postgres();
    for (port, how) in [(4001, "silent"), (4002, "garbage"), (4003, "close")] {
        host.spawn("/run/lab/fixture", &["talk", "--port", &port.to_string(), how]);
    }
    // settings that Debian's OpenSSL rejects by default
    host.sh("printf 'openssl_conf=a\\n[a]\\nssl_conf=b\\n[b]\\nsystem_default=c\\n[c]\\nCipherString=DEFAULT@SECLEVEL=0\\nMinProtocol=TLSv1\\n' > /mnt/weak.cnf
        printf 'import socket,ssl\\nc=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER);c.load_cert_chain(\"/mnt/ca/plain.pem\",\"/mnt/ca/plain.key\")\\ns=socket.create_server((\"127.0.0.1\",4025))\\nwhile 1:\\n a,_=s.accept()\\n try:\\n  a.sendall(b\"220-hello\\\\r\\\\n220 lab\\\\r\\\\n\");a.recv(99);a.sendall(b\"250-lab\\\\r\\\\n250 STARTTLS\\\\r\\\\n\");a.recv(99);a.sendall(b\"220 go\\\\r\\\\n\");c.wrap_socket(a,server_side=True).close()\\n except OSError: pass\\n' > /mnt/smtp.py");
    host.spawn("python3", &["/mnt/smtp.py"]);
    let serve = |port: &str, certificate: &str, more: &str| {
        let command = format!(
            "OPENSSL_CONF=/mnt/weak.cnf exec openssl s_server -quiet -accept 127.0.0.1:{port} -cert /mnt/ca/{certificate}.pem -key /mnt/ca/{certificate}.key -cert_chain /mnt/ca/int.pem {more}"
        );
        host.spawn("sh", &["-c", &command]);
    };
    serve("4011", "old", "");
    serve("4012", "plain", "-tls1_2");
    serve("4013", "plain", "-tls1_3");
    serve("4014", "plain", "-tls1_1");
    let ports = ["4001", "4002", "4003", "4011", "4012", "4013", "4014", "4025"];
    eventually(30, "all servers listen", || {
        let listening = host.sh("ss -Htln");
        ports.iter().all(|p| listening.contains(&format!(":{p} "))).then_some(())
    });
    let urls = [
        "https://127.0.0.1:4001",
        "https://127.0.0.1:4002",
        "https://127.0.0.1:4003",
        "https://127.0.0.1:4009",
        "https://127.0.0.1:4011",
        "https://127.0.0.1:4012",
        "https://127.0.0.1:4013",
        "https://127.0.0.1:4014",
        "smtp://127.0.0.1:4025",
        "postgres://127.0.0.1:5432",
    ];
    let endpoints = urls.map(|u| format!("[[endpoint]]\nurl = \"{u}/\"\n")).concat();
    host.configure(&format!("{TRUST}{endpoints}"));
    let run = host.run_runbooks(&["tls"]);
    for (port, words) in [
        (4001, "timed out"),
        (4002, "is not TLS"),
        (4003, "closed"),
        (4009, "connection refused"),
        (4014, "neither TLS 1.2 nor 1.3"),
    ] {
        run.mentions(&format!("tls.handshake certificate:127.0.0.1:{port}"), &[words]);
    }
    run.mentions("tls.weak certificate:127.0.0.1:4011", &["RSA key of 1024 bits"]);
    for port in ["127.0.0.1:4012", "127.0.0.1:4013", "127.0.0.1:4025", "127.0.0.1"] {
        assert_eq!(run.check("tls.served", &format!("certificate:{port}")).verdict, "ok", "{port}");
    }
    host.sh("setpriv --reuid postgres --regid postgres --clear-groups psql -h /run/postgresql -Atqc \"ALTER SYSTEM SET ssl = off\"; pkill -HUP -o postgres");
    eventually(30, "postgres has TLS off", || (host.psql("SHOW ssl") == "off").then_some(()));
    host.run_runbooks(&["tls"]).mentions("tls.handshake certificate:127.0.0.1", &["TLS is disabled"]);
}

/// A host with pebble, an nginx that serves its challenges, and a certificate for shop.test.
fn with_certbot() -> Option<Host> {
    let host = Host::with_servers(&["nginx", "openssl", "curl", "certbot", "pebble"])?;
    host.authority();
    host.certificate("pebble", "localhost", "-1 day", "+89 days", "");
    host.sh("for d in /etc/letsencrypt /var/log/letsencrypt /var/lib/letsencrypt /etc/cron.d; do mkdir -p $d; mount -t tmpfs tmpfs $d; done
        mkdir /mnt/www; { cat /etc/hosts; echo 127.0.0.1 shop.test; } > /run/hosts; mount --bind /run/hosts /etc/hosts
        cat > /mnt/pebble.json <<'EOF'
{\"pebble\": {\"listenAddress\": \"127.0.0.1:14000\", \"managementListenAddress\": \"127.0.0.1:15000\", \"certificate\": \"/mnt/ca/pebble.pem\",
 \"privateKey\": \"/mnt/ca/pebble.key\", \"httpPort\": 80, \"tlsPort\": 443, \"ocspResponderURL\": \"\", \"certificateValidityPeriod\": 7776000}}
EOF");
    host.spawn(
        "env",
        &["PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0", "PEBBLE_AUTHZREUSE=0", "pebble", "-config", "/mnt/pebble.json"],
    );
    eventually(30, "pebble answers", || {
        host.command("curl").args(["-skf", "https://localhost:14000/dir"]).output().ok()?.status.success().then_some(())
    });
    host.nginx("server { listen 80; location / { root /mnt/www; } }");
    certbot(
        &host,
        "certonly --server https://localhost:14000/dir --agree-tos --register-unsafely-without-email --webroot -w /mnt/www -d shop.test",
    );
    host.sh("cat >> /etc/nginx/conf.d/site.conf <<'EOF'
server { listen 443 ssl; server_name shop.test; ssl_certificate /etc/letsencrypt/live/shop.test/fullchain.pem; ssl_certificate_key /etc/letsencrypt/live/shop.test/privkey.pem; }
EOF
        nginx -s reload");
    host.sh("curl -sk https://localhost:15000/roots/0 > /mnt/ca/roots.pem; curl -sk https://localhost:15000/intermediates/0 >> /mnt/ca/roots.pem");
    // the timer has its own test
    host.configure("[run]\nskip = [\"tls.renewal-timer\"]\n[runbooks.tls]\nca_files = [\"/mnt/ca/roots.pem\"]\n");
    Some(host)
}

#[track_caller]
fn certbot(host: &Host, words: &str) -> String {
    host.sh(&format!("REQUESTS_CA_BUNDLE=/mnt/ca/root.pem certbot -n {words} 2>&1"))
}

#[test]
fn renewed_certificate_not_loaded_is_reported_with_the_missing_hook() {
    let Some(host) = with_certbot() else { return };
    let (stale, hook) = (format!("tls.stale-served {LINEAGE}"), format!("tls.renewal-hook {LINEAGE}"));
    // no certificate is wrong yet, but no hook reloads nginx
    host.run_runbooks(&["tls"]).roots(&[&hook]).mentions(&hook, &["no hook reloads 127.0.0.1:80 after a renewal of shop.test"]);
    certbot(&host, "renew --force-renewal --no-random-sleep-on-renew");
    let run = host.run_runbooks(&["tls", "nginx"]);
    run.roots(&[&hook]).explains(&hook, &stale).must_not(&["tls.expiry", "tls.renewal-failing"]);
    host.fix("nginx.reload", "shop.test", &[]).exits(0);
    host.run_runbooks(&["tls"]).must_not(&["tls.stale-served"]);
    // with a hook there is no finding, and the next renewal is loaded
    host.sh("printf '#!/bin/sh\\nnginx -s reload\\n' > /etc/letsencrypt/renewal-hooks/deploy/nginx; chmod +x /etc/letsencrypt/renewal-hooks/deploy/nginx");
    certbot(&host, "renew --force-renewal --no-random-sleep-on-renew");
    eventually(20, "nginx serves the new one", || (!host.run_runbooks(&["tls"]).has(&stale)).then_some(()));
    host.run_runbooks(&["tls"]).must_not(&["tls."]);
}

#[test]
fn failed_challenge_is_reported_with_the_reason_of_the_authority() {
    let Some(host) = with_certbot() else { return };
    let failing = format!("tls.renewal-failing {LINEAGE}");
    host.sh("sed -i 's|root /mnt/www|return 403|' /etc/nginx/conf.d/site.conf; nginx -s reload; sleep 0.2
        REQUESTS_CA_BUNDLE=/mnt/ca/root.pem certbot -n renew --force-renewal --no-random-sleep-on-renew > /dev/null 2>&1 && exit 1 || true");
    let run = host.run_runbooks(&["tls"]);
    run.mentions(&failing, &["shop.test is not renewed", "403"]);
    assert_eq!(run.finding(&failing).severity.to_string(), "warn");
    // the dry run fails too, so no renewal is attempted
    let fix = |host: &Host| {
        let mut fix = host.opsctl_command(&[], &["fix", "certbot.renew", "shop.test", "--yes"]);
        host.read(fix.env("REQUESTS_CA_BUNDLE", "/mnt/ca/root.pem"))
    };
    fix(&host).exits(12);
    host.sh("sed -i 's|return 403|root /mnt/www|' /etc/nginx/conf.d/site.conf; nginx -s reload");
    fix(&host).exits(0);
    host.run_runbooks(&["tls"]).must_not(&["tls.renewal-failing"]);
    // a webroot that no longer exists
    host.sh("mv /mnt/www /mnt/elsewhere");
    host.run_runbooks(&["tls"]).mentions(&failing, &["/mnt/www"]);
    fix(&host).exits(15);
}

const CERTBOT: &[(&str, &str)] = &[
    ("/etc/letsencrypt/renewal/shop.test.conf", "[renewalparams]\nauthenticator = webroot\nfullchain = /x\n"),
    ("/etc/systemd/system/certbot.service", "[Service]\nType=oneshot\nExecStart=/usr/local/bin/fixture say renewed 0\n"),
    ("/etc/systemd/system/certbot.timer.there", "[Timer]\nOnCalendar=*-*-* 00,12:00:00\n[Install]\nWantedBy=timers.target\n"),
    (
        "/etc/cron.d/certbot",
        "0 */12 * * * root test -x /usr/bin/certbot -a \\! -d /run/systemd/system && perl -e 'sleep int(rand(43200))' && certbot -q renew\n",
    ),
];

#[test]
fn masked_timer_is_reported_although_cron_has_an_entry() {
    let Some(machine) = Machine::prepared(CERTBOT) else { return };
    machine.wait_for("systemd answers", "systemctl is-system-running --wait | grep -E 'running|degraded'");
    machine.sh("systemctl mask certbot.timer");
    let timer = "tls.renewal-timer host:host";
    let run = machine.diagnose(&["tls"]);
    let found: Vec<String> = run.findings().map(|f| format!("{} {}", f.code, f.message)).collect();
    assert!(
        found.iter().any(|f| f.starts_with("tls.renewal-timer no renewal is scheduled for the 1 certificate")),
        "{timer} {found:?}"
    );
    let f = run.findings().find(|f| f.code == "tls.renewal-timer").unwrap_or_else(|| panic!("{found:?}"));
    assert!(f.evidence.iter().any(|e| e.label == "cron" && e.value.contains("does nothing where systemd runs")), "{f:?}");
    assert!(f.evidence.iter().any(|e| e.label == "certbot.timer" && e.value.contains("masked")), "{f:?}");
    machine.sh("systemctl unmask certbot.timer; mv /etc/systemd/system/certbot.timer.there /etc/systemd/system/certbot.timer; systemctl daemon-reload; systemctl enable --now certbot.timer");
    machine.diagnose(&["tls"]).must_not(&["tls.renewal-timer"]);
}
