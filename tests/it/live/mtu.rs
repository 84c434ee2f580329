//! Full-size packets dropped behind this host, MSS rules without effect, and the probes that opsctl sends.

use crate::lab::{Host, Machine, PEER, eventually};

const BLACKHOLE: &str = "mtu.blackhole interface:h1";
const CLAMP: &str = "mtu.clamp interface:h1";

fn peer() -> String {
    format!("http://{PEER}:8080/big")
}

/// Bytes of data received by the router from this host for the peer's port.
fn sent(host: &Host) -> u64 {
    let counter = host.sh("ip netns exec r nft list chain ip lab pre | grep -o 'packets [0-9]* bytes [0-9]*'");
    let numbers: Vec<u64> = counter.split(' ').filter_map(|w| w.parse().ok()).collect();
    // IP, TCP and the timestamps
    numbers[1] - numbers[0] * 52
}

fn count(host: &Host) {
    host.sh("ip netns exec r nft 'add table ip lab; add chain ip lab pre { type filter hook prerouting priority -300; }; add rule ip lab pre ip daddr 10.7.3.2 tcp dport 8080 counter'");
}

#[test]
fn behind_a_second_nat_only_a_fixed_mss_helps() {
    let Some(host) = Host::with_wires(1450) else { return };
    // the double mismatch of the post: MTU 1500 in the container, 1450 on the uplink, 1400 on a hop behind it
    host.narrow("10.7.3.0/24", 1400);
    host.sh("iptables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu");
    let before = host.ruleset();
    count(&host);
    assert!(!host.gets_through("app", "/health", 4000));
    let so_far = sent(&host);
    let run = host.opsctl(&["mtu", &peer(), "--format", "json"]);
    let twice = sent(&host) - so_far;
    assert!(twice <= 2 * (16 << 10), "{twice} bytes from two places");
    run.must(&[BLACKHOLE, CLAMP]).explains(CLAMP, BLACKHOLE).must_not(&["mtu.icmp-blocked-local", "mtu.clamp-missing"]);
    run.mentions(
        BLACKHOLE,
        &[
            "packets larger than 1400 bytes between this host, app and",
            "are dropped on the way to the peer",
            "a router drops packets without ICMP",
        ],
    );
    run.mentions(CLAMP, &["the MSS rule clamps to the MTU of this host, 1450: the bottleneck is behind it"]);

    // the runbook's own --fix selects the fix
    let fixed = host.opsctl(&["mtu", &peer(), "--fix", "--yes"]);
    fixed.exits(0);
    assert!(host.gets_through("app", "/health", 4000));
    let rules = host.ruleset();
    for line in [
        "-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -m comment --comment opsctl-mss -j TCPMSS --set-mss 1360",
        "-A OUTPUT -p",
        "-A INPUT -p",
    ] {
        assert!(rules.contains(line), "{line}: {rules}");
    }
    host.opsctl(&["mtu", &peer(), "--format", "json"]).must_not(&["mtu.blackhole", "mtu.clamp"]);
    host.opsctl(&["undo", "2", "--yes"]).exits(0);
    assert_eq!(host.ruleset(), before);
}

#[test]
fn packets_lost_on_the_return_path_are_detected() {
    let Some(host) = Host::with_wires(1500) else { return };
    host.narrow("10.7.2.0/24", 1380);
    host.sh("iptables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1400");
    assert!(host.gets_through("app", "/health", 4000), "sent packets arrive");
    assert!(!host.gets_through("app", "/big", 10), "responses do not arrive");
    let run = host.opsctl(&["mtu", &peer(), "--format", "json"]);
    run.must(&[BLACKHOLE]).explains(CLAMP, BLACKHOLE).must_not(&["mtu.icmp-blocked-local", "mtu.bridge-exceeds-egress"]);
    run.mentions(BLACKHOLE, &["are dropped on the way from the peer"]);
    run.mentions(CLAMP, &["sets 1400, but only 13"]);
    host.fix("mtu.clamp", "h1", &["--endpoint", &peer()]).exits(0);
    assert!(host.gets_through("app", "/big", 10));
    // an ICMP filter on this host is a fault of this host
    let Some(host) = Host::with_wires(1500) else { return };
    host.sh("ip -n r route replace 10.7.3.0/24 dev r1 mtu lock 1400; iptables -I FORWARD 1 -p icmp -j DROP; iptables -I INPUT 1 -p icmp -j DROP");
    let run = host.opsctl(&["mtu", &peer(), "--format", "json"]);
    run.explains("mtu.icmp-blocked-local host", BLACKHOLE);
    run.mentions("mtu.icmp-blocked-local host", &["-p icmp -j DROP", "matched during the probes"]);
}

