//! Path MTU black hole: the host drops "fragmentation needed" (scenario 35; the MTU post of the sources). The egress MTU is 1450, the bridge
//! MTU is 1500: small requests succeed and large ones hang.

use crate::lab::{Host, PEER};

const EXCEEDS: &str = "mtu.bridge-exceeds-egress";
const BLACKHOLE: &str = "mtu.blackhole interface:h1";
const FILTER: &str = "mtu.icmp-blocked-local host";

#[test]
fn dropped_fragmentation_needed_is_the_root_and_mss_is_clamped() {
    let Some(host) = Host::with_names(|| Host::with_wires(1450)) else { return };
    host.own_names();
    host.docker(&["restart", "-t", "0", "app"]);
    host.sh("iptables -A OUTPUT -p icmp --icmp-type fragmentation-needed -j DROP");
    let peer = format!("http://{PEER}:8080/big");
    assert!(host.gets_through("app", "/health", 10), "small requests succeed");
    assert!(!host.gets_through("app", "/health", 4000), "large requests hang");

    let run = host.run_recorded(&["diagnose", "mtu", "network", "dns", "tls", "container", "--endpoint", &peer]);
    run.must(&[BLACKHOLE, FILTER]).explains(FILTER, BLACKHOLE).must_not(&["network.", "dns.", "tls."]).exits(2);
    run.mentions(
        BLACKHOLE,
        &[
            "packets larger than 1450 bytes between app and 10.7.3.2:8080 are dropped on the way to the peer",
            "1450 arrive",
            "this host to 10.7.3.2",
        ],
    );
    run.mentions(FILTER, &["-A OUTPUT -p icmp -m icmp --icmp-type 3/4 -j DROP", "matched during the probes"]);
    let exceeds = run.findings().find(|f| f.code == EXCEEDS).unwrap_or_else(|| panic!("{}", run.stdout));
    assert_eq!((exceeds.severity.to_string().as_str(), exceeds.subject.name.starts_with("br-")), ("warn", true));
    // the MTU of the bridge and the packet filter are two causes: without the filter the MTU would have no effect
    let exceeds = format!("{} {}", exceeds.code, exceeds.subject);
    run.roots(&[FILTER, &exceeds]).explains(FILTER, "mtu.clamp-missing interface:h1");
    host.leaves(&run, "");

    // such a rule is added by hand after the plan
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
    assert!(host.gets_through("app", "/health", 4000), "large requests succeed now");
    let with_rule = host.ruleset();
    assert_eq!(with_rule.matches("--comment opsctl-mss").count(), 1, "{with_rule}");

    // a second application changes nothing
    fix(&[]).exits(0);
    assert_eq!(host.ruleset(), with_rule);
    let run = host.opsctl(&["mtu", &peer, "--format", "json"]);
    run.must_not(&["mtu.blackhole", "mtu.clamp", "mtu.clamp-missing", EXCEEDS, "mtu.icmp-blocked-local"]);
    run.must(&["mtu.clamp-persistent host"]);

    host.opsctl(&["undo", "2", "--yes"]).exits(0);
    assert_eq!(host.ruleset(), before, "byte for byte, counters aside");
    host.opsctl(&["mtu", &peer, "--format", "json"]).must(&[BLACKHOLE]);
}
