//! Certificates of all kinds, served and on disk, and failing handshakes.

use crate::lab::{Host, TRUST, eventually, site};

fn host() -> Option<Host> {
    let host = Host::with_servers(&["nginx", "openssl", "curl", "python3"])?;
    host.authority();
    Some(host)
}

#[test]
fn every_certificate_is_judged_as_clients_see_it() {
    let Some(host) = host() else { return };
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
    let Some(host) = host() else { return };
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
    let Some(host) = host() else { return };
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