#[test]
fn legacy_engine_gets_a_legacy_rule() {
    let Some(host) = Host::without_engine() else { return };
    host.sh(
        "cp -a /etc/alternatives /run/lab/alternatives
        for p in iptables iptables-save iptables-restore; do ln -sfn /usr/sbin/iptables-legacy${p#iptables} /run/lab/alternatives/$p; done
        mount --bind /run/lab/alternatives /etc/alternatives",
    );
    host.disk("/var/lib/docker", 256, "-m 0");
    std::fs::write(host.path("daemon.json"), "{}").unwrap_or_else(|e| panic!("{e}"));
    host.start_engine();
    host.wire(1450);
    host.image("tool", crate::lab::Rootfs::Scratch, &["CMD [\"/bin/fixture\", \"wait-term\"]"]);
    host.run("app", &["tool"]);
    // a diagnosis creates no tables
    let tables = || host.sh("sort /proc/net/ip_tables_names | tr '\\n' ' '");
    let before = tables();
    assert!(before.contains("filter") && !before.contains("mangle"), "{before}");
    host.opsctl(&["mtu", &peer(), "--format", "json"]).must_not(&["mtu."]);
    assert_eq!((tables(), host.sh("nft list ruleset")), (before, String::new()));

    host.sh("iptables-legacy -A OUTPUT -p icmp --icmp-type 3/4 -j DROP; iptables-legacy -t mangle -nL > /dev/null");
    // cached path MTUs of both ends
    host.docker(&["restart", "-t", "0", "app"]);
    host.sh("ip -n d route flush cache; ip -n d tcp_metrics flush");
    let before = host.ruleset();
    let run = host.opsctl(&["mtu", &peer(), "--format", "json"]);
    run.explains("mtu.icmp-blocked-local host", BLACKHOLE);
    host.fix("mtu.clamp", "h1", &["--endpoint", &peer()]).exits(0);
    let with_rule = host.ruleset();
    assert!(with_rule.contains("opsctl-mss") && host.sh("nft list ruleset").is_empty(), "{with_rule}");
    host.fix("mtu.clamp", "h1", &["--endpoint", &peer()]).exits(0);
    assert_eq!(host.ruleset(), with_rule);
    host.opsctl(&["undo", "2", "--yes"]).exits(0);
    assert_eq!(host.ruleset(), before);
}

#[test]
fn host_without_iptables_gets_an_nftables_table() {
    let Some(host) = Host::without_engine() else { return };
    host.wire(1500);
    host.narrow("10.7.3.0/24", 1400);
    // not installed: `which` finds only executable files
    host.sh("cp -a /usr/sbin /run/lab/sbin; rm -f /run/lab/sbin/*tables* /run/lab/sbin/xtables*; mount --bind /run/lab/sbin /usr/sbin");
    let ruleset = || host.sh("nft -s list ruleset");
    let before = ruleset();
    host.fix("mtu.clamp", "h1", &["--endpoint", &peer()]).exits(0);
    let with_rule = ruleset();
    assert!(with_rule.contains("maxseg size set 1360") && with_rule.contains("hook output"), "{with_rule}");
    host.opsctl(&["mtu", &peer(), "--format", "json"]).must_not(&["mtu.blackhole", "mtu.clamp"]);
    host.opsctl(&["undo", "2", "--yes"]).exits(0);
    assert_eq!(ruleset(), before);
}

#[test]
fn no_probes_are_sent_to_a_database_if_its_connections_show_the_loss() {
    let Some(host) = Host::with_wires(1500) else { return };
    host.serve("5432");
    host.narrow("10.7.3.0/24", 1400);
    let pid = host.inspect("app", "{{.State.Pid}}");
    let client = format!("exec 3<>/dev/tcp/{PEER}/5432; printf small >&3; head -c 3000 /dev/zero >&3; sleep 1000");
    host.spawn("nsenter", &["--target", &pid, "--net", "bash", "-c", &client]);
    eventually(30, "a packet is retransmitted", || {
        let sockets = host.sh(&format!("nsenter --target {pid} --net ss -Htnio state established dport = :5432"));
        (sockets.contains("backoff:2") || sockets.contains("backoff:3")).then_some(())
    });
    let run = host.opsctl(&["mtu", "--format", "json"]);
    run.must(&[BLACKHOLE]);
    run.mentions(BLACKHOLE, &["full packets of 1500 bytes from app to 10.7.3.2:5432 are dropped, smaller ones arrive"]);
    // no probe was sent: the only connection is the one of the client
    assert_eq!(host.sh("ip netns exec d ss -Htn sport = :5432 | wc -l"), "1");
}

#[test]
fn only_peers_of_open_connections_are_probed() {
    let Some(host) = Host::with_wires(1450) else { return };
    count(&host);
    host.opsctl(&["mtu", "--format", "json"]).must(&[]);
    assert_eq!(sent(&host), 0, "a probe was sent without a peer");
    let pid = host.inspect("app", "{{.State.Pid}}");
    let client = format!("exec 3<>/dev/tcp/{PEER}/8080; sleep 1000");
    host.spawn("nsenter", &["--target", &pid, "--net", "bash", "-c", &client]);
    eventually(20, "the connection is open", || {
        (!host.sh(&format!("nsenter --target {pid} --net ss -Htn state established dport = :8080")).is_empty()).then_some(())
    });
    let so_far = sent(&host);
    let dry = host.opsctl(&["mtu", "--dry-run"]);
    assert!(
        dry.stdout.contains("app") && dry.stdout.contains("10.7.3.2:8080") && dry.stdout.contains("HTTP request"),
        "{}",
        dry.stdout
    );
    assert_eq!(sent(&host), so_far, "a dry run sends nothing");
    let run = host.opsctl(&["mtu", "--format", "json"]);
    run.must_not(&["mtu."]);
    assert!(sent(&host) > 1000);
    host.configure("[runbooks.mtu]\npeers = 0\n");
    let so_far = sent(&host);
    host.opsctl(&["mtu", "--format", "json"]);
    assert_eq!(sent(&host), so_far);
}

#[test]
fn missing_access_to_a_container_is_reported() {
    let Some(host) = Host::with_wires(1450) else { return };
    let user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let mut command = host.opsctl_command(&user, &["mtu", &peer(), "--format", "json"]);
    let run = host.read(&mut command);
    run.must_not(&["mtu."]).exits(3);
    let reason = run.check("mtu.path", "host").reason.clone().unwrap_or_default();
    assert!(reason.contains("needs root"), "{reason}");
}

#[test]
fn rule_is_persisted_by_cloud_init_without_systemd() {
    let Some(host) = Host::without_engine() else { return };
    host.sh("iptables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1360");
    let volatile = "mtu.clamp-persistent host";
    let run = host.opsctl(&["mtu", "--format", "json"]);
    run.must(&[volatile]);
    let offer = run.offer("mtu.persist", "host").and_then(|o| o.refused.clone()).unwrap_or_default();
    assert!(offer.contains("neither systemd nor cloud-init is available"), "{offer}");
    host.sh("mkdir -p /var/lib/cloud; mount -t tmpfs tmpfs /var/lib/cloud; mkdir -p /var/lib/cloud/scripts/per-boot");
    let fixed = host.fix("mtu.persist", "host", &[]);
    assert!(fixed.stdout.contains("verified"), "{}", fixed.stdout);
    fixed.exits(0);
    host.opsctl(&["mtu", "--format", "json"]).must_not(&["mtu.clamp-persistent"]);
    let script = "/var/lib/cloud/scripts/per-boot/opsctl-mss.sh";
    let rules = || host.sh("iptables -t mangle -S FORWARD");
    let before = rules();
    for _ in 0..2 {
        host.sh(script);
        assert_eq!(rules(), before, "a second run must not add a rule");
    }
    host.sh(&format!("iptables -t mangle -F FORWARD; {script}"));
    assert_eq!(rules(), before, "the script must restore the rule at boot");
    host.opsctl(&["undo", "2", "--yes"]).exits(0);
    host.opsctl(&["mtu", "--format", "json"]).must(&[volatile]);
}

#[test]
fn rule_is_persisted_by_a_systemd_unit() {
    let Some(machine) = Machine::boot() else { return };
    machine.sh("iptables -t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1360");
    let volatile = "mtu.clamp-persistent host";
    machine.diagnose(&["mtu"]).must(&[volatile]);
    machine.fix("mtu.persist", "host", &[]).exits(0);
    assert_eq!(machine.sh("systemctl is-enabled opsctl-mss"), "enabled");
    let rules = || machine.sh("iptables -t mangle -S FORWARD");
    let before = rules();
    for _ in 0..2 {
        machine.sh("systemctl restart opsctl-mss");
        assert_eq!(rules(), before, "a restart must not add a rule");
    }
    machine.sh("iptables -t mangle -F FORWARD; systemctl restart opsctl-mss");
    assert_eq!(rules(), before, "the unit must restore the rule at boot");
    machine.diagnose(&["mtu"]).must_not(&["mtu.clamp-persistent"]);
    machine.opsctl(&["undo", "2", "--yes"]).exits(0);
    assert!(!machine.succeeds("test -e /etc/systemd/system/opsctl-mss.service"));
    machine.diagnose(&["mtu"]).must(&[volatile]);
}
