//! Real renewals: certbot with a local ACME server, and a systemd with a masked timer.

use crate::lab::{Host, Machine, eventually};

const LINEAGE: &str = "certificate:shop.test";

/// A host with pebble, an nginx that serves its challenges, and a certificate for shop.test.
fn host() -> Option<Host> {
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
    let Some(host) = host() else { return };
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
    let Some(host) = host() else { return };
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
