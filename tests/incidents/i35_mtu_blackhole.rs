//! The way out takes 1450 bytes, the containers' network 1500, and a rule of this host drops the message that would tell them: small requests
//! work and large ones hang (scenario 35; the MTU post of the sources).

use crate::lab::{Host, PEER};

const EXCEEDS: &str = "mtu.bridge-exceeds-egress";
const BLACKHOLE: &str = "mtu.blackhole interface:h1";
const FILTER: &str = "mtu.icmp-blocked-local host";

#[test]
fn a_message_about_the_size_that_is_dropped_here_is_the_root_and_a_clamp_helps() {
    let Some(host) = Host::with_names(|| Host::with_wires(1450)) else { return };
    host.own_names();
    host.docker(&["restart", "-t", "0", "app"]);
    host.sh("iptables -A OUTPUT -p icmp --icmp-type fragmentation-needed -j DROP");
    let peer = format!("http://{PEER}:8080/big");
    assert!(host.gets_through("app", "/health", 10), "small requests work");
    assert!(!host.gets_through("app", "/health", 4000), "large ones do not");

    let run = host.ask_with(&["diagnose", "mtu", "network", "dns", "tls", "container", "--endpoint", &peer]);
    run.must(&[BLACKHOLE, FILTER]).explains(FILTER, BLACKHOLE).must_not(&["network.", "dns.", "tls."]).exits(2);
    run.says(
        BLACKHOLE,
        &[
            "packets over 1450 bytes vanish on the way there between app and 10.7.3.2:8080",
            "1450 arrive",
            "this host to 10.7.3.2",
        ],
    );
    run.says(FILTER, &["-A OUTPUT -p icmp -m icmp --icmp-type 3/4 -j DROP", "matched meanwhile"]);
    let exceeds = run.findings().find(|f| f.code == EXCEEDS).unwrap_or_else(|| panic!("{}", run.stdout));
    assert_eq!((exceeds.severity.to_string().as_str(), exceeds.subject.name.starts_with("br-")), ("warn", true));
    // what the networks are and what the filter does are two things: without the filter the first would be no harm
    let exceeds = format!("{} {}", exceeds.code, exceeds.subject);
    run.roots(&[FILTER, &exceeds]).explains(FILTER, "mtu.clamp-missing interface:h1");
    host.leaves(&run, "");

    // somebody adds such a rule meanwhile
    let rule = "-t mangle FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu";
    let by_hand = || _ = host.sh(&format!("iptables-nft {}", rule.replace("FORWARD", "-A FORWARD")));
    host.fix_meanwhile("mtu.clamp", "h1", &["--endpoint", &peer], by_hand).exits(11);
    host.sh(&format!("iptables-nft {}", rule.replace("FORWARD", "-D FORWARD")));

    let before = host.ruleset();
    let fix = |more: &[&str]| host.fix("mtu.clamp", "h1", &[&["--endpoint", peer.as_str()], more].concat());
    let dry = fix(&["--dry-run"]);
    dry.exits(10);
    let line = "iptables-nft -w -t mangle -I FORWARD 1 -p tcp --tcp-flags SYN,RST SYN -m comment --comment opsctl-mss -j TCPMSS --clamp-mss-to-pmtu";
    assert!(dry.stdout.contains(line) && dry.stdout.contains("at most 16 KiB to each"), "{}", dry.stdout);
    assert_eq!(host.ruleset(), before);
    fix(&[]).exits(0);
    assert!(host.gets_through("app", "/health", 4000), "large requests work now");
    let with_rule = host.ruleset();
    assert_eq!(with_rule.matches("--comment opsctl-mss").count(), 1, "{with_rule}");

    // a second time there is nothing to do
    fix(&[]).exits(0);
    assert_eq!(host.ruleset(), with_rule);
    let run = host.opsctl(&["mtu", &peer, "--format", "json"]);
    run.must_not(&["mtu.blackhole", "mtu.clamp", "mtu.clamp-missing", EXCEEDS, "mtu.icmp-blocked-local"]);
    run.must(&["mtu.clamp-persistent host"]);

    host.opsctl(&["undo", "2", "--yes"]).exits(0);
    assert_eq!(host.ruleset(), before, "byte for byte, counters aside");
    host.opsctl(&["mtu", &peer, "--format", "json"]).must(&[BLACKHOLE]);
}
