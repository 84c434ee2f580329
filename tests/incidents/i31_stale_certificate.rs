//! nginx serves the old certificate after a renewal on disk (scenario 31; lobsters-ansible#42, zulip#20539).

use crate::lab::{Host, TRUST, site};

const STALE: &str = "tls.stale-served certificate:shop.test";
const HOOK: &str = "tls.renewal-hook certificate:shop.test";

#[test]
fn renewal_without_a_reload_is_found_and_loaded() {
    let Some(host) = Host::with_servers(&["nginx", "openssl", "curl"]) else { return };
    host.authority();
    host.certificate("shop", "shop.test", "-1 day", "+1 day", "");
    host.nginx(&site("shop.test", "shop"));
    host.configure(TRUST);
    host.run_runbooks(&["tls", "nginx"]).must_not(&["tls.", "nginx."]);

    let served = || {
        host.sh("echo | openssl s_client -connect 127.0.0.1:443 -servername shop.test 2> /dev/null | openssl x509 -noout -serial")
    };
    let before = served();
    host.certificate("shop", "shop.test", "-1 minute", "+90 days", "");
    assert_eq!(served(), before, "nginx serves the loaded certificate");

    let run = host.run_runbooks(&["tls", "nginx"]);
    run.must(&[STALE, HOOK]).roots(&[HOOK]).explains(HOOK, STALE).must_not(&["tls.expiry", "tls.renewal-timer"]);
    run.mentions(STALE, &["it expires in", "the one on disk expires in 90 d", "/mnt/ca/shop.pem"]);
    assert_eq!(run.finding(STALE).severity.to_string(), "crit");
    host.leaves(&run, "");

    // a key that does not match the certificate is not loaded
    let wrong = || _ = host.sh("cp /mnt/ca/shop.key /mnt/ca/kept.key; cp /mnt/ca/int.key /mnt/ca/shop.key");
    host.fix_meanwhile("nginx.reload", "shop.test", &[], wrong).exits(11);
    host.run_runbooks(&["tls"]).must(&["tls.key-mismatch certificate:/mnt/ca/shop.pem"]);
    host.fix("nginx.reload", "shop.test", &[]).exits(15);
    host.sh("mv /mnt/ca/kept.key /mnt/ca/shop.key");

    host.fix("nginx.reload", "shop.test", &[]).exits(0);
    assert_ne!(served(), before);
    host.run_runbooks(&["tls", "nginx"]).must_not(&["tls.", "nginx."]);
}
